"""The audit trail: an entry for every change with who, from where, before and after; nothing secret; exported as it is listed."""

import csv
import hashlib
import io
import json
import sqlite3

import httpx
import pytest

from lib.admin import Account, Admin, Customer, unique
from lib.check import is_error
from lib.process import PATIENCE, run

IMAGE = {"model": "dall-e-2", "prompt": "x", "size": "256x256"}
SHAPE = ["id", "object", "created_at", "action", "object_id", "tenant", "token", "peer", "request_id", "before", "after", "hash"]


@pytest.fixture
def admin(gateway):
    return gateway.admin


def newest(admin, **filters):
    return admin.get("audit", limit=1, **filters)["data"][0]


class Watch:
    """The entries that what happens inside leaves, oldest first."""

    def __init__(self, admin):
        self.admin = admin

    def __enter__(self):
        self.last = self.admin.get("audit", limit=1)["data"][0]["id"]
        return self

    def __exit__(self, *args):
        self.found = []
        for entry in self.admin.all("audit"):
            if entry["id"] == self.last:
                return
            self.found.insert(0, entry)

    @property
    def actions(self):
        return [e["action"] for e in self.found]


# ---- every change ----

def test_every_change_has_its_entry(gateway, admin):
    with Watch(admin) as w:
        account = Account(gateway, credit="5")
        mine = Customer(account, credit="1")
        admin.patch(f"tenants/{account.id}", {"markup_percent": "5"})
        admin.patch(f"customers/{mine.id}", {"name": "renamed"})
        admin.patch(f"keys/{account.key['id']}", {"name": "renamed"})
        admin.create(f"keys/{account.key['id']}/rotate", {"grace_seconds": 60})
        admin.create(f"keys/{mine.key['id']}/revoke", {})
        admin.create("keys/bulk", {"keys": [{"tenant": account.id, "name": f"bulk {i}"} for i in range(3)]})
        channel = gateway.channel("http://127.0.0.1:1/v1", name=unique("audited"), status="disabled")
        admin.patch(f"channels/{channel['id']}", {"weight": 7})
        admin.delete(f"channels/{channel['id']}")
        book = admin.create("price-books", {"name": unique("audited"), "kind": "retail", "tenant": account.id})
        version = admin.create(f"price-books/{book['id']}/versions", {"rates": [{"model": "dall-e-2", "unit": "image", "amount": "1"}]})
        token = admin.create("admin-tokens", {"name": unique("audited"), "scope": account.id})
        admin.delete(f"admin-tokens/{token['id']}")
        grant = admin.credit(account.id, "2", note="to be voided")
        assert admin.money(f"grants/{grant['id']}/void", {"note": "a mistake"}).status_code == 200
        assert Account.post(account, IMAGE).status_code in (200, 401)  # the key was rotated: the old secret has its grace
        account.settled()
        record = account.records()[0]
        assert admin.money(f"usage/records/{record['id']}/refund", {"reason": "blurred"}).status_code == 200
        admin.credit(mine.id, "-1", note="all of it")
        admin.delete(f"customers/{mine.id}")
    assert w.actions == ["tenant.create", "tenant.credit", "key.create", "customer.create", "customer.credit", "key.create", "tenant.update", "customer.update", "key.update",
                         "key.rotate", "key.revoke", "key.create", "key.create", "key.create", "channel.create", "channel.update", "channel.delete", "price_book.create",
                         "price_version.create", "admin_token.create", "admin_token.delete", "tenant.credit", "grant.void", "usage.refund", "customer.credit", "customer.delete"]
    by = {}
    for e in w.found:
        assert list(e) == SHAPE and e["object"] == "audit_entry" and e["id"].startswith("aud_") and len(e["hash"]) == 64
        assert e["peer"] == "127.0.0.1" and e["token"]["name"] == "tests" and e["request_id"].startswith("req_")
        assert e["tenant"] == (None if e["action"].startswith("channel.") else account.id), e
        by.setdefault(e["action"], e)
    assert by["tenant.update"]["before"]["markup_percent"] == "0" and by["tenant.update"]["after"]["markup_percent"] == "5"
    assert by["customer.update"]["before"]["tenant"] == account.id and by["customer.update"]["object_id"] == mine.id
    assert by["key.create"]["after"]["tenant"] == account.id and by["key.create"]["before"] is None
    assert [e["after"]["name"] for e in w.found if e["action"] == "key.create"][2:] == ["bulk 0", "bulk 1", "bulk 2"]
    assert by["key.rotate"]["before"]["last4"] != by["key.rotate"]["after"]["last4"] and by["key.rotate"]["after"]["old_secret_expires_at"]
    assert by["key.revoke"]["after"]["status"] == "revoked"
    assert by["channel.update"]["after"]["weight"] == 7 and by["channel.update"]["after"]["cost_book"] is None
    assert by["price_version.create"]["after"]["versions"][0]["id"] == version["id"] and by["price_version.create"]["object_id"] == book["id"]
    assert by["admin_token.create"]["after"]["scope"] == account.id
    assert by["grant.void"]["object_id"] == grant["id"] and by["grant.void"]["after"]["note"] == "a mistake"
    assert by["usage.refund"]["object_id"] == record["id"] and by["usage.refund"]["after"]["reason"] == "blurred"
    assert by["tenant.credit"]["object_id"] == account.id and by["tenant.credit"]["after"]["amount"] == "5.000000000"
    assert all("balance" not in (e["after"] or {}) for e in w.found)


def test_what_changes_nothing_leaves_nothing(gateway, admin, account):
    key, body = unique("once"), {"name": unique("once")}
    first = admin.call("POST", "tenants", body, headers={"Idempotency-Key": key})
    with Watch(admin) as w:
        assert admin.call("POST", "tenants", body, headers={"Idempotency-Key": key}).content == first.content
        is_error(admin.call("POST", "tenants", {"name": "other"}, headers={"Idempotency-Key": key}), 422)
        is_error(admin.call("POST", "tenants", {"name": ""}), 400)
        is_error(admin.money(f"tenants/{account.id}/credits", {"amount": "-500", "note": "x"}), 429, type="insufficient_quota")
        is_error(admin.call("PATCH", f"tenants/{account.id}", {"name": "x"}, headers={"If-Match": '"99"'}), 412)
        is_error(admin.call("DELETE", f"tenants/{account.id}"), 409)
        is_error(admin.call("POST", "keys/bulk", {"keys": [{"tenant": account.id, "name": "x"}, {"tenant": account.id, "name": ""}]}), 400)
        assert admin.call("POST", "quotes", {"model": "dall-e-2"}, headers={"Idempotency-Key": unique("q")}).status_code == 200
        with admin.scoped(account.id, role="viewer") as viewer:
            is_error(viewer.call("POST", "customers", {"name": "x"}), 403)
    assert w.actions == ["admin_token.create"]


def test_the_command_line_is_in_it(own_gateway):
    gateway = own_gateway()
    gateway.start()
    made_here = newest(gateway.admin, action="admin_token.create")
    assert made_here["token"] is None and made_here["peer"] is None and made_here["after"]["made_by_user"]
    gateway.create_token("--scope", "platform", "--role", "viewer")  # beside the daemon: by its admin listener
    made_there = newest(gateway.admin, action="admin_token.create")
    assert made_there["id"] != made_here["id"] and made_there["token"] is None and made_there["peer"] == "127.0.0.1"
    assert made_there["after"]["role"] == "viewer"
    gateway.stop()
    gateway.fsck()


def test_no_secret_is_in_it(gateway, admin, account):
    """Neither secrets nor digests, of whatever kind, in whatever entry."""
    credential = "sk-upstream-" + "9f" * 20
    channel = admin.create("channels", {"name": unique("secret"), "kind": "openai", "base_url": "http://127.0.0.1:1/v1", "api_key": credential, "models": {"m": "m"}})
    admin.patch(f"channels/{channel['id']}", {"api_key": credential + "-new"})
    secrets = [account.secret, credential, gateway.token, admin.create("admin-tokens", {"name": "x"})["secret"]]
    secrets.append(admin.create(f"keys/{account.key['id']}/rotate", {"grace_seconds": 60})["secret"])
    secrets += [k["secret"] for k in admin.create("keys/bulk", {"keys": [{"tenant": account.id, "name": "b"}] * 2})["data"]]
    text = admin.call("GET", "audit", headers={"Accept": "application/x-ndjson"}).text
    with sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True) as db:
        digests = [row[0].hex() for table in ("keys", "admin_tokens") for row in db.execute(f"SELECT digest FROM {table}")]
        raw = "".join(str(v) for row in db.execute("SELECT action, object, peer, before_state, after_state FROM audit") for v in row)
    for secret in secrets:
        for part in (secret, secret.split("-")[-1][:20]):
            assert part not in text and part not in raw
    assert len(digests) > 5 and not any(d in text.lower() or d in raw.lower() for d in digests)
    assert credential not in text and '"digest"' not in raw and '"secret"' not in raw


# ---- reading it ----

def test_filters(gateway, admin):
    account, other = Account(gateway), Account(gateway)
    with admin.scoped(account.id) as tenant:
        mine = tenant.create("customers", {"name": "x"})
        token = newest(admin, object=mine["id"])["token"]["id"]
        assert [e["action"] for e in admin.all("audit", token=token)] == ["customer.create"]
        assert [e["action"] for e in tenant.all("audit", token=token)] == ["customer.create"]
    everything = admin.all("audit")
    assert len({e["id"] for e in everything}) == len(everything)
    assert admin.all("audit", limit=7) == everything
    for filters, wanted in (({"tenant": account.id}, lambda e: e["tenant"] == account.id), ({"action": "key."}, lambda e: e["action"].startswith("key.")),
                            ({"action": "tenant.credit"}, lambda e: e["action"] == "tenant.credit"), ({"object": account.id}, lambda e: e["object_id"] == account.id),
                            ({"tenant": other.id, "action": "tenant."}, lambda e: e["tenant"] == other.id and e["action"].startswith("tenant.")),
                            ({"start_time": everything[3]["created_at"]}, lambda e: e["created_at"] >= everything[3]["created_at"]),
                            ({"end_time": everything[3]["created_at"]}, lambda e: e["created_at"] < everything[3]["created_at"]),
                            ({"start_time": "4102444800"}, lambda e: False)):
        assert admin.all("audit", limit=3, **filters) == [e for e in everything if wanted(e)], filters
    admin.credit(other.id, "-10", note="closed")
    admin.delete(f"tenants/{other.id}")
    assert newest(admin, tenant=other.id)["action"] == "tenant.delete"  # what is gone is still asked for


@pytest.mark.parametrize("query, status", [({"tenant": "ten_nope"}, 404), ({"tenant": "ten_" + "0" * 21 + "1"}, 404), ({"token": "adt_" + "0" * 21 + "1"}, 404), ({"token": "x"}, 404),
                                           ({"action": "Key"}, 400), ({"action": "a.b.c"}, 400), ({"action": "x" * 48}, 400), ({"object": "x"}, 400), ({"object": "key_" + "!" * 22}, 400),
                                           ({"start_time": "soon"}, 400), ({"end_time": ""}, 400), ({"after": "aud_x"}, 400), ({"after": "use_" + "0" * 21 + "1"}, 400),
                                           ({"limit": "0"}, 400), ({"limit": "101"}, 400), ({"format": "xml"}, 400), ({"colour": "red"}, 400)])
def test_bad_questions(admin, query, status):
    is_error(admin.call("GET", "audit", params=query), status, param=next(iter(query)))


def test_exports(gateway, admin):
    account = Account(gateway)
    admin.patch(f"tenants/{account.id}", {"name": 'a, "quoted" =name'})
    listed = admin.all("audit", tenant=account.id)
    lines = admin.call("GET", "audit", params={"tenant": account.id}, headers={"Accept": "application/x-ndjson"})
    assert lines.headers["content-type"] == "application/x-ndjson" and [json.loads(line) for line in lines.text.splitlines()] == listed
    table = admin.call("GET", "audit", params={"tenant": account.id, "format": "csv"})
    assert table.headers["content-type"].startswith("text/csv") and "audit" in table.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert list(rows[0]) == ["id", "created_at", "action", "object_id", "tenant", "token_id", "token_name", "peer", "request_id", "before", "after", "hash"]
    assert len(rows) == len(listed)
    for row, e in zip(rows, listed):
        assert (row["id"], row["created_at"], row["token_id"], row["hash"]) == (e["id"], e["created_at"], e["token"]["id"], e["hash"])
        assert (json.loads(row["after"]) if row["after"] else None) == e["after"] and (json.loads(row["before"]) if row["before"] else None) == e["before"]
    limited = admin.call("GET", "audit", params={"limit": 2, "format": "ndjson"})
    assert len(limited.text.splitlines()) == 2


def test_a_long_export(gateway, admin):
    """More than one page, more than one piece."""
    account = Account(gateway)
    for _ in range(3):
        admin.create("keys/bulk", {"keys": [{"tenant": account.id, "name": "x" * 120} for _ in range(400)]})
    text = admin.call("GET", "audit", params={"tenant": account.id, "format": "ndjson"}).text
    found = [json.loads(line) for line in text.splitlines()]
    assert len(found) == 1203 and len({e["id"] for e in found}) == 1203 and len(text) > 3 * 128 * 1024
    assert found[:100] == admin.get("audit", tenant=account.id, limit=100)["data"]


def test_the_chain_can_be_made_again(gateway, admin):
    """By anybody, from the file, as db/chain.h says."""
    with sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True) as db:
        rows = db.execute("SELECT seq, at, token, tenant, request, action, object, peer, before_state, after_state, hash FROM audit ORDER BY seq").fetchall()
        ends = dict(db.execute("SELECT place, hash FROM audit_chain"))
    before, number = bytes(32), lambda n: (n or 0).to_bytes(8, "little", signed=True)
    for row in rows:
        texts = [(t or "").encode() for t in row[5:10]]
        before = hashlib.blake2b(before + b"".join(map(number, row[:4])) + row[4] + b"".join(number(len(t)) + t for t in texts), digest_size=32).digest()
        assert before == row[10]
    assert before == ends[1]


def test_fsck_finds_what_was_done_to_it(own_gateway):
    gateway = own_gateway()
    gateway.start()
    for i in range(4):
        gateway.admin.create("tenants", {"name": f"t{i}"})
    gateway.stop()
    gateway.fsck()
    with sqlite3.connect(gateway.database) as db:
        with pytest.raises(sqlite3.IntegrityError, match="only added to"):
            db.execute("DELETE FROM audit WHERE seq = 2")
        db.execute("DROP TRIGGER audit_holds")
        db.execute("UPDATE audit SET after_state = replace(after_state, 't1', 't9') WHERE seq = 3")
    done = run("fsck", "-c", gateway.config)
    assert done.returncode == 1 and "FAIL the audit trail is a chain: entry 3 has another hash" in done.stdout


# ---- who may read it ----

def test_a_tenant_sees_what_is_about_it(gateway, admin, account):
    other = Account(gateway)
    with admin.scoped(account.id) as tenant, admin.scoped(account.id, role="viewer") as viewer:
        mine = tenant.create("customers", {"name": "x"})
        seen = tenant.all("audit")
        assert seen and all(e["tenant"] == account.id for e in seen)
        own, theirs = seen[0], next(e for e in seen if e["action"] == "tenant.credit")
        assert own["object_id"] == mine["id"] and own["token"]["name"] and own["peer"] == "127.0.0.1"
        assert (theirs["token"], theirs["peer"]) == (None, None) and theirs["after"]["amount"] == "10.000000000"
        assert viewer.all("audit") == seen and tenant.all("audit", tenant=account.id) == seen
        is_error(tenant.call("GET", "audit", params={"tenant": other.id}), 404, param="tenant")
        platform = newest(admin, action="tenant.create")["token"]["id"]
        is_error(tenant.call("GET", "audit", params={"token": platform}), 404, param="token")
        assert tenant.all("audit", object=other.id) == [] and not [e for e in seen if "chn_" in json.dumps(e) or '"cost' in json.dumps(e)]
        rows = list(csv.DictReader(io.StringIO(tenant.call("GET", "audit", params={"format": "csv", "action": "tenant."}).text)))
        assert rows and all(r["token_id"] == r["token_name"] == r["peer"] == "" for r in rows)


# ---- tokens ----

def test_tokens_tell_of_themselves(gateway, admin, account):
    made = admin.create("admin-tokens", {"name": unique("t"), "scope": account.id, "role": "viewer"})
    shown = admin.get(f"admin-tokens/{made['id']}")
    assert shown == {k: v for k, v in made.items() if k != "secret"} and shown["last_used_at"] is None and shown["scope"] == account.id
    with Admin(gateway.admin_url, made["secret"]) as viewer, admin.scoped(Account(gateway).id) as stranger:
        assert viewer.get(f"admin-tokens/{made['id']}")["id"] == made["id"]
        is_error(viewer.call("POST", "admin-tokens", {"name": "x", "role": "viewer"}), 403)
        is_error(viewer.call("DELETE", f"admin-tokens/{made['id']}"), 403)
        missing, theirs = (stranger.call("GET", f"admin-tokens/{i}") for i in ("adt_" + "0" * 21 + "1", made["id"]))
        assert missing.status_code == theirs.status_code == 404
        admin.delete(f"admin-tokens/{made['id']}")
        is_error(viewer.call("GET", "tenants"), 401, "invalid_api_key")
    is_error(admin.call("GET", f"admin-tokens/{made['id']}"), 404)


def test_a_token_makes_none_that_outlives_it(admin):
    soon, later = "2040-01-01T00:00:00Z", "2041-01-01T00:00:00Z"
    maker = admin.create("admin-tokens", {"name": "mortal", "expires_at": soon})
    with Admin(admin.url, maker["secret"]) as mortal:
        for body in ({"name": "x"}, {"name": "x", "expires_at": None}, {"name": "x", "expires_at": soon}):
            assert mortal.create("admin-tokens", body)["expires_at"] == maker["expires_at"]
        assert mortal.create("admin-tokens", {"name": "x", "expires_at": "2039-01-01T00:00:00Z"})["expires_at"].startswith("2039-")
        is_error(mortal.call("POST", "admin-tokens", {"name": "x", "expires_at": later}), 403, "forbidden", param="expires_at")


def test_last_use_of_a_token(own_gateway):
    gateway = own_gateway()
    gateway.start()
    made = gateway.admin.create("admin-tokens", {"name": "looked at"})
    with Admin(gateway.admin_url, made["secret"]) as other:
        other.get("tenants")
    gateway.restart()  # what was noted is given to the store at the end
    used = gateway.admin.get(f"admin-tokens/{made['id']}")["last_used_at"]
    assert used is not None and used > made["created_at"]
    assert next(t for t in gateway.admin.all("admin-tokens") if t["id"] == made["id"])["last_used_at"] == used
    gateway.stop()
    gateway.fsck()


def test_a_closed_tenants_token(gateway, admin):
    account = Account(gateway, credit=None)
    with admin.scoped(account.id) as tenant:
        assert tenant.get("tenants")["data"][0]["id"] == account.id
        admin.delete(f"tenants/{account.id}")
        with Admin(gateway.admin_url, tenant.token) as again:
            is_error(again.call("GET", "tenants"), 401, "invalid_api_key")


# ---- failed tries ----

def trying(gateway, address, token):
    transport = httpx.HTTPTransport(local_address=address, verify=False)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(transport=transport, timeout=10 * PATIENCE, headers=headers) as http:
        return http.get(gateway.admin_url + "/admin/v1/tenants")


def spend(gateway, address):
    with httpx.Client(transport=httpx.HTTPTransport(local_address=address, verify=False), timeout=10 * PATIENCE, headers={"Authorization": "Bearer ta-" + "x" * 40}) as http:
        for i in range(60):
            reply = http.get(gateway.admin_url + "/admin/v1/tenants")
            if reply.status_code == 429:
                return i, reply
    raise AssertionError("nobody is stopped")


def test_guessing_is_stopped(gateway, admin):
    good = admin.create("admin-tokens", {"name": "known there"})["secret"]
    assert trying(gateway, "127.4.0.1", good).status_code == 200
    before = gateway.metrics()["tallygate_admin_tries_refused_total"]
    tries, reply = spend(gateway, "127.4.0.1")
    assert 20 <= tries <= 24
    is_error(reply, 429, "rate_limit_exceeded", type="requests")
    assert reply.headers["retry-after"] == "1" and 1 <= int(reply.headers["retry-after-ms"]) <= 1001
    assert trying(gateway, "127.4.0.1", good).status_code == 200, "who was seen before is not locked out"
    fresh = admin.create("admin-tokens", {"name": "not known there"})["secret"]
    spend(gateway, "127.4.0.1")
    assert trying(gateway, "127.4.0.1", fresh).status_code == 429, "a right guess is told like a wrong one"
    assert trying(gateway, "127.4.0.2", fresh).status_code == 200
    assert trying(gateway, "127.4.0.1", None).status_code == 401, "no token is no guess"
    assert gateway.metrics()["tallygate_admin_tries_refused_total"] > before
    assert '"event":"admin_tries"' in gateway.text() and '"peer":"127.4.0.1"' in gateway.text()


def test_a_revoked_token_is_no_good_token(gateway, admin):
    made = admin.create("admin-tokens", {"name": "soon gone"})
    assert trying(gateway, "127.4.0.3", made["secret"]).status_code == 200
    admin.delete(f"admin-tokens/{made['id']}")
    assert trying(gateway, "127.4.0.3", made["secret"]).status_code == 401
    spend(gateway, "127.4.0.3")
    assert trying(gateway, "127.4.0.3", made["secret"]).status_code == 429
