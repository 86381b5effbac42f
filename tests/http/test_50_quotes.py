"""Quotes say what is charged: per-image models to the nano-dollar, per-token ones as an upper bound; and they move nothing."""

import pytest

from lib.admin import Account
from lib.check import charges, is_error, money

PER_IMAGE = [("dall-e-2", "256x256", None, "0.016"), ("dall-e-2", "512x512", None, "0.018"), ("dall-e-2", "1024x1024", None, "0.02"),
             ("dall-e-3", "1024x1024", None, "0.04"), ("dall-e-3", "1024x1024", "standard", "0.04"), ("dall-e-3", "1024x1792", "standard", "0.08"),
             ("dall-e-3", "1792x1024", "standard", "0.08"), ("dall-e-3", "1024x1024", "hd", "0.08"), ("dall-e-3", "1024x1792", "hd", "0.12"),
             ("dall-e-3", "1792x1024", "hd", "0.12")]


@pytest.mark.parametrize("model, size, quality, price", PER_IMAGE)
def test_quotes_equal_charges(gateway, account, model, size, quality, price):
    asked = {"model": model, "size": size, **({"quality": quality} if quality else {})}
    before = account.balance()
    quote = gateway.admin.create("quotes", {"tenant": account.id, **asked})
    assert account.balance() == before
    assert money(quote["wholesale"]) == money(quote["hold"]) == money(quote["cost"]) == money(price), quote
    assert sum(money(line["amount"]) for line in quote["lines"]) == money(price)
    with charges(account, price):
        reply = account.post({**asked, "prompt": "x"})
        assert reply.status_code == 200, reply.text
        assert reply.headers["tallygate-charge"] == quote["wholesale"]


@pytest.mark.parametrize("n", [1, 2, 7, 10])
def test_quotes_count_images(gateway, account, n):
    quote = gateway.admin.create("quotes", {"key": account.key["id"], "model": "dall-e-2", "size": "512x512", "n": n})
    with charges(account, money(quote["wholesale"])):
        assert account.post({"model": "dall-e-2", "size": "512x512", "n": n, "prompt": "x"}).status_code == 200


@pytest.mark.parametrize("model", ["gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "gpt-image-2"])
@pytest.mark.parametrize("quality", ["low", "medium", "high", "auto"])
def test_a_hold_is_never_too_small(gateway, account, model, quality):
    prompt = "a sea otter " * 20
    quote = gateway.admin.create("quotes", {"tenant": account.id, "model": model, "size": "1024x1024", "quality": quality, "prompt_tokens": len(prompt)})
    reply = account.post({"model": model, "size": "1024x1024", "quality": quality, "prompt": prompt})
    assert reply.status_code == 200, reply.text[:300]
    spent = account.credited - account.settled()["posted"]
    assert 0 < spent <= money(quote["hold"]), (spent, quote)
    assert account.records()[0]["flags"] == []


def test_auto_is_quoted_at_its_dearest(gateway):
    def hold(**more):
        return money(gateway.admin.create("quotes", {"model": "gpt-image-1", "prompt_tokens": 10, **more})["hold"])
    assert hold() == hold(size="auto", quality="auto") >= hold(size="1024x1536", quality="high") > hold(size="1024x1024", quality="low")


def test_markup(gateway):
    account = Account(gateway, tenant={"markup_percent": "12.5"})
    quote = gateway.admin.create("quotes", {"tenant": account.id, "model": "dall-e-3", "size": "1024x1024"})
    assert (money(quote["cost"]), money(quote["wholesale"])) == (money("0.04"), money("0.045"))
    with charges(account, "0.045"):
        assert account.post({"model": "dall-e-3", "size": "1024x1024", "prompt": "x"}).headers["tallygate-charge"] == "0.045000000"
    record = account.records()[0]
    assert (record["cost"], record["wholesale"], record["margin"]) == ("0.040000000", "0.045000000", "0.005000000")


def test_markup_is_rounded_once_and_up(gateway):
    """33.3333 % on 20 and 1056 tokens: one nano-dollar up, not one a line."""
    from fractions import Fraction
    from math import ceil
    account = Account(gateway, tenant={"markup_percent": "33.3333"})
    exact = Fraction(20 * 5_000_000 + 1057 * 40_000_000, 10**12) * (1 + Fraction("33.3333") / 100)
    price = money(str(ceil(exact * 10**9))) / 10**9
    with charges(account, price):
        assert account.post({"model": "gpt-image-1", "prompt": "x [[usage=20,0,1057]]", "size": "1024x1024"}).status_code == 200


def test_credit_line(gateway):
    account = Account(gateway, credit=None, tenant={"credit_limit": "0.05"})
    assert account.balance()["available"] == money("0.05")
    with charges(account, "0.04", records=2):
        for _ in range(2):
            assert account.post({"model": "dall-e-2", "prompt": "x", "size": "1024x1024"}).status_code == 200
    is_error(account.post({"model": "dall-e-2", "prompt": "x", "size": "1024x1024"}), 429, "insufficient_quota", type="insufficient_quota")
    assert account.balance() == {"posted": money("-0.04"), "held": 0, "available": money("0.01")}


@pytest.mark.parametrize("body, param", [({}, "model"), ({"model": "nope"}, "any"), ({"model": "dall-e-2", "size": "1x1"}, "size"),
                                         ({"model": "dall-e-2", "n": 0}, "n"), ({"model": "dall-e-2", "surprise": 1}, "surprise")])
def test_bad_quotes(gateway, body, param):
    reply = gateway.admin.call("POST", "quotes", body)
    assert reply.status_code in (400, 404), reply.text
    is_error(reply, reply.status_code, param=param)
