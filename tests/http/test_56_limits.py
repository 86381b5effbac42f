"""Rate limits of tenants, customers and keys, and what a key can read of itself: exact over all loops, and nothing moves when one refuses."""

import datetime
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from zoneinfo import ZoneInfo

import httpx
import openai
import pytest

from lib.admin import Account, Customer
from lib.check import charges, is_error, money, untouched
from lib.process import PATIENCE

IMAGE = {"model": "dall-e-2", "prompt": "x", "size": "256x256"}  # 0.016 by openai-list
NAMES = ("requests_per_minute", "images_per_minute", "images_per_day", "concurrent_requests")


@pytest.fixture
def admin(gateway):
    return gateway.admin


def limited(gateway, credit="10.00", **limits):
    return Account(gateway, credit=credit, key={"limits": limits})


def images(n, prompt="x"):
    return {**IMAGE, "n": n, "prompt": prompt}


def figures(reply, of):
    return tuple(reply.headers.get(f"x-ratelimit-{part}-{of}") for part in ("limit", "remaining"))


def refused(account, limit, owner, type="requests", body=IMAGE):
    """A call that this limit refuses: nothing moves, and it says when to come again."""
    with untouched(account):
        reply = account.post(body)
    error = is_error(reply, 429, "rate_limit_exceeded", type=type)
    assert f" {limit} of this {owner}: Limit " in error["message"], error["message"]
    seconds, ms = int(reply.headers["retry-after"]), int(reply.headers["retry-after-ms"])
    assert 1 <= seconds <= 59 and (seconds - 1) * 1000 < ms <= seconds * 1000
    return reply


# ---- members ----

def test_they_are_shown_as_they_are_set(admin, account):
    mine = Customer(account)
    for path in (f"tenants/{account.id}", f"customers/{mine.id}", f"keys/{account.key['id']}"):
        assert admin.get(path)["limits"] is None
        shown = admin.patch(path, {"limits": {"concurrent_requests": 7, "requests_per_minute": 1_000_000_000, "images_per_day": None}})["limits"]
        assert list(shown.items()) == [("requests_per_minute", 1_000_000_000), ("concurrent_requests", 7)] and admin.get(path)["limits"] == shown
        assert admin.patch(path, {"limits": {}})["limits"] is None
        assert admin.patch(path, {"limits": {name: 1 for name in NAMES}})["limits"] == {name: 1 for name in NAMES}
        assert admin.patch(path, {"limits": None})["limits"] is None


@pytest.mark.parametrize("value, param", [
    (5, "limits"), ([], "limits"), ("x", "limits"), ({"requests_per_hour": 1}, "limits.requests_per_hour"), ({"requests_per_minute": 0}, "limits.requests_per_minute"),
    ({"images_per_minute": -1}, "limits.images_per_minute"), ({"images_per_day": 1_000_000_001}, "limits.images_per_day"), ({"concurrent_requests": 100_001}, "limits.concurrent_requests"),
    ({"images_per_day": 1.5}, "limits.images_per_day"), ({"images_per_day": "1"}, "limits.images_per_day"), ({"requests_per_minute": 10 ** 30}, "limits.requests_per_minute"),
    ({"requests_per_minute": 5, "concurrent_requests": True}, "limits.concurrent_requests")])
def test_bad_limits(admin, account, value, param):
    for method, path, body in (("PATCH", f"tenants/{account.id}", {}), ("POST", "tenants", {"name": "x"}), ("POST", "customers", {"tenant": account.id, "name": "x"}),
                               ("PATCH", f"keys/{account.key['id']}", {}), ("POST", "keys", {"tenant": account.id, "name": "x"})):
        is_error(admin.call(method, path, {**body, "limits": value}), 400, param=param)
    assert admin.get(f"tenants/{account.id}")["limits"] is None and admin.get(f"keys/{account.key['id']}")["limits"] is None


def test_a_tenants_token_sets_those_of_its_customers_and_keys(admin, account):
    mine = Customer(account)
    with admin.scoped(account.id) as tenant:
        is_error(tenant.call("PATCH", f"tenants/{account.id}", {"limits": None}), 403, param="limits")
        for path in (f"customers/{mine.id}", f"keys/{account.key['id']}"):
            assert tenant.patch(path, {"limits": {"images_per_day": 5}})["limits"] == {"images_per_day": 5}


# ---- requests ----

def test_requests_of_a_minute(gateway, sandbox):
    account = limited(gateway, requests_per_minute=2)
    with charges(account, "0.032", records=2):
        first, second = account.post(IMAGE), account.post(IMAGE)
    assert [r.status_code for r in (first, second)] == [200, 200]
    assert [figures(r, "requests") for r in (first, second)] == [("2", "1"), ("2", "0")] and figures(second, "images") == (None, None)
    assert first.headers["x-ratelimit-reset-requests"] in ("1m0s", "1m1s")
    served = sandbox.served()["requests"]
    reply = refused(account, "requests_per_minute", "API key")
    assert int(reply.headers["retry-after"]) > 50 and figures(reply, "requests") == ("2", "0") and "x-should-retry" not in reply.headers
    assert sandbox.served()["requests"] == served
    gateway.admin.patch(f"keys/{account.key['id']}", {"limits": {"requests_per_minute": 3}})
    assert figures(account.post(IMAGE), "requests") == ("3", "0"), "what was counted stays"
    refused(account, "requests_per_minute", "API key")
    gateway.admin.patch(f"keys/{account.key['id']}", {"limits": None})
    reply = account.post(IMAGE)
    assert reply.status_code == 200 and not [h for h in reply.headers if h.startswith("x-ratelimit")]


def test_whose_limit_it_is(gateway, account):
    mine = Customer(account, wallet="shared", limits={"requests_per_minute": 2})
    gateway.admin.patch(f"tenants/{account.id}", {"limits": {"requests_per_minute": 3}})
    assert [mine.post(IMAGE).status_code for _ in range(2)] == [200, 200]
    refused(mine, "requests_per_minute", "customer")
    assert figures(account.post(IMAGE), "requests") == ("3", "0")
    refused(account, "requests_per_minute", "account")
    gateway.admin.patch(f"customers/{mine.id}", {"limits": None})
    refused(mine, "requests_per_minute", "account")


def test_every_answer_tells_them(gateway):
    account = limited(gateway, credit="0.02", requests_per_minute=50, images_per_minute=20)
    with account.stream({"model": "gpt-image-1", "prompt": "x", "stream": True, "size": "1024x1024", "quality": "low"}) as reply:
        reply.read()
        assert reply.status_code == 200 and figures(reply, "images") == ("20", "19")
    account.credit("1")
    once = {"headers": {"Idempotency-Key": "a"}}
    replies = [account.post(b"{"), account.post({**IMAGE, "size": "1x1"}), account.post({**IMAGE, "model": "none"}), account.post(images(1, "[[status=500]]")),
               account.post(images(1, "[[moderation]]")), account.post(images(5), **once), account.post(IMAGE, **once), account.post(images(5), **once)]
    assert [r.status_code for r in replies] == [400, 400, 404, 502, 400, 200, 422, 200] and replies[-1].headers["idempotent-replayed"] == "true"
    # What never got to the limits counts for nothing; a replay, and what the upstream refused, give their images back.
    assert [figures(r, "requests") for r in replies] == [("50", left) for left in ("49", "49", "49", "48", "47", "46", "45", "44")]
    assert [figures(r, "images") for r in replies] == [("20", left) for left in ("19", "19", "19", "18", "18", "14", "13", "9")]
    assert figures(account.post(b"{"), "images") == ("20", "14")


def test_a_refusal_of_money_is_a_request_too(gateway):
    account = limited(gateway, credit="0.001", requests_per_minute=2, images_per_minute=1)
    for left in "10":
        reply = account.post(IMAGE)
        is_error(reply, 429, "insufficient_quota", type="insufficient_quota")
        assert figures(reply, "requests")[1] == left and figures(reply, "images") == ("1", "0")
    refused(account, "requests_per_minute", "API key")


def test_test_keys_are_limited(gateway, sandbox):
    account = Account(gateway, key={"mode": "test", "limits": {"images_per_day": 3, "images_per_minute": 2}})
    gateway.channel(sandbox, kind="sandbox", name="box")
    assert account.post(images(2)).status_code == 200
    refused(account, "images_per_minute", "API key", "images")


def test_exact_over_all_loops(gateway):
    account = limited(gateway, requests_per_minute=15)
    with ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(lambda _: account.post(IMAGE).status_code, range(60)))
    assert codes.count(200) == 15 and codes.count(429) == 45
    assert account.settled()["posted"] == account.credited - 15 * money("0.016")


def test_effective_when_the_admin_call_returns(gateway):
    account = Account(gateway)
    for figure in (1, None, 1, None):
        gateway.admin.patch(f"keys/{account.key['id']}", {"limits": {"images_per_minute": figure}})
        codes = {account.post(images(2)).status_code for _ in range(4)}  # connections of their own: on whatever loop
        assert codes == ({429} if figure else {200})


# ---- images ----

def test_images_of_a_minute(gateway):
    account = limited(gateway, images_per_minute=6)
    assert figures(account.post(images(4, "[[images=1]]")), "images") == ("6", "2"), "asked for"
    assert account.post(images(5)).status_code == 200, "what was not delivered is given back"
    assert figures(refused(account, "images_per_minute", "API key", "images"), "images") == ("6", "0")
    never = refused(account, "images_per_minute", "API key", "images", images(7))
    assert never.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("prompt, status", [("[[status=429]]", 503), ("[[moderation]]", 400), ("[[die=headers]]", 502), ("[[status=500]]", 502)])
def test_what_was_not_delivered_is_given_back(gateway, prompt, status):
    account = limited(gateway, images_per_minute=2, images_per_day=2, concurrent_requests=1)
    for _ in range(2):
        assert account.post(images(2, prompt)).status_code == status
    assert account.post(images(2)).status_code == 200


def test_a_day_survives_a_kill(own_gateway, sandbox):
    gateway = own_gateway().start()
    gateway.channel(sandbox)
    account = limited(gateway, images_per_day=5)
    mine = Customer(account, wallet="shared", limits={"images_per_day": 3})
    assert figures(account.post(images(3)), "images") == ("5", "2") and mine.post(images(1)).status_code == 200
    for _ in range(2):
        gateway.kill()
        gateway.start()
        mine.admin = gateway.admin
        reply = refused(account, "images_per_day", "API key", "images", images(3))
        assert figures(reply, "images") == ("5", "2")
        refused(mine, "images_per_day", "customer", "images", images(3))
    gateway.admin.patch(f"tenants/{account.id}", {"limits": {"images_per_day": 6}})
    assert account.post(images(2)).status_code == 200
    reply = refused(mine, "images_per_day", "account", "images")
    assert figures(reply, "images") == ("6", "0"), "what was delivered before there was a limit counts"
    gateway.stop()
    gateway.fsck()


def test_whose_day_it_is(gateway):
    names = ("UTC", "Pacific/Auckland", "America/New_York")
    account = Account(gateway, tenant={"timezone": names[0]}, key={"limits": {"images_per_day": 1}})
    assert account.post(IMAGE).status_code == 200
    for name in names:
        gateway.admin.patch(f"tenants/{account.id}", {"timezone": name})
        now = datetime.datetime.now(ZoneInfo(name))
        next_day = datetime.datetime.combine(now.date() + datetime.timedelta(1), datetime.time(), ZoneInfo(name))
        reply = refused(account, "images_per_day", "API key", "images")
        seconds = span(reply.headers["x-ratelimit-reset-images"])
        left = next_day.timestamp() - now.timestamp()
        assert left - 30 <= seconds <= left + 2 and (reply.headers.get("x-should-retry") == "false") == (seconds > 61)


def span(text):
    """Seconds of "11h3m20s" and its like."""
    total, number = 0.0, ""
    for c in text.replace("ms", "M"):
        if c.isdigit():
            number += c
        else:
            total, number = total + int(number) * {"h": 3600, "m": 60, "s": 1, "M": 0.001}[c], ""
    return total


# ---- calls under way ----

def test_calls_under_way(gateway):
    account = limited(gateway, concurrent_requests=2)
    with ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(account.post, images(1, "[[latency=700ms]]")) for _ in range(2)]
        gateway.wait_for(lambda: account.balance()["held"] == money("0.032"), "both are under way")
        reply = is_error(again := account.post(IMAGE), 429, "rate_limit_exceeded", type="requests")
        assert "concurrent_requests of this API key: Limit 2, Used 2" in reply["message"] and again.headers["retry-after"] == "1"
        assert [f.result().status_code for f in slow] == [200, 200]
    for _ in range(20):
        assert account.post(IMAGE).status_code == 200, "whoever has read an answer finds its place free"


def test_a_client_that_left_keeps_its_place(gateway):
    account = limited(gateway, concurrent_requests=1)
    with pytest.raises(Exception, match="timed out"):
        account.post(images(1, "[[latency=800ms]]"), timeout=0.3 / PATIENCE)
    is_error(account.post(IMAGE), 429, "rate_limit_exceeded", type="requests")
    account.settled()
    gateway.wait_for(lambda: account.post(IMAGE).status_code == 200, "its place is free")


def test_an_sdk_waits_and_comes_again(gateway):
    account = limited(gateway, concurrent_requests=1)
    slow = threading.Thread(target=account.post, args=(images(1, "[[latency=600ms]]"),))
    slow.start()
    gateway.wait_for(lambda: account.balance()["held"] > 0, "the slow one is under way")
    with openai.OpenAI(base_url=gateway.base_url, api_key=account.secret, max_retries=0) as sdk:
        with pytest.raises(openai.RateLimitError) as caught:
            sdk.images.generate(**IMAGE)
    assert caught.value.code == "rate_limit_exceeded" and caught.value.type == "requests" and caught.value.response.headers["retry-after"] == "1"
    with openai.OpenAI(base_url=gateway.base_url, api_key=account.secret, max_retries=1) as sdk:
        began = time.monotonic()
        assert len(sdk.images.generate(**IMAGE).data) == 1
        assert time.monotonic() - began >= 0.9, "it waited the second that it was told"
    slow.join()


def test_refusals_are_counted(gateway):
    before = gateway.metrics()
    account = limited(gateway, images_per_minute=1)
    refused(account, "images_per_minute", "API key", "images", images(2))
    name = 'tallygate_rate_limited_total{limit="images_per_minute"}'
    assert gateway.metrics()[name] == before[name] + 1


# ---- what a key reads of itself ----

def read(account, path="/v1/key"):
    reply = httpx.get(account.gateway.public_url + path, headers=account.authorization, timeout=30 * PATIENCE, trust_env=False)
    assert reply.status_code == 200, reply.text
    return json.loads(reply.text, parse_float=str)


def test_a_tenants_key(gateway):
    account = Account(gateway, key={"name": "wéb \"shop\"", "budgets": [{"amount": "2", "window": "lifetime"}, {"amount": "9", "window": "rolling:60s"}],
                                    "limits": {"requests_per_minute": 2, "images_per_day": 50}})
    gateway.admin.patch(f"tenants/{account.id}", {"limits": {"requests_per_minute": 9, "concurrent_requests": 3}, "budgets": [{"amount": "5", "window": "month"}]})
    assert account.post(IMAGE).status_code == 200
    key = read(account)
    assert {k: key[k] for k in ("object", "id", "name", "mode", "customer", "expires_at")} == {
        "object": "api_key", "id": account.key["id"], "name": "wéb \"shop\"", "mode": "live", "customer": None, "expires_at": None}
    assert key["available"] == "1.984000000", "the least of wallet and budgets"
    assert [(b["owner"], b["window"], b["amount"], b["used"]) for b in key["budgets"]] == [
        ("api_key", "lifetime", "2.000000000", "0.016000000"), ("api_key", "rolling:60s", "9.000000000", "0.016000000"), ("tenant", "month", "5.000000000", "0.016000000")]
    assert key["budgets"][0]["resets_at"] is None and key["budgets"][1]["resets_at"] is not None
    now = datetime.datetime.now(datetime.timezone.utc)
    first = (now.replace(day=1) + datetime.timedelta(32)).replace(day=1)
    assert key["budgets"][2]["resets_at"] == first.strftime("%Y-%m-01T00:00:00Z")
    assert key["limits"] == {"requests_per_minute": 2, "images_per_day": 50, "concurrent_requests": 3}
    assert account.post(IMAGE).status_code == 200
    refused(account, "requests_per_minute", "API key")
    assert read(account)["available"] == "1.968000000", "readable when limited"


def test_a_customers_key(gateway, account):
    mine = Customer(account, credit="1", markup_percent="100", limits={"images_per_minute": 8}, budgets=[{"amount": "0.05", "window": "lifetime"}])
    gateway.admin.patch(f"tenants/{account.id}", {"limits": {"requests_per_minute": 9}, "budgets": [{"amount": "0.5", "window": "month"}]})
    assert read(mine)["available"] == "0.050000000"
    assert mine.post(IMAGE).status_code == 200
    key = read(mine)
    assert key["available"] == "0.018000000" and key["customer"] == mine.id, "in its own price"
    assert [(b["owner"], b["used"]) for b in key["budgets"]] == [("customer", "0.032000000")] and key["limits"] == {"images_per_minute": 8}, "nothing of its provider's"
    is_error(mine.post(IMAGE), 429, "insufficient_quota", type="insufficient_quota")
    gateway.admin.patch(f"customers/{mine.id}", {"budgets": None})
    assert read(mine)["available"] == "0.968000000"


def test_held_money_is_not_available(gateway):
    account = Account(gateway, credit="1")
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(account.post, images(2, "[[latency=600ms]]"))
        gateway.wait_for(lambda: account.balance()["held"] > 0, "it is under way")
        assert read(account)["available"] == "0.968000000"
        assert slow.result().status_code == 200
    assert read(account)["available"] == "0.968000000"


def test_an_exhausted_key(gateway):
    account = Account(gateway, credit=None)
    assert read(account)["available"] == "0.000000000"
    assert read(account, "/dashboard/billing/subscription")["hard_limit_usd"] == 0


def test_a_test_key(gateway):
    account = Account(gateway, credit=None, key={"mode": "test", "expires_at": "2100-01-02T03:04:05Z"})
    key = read(account)
    assert (key["mode"], key["available"], key["budgets"], key["limits"], key["expires_at"]) == ("test", None, [], {}, "2100-01-02T03:04:05Z")
    plan = read(account, "/v1/dashboard/billing/subscription")
    assert plan["hard_limit_usd"] == 100_000_000 and plan["access_until"] == 4102542245 and read(account, "/v1/dashboard/billing/usage")["total_usage"] == 0


def test_they_need_a_key(gateway, account):
    for path in ("/v1/key", "/v1/dashboard/billing/subscription", "/v1/dashboard/billing/usage", "/dashboard/billing/subscription", "/dashboard/billing/usage"):
        is_error(httpx.get(gateway.public_url + path, trust_env=False), 401)
        is_error(httpx.post(gateway.public_url + path, headers=account.authorization, trust_env=False), 405)


@pytest.mark.parametrize("prefix", ["/v1", ""])
def test_balance_routes(gateway, account, prefix):
    mine = Customer(account, credit="1", markup_percent="100")
    assert mine.post(images(3)).status_code == 200
    plan, usage = read(mine, prefix + "/dashboard/billing/subscription"), read(mine, prefix + "/dashboard/billing/usage")
    assert plan == {"object": "billing_subscription", "has_payment_method": True, "soft_limit_usd": 1, "hard_limit_usd": 1, "system_hard_limit_usd": 1, "access_until": 0}
    assert usage == {"object": "list", "total_usage": "9.6"}, "cents"
    assert money(read(mine)["available"]) == 1 - money("0.096")
    today = datetime.datetime.now(datetime.timezone.utc).date()
    for start, end, cents in ((0, 0, "9.6"), (-5, 0, "9.6"), (0, 1, "9.6"), (-9, -1, 0), (1, 2, 0)):
        days = [(today + datetime.timedelta(n)).isoformat() for n in (start, end)]
        assert read(mine, f"{prefix}/dashboard/billing/usage?start_date={days[0]}&end_date={days[1]}")["total_usage"] == cents, (start, end)
    assert read(mine, f"{prefix}/dashboard/billing/usage?start_date=1970-01-01&x=1")["total_usage"] == "9.6"


@pytest.mark.parametrize("query, param", [("start_date=x", "start_date"), ("end_date=2026-02-30", "end_date"), ("start_date=2026-1-1", "start_date"), ("start_date=", "start_date"),
                                          ("start_date=2026-11-02&end_date=2026-11-01", "end_date"), ("end_date=2026-11-01-and-much-more-than-that", None)])
def test_bad_dates(account, query, param):
    reply = httpx.get(f"{account.gateway.base_url}/dashboard/billing/usage?{query}", headers=account.authorization, trust_env=False)
    is_error(reply, 400, "invalid_value", param=param)
