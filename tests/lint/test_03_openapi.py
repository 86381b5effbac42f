"""The OpenAPI document says what the daemon checks: every route, parameter, member, limit and error, from the same tables (`tallygate help --routes`)."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator

sys.path.insert(0, str(Path(__file__).resolve().parent))
from source import ROOT  # noqa: E402

from lib.process import BINARY, run  # noqa: E402

pytestmark = pytest.mark.skipif(not BINARY.exists(), reason="no executable yet; set TG_BINARY")
DOCUMENT = json.loads((ROOT / "admin/openapi.json").read_text())
METHODS = ("get", "post", "patch", "delete")
# What a schema may say beside its rules.
WORDS = {"description", "examples", "example", "default", "title"}
NUMBERS = re.compile(r"_\[0-9A-Za-z\]\{22\}")


def routes():
    done = run("help", "--routes")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["routes"]


def operations():
    return {(method.upper(), path): operation for path, item in DOCUMENT["paths"].items() for method, operation in item.items() if method in METHODS}


def resolved(node):
    """The node that a reference means, with what stands beside it."""
    while isinstance(node, dict) and "$ref" in node:
        at = DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            at = at[part.replace("~1", "/").replace("~0", "~")]
        node = {**at, **{k: v for k, v in node.items() if k != "$ref"}}
    return node


def rules(schema):
    """A schema without references and words: what it allows, nothing else."""
    if isinstance(schema, list):
        return [rules(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {k: v for k, v in resolved(schema).items() if k not in WORDS}
    plain = {k: ({name: rules(one) for name, one in v.items()} if k == "properties" else rules(v)) for k, v in schema.items()}
    if "required" in plain:
        plain["required"] = sorted(plain["required"])
        if not plain["required"]:
            del plain["required"]
    return plain


def parameters(method, path):
    """Of one operation, the path's included."""
    item = DOCUMENT["paths"][path]
    return [resolved(p) for p in item.get("parameters", []) + item[method.lower()].get("parameters", [])]


ROUTES = routes() if BINARY.exists() else []
GUARDED = [r for r in ROUTES if r["token"]]


def label(route):
    return f"{route['method']} {route['path']}" if isinstance(route, dict) else str(route)


def test_the_served_document_is_the_written_one():
    spec = importlib.util.spec_from_file_location("openapi", ROOT / "etc/openapi.py")
    openapi = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(openapi)
    assert (ROOT / "admin/openapi.json").read_text() == openapi.text(), "run: etc/openapi.py"


def test_the_document_is_valid():
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert not [e.message for e in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()]


def test_every_route_is_in_the_document():
    written, made = set(operations()), {(r["method"], r["path"]) for r in ROUTES}
    assert written == made, (sorted(made - written), sorted(written - made))


def test_operations_are_named_once_and_tagged():
    ids = [o["operationId"] for o in operations().values()]
    assert len(ids) == len(set(ids))
    tags = {t["name"] for t in DOCUMENT["tags"]}
    assert all(o.get("summary") and len(o["tags"]) == 1 and o["tags"][0] in tags for o in operations().values())
    assert all(t.get("description") for t in DOCUMENT["tags"])


def test_nothing_is_defined_for_nobody():
    text = json.dumps(DOCUMENT)
    dead = [f"{kind}/{name}" for kind, things in DOCUMENT["components"].items() if kind != "securitySchemes" for name in things
            if f'"#/components/{kind}/{name}"' not in text]
    assert not dead, dead


@pytest.mark.parametrize("route", ROUTES, ids=label)
def test_security(route):
    operation = operations()[route["method"], route["path"]]
    assert operation.get("security", DOCUMENT["security"]) == ([{"adminToken": []}] if route["token"] else [])


@pytest.mark.parametrize("route", GUARDED, ids=label)
def test_parameters_are_those_that_are_checked(route):
    written = parameters(route["method"], route["path"])
    query = {p["name"]: p for p in written if p["in"] == "query"}
    assert sorted(query) == sorted(q["name"] for q in route["query"])
    for q in route["query"]:
        p = query[q["name"]]
        assert p.get("required", False) == q["required"], q["name"]
        assert rules(p["schema"]) == rules(q["schema"]), q["name"]
        assert p.get("description"), q["name"]
        assert not q["many"] or p["schema"]["type"] == "array"
        assert not q["platform"] or "token" in p["description"], q["name"]
    headers = {p["name"]: p.get("required", False) for p in written if p["in"] == "header"}
    wanted = {}
    if route["method"] == "POST":
        wanted["Idempotency-Key"] = route["access"] == "money"
    if route["method"] in ("PATCH", "DELETE") or route["path"].endswith(("/rotate", "/revoke")):
        wanted["If-Match"] = False
    assert headers == wanted
    assert [p["name"] for p in written if p["in"] == "path"] == re.findall(r"\{(\w+)\}", route["path"])
    assert all(p["required"] and p["schema"]["pattern"] for p in written if p["in"] == "path")


@pytest.mark.parametrize("route", [r for r in GUARDED if r["method"] in ("POST", "PATCH")], ids=label)
def test_bodies_are_those_that_are_checked(route):
    body = operations()[route["method"], route["path"]].get("requestBody")
    media = resolved(body)["content"]["application/json"]
    schema = resolved(media["schema"])
    fields = {f["name"]: f for f in (route["body"] or {"fields": []})["fields"]}
    assert schema["type"] == "object" and schema["additionalProperties"] is False
    assert sorted(schema.get("properties", {})) == sorted(fields)
    required = sorted(name for name, f in fields.items() if f["required"])
    assert sorted(schema.get("required", [])) == required and body.get("required", False) == bool(required)
    for name, f in fields.items():
        written = schema["properties"][name]
        assert rules(written) == rules(f["schema"]), name
        assert not f["platform"] or "Platform tokens only." in resolved(written).get("description", ""), name
    assert media.get("examples"), "no example"


@pytest.mark.parametrize("route", [r for r in GUARDED if r["method"] == "POST" and r["body"] and r["body"]["create"]], ids=label)
def test_what_is_fixed_is_not_in_a_change(route):
    fixed = {f["name"] for f in route["body"]["fields"] if f["fixed"]}
    change = operations().get(("PATCH", route["path"] + "/{id}"))
    if change:
        schema = resolved(change["requestBody"]["content"]["application/json"]["schema"])
        assert not fixed & set(schema["properties"])


def possible(route):
    """Which errors a route can give, by what it is."""
    found = {"400", "401", "429", "503"}
    if route["access"] != "read" or route["scope"] == "terms":
        found.add("403")
    if "{id}" in route["path"] or route["scope"] == "platform" or NUMBERS.search(json.dumps([route["query"], route["body"]])):
        found.add("404")
    found |= {"POST": {"409", "413", "422"}, "PATCH": {"409", "412", "413"}, "DELETE": {"409", "412"}}.get(route["method"], set())
    if any(p["name"] == "If-Match" for p in parameters(route["method"], route["path"])):
        found.add("412")
    if route["path"] in ("/admin/v1/customers/{id}/balance", "/admin/v1/customers/{id}/statement"):
        found.add("409")
    return found


@pytest.mark.parametrize("route", GUARDED, ids=label)
def test_every_error_is_there(route):
    answers = operations()[route["method"], route["path"]]["responses"]
    assert {s for s in answers if s >= "400"} == possible(route) and "200" in answers
    for status, raw in answers.items():
        answer = resolved(raw)
        assert answer["headers"]["x-request-id"], status
        if status >= "400":
            media = answer["content"]["application/json"]
            assert media["schema"] == {"$ref": "#/components/schemas/Error"} and media["example"]["error"]["request_id"]
    assert status != "429" or "Retry-After" in answer["headers"]


def test_the_error_object_is_closed():
    error = DOCUMENT["components"]["schemas"]["Error"]
    inner = error["properties"]["error"]
    assert error["additionalProperties"] is False and inner["additionalProperties"] is False
    assert inner["required"] == list(inner["properties"]) == ["message", "type", "param", "code", "request_id"]


def everything(node, place=()):
    yield node, place
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from everything(value, (*place, key))


def answers_of(operation):
    return [media for raw in operation["responses"].values() for media in resolved(raw).get("content", {}).values()]


def test_every_operation_has_an_example_of_its_answer():
    bare = []
    for (method, path), operation in operations().items():
        media = resolved(operation["responses"]["200"])["content"].get("application/json")
        if media is not None and "example" not in media and "examples" not in media:
            bare.append(f"{method} {path}")
    assert not bare, bare


def test_every_example_is_right():
    """Each example in a body, an answer or a parameter fits the schema beside it; so does each in a schema."""
    wrong, count = [], 0
    for node, place in everything(DOCUMENT):
        if not isinstance(node, dict) or "schema" not in node or (place and place[-1] in ("properties",)):
            continue
        values = [node["example"]] if "example" in node else []
        values += [resolved(e)["value"] for e in node.get("examples", {}).values()] if isinstance(node.get("examples"), dict) else []
        validator = Draft202012Validator({**node["schema"], "components": DOCUMENT["components"]}, format_checker=FormatChecker())
        array = resolved(node["schema"]).get("type") == "array"
        for value in values:
            count += 1
            errors = list(validator.iter_errors([value] if array and not isinstance(value, list) else value))
            wrong += [f"{'/'.join(map(str, place))}: {e.json_path}: {e.message[:200]}" for e in errors]
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for value in schema.get("examples", []):
            count += 1
            errors = Draft202012Validator({**schema, "components": DOCUMENT["components"]}).iter_errors(value)
            wrong += [f"schemas/{name}: {e.message[:200]}" for e in errors]
    assert not wrong, "\n".join(wrong)
    assert count > 100


def test_answers_are_closed():
    """An object of an answer lists its members, so that a member too many is found; JSON that others wrote is open."""
    free = {"models", "before", "after", "openapi", "info", "paths"}
    loose = []
    for (method, path), operation in operations().items():
        for media in answers_of(operation):
            seen = []
            for node, place in everything(flat(media.get("schema", {}), seen)):
                if isinstance(node, dict) and node.get("type") == "object" and "properties" in node and not node.get("closed"):
                    if not free & set(map(str, place)) and not path.endswith("openapi.json"):
                        loose.append(f"{method} {path}: {'/'.join(map(str, place))}")
    assert not loose, loose[:10]


def flat(schema, seen, closed=False):
    """References written out; an object is `closed` when itself or the allOf around it is."""
    if isinstance(schema, list):
        return [flat(one, seen) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        if schema["$ref"] in seen:
            return {}
        return flat(resolved(schema), [*seen, schema["$ref"]], closed)
    closed = closed or schema.get("additionalProperties") is False or schema.get("unevaluatedProperties") is False
    out = {}
    for key, value in schema.items():
        if key == "properties":
            out[key] = {name: flat(one, seen) for name, one in value.items()}
        elif key == "allOf":
            out[key] = [flat(one, seen, closed) for one in value]
        else:
            out[key] = flat(value, seen) if isinstance(value, (dict, list)) else value
    return {**out, "closed": closed} if schema.get("type") == "object" else out
