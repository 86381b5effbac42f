"""OpenAI's organisation reports on the admin listener: through its own SDK, and by hand where that is stricter than the wire."""

import json
import time
from decimal import Decimal

import httpx
import openai
import pytest

from lib.bazaar import Bazaar, sums
from lib.check import is_error

SOURCES = {"generations": "image.generation", "edits": "image.edit", "variations": "image.variation"}


@pytest.fixture(scope="module")
def bazaar(gateway):
    return Bazaar(gateway, calls=50)


@pytest.fixture
def admin(gateway):
    return gateway.admin


def client(admin):
    return openai.OpenAI(base_url=admin.url + "/v1", admin_api_key=admin.token, api_key="unused", max_retries=0, http_client=httpx.Client(trust_env=False))


@pytest.fixture
def sdk(admin):
    made = client(admin)
    yield made.admin.organization.usage
    made.close()


def get(admin, what="usage/images", params=()):
    given = list(params.items() if isinstance(params, dict) else params)
    if "start_time" not in dict(given):
        given.append(("start_time", begin()))
    return admin.http.get(f"{admin.url}/v1/organization/{what}", params=given)


def begin():
    return int(time.time()) - 3600


def told(answer, *names):
    """{names: (images, requests)} over all buckets."""
    out = {}
    for bucket in answer["data"]:
        for r in bucket["results"]:
            images, requests = out.get(tuple(r[n] for n in names), (0, 0))
            out[tuple(r[n] for n in names)] = (images + r["images"], requests + r["num_model_requests"])
    return out


def expected(records, *names):
    return {k: (v["images"], v["requests"]) for k, v in sums(records, names).items()}


def test_usage_through_the_sdk(bazaar, sdk):
    records = bazaar.records()
    page = sdk.images(start_time=begin(), bucket_width="1h", group_by=["project_id", "user_id", "api_key_id", "model", "size", "source"])
    found = {}
    for bucket in page.data:
        assert bucket.object == "bucket" and bucket.start_time < bucket.end_time
        for r in bucket.results:
            assert r.object == "organization.usage.images.result"
            found[(r.project_id, r.user_id, r.api_key_id, r.model, r.size, r.source)] = (r.images, r.num_model_requests)
    wanted = {(*k[:5], SOURCES[k[5]]): v for k, v in expected(records, "tenant", "customer", "key", "model", "size", "operation").items()}
    assert found == wanted and not page.has_more and page.next_page is None


def test_ungrouped_is_null(bazaar, admin):
    answer = get(admin).json()
    assert set(answer) == {"object", "data", "has_more", "next_page"} and answer["object"] == "page"
    result = answer["data"][-1]["results"][0]
    assert set(result) == {"object", "images", "num_model_requests", "size", "source", "project_id", "user_id", "api_key_id", "model"}
    assert all(result[n] is None for n in ("size", "source", "project_id", "user_id", "api_key_id", "model"))
    assert told(answer) == expected(bazaar.records())


def test_filters_through_the_sdk(bazaar, sdk):
    records = bazaar.records()
    some = records[5]
    for given, field, value in (({"project_ids": [some["tenant"]]}, "tenant", some["tenant"]), ({"api_key_ids": [some["key"]]}, "key", some["key"]),
                                ({"user_ids": [bazaar.own.id]}, "customer", bazaar.own.id), ({"models": [some["model"]]}, "model", some["model"]),
                                ({"sizes": ["256x256"]}, "size", "256x256"), ({"sources": ["image.edit"]}, "operation", "edits")):
        page = sdk.images(start_time=begin(), **given)
        assert told(json.loads(page.model_dump_json())) == expected([r for r in records if r[field] == value]), given


@pytest.mark.parametrize("params", [
    [("group_by[]", "model"), ("group_by", "source")], [("group_by", "model,source")], [("group_by", "model"), ("group_by", "source")], [("group_by[]", "model"), ("group_by[]", "source")]])
def test_both_spellings_of_arrays(bazaar, admin, params):
    wanted = {(k[0], SOURCES[k[1]]): v for k, v in expected(bazaar.records(), "model", "operation").items()}
    assert told(get(admin, params=params).json(), "model", "source") == wanted


def test_pages(bazaar, admin, sdk):
    """Row 96: one bucket a page, stable, and sums equal to the records."""
    start = int(time.time()) // 3600 * 3600 - 5 * 3600
    params = {"start_time": start, "bucket_width": "1h", "limit": 1, "group_by[]": "model"}
    page = get(admin, params=params).json()
    data, cursors = page["data"], []
    while page["has_more"]:
        cursors.append(page["next_page"])
        page = get(admin, params={**params, "page": page["next_page"]}).json()
        assert len(page["data"]) == 1
        data += page["data"]
    assert len(data) in (6, 7) and all(a["end_time"] == b["start_time"] for a, b in zip(data, data[1:])) and len(set(cursors)) == len(cursors)
    assert told({"data": data}, "model") == expected(bazaar.records(), "model")
    through = [b for b in sdk.images(start_time=start, bucket_width="1h", limit=100, group_by=["model"]).data]
    assert [b.start_time for b in through][:6] == [b["start_time"] for b in data][:6]


def amounts(admin, params, *names):
    reply = get(admin, "costs", params)
    assert reply.status_code == 200, reply.text
    out = {}
    for bucket in json.loads(reply.text, parse_float=Decimal, parse_int=Decimal)["data"]:
        for r in bucket["results"]:
            assert r["object"] == "organization.costs.result" and r["amount"]["currency"] == "usd"
            key = tuple(r[n] for n in names)
            out[key] = out.get(key, 0) + r["amount"]["value"]
    return out


def test_costs_are_exact(bazaar, admin):
    records = bazaar.records()
    assert amounts(admin, {}) == {(): sums(records)[()]["wholesale"]}
    assert amounts(admin, {"group_by": "project_id,user_id,api_key_id"}, "project_id", "user_id", "api_key_id") == \
        {k: v["wholesale"] for k, v in sums(records, ("tenant", "customer", "key")).items()}
    lines = {(f"{m}, {o}",): v["wholesale"] for (m, o), v in sums(records, ("model", "operation")).items()}
    assert amounts(admin, {"group_by[]": "line_item"}, "line_item") == lines
    some = sorted(lines)[:2]
    wanted = {k: lines[k] for k in some}
    assert amounts(admin, [("group_by", "line_item"), *(("line_items[]", k[0]) for k in some)], "line_item") == wanted
    assert amounts(admin, [("line_items", k[0]) for k in some]) == {(): sum(wanted.values())}
    pairs = {k: v for k, v in sums(records, ("tenant", "model", "operation")).items() if k[1:] in (("dall-e-2", "generations"), ("gpt-image-1", "edits"))}
    by_tenant = {}
    for k, v in pairs.items():
        by_tenant[(k[0],)] = by_tenant.get((k[0],), 0) + v["wholesale"]
    assert amounts(admin, [("line_items", "dall-e-2, generations"), ("line_items", "gpt-image-1, edits"), ("group_by", "project_id")], "project_id") == by_tenant
    assert amounts(admin, {"line_items": "gpt-image-1"}) == {}


def test_costs_through_the_sdk(bazaar, sdk):
    page = sdk.costs(start_time=begin(), group_by=["line_item", "api_source"], limit=180)
    found = {r.line_item: r for b in page.data for r in b.results}
    for (model, operation), v in sums(bazaar.records(), ("model", "operation")).items():
        r = found[f"{model}, {operation}"]
        assert abs(Decimal(str(r.amount.value)) - v["wholesale"]) < Decimal("1e-9") and r.amount.currency == "usd"
        assert (r.quantity, r.quantity_unit, r.api_source) == (v["images"], "images", "unlabeled")
    plain = [r for b in sdk.costs(start_time=begin()).data for r in b.results]
    assert plain[0].line_item is None and plain[0].quantity is None and plain[0].quantity_unit is None and plain[0].api_source is None


def test_what_a_tenant_sees(bazaar, admin):
    """Its customers are its projects; it has no users."""
    with admin.scoped(bazaar.one.id, role="viewer") as tenant:
        records = tenant.records()
        answer = get(tenant, params={"group_by": "project_id,user_id"}).json()
        assert told(answer, "project_id", "user_id") == {(k[0], None): v for k, v in expected(records, "customer").items()}
        assert told(get(tenant, params={"project_ids": bazaar.own.id}).json()) == expected([r for r in records if r["customer"] == bazaar.own.id])
        assert amounts(tenant, {}) == {(): sums(records)[()]["wholesale"]}
        for what in ("usage/images", "costs"):
            is_error(get(tenant, what, {"project_ids": bazaar.other.id}), 404, "not_found", param="project_ids")
            is_error(get(tenant, what, {"project_ids": bazaar.one.id}), 404, "not_found", param="project_ids")
            is_error(get(tenant, what, {"user_ids": bazaar.own.id}), 400, "unknown_parameter", param="user_ids")


@pytest.mark.parametrize("what, params, code, param", [
    ("usage/images", {"limit": 32}, "integer_above_max_value", "limit"), ("usage/images", {"limit": 0}, "integer_below_min_value", "limit"),
    ("usage/images", {"limit": 169, "bucket_width": "1h"}, "integer_above_max_value", "limit"), ("usage/images", {"limit": 1441, "bucket_width": "1m"}, "integer_above_max_value", "limit"),
    ("usage/images", {"start_time": None}, "missing_required_parameter", "start_time"), ("usage/images", {"start_time": "soon"}, "invalid_type", "start_time"),
    ("usage/images", {"start_time": "2026-01-01T00:00:00Z"}, "invalid_type", "start_time"), ("usage/images", {"end_time": "1"}, "invalid_value", "end_time"),
    ("usage/images", {"bucket_width": "1w"}, "invalid_value", "bucket_width"), ("usage/images", {"group_by": "line_item"}, "invalid_value", "group_by"),
    ("usage/images", {"sources": "image.video"}, "invalid_value", "sources"), ("usage/images", {"page": "x"}, "invalid_value", "page"), ("usage/images", {"line_items": "x"}, "unknown_parameter", "line_items"),
    ("costs", {"limit": 181}, "integer_above_max_value", "limit"), ("costs", {"bucket_width": "1h"}, "invalid_value", "bucket_width"), ("costs", {"group_by": "size"}, "invalid_value", "group_by"),
    ("costs", {"start_time": None}, "missing_required_parameter", "start_time"), ("costs", {"models": "x"}, "unknown_parameter", "models")])
def test_bad_queries(admin, what, params, code, param):
    """Row 97 and its like."""
    full = {"start_time": begin(), **params}
    is_error(admin.http.get(f"{admin.url}/v1/organization/{what}", params={k: v for k, v in full.items() if v is not None}), 400, code, param=param)


def test_who_may(bazaar, admin):
    for what in ("usage/images", "costs"):
        is_error(httpx.get(f"{admin.url}/v1/organization/{what}", params={"start_time": begin()}, trust_env=False), 401)
        is_error(httpx.get(f"{admin.url}/v1/organization/{what}", params={"start_time": begin()}, headers=bazaar.one.authorization, trust_env=False), 401, "invalid_api_key")
        assert bazaar.gateway.public_url and httpx.get(f"{bazaar.gateway.public_url}/v1/organization/{what}", headers={"Authorization": f"Bearer {admin.token}"},
                                                       trust_env=False).status_code == 404
    with pytest.raises(openai.AuthenticationError):
        wrong = openai.OpenAI(base_url=admin.url + "/v1", admin_api_key="ta-" + "x" * 49, api_key="x", max_retries=0, http_client=httpx.Client(trust_env=False))
        wrong.admin.organization.usage.costs(start_time=begin())
