"""Retail price books of tenants: made, priced and named by the tenant alone; its wholesale book it may read."""

import pytest

from lib.admin import Account, Customer, unique
from lib.check import is_error, money

IMAGE = {"model": "dall-e-2", "prompt": "x", "size": "256x256"}  # 0.016 by openai-list


@pytest.fixture
def admin(gateway):
    return gateway.admin


@pytest.fixture
def tenant(admin, account):
    with admin.scoped(account.id) as scoped:
        yield scoped


def rate(amount):
    return {"model": "dall-e-2", "unit": "image", "amount": amount}


def book(who, amount="0.05", kind="retail", **more):
    made = who.create("price-books", {"name": unique(kind), "kind": kind, **more})
    who.create(f"price-books/{made['id']}/versions", {"rates": [rate(amount)]})
    return made["id"]


def test_a_tenants_own_book(admin, tenant, account):
    name = unique("mine")
    made = tenant.create("price-books", {"name": name, "kind": "retail"})
    assert (made["tenant"], made["kind"], made["versions"]) == (account.id, "retail", [])
    assert tenant.create("price-books", {"name": unique("x"), "kind": "retail", "tenant": account.id})["tenant"] == account.id
    version = tenant.create(f"price-books/{made['id']}/versions", {"rates": [rate("0.05")]})
    assert tenant.get(f"price-books/{made['id']}")["current_version"] == version["id"]
    assert tenant.get(f"price-books/{made['id']}/versions")["data"] == [version]
    assert admin.get(f"price-books/{made['id']}")["tenant"] == account.id
    is_error(tenant.call("POST", "price-books", {"name": name, "kind": "retail"}), 409, "conflict", param="name")
    assert admin.create("price-books", {"name": name, "kind": "retail"})["tenant"] is None  # names are unique for each owner
    other = Account(account.gateway)
    assert admin.create("price-books", {"name": name, "kind": "retail", "tenant": other.id})["tenant"] == other.id


def test_retail_only(admin, tenant, account):
    for kind in ("cost", "wholesale"):
        is_error(tenant.call("POST", "price-books", {"name": "x", "kind": kind}), 403, "forbidden", param="kind")
        is_error(admin.call("POST", "price-books", {"name": "x", "kind": kind, "tenant": account.id}), 400, param="kind")
    is_error(tenant.call("POST", "price-books", {"name": "x", "kind": "retail", "tenant": Account(account.gateway).id}), 404, param="tenant")
    is_error(tenant.call("POST", "price-books", {"name": "x", "kind": "free"}), 400, param="kind")
    is_error(admin.call("POST", "price-books", {"name": "x", "kind": "retail", "tenant": "ten_nope"}), 404, param="tenant")
    with admin.scoped(account.id, role="viewer") as viewer:
        is_error(viewer.call("POST", "price-books", {"name": "x", "kind": "retail"}), 403)


def test_lists(admin, tenant, account):
    mine, theirs = [book(tenant) for _ in range(3)], book(admin, tenant=Account(account.gateway).id)
    wholesale = book(admin, kind="wholesale")
    admin.patch(f"tenants/{account.id}", {"price_book": wholesale})
    assert [b["id"] for b in tenant.all("price-books", limit=2)] == mine[::-1]
    assert tenant.all("price-books", tenant=account.id) == tenant.all("price-books")
    assert [b["id"] for b in admin.all("price-books", tenant=account.id)] == mine[::-1]
    assert {theirs, wholesale, *mine} <= {b["id"] for b in admin.all("price-books")}
    is_error(tenant.call("GET", "price-books", params={"tenant": "ten_" + "0" * 21 + "1"}), 404, param="tenant")


def test_the_wholesale_book_is_read_only(admin, tenant, account):
    paid, other = book(admin, "0.02", kind="wholesale"), book(admin, "0.01", kind="wholesale")
    missing = tenant.call("GET", f"price-books/{paid}")
    is_error(missing, 404, param="id")
    admin.patch(f"tenants/{account.id}", {"price_book": paid})
    assert tenant.get(f"price-books/{paid}")["rates"][0]["amount"] == "0.02" and tenant.get(f"price-books/{paid}")["tenant"] is None
    assert tenant.get(f"price-books/{paid}/versions")["data"][0]["rates"][0]["amount"] == "0.02"
    is_error(tenant.call("POST", f"price-books/{paid}/versions", {"rates": [rate("0")]}), 403, "forbidden")
    is_error(tenant.call("GET", f"price-books/{other}"), 404, param="id")
    is_error(tenant.call("POST", f"price-books/{other}/versions", {"rates": [rate("0")]}), 404, param="id")
    standard = next(b["id"] for b in admin.all("price-books") if b["name"] == "openai-list")
    is_error(tenant.call("GET", f"price-books/{standard}"), 404)
    admin.patch(f"tenants/{account.id}", {"price_book": None})
    assert tenant.call("GET", f"price-books/{paid}").json()["error"]["message"] == missing.json()["error"]["message"]


def test_strangers_see_nothing(admin, tenant, account):
    other = Account(account.gateway)
    theirs = book(admin, tenant=other.id)
    for method, path, body in (("GET", "", None), ("GET", "/versions", None), ("POST", "/versions", {"rates": [rate("1")]})):
        is_error(tenant.call(method, f"price-books/{theirs}{path}", body), 404, param="id")
    for who in (admin, tenant):
        for call in (("POST", "customers", {"tenant": account.id, "name": "x", "price_book": theirs}),
                     ("PATCH", f"customers/{Customer(account, wallet='shared').id}", {"price_book": theirs})):
            is_error(who.call(*call), 404, param="price_book")
    is_error(admin.call("PATCH", f"tenants/{account.id}", {"price_book": theirs}), 404, param="price_book")
    is_error(admin.call("PATCH", f"tenants/{other.id}", {"price_book": theirs}), 404, param="price_book")  # it would pay itself
    cost = {"name": unique("c"), "kind": "openai", "base_url": "http://127.0.0.1:1/v1", "api_key": "k", "models": {"m": "m"}, "cost_book": theirs}
    is_error(admin.call("POST", "channels", cost), 404, param="cost_book")


def test_a_customer_pays_by_it(admin, tenant, account):
    mine = book(tenant, "0.05")
    customer = Customer(account, credit="1", price_book=mine)
    with admin.scoped(account.id) as scoped:
        assert scoped.get(f"customers/{customer.id}")["price_book"] == mine
        assert scoped.create("customers", {"name": "x", "price_book": mine})["price_book"] == mine
    reply = customer.post(IMAGE)
    assert reply.status_code == 200 and reply.headers["tallygate-charge"] == "0.050000000"
    customer.settled()
    record = customer.records()[0]
    assert (record["wholesale"], record["retail"]) == ("0.016000000", "0.050000000")
    tenant.create(f"price-books/{mine}/versions", {"rates": [rate("0.07")]})
    assert customer.post(IMAGE).headers["tallygate-charge"] == "0.070000000"
    customer.settled()
    assert money(admin.get(f"customers/{customer.id}/balance")["posted"]) == money("0.88")


def test_a_book_called_openai_list(admin, tenant, account):
    """A tenant's book of that name is its own: the default stays what it is, after a restart, too."""
    made = tenant.create("price-books", {"name": "openai-list", "kind": "retail"})
    tenant.create(f"price-books/{made['id']}/versions", {"rates": [rate("9")]})
    gateway = account.gateway
    for _ in range(2):
        other = Account(gateway)
        assert other.post(IMAGE).headers["tallygate-charge"] == "0.016000000"
        shared = gateway.admin.create("customers", {"tenant": account.id, "name": "x", "price_book": "openai-list"})
        assert shared["price_book"] != made["id"]
        gateway.restart()


def test_it_goes_with_its_tenant(gateway):
    admin, account = gateway.admin, Account(gateway, credit=None)
    mine = book(admin, tenant=account.id)
    admin.delete(f"tenants/{account.id}")
    is_error(admin.call("GET", f"price-books/{mine}"), 404)
    assert mine not in [b["id"] for b in admin.all("price-books")]
    is_error(admin.call("POST", f"price-books/{mine}/versions", {"rates": [rate("1")]}), 404)
    gateway.restart()
    is_error(gateway.admin.call("GET", f"price-books/{mine}"), 404)
    gateway.fsck()
