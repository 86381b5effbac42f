"""What `tallygate admin` sends is what the admin API takes: its table of verbs against the routes and their rules."""

import json
import re

import pytest

from lib.process import BINARY, ROOT, run

pytestmark = pytest.mark.skipif(not BINARY.exists(), reason="no executable yet; set TG_BINARY")
STRING = r'"([^"]*)"'
VERB = re.compile(rf"VERB\({STRING}, {STRING}, {STRING}, {STRING}, {STRING},\s*((?:{STRING}\s*)+),\s*{STRING},\s*{STRING}\)")
OURS = {"api-key-file": "api_key"}  # read from a file


def verbs():
    text = (ROOT / "admin/verbs.def").read_text()
    text = text[text.index("*/"):]
    found = VERB.findall(text)
    assert len(found) == text.count("\nVERB("), "rows that this test cannot read"
    return [(noun, verb, method, path, operands, "".join(re.findall(STRING, options))) for noun, verb, method, path, operands, options, *_ in found]


@pytest.fixture(scope="module")
def routes():
    return {(r["method"], r["path"]): r for r in json.loads(run("help", "--routes").stdout)["routes"]}


@pytest.mark.parametrize("noun, verb, method, path, operands, options", verbs())
def test_a_verb_fits_its_route(routes, noun, verb, method, path, operands, options):
    route = routes[method, "/admin/v1" + path]
    body = {f["name"]: f for f in (route["body"] or {"fields": []})["fields"]} if method in ("POST", "PATCH") else {}
    takes = body or {q["name"]: q for q in route["query"]}
    words = operands.lower().split()[1 if "{id}" in path else 0:]
    given = {}
    for option in options.split():
        name, _, kind = option.partition(":")
        given[OURS.get(name.rstrip("!"), name.rstrip("!").replace("-", "_"))] = (name.endswith("!"), kind)
    unknown = set(given) - set(takes) - {"format"}
    assert not unknown, f"{noun} {verb} offers what {method} {path} does not take: {unknown}"
    missing = {name for name, rule in takes.items() if rule["required"]} - set(given) - set(words)
    assert not missing, f"{noun} {verb} cannot give what {method} {path} requires: {missing}"
    for name, (_, kind) in given.items():
        types = takes.get(name, {}).get("schema", {}).get("type", [])
        types = [types] if isinstance(types, str) else types
        wanted = "int" if "integer" in types else "json" if {"object", "array"} & set(types) else ""
        if method in ("POST", "PATCH"):
            assert kind == wanted, f"{noun} {verb}: --{name} is {types}"
        else:
            assert (kind == "list") == takes.get(name, {}).get("many", False), f"{noun} {verb}: --{name}"
