"""Price books: versions that begin now or later and never change, rates by what they name, faults by their place."""

import datetime
import sqlite3
import threading
import time

import pytest

from lib.admin import Account, Customer, unique
from lib.check import charges, is_error, money
from lib.process import PATIENCE

IMAGE = {"model": "dall-e-2", "prompt": "x", "size": "256x256"}


@pytest.fixture
def admin(gateway):
    return gateway.admin


def at(seconds):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def rate(amount="0.01", **more):
    return {"model": "dall-e-2", "unit": "image", "amount": amount, **more}


def book(admin, *rates, kind="wholesale"):
    made = admin.create("price-books", {"name": unique("book"), "kind": kind})
    if rates:
        version(admin, made["id"], *rates)
    return made["id"]


def version(admin, book_id, *rates, **more):
    return admin.create(f"price-books/{book_id}/versions", {"rates": list(rates), **more})


def selling(gateway, *rates, **tenant):
    """An account whose tenant buys by a new book with these rates."""
    return Account(gateway, tenant={"price_book": book(gateway.admin, *rates), **tenant})


# ---- books and versions ----

def test_a_book(admin):
    name = unique("summer")
    made = admin.create("price-books", {"name": name, "kind": "retail"})
    assert made["id"].startswith("pbk_") and (made["object"], made["name"], made["kind"]) == ("price_book", name, "retail")
    assert (made["current_version"], made["versions"], made["rates"]) == (None, [], [])
    assert admin.get(f"price-books/{made['id']}") == made and made["id"] in [b["id"] for b in admin.all("price-books")]
    is_error(admin.call("POST", "price-books", {"name": name, "kind": "retail"}), 409, "conflict", param="name")
    assert admin.get(f"price-books/{made['id']}/versions") == {"object": "list", "data": [], "has_more": False, "next": None}


@pytest.mark.parametrize("body, param", [({"kind": "retail"}, "name"), ({"name": "x"}, "kind"), ({"name": "x", "kind": "free"}, "kind"), ({"name": "x", "kind": 1}, "kind"),
                                         ({"name": "", "kind": "cost"}, "name"), ({"name": "x", "kind": "cost", "currency": "EUR"}, "currency")])
def test_bad_books(admin, body, param):
    is_error(admin.call("POST", "price-books", body), 400, param=param)


def test_versions_are_listed_newest_first(admin):
    mine = book(admin)
    made = [version(admin, mine, rate(str(i)), **({"effective_from": at(i * 3600)} if i else {})) for i in range(5)]
    assert all(v["id"].startswith("pbv_") and v["object"] == "price_version" for v in made)
    assert made[0]["rates"] == [{"model": "dall-e-2", "operation": None, "size": None, "quality": None, "unit": "image", "amount": "0", "per": 1}]
    assert admin.all(f"price-books/{mine}/versions", limit=2) == made[::-1]
    shown = admin.get(f"price-books/{mine}")
    assert shown["current_version"] == made[0]["id"] and shown["rates"] == made[0]["rates"]
    assert [v["id"] for v in shown["versions"]] == [v["id"] for v in made[::-1]] and "rates" not in shown["versions"][0]
    for query in ({"after": "pbv_x"}, {"limit": 0}, {"surprise": 1}):
        is_error(admin.call("GET", f"price-books/{mine}/versions", params=query), 400, param=next(iter(query)))


@pytest.mark.parametrize("when", ["2020-01-01T00:00:00Z", "2024-02-29T12:00:00+02:00", "1700000000", "yesterday", "", 5, {}])
def test_never_backdated(admin, when):
    mine = book(admin)
    is_error(admin.call("POST", f"price-books/{mine}/versions", {"effective_from": when, "rates": [rate()]}), 400, param="effective_from")
    assert admin.get(f"price-books/{mine}")["versions"] == []


def test_a_minute_ago_is_past_and_now_is_not(admin):
    mine = book(admin)
    is_error(admin.call("POST", f"price-books/{mine}/versions", {"effective_from": at(-60), "rates": [rate()]}), 400, param="effective_from")
    before = at(0)
    made = version(admin, mine, rate(), effective_from=before[:19] + "Z")
    assert made["effective_from"] >= before, "what is taken as now begins now"


def test_unsorted_versions(admin):
    """Before the last one, or at the same time: refused, and nothing is added."""
    mine, when = book(admin), at(7200)
    first = version(admin, mine, rate(), effective_from=when)
    for wrong in (when, at(3600), None):
        is_error(admin.call("POST", f"price-books/{mine}/versions", {"effective_from": wrong, "rates": [rate()]}), 400, "invalid_value", param="effective_from")
    assert [v["id"] for v in admin.get(f"price-books/{mine}")["versions"]] == [first["id"]]


def test_a_repeated_version_is_made_once(admin):
    mine, key, body = book(admin), unique("version"), {"effective_from": at(3600), "rates": [rate()]}
    first, second = (admin.call("POST", f"price-books/{mine}/versions", body, headers={"Idempotency-Key": key}) for _ in range(2))
    assert first.status_code == 200 and (second.status_code, second.content) == (200, first.content), second.text
    assert len(admin.get(f"price-books/{mine}")["versions"]) == 1
    is_error(admin.call("POST", f"price-books/{mine}/versions", {**body, "rates": [rate("1")]}, headers={"Idempotency-Key": key}), 422, "idempotency_key_reused")


def test_versions_in_a_race(admin):
    """Each comes after the others, or is refused."""
    mine, answers = book(admin), []

    def call(own, i):
        answers.append(own.call("POST", f"price-books/{mine}/versions", {"rates": [rate(str(i))]}))
        own.close()
    threads = [threading.Thread(target=call, args=(type(admin)(admin.url, admin.token), i)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert {a.status_code for a in answers} == {200}
    assert {v["id"] for v in admin.get(f"price-books/{mine}")["versions"]} == {a.json()["id"] for a in answers}


# ---- faults of rates ----

@pytest.mark.parametrize("wrong, param", [
    ({"unit": None}, "rates[2].unit"), ({"unit": "picture"}, "rates[2].unit"), ({"unit": 5}, "rates[2].unit"), ({"unit": ""}, "rates[2].unit"),
    ({"model": None}, "rates[2].model"), ({"model": ""}, "rates[2].model"), ({"model": "x" * 200}, "rates[2].model"), ({"model": "a\u0001b"}, "rates[2].model"),
    ({"operation": "paint"}, "rates[2].operation"), ({"operation": 1}, "rates[2].operation"), ({"size": ""}, "rates[2].size"), ({"size": "x" * 20}, "rates[2].size"),
    ({"quality": "x" * 20}, "rates[2].quality"), ({"amount": None}, "rates[2].amount"), ({"amount": 0.01}, "rates[2].amount"), ({"amount": "-0.01"}, "rates[2].amount"),
    ({"amount": "1" + "0" * 30}, "rates[2].amount"), ({"amount": "0.0000000000001"}, "rates[2].amount"), ({"amount": "1e-2"}, "rates[2].amount"),
    ({"amount": "1 EUR"}, "rates[2].amount"), ({"amount": "1", "per": 3}, "rates[2].amount"), ({"per": 0}, "rates[2].per"), ({"per": -1}, "rates[2].per"),
    ({"per": "1"}, "rates[2].per"), ({"per": 1.5}, "rates[2].per"), ({"per": 10**30}, "rates[2].per"), ({"currency": "EUR"}, "rates[2].currency")])
def test_bad_rates(gateway, admin, wrong, param):
    account = selling(gateway, rate())
    mine, before = account.tenant["price_book"], account.balance()
    rates = [rate(size="256x256"), rate(size="512x512"), {k: v for k, v in {**rate(size="1024x1024"), **wrong}.items() if v is not None}]
    error = is_error(admin.call("POST", f"price-books/{mine}/versions", {"rates": rates}), 400, param=param)
    assert param in error["message"], error
    assert len(admin.get(f"price-books/{mine}")["versions"]) == 1 and account.balance() == before
    with charges(account, "0.01"):
        assert account.post(IMAGE).status_code == 200


@pytest.mark.parametrize("rates, param", [(None, "rates"), ([], "rates"), ({}, "rates"), ("x", "rates"), ([5], "rates[0]"), ([rate(), None], "rates[1]"), ([[]], "rates[0]"),
                                          ([rate(), rate(size="256x256"), rate("2")], "rates[2]"),
                                          ([rate(operation="edits"), rate(), rate("3", operation="edits")], "rates[2]")])
def test_bad_lists_of_rates(admin, rates, param):
    mine = book(admin)
    is_error(admin.call("POST", f"price-books/{mine}/versions", {"rates": rates}), 400, param=param)
    is_error(admin.call("POST", f"price-books/{mine}/versions", {}), 400, "missing_required_parameter", param="rates")
    assert admin.get(f"price-books/{mine}")["versions"] == []


def test_ten_thousand_rates(admin, gateway):
    rates = [{"model": f"model-{i:05}-with-a-name-of-some-length", "operation": "generations", "size": "1024x1024", "quality": "standard", "unit": "image", "amount": f"0.{i + 1:012}",
              "per": 1} for i in range(10000)]
    mine = book(admin)
    is_error(admin.call("POST", f"price-books/{mine}/versions", {"rates": rates + [rate()]}), 400, param="rates")
    for when in (None, at(3600), at(7200), at(10800)):
        made = version(admin, mine, *rates, **({"effective_from": when} if when else {}))
        assert len(made["rates"]) == made["rate_count"] == 10000 and made["rates"][9999]["amount"] == "0.00000001"
    assert [len(v["rates"]) for v in admin.all(f"price-books/{mine}/versions", limit=100)] == [10000] * 4
    shown = admin.get(f"price-books/{mine}")
    assert len(shown["rates"]) == 10000 and len(shown["versions"]) == 4
    with sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True) as db:
        assert db.execute("SELECT min(json_valid(after_state)) FROM audit WHERE object = ?", (mine,)).fetchone() == (1,)


# ---- what a call costs ----

def test_the_most_specific_rate_wins(gateway, account):
    account = selling(gateway, rate("1"), rate("2", operation="edits"), rate("3", size="512x512"), rate("4", size="512x512", operation="generations"),
                      rate("5", size="1024x1024"), {"model": "dall-e-3", "unit": "image", "amount": "6"}, {"model": "dall-e-3", "unit": "image", "amount": "7", "quality": "hd"})
    def quoted(**more):
        return money(gateway.admin.create("quotes", {"tenant": account.id, "model": "dall-e-2", "size": "256x256", **more})["wholesale"])
    assert quoted() == 1 and quoted(size="512x512") == 4 and quoted(size="1024x1024") == 5
    assert quoted(operation="edits") == 2 and quoted(operation="edits", size="512x512") == 3 and quoted(operation="variations", size="512x512") == 3
    assert quoted(model="dall-e-3", size="1024x1024") == 6 and quoted(model="dall-e-3", size="1024x1024", quality="hd") == 7
    with charges(account, "4"):
        assert account.post({**IMAGE, "size": "512x512"}).status_code == 200


@pytest.mark.parametrize("amount, per, markup, n, price", [
    ("0.000000000001", 1, "0", 1, "0.000000001"), ("0.000000001", 1000, "0", 10, "0.000000001"), ("0.0100000001", 1, "0", 3, "0.030000001"),
    ("0.019999999999", 1, "0", 1, "0.020000000"), ("1", 64, "0", 1, "0.015625000"), ("0.01", 1, "0.0001", 1, "0.010000010"), ("0.01", 1, "-100", 1, "0.000000000"),
    ("0.0000001", 1, "33.3333", 7, "0.000000934")])
def test_rounded_once_and_up(gateway, amount, per, markup, n, price):
    account = selling(gateway, rate(amount, per=per), markup_percent=markup)
    with charges(account, price):
        reply = account.post({**IMAGE, "n": n})
        assert reply.status_code == 200 and reply.headers["tallygate-charge"] == price


def test_a_price_for_each_request(gateway):
    account = selling(gateway, rate("0.01"), rate("0.005", unit="request"))
    with charges(account, "0.035"):
        assert account.post({**IMAGE, "n": 3}).status_code == 200


def test_tokens_by_the_million(gateway):
    unit = {"model": "gpt-image-1", "per": 1000000}
    account = selling(gateway, {**unit, "unit": "text_input_token", "amount": "5"}, {**unit, "unit": "image_input_token", "amount": "10"},
                      {**unit, "unit": "image_output_token", "amount": "40.000001"})
    with charges(account, "0.052420002"):  # 4 x 5 + 240 x 10 + 1250 x 40.000001, in millionths
        reply = account.post({"model": "gpt-image-1", "prompt": "[[usage=4,240,1250]]", "size": "1024x1024", "quality": "high"})
        assert reply.status_code == 200, reply.text
    shown = gateway.admin.get(f"price-books/{account.tenant['price_book']}")["rates"]
    assert {(r["unit"], r["amount"], r["per"]) for r in shown} == {("text_input_token", "5", 1000000), ("image_input_token", "10", 1000000), ("image_output_token", "40.000001", 1000000)}


def test_a_model_without_a_rate_is_not_sold(gateway):
    """Nothing falls back to another book."""
    account = selling(gateway, rate())
    before = account.balance()
    is_error(account.post({"model": "dall-e-3", "prompt": "x"}), 404, "model_not_found")
    empty = Account(gateway, tenant={"price_book": book(gateway.admin)})
    later = Account(gateway, tenant={"price_book": book(gateway.admin)})
    version(gateway.admin, later.tenant["price_book"], rate(), effective_from=at(3600))
    for other in (empty, later):
        is_error(other.post(IMAGE), 404, "model_not_found")
        assert other.balance()["posted"] == 10
    assert account.balance() == before


def test_a_new_version_holds_from_its_time_on(gateway, admin):
    account = selling(gateway, rate("0.01"))
    version(admin, account.tenant["price_book"], rate("0.02"), effective_from=at(2))
    with charges(account, "0.01"):
        assert account.post(IMAGE).status_code == 200
    time.sleep(2.1)
    with charges(account, "0.02"):
        assert account.post(IMAGE).status_code == 200
    version(admin, account.tenant["price_book"], rate("0.03"))
    with charges(account, "0.03"):
        assert account.post(IMAGE).status_code == 200


def test_a_call_keeps_the_prices_of_its_hold(gateway, admin):
    """Books, markups and wallets change while it runs; it pays what was pinned."""
    account = selling(gateway, rate("0.01"))
    retail = book(admin, rate("0.05"), kind="retail")
    mine = Customer(account, credit="5", price_book=retail)
    answers = []
    caller = threading.Thread(target=lambda: answers.append(mine.post({**IMAGE, "prompt": f"[[latency={2 * PATIENCE}s]]"})))
    caller.start()
    hold = gateway.wait_for(lambda: admin.get("holds", tenant=account.id)["data"], "the hold")[0]
    assert (hold["wholesale"], hold["retail"]) == ("0.010000000", "0.050000000")
    version(admin, account.tenant["price_book"], rate("1"))
    version(admin, retail, rate("2"))
    admin.patch(f"tenants/{account.id}", {"markup_percent": "300"})
    admin.patch(f"customers/{mine.id}", {"markup_percent": "400"})
    caller.join()
    assert answers[0].headers["tallygate-charge"] == "0.050000000"
    assert (account.settled()["posted"], mine.settled()["posted"]) == (money("9.99"), money("4.95"))


def test_cost_books_of_channels(own_gateway, sandbox):
    gateway = own_gateway().start()
    dear, wrong = book(gateway.admin, rate("0.5"), kind="cost"), book(gateway.admin, rate("0.5"), kind="retail")
    is_error(gateway.admin.call("POST", "channels", {"name": "x", "kind": "sandbox", "base_url": sandbox.base_url, "models": {"dall-e-2": "dall-e-2"}, "cost_book": wrong}), 400,
             param="cost_book")
    gateway.channel(sandbox, models=["dall-e-2"], cost_book=dear)
    account = Account(gateway)
    assert account.post(IMAGE).status_code == 200
    account.settled()
    assert (account.records()[0]["cost"], account.records()[0]["margin"]) == ("0.500000000", "-0.484000000")
    gateway.restart()
    assert gateway.admin.get(f"price-books/{dear}")["rates"][0]["amount"] == "0.5"
    gateway.stop()
    gateway.fsck()


# ---- who ----

def test_the_platforms_books_are_its_own(admin, account):
    """What tenants may do with books of theirs: test_58_books.py."""
    mine = book(admin, rate(), kind="retail")
    with admin.scoped(account.id) as tenant:
        for method, path, body in (("GET", f"price-books/{mine}", None), ("GET", f"price-books/{mine}/versions", None),
                                   ("POST", f"price-books/{mine}/versions", {"rates": [rate()]})):
            is_error(tenant.call(method, path, body), 404)
        assert tenant.get("price-books")["data"] == []
    assert len(admin.get(f"price-books/{mine}")["versions"]) == 1


def test_a_book_that_is_not_there(admin):
    missing = "pbk_" + "0" * 21 + "1"
    for method, path, body in (("GET", "", None), ("GET", "/versions", None), ("POST", "/versions", {"rates": [rate()]})):
        is_error(admin.call(method, f"price-books/{missing}{path}", body), 404, param="id")
