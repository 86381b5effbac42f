"""GET /v1/models, the checklist's rows 93-95: a key sees what it may buy; other methods and paths are refused as OpenAI refuses them."""

import httpx
import pytest

from lib.admin import Account
from lib.check import has_request_id, is_error, untouched
from lib.http2 import Http2
from lib.wire import exchange, request

EVERY = ["dall-e-2", "dall-e-3", "gpt-image-1"]


@pytest.fixture(scope="module")
def shop(bare_gateway, sandbox):
    """Three channels: two that serve, of which one also a model without a price, and a disabled one."""
    bare_gateway.channel(sandbox, name="first", models=["dall-e-2", "gpt-image-1", "no-price-at-all"])
    bare_gateway.channel(sandbox, name="second", models=["dall-e-3", "gpt-image-1"])
    closed = bare_gateway.channel(sandbox, name="closed", models=["gpt-image-2"])
    bare_gateway.admin.patch(f"channels/{closed['id']}", {"status": "disabled"})
    return bare_gateway


@pytest.fixture
def account(shop):
    return Account(shop)


def get(account, path="/v1/models", **headers):
    return httpx.get(account.gateway.public_url + path, headers={**account.authorization, **headers}, trust_env=False)


def ids(account):
    reply = get(account)
    assert reply.status_code == 200, reply.text
    has_request_id(reply)
    body = reply.json()
    assert set(body) >= {"object", "data"} and body["object"] == "list"
    for model in body["data"]:
        assert model["object"] == "model" and isinstance(model["created"], int) and model["created"] > 1_700_000_000 and isinstance(model["owned_by"], str)
    return [m["id"] for m in body["data"]]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "FOO"])
@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/images/edits", "/v1/images/variations"])
def test_row_93_wrong_method(account, sandbox, method, path):
    with untouched(account, sandbox):
        reply = exchange(account.gateway, request(method, path, account.authorization))
        is_error(reply, 405, None, message=rf"^Not allowed to {method} on {path}\. \(HINT: Perhaps you meant to use a different HTTP method\?\)$")
        assert reply.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/v1/images/foo", "/v1/images/edits/", "//v1//images/edits", "/v1/images/edits/../edits", "/v1/%2e%2e/v1/images/edits", "/v1/images%2fedits",
                                  "/v1/images/variations/x", "/V1/images/edits", "/v1/images/edits%00", "/v1/images/edits;x", "/images/edits"])
def test_row_94_wrong_path(account, sandbox, path):
    from lib.form import content_type, file, form, text
    from lib.picture import png
    body = form(text("model", "gpt-image-1"), text("prompt", "x"), file("image", png(8)))
    with untouched(account, sandbox):
        error = is_error(exchange(account.gateway, request("POST", path, {**account.authorization, "Content-Type": content_type()}, body)), 404, None)
    assert error["message"].startswith("Invalid URL (POST ")


def test_row_95_what_can_be_bought(account):
    """Sorted, each once, only what an open channel serves and a book has a price for."""
    assert ids(account) == EVERY


def test_row_95_one_model(account):
    listed = {m["id"]: m for m in get(account).json()["data"]}
    for name in EVERY:
        assert get(account, f"/v1/models/{name}").json() == listed[name]


@pytest.mark.parametrize("name", ["nope", "x%2Fy", "gpt-image-2", "no-price-at-all", "dall-e-2%00", "DALL-E-2", "dall-e-2%2F", "a" * 200])
def test_row_95_no_such_model(account, name):
    is_error(get(account, f"/v1/models/{name}"), 404, "model_not_found")


def test_row_95_message(account):
    is_error(get(account, "/v1/models/x%2Fy"), 404, "model_not_found", param="model", message=r"^The model `x/y` does not exist or you do not have access to it\.$")


def test_row_95_names_with_slashes(shop, sandbox):
    """Sold by the picture from a book of its own names; %2F and / are the same id."""
    channel = shop.channel(sandbox, name="slash", models={"gpt-image-1.5": "gpt-image-1"})
    account = Account(shop)
    assert "gpt-image-1.5" in ids(account)
    shop.admin.delete(f"channels/{channel['id']}")
    assert "gpt-image-1.5" not in ids(account)


@pytest.mark.parametrize("policy, seen", [({"models": ["dall-e-3"]}, ["dall-e-3"]), ({"models": ["dall-e-3", "no-price-at-all", "gpt-image-2"]}, ["dall-e-3"]), ({"max_n": 1}, EVERY)])
@pytest.mark.parametrize("where", ["key", "tenant"])
def test_row_95_what_the_key_may_use(shop, policy, seen, where):
    """The list says what a call would say."""
    account = Account(shop, **{where: {"policy": policy}})
    listed = ids(account)
    assert listed == seen
    for name in EVERY:
        called = account.post({"model": name, "prompt": "x", "size": "1024x1024"}).status_code
        assert (called == 200) == (name in listed), name
        assert (get(account, f"/v1/models/{name}").status_code == 200) == (name in listed)


def test_row_95_channels_of_a_tenant(shop, sandbox):
    """A channel that is one tenant's shows to nobody else."""
    mine, other = Account(shop), Account(shop)
    channel = shop.channel(sandbox, name="mine", models=["gpt-image-1-mini"], tenants=[mine.id])
    assert "gpt-image-1-mini" in ids(mine) and "gpt-image-1-mini" not in ids(other)
    shop.admin.delete(f"channels/{channel['id']}")


def test_row_95_needs_a_key(account, shop):
    is_error(httpx.get(shop.base_url + "/models", trust_env=False), 401, None)
    is_error(get(account, Authorization="Bearer sk-tg-wrong"), 401, "invalid_api_key")
    is_error(get(account, "/v1/models/dall-e-2", Authorization="Bearer sk-tg-wrong"), 401, "invalid_api_key")


def test_row_95_needs_no_money(shop):
    assert ids(Account(shop, credit=None)) == EVERY


def test_row_95_a_suspended_account(shop):
    account = Account(shop)
    shop.admin.patch(f"tenants/{account.id}", {"status": "suspended"})
    is_error(get(account), 403, "account_suspended")


def test_row_95_over_http2(account):
    with Http2(account.gateway) as http:
        number = http.peer.get_next_available_stream_id()
        from lib.http2 import Stream
        http.streams[number] = Stream()
        http.peer.send_headers(number, [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/v1/models"), ("authorization", f"Bearer {account.secret}")], end_stream=True)
        http.push()
        got = http.finish(number)
    assert got.status == 200 and [m["id"] for m in got.json()["data"]] == EVERY


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT"])
def test_row_95_is_read_only(account, method):
    is_error(exchange(account.gateway, request(method, "/v1/models", account.authorization)), 405, None)
    is_error(exchange(account.gateway, request(method, "/v1/models/dall-e-2", account.authorization)), 405, None)
