"""The admin API from outside: shapes, paging, idempotency, etags, scopes, secrets; contract section 4."""

import json
import re
import sqlite3

import httpx
import pytest

from lib.admin import Account, Admin, unique
from lib.check import anonymous, has_request_id, is_error, money
from lib.process import PATIENCE

RFC3339 = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")


@pytest.fixture
def admin(gateway):
    return gateway.admin


def tenant(admin, **more):
    return admin.create("tenants", {"name": unique("acme"), **more})


def test_tenant_shape(admin):
    made = tenant(admin, external_id=unique("crm"))
    assert made["id"].startswith("ten_") and made["status"] == "active" and made["timezone"] == "UTC"
    assert RFC3339.match(made["created_at"])
    assert {k: money(v) for k, v in made["balance"].items() if k in ("posted", "held", "available")} == {"posted": 0, "held": 0, "available": 0}
    again = admin.get(f"tenants/{made['id']}")
    assert again == made


def test_every_answer_has_a_request_id(gateway, admin):
    for reply in (admin.call("GET", "tenants"), admin.call("POST", "tenants", {}), admin.call("GET", "nowhere"), admin.call("PUT", "tenants"),
                  httpx.get(gateway.admin_url + "/healthz", trust_env=False)):
        has_request_id(reply)


@pytest.mark.parametrize("path, status", [("nowhere", 404), ("tenants/ten_x/nowhere", 404), ("openapi.yaml", 404)])
def test_unknown_routes(admin, path, status):
    is_error(admin.call("GET", path), status)


def test_wrong_method(admin):
    assert admin.call("PUT", "tenants").status_code == 405
    is_error(admin.call("DELETE", "tenants"), 405)


@pytest.mark.parametrize("token", [None, "ta-x", "sk-tg-x", "ta-" + "0" * 49])
def test_without_a_good_token(gateway, token):
    with httpx.Client(trust_env=False) as http:
        reply = http.get(gateway.admin_url + "/admin/v1/tenants", headers={"Authorization": f"Bearer {token}"} if token is not None else {})
    is_error(reply, 401)


def test_an_api_key_is_no_admin_token(gateway, account):
    is_error(httpx.get(gateway.admin_url + "/admin/v1/tenants", headers={"Authorization": f"Bearer {account.secret}"}, trust_env=False), 401)
    is_error(account.post({"model": "dall-e-2", "prompt": "x"}, headers={"Authorization": f"Bearer {gateway.token}"}), 401)


# ---- bodies ----

@pytest.mark.parametrize("body, param", [
    ({"name": "x", "surprise": 1}, "surprise"), ({}, "name"), ({"name": ""}, "name"), ({"name": 5}, "name"), ({"name": None}, "name"), ({"name": "x" * 5000}, "name"),
    ({"name": "x", "credit_limit": 5}, "credit_limit"), ({"name": "x", "credit_limit": "-1"}, "credit_limit"), ({"name": "x", "credit_limit": "1e3"}, "credit_limit"),
    ({"name": "x", "credit_limit": "0.0000000001"}, "credit_limit"), ({"name": "x", "credit_limit": "99999999999999999999"}, "credit_limit"),
    ({"name": "x", "markup_percent": "x"}, "markup_percent"), ({"name": "x", "timezone": "Mars/Olympus"}, "timezone"), ({"name": "x", "status": "dead"}, "status"),
    ({"name": "x", "in_doubt": "maybe"}, "in_doubt"), ({"name": "x", "policy": {"colour": 1}}, "any"), ({"name": "x", "policy": {"max_n": "2"}}, "any"),
    ({"name": "x", "policy": {"ip_allow": ["10.0.0.0/99"]}}, "any"), ({"name": "x", "price_book": "pbk_nope"}, "price_book"), ({"name": "a\u0000b"}, "name")])
def test_bad_tenants(admin, body, param):
    reply = admin.call("POST", "tenants", body)
    assert reply.status_code in (400, 404), reply.text
    is_error(reply, reply.status_code, param=param)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b'{"name":"x","name":"y"}', b'{"name":"\xff"}', b"[" * 100000])
def test_bad_json(admin, content):
    is_error(admin.http.post("/tenants", content=content, headers={"Content-Type": "application/json"}), 400)


@pytest.mark.parametrize("kind", ["keys", "channels", "admin-tokens"])
def test_unknown_field_elsewhere(admin, kind):
    error = is_error(admin.call("POST", kind, {"name": "x", "surprise": 1}), 400)
    assert "surprise" in (error["param"] or "") + error["message"]


# ---- money ----

@pytest.mark.parametrize("amount", [5, "0", "", "x", "1,5", "1.0000000001", "1e3", " 1", "+1", "99999999999999", None, "0x10", "１"])
def test_bad_amounts(admin, amount):
    mine = tenant(admin)
    is_error(admin.call("POST", f"tenants/{mine['id']}/credits", {"amount": amount}, headers={"Idempotency-Key": unique("k")}), 400, param="amount")
    assert admin.balance(mine["id"])["posted"] == 0


def test_credit_needs_an_idempotency_key(admin):
    mine = tenant(admin)
    is_error(admin.call("POST", f"tenants/{mine['id']}/credits", {"amount": "1"}), 400, "missing_required_parameter", param="Idempotency-Key")
    is_error(admin.call("POST", f"tenants/{mine['id']}/credits", {"amount": "1"}, headers={"Idempotency-Key": "x" * 5000}), 400)
    assert admin.balance(mine["id"])["posted"] == 0


def test_credit_is_given_once(admin):
    mine, key = tenant(admin), unique("once")
    first = admin.call("POST", f"tenants/{mine['id']}/credits", {"amount": "25.00", "note": "invoice 7"}, headers={"Idempotency-Key": key})
    assert first.json()["id"].startswith("grt_") and money(first.json()["amount"]) == 25
    for _ in range(3):
        again = admin.call("POST", f"tenants/{mine['id']}/credits", {"amount": "25.00", "note": "invoice 7"}, headers={"Idempotency-Key": key})
        assert (again.status_code, again.content) == (first.status_code, first.content)
    is_error(admin.call("POST", f"tenants/{mine['id']}/credits", {"amount": "26.00", "note": "invoice 7"}, headers={"Idempotency-Key": key}), 422, "idempotency_key_reused")
    other = tenant(admin)
    is_error(admin.call("POST", f"tenants/{other['id']}/credits", {"amount": "25.00", "note": "invoice 7"}, headers={"Idempotency-Key": key}), 422, "idempotency_key_reused")
    assert admin.balance(mine["id"])["posted"] == 25 and admin.balance(other["id"])["posted"] == 0


def test_credit_is_given_once_in_a_race(admin, gateway):
    import threading
    mine, key, answers = tenant(admin), unique("race"), []

    def call():
        own = Admin(gateway.admin_url, gateway.token)
        answers.append(own.call("POST", f"tenants/{mine['id']}/credits", {"amount": "3"}, headers={"Idempotency-Key": key}))
        own.close()
    threads = [threading.Thread(target=call) for _ in range(16)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert admin.balance(mine["id"])["posted"] == 3
    assert {a.status_code for a in answers} <= {200, 201, 409}
    assert len({a.content for a in answers if a.status_code < 300}) == 1


def test_idempotency_survives_a_restart(own_gateway):
    gateway = own_gateway().start()
    mine = tenant(gateway.admin)
    first = gateway.admin.call("POST", f"tenants/{mine['id']}/credits", {"amount": "25.00"}, headers={"Idempotency-Key": "k"})
    gateway.restart()
    again = gateway.admin.call("POST", f"tenants/{mine['id']}/credits", {"amount": "25.00"}, headers={"Idempotency-Key": "k"})
    assert again.content == first.content and gateway.admin.balance(mine["id"])["posted"] == 25
    gateway.stop()
    gateway.fsck()


def test_adjustments(admin):
    mine = tenant(admin)
    admin.credit(mine["id"], "5")
    admin.credit(mine["id"], "-2", note="typed wrongly")
    assert admin.balance(mine["id"])["posted"] == 3
    is_error(admin.call("POST", f"tenants/{mine['id']}/credits", {"amount": "-1"}, headers={"Idempotency-Key": unique("k")}), 400, param="note")
    reply = admin.call("POST", f"tenants/{mine['id']}/credits", {"amount": "-4", "note": "too much"}, headers={"Idempotency-Key": unique("k")})
    assert reply.status_code in (409, 429) and admin.balance(mine["id"])["posted"] == 3, reply.text


# ---- etags ----

def test_if_match(admin):
    mine = tenant(admin)
    tag = mine["etag"]
    got = admin.call("GET", f"tenants/{mine['id']}")
    assert got.json()["etag"] == tag and got.headers["etag"] == tag
    changed = admin.patch(f"tenants/{mine['id']}", {"name": "changed"}, headers={"If-Match": tag})
    assert changed["name"] == "changed" and changed["etag"] != tag
    is_error(admin.call("PATCH", f"tenants/{mine['id']}", {"name": "late"}, headers={"If-Match": tag}), 412, "precondition_failed")
    assert admin.get(f"tenants/{mine['id']}")["name"] == "changed"
    admin.patch(f"tenants/{mine['id']}", {"name": "any"}, headers={"If-Match": "*"})
    admin.patch(f"tenants/{mine['id']}", {"name": "none"})


# ---- lists ----

def test_paging(admin):
    made = [tenant(admin)["id"] for _ in range(7)]
    seen, after, pages = [], None, 0
    while True:
        page = admin.get("tenants", limit=3, **({"after": after} if after else {}))
        assert page["object"] == "list" and len(page["data"]) <= 3
        seen += [t["id"] for t in page["data"]]
        pages += 1
        if not page["has_more"]:
            assert page["next"] is None
            break
        after = page["next"]
    assert len(seen) == len(set(seen)) and set(made) <= set(seen) and pages >= 3
    assert seen[:7] == made[::-1], "newest first"
    assert len(admin.get("tenants")["data"]) <= 20


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"limit": "x"}, {"limit": "1 "}, {"after": "nonsense"}, {"surprise": 1}])
def test_bad_pages(admin, query):
    is_error(admin.call("GET", "tenants", params=query), 400, param=next(iter(query)))


def test_usage_records_page_and_filter(gateway, admin):
    account = Account(gateway)
    sizes = ["256x256", "512x512", "1024x1024"]
    for i in range(6):
        assert account.post({"model": "dall-e-2", "prompt": "x", "size": sizes[i % 3]}).status_code == 200
    account.settled()
    everything = admin.records(tenant=account.id)
    assert len(everything) == 6 and all(r["id"].startswith("use_") for r in everything)
    paged, after = [], None
    while True:
        page = admin.get("usage/records", tenant=account.id, limit=2, **({"after": after} if after else {}))
        paged += page["data"]
        if not page["has_more"]:
            break
        after = page["next"]
    assert paged == everything
    assert [r["size"] for r in admin.records(tenant=account.id, size="512x512")] == ["512x512"] * 2
    assert len(admin.records(key=account.key["id"], model="dall-e-2")) == 6
    assert admin.records(tenant=account.id, model="dall-e-3") == []
    import time
    assert admin.records(tenant=account.id, end_time=int(time.time()) - 3600) == []
    assert len(admin.records(tenant=account.id, start_time=int(time.time()) - 3600)) == 6
    record = everything[0]
    assert {"request_id", "upstream_request_id", "channel", "operation", "stream", "n", "images", "partial_images", "text_input_tokens", "cached_text_input_tokens",
            "image_input_tokens", "cached_image_input_tokens", "image_output_tokens", "text_output_tokens", "cost", "wholesale", "retail", "margin", "refunded",
            "flags", "attempts", "duration_ms"} <= set(record), record
    assert record["attempts"][0]["status"] == 200 and record["stream"] is False


# ---- keys ----

def test_key_secret_is_shown_once(gateway, admin, account):
    key = account.key
    shown = admin.get(f"keys/{key['id']}")
    assert "secret" not in shown and key["secret"] not in str(shown)
    assert key["secret"].startswith(shown["prefix"]) and key["secret"].endswith(shown["last4"])
    assert all("secret" not in k for k in admin.get("keys")["data"])
    assert "secret" not in admin.patch(f"keys/{key['id']}", {"name": "renamed"})
    assert (shown["tenant"], shown["mode"]) == (account.id, "live")


def test_key_create_replays_the_same_secret(admin):
    mine = tenant(admin)
    first, second = (admin.call("POST", "keys", {"tenant": mine["id"], "name": "k"}, headers={"Idempotency-Key": "key-once"}) for _ in range(2))
    assert first.content == second.content and first.json()["secret"].startswith("sk-tg-")
    assert len(admin.get("keys", tenant=mine["id"])["data"]) == 1


@pytest.mark.parametrize("body, status", [({"name": "x"}, 400), ({"tenant": "ten_nope", "name": "x"}, 404), ({"tenant": 5, "name": "x"}, 400),
                                          ({"name": "x", "mode": "play"}, 400)])
def test_bad_keys(admin, body, status):
    if status == 400 and "mode" in body:
        body["tenant"] = tenant(admin)["id"]
    reply = admin.call("POST", "keys", body)
    assert reply.status_code in (400, 404) and (status == 404 or reply.status_code == 400), reply.text


def test_expiry_in_the_past(admin):
    is_error(admin.call("POST", "keys", {"tenant": tenant(admin)["id"], "name": "x", "expires_at": "2020-01-01T00:00:00Z"}), 400, param="expires_at")


def test_delete(gateway, admin, account):
    mine = tenant(admin)
    gone = admin.delete(f"tenants/{mine['id']}")
    assert gone == {"id": mine["id"], "object": "tenant", "deleted": True}
    is_error(admin.call("GET", f"tenants/{mine['id']}"), 404)
    is_error(admin.call("DELETE", f"tenants/{account.id}"), 409, "conflict")
    assert admin.get(f"tenants/{account.id}")["status"] == "active"
    assert admin.delete(f"keys/{account.key['id']}")["deleted"] is True


# ---- scopes ----

@pytest.fixture
def scoped(gateway, admin, account):
    """A token that sees <account>'s tenant alone."""
    made = admin.create("admin-tokens", {"name": unique("reseller"), "scope": account.id, "role": "admin"})
    assert made["secret"].startswith("ta-")
    own = Admin(gateway.admin_url, made["secret"])
    yield own
    own.close()


def same(one, other):
    """Equal answers but for the request id and the date, and for the id that was asked for."""
    drop = ("x-request-id", "date")
    return one.status_code == other.status_code and {k: v for k, v in one.headers.items() if k not in drop} == {k: v for k, v in other.headers.items() if k not in drop}


def test_scoped_token_sees_its_own_alone(gateway, admin, scoped, account):
    other = Account(gateway)
    assert [t["id"] for t in scoped.get("tenants")["data"]] == [account.id]
    assert {k["tenant"] for k in scoped.get("keys")["data"]} == {account.id}
    assert account.post({"model": "dall-e-2", "prompt": "x", "size": "256x256"}).status_code == 200
    assert other.post({"model": "dall-e-2", "prompt": "x", "size": "256x256"}).status_code == 200
    records = scoped.records()
    assert {r["tenant"] for r in records} == {account.id}
    assert all("cost" not in r and "channel" not in r for r in records), records
    assert money(records[0]["margin"]) == money(records[0]["retail"]) - money(records[0]["wholesale"])


@pytest.mark.parametrize("method, path, body", [
    ("GET", "tenants/{tenant}", None), ("PATCH", "tenants/{tenant}", {"name": "mine now"}), ("GET", "tenants/{tenant}/balance", None),
    ("GET", "keys/{key}", None), ("PATCH", "keys/{key}", {"name": "x"}), ("DELETE", "keys/{key}", None), ("POST", "keys/{key}/revoke", {})])
def test_another_tenants_resource_is_like_a_missing_one(gateway, scoped, method, path, body):
    """Byte for byte: status, headers and text."""
    other = Account(gateway)
    ids = {"tenant": other.id, "key": other.key["id"]}
    missing = {"tenant": "ten_" + other.id[4:][::-1], "key": "key_" + other.key["id"][4:][::-1]}
    theirs = scoped.call(method, path.format(**ids), body)
    nobodys = scoped.call(method, path.format(**missing), body)
    is_error(theirs, 404)
    assert same(theirs, nobodys), (theirs.headers, nobodys.headers)
    assert anonymous(theirs, *ids.values()) == anonymous(nobodys, *missing.values())
    assert other.admin.get(f"keys/{other.key['id']}")["name"] == other.key["name"]


def test_scoped_token_moves_no_money_of_its_own(scoped, account):
    for method, path, body in (("POST", f"tenants/{account.id}/credits", {"amount": "5"}), ("PATCH", f"tenants/{account.id}", {"credit_limit": "5"}),
                               ("PATCH", f"tenants/{account.id}", {"markup_percent": "0"}), ("PATCH", f"tenants/{account.id}", {"price_book": "openai-list"}),
                               ("POST", "tenants", {"name": "x"})):
        reply = scoped.call(method, path, body, headers={"Idempotency-Key": unique("k")})
        is_error(reply, 403)
    assert account.balance()["posted"] == 10


def test_scoped_token_has_no_channels(scoped):
    assert scoped.call("GET", "channels").status_code in (403, 404)
    assert scoped.call("POST", "channels", {"name": "x"}).status_code in (403, 404)


def test_scoped_token_makes_keys(gateway, scoped, account):
    key = scoped.create("keys", {"tenant": account.id, "name": "theirs"})
    assert key["secret"].startswith("sk-tg-")
    other = Account(gateway)
    assert scoped.call("POST", "keys", {"tenant": other.id, "name": "not theirs"}).status_code == 404


def test_scoped_token_makes_no_wider_token(scoped, account):
    for scope in ("platform", "ten_nope"):
        assert scoped.call("POST", "admin-tokens", {"name": "x", "scope": scope, "role": "admin"}).status_code in (403, 404)


def test_viewer_only_looks(gateway, admin, account):
    viewer = Admin(gateway.admin_url, admin.create("admin-tokens", {"name": "v", "scope": "platform", "role": "viewer"})["secret"])
    assert viewer.call("GET", f"tenants/{account.id}").status_code == 200
    for method, path, body in (("POST", "tenants", {"name": "x"}), ("PATCH", f"tenants/{account.id}", {"name": "x"}), ("DELETE", f"keys/{account.key['id']}", None),
                               ("POST", f"tenants/{account.id}/credits", {"amount": "5"}), ("POST", f"keys/{account.key['id']}/revoke", {})):
        is_error(viewer.call(method, path, body, headers={"Idempotency-Key": unique("k")}), 403)
    viewer.close()


def test_deleted_token_is_dead(gateway, admin):
    made = admin.create("admin-tokens", {"name": "short", "scope": "platform", "role": "viewer"})
    other = Admin(gateway.admin_url, made["secret"])
    assert other.call("GET", "tenants").status_code == 200
    assert all("secret" not in t for t in admin.get("admin-tokens")["data"])
    admin.delete(f"admin-tokens/{made['id']}")
    for _ in range(8):
        is_error(other.call("GET", "tenants"), 401)
    other.close()


# ---- channels, books, health ----

def test_channel_credential_is_write_only(gateway, admin, sandbox):
    made = gateway.channel(sandbox, name="secretive", models=["dall-e-2"], api_key="sk-never-shown-again", status="disabled")
    for shown in (made, admin.get(f"channels/{made['id']}"), admin.get("channels"), admin.patch(f"channels/{made['id']}", {"priority": 2})):
        assert "sk-never-shown-again" not in str(shown)
    admin.delete(f"channels/{made['id']}")
    is_error(admin.call("GET", f"channels/{made['id']}"), 404)


def test_channel_test(gateway, admin, sandbox):
    good = gateway.channel(sandbox, name="good", models=["dall-e-2"], status="disabled")
    answer = admin.create(f"channels/{good['id']}/test", {})
    assert answer["ok"] is True and answer["status"] == 200 and answer["duration_ms"] >= 0, answer
    from lib.ports import free_port
    bad = gateway.channel(f"http://127.0.0.1:{free_port()}/v1", name="bad", models=["dall-e-2"], status="disabled")
    answer = admin.create(f"channels/{bad['id']}/test", {})
    assert answer["ok"] is False and answer["error"], answer
    for channel in (good, bad):
        admin.delete(f"channels/{channel['id']}")


@pytest.mark.parametrize("more, param", [({"kind": "x"}, "kind"), ({"base_url": "ftp://x"}, "base_url"), ({"base_url": "nonsense"}, "base_url"), ({"base_url": "http://u:p@x/v1"}, "base_url"),
                                         ({"models": {}}, "any"), ({"models": ["dall-e-2"]}, "any"), ({"models": {"x": 5}}, "any"), ({"api_key": "a\nb"}, "api_key"),
                                         ({"priority": "1"}, "priority"), ({"weight": -1}, "weight"), ({"timeout_seconds": -5}, "timeout_seconds")])
def test_bad_channels(admin, more, param):
    body = {"name": "x", "kind": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": "sk-x", "models": {"dall-e-2": "dall-e-2"}, **more}
    is_error(admin.call("POST", "channels", body), 400, param=param)


def test_disabled_channel_serves_nobody(own_gateway, sandbox):
    gateway = own_gateway().start()
    channel = gateway.channel(sandbox, models=["dall-e-2"])
    account = Account(gateway)
    assert account.post({"model": "dall-e-2", "prompt": "x"}).status_code == 200
    gateway.admin.patch(f"channels/{channel['id']}", {"status": "disabled"})
    is_error(account.post({"model": "dall-e-2", "prompt": "x"}), 503, "no_channel_available")
    assert gateway.ready().status_code == 503
    gateway.admin.patch(f"channels/{channel['id']}", {"status": "active"})
    assert account.post({"model": "dall-e-2", "prompt": "x"}).status_code == 200
    assert account.settled()["posted"] == money("9.96")
    gateway.stop()


def test_price_books(admin):
    books = admin.get("price-books")["data"]
    listed = next(b for b in books if b["name"] == "openai-list")
    book = admin.get(f"price-books/{listed['id']}")
    assert book["kind"] == "cost" and book["id"].startswith("pbk_")
    text = str(book)
    for model in ("dall-e-2", "dall-e-3", "gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "gpt-image-2"):
        assert model in text


def test_health(gateway):
    for path in ("/healthz", "/readyz", "/metrics"):
        reply = httpx.get(gateway.admin_url + path, trust_env=False, timeout=10 * PATIENCE)
        assert reply.status_code == 200, reply.text
    names = re.findall(r"^# TYPE (\S+) (counter|gauge|histogram)$", reply.text, re.M)
    assert len(names) > 10 and all(n.startswith(("tallygate_", "process_")) for n, _ in names)


def test_admin_routes_are_not_public(gateway):
    for path in ("/healthz", "/metrics", "/admin/v1/tenants"):
        is_error(httpx.get(gateway.public_url + path, headers={"Authorization": f"Bearer {gateway.token}"}, trust_env=False), 404)


def test_balance_then_and_now(admin, gateway):
    mine = tenant(admin)
    admin.credit(mine["id"], "5")
    assert admin.get(f"tenants/{mine['id']}/balance", at="2020-01-01T00:00:00Z")["posted"] in ("0", "0.000000000", "0.00")
    assert money(admin.get(f"tenants/{mine['id']}/balance")["posted"]) == 5
    is_error(admin.call("GET", f"tenants/{mine['id']}/balance", params={"at": "yesterday"}), 400, param="at")


def test_audit_keeps_the_largest_channel_whole(gateway, admin):
    """Names at their longest, of characters that JSON escapes, as many as a channel may have."""
    models = {f"{i:02}" + '"' * 80: "\\" * 80 for i in range(64)}
    made = admin.create("channels", {"name": unique("large"), "kind": "sandbox", "base_url": "http://127.0.0.1:1/v1", "api_key": "sk-x", "models": models})
    with sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True) as db:
        rows = db.execute("SELECT after_state, json_valid(after_state) FROM audit WHERE object = ?", (made["id"],)).fetchall()
    assert [valid for _, valid in rows] == [1]
    assert json.loads(rows[0][0])["models"] == models
