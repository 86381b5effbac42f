"""The admin listener as `tallygate help --routes` tells of it: every route, how to call it, and a world that has one of everything."""

import datetime
import json
import re

import httpx

from .admin import Account, Customer, unique
from .process import BINARY, PATIENCE, run

ROUTES = json.loads(run("help", "--routes").stdout)["routes"] if BINARY.exists() else []
GUARDED = [r for r in ROUTES if r["token"]]
MISSING = "0" * 21 + "1"
PREFIX = {"tenants": "ten", "customers": "cus", "keys": "key", "channels": "chn", "price-books": "pbk", "grants": "grt", "holds": "hld", "records": "use", "admin-tokens": "adt"}
GOOD = {"platform admin", "platform viewer", "own admin", "own viewer", "other admin"}


def name(route):
    return f"{route['method']} {route['path'].removeprefix('/admin/v1')}"


def kind_of(route):
    """The collection that the route's {id} is in."""
    return re.search(r"([a-z-]+)/\{id\}", route["path"])[1]


class World:
    """Two tenants, everything that the first can have, and a token of every kind."""

    def __init__(self, gateway, expired=True):
        self.gateway, admin, self.clients = gateway, gateway.admin, {}
        self.own = Account(gateway, tenant={"in_doubt": "keep"})
        self.other = Account(gateway)
        customer = Customer(self.own, wallet="own")
        self.customer = customer.id
        own = self.own.id
        self.tokens = {"platform admin": gateway.token, "platform viewer": self.token(), "own admin": self.token(own, "admin"), "own viewer": self.token(own),
                       "other admin": self.token(self.other.id, "admin"), "garbage": "ta-" + "g" * 49, "an API key": self.own.secret, "none": None}
        revoked = admin.create("admin-tokens", {"name": "revoked"})
        admin.delete(f"admin-tokens/{revoked['id']}")
        self.tokens["revoked"] = revoked["secret"]
        if expired:
            soon = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)).isoformat().replace("+00:00", "Z")
            self.tokens["expired"] = admin.create("admin-tokens", {"name": "expired", "expires_at": soon})["secret"]
        self.ids = {"tenants": own, "customers": customer.id, "keys": self.own.key["id"], "channels": admin.get("channels")["data"][0]["id"],
                    "price-books": admin.create("price-books", {"name": unique("own"), "kind": "retail", "tenant": own})["id"],
                    "grants": admin.credit(customer.id, "5")["id"], "records": self.record(), "holds": self.hold(),
                    "admin-tokens": admin.create("admin-tokens", {"name": "own", "scope": own})["id"]}
        if expired:
            gateway.wait_for(lambda: self.call("expired", "GET", "/admin/v1/tenants", 250).status_code == 401, "the token expires")

    def token(self, scope="platform", role="viewer"):
        return self.gateway.admin.create("admin-tokens", {"name": unique(role), "scope": scope, "role": role})["secret"]

    def record(self):
        assert self.own.post({"model": "dall-e-2", "prompt": "x", "size": "256x256"}).status_code == 200
        self.own.settled()
        return self.own.records()[0]["id"]

    def hold(self):
        assert self.own.post({"model": "dall-e-2", "prompt": "x [[die=headers]]", "size": "256x256"}).status_code >= 500
        return self.gateway.wait_for(lambda: self.gateway.admin.get("holds", state="in_doubt")["data"], "a hold in doubt")[0]["id"]

    def call(self, who, method, path, place=0, **more):
        """From an address of its own for every few bad tokens, so that guessing is not what is answered to."""
        token, headers = self.tokens[who], dict(more.pop("headers", {}))
        if token:
            headers["Authorization"] = f"Bearer {token}"
        address = f"127.5.{list(self.tokens).index(who)}.{1 + place // 15}" if who not in GOOD else "127.0.0.1"
        if address not in self.clients:
            self.clients[address] = httpx.Client(transport=httpx.HTTPTransport(local_address=address, verify=False), timeout=20 * PATIENCE)
        return self.clients[address].request(method, self.gateway.admin_url + path, headers=headers, **more)

    def close(self):
        for client in self.clients.values():
            client.close()

    def ask(self, who, route, id=None, place=0, query=None, body=None):
        """The route with what it needs to be understood, and nothing that it could carry out."""
        more = {"params": {**self.required(route), **(query or {})}, "headers": {}}
        if route["method"] in ("POST", "PATCH"):
            more["json"] = {"no_such_member": 1} if body is None else body
        if route["method"] == "POST":
            more["headers"]["Idempotency-Key"] = unique("matrix")
        if route["method"] == "DELETE":
            more["headers"]["If-Match"] = '"never"'
        return self.call(who, route["method"], route["path"].replace("{id}", id or ""), place, **more)

    def required(self, route):
        values = {"start_time": str(int(datetime.datetime.now().timestamp()) - 7200), "month": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m")}
        return {q["name"]: values[q["name"]] for q in route["query"] if q["required"]}


def counts(world):
    """Everything that a call could have made, and what it could have changed."""
    admin = world.gateway.admin
    lists = {path: [o["id"] for o in admin.all(path)] for path in ("tenants", "customers", "keys", "channels", "price-books", "admin-tokens", "audit", "holds", "usage/records")}
    things = [admin.get(f"{path}/{id}") for path, id in world.ids.items() if path in ("tenants", "customers", "keys", "channels", "price-books")]
    return lists, [{k: v for k, v in thing.items() if k != "last_used_at"} for thing in things]  # noted a while later
