"""GET /usage: sums by any grouping and bucket, equal to the records and the ledger to the nano-dollar."""

import csv
import datetime
import io
import itertools
import time
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from lib.bazaar import MONEY, NAMES, Bazaar, results, sums
from lib.check import is_error

UTC = datetime.timezone.utc
AMOUNTS = ("cost", "wholesale", "retail", "margin", "refunded")


@pytest.fixture(scope="module")
def bazaar(gateway):
    return Bazaar(gateway)


@pytest.fixture
def admin(gateway):
    return gateway.admin


@pytest.fixture(scope="module")
def begin():
    return iso(datetime.datetime.now(UTC) - datetime.timedelta(hours=1))


def iso(when):
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def when(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def report(admin, begin, **params):
    return admin.get("usage", start_time=begin, **params)


def all_pages(admin, begin, **params):
    page = report(admin, begin, **params)
    data = page["data"]
    while page["has_more"]:
        assert page["next_page"].startswith("page_")
        page = report(admin, begin, page=page["next_page"], **params)
        data += page["data"]
    assert page["next_page"] is None and page["object"] == "page"
    return {"data": data}


GROUPINGS = [c for n in (0, 1) for c in itertools.combinations(NAMES, n)] + \
    [("tenant", "customer"), ("customer", "model"), ("model", "operation", "size", "quality"), ("key", "channel"), ("customer", "key", "size"), NAMES]


@pytest.mark.parametrize("by", GROUPINGS, ids=",".join)
def test_any_grouping_is_the_sum_of_its_records(bazaar, admin, begin, by):
    answer = report(admin, begin, bucket_width="all", group_by=",".join(by)) if by else report(admin, begin, bucket_width="all")
    assert [b["object"] for b in answer["data"]] == ["bucket"] and not answer["has_more"]
    found = answer["data"][0]["results"]
    assert results(answer, by) == sums(bazaar.records(), by)
    assert len(found) == len(results(answer, by)), "a group stands there twice"
    for r in found:
        assert r["object"] == "usage_result" and [n for n in NAMES if n in r] == list(by) and "rest" not in r
        assert Decimal(r["margin"]) == Decimal(r["wholesale"]) - Decimal(r["cost"]) and all(len(r[m].split(".")[1]) == 9 for m in AMOUNTS)


def test_sums_are_the_ledgers(bazaar, admin, begin):
    """What the reports say was charged and refunded is what the wallets' transfers say."""
    by_tenant = results(report(admin, begin, bucket_width="all", group_by="tenant"), ("tenant",))
    by_customer = results(report(admin, begin, bucket_width="all", group_by=["customer"]), ("customer",))
    for account in (bazaar.one, bazaar.two):
        ledger = admin.ledger(account.id)
        assert by_tenant[(account.id,)]["wholesale"] == -sum(Decimal(t["amount"]) for t in ledger if t["kind"] == "charge")
        accounts = {a["name"]: Decimal(a["posted"]) for a in admin.get(f"tenants/{account.id}/accounts")["data"]}
        assert by_tenant[(account.id,)]["cost"] == -accounts["cost"]
    for customer in (bazaar.own, bazaar.other):
        ledger = admin.ledger(customer.id)
        row = by_customer[(customer.id,)]
        assert row["retail"] == -sum(Decimal(t["amount"]) for t in ledger if t["kind"] == "retail_charge")
        assert row["refunded"] == sum(Decimal(t["amount"]) for t in ledger if t["kind"] == "refund")


def test_a_refund_counts_at_once(bazaar, admin, begin):
    record = next(r for r in bazaar.records() if Decimal(r["refunded"]) == 0 and Decimal(r["retail"]) > 0)
    for part in ("0.001", "0.000000001"):
        assert admin.money(f"usage/records/{record['id']}/refund", {"amount": part, "reason": "x"}).status_code == 200
        assert results(report(admin, begin, bucket_width="all")) == sums(bazaar.records())


def spellings(name, values):
    yield [(name, ",".join(values))]
    yield [(name, v) for v in values]
    yield [(f"{name}[]", v) for v in values]


@pytest.mark.parametrize("name", NAMES)
def test_filters(bazaar, admin, begin, name):
    records = bazaar.records()
    values = sorted({r[name] for r in records if r[name] is not None})[:2]
    expected = sums([r for r in records if r[name] in values], (name, "model"))
    for filters, groups in itertools.product(spellings(name, values), spellings("group_by", [name, "model"])):
        reply = admin.call("GET", "usage", params=[("start_time", begin), ("bucket_width", "all"), *filters, *groups])
        by = (name, "model")
        assert reply.status_code == 200 and results(reply.json(), by) == expected, reply.text


def test_filters_together(bazaar, admin, begin):
    some = bazaar.records()[7]
    wanted = {n: some[n] for n in ("tenant", "model", "operation", "size")}
    expected = sums([r for r in bazaar.records() if all(r[n] == v for n, v in wanted.items())])
    assert results(report(admin, begin, bucket_width="all", **wanted)) == expected
    assert report(admin, begin, bucket_width="all", model="none-such")["data"][0]["results"] == []


@pytest.mark.parametrize("width, step", [("1m", 60), ("1h", 3600), ("1d", 86400)])
def test_buckets(bazaar, admin, begin, width, step):
    """They follow one another without gap or overlap, aligned, cut at both ends; nothing is lost between."""
    answer = all_pages(admin, begin, bucket_width=width, group_by="model", limit=5)
    buckets = answer["data"]
    assert when(buckets[0]["start_time"]) == when(begin).replace(second=0, microsecond=0)
    for one, two in zip(buckets, buckets[1:]):
        assert one["end_time"] == two["start_time"] and int(when(one["end_time"]).timestamp()) % step == 0
    assert results(answer, ("model",)) == sums(bazaar.records(), ("model",))
    for bucket in buckets:
        inside = [r for r in bazaar.records() if bucket["start_time"] <= r["created_at"][:19] + "Z" < bucket["end_time"]]
        assert results({"data": [bucket]}, ("model",)) == sums(inside, ("model",))


def test_limits_of_pages(bazaar, admin, begin):
    long_ago = iso(datetime.datetime.now(UTC) - datetime.timedelta(days=100))
    for width, default, most in (("1m", 60, 1440), ("1h", 24, 168), ("1d", 7, 31)):
        assert len(report(admin, long_ago, bucket_width=width)["data"]) == default
        assert len(report(admin, long_ago, bucket_width=width, limit=most)["data"]) == most
        is_error(admin.call("GET", "usage", params={"start_time": long_ago, "bucket_width": width, "limit": most + 1}), 400, "integer_above_max_value", param="limit")
    assert len(report(admin, long_ago)["data"]) == 7
    assert results(all_pages(admin, long_ago, limit=31), ()) == sums(bazaar.records())


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York", "Australia/Lord_Howe", "UTC"])
def test_days_of_a_zone(bazaar, admin, zone):
    here = ZoneInfo(zone)
    start = datetime.datetime.now(here).replace(hour=0, minute=0, second=0, microsecond=0) - datetime.timedelta(days=3)
    answer = report(admin, iso(start), timezone=zone, group_by="tenant")
    for bucket in answer["data"][1:]:
        local = when(bucket["start_time"]).astimezone(here)
        assert (local.hour, local.minute) == (0, 0)
    assert results(answer, ("tenant",)) == sums(bazaar.records(), ("tenant",))


def test_the_tenants_zone(bazaar, admin, begin):
    start = iso(datetime.datetime.now(UTC) - datetime.timedelta(days=3))
    by_name, by_tenant = (report(admin, start, tenant=bazaar.one.id, timezone=z, end_time=int(time.time())) for z in ("Asia/Kolkata", "tenant"))
    assert by_name == by_tenant and when(by_tenant["data"][1]["start_time"]).minute == 30
    with admin.scoped(bazaar.one.id) as tenant:
        assert [b["start_time"] for b in report(tenant, start, timezone="tenant")["data"]] == [b["start_time"] for b in by_tenant["data"]]
    for params in ({"timezone": "tenant"}, {"timezone": "tenant", "tenant": f"{bazaar.one.id},{bazaar.two.id}"}, {"timezone": "Mars/Olympus"}, {"timezone": "../UTC"}):
        is_error(admin.call("GET", "usage", params={"start_time": start, **params}), 400, "invalid_value", param="timezone")


@pytest.mark.parametrize("order", ["wholesale", "retail", "cost", "margin", "requests", "images"])
def test_top(bazaar, admin, begin, order):
    by = ("model", "size")
    every = results(report(admin, begin, bucket_width="all", group_by=",".join(by)), by)
    found = report(admin, begin, bucket_width="all", group_by=",".join(by), top=2, order_by=order)["data"][0]["results"]
    assert [r["rest"] for r in found] == [False, False, True] and found[2]["model"] is None and found[2]["size"] is None
    value = (lambda r: Decimal(r[order])) if order in MONEY else (lambda r: r[order])
    largest = sorted((v[order] for v in every.values()), reverse=True)
    assert [value(r) for r in found] == [largest[0], largest[1], sum(largest[2:])]
    assert results({"data": [{"results": found}]}) == results(report(admin, begin, bucket_width="all"))
    enough = report(admin, begin, bucket_width="all", group_by="model", top=100, order_by=order)["data"][0]["results"]
    assert not any(r["rest"] for r in enough)


def test_what_a_tenant_sees(bazaar, admin, begin):
    records = bazaar.records(tenant=bazaar.one.id)
    with admin.scoped(bazaar.one.id, role="viewer") as tenant:
        mine = report(tenant, begin, bucket_width="all", group_by="tenant,customer,key,model")
        found = results(mine, ("customer",))
        expected = sums(tenant.records(), ("customer",))
        assert found == expected and len(records) == sum(r["requests"] for r in found.values())
        for r in mine["data"][0]["results"]:
            assert r["tenant"] == bazaar.one.id and "cost" not in r and "channel" not in r
            assert Decimal(r["margin"]) == Decimal(r["retail"]) - Decimal(r["wholesale"])
        top = report(tenant, begin, bucket_width="all", group_by="customer", top=1, order_by="margin")["data"][0]["results"]
        assert Decimal(top[0]["margin"]) == max(v["margin"] for v in expected.values())
        is_error(tenant.call("GET", "usage", params={"start_time": begin, "group_by": "channel"}), 400, param="group_by")
        is_error(tenant.call("GET", "usage", params={"start_time": begin, "top": 3, "order_by": "cost"}), 400, param="order_by")
        is_error(tenant.call("GET", "usage", params={"start_time": begin, "channel": "chn_" + "1" * 22}), 400, "unknown_parameter", param="channel")
        for name, theirs in (("tenant", bazaar.two.id), ("customer", bazaar.other.id), ("key", bazaar.two.key["id"])):
            missing = theirs[:4] + "1" * 22
            errors = [is_error(tenant.call("GET", "usage", params={"start_time": begin, name: x}), 404, "not_found", param=name)["message"].replace(x, "") for x in (theirs, missing)]
            assert errors[0] == errors[1]


def test_csv(bazaar, admin, begin):
    by = ("tenant", "model", "quality")
    reply = admin.call("GET", "usage", params={"start_time": begin, "bucket_width": "1m", "group_by": ",".join(by)}, headers={"Accept": "text/csv"})
    assert reply.headers["content-type"].startswith("text/csv") and 'filename="usage.csv"' in reply.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(reply.text, newline=""), strict=True))
    pages = all_pages(admin, begin, bucket_width="1m", group_by=",".join(by), limit=1000)
    expected = [{"start_time": b["start_time"], "end_time": b["end_time"], **{k: "" if v is None else str(v) for k, v in r.items() if k != "object"}}
                for b in pages["data"] for r in b["results"]]
    assert rows == expected and len(rows) > 3
    assert list(rows[0])[:5] == ["start_time", "end_time", *by]
    top = admin.call("GET", "usage", params={"start_time": begin, "bucket_width": "all", "group_by": "model", "top": 1, "format": "csv"})
    assert [r["rest"] for r in csv.DictReader(io.StringIO(top.text, newline=""))] == ["false", "true"]


@pytest.mark.parametrize("query, code, param", [
    ({"start_time": None}, "missing_required_parameter", "start_time"), ({"start_time": "soon"}, "invalid_value", "start_time"), ({"start_time": "-1"}, "invalid_value", "start_time"),
    ({"start_time": "1e9"}, "invalid_value", "start_time"), ({"start_time": "2900-01-01T00:00:00Z"}, "invalid_value", "start_time"), ({"end_time": "2000-01-01T00:00:00Z"}, "invalid_value", "end_time"),
    ({"bucket_width": "1w"}, "invalid_value", "bucket_width"), ({"group_by": "colour"}, "invalid_value", "group_by"), ({"group_by": "model,,size"}, "any", "group_by"),
    ({"limit": "0"}, "integer_below_min_value", "limit"), ({"limit": "32"}, "integer_above_max_value", "limit"), ({"limit": "many"}, "invalid_type", "limit"),
    ({"page": "page_x"}, "invalid_value", "page"), ({"page": "page_" + "0" * 22}, "invalid_value", "page"), ({"page": "page_" + "1" * 22}, "invalid_value", "page"),
    ({"page": "ten_" + "1" * 22}, "invalid_value", "page"), ({"top": "0"}, "integer_below_min_value", "top"), ({"top": "101"}, "integer_above_max_value", "top"),
    ({"order_by": "price"}, "invalid_value", "order_by"), ({"format": "ndjson"}, "invalid_value", "format"), ({"operation": "x"}, "invalid_value", "operation"),
    ({"surprise": "1"}, "unknown_parameter", "surprise"), ({"after": "1"}, "unknown_parameter", "after")])
def test_bad_queries(admin, query, code, param):
    params = {"start_time": "2026-01-01T00:00:00Z", **query}
    is_error(admin.call("GET", "usage", params={k: v for k, v in params.items() if v is not None}), 400, code, param=param)


def test_pages_belong_together(bazaar, admin):
    """Without an end the first page's time is that of all: what comes later changes no page that is not the last."""
    start = iso(datetime.datetime.now(UTC) - datetime.timedelta(hours=3))
    before = sums(bazaar.records())
    first = report(admin, start, bucket_width="1h", limit=1)
    bazaar.call(3)
    page, data = first, first["data"]
    while page["has_more"]:
        page = report(admin, start, bucket_width="1h", limit=1, page=page["next_page"])
        data = data + page["data"]
    assert when(data[-1]["end_time"]) <= datetime.datetime.now(UTC) + datetime.timedelta(minutes=1)
    for one, two in zip(data, data[1:]):
        assert one["end_time"] == two["start_time"]
    got = results({"data": data})[()]
    assert before[()]["requests"] <= got["requests"] <= sums(bazaar.records())[()]["requests"]
    assert report(admin, start, bucket_width="1h", limit=1, end_time=int(when(data[-1]["end_time"]).timestamp()))["data"] == first["data"]
