"""What every call of the admin API has in common: request_id in errors, strict queries, Idempotency-Key, If-Match."""

import re
import socket
import threading
from pathlib import Path

import httpx
import pytest

from lib import wire
from lib.admin import Account, Admin, Customer, unique
from lib.check import has_request_id, is_error
from lib.process import PATIENCE

CALL = {"model": "dall-e-2", "prompt": "x", "size": "256x256"}
ROUTES = re.findall(r'^ROUTE\(\w+, "(\w+)", "/admin/v1/([^"]*)"', (Path(__file__).parents[2] / "admin/routes.def").read_text(), re.M)
KINDS = {"tenants": "ten", "customers": "cus", "keys": "key", "channels": "chn", "price-books": "pbk", "admin-tokens": "adt", "grants": "grt", "holds": "hld",
         "records": "use"}


@pytest.fixture
def admin(gateway):
    return gateway.admin


def path_of(pattern, id=None):
    """The pattern with an id of its kind in it: <id>, or one that is nobody's."""
    return pattern if "{id}" not in pattern else pattern.replace("{id}", id or KINDS[pattern.split("/{id}")[0].rsplit("/", 1)[-1]] + "_00000000000000000000XX")


# ---- errors ----

def has_own_id(reply):
    """The error object tells the request id of the header, as its fifth and last key."""
    has_request_id(reply)
    error = reply.json()["error"]
    assert list(error) == ["message", "type", "param", "code", "request_id"], error
    assert error["request_id"] == reply.headers["x-request-id"]
    return error["request_id"]


def test_errors_tell_their_request_id(gateway, admin, account):
    key = {"Idempotency-Key": unique("id")}
    admin.create("tenants", {"name": "once"}, headers=key)
    with admin.scoped(account.id, "viewer") as viewer, Admin(gateway.admin_url, "ta-x") as nobody:
        replies = [
            (401, nobody.call("GET", "tenants")), (403, viewer.call("PATCH", f"tenants/{account.id}", {})), (404, admin.call("GET", "nowhere")),
            (404, admin.call("GET", path_of("keys/{id}"))), (404, viewer.call("GET", "channels")), (405, admin.call("PUT", "tenants")),
            (400, admin.call("POST", "tenants", {})), (400, admin.call("GET", "tenants", params={"limit": 0})), (400, admin.http.post("/tenants", content=b"{")),
            (409, admin.call("DELETE", f"tenants/{account.id}")), (412, admin.call("PATCH", f"tenants/{account.id}", {}, headers={"If-Match": '"0"'})),
            (422, admin.call("POST", "tenants", {"name": "twice"}, headers=key)), (404, httpx.get(gateway.admin_url + "/", trust_env=False)),
            (413, admin.http.post("/tenants", content=b" " * (4 * 1024 * 1024 + 1)))]
    for status, reply in replies:
        assert reply.status_code == status, reply.text
    assert len({has_own_id(reply) for _, reply in replies}) == len(replies)


@pytest.mark.parametrize("sent, status", [(b"GARBAGE\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
                                          (b"POST /admin/v1/tenants HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", 413),
                                          (b"POST /admin/v1/tenants HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400)])
def test_errors_before_there_is_a_call(gateway, admin, sent, status):
    def ask(port):
        with socket.create_connection(("127.0.0.1", port), 30 * PATIENCE) as sock:
            sock.sendall(sent)
            return wire.read_reply(sock)
    reply = ask(gateway.admin_port)
    assert reply.status == status
    has_own_id(reply)
    public = ask(gateway.public_port).json()["error"]
    assert list(public) == ["message", "type", "param", "code"], "OpenAI's own four"


def test_errors_over_http2(gateway):
    with httpx.Client(http1=False, http2=True, trust_env=False, timeout=60 * PATIENCE) as http:
        for path in ("/nowhere", "/admin/v1/tenants"):
            has_own_id(http.get(gateway.admin_url + path))


def test_public_errors_are_openais(gateway, account):
    account.secret = "sk-tg-x"
    for reply in (account.post(CALL), httpx.get(gateway.public_url + "/nowhere", trust_env=False), httpx.put(gateway.base_url + "/models", trust_env=False)):
        has_request_id(reply)
        assert list(reply.json()["error"]) == ["message", "type", "param", "code"]


# ---- queries and bodies ----

@pytest.mark.parametrize("method, pattern", ROUTES)
def test_unknown_parameters_are_refused(admin, method, pattern):
    """On every route there is, before anything is looked up."""
    body = {} if method in ("POST", "PATCH") else None
    reply = admin.call(method, path_of(pattern), body, params={"surprise": "1"}, headers={"Idempotency-Key": unique("q")})
    is_error(reply, 400, "unknown_parameter", param="surprise")


@pytest.mark.parametrize("query", ["limit=", "after=", "limit=1&limit=2", "limit=%zz", "limit=1%00", "%ff=1", "external_id=%ff%fe", "external_id=%00", "limit=1e1", "limit=0x1",
                                   "limit=-1", "limit=99999999999999999999", "limit=٣", "after=ten_", "after=key_00000000000000000000XX", "=", "a" * 100 + "=1",
                                   "external_id=" + "x" * 500])
def test_bad_queries(gateway, admin, query):
    is_error(httpx.get(f"{gateway.admin_url}/admin/v1/tenants?{query}", headers=admin.http.headers, trust_env=False), 400)


def test_content_types(admin):
    for kind in (None, "application/json", "application/x-www-form-urlencoded", "text/plain; charset=utf-8"):
        reply = admin.http.post("/tenants", content=b'{"name": "typed"}', headers={"Content-Type": kind} if kind else {})
        assert reply.status_code == 200, reply.text
    for kind in ("multipart/form-data; boundary=x", "Multipart/Mixed"):
        is_error(admin.http.post("/tenants", content=b'{"name": "typed"}', headers={"Content-Type": kind}), 400, "unsupported_content_type")


def test_bodies_where_none_belong_are_ignored(admin):
    made = admin.create("tenants", {"name": "bodied"})
    assert admin.call("GET", f"tenants/{made['id']}", {"name": "x"}).json() == made
    assert admin.call("DELETE", f"tenants/{made['id']}", {"surprise": 1}).status_code == 200


# ---- Idempotency-Key ----

def posts(gateway):
    """(pattern, path, body) of one call for every POST route."""
    admin, account = gateway.admin, Account(gateway)
    customer = Customer(account, credit="5")
    assert account.post(CALL).status_code == 200
    account.settled()
    book = admin.create("price-books", {"name": unique("book"), "kind": "retail"})
    made = [("tenants", {"name": unique("t")}), ("customers", {"tenant": account.id, "name": "c"}), ("keys", {"tenant": account.id, "name": "k"}),
            ("keys/bulk", {"keys": [{"tenant": account.id, "name": "a"}, {"tenant": account.id, "name": "b"}]}), ("keys/{id}/rotate", {}, customer.key["id"]),
            ("keys/{id}/revoke", {}, customer.key["id"]), ("price-books", {"name": unique("book"), "kind": "retail"}),
            ("price-books/{id}/versions", {"rates": [{"model": "dall-e-2", "unit": "image", "amount": "1"}]}, book["id"]),
            ("channels", {"name": unique("ch"), "kind": "sandbox", "base_url": "http://127.0.0.1:1/v1", "models": {"none": "none"}}),
            ("channels/{id}/test", {}, admin.get("channels")["data"][-1]["id"]), ("quotes", {"tenant": account.id, "model": "dall-e-2", "size": "256x256"}),
            ("admin-tokens", {"name": unique("token"), "scope": account.id}), ("tenants/{id}/credits", {"amount": "1"}, account.id),
            ("customers/{id}/credits", {"amount": "1"}, customer.id), ("grants/{id}/void", {"note": "n"}, admin.grants(account.id)[0]["id"]),
            ("usage/records/{id}/refund", {"reason": "r", "amount": "0.001"}, account.records()[0]["id"])]
    return [(p, path_of(p, *id), body) for p, body, *id in made]


def test_every_post_is_done_once(gateway):
    """Four at a time with one key: one is applied, all get its answer; another body under that key is 422."""
    admin, done = gateway.admin, set()
    clients = [Admin(gateway.admin_url, gateway.token) for _ in range(4)]
    for pattern, path, body in posts(gateway):
        key, answers = {"Idempotency-Key": unique("once")}, []
        threads = [threading.Thread(target=lambda c=c: answers.append(c.call("POST", path, body, headers=key))) for c in clients]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert {a.status_code for a in answers} == {200}, (pattern, answers[0].text)
        assert len({a.content for a in answers}) == 1, (pattern, {a.text for a in answers})
        assert admin.call("POST", path, body, headers=key).content == answers[0].content
        is_error(admin.call("POST", path, {**body, "other": 1}, headers=key), 422, "idempotency_key_reused")
        is_error(admin.call("POST", "quotes", body, headers=key), 422, "idempotency_key_reused") if pattern != "quotes" else None
        done.add(pattern)
    [c.close() for c in clients]
    elsewhere = {"holds/{id}/resolve"}  # test_53_money.py
    assert done | elsewhere == {pattern for method, pattern in ROUTES if method == "POST"}


def test_a_quote_is_kept(gateway, admin, account):
    body, key = {"tenant": account.id, "model": "dall-e-2", "size": "256x256"}, {"Idempotency-Key": unique("quote")}
    first = admin.call("POST", "quotes", body, headers=key)
    admin.patch(f"tenants/{account.id}", {"markup_percent": "50"})
    assert admin.call("POST", "quotes", body, headers=key).content == first.content
    assert admin.create("quotes", body) != first.json()
    with admin.scoped(account.id, "viewer") as viewer:
        assert [viewer.call("POST", "quotes", body, headers=key).status_code for _ in range(2)] == [200, 200], "a viewer's own key"


def test_a_refused_call_leaves_the_key_free(admin):
    key = {"Idempotency-Key": unique("free")}
    is_error(admin.call("POST", "tenants", {"name": ""}, headers=key), 400)
    assert admin.call("POST", "tenants", {"name": "now"}, headers=key).status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\tin it", "é"])
def test_bad_idempotency_keys(gateway, admin, key):
    reply = httpx.post(gateway.admin_url + "/admin/v1/tenants", json={"name": "x"}, trust_env=False,
                       headers=[(b"Authorization", f"Bearer {gateway.token}".encode()), (b"Idempotency-Key", key.encode())])
    is_error(reply, 400, "invalid_value", param="Idempotency-Key")


# ---- If-Match ----

@pytest.mark.parametrize("kind, body", [("tenants", {}), ("customers", {"tenant": "own"}), ("keys", {"tenant": "own"}),
                                        ("channels", {"kind": "sandbox", "base_url": "http://127.0.0.1:1/v1", "models": {"none": "none"}}),
                                        ("admin-tokens", {"scope": "own"}), ("price-books", {"kind": "retail"})])
def test_etags_guard_every_change(admin, account, kind, body):
    made = admin.create(kind, {"name": unique(kind), **{k: account.id if v == "own" else v for k, v in body.items()}})
    path, tag = f"{kind}/{made['id']}", made["etag"]
    assert re.match(r'^"\d+"$', tag)
    verbs = {method for method, pattern in ROUTES if pattern == kind + "/{id}"}
    if "GET" in verbs:
        shown = admin.call("GET", path)
        assert shown.headers["etag"] == shown.json()["etag"] == tag
    if "PATCH" in verbs:
        changed = admin.call("PATCH", path, {"name": "changed"}, headers={"If-Match": f'"999", {tag}'})
        assert changed.status_code == 200 and changed.json()["etag"] == changed.headers["etag"] != tag
        is_error(admin.call("PATCH", path, {"name": "late"}, headers={"If-Match": tag}), 412, "precondition_failed", param="If-Match")
        assert admin.get(path)["name"] == "changed"
        tag = changed.json()["etag"]
    if "DELETE" in verbs:
        for stale in (made["etag"] if tag != made["etag"] else '"999"', "W/" + tag, "", tag.strip('"')):
            is_error(admin.call("DELETE", path, headers={"If-Match": stale}), 412, "precondition_failed", param="If-Match")
        assert admin.call("DELETE", path, headers={"If-Match": tag}).status_code == 200
        is_error(admin.call("DELETE", path), 404, "not_found")
