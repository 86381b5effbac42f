"""Statements: a wallet's month, opening balance + movements = closing balance, as JSON, CSV and a page to print."""

import csv
import datetime
import html.parser
import io
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from lib.admin import Account, Customer
from lib.bazaar import Bazaar, sums
from lib.check import is_error


@pytest.fixture(scope="module")
def bazaar(gateway):
    made = Bazaar(gateway, calls=50)
    made.admin.credit(made.one.id, "-1", note="typed <b>wrongly</b> & \"badly\"")
    made.admin.credit(made.one.id, "2.5", category="promotional", note="=1+1", expires_at="2100-01-01T00:00:00Z")
    return made


@pytest.fixture
def admin(gateway):
    return gateway.admin


def month(zone="UTC", back=0):
    now = datetime.datetime.now(ZoneInfo(zone))
    index = now.year * 12 + now.month - 1 - back
    return f"{index // 12:04d}-{index % 12 + 1:02d}"


def path(owner):
    return f"{'customers' if owner.startswith('cus_') else 'tenants'}/{owner}/statement"


def statement(admin, owner, **params):
    return admin.get(path(owner), **params)


def adds_up(s, balance):
    assert Decimal(s["opening_balance"]) + sum(Decimal(m["amount"]) for m in s["movements"]) == Decimal(s["closing_balance"]) == balance
    price = "wholesale" if s["customer"] is None else "retail"
    assert sum(Decimal(u[price]) for u in s["usage"]) == Decimal(s["totals"][price]) == Decimal(s["totals"]["charged"]) + Decimal(s["totals"]["not_charged"])
    for name in ("requests", "images"):
        assert sum(u[name] for u in s["usage"]) == s["totals"][name]


@pytest.mark.parametrize("which, zone", [("one", "Asia/Kolkata"), ("two", "America/New_York")])
def test_a_tenants_month(bazaar, admin, which, zone):
    account = getattr(bazaar, which)
    s = statement(admin, account.id, month=month(zone))
    adds_up(s, account.balance()["posted"])
    assert s["object"] == "statement" and s["tenant"] == {"id": account.id, "name": account.tenant["name"], "external_id": None} and s["customer"] is None
    assert (s["timezone"], s["complete"], s["currency"], s["month"]) == (zone, False, "USD", month(zone))
    start = datetime.datetime.fromisoformat(s["period"]["start"].replace("Z", "+00:00")).astimezone(ZoneInfo(zone))
    assert (start.day, start.hour, start.minute) == (1, 0, 0)
    ledger = admin.ledger(account.id)
    kinds = {}
    for t in ledger:
        kinds.setdefault(t["kind"], []).append(Decimal(t["amount"]))
    assert {m["kind"]: (Decimal(m["amount"]), m["count"]) for m in s["movements"]} == {k: (sum(v), len(v)) for k, v in kinds.items()}
    assert [g["id"] for g in s["grants"]] == [g["id"] for g in admin.grants(account.id)][::-1]
    expected = sums(bazaar.records(tenant=account.id), ("customer", "model"))
    assert {(u["customer"] and u["customer"]["id"], u["model"]): (u["requests"], u["images"], Decimal(u["wholesale"])) for u in s["usage"]} == \
        {k: (v["requests"], v["images"], v["wholesale"]) for k, v in expected.items()}
    assert Decimal(s["totals"]["not_charged"]) == 0
    named = {u["customer"]["id"]: u["customer"] for u in s["usage"] if u["customer"]}
    for customer in (bazaar.own, bazaar.shared, bazaar.other):
        if customer.id in named:
            assert named[customer.id] == {k: customer.customer[k] for k in ("id", "name", "external_id")}


def test_a_customers_month(bazaar, admin):
    s = statement(admin, bazaar.own.id, month=month("Asia/Kolkata"))
    adds_up(s, bazaar.own.balance()["posted"])
    assert s["customer"]["id"] == bazaar.own.id and s["tenant"]["id"] == bazaar.one.id and s["timezone"] == "Asia/Kolkata"
    assert {u["model"]: Decimal(u["retail"]) for u in s["usage"]} == {k[0]: v["retail"] for k, v in sums(bazaar.records(customer=bazaar.own.id), ("model",)).items()}
    is_error(admin.call("GET", path(bazaar.shared.id), params={"month": month()}), 409, "conflict")


def test_the_month_before(bazaar, admin):
    """Over before anything happened: whole, and empty."""
    s = statement(admin, bazaar.one.id, month=month("Asia/Kolkata", back=1))
    adds_up(s, 0)
    assert s["complete"] and s["as_of"] == s["period"]["end"] and (s["grants"], s["movements"], s["usage"]) == ([], [], [])
    assert s["totals"] == {"requests": 0, "images": 0, "wholesale": "0.000000000", "charged": "0.000000000", "not_charged": "0.000000000"}


def test_overage_is_told_apart(gateway, admin, upstream):
    """What the wallet could not bear stands in the receivable; the statement says how much that is."""
    poor = Account(gateway, credit="0.2", tenant={"name": "poor"})
    reply = poor.post({"model": "gpt-image-1", "prompt": "[[usage=1000,20,416000]] x", "size": "1024x1024", "quality": "low"})
    assert reply.status_code == 200
    poor.settled()
    s = statement(admin, poor.id, month=month())
    adds_up(s, 0)
    assert Decimal(s["totals"]["not_charged"]) == Decimal(admin.get(f"tenants/{poor.id}/balance")["receivable"]) > 0
    assert "beyond what the account could bear" in admin.call("GET", path(poor.id), params={"month": month(), "format": "html"}).text


def test_csv(bazaar, admin):
    now = month("Asia/Kolkata")
    s = statement(admin, bazaar.one.id, month=now)
    reply = admin.call("GET", path(bazaar.one.id), params={"month": now}, headers={"Accept": "text/csv"})
    assert reply.headers["content-disposition"] == f'attachment; filename="statement-{now}.csv"'
    rows = list(csv.DictReader(io.StringIO(reply.text, newline=""), strict=True))
    of = {}
    for row in rows:
        of.setdefault(row["section"], []).append(row)
    assert [of[k][0]["amount"] for k in ("opening_balance", "closing_balance", "usage_total", "not_charged")] == \
        [s["opening_balance"], s["closing_balance"], s["totals"]["wholesale"], s["totals"]["not_charged"]]
    assert [(r["kind"], r["amount"], int(r["count"])) for r in of["movement"]] == [(m["kind"], m["amount"], m["count"]) for m in s["movements"]]
    assert [(r["id"], r["amount"], r["kind"]) for r in of["grant"]] == [(g["id"], g["amount"], g["category"]) for g in s["grants"]]
    assert [(r["customer"], r["model"], int(r["requests"]), int(r["images"]), r["amount"]) for r in of["usage"]] == \
        [(u["customer"]["id"] if u["customer"] else "", u["model"], u["requests"], u["images"], u["wholesale"]) for u in s["usage"]]
    named = list(csv.DictReader(io.StringIO(admin.call("GET", path(bazaar.two.id), params={"month": month("America/New_York"), "format": "csv"}).text, newline="")))
    assert "'=HYPERLINK(\"http://x\")<script>, \"quoted\"" in {r["customer_name"] for r in named}, "a formula got through"


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self.stack = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag, "tags are not nested"

    def handle_data(self, data):
        self.words.append(data)


def test_html(bazaar, admin):
    for account, zone in ((bazaar.one, "Asia/Kolkata"), (bazaar.two, "America/New_York")):
        reply = admin.call("GET", path(account.id), params={"month": month(zone)}, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
        assert reply.status_code == 200 and reply.headers["content-type"] == "text/html; charset=utf-8"
        assert reply.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
        page = Page(reply.text)
        assert page.stack == [] and not {"script", "link", "img", "iframe", "b"} & set(page.tags)
        assert not any(name in ("src", "href") or name.startswith("on") for name, _ in page.attributes)
        assert "http" not in reply.text.replace("=HYPERLINK(&quot;http://x&quot;)", "")
        text = " ".join(page.words)
        assert account.tenant["name"] in text and "Closing balance" in text and "The month is not over" in text
        s = statement(admin, account.id, month=month(zone))
        assert f"${Decimal(s['closing_balance']).normalize():f}" in text.replace(",", "") or "0" in s["closing_balance"]
    assert "<script>" in text and "&lt;script&gt;" in reply.text


def test_whose_it_is(bazaar, admin):
    now = month()
    with admin.scoped(bazaar.one.id, role="viewer") as tenant:
        assert statement(tenant, bazaar.one.id, month=now)["tenant"]["id"] == bazaar.one.id
        assert statement(tenant, bazaar.own.id, month=now)["customer"]["id"] == bazaar.own.id
        for owner in (bazaar.two.id, bazaar.other.id):
            missing = owner[:4] + "1" * 22
            theirs, none = (is_error(tenant.call("GET", path(o), params={"month": now}), 404, "not_found", param="id")["message"].replace(o, "") for o in (owner, missing))
            assert theirs == none


@pytest.mark.parametrize("value", ["2999-01", "2026-13", "2026-00", "2026-1", "202601", "2026-01-01", "1969-12", "now", "2026_01", "\u0662026-01"])
def test_bad_months(bazaar, admin, value):
    is_error(admin.call("GET", path(bazaar.one.id), params={"month": value}), 400, param="month")


def test_bad_queries(bazaar, admin):
    is_error(admin.call("GET", path(bazaar.one.id)), 400, "missing_required_parameter", param="month")
    is_error(admin.call("GET", path(bazaar.one.id), params={"month": month(), "format": "pdf"}), 400, param="format")
    is_error(admin.call("GET", path(bazaar.one.id), params={"month": month(), "tenant": "x"}), 400, "unknown_parameter", param="tenant")


def test_while_money_moves(bazaar, admin):
    """What it says belongs together, whatever happens meanwhile."""
    import threading
    done = threading.Event()

    def calls():
        while not done.is_set():
            bazaar.call(4)
    worker = threading.Thread(target=calls)
    worker.start()
    try:
        for _ in range(15):
            s = statement(admin, bazaar.one.id, month=month("Asia/Kolkata"))
            adds_up(s, Decimal(s["closing_balance"]))
            assert Decimal(s["totals"]["not_charged"]) == 0, s
    finally:
        done.set()
        worker.join()


def test_customers_that_are_gone(gateway, admin):
    account = Account(gateway)
    gone = Customer(account, wallet="shared")
    assert gone.post({"model": "dall-e-2", "prompt": "x", "size": "256x256"}).status_code == 200
    account.settled()
    admin.delete(f"customers/{gone.id}")
    s = statement(admin, account.id, month=month())
    assert [u["customer"] for u in s["usage"]] == [{"id": gone.id, "name": None, "external_id": None}]
    assert gone.id in admin.call("GET", path(account.id), params={"month": month(), "format": "html"}).text
