"""Usage records with all their filters, and exported: CSV and NDJSON of any length, exactly what the list shows."""

import csv
import io
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from lib.admin import Account, Admin, Customer
from lib.bazaar import Bazaar
from lib.check import is_error
from lib.process import PATIENCE


@pytest.fixture(scope="module")
def bazaar(gateway):
    return Bazaar(gateway, calls=50)


@pytest.fixture
def admin(gateway):
    return gateway.admin


def raw(admin, path="usage/records", accept=None, **params):
    return admin.call("GET", path, params=params, headers={"Accept": accept} if accept else {})


def rows(reply):
    """The lines of a CSV answer as dicts; RFC 4180 to the letter."""
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert reply.text.endswith("\r\n") and "\n" not in reply.text.replace("\r\n", "")
    return list(csv.DictReader(io.StringIO(reply.text, newline=""), strict=True))


def lines(reply):
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in reply.text.splitlines()]


def flat(record):
    """A record as a line of the file has it."""
    def cell(name, value):
        if name == "flags":
            return " ".join(value)
        return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return {k: cell(k, v) for k, v in record.items() if k != "attempts"}


def test_ndjson_is_the_list(bazaar, admin):
    records = bazaar.records()
    assert lines(raw(admin, accept="application/x-ndjson")) == records
    assert lines(raw(admin, format="ndjson")) == records
    text = raw(admin, format="ndjson").text
    assert text.count("\n") == len(records) and text.endswith("\n")


def test_csv_is_the_list(bazaar, admin):
    records = bazaar.records()
    found = rows(raw(admin, accept="text/csv"))
    assert found == [flat(r) for r in records]
    assert list(found[0]) == [name for name in records[0] if name != "attempts"]
    assert found == rows(raw(admin, format="csv")) == rows(raw(admin, accept="text/csv;q=0.9, application/json;q=0.5, */*;q=0.1"))


def test_headers(bazaar, admin):
    for kind in ("csv", "ndjson"):
        reply = raw(admin, format=kind)
        assert reply.headers["content-disposition"] == f'attachment; filename="usage-records.{kind}"'
        assert reply.headers["vary"] == "accept" and reply.headers["x-request-id"].startswith("req_")
    for accept in ("*/*", "application/json", "image/png", "text/html,application/xhtml+xml,*/*;q=0.8", "application/json, text/csv;q=0.5", "text/csv;q=0, application/json;q=0.1"):
        assert raw(admin, accept=accept).headers["content-type"] == "application/json", accept
    assert raw(admin, accept="text/csv", format="json").json()["object"] == "list"


def test_a_tenants_own(bazaar, admin):
    for account in (bazaar.one, bazaar.two):
        with admin.scoped(account.id, role="viewer") as tenant:
            mine = tenant.records()
            assert {r["tenant"] for r in mine} == {account.id} and len(mine) == len(bazaar.records(tenant=account.id))
            assert lines(raw(tenant, format="ndjson")) == mine
            found = rows(raw(tenant, format="csv"))
            assert found == [flat(r) for r in mine] and not {"cost", "channel"} & set(found[0])
            assert all("channel" not in a for r in mine for a in r["attempts"])


def spellings(name, values):
    yield {name: ",".join(values)}
    yield [(name, v) for v in values]
    yield [(f"{name}[]", v) for v in values]


@pytest.mark.parametrize("name", ["tenant", "customer", "key", "channel", "model", "operation", "size", "quality"])
def test_filters(bazaar, admin, name):
    records = bazaar.records()
    values = sorted({r[name] for r in records if r[name] is not None})[:2]
    wanted = [r for r in records if r[name] in values]
    assert wanted
    for query in spellings(name, values):
        reply = admin.call("GET", "usage/records", params=[*(query.items() if isinstance(query, dict) else query), ("format", "ndjson")])
        assert lines(reply) == wanted
    assert bazaar.records(**{name: values[0]}) == [r for r in records if r[name] == values[0]]


def test_filters_together(bazaar, admin):
    records = bazaar.records()
    some = records[len(records) // 2]
    both = {"tenant": some["tenant"], "model": some["model"], "operation": some["operation"], "start_time": records[-1]["created_at"], "end_time": some["created_at"]}
    wanted = [r for r in records if all(r[k] == both[k] for k in ("tenant", "model", "operation")) and r["created_at"] < some["created_at"]]
    assert lines(raw(admin, format="ndjson", **both)) == wanted
    assert bazaar.records(request_id=some["request_id"]) == [some]
    assert bazaar.records(request_id="req_" + "1" * 22) == []
    assert bazaar.records(model="gpt-image-9") == []


def test_pages_of_exports(bazaar, admin):
    records = bazaar.records()
    assert lines(raw(admin, format="ndjson", limit=7)) == records[:7]
    assert lines(raw(admin, format="ndjson", after=records[6]["id"])) == records[7:]
    assert rows(raw(admin, format="csv", limit=3, after=records[6]["id"])) == [flat(r) for r in records[7:10]]
    empty = raw(admin, format="csv", model="none-such")
    assert empty.status_code == 200 and empty.text.count("\r\n") == 1 and empty.text.startswith("id,object,created_at,")
    assert raw(admin, format="ndjson", model="none-such").content == b""


@pytest.mark.parametrize("query, param", [
    ({"format": "xml"}, "format"), ({"format": "html"}, "format"), ({"operation": "generation"}, "operation"), ({"start_time": "yesterday"}, "start_time"),
    ({"end_time": "1e30"}, "end_time"), ({"limit": "0"}, "limit"), ({"limit": "101"}, "limit"), ({"after": "ten_x"}, "after"), ({"request_id": "use_x"}, "request_id"),
    ({"surprise": "1"}, "surprise"), ({"start_time": "2030-01-02T00:00:00Z", "end_time": "2030-01-01T00:00:00Z"}, "end_time"), ({"model": "x" * 200}, "model"),
    ({"model": ",".join(f"m{i}" for i in range(33))}, "model")])
def test_bad_queries(bazaar, admin, query, param):
    for kind in ("json", "csv", "ndjson"):
        is_error(raw(admin, **{"format": kind, **query}), 400, param=param)


def test_what_is_not_there(bazaar, admin):
    """The same answer for another tenant's as for none."""
    made = bazaar.two
    with admin.scoped(bazaar.one.id) as tenant:
        for name, theirs in (("tenant", made.id), ("customer", bazaar.other.id), ("key", made.key["id"])):
            missing = theirs[:4] + "1" * 22
            replies = [raw(tenant, format=kind, **{name: value}) for value in (theirs, missing) for kind in ("json", "csv")]
            messages = {is_error(r, 404, "not_found", param=name)["message"].replace(theirs, "X").replace(missing, "X") for r in replies}
            assert len(messages) == 1
        is_error(raw(tenant, channel="chn_" + "1" * 22), 400, "unknown_parameter", param="channel")
    is_error(raw(admin, customer="cus_x"), 404, "not_found", param="customer")
    is_error(raw(admin, format="csv", key="key_" + "1" * 22), 404, "not_found", param="key")
    is_error(raw(Admin(admin.url, None), format="csv"), 401)


def test_the_usage_of_what_is_gone_is_found(gateway, admin):
    """A revoked key, a deleted customer, a deleted tenant."""
    account = Account(gateway, credit="0.016")
    gone = Customer(account, wallet="shared")
    assert gone.post({"model": "dall-e-2", "prompt": "x", "size": "256x256"}).status_code == 200
    account.settled()
    admin.create(f"keys/{gone.key['id']}/revoke", {})
    admin.delete(f"customers/{gone.id}")
    found = lines(raw(admin, format="ndjson", key=gone.key["id"]))
    assert [(r["key"], r["customer"]) for r in found] == [(gone.key["id"], gone.id)] and lines(raw(admin, format="ndjson", customer=gone.id)) == found
    admin.delete(f"tenants/{account.id}")
    assert lines(raw(admin, format="ndjson", tenant=account.id)) == found


@pytest.fixture(scope="module")
def crowd(gateway, bazaar):
    """Records of a tenant by the hundred: an export of them leaves in several pieces."""
    many = Account(gateway, credit="100")

    def calls(n):
        with httpx.Client(timeout=30 * PATIENCE, trust_env=False, headers=many.authorization) as http:
            for _ in range(n):
                assert http.post(gateway.base_url + "/images/generations", json={"model": "dall-e-2", "prompt": "x", "size": "256x256"}).status_code == 200
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(calls, [100] * 6))
    many.settled()
    return many


def test_in_several_pieces(crowd, admin):
    records = crowd.records()
    assert len(records) == 600
    reply = raw(admin, format="ndjson", tenant=crowd.id)
    assert lines(reply) == records and "content-length" not in reply.headers and len(reply.content) > 4 * 128 * 1024 - 50000
    assert rows(raw(admin, format="csv", tenant=crowd.id)) == [flat(r) for r in records]


def test_a_slow_reader(crowd, admin, gateway):
    """A few bytes at a time, over a small window."""
    whole = raw(admin, format="ndjson", tenant=crowd.id).content
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(20 * PATIENCE)
        sock.connect(("127.0.0.1", gateway.admin_port))
        sock.sendall(f"GET /admin/v1/usage/records?format=ndjson&tenant={crowd.id} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                     f"Authorization: Bearer {gateway.token}\r\n\r\n".encode())
        got = b""
        while True:
            piece = sock.recv(3000)
            if not piece:
                break
            got += piece
            if len(got) < 60000:
                time.sleep(0.005)
    body, chunks = b"", got.partition(b"\r\n\r\n")[2]
    while True:
        size, _, chunks = chunks.partition(b"\r\n")
        if int(size, 16) == 0:
            break
        body, chunks = body + chunks[:int(size, 16)], chunks[int(size, 16) + 2:]
    assert body == whole


def test_clients_that_go_away(crowd, bazaar, admin, gateway):
    """In the middle of an export, again and again; nothing is left of them."""
    for turn in range(20):
        with socket.create_connection(("127.0.0.1", gateway.admin_port), timeout=10 * PATIENCE) as sock:
            sock.sendall(f"GET /admin/v1/usage/records?format=ndjson HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.token}\r\n\r\n".encode())
            if turn % 2:
                sock.recv(10)
    assert lines(raw(admin, format="ndjson")) == bazaar.records()


def test_while_calls_come_in(bazaar, admin):
    """What was there when an export began is in it, once; pages and exports meet newer records at most at the head."""
    before = [r["id"] for r in bazaar.records()]
    page = admin.get("usage/records", limit=10)
    bazaar.call(8)
    seen = [r["id"] for r in page["data"]]
    while page["has_more"]:
        page = admin.get("usage/records", limit=10, after=page["next"])
        seen += [r["id"] for r in page["data"]]
    assert seen == before
    assert [r["id"] for r in lines(raw(admin, format="ndjson"))][-len(before):] == before
