"""Keys as a reseller handles them: rotation with grace, many at once, lists and searches, what was last used."""

import json
import re
import socket
import threading
import time

import httpx
import pytest

from lib import wire
from lib.admin import Account, Admin, Customer, unique
from lib.check import anonymous, is_error
from lib.process import PATIENCE

CALL = {"model": "dall-e-2", "prompt": "x", "size": "256x256"}


@pytest.fixture
def admin(gateway):
    return gateway.admin


def status(gateway, secret, times=1):
    """What GET /v1/models says to this secret, each time on a new connection, so on either loop."""
    seen = set()
    for _ in range(times):
        reply = httpx.get(gateway.public_url + "/v1/models", headers={"Authorization": f"Bearer {secret}"}, timeout=30 * PATIENCE, trust_env=False)
        seen.add(reply.status_code)
    assert len(seen) == 1, seen
    return seen.pop()


def rotate(admin, key, grace=None, **kwargs):
    return admin.ok("POST", f"keys/{key['id']}/rotate", {} if grace is None else {"grace_seconds": grace}, **kwargs)


def new_key(admin, tenant, **more):
    return admin.create("keys", {"tenant": tenant, "name": unique("key"), **more})


# ---- rotation ----

def test_rotation_without_grace(gateway, admin, account):
    old = account.key
    new = rotate(admin, old)
    assert new["id"] == old["id"] and new["secret"] != old["secret"] and new["etag"] != old["etag"]
    assert new["secret"].startswith(new["prefix"]) and new["secret"].endswith(new["last4"]) and new["old_secret_expires_at"] is None
    assert {k: new[k] for k in ("tenant", "name", "mode", "created_at", "status")} == {k: old[k] for k in ("tenant", "name", "mode", "created_at", "status")}
    assert status(gateway, old["secret"], 6) == 401 and status(gateway, new["secret"], 6) == 200
    shown = admin.get(f"keys/{old['id']}")
    assert "secret" not in shown and (shown["prefix"], shown["last4"], shown["etag"]) == (new["prefix"], new["last4"], new["etag"])


def test_rotation_with_grace(gateway, admin, account):
    first = account.key
    second = rotate(admin, first, 3600)
    assert re.match(r"^\d{4}-", second["old_secret_expires_at"])
    assert status(gateway, first["secret"], 4) == 200 and status(gateway, second["secret"], 4) == 200
    third = rotate(admin, first, 3600)
    assert status(gateway, first["secret"], 4) == 401, "the older secret ends at once"
    assert status(gateway, second["secret"], 4) == 200 and status(gateway, third["secret"], 4) == 200
    fourth = rotate(admin, first)
    assert [status(gateway, k["secret"], 2) for k in (first, second, third, fourth)] == [401, 401, 401, 200]
    assert admin.get(f"keys/{first['id']}")["old_secret_expires_at"] is None


def test_the_grace_ends(gateway, admin, account):
    new = rotate(admin, account.key, 1)
    assert status(gateway, account.secret) == 200
    time.sleep(1.1)
    assert status(gateway, account.secret, 4) == 401 and status(gateway, new["secret"], 4) == 200
    assert admin.get(f"keys/{new['id']}")["old_secret_expires_at"] is None


def test_both_secrets_are_one_key(gateway, admin):
    """Its budget is spent by either; its records name one key."""
    account = Account(gateway, key={"budgets": [{"amount": "0.048", "window": "day"}]})
    old, new = account.secret, rotate(admin, account.key, 600)["secret"]
    for secret in (old, new, old):
        account.secret = secret
        assert account.post(CALL).status_code == 200
    for secret in (old, new):
        account.secret = secret
        is_error(account.post(CALL), 429, "insufficient_quota", type="insufficient_quota")
    account.settled()
    assert {r["key"] for r in account.records()} == {account.key["id"]} and len(account.records()) == 3


def test_rotation_survives_a_restart(own_gateway):
    gateway = own_gateway().start()
    account = Account(gateway)
    new = rotate(gateway.admin, account.key, 3600)
    last = rotate(gateway.admin, new_key(gateway.admin, account.id))
    gateway.restart()
    assert [status(gateway, s) for s in (account.secret, new["secret"], last["secret"])] == [200, 200, 200]
    gateway.stop()
    gateway.fsck()


def test_rotation_keeps_the_mode(gateway, admin, account):
    key = new_key(admin, account.id, mode="test")
    new = rotate(admin, key, 60)
    assert new["secret"].startswith("sk-tg-test-") and new["prefix"].startswith("sk-tg-test-") and new["mode"] == "test"


@pytest.mark.parametrize("body, param", [({"grace_seconds": -1}, "grace_seconds"), ({"grace_seconds": 2592001}, "grace_seconds"), ({"grace_seconds": "5"}, "grace_seconds"),
                                         ({"grace_seconds": 1.5}, "grace_seconds"), ({"grace_seconds": 1e30}, "grace_seconds"), ({"grace": 5}, "grace")])
def test_bad_rotations(gateway, admin, account, body, param):
    is_error(admin.call("POST", f"keys/{account.key['id']}/rotate", body), 400, param=param)
    assert status(gateway, account.secret) == 200


def test_what_is_revoked_is_not_rotated(gateway, admin, account):
    new = rotate(admin, account.key, 3600)
    revoked = admin.create(f"keys/{new['id']}/revoke", {})
    assert revoked["status"] == "revoked" and revoked["old_secret_expires_at"] is None
    assert status(gateway, account.secret, 4) == 401 and status(gateway, new["secret"], 4) == 401
    is_error(admin.call("POST", f"keys/{new['id']}/rotate", {}), 409, "conflict")
    admin.delete(f"keys/{new['id']}")
    is_error(admin.call("POST", f"keys/{new['id']}/rotate", {}), 404, "not_found")


def test_rotation_is_guarded(admin, account):
    stale = account.key["etag"]
    tag = rotate(admin, account.key, headers={"If-Match": stale})["etag"]
    for verb in ("rotate", "revoke"):
        is_error(admin.call("POST", f"keys/{account.key['id']}/{verb}", {}, headers={"If-Match": stale}), 412, "precondition_failed", param="If-Match")
    assert admin.get(f"keys/{account.key['id']}")["etag"] == tag


def test_rotation_is_replayed(gateway, admin, account):
    """A client that lost the answer gets the same secret again, and no second rotation."""
    path, key = f"keys/{account.key['id']}/rotate", {"Idempotency-Key": unique("rotate")}
    answers = []

    def call():
        with Admin(gateway.admin_url, gateway.token) as own:
            answers.append(own.call("POST", path, {"grace_seconds": 60}, headers=key))
    threads = [threading.Thread(target=call) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert {a.status_code for a in answers} == {200} and len({a.content for a in answers}) == 1
    assert status(gateway, account.secret) == 200 and status(gateway, answers[0].json()["secret"]) == 200, "rotated once"
    is_error(admin.call("POST", path, {"grace_seconds": 61}, headers=key), 422, "idempotency_key_reused")
    admin.create(f"keys/{account.key['id']}/revoke", {})
    assert admin.call("POST", path, {"grace_seconds": 60}, headers=key).content == answers[0].content


# ---- many at once ----

def test_bulk(gateway, admin, account):
    names = [f"shop {i}" for i in range(1000)]
    body = {"keys": [{"tenant": account.id, "name": n, "external_id": unique("bulk"), **({"mode": "test"} if i % 10 == 0 else {})} for i, n in enumerate(names)]}
    key = {"Idempotency-Key": unique("bulk")}
    reply = admin.call("POST", "keys/bulk", body, headers=key)
    made = reply.json()
    assert reply.status_code == 200 and (made["object"], made["has_more"], made["next"]) == ("list", False, None)
    assert [k["name"] for k in made["data"]] == names, "in the order asked"
    assert len({k["secret"] for k in made["data"]}) == len({k["id"] for k in made["data"]}) == 1000
    assert [status(gateway, made["data"][i]["secret"], 2) for i in (0, 1, 500, 999)] == [200] * 4
    assert admin.call("POST", "keys/bulk", body, headers=key).content == reply.content
    is_error(admin.call("POST", "keys/bulk", {"keys": body["keys"][:1]}, headers=key), 422, "idempotency_key_reused")
    listed = admin.all("keys", tenant=account.id)
    assert len(listed) == 1001 and {k["id"] for k in made["data"]} < {k["id"] for k in listed} and all("secret" not in k for k in listed)
    assert admin.get("keys", external_id=body["keys"][7]["external_id"])["data"][0]["id"] == made["data"][7]["id"]


@pytest.mark.parametrize("change, code, param", [
    ({"expires_at": "2020-01-01T00:00:00Z"}, 400, "keys[2].expires_at"), ({"surprise": 1}, 400, "keys[2].surprise"), ({"name": None}, 400, "keys[2].name"),
    ({"tenant": "ten_nope"}, 404, "keys[2].tenant"), ({"customer": "cus_nope"}, 404, "keys[2].customer"), ({"mode": "play"}, 400, "keys[2].mode"),
    ({"policy": {"max_n": "2"}}, 400, "any"), ({"external_id": "taken"}, 409, "any"), ({"external_id": "twin"}, 409, "any")])
def test_bulk_is_all_or_none(gateway, admin, change, code, param):
    account = Account(gateway, credit=None)
    taken, twin = unique("taken"), unique("twin")
    new_key(admin, account.id, external_id=taken)
    body = [{"tenant": account.id, "name": f"k{i}", **({"external_id": twin} if i == 1 else {})} for i in range(4)]
    body[2].update({"external_id": {"taken": taken, "twin": twin}[change["external_id"]]} if "external_id" in change else change)
    error = is_error(admin.call("POST", "keys/bulk", {"keys": body}), code, param=param)
    assert error["param"].startswith("keys[2]") and error["message"].startswith("keys[2]: "), error
    assert len(admin.all("keys", tenant=account.id)) == 2, "nothing was made"


def test_a_client_that_leaves_gets_its_secrets_later(gateway, admin):
    """It vanishes at any time of the call; the call again, under the same Idempotency-Key, brings every secret, and no key twice."""
    for delay in (0, 0, 0.002, 0.01):
        account = Account(gateway, credit=None)
        body = json.dumps({"keys": [{"tenant": account.id, "name": f"k{i}"} for i in range(300)]}).encode()
        headers = {"Authorization": f"Bearer {gateway.token}", "Idempotency-Key": unique("leaves"), "Content-Type": "application/json"}
        with socket.create_connection(("127.0.0.1", gateway.admin_port), 30 * PATIENCE) as sock:
            sock.sendall(wire.request("POST", "/admin/v1/keys/bulk", headers, body))
            time.sleep(delay)
        made = admin.http.post("/keys/bulk", content=body, headers=headers).json()["data"]
        assert status(gateway, made[0]["secret"]) == status(gateway, made[-1]["secret"]) == 200
        assert len(admin.all("keys", tenant=account.id)) == 301


@pytest.mark.parametrize("body, param", [({}, "keys"), ({"keys": []}, "keys"), ({"keys": None}, "keys"), ({"keys": {}}, "keys"), ({"keys": [1]}, "keys[0]"),
                                         ({"keys": [None]}, "keys[0]"), ({"keys": [{}] * 1001}, "keys"), ({"keys": [], "more": 1}, "more")])
def test_bad_bulks(admin, body, param):
    is_error(admin.call("POST", "keys/bulk", body), 400, param=param)


def test_bulk_of_a_tenants_token(gateway, admin, account):
    other = Account(gateway, credit=None)
    with admin.scoped(account.id) as scoped:
        made = scoped.create("keys/bulk", {"keys": [{"name": "a"}, {"name": "b", "tenant": account.id}]})
        assert {k["tenant"] for k in made["data"]} == {account.id}
        theirs = scoped.call("POST", "keys/bulk", {"keys": [{"name": "a"}, {"name": "b", "tenant": other.id}]})
        is_error(theirs, 404, "not_found", param="keys[1].tenant")
    with admin.scoped(account.id, "viewer") as viewer:
        is_error(viewer.call("POST", "keys/bulk", {"keys": [{"name": "a"}]}), 403)
        is_error(viewer.call("POST", f"keys/{account.key['id']}/rotate", {}), 403)
    assert len(admin.all("keys", tenant=account.id)) == 3


# ---- lists ----

@pytest.fixture(scope="module")
def shop(gateway):
    """Two tenants with customers and keys of every kind; (admin, [keys as the API shows them])."""
    admin, keys = gateway.admin, []
    for t in range(2):
        account = Account(gateway, credit=None)
        customers = [None, Customer(account, wallet="shared").id, Customer(account, wallet="own").id]
        bodies = [{"tenant": account.id, "name": f"k{i}", "mode": "test" if i % 3 == 0 else "live", "external_id": f"x{i % 4}-{i}",
                   **({"customer": customers[i % 3]} if customers[i % 3] else {})} for i in range(12)]
        made = admin.create("keys/bulk", {"keys": bodies})["data"]
        admin.patch(f"keys/{made[1]['id']}", {"status": "disabled"})
        admin.create(f"keys/{made[2]['id']}/revoke", {})
        admin.delete(f"keys/{made[3]['id']}")
        keys += [admin.get(f"keys/{k['id']}") for k in made if k is not made[3]]
        keys += [k for k in admin.all("keys", tenant=account.id) if k["id"] not in {m["id"] for m in keys}]
    return admin, sorted(keys, key=lambda k: (k["created_at"], k["id"]), reverse=True)


def test_filters(shop):
    admin, keys = shop
    tenants = sorted({k["tenant"] for k in keys})
    every = [{"status": s} for s in ("active", "disabled", "revoked")] + [{"mode": m} for m in ("live", "test")]
    every += [{"customer": c} for c in {k["customer"] for k in keys if k["customer"]}] + [{"external_id": "x1-5"}, {"last4": keys[0]["last4"]}]
    every += [{"prefix": keys[0]["prefix"]}, {"prefix": keys[0]["prefix"][:-2]}, {"prefix": "sk-tg-test-"}, {"prefix": "sk-tg-"}]
    every += [{"mode": "test", "status": "active"}, {"customer": next(k["customer"] for k in keys if k["customer"]), "mode": "live"}]
    for tenant in tenants:
        own = [k for k in keys if k["tenant"] == tenant]
        for filters in every:
            if "customer" in filters and filters["customer"] not in {k["customer"] for k in own}:
                is_error(admin.call("GET", "keys", params={"tenant": tenant, **filters}), 404, "not_found", param="customer")
                continue
            wanted = [k["id"] for k in own if all(k[n].startswith(v) if n == "prefix" else k[n] == v for n, v in filters.items())]
            found = admin.all("keys", limit=5, tenant=tenant, **filters)
            assert [k["id"] for k in found] == sorted(wanted, reverse=True), filters
            assert all(k in own for k in found), "as it is shown alone"


@pytest.mark.parametrize("query, code", [
    ({"status": "deleted"}, 400), ({"status": ""}, 400), ({"mode": "any"}, 400), ({"prefix": "ta-"}, 400), ({"prefix": "sk-tg-%"}, 400), ({"prefix": "sk-tg-_"}, 400),
    ({"prefix": "sk-tg-0123456789"}, 400), ({"last4": "abc"}, 400), ({"last4": "abcde"}, 400), ({"last4": "a%c!"}, 400), ({"external_id": ""}, 400), ({"external_id": "x" * 300}, 400),
    ({"tenant": "ten_nope"}, 404), ({"customer": "cus_nope"}, 404), ({"customer": "key_x"}, 404), ({"secret": "x"}, 400), ({"status": ["active", "revoked"]}, 400)])
def test_bad_filters(admin, query, code):
    name = next(iter(query))
    error = is_error(admin.call("GET", "keys", params=query), code)
    assert error["param"] == name or len(str(query[name])) > 250, error


def test_a_tenants_token_filters_its_own(gateway, admin, account):
    other = Account(gateway, credit=None)
    customer = Customer(other, wallet="shared")
    missing = "cus_" + customer.id[4:][::-1]
    with admin.scoped(account.id) as scoped:
        theirs, nobodys = (scoped.call("GET", "keys", params={"customer": c}) for c in (customer.id, missing))
        is_error(theirs, 404, "not_found", param="customer")
        assert anonymous(theirs, customer.id) == anonymous(nobodys, missing)
        assert scoped.get("keys", prefix=other.key["prefix"], last4=other.key["last4"])["data"] == []
        assert [k["id"] for k in scoped.get("keys", last4=account.key["last4"])["data"]] == [account.key["id"]]


def test_pages_are_stable(gateway, admin):
    """What is made or deleted between two pages, the cursor's own object included, neither repeats nor hides another."""
    account = Account(gateway, credit=None)
    ids = [k["id"] for k in admin.create("keys/bulk", {"keys": [{"tenant": account.id, "name": "k"} for _ in range(20)]})["data"]][::-1]
    seen, after = [], None
    for step in range(20):
        page = admin.get("keys", tenant=account.id, limit=3, **({"after": after} if after else {}))
        seen += [k["id"] for k in page["data"]]
        if not page["has_more"]:
            break
        after = page["next"]
        new_key(admin, account.id)
        admin.delete(f"keys/{seen[-1]}")
    assert seen == ids + [account.key["id"]]
    assert admin.get("keys", tenant=account.id, after=seen[0])["data"], "a cursor outlives its object"


@pytest.mark.parametrize("kind", ["tenants", "customers", "channels"])
def test_status_filters_elsewhere(gateway, admin, account, kind):
    other = "disabled" if kind == "channels" else "suspended"
    body = {"tenants": {}, "customers": {"tenant": account.id}, "channels": {"kind": "sandbox", "base_url": "http://127.0.0.1:1/v1", "models": {"none": "none"}}}[kind]
    made = [admin.create(kind, {"name": unique(kind), "status": s, **body}) for s in ("active", other)]
    for one, wanted in zip(made, ("active", other)):
        found = admin.all(kind, status=wanted)
        assert one["id"] in {f["id"] for f in found} and {f["status"] for f in found} == {wanted}
    is_error(admin.call("GET", kind, params={"status": "revoked"}), 400, "invalid_value", param="status")


def test_a_tenants_token_lists_itself(admin, account):
    admin.patch(f"tenants/{account.id}", {"external_id": unique("crm")})
    mine = admin.get(f"tenants/{account.id}")
    newer = admin.create("tenants", {"name": unique("newer")})
    with admin.scoped(account.id) as scoped:
        for query, there in (({}, True), ({"external_id": mine["external_id"]}, True), ({"external_id": "other"}, False), ({"status": "active"}, True),
                             ({"status": "suspended"}, False), ({"after": newer["id"]}, True), ({"after": mine["id"]}, False)):
            assert [t["id"] for t in scoped.get("tenants", **query)["data"]] == ([account.id] if there else []), query


# ---- last use ----

def test_last_used_at(own_gateway):
    """Written lazily: at the latest when the daemon stops."""
    gateway = own_gateway().start()
    account = Account(gateway)
    idle = new_key(gateway.admin, account.id)
    assert account.key["last_used_at"] is None
    before = time.time()
    assert status(gateway, account.secret) == 200
    gateway.restart()
    used = gateway.admin.get(f"keys/{account.key['id']}")
    assert used["last_used_at"] is not None and used["etag"] == account.key["etag"], "no new version"
    at = time.mktime(time.strptime(used["last_used_at"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    assert before - 2 <= at <= time.time() + 1
    assert gateway.admin.get(f"keys/{idle['id']}")["last_used_at"] is None
    assert [k["last_used_at"] for k in gateway.admin.get("keys", tenant=account.id)["data"]] == [None, used["last_used_at"]]
    gateway.stop()
    gateway.fsck()
