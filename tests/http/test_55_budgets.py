"""Budgets of tenants, customers and keys: the one that refuses is named with its reset, and nothing moves."""

import datetime
import re
import threading

import pytest

from lib.admin import Account, Customer
from lib.check import charges, is_error, money
from lib.process import PATIENCE

IMAGE = {"model": "dall-e-2", "prompt": "x", "size": "256x256"}  # 0.016 by openai-list


@pytest.fixture
def admin(gateway):
    return gateway.admin


def budget(amount, window="lifetime"):
    return {"budgets": [{"amount": amount, "window": window}]}


def refused(account, sandbox, window, owner):
    """A call that a budget refuses: it is named, the SDK does not try again, nothing moves and nobody is called. Gives when it resets."""
    before, records, served = account.balance(), account.records(), sandbox.served()["requests"]
    reply = account.post(IMAGE)
    error = is_error(reply, 429, "insufficient_quota", type="insufficient_quota")
    assert reply.headers["x-should-retry"] == "false"
    found = re.search(rf"the {re.escape(window)} budget of this {owner} cannot bear this request\. It (resets at (\S+)\.|does not reset\.)$", error["message"])
    assert found, error["message"]
    assert (account.balance(), account.records(), sandbox.served()["requests"]) == (before, records, served)
    return found.group(2)


def instant(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


# ---- members ----

def test_they_are_shown_as_they_count(admin, account):
    given = {"budgets": [{"amount": "25", "window": "month"}, {"window": "rolling:3600s", "amount": "0.5"}]}
    shown = [{"amount": "25.000000000", "window": "month"}, {"amount": "0.500000000", "window": "rolling:3600s"}]
    mine = Customer(account)
    for path in (f"tenants/{account.id}", f"customers/{mine.id}", f"keys/{account.key['id']}"):
        assert admin.get(path)["budgets"] == []
        assert admin.patch(path, given)["budgets"] == shown == admin.get(path)["budgets"]
        assert admin.patch(path, {"budgets": None})["budgets"] == []


@pytest.mark.parametrize("value, param", [
    ("x", "budgets"), ({}, "budgets"), ([5], "budgets[0]"), ([{"amount": "1"}], "budgets[0].window"), ([{"window": "day"}], "budgets[0].amount"),
    ([{"amount": 1, "window": "day"}], "budgets[0].amount"), ([{"amount": "-1", "window": "day"}], "budgets[0].amount"), ([{"amount": "1" + "0" * 30, "window": "day"}], "budgets[0].amount"),
    ([{"amount": "0.0000000001", "window": "day"}], "budgets[0].amount"), ([{"amount": "1 EUR", "window": "day"}], "budgets[0].amount"),
    ([{"amount": "1", "window": "year"}], "budgets[0].window"), ([{"amount": "1", "window": "rolling:0s"}], "budgets[0].window"),
    ([{"amount": "1", "window": "rolling:3600"}], "budgets[0].window"), ([{"amount": "1", "window": "day", "currency": "EUR"}], "budgets[0].currency"),
    ([{"amount": "1", "window": "day"}, {"amount": "2", "window": "day"}], "any"), ([{"amount": "1", "window": f"rolling:{60 + i}s"} for i in range(9)], "budgets")])
def test_bad_budgets(admin, account, value, param):
    mine, before = Customer(account, credit="1"), account.balance()
    for method, path, body in (("PATCH", f"tenants/{account.id}", {}), ("POST", "tenants", {"name": "x"}), ("PATCH", f"customers/{mine.id}", {}),
                               ("POST", "customers", {"tenant": account.id, "name": "x"}), ("PATCH", f"keys/{account.key['id']}", {}),
                               ("POST", "keys", {"tenant": account.id, "name": "x"})):
        is_error(admin.call(method, path, {**body, "budgets": value}), 400, param=param)
    assert account.balance() == before and admin.balance(mine.id)["posted"] == 1
    assert admin.get(f"tenants/{account.id}")["budgets"] == admin.get(f"customers/{mine.id}")["budgets"] == []


def test_a_tenants_token_sets_those_of_its_customers_and_keys(admin, account):
    mine = Customer(account)
    with admin.scoped(account.id) as tenant:
        is_error(tenant.call("PATCH", f"tenants/{account.id}", budget("1")), 403, param="budgets")
        for path in (f"customers/{mine.id}", f"keys/{account.key['id']}"):
            assert tenant.patch(path, budget("1"))["budgets"] == [{"amount": "1.000000000", "window": "lifetime"}]
    assert admin.get(f"tenants/{account.id}")["budgets"] == []


# ---- what they let pass ----

def test_a_budget_of_a_key(gateway, sandbox):
    account = Account(gateway, key=budget("0.040"))
    with charges(account, "0.032", records=2):
        assert [account.post(IMAGE).status_code for _ in range(2)] == [200, 200]
    assert refused(account, sandbox, "lifetime", "API key") is None
    gateway.admin.patch(f"keys/{account.key['id']}", budget("0.048"))
    with charges(account, "0.016"):
        assert account.post(IMAGE).status_code == 200, "exactly what is left"
    assert refused(account, sandbox, "lifetime", "API key") is None
    gateway.admin.patch(f"keys/{account.key['id']}", {"budgets": None})
    assert account.post(IMAGE).status_code == 200


@pytest.mark.parametrize("window, least, most", [("day", 0, 25), ("week", 0, 169), ("month", 0, 745), ("rolling:86400s", 23.9, 24.5), ("rolling:60s", 0.016, 0.018)])
def test_the_refusal_says_when_it_resets(gateway, sandbox, window, least, most):
    account = Account(gateway, tenant={**budget("0.016", window), "timezone": "Europe/Berlin"})
    with charges(account, "0.016"):
        assert account.post(IMAGE).status_code == 200
    resets = instant(refused(account, sandbox, window, "account"))
    hours = (resets - datetime.datetime.now(datetime.timezone.utc)).total_seconds() / 3600
    assert least <= hours <= most, (window, resets)
    if window in ("day", "week", "month"):
        import zoneinfo
        local = resets.astimezone(zoneinfo.ZoneInfo("Europe/Berlin"))
        assert (local.hour, local.minute, local.second) == (0, 0, 0)
        assert (window != "week" or local.weekday() == 0) and (window != "month" or local.day == 1)


def test_a_budget_counts_what_was_spent_before_it(gateway, account, sandbox):
    for _ in range(2):
        assert account.post(IMAGE).status_code == 200
    account.settled()
    for window in ("day", "month", "lifetime", "rolling:3600s"):
        gateway.admin.patch(f"tenants/{account.id}", budget("0.047", window))
        refused(account, sandbox, window, "account")
    gateway.admin.patch(f"tenants/{account.id}", budget("0.048", "day"))
    with charges(account, "0.016"):
        assert account.post(IMAGE).status_code == 200


def test_all_that_stand_apply(gateway, sandbox):
    """Key before customer before tenant; each in its own price."""
    account = Account(gateway, tenant=budget("0.016"))
    mine = Customer(account, credit="5", markup_percent="100", key=budget("0.031"), **budget("0.031"))
    assert refused(mine, sandbox, "lifetime", "API key") is None
    gateway.admin.patch(f"keys/{mine.key['id']}", budget("0.032"))
    assert refused(mine, sandbox, "lifetime", "customer") is None
    gateway.admin.patch(f"customers/{mine.id}", budget("0.064"))
    gateway.admin.patch(f"keys/{mine.key['id']}", budget("0.064"))
    assert mine.post(IMAGE).status_code == 200
    assert mine.settled()["posted"] == money("4.968")
    assert refused(mine, sandbox, "lifetime", "account") is None
    assert account.balance()["posted"] == money("9.984")


def test_of_several_windows_the_first_that_refuses_is_named(gateway, sandbox):
    account = Account(gateway, key={"budgets": [{"amount": "1", "window": "day"}, {"amount": "0.001", "window": "month"}, {"amount": "0", "window": "week"}]})
    refused(account, sandbox, "month", "API key")


def test_what_is_held_counts(gateway, sandbox):
    """A call under way may cost its worst case: a second one does not fit until it has ended."""
    account = Account(gateway, key=budget("0.0319"))
    caller = threading.Thread(target=account.post, args=({**IMAGE, "prompt": f"[[latency={2 * PATIENCE}s]]"},))
    caller.start()
    gateway.wait_for(lambda: account.balance()["held"] > 0, "the hold")
    assert refused(account, sandbox, "lifetime", "API key") is None
    caller.join()
    account.settled()
    gateway.admin.patch(f"keys/{account.key['id']}", budget("0.032"))
    assert account.post(IMAGE).status_code == 200


def test_a_call_that_failed_spends_nothing(gateway, sandbox):
    account = Account(gateway, key=budget("0.016"))
    assert account.post({**IMAGE, "prompt": "[[status=500]]"}).status_code == 502
    account.settled()
    with charges(account, "0.016"):
        assert account.post(IMAGE).status_code == 200


def test_a_race_for_the_last_of_a_budget(gateway, sandbox):
    account = Account(gateway, tenant=budget("0.050", "day"))
    statuses = []
    threads = [threading.Thread(target=lambda: statuses.append(account.post(IMAGE).status_code)) for _ in range(20)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert sorted(statuses) == [200] * 3 + [429] * 17
    assert account.settled()["posted"] == money("9.952")


def test_a_test_key_spends_no_budget(gateway, sandbox):
    account = Account(gateway, key={**budget("0"), "mode": "test"}, tenant=budget("0"))
    gateway.channel(sandbox, name="test mode", kind="sandbox", models=["dall-e-2"], tenants=[account.id])
    with charges(account, "0"):
        assert account.post(IMAGE).status_code == 200


def test_budgets_survive_a_restart(own_gateway, sandbox):
    gateway = own_gateway().start()
    gateway.channel(sandbox, models=["dall-e-2"])
    account = Account(gateway, key=budget("0.040", "month"))
    assert account.post(IMAGE).status_code == 200
    account.settled()
    gateway.kill()
    gateway.start()
    account.admin = gateway.admin
    assert [account.post(IMAGE).status_code for _ in range(2)] == [200, 429]
    account.settled()
    gateway.stop()
    gateway.fsck()
