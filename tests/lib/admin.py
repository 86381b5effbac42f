"""The admin API as a test speaks it; an account (tenant, key) and a customer (wallet, key) with their balances and records."""

import itertools
import json
from contextlib import contextmanager
from decimal import Decimal

import httpx

from .form import content_type, form
from .process import PATIENCE

_serial = itertools.count(1)


def unique(prefix):
    return f"{prefix}-{next(_serial)}"


class Admin:
    """One admin token on one listener. Raw calls give the response; create, get, patch and delete insist on success."""

    def __init__(self, url, token):
        self.url, self.token = url, token
        self.http = httpx.Client(base_url=url + "/admin/v1", headers={"Authorization": f"Bearer {token}"} if token else {},
                                 timeout=30 * PATIENCE, trust_env=False, limits=httpx.Limits(keepalive_expiry=1))

    def close(self):
        self.http.close()

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.close()

    def call(self, method, path, body=None, **kwargs):
        return self.http.request(method, "/" + path.lstrip("/"), json=body, **kwargs)

    def ok(self, method, path, body=None, **kwargs):
        reply = self.call(method, path, body, **kwargs)
        assert 200 <= reply.status_code < 300, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json()

    def create(self, path, body, **kwargs):
        return self.ok("POST", path, body, **kwargs)

    def get(self, path, **params):
        return self.ok("GET", path, params=params)

    def patch(self, path, body, **kwargs):
        return self.ok("PATCH", path, body, **kwargs)

    def delete(self, path):
        return self.ok("DELETE", path)

    def credit(self, owner, amount, key=None, **more):
        return self.ok("POST", f"{wallet(owner)}/credits", {"amount": str(amount), **more},
                       headers={"Idempotency-Key": key or unique("credit")})

    def money(self, path, body=None, key=None):
        """A POST that moves money, raw."""
        return self.call("POST", path, {} if body is None else body, headers={"Idempotency-Key": key or unique("money")})

    def balance(self, owner):
        answer = self.get(f"{wallet(owner)}/balance")
        return {k: Decimal(answer[k]) for k in ("posted", "held", "available")}

    def all(self, path, limit=100, **filters):
        """Every object of a list, newest first, through all pages."""
        found, after = [], None
        while True:
            page = self.get(path, limit=limit, **filters, **({"after": after} if after else {}))
            assert len(page["data"]) <= limit and (page["next"] is None) == (not page["has_more"])
            found += page["data"]
            if not page["has_more"]:
                return found
            after = page["next"]

    def records(self, **filters):
        return self.all("usage/records", **filters)

    def ledger(self, owner, **filters):
        return self.all(f"{wallet(owner)}/ledger", **filters)

    def grants(self, owner, **filters):
        return self.all(f"{wallet(owner)}/grants", **filters)

    def scoped(self, tenant, role="admin"):
        """An Admin with a token for this tenant alone."""
        return Admin(self.url, self.create("admin-tokens", {"name": unique("scoped"), "scope": tenant, "role": role})["secret"])


def wallet(owner):
    """The path of a tenant or customer, by its id."""
    return f"{'customers' if owner.startswith('cus_') else 'tenants'}/{owner}"


class Account:
    """A tenant with money and one API key, and a client that calls the public listener with it."""

    def __init__(self, gateway, credit="10.00", tenant=None, key=None):
        self.gateway, self.admin = gateway, gateway.admin
        self.tenant = self.admin.create("tenants", {"name": unique("tenant"), **(tenant or {})})
        self.id = self.tenant["id"]
        self.credited = Decimal(0)
        if credit is not None and Decimal(credit) != 0:
            self.credit(credit)
        self.key = self.admin.create("keys", {"tenant": self.id, "name": unique("key"), **(key or {})})
        self.secret = self.key["secret"]

    def credit(self, amount):
        self.admin.credit(self.id, amount)
        self.credited += Decimal(amount)

    def balance(self):
        return self.gateway.admin.balance(self.id)

    def records(self, **filters):
        return self.gateway.admin.records(tenant=self.id, **filters)

    def charged(self):
        return sum((Decimal(r["wholesale"]) - Decimal(r["refunded"]) for r in self.records()), Decimal(0))

    def post(self, body=None, path="/v1/images/generations", **kwargs):
        """One call on a connection of its own. <body>: a dict becomes JSON; bytes or str go as they are."""
        headers = {"Authorization": f"Bearer {self.secret}"}
        if isinstance(body, (bytes, str)):
            kwargs.setdefault("content", body)
            headers["Content-Type"] = "application/json"
        elif body is not None:
            kwargs.setdefault("json", body)
        headers.update(kwargs.pop("headers", None) or {})
        headers = {k: v for k, v in headers.items() if v is not None}
        with httpx.Client(timeout=kwargs.pop("timeout", 60) * PATIENCE, trust_env=False, verify=kwargs.pop("verify", self.gateway.scheme == "https")) as http:
            return http.post(self.gateway.public_url + path, headers=headers, **kwargs)

    @property
    def authorization(self):
        return {"Authorization": f"Bearer {self.secret}"}

    def form(self, *parts, path="/v1/images/edits", kind=None, body=None, **kwargs):
        """A multipart call of these parts (lib.form), or of <body> as it is."""
        headers = {"Content-Type": kind or content_type(), **(kwargs.pop("headers", None) or {})}
        return self.post(form(*parts) if body is None else body, path=path, headers=headers, **kwargs)

    @contextmanager
    def stream(self, body, path="/v1/images/generations", headers=None, timeout=60):
        """The response to one call while it comes."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **self.authorization, **(headers or {})}
        with httpx.Client(timeout=timeout * PATIENCE, trust_env=False) as http, \
                http.stream("POST", self.gateway.public_url + path, content=content, headers=headers) as reply:
            yield reply

    def settled(self):
        """Balance, once nothing is held any more."""
        return self.gateway.wait_for(lambda: (b := self.balance())["held"] == 0 and b, "holds of the account end")


class Customer(Account):
    """A customer of an account's tenant with one API key; with a wallet of its own when <wallet> says so."""

    def __init__(self, account, credit=None, wallet="own", key=None, **more):
        self.gateway, self.admin, self.account = account.gateway, account.admin, account
        self.customer = self.admin.create("customers", {"tenant": account.id, "name": unique("customer"), "wallet": wallet, **more})
        self.id = self.customer["id"]
        self.credited = Decimal(0)
        if credit is not None:
            self.credit(credit)
        self.key = self.admin.create("keys", {"tenant": account.id, "customer": self.id, "name": unique("key"), **(key or {})})
        self.secret = self.key["secret"]

    def balance(self):
        """Of the wallet that it pays from."""
        return self.admin.balance(self.id if self.customer["wallet"] == "own" else self.account.id)

    def records(self, **filters):
        return self.admin.records(customer=self.id, **filters)
