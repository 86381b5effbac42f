"""The OpenAPI document against the daemon that serves it: Schemathesis makes thousands of calls from it, good and bad ones, and every check of its holds.

Ids come from a sample of everything, so that answers of success are reached; what is right by the schema and wrong by the state of things (a version that
begins before the last one, a month still to come) is named in LAX."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx

from lib.process import SANITIZED
from lib.sample import Sample

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE.parents[1] / "admin" / "openapi.json"
SEED = 20261124
CASES = 5000
# operationId: why a call that fits its schema may be a 400 all the same. Everywhere else such a call must not be one.
LAX = {
    **dict.fromkeys(("listTenantTransactions", "listTenantGrants", "listCustomerTransactions", "listCustomerGrants", "listUsageRecords", "listAudit"), "a cursor is one that was given"),
    **dict.fromkeys(("getUsage", "getOrganizationUsage", "getOrganizationCosts"), "end_time is after start_time; the width says how many buckets; a page is one that was given"),
    **dict.fromkeys(("getTenantStatement", "getCustomerStatement"), "no month that is still to come"),
    **dict.fromkeys(("creditTenant", "creditCustomer"), "an adjustment has a note and does not expire; what expires does so later than now"),
    **dict.fromkeys(("createTenant", "updateTenant", "createCustomer", "updateCustomer", "createKey", "updateKey", "createKeys"),
                    "a window stands once in budgets, and rolls 60 s at least; a network has no bits beyond its prefix; a name has 127 bytes"),
    **dict.fromkeys(("getTenantBalance", "getCustomerBalance"), "no time before 1970"), "rotateKey": "an integer is written without a point",
    "createPriceVersion": "a version begins after the last; no two rates are for the same", "createQuote": "sizes, qualities and counts are the model's",
    "resolveHold": "an amount goes with a capture, up to the hold", "refundUsageRecord": "never above the charge", "voidGrant": "a note has 255 bytes",
    **dict.fromkeys(("createChannel", "updateChannel"), "an api_key for openai"), "createAdminToken": "expires later than now", "createPriceBook": "a name is used once",
}
KINDS = {"tenants": "ten", "customers": "cus", "keys": "key", "channels": "chn", "price-books": "pbk", "admin-tokens": "adt", "holds": "hld", "grants": "grt",
         "usage/records": "use"}
OF_TENANT, OF_CUSTOMER = {"body.tenant": ("ten", .9)}, {"body.customer": ("cus", .5)}
IN_TIME, MODEL = {"body.expires_at": ("times", .9)}, {"body.model": ("models", .9)}
# What bodies and queries are filled with, and how often; the rest is made up.
BINDINGS = {
    "createTenant": {"body.timezone": ("zones", .9), "body.price_book": ("pbk", .3)}, "updateTenant": {"body.timezone": ("zones", .9), "body.price_book": ("pbk", .3)},
    "createCustomer": {**OF_TENANT, "body.price_book": ("pbk", .5)}, "updateCustomer": {"body.price_book": ("pbk", .5)}, "createKey": {**OF_TENANT, **OF_CUSTOMER, **IN_TIME},
    "updateKey": IN_TIME, "createKeys": {"body.keys[*].tenant": ("ten", .9), "body.keys[*].expires_at": ("times", .9)}, "creditTenant": IN_TIME, "creditCustomer": IN_TIME,
    "createQuote": {**OF_TENANT, **OF_CUSTOMER, **MODEL}, "createAdminToken": IN_TIME, "createPriceVersion": {"body.effective_from": ("times", .5), "body.rates[*].per": ("per", .9)},
    "listKeys": {"query.tenant": ("ten", .7), "query.customer": ("cus", .5)}, "listCustomers": {"query.tenant": ("ten", .7)}, "listHolds": {"query.tenant": ("ten", .7)},
    "getUsage": {"query.timezone": ("zones", .9)},
}


def test_the_document_is_served_to_anybody(gateway):
    reply = httpx.get(gateway.admin_url + "/admin/v1/openapi.json", trust_env=False)
    assert reply.status_code == 200 and reply.headers["content-type"] == "application/json"
    assert reply.json() == json.loads(DOCUMENT.read_text())


def test_the_reference_page_needs_nothing_from_elsewhere(gateway):
    first, second = (httpx.get(gateway.admin_url + "/admin/v1/reference", trust_env=False) for _ in range(2))
    policy = first.headers["content-security-policy"]
    nonce = re.search(r"script-src 'nonce-([0-9A-Za-z]{22})'", policy).group(1)
    assert first.status_code == 200 and first.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy and nonce not in second.headers["content-security-policy"]
    assert first.text.count(f'nonce="{nonce}"') == 2 and "{{nonce}}" not in first.text
    assert not re.findall(r'(?:src|href)="(?!openapi\.json)[^#"]+"|[ :]url\(|@import|https?://', first.text)
    assert "innerHTML" not in first.text and " style=" not in first.text


def dictionaries(sample):
    """Ids of what is there, and a few that may be deleted."""
    admin, tenant = sample.admin, sample.account.id
    spare = {"ten": [], "cus": [], "key": [], "chn": [], "adt": []}
    for i in range(12):
        spare["ten"].append(admin.create("tenants", {"name": f"spare {i}"})["id"])
        spare["cus"].append(admin.create("customers", {"tenant": tenant, "name": f"spare {i}"})["id"])
        spare["key"].append(admin.create("keys", {"tenant": tenant, "name": f"spare {i}"})["id"])
        spare["adt"].append(admin.create("admin-tokens", {"name": f"spare {i}", "scope": tenant})["id"])
        if i < 4:
            spare["chn"].append(admin.create("channels", {"name": f"spare {i}", "kind": "sandbox", "base_url": "http://127.0.0.1:9", "models": {"m": "m"},
                                                          "tenants": [spare["ten"][0]]})["id"])
    return {**sample.ids, **{f"{kind}_spare": ids for kind, ids in spare.items()},
            "zones": ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York"], "times": ["2031-05-05T05:05:05Z", "2032-02-29T23:59:59+02:00"],
            "models": ["dall-e-2", "dall-e-3", "gpt-image-1"], "per": [1, 1000000]}


def kind_of(path):
    return next(kind for noun, kind in KINDS.items() if path.startswith(f"/admin/v1/{noun}/{{id}}"))


def configuration(values):
    """schemathesis.toml: ids of what is there for nine calls of ten, and which checks hold where."""

    def bound(names):
        return "[operations.parameters]\n" + "".join(f'"{place}" = {{dictionary = "{name}", probability = {p}}}\n' for place, (name, p) in names.items())
    lines = [f"hooks = {json.dumps(str(HERE.parent / 'lib' / 'fuzz_hooks.py'))}", "warnings = false", "[dictionaries]", *(f"{name} = {{values = {json.dumps(some)}}}" for name, some in values.items())]
    lines.append('[checks]\npositive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "412", "422", "429"]\n'
                 'negative_data_rejection.expected-statuses = ["400", "401", "403", "404", "405", "409", "412", "422", "429"]\n'
                 'missing_required_header.expected-statuses = ["400", "401", "429"]')
    for path, item in json.loads(DOCUMENT.read_text())["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            names = {}
            if "{id}" in path:
                kind = kind_of(path)
                names["path.id"] = (f"{kind}_spare" if method == "delete" or path.endswith(("/revoke", "/rotate")) else kind, .9)
            names.update(BINDINGS.get(operation["operationId"], {}))
            if names or operation["operationId"] in LAX:
                lines.append(f'[[operations]]\ninclude-operation-id = "{operation["operationId"]}"')
            if operation["operationId"] in LAX:
                lines.append("[operations.checks]\npositive_data_acceptance.enabled = false")
            if names:
                lines.append(bound(names))
    return "\n".join(lines) + "\n"


ID = re.compile(r"\b(ten|cus|key|chn|pbk|pbv|adt|hld|grt|use|txn)_[0-9A-Za-z]{22}\b")


def localized(gateway, ids):
    """The served document, with examples of things that are there; what takes them away is shown others."""
    text = httpx.get(gateway.admin_url + "/admin/v1/openapi.json", trust_env=False).text
    document = json.loads(ID.sub(lambda found: ids[found.group(1)][0], text))
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method == "delete" or path.endswith(("/revoke", "/rotate")) and method == "post":
                kind = kind_of(path)
                operation["parameters"].append({"name": "id", "in": "path", "required": True, "example": ids[f"{kind}_spare"][{"revoke": 1, "rotate": 2}.get(path.rsplit("/", 1)[1], 0)],
                                                "schema": {"type": "string", "pattern": f"^{kind}_[0-9A-Za-z]{{22}}$"}})
    return document


def run(gateway, sample, directory, *more):
    """Schemathesis on the served document; returns how many calls it thought of, and the answers by operation and status."""
    ids = dictionaries(sample)
    (directory / "schemathesis.toml").write_text(configuration(ids))
    (directory / "openapi.json").write_text(json.dumps(localized(gateway, ids)))
    report, seen = directory / "report.json", directory / "seen.json"
    done = subprocess.run([
        Path(sys.executable).parent / "st", "--config-file", directory / "schemathesis.toml", "run", directory / "openapi.json", "--url", gateway.admin_url,
        "-H", f"Authorization: Bearer {gateway.token}", "--seed", str(SEED), "--no-shrink", "--continue-on-failure", "--report", "json", "--report-json-path", report, *more],
        cwd=directory, capture_output=True, text=True, timeout=900, env={**os.environ, "NO_COLOR": "1", "TG_FUZZ_SEEN": str(seen)})
    assert done.returncode == 0, done.stdout[-15000:] + done.stderr[-2000:]
    return json.loads(report.read_text())["test_cases"]["generated"], json.loads(seen.read_text())


def test_schemathesis_finds_nothing(gateway, tmp_path):
    sample = Sample(gateway)
    phases = ("--phases", "examples,coverage") if SANITIZED else ("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "10")
    cases, seen = run(gateway, sample, tmp_path, *phases)
    assert cases >= (CASES / 2 if SANITIZED else CASES)
    answered = {key.rsplit(" ", 1)[0] for key in seen if key.endswith(" 200")}
    names = {f"{method.upper()} {path}" for path, item in json.loads(DOCUMENT.read_text())["paths"].items() for method in item if method != "parameters"}
    assert answered == names, f"never answered 200: {sorted(names - answered)}"
    assert not [key for key in seen if key.rsplit(" ", 1)[1] >= "500"]
