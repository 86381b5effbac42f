"""Customers: members, wallets of their own and shared ones, three prices to the nano-dollar, whose token may what."""

import json
import sqlite3
from contextlib import contextmanager

import pytest

from lib.admin import Account, Customer, unique
from lib.check import anonymous, is_error, money

IMAGE = {"model": "dall-e-2", "prompt": "x", "size": "256x256"}  # 0.016 by openai-list


@pytest.fixture
def admin(gateway):
    return gateway.admin


def book(admin, kind, amount, **more):
    """A price book that sells dall-e-2 at <amount> an image."""
    made = admin.create("price-books", {"name": unique(kind), "kind": kind})
    admin.create(f"price-books/{made['id']}/versions", {"rates": [{"model": "dall-e-2", "unit": "image", "amount": amount, **more}]})
    return made["id"]


@contextmanager
def pays(account, customer=None, tenant="0", own="0"):
    """What happens inside takes exactly this from the tenant's wallet, and from the customer's own."""
    wallets = [(account, tenant)] + ([(customer, own)] if customer is not None else [])
    before = [w.settled() for w, _ in wallets]
    yield
    for (who, amount), had in zip(wallets, before):
        now = who.settled()
        assert had["posted"] - now["posted"] == money(amount), f"{had['posted'] - now['posted']} instead of {amount}"
        assert now["held"] == had["held"]


def everything(admin, *owners):
    return [(admin.get(f"{'customers' if o.startswith('cus') else 'tenants'}/{o}/balance")[k]) for o in owners for k in ("posted", "held", "receivable")]


# ---- members ----

def test_shape(admin, account):
    shared = admin.create("customers", {"tenant": account.id, "name": "shared"})
    assert shared["id"].startswith("cus_") and shared["object"] == "customer" and shared["tenant"] == account.id
    assert (shared["wallet"], shared["status"], shared["balance"], shared["price_book"]) == ("shared", "active", None, None)
    own = admin.create("customers", {"tenant": account.id, "name": "own", "wallet": "own", "credit_limit": "2.5", "markup_percent": "12.5",
                                     "external_id": unique("crm"), "policy": {"max_n": 2}})
    assert {k: money(v) for k, v in own["balance"].items()} == {"posted": 0, "held": 0, "available": money("2.5"), "receivable": 0}
    assert (own["markup_percent"], own["credit_limit"], own["policy"]) == ("12.5", "2.500000000", {"max_n": 2})
    for made in (shared, own):
        assert admin.get(f"customers/{made['id']}") == made


def test_lists_and_filters(admin, account):
    name = unique("crm")
    made = [admin.create("customers", {"tenant": account.id, "name": "x", **({"external_id": name} if i == 3 else {})})["id"] for i in range(5)]
    other = Account(account.gateway)
    admin.create("customers", {"tenant": other.id, "name": "theirs"})
    assert [c["id"] for c in admin.all("customers", limit=2, tenant=account.id)] == made[::-1]
    assert [c["id"] for c in admin.get("customers", external_id=name)["data"]] == [made[3]]
    is_error(admin.call("GET", "customers", params={"tenant": "ten_nope"}), 404, param="tenant")
    is_error(admin.call("GET", "customers", params={"colour": "red"}), 400, param="colour")


@pytest.mark.parametrize("more, status, param", [
    ({"name": ""}, 400, "name"), ({"name": None}, 400, "name"), ({"surprise": 1}, 400, "surprise"), ({"wallet": "mine"}, 400, "wallet"), ({"wallet": 1}, 400, "wallet"),
    ({"credit_limit": "-1"}, 400, "credit_limit"), ({"credit_limit": "1" + "0" * 30}, 400, "credit_limit"), ({"credit_limit": "0.0000000001"}, 400, "credit_limit"),
    ({"credit_limit": "5 EUR"}, 400, "credit_limit"), ({"credit_limit": 5}, 400, "credit_limit"), ({"wallet": "shared", "credit_limit": "5"}, 400, "credit_limit"),
    ({"markup_percent": "-101"}, 400, "markup_percent"), ({"markup_percent": "0.00001"}, 400, "markup_percent"), ({"price_book": "pbk_nope"}, 404, "price_book"),
    ({"limits": {"requests_per_minute": 0}}, 400, "limits.requests_per_minute"), ({"budgets": [{"amount": "-1", "window": "day"}]}, 400, "budgets[0].amount"),
    ({"policy": {"max_n": "2"}}, 400, "any"), ({"status": "dead"}, 400, "status"), ({"tenant": "ten_nope"}, 404, "tenant")])
def test_bad_members(admin, account, more, status, param):
    mine = Customer(account, credit="3")
    before = everything(admin, account.id, mine.id)
    is_error(admin.call("POST", "customers", {"tenant": account.id, "name": "x", "wallet": "own", **more}), status, param=param)
    if "tenant" not in more:
        is_error(admin.call("PATCH", f"customers/{mine.id}", {**more, **({"wallet": "own"} if "wallet" not in more else {})}), status, param=param)
        assert admin.get(f"customers/{mine.id}") == {**mine.customer, "balance": admin.get(f"customers/{mine.id}")["balance"]}
    assert everything(admin, account.id, mine.id) == before


def test_owner_is_fixed(admin, account):
    mine, other = Customer(account), Account(account.gateway)
    is_error(admin.call("PATCH", f"customers/{mine.id}", {"tenant": other.id}), 400, param="tenant")
    is_error(admin.call("POST", "customers", {"name": "x"}), 400, "missing_required_parameter", param="tenant")
    is_error(admin.call("POST", "keys", {"tenant": other.id, "customer": mine.id, "name": "x"}), 404, param="customer")


def test_etag(admin, account):
    mine = Customer(account).customer
    changed = admin.patch(f"customers/{mine['id']}", {"name": "y"}, headers={"If-Match": mine["etag"]})
    assert changed["name"] == "y" and changed["etag"] != mine["etag"]
    is_error(admin.call("PATCH", f"customers/{mine['id']}", {"name": "z"}, headers={"If-Match": mine["etag"]}), 412)


def test_kinds_of_books(admin, account):
    """A book's kind says for whom it is; openai-list is for all."""
    ids = {kind: book(admin, kind, "1") for kind in ("cost", "wholesale", "retail")}
    mine = Customer(account)
    for kind in ("cost", "wholesale"):
        is_error(admin.call("PATCH", f"customers/{mine.id}", {"price_book": ids[kind]}), 400, param="price_book")
    for kind in ("cost", "retail"):
        is_error(admin.call("PATCH", f"tenants/{account.id}", {"price_book": ids[kind]}), 400, param="price_book")
    assert admin.patch(f"customers/{mine.id}", {"price_book": ids["retail"]})["price_book"] == ids["retail"]
    assert admin.patch(f"tenants/{account.id}", {"price_book": ids["wholesale"]})["price_book"] == ids["wholesale"]
    assert admin.patch(f"customers/{mine.id}", {"price_book": "openai-list"})["price_book"].startswith("pbk_")
    assert admin.patch(f"customers/{mine.id}", {"price_book": None})["price_book"] is None


# ---- wallets ----

def test_a_shared_wallet_has_no_money(admin, account):
    mine = Customer(account, wallet="shared")
    before = everything(admin, account.id)
    is_error(admin.money(f"customers/{mine.id}/credits", {"amount": "5"}), 409, "conflict")
    is_error(admin.call("GET", f"customers/{mine.id}/balance"), 409)
    assert admin.grants(mine.id) == [] and admin.ledger(mine.id) == []
    assert everything(admin, account.id) == before


def test_an_own_wallet(admin, account):
    mine = Customer(account, credit="5")
    assert admin.balance(mine.id) == {"posted": 5, "held": 0, "available": 5} and account.balance()["posted"] == 10
    admin.credit(mine.id, "-2", note="typed wrongly")
    is_error(admin.money(f"customers/{mine.id}/credits", {"amount": "-4", "note": "x"}), 429, "insufficient_quota", type="insufficient_quota")
    assert admin.balance(mine.id)["posted"] == 3
    assert money(admin.get(f"customers/{mine.id}/balance", at="2020-01-01T00:00:00Z")["posted"]) == 0
    answer = admin.get(f"customers/{mine.id}/balance")
    assert (answer["tenant"], answer["customer"], answer["receivable"]) == (account.id, mine.id, "0.000000000")
    is_error(admin.call("DELETE", f"customers/{mine.id}"), 409, "conflict")
    is_error(admin.call("PATCH", f"customers/{mine.id}", {"wallet": "shared"}), 409, "conflict")
    admin.credit(mine.id, "-3", note="all of it")
    assert admin.patch(f"customers/{mine.id}", {"wallet": "shared"})["balance"] is None
    assert len(admin.ledger(mine.id)) == 3
    assert admin.delete(f"customers/{mine.id}") == {"id": mine.id, "object": "customer", "deleted": True}
    is_error(mine.post(IMAGE), 401)
    assert account.balance()["posted"] == 10


def test_credit_is_given_once(admin, account):
    mine, key = Customer(account), unique("once")
    first, second = (admin.money(f"customers/{mine.id}/credits", {"amount": "5"}, key=key) for _ in range(2))
    assert first.status_code == 200 and first.content == second.content
    assert (first.json()["tenant"], first.json()["customer"]) == (account.id, mine.id)
    is_error(admin.call("POST", f"customers/{mine.id}/credits", {"amount": "5"}), 400, param="Idempotency-Key")
    assert admin.balance(mine.id)["posted"] == 5


# ---- three prices ----

def test_own_wallet_pays_retail_and_its_tenant_wholesale(admin, account):
    """cost 0.016; wholesale 0.0123456789 + 10 %; retail 0.02 + 12.3456 %, each rounded up once to a nano-dollar."""
    admin.patch(f"tenants/{account.id}", {"price_book": book(admin, "wholesale", "0.0123456789"), "markup_percent": "10"})
    mine = Customer(account, credit="5", price_book=book(admin, "retail", "0.02"), markup_percent="12.3456")
    wholesale, retail = "0.027160494", "0.044938240"  # of two images
    quote = admin.create("quotes", {"key": mine.key["id"], **{k: v for k, v in IMAGE.items() if k != "prompt"}, "n": 2})
    assert (quote["cost"], quote["wholesale"], quote["retail"], quote["hold"]) == ("0.032000000", wholesale, retail, retail)
    with pays(account, mine, tenant=wholesale, own=retail):
        reply = mine.post({**IMAGE, "n": 2})
        assert reply.status_code == 200 and reply.headers["tallygate-charge"] == retail
    record = mine.records()[0]
    assert (record["cost"], record["wholesale"], record["retail"], record["margin"]) == ("0.032000000", wholesale, retail, "-0.004839506")
    assert record["customer"] == mine.id and record["tenant"] == account.id
    with account.admin.scoped(account.id) as tenant:
        seen = tenant.records(customer=mine.id)[0]
        assert "cost" not in seen and money(seen["margin"]) == money(retail) - money(wholesale)


def test_shared_wallet_pays_wholesale_and_records_retail(admin, account):
    admin.patch(f"tenants/{account.id}", {"price_book": book(admin, "wholesale", "0.01")})
    mine = Customer(account, wallet="shared", price_book=book(admin, "retail", "0.03"), markup_percent="-50")
    with pays(account, tenant="0.01"):
        reply = mine.post(IMAGE)
        assert reply.status_code == 200 and reply.headers["tallygate-charge"] == "0.015000000"
    record = mine.records()[0]
    assert (record["wholesale"], record["retail"]) == ("0.010000000", "0.015000000")


def test_retail_without_a_book_is_the_tenants_price(admin, account):
    admin.patch(f"tenants/{account.id}", {"markup_percent": "25"})
    mine = Customer(account, credit="1", markup_percent="100")
    with pays(account, mine, tenant="0.020", own="0.040"):
        assert mine.post(IMAGE).status_code == 200


def test_both_wallets_must_suffice(admin, account, sandbox):
    poor_customer = Customer(account, credit="0.015")
    poor_tenant = Customer(Account(account.gateway, credit="0.015"), credit="5")
    for mine in (poor_customer, poor_tenant):
        with pays(mine.account, mine):
            served = sandbox.served()["requests"]
            reply = mine.post(IMAGE)
            is_error(reply, 429, "insufficient_quota", type="insufficient_quota")
            assert reply.headers["x-should-retry"] == "false" and sandbox.served()["requests"] == served
        assert mine.records() == []


def test_credit_line_of_a_customer(admin, account):
    mine = Customer(account, credit_limit="0.040")
    with pays(account, mine, tenant="0.032", own="0.032"):
        assert [mine.post(IMAGE).status_code for _ in range(3)] == [200, 200, 429]
    assert admin.balance(mine.id) == {"posted": money("-0.032"), "held": 0, "available": money("0.008")}
    is_error(admin.call("PATCH", f"customers/{mine.id}", {"credit_limit": "0.03"}), 409, "conflict", param="credit_limit")
    admin.credit(mine.id, "1")
    assert admin.balance(mine.id)["posted"] == money("0.968")
    assert [t["kind"] for t in admin.ledger(mine.id)] == ["settlement", "credit", "retail_charge", "retail_charge"]


def test_a_suspended_customer(admin, account):
    mine = Customer(account, credit="1")
    admin.patch(f"customers/{mine.id}", {"status": "suspended"})
    with pays(account, mine):
        is_error(mine.post(IMAGE), 403, "account_suspended")
    admin.patch(f"customers/{mine.id}", {"status": "active", "policy": {"sizes": ["512x512"]}})
    with pays(account, mine):
        is_error(mine.post(IMAGE), 403, "policy_violation", param="size")


# ---- scopes ----

def test_a_tenants_token_manages_its_customers(admin, account):
    retail, wholesale = book(admin, "retail", "0.05"), book(admin, "wholesale", "0.05")
    with admin.scoped(account.id) as tenant:
        made = tenant.create("customers", {"name": "theirs", "wallet": "own", "credit_limit": "1", "price_book": retail, "markup_percent": "5",
                                           "budgets": [{"amount": "1", "window": "day"}], "policy": {"max_n": 1}})
        assert made["tenant"] == account.id and made["price_book"] == retail
        is_error(tenant.call("PATCH", f"customers/{made['id']}", {"price_book": wholesale}), 404, param="price_book")
        tenant.credit(made["id"], "2")
        assert tenant.balance(made["id"])["posted"] == 2
        assert [g["amount"] for g in tenant.grants(made["id"])] == ["2.000000000"]
        grant = tenant.grants(made["id"])[0]["id"]
        assert tenant.money(f"grants/{grant}/void").json()["status"] == "voided"
        assert {a["name"] for a in tenant.get(f"customers/{made['id']}/accounts")["data"]} >= {"wallet"}
        assert [c["id"] for c in tenant.get("customers")["data"]] == [made["id"]]
        assert tenant.delete(f"customers/{made['id']}")["deleted"] is True
    assert account.balance()["posted"] == 10


@pytest.mark.parametrize("method, path, body", [
    ("GET", "", None), ("PATCH", "", {"name": "mine"}), ("DELETE", "", None), ("POST", "/credits", {"amount": "1"}), ("GET", "/balance", None), ("GET", "/ledger", None),
    ("GET", "/grants", None), ("GET", "/accounts", None)])
def test_another_tenants_customer_is_like_a_missing_one(admin, account, method, path, body):
    theirs = Customer(Account(account.gateway), credit="1")
    missing = "cus_" + theirs.id[4:][::-1]
    with admin.scoped(account.id) as tenant:
        answers = [tenant.call(method, f"customers/{i}{path}", body, headers={"Idempotency-Key": unique("k")}) for i in (theirs.id, missing)]
    for answer in answers:
        is_error(answer, 404)
    assert anonymous(answers[0], theirs.id) == anonymous(answers[1], missing)
    assert admin.balance(theirs.id)["posted"] == 1


def test_a_viewer_only_looks(admin, account):
    mine = Customer(account, credit="1")
    with admin.scoped(account.id, role="viewer") as viewer:
        assert viewer.get(f"customers/{mine.id}")["id"] == mine.id
        for method, path, body in (("POST", "customers", {"name": "x"}), ("PATCH", f"customers/{mine.id}", {"name": "x"}), ("POST", f"customers/{mine.id}/credits", {"amount": "1"})):
            is_error(viewer.call(method, path, body, headers={"Idempotency-Key": unique("k")}), 403)


def test_the_audit_trail_tells_both_sides(gateway, admin, account):
    mine, retail = Customer(account), book(admin, "retail", "0.05")
    admin.patch(f"customers/{mine.id}", {"markup_percent": "7", "price_book": retail})
    with sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True) as db:
        rows = db.execute("SELECT action, before_state, after_state FROM audit WHERE object = ? ORDER BY rowid", (mine.id,)).fetchall()
        version = db.execute("SELECT after_state FROM audit WHERE object = ? AND action = 'price_version.create'", (retail,)).fetchone()
    assert [r[0] for r in rows] == ["customer.create", "customer.update"]
    before, after = (json.loads(side) for side in rows[1][1:])
    assert (before["markup_percent"], after["markup_percent"]) == ("0", "7")
    assert (before["price_book"], after["price_book"]) == (None, retail) and before["tenant"] == after["tenant"] == account.id
    assert json.loads(version[0])["versions"][0]["rate_count"] == 1
