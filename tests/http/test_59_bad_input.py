"""Whatever is sent to the admin listener: 400 (404 for an id, 413 for too much) that names the member or parameter, never a 500, nothing half-done.
Bodies and queries are made from the rules that `tallygate help --routes` prints, so that new routes are tried, too."""

import json
from urllib.parse import unquote

import httpx
import pytest
from jsonschema import Draft202012Validator

from lib.admin import unique
from lib.check import is_error
from lib.process import PATIENCE
from lib.routes import GUARDED, World, counts, kind_of, name

WRITES = [r for r in GUARDED if r["method"] in ("POST", "PATCH")]
ASKED = [r for r in GUARDED if r["query"]]
DEEP = '{"a":' * 100 + "1" + "}" * 100
LONG = "x" * 5000
# What stands in a member, as JSON text.
VALUES = ["null", "true", "0", "-1", "1.5", "1e30", "-1e400", "1" + "0" * 400, '""', '"x"', '"-1"', '"1e30"', '"0.0000000000001"', f'"{LONG}"', '"\\u0000"', '"a\\nb"', '"\\ud800"',
          '"2020-01-01T00:00:00Z"', '"2030-13-45T99:99:99Z"', '"4102444800"', "[]", "[[]]", "[1]", '["x"]', "[null]", "{}", '{"x": 1}', "[" * 100 + "]" * 100, DEEP,
          '"ten_' + "0" * 21 + '1"', "[{}]", '[{"x": [{}]}]', '{"x": {"y": [1, {"z": null}]}}']
# Bodies that are none, and whether they are too large.
BODIES = [b"[]", b"[{}]", b"null", b"true", b"1", b'"x"', b"{", b"}", b'{"a"}', b"{'a': 1}", b'{"a": 1,}', b'{"a": 1} {"b": 2}', b'{"a": NaN}', b'{"a": Infinity}', b"\x00", b"\xff\xfe",
          b'{"name": "\xff\xfe"}', b'{"name": "\xc0\xaf"}', b'{"name": "\xed\xa0\x80"}', b'{"\xff": 1}', b'\xef\xbb\xbf{"nobody": 1}', '{"name": "x"}'.encode("utf-16"),
          '{"name": "x"}'.encode("utf-16-be"), '{"name": "x"}'.encode("utf-32"), DEEP.encode(), b"[" * 100000, b'{"a":' * 10000, b'{"name": "a", "name": "b"}', b'{"no_such": 1}',
          b"name=x&kind=y", b"<name>x</name>", b" " * 1000, b'{"name": "x"']


@pytest.fixture(scope="module")
def world(gateway):
    made = World(gateway, expired=False)
    yield made
    made.close()


@pytest.fixture(scope="module", autouse=True)
def nothing_half_done(world):
    before = counts(world)
    yield
    assert counts(world) == before


@pytest.fixture(scope="module")
def http(gateway):
    with httpx.Client(base_url=gateway.admin_url, headers={"Authorization": f"Bearer {gateway.token}"}, timeout=30 * PATIENCE, trust_env=False) as client:
        yield client


def path_of(world, route):
    return route["path"].replace("{id}", world.ids[kind_of(route)]) if "{id}" in route["path"] else route["path"]


def send(http, world, route, content, **headers):
    if route["method"] == "POST":
        headers["Idempotency-Key"] = unique("bad")
    return http.request(route["method"], path_of(world, route), content=content, headers={"Content-Type": "application/json", **headers})


def least(world, route):
    """Values for the members that the body must have, so that the one that is tried is at fault."""
    good = {"name": unique("least"), "tenant": world.own.id, "amount": "1", "reason": "x", "action": "void", "kind": "retail", "model": "dall-e-2", "base_url": "http://127.0.0.1:1/v1",
            "api_key": "x", "models": {"m": "m"}, "rates": [{"model": "m", "unit": "image", "amount": "1"}], "keys": [{"tenant": world.own.id, "name": "x"}]}
    if route["path"].endswith("/channels"):
        good["kind"] = "sandbox"
    members = {f["name"]: good.get(f["name"]) for f in route["body"]["fields"] if f["required"]} if route["method"] == "POST" else {}
    assert None not in members.values(), f"{name(route)}: a required member that this module does not know: {members}"
    if "tenant" in {f["name"] for f in route["body"]["fields"]} and not route["path"].endswith(("/quotes", "/price-books")):
        members["tenant"] = world.own.id
    return members


def is_value(schema, text):
    try:
        return Draft202012Validator(schema).is_valid(json.loads(text))
    except (ValueError, OverflowError, RecursionError):
        return False


# ---- members ----

@pytest.mark.parametrize("route", [r for r in WRITES if r["body"]], ids=name)
def test_members(http, world, route):
    tried = 0
    for field in route["body"]["fields"]:
        others = {k: v for k, v in least(world, route).items() if k != field["name"]}
        for value in VALUES:
            if is_value(field["schema"], value):
                continue
            members = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in others.items()] + [f'{json.dumps(field["name"])}: {value}']
            reply = send(http, world, route, ("{" + ", ".join(members) + "}").encode())
            if reply.status_code == 200 and field["schema"].get("pattern") or route["method"] == "PATCH" and reply.status_code == 200:
                pytest.fail(f"{name(route)}: {field['name']}: {value[:80]} was taken")
            assert reply.status_code in (400, 404, 409), (name(route), field["name"], value[:80], reply.status_code, reply.text)
            error = is_error(reply, reply.status_code)
            # a number or nesting that no JSON of ours has is a fault of the whole
            assert (error["param"] or "").startswith(field["name"]) or field["name"] in ("policy", "limits") and error["param"] or \
                len(value) > 100 or "1e400" in value or "ud800" in value, (name(route), field["name"], value[:80], error)
            tried += 1
    assert tried > len(route["body"]["fields"])


@pytest.mark.parametrize("route", WRITES, ids=name)
def test_bodies_that_are_none(http, world, route):
    for body in BODIES:
        reply = send(http, world, route, body)
        assert reply.status_code == 400, (name(route), body[:60], reply.status_code, reply.text)
        is_error(reply, 400)


@pytest.mark.parametrize("route", WRITES, ids=name)
def test_too_much(http, world, route):
    is_error(send(http, world, route, b'{"name": "' + b"x" * (4 * 1024 * 1024) + b'"}'), 413, "request_too_large")


def test_other_encodings_and_types(http, world):
    for kind in ("multipart/form-data; boundary=x", "Multipart/Mixed"):
        reply = http.post("/admin/v1/tenants", content=b'{"name": "x"}', headers={"Content-Type": kind})
        is_error(reply, 400, "unsupported_content_type")
    assert http.post("/admin/v1/tenants", content=b"\x1f\x8b\x08\x00", headers={"Content-Encoding": "gzip"}).status_code == 400


# ---- queries ----

def bad_values(q):
    """Values that the parameter cannot have, percent-encoded."""
    schema = q["schema"].get("items", q["schema"])
    many = ["", "%00", "%ff%fe", "%zz", "%"]
    if schema.get("type") == "integer":
        return many + ["x", "-1", "1e30", "1.5", "0x10", "99999999999999999999", str(schema["minimum"] - 1), str(schema["maximum"] + 1), "+1", "%201"]
    if "enum" in schema:
        return many + ["purple", "%27;--", schema["enum"][0] + "x", schema["enum"][0].upper()]
    if "anyOf" in schema:
        return many + ["yesterday", "1e30", "2024-13-01T00:00:00Z", "2024-02-30T00:00:00Z", "-", "2024-01-01", "99999999999999999999"]
    if "pattern" in schema:
        return many + ["%27%22", "x" * 3000, "%20", "%E2%98%83", "_" * 30]
    return many + ["x" * 3000]


def is_parameter(q, value):
    schema = q["schema"].get("items", q["schema"])
    return schema.get("type") == "string" and "%0" not in value and "%ff" not in value and Draft202012Validator(schema).is_valid(unquote(value))


@pytest.mark.parametrize("route", ASKED, ids=name)
def test_parameters(http, world, route):
    path, fixed = path_of(world, route), "&".join(f"{k}={v}" for k, v in world.required(route).items())
    for q in route["query"]:
        others = "&".join(f"{k}={v}" for k, v in world.required(route).items() if k != q["name"])
        for value in bad_values(q):
            if (q["many"] and value == "") or is_parameter(q, value):
                continue  # no value at all is no filter
            reply = http.request(route["method"], f"{path}?{others}&{q['name']}={value}")
            assert reply.status_code in (400, 404), (name(route), q["name"], value[:40], reply.status_code, reply.text)
            error = is_error(reply, reply.status_code)
            assert error["param"] == q["name"] or "%" in value, (name(route), q["name"], value[:40], error)
        if not q["many"]:
            error = is_error(http.request(route["method"], f"{path}?{others}&{q['name']}=1&{q['name']}=1"), 400)
            assert error["param"] == q["name"], (name(route), error)
    for extra, param in (("colour=red", "colour"), ("x" * 60 + "=1", "x" * 60), ("=1", None), ("%ff=1", None)):
        error = is_error(http.request(route["method"], f"{path}?{fixed}&{extra}"), 400)
        assert param is None or error["param"] == param, (name(route), extra, error)


@pytest.mark.parametrize("route", [r for r in GUARDED if not r["query"]], ids=name)
def test_routes_without_parameters(http, world, route):
    reply = http.request(route["method"], path_of(world, route) + "?colour=red", headers={"If-Match": '"never"'})
    is_error(reply, 400, "unknown_parameter", param="colour")


# ---- headers and paths ----

def test_keys_and_etags(http, world):
    for key in ("x" * 256, "", "a\tb"):
        reply = http.post("/admin/v1/tenants", json={"name": "x"}, headers={"Idempotency-Key": key})
        is_error(reply, 400, param="Idempotency-Key")
    two = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    is_error(http.post("/admin/v1/tenants", json={"name": "x"}, headers=two), 400, param="Idempotency-Key")
    for etag in ("x", '"0"', "1", '"1" x', 'W/"1"', '""', '"' + "9" * 500 + '"'):
        is_error(http.patch(f"/admin/v1/channels/{world.ids['channels']}", json={"weight": 9}, headers={"If-Match": etag}), 412, param="If-Match")


@pytest.mark.parametrize("id", ["%00", "%2e%2e", "%ff", "..%2f..%2fetc", "x" * 5000, "%25", "ten_%30", "'", "*", "ten_" + "0" * 22])
def test_ids(http, id):
    for path in ("tenants", "keys", "usage/records", "price-books"):
        reply = http.get(f"/admin/v1/{path}/{id}")
        assert reply.status_code in (400, 404), reply.text
        is_error(reply, reply.status_code)
