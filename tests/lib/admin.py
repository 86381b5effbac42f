"""The admin API as a test speaks it, and an account (tenant, key) with its balance and records."""

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

    def credit(self, tenant, amount, key=None, **more):
        return self.ok("POST", f"tenants/{tenant}/credits", {"amount": str(amount), **more},
                       headers={"Idempotency-Key": key or unique("credit")})

    def balance(self, tenant):
        answer = self.get(f"tenants/{tenant}/balance")
        return {k: Decimal(answer[k]) for k in ("posted", "held", "available")}

    def records(self, **filters):
        """Every usage record, newest first, through all pages."""
        found, after = [], None
        while True:
            page = self.get("usage/records", limit=100, **filters, **({"after": after} if after else {}))
            found += page["data"]
            if not page["has_more"]:
                return found
            after = page["next"]


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
