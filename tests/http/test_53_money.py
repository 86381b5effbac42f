"""Grants and their order, the ledger, refunds, holds in doubt: through the admin API, with real calls in between."""

import datetime
import threading
import time
from contextlib import contextmanager

import pytest

from lib.admin import Account, Customer, unique
from lib.check import anonymous, is_error, money
from lib.process import PATIENCE

IMAGE = {"model": "dall-e-2", "prompt": "x", "size": "256x256"}  # 0.016 by openai-list


@pytest.fixture
def admin(gateway):
    return gateway.admin


@pytest.fixture
def penniless(gateway):
    return Account(gateway, credit=None)


@pytest.fixture
def doubtful(gateway):
    """An account whose unknown outcomes are kept."""
    return Account(gateway, tenant={"in_doubt": "keep"})


def after(seconds):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


@contextmanager
def unmoved(admin, *owners):
    """Nothing inside changes a balance or a ledger of these wallets."""
    def state():
        return [(admin.balance(o), len(admin.ledger(o)), admin.grants(o)) for o in owners]
    before = state()
    yield
    assert state() == before


def kinds(admin, owner):
    return [(t["kind"], t["amount"]) for t in admin.ledger(owner)]


def same(one, other):
    return (one.status_code, one.content) == (other.status_code, other.content)


# ---- grants ----

@pytest.mark.parametrize("more, param", [
    ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"), ({"expires_at": "tomorrow"}, "expires_at"), ({"expires_at": 5}, "expires_at"), ({"priority": -1}, "priority"),
    ({"priority": 101}, "priority"), ({"priority": "5"}, "priority"), ({"priority": 1.5}, "priority"), ({"category": "gift"}, "category"), ({"note": ""}, "note"),
    ({"amount": "-1"}, "amount"), ({"amount": "1" + "0" * 30}, "amount"), ({"amount": "0.0000000001"}, "amount"), ({"amount": "1 USD"}, "amount"), ({"amount": "$1"}, "amount"),
    ({"amount": "NaN"}, "amount"), ({"currency": "EUR"}, "currency"), ({"amount": "-1", "note": "x", "expires_at": "2100-01-01T00:00:00Z"}, "expires_at")])
def test_bad_credits(admin, account, more, param):
    mine = Customer(account, credit="3")
    with unmoved(admin, account.id, mine.id):
        for owner in (f"tenants/{account.id}", f"customers/{mine.id}"):
            error = is_error(admin.money(f"{owner}/credits", {"amount": "1", **more}), 400)
            assert error["param"] == param or (more.get("amount") == "-1" and error["param"] == "note"), error


def test_order_of_grants(admin, penniless):
    """Priority, then expiry, then promotional before paid, then age; each gives 0.016, one call after the other."""
    def grant(**more):
        return admin.credit(penniless.id, "0.016", **more)["id"]
    late = grant(priority=60)
    paid = grant()
    promotional = grant(category="promotional")
    soon = grant(expires_at=after(3600))
    sooner = grant(expires_at=after(1800))
    first = grant(priority=0)
    used = []
    for _ in range(6):
        assert penniless.post(IMAGE).status_code == 200
        penniless.settled()
        used.append({g["id"] for g in admin.grants(penniless.id) if g["status"] == "used_up"})
    order = [next(iter(now - before)) for before, now in zip([set()] + used, used)]
    assert order == [first, sooner, soon, promotional, paid, late]
    assert penniless.balance()["posted"] == 0
    is_error(penniless.post(IMAGE), 429, "insufficient_quota", type="insufficient_quota")


def test_a_charge_spans_grants(admin, penniless):
    small, large = (admin.credit(penniless.id, amount, priority=p)["id"] for amount, p in (("0.010", 1), ("5", 2)))
    assert penniless.post(IMAGE).status_code == 200
    penniless.settled()
    record = penniless.records()[0]["id"]
    parts = [t for t in admin.ledger(penniless.id) if t["kind"] == "charge"]
    assert [(t["amount"], t["grant"], t["reference"]) for t in parts] == [("-0.006000000", large, record), ("-0.010000000", small, record)]
    assert {g["id"]: (g["remaining"], g["status"]) for g in admin.grants(penniless.id)} == {small: ("0.000000000", "used_up"), large: ("4.994000000", "active")}


def test_grants_are_listed(admin, penniless):
    made = [admin.credit(penniless.id, str(i + 1), note=f"n{i}")["id"] for i in range(5)]
    listed = admin.grants(penniless.id, limit=2)
    assert [g["id"] for g in listed] == made[::-1] and [g["note"] for g in listed] == ["n4", "n3", "n2", "n1", "n0"]
    assert {"tenant", "customer", "amount", "remaining", "status", "category", "priority", "expires_at", "created_at"} <= set(listed[0])
    assert (listed[0]["tenant"], listed[0]["customer"], listed[0]["priority"], listed[0]["expires_at"]) == (penniless.id, None, 50, None)
    for query in ({"after": "grt_x"}, {"after": "ten_" + made[0][4:]}, {"limit": 0}, {"surprise": 1}):
        is_error(admin.call("GET", f"tenants/{penniless.id}/grants", params=query), 400)


def test_a_grant_lapses(gateway, admin, account):
    mine = Customer(account, credit="1")
    granted = admin.credit(mine.id, "2", expires_at=after(1.5), note="trial")
    assert admin.balance(mine.id)["posted"] == 3
    gateway.wait_for(lambda: admin.balance(mine.id)["posted"] == 1, "the grant lapses")
    lapse = admin.ledger(mine.id)[0]
    assert (lapse["kind"], lapse["amount"], lapse["reference"]) == ("lapse", "-2.000000000", granted["id"])
    listed = admin.grants(mine.id)[0]
    assert (listed["id"], listed["status"], listed["remaining"]) == (granted["id"], "expired", "0.000000000")
    accounts = {a["name"]: a["posted"] for a in admin.get(f"customers/{mine.id}/accounts")["data"]}
    assert accounts["lapsed"] == "2.000000000" and accounts["wallet"] == "1.000000000"
    is_error(admin.money(f"grants/{granted['id']}/void"), 409, "conflict")


def test_a_repeated_credit_gets_its_answer_though_it_would_be_refused_now(admin, account):
    """expires_at is past by then; the first answer comes all the same, and nothing is credited."""
    key, body = unique("late"), {"amount": "2", "expires_at": after(1)}
    first = admin.money(f"tenants/{account.id}/credits", body, key=key)
    assert first.status_code == 200, first.text
    time.sleep(1.3)
    is_error(admin.money(f"tenants/{account.id}/credits", body), 400, param="expires_at")
    assert same(first, admin.money(f"tenants/{account.id}/credits", body, key=key))
    is_error(admin.money(f"tenants/{account.id}/credits", {**body, "amount": "x"}, key=key), 422, "idempotency_key_reused")
    assert [t["kind"] for t in admin.ledger(account.id)].count("credit") == 2


def test_voiding_a_grant(admin, penniless):
    grant = admin.credit(penniless.id, "1", category="promotional")["id"]
    assert penniless.post(IMAGE).status_code == 200
    penniless.settled()
    key = unique("void")
    is_error(admin.call("POST", f"grants/{grant}/void", {}), 400, param="Idempotency-Key")
    is_error(admin.money(f"grants/{grant}/void", {"note": 5}), 400, param="note")
    first = admin.money(f"grants/{grant}/void", {"note": "fraud"}, key=key)
    assert first.status_code == 200, first.text
    assert (first.json()["id"], first.json()["status"], first.json()["remaining"]) == (grant, "voided", "0.000000000")
    assert same(first, admin.money(f"grants/{grant}/void", {"note": "fraud"}, key=key))
    is_error(admin.money(f"grants/{grant}/void"), 409, "conflict")
    assert penniless.balance()["posted"] == 0
    taken = admin.ledger(penniless.id)[0]
    assert (taken["kind"], taken["amount"], taken["reference"], taken["note"]) == ("withdrawal", "-0.984000000", grant, "fraud")
    assert admin.grants(penniless.id)[0]["status"] == "voided"


@pytest.mark.parametrize("forged", ["grt_" + "0" * 21 + "1", "grt_" + "0" * 22, "grt_" + "7" * 22, "use_" + "0" * 21 + "1", "grt_x"])
def test_no_such_grant(admin, account, forged):
    with unmoved(admin, account.id):
        is_error(admin.money(f"grants/{forged}/void"), 404)


# ---- ledger and accounts ----

def test_the_ledger_adds_up(gateway, admin, account):
    mine = Customer(account, credit="1", markup_percent="50")
    for _ in range(3):
        assert mine.post(IMAGE).status_code == 200
    mine.settled()
    admin.credit(mine.id, "-0.5", note="typed wrongly")
    admin.money(f"usage/records/{mine.records()[0]['id']}/refund", {"reason": "blurred"})
    for owner, balance in ((account.id, "9.968"), (mine.id, "0.452")):
        ledger = admin.ledger(owner, limit=2)
        assert sum(money(t["amount"]) for t in ledger) == admin.balance(owner)["posted"] == money(balance)
        assert len({t["id"] for t in ledger}) == len(ledger) and all(t["id"].startswith("txn_") and t["object"] == "transaction" for t in ledger)
        assert [t["created_at"] for t in ledger] == sorted((t["created_at"] for t in ledger), reverse=True)
    assert kinds(admin, mine.id) == [("refund", "0.024000000"), ("adjustment", "-0.500000000"), ("retail_charge", "-0.024000000"), ("retail_charge", "-0.024000000"),
                                     ("retail_charge", "-0.024000000"), ("credit", "1.000000000")]
    records = [r["id"] for r in mine.records()]
    ledger = admin.ledger(mine.id)
    assert [t["reference"] for t in ledger] == [records[0], None, *records, admin.grants(mine.id)[0]["id"]]
    assert [t["note"] for t in ledger[:2]] == ["blurred", "typed wrongly"]
    is_error(admin.call("GET", f"tenants/{account.id}/ledger", params={"after": "use_x"}), 400, param="after")


def test_the_chart_of_accounts(admin, account):
    mine = Customer(account, credit="1", markup_percent="50")
    admin.credit(account.id, "1", category="promotional")
    assert mine.post(IMAGE).status_code == 200
    mine.settled()
    chart = {a["name"]: a["posted"] for a in admin.get(f"tenants/{account.id}/accounts")["data"]}
    assert chart == {"wallet": "10.984000000", "revenue": "0.016000000", "cost": "-0.016000000", "promotional": "-1.000000000", "external": "-10.000000000"}
    chart = {a["name"]: a["posted"] for a in admin.get(f"customers/{mine.id}/accounts")["data"]}
    assert chart == {"wallet": "0.976000000", "revenue": "0.024000000", "external": "-1.000000000"}
    with admin.scoped(account.id) as tenant:
        assert {a["name"] for a in tenant.get(f"tenants/{account.id}/accounts")["data"]} == {"wallet", "revenue", "promotional", "external"}


# ---- refunds ----

def served(account, **more):
    """The id of the record of one call that was just made."""
    reply = account.post({**IMAGE, **more})
    assert reply.status_code == 200, reply.text
    account.settled()
    return account.records()[0]["id"]


def test_refunds_in_parts(admin, account):
    record, key = served(account), unique("refund")
    is_error(admin.call("POST", f"usage/records/{record}/refund", {"reason": "x"}), 400, param="Idempotency-Key")
    first = admin.money(f"usage/records/{record}/refund", {"amount": "0.006", "reason": "blurred"}, key=key)
    assert first.status_code == 200 and first.json()["refunded"] == "0.006000000" and first.json()["id"] == record
    for _ in range(3):
        assert same(first, admin.money(f"usage/records/{record}/refund", {"amount": "0.006", "reason": "blurred"}, key=key))
    assert account.balance()["posted"] == money("9.990")
    is_error(admin.money(f"usage/records/{record}/refund", {"amount": "0.010000001", "reason": "x"}), 400, "invalid_value", param="amount")
    assert admin.money(f"usage/records/{record}/refund", {"reason": "the rest"}).json()["refunded"] == "0.016000000"
    is_error(admin.money(f"usage/records/{record}/refund", {"reason": "again"}), 409, "conflict")
    assert account.balance()["posted"] == 10
    shown = admin.get(f"usage/records/{record}")
    assert shown == account.records()[0] and (shown["refunded"], shown["wholesale"]) == ("0.016000000", "0.016000000")
    assert [(t["kind"], t["note"]) for t in admin.ledger(account.id)[:2]] == [("refund", "the rest"), ("refund", "blurred")]


def test_refunds_in_a_race(admin, account):
    record, key, answers = served(account, n=4), unique("race"), []

    def call(own):
        answers.append(own.money(f"usage/records/{record}/refund", {"amount": "0.016", "reason": "x"}, key=key))
        own.close()
    threads = [threading.Thread(target=call, args=(type(admin)(admin.url, admin.token),)) for _ in range(16)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert {a.status_code for a in answers} == {200} and len({a.content for a in answers}) == 1
    assert account.balance()["posted"] == money("9.952")


@pytest.mark.parametrize("body, param", [
    ({}, "reason"), ({"reason": ""}, "reason"), ({"reason": 5}, "reason"), ({"reason": None}, "reason"), ({"reason": "x" * 300}, "reason"), ({"amount": "0"}, "amount"),
    ({"amount": "-1"}, "amount"), ({"amount": "1" + "0" * 30}, "amount"), ({"amount": "0.0000000001"}, "amount"), ({"amount": "1 EUR"}, "amount"), ({"amount": 1}, "amount"),
    ({"amount": "1"}, "amount"), ({"surprise": 1}, "surprise")])
def test_bad_refunds(admin, account, body, param):
    record = served(account)
    with unmoved(admin, account.id):
        is_error(admin.money(f"usage/records/{record}/refund", {**({} if param == "reason" else {"reason": "x"}), **body}), 400, param=param)
    assert admin.get(f"usage/records/{record}")["refunded"] == "0.000000000"


@pytest.mark.parametrize("forged", ["use_" + "0" * 21 + "1", "use_" + "0" * 22, "use_" + "7" * 22, "req_" + "0" * 21 + "1", "use_x"])
def test_no_such_record(admin, account, forged):
    is_error(admin.call("GET", f"usage/records/{forged}"), 404)
    is_error(admin.money(f"usage/records/{forged}/refund", {"reason": "x"}), 404)


def test_a_refund_of_two_wallets(admin, account):
    """In the customer's price; the tenant gets its share, rounded down, and all of it with the last part."""
    mine = Customer(account, credit="1", markup_percent="87.5")  # 0.030
    record = served(mine)
    expected = [("0.007", "9.987733333"), ("0.007", "9.991466666"), (None, "10.000000000")]
    for amount, tenant in expected:
        reply = admin.money(f"usage/records/{record}/refund", {"reason": "x", **({"amount": amount} if amount else {})})
        assert reply.status_code == 200, reply.text
        assert account.balance()["posted"] == money(tenant)
    assert admin.balance(mine.id)["posted"] == 1 and reply.json()["refunded"] == "0.030000000"


def test_what_a_tenants_token_refunds(admin, account):
    """What its customers paid from their own wallets; nothing that it was charged itself."""
    own, shared = Customer(account, credit="1", markup_percent="50"), Customer(account, wallet="shared", markup_percent="50")
    theirs = Account(account.gateway)
    records = {name: served(who) for name, who in (("own", own), ("shared", shared), ("tenant", account), ("theirs", theirs))}
    before = account.settled()["posted"]
    with admin.scoped(account.id) as tenant:
        for name, status in (("tenant", 403), ("shared", 403), ("theirs", 404)):
            is_error(tenant.money(f"usage/records/{records[name]}/refund", {"reason": "x"}), status)
        is_error(tenant.call("GET", f"usage/records/{records['theirs']}"), 404)
        reply = tenant.money(f"usage/records/{records['own']}/refund", {"amount": "0.01", "reason": "blurred"})
        assert reply.status_code == 200 and reply.json()["refunded"] == "0.010000000" and "cost" not in reply.json()
    assert admin.balance(own.id)["posted"] == money("0.986") and account.balance()["posted"] == before and theirs.balance()["posted"] == money("9.984")


def test_a_wallet_that_became_the_customers_own_later(admin, account):
    """The record was the tenant's to pay; that its customer has a wallet now makes it no refund of the tenant to itself."""
    mine = Customer(account, wallet="shared")
    record = served(mine)
    admin.patch(f"customers/{mine.id}", {"wallet": "own"})
    with admin.scoped(account.id) as tenant, unmoved(admin, account.id):
        is_error(tenant.money(f"usage/records/{record}/refund", {"reason": "x"}), 403)


# ---- holds ----

def in_doubt(account, size="256x256", **more):
    """A hold whose outcome is unknown, and is kept."""
    is_error(account.post({**IMAGE, "prompt": "[[die=headers]]", "size": size, **more}), 502, "upstream_error")
    return account.gateway.wait_for(lambda: account.admin.all("holds", state="in_doubt", tenant=account.admin.get(f"keys/{account.key['id']}")["tenant"]), "the hold is in doubt")[0]


def test_a_hold_in_doubt_is_shown(admin, doubtful):
    hold = in_doubt(doubtful, n=2)
    assert hold["id"].startswith("hld_") and (hold["state"], hold["tenant"], hold["customer"], hold["key"]) == ("in_doubt", doubtful.id, None, doubtful.key["id"])
    assert (hold["model"], hold["operation"], hold["size"], hold["n"], hold["rule"]) == ("dall-e-2", "generations", "256x256", 2, "keep")
    assert (hold["amount"], hold["cost"], hold["wholesale"], hold["retail"]) == ("0.032000000",) * 4
    assert hold["request_id"] == "req_" + hold["id"][4:] and hold["channel"].startswith("chn_")
    assert admin.get(f"holds/{hold['id']}") == hold
    assert doubtful.balance() == {"posted": 10, "held": money("0.032"), "available": money("9.968")}
    assert admin.get("holds", state="open", tenant=doubtful.id)["data"] == []
    with admin.scoped(doubtful.id) as tenant:
        assert tenant.get(f"holds/{hold['id']}") == {k: v for k, v in hold.items() if k not in ("channel", "cost")}
        assert [h["id"] for h in tenant.get("holds")["data"]] == [hold["id"]]
    is_error(admin.call("GET", "holds", params={"state": "ended"}), 400, param="state")
    is_error(admin.call("GET", "holds", params={"tenant": "ten_nope"}), 404, param="tenant")
    is_error(admin.call("GET", "holds/hld_" + "0" * 21 + "1"), 404)


def test_resolving_by_capture(admin, doubtful):
    hold, key = in_doubt(doubtful)["id"], unique("resolve")
    is_error(admin.call("POST", f"holds/{hold}/resolve", {"action": "capture"}), 400, param="Idempotency-Key")
    first = admin.money(f"holds/{hold}/resolve", {"action": "capture", "amount": "0.005"}, key=key)
    assert first.status_code == 200 and (first.json()["state"], first.json()["charged"]) == ("captured", "0.005000000"), first.text
    for _ in range(3):
        assert same(first, admin.money(f"holds/{hold}/resolve", {"action": "capture", "amount": "0.005"}, key=key))
    is_error(admin.money(f"holds/{hold}/resolve", {"action": "void"}), 404)
    is_error(admin.call("GET", f"holds/{hold}"), 404)
    assert doubtful.balance() == {"posted": money("9.995"), "held": 0, "available": money("9.995")}
    record = doubtful.records()[0]
    assert record["id"] == first.json()["usage_record"] and record["flags"] == ["in_doubt"]
    assert (record["wholesale"], record["request_id"]) == ("0.005000000", "req_" + hold[4:])


def test_resolving_all_of_it(admin, doubtful):
    mine = Customer(doubtful, credit="1", markup_percent="50")
    hold = in_doubt(mine)
    assert (hold["customer"], hold["amount"], hold["wholesale"]) == (mine.id, "0.024000000", "0.016000000")
    assert admin.money(f"holds/{hold['id']}/resolve", {"action": "capture"}).json()["charged"] == "0.024000000"
    assert (doubtful.balance()["posted"], mine.balance()["posted"]) == (money("9.984"), money("0.976"))


def test_resolving_by_void(admin, doubtful):
    hold, key = in_doubt(doubtful)["id"], unique("resolve")
    first = admin.money(f"holds/{hold}/resolve", {"action": "void"}, key=key)
    assert first.status_code == 200 and first.json() == {"id": hold, "object": "hold", "state": "voided", "charged": "0.000000000", "usage_record": None}
    assert same(first, admin.money(f"holds/{hold}/resolve", {"action": "void"}, key=key))
    assert doubtful.balance() == {"posted": 10, "held": 0, "available": 10} and doubtful.records() == []


@pytest.mark.parametrize("body, param", [
    ({}, "action"), ({"action": "forget"}, "action"), ({"action": 1}, "action"), ({"action": "void", "amount": "0.01"}, "amount"), ({"action": "capture", "amount": "-1"}, "amount"),
    ({"action": "capture", "amount": "0.016000001"}, "amount"), ({"action": "capture", "amount": "1" + "0" * 30}, "amount"),
    ({"action": "capture", "amount": "0.0000000001"}, "amount"), ({"action": "capture", "amount": 1}, "amount"), ({"action": "void", "surprise": 1}, "surprise")])
def test_bad_resolutions(admin, doubtful, body, param):
    hold = in_doubt(doubtful)
    with unmoved(admin, doubtful.id):
        is_error(admin.money(f"holds/{hold['id']}/resolve", body), 400, param=param)
    assert admin.get(f"holds/{hold['id']}") == hold


def test_a_hold_whose_call_is_under_way(gateway, admin, account):
    caller = threading.Thread(target=account.post, args=({**IMAGE, "prompt": f"[[latency={2 * PATIENCE}s]]"},))
    caller.start()
    hold = gateway.wait_for(lambda: admin.get("holds", state="open", tenant=account.id)["data"], "the hold")[0]
    assert hold["state"] == "open"
    for action in ("void", "capture"):
        is_error(admin.money(f"holds/{hold['id']}/resolve", {"action": action}), 409, "conflict")
    caller.join()
    assert account.settled()["posted"] == money("9.984")


def test_a_tenants_token_resolves_nothing(admin, doubtful):
    hold, missing = in_doubt(doubtful)["id"], "hld_" + "3" * 22
    other = Account(doubtful.gateway)
    with unmoved(admin, doubtful.id):
        with admin.scoped(doubtful.id) as own:
            is_error(own.money(f"holds/{hold}/resolve", {"action": "void"}), 403)
            is_error(own.money(f"holds/{missing}/resolve", {"action": "void"}), 404)
        with admin.scoped(other.id) as stranger:
            assert stranger.get("holds")["data"] == []
            answers = [stranger.money(f"holds/{i}/resolve", {"action": "void"}) for i in (hold, missing)]
            answers += [stranger.call("GET", f"holds/{i}") for i in (hold, missing)]
    for answer in answers:
        is_error(answer, 404)
    assert anonymous(answers[0], hold) == anonymous(answers[1], missing)


def test_holds_page(admin, doubtful):
    made = [in_doubt(doubtful)["id"] for _ in range(5)]
    assert [h["id"] for h in admin.all("holds", limit=2, tenant=doubtful.id)] == made[::-1]


def test_a_tenants_grants_are_not_its_own_to_void(admin, account):
    grant, theirs = admin.grants(account.id)[0]["id"], admin.grants(Account(account.gateway).id)[0]["id"]
    with admin.scoped(account.id) as tenant, unmoved(admin, account.id):
        is_error(tenant.money(f"grants/{grant}/void"), 403)
        is_error(tenant.money(f"grants/{theirs}/void"), 404)


# ---- beyond the hold ----

def test_what_a_wallet_could_not_bear_is_owed(gateway, admin):
    """An upstream that used more than the dearest the call could come to: the wallet pays what it has, never more; the rest stands
    in a receivable, and a refund takes that back first."""
    account = Account(gateway, credit="0.3")
    reply = account.post({"model": "gpt-image-1", "prompt": "[[usage=1000,0,20000]]", "size": "1024x1024", "quality": "high"})
    assert reply.status_code == 200, reply.text
    account.settled()
    record = account.records()[0]
    assert "overage" in record["flags"] and record["wholesale"] == "0.805000000", record
    balance = admin.get(f"tenants/{account.id}/balance")
    assert (balance["posted"], balance["available"], balance["receivable"]) == ("0.000000000", "0.000000000", "0.505000000")
    assert admin.get(f"tenants/{account.id}")["balance"]["receivable"] == "0.505000000"
    assert {a["name"]: a["posted"] for a in admin.get(f"tenants/{account.id}/accounts")["data"]}["receivable"] == "-0.505000000"
    assert admin.money(f"usage/records/{record['id']}/refund", {"amount": "0.6", "reason": "absurd"}).status_code == 200
    balance = admin.get(f"tenants/{account.id}/balance")
    assert (balance["posted"], balance["receivable"]) == ("0.095000000", "0.000000000")
