"""A store with tenants, customers that pay themselves and budgets that run out; what an operator does to it; and whether it is whole."""

import time
from decimal import Decimal

import httpx

from .failpoints import later
from .gateway import Gateway
from .process import PATIENCE


class Town:
    """A store of its own with tenants, customers that pay themselves, budgets that run out, and what an operator does to them."""

    def __init__(self, directory, sandbox, rng):
        self.gateway, self.rng = Gateway(directory).start(), rng
        self.gateway.channel(sandbox)
        self.admin_url, self.orders, self.serial = f"{self.gateway.admin_url}/admin/v1/", [], 0
        self.http = httpx.Client(timeout=20 * PATIENCE, trust_env=False, headers={"Authorization": f"Bearer {self.gateway.token}"})
        rules = ("release", "charge", "keep")
        self.tenants = [self._make("tenants", {"name": f"t{i}", "in_doubt": rules[i % 3], "credit_limit": "2" if i % 2 else "0",
                                               **({"budgets": [{"amount": "8", "window": "lifetime"}]} if i == 1 else {})}) for i in range(6)]
        self.customers = [self._make("customers", {"tenant": t["id"], "name": "own", "wallet": "own",
                                                   "budgets": [{"amount": "1.5", "window": "day"}, {"amount": "1", "window": "lifetime"}]}) for t in self.tenants[:3]]
        self.keys = [self._make("keys", {"tenant": t["id"], "name": "k", "budgets": [{"amount": "3", "window": "lifetime"}]}) for t in self.tenants]
        self.keys += [self._make("keys", {"tenant": t["id"], "name": "open"}) for t in self.tenants]
        self.keys += [self._make("keys", {"tenant": c["tenant"], "customer": c["id"], "name": "c"}) for c in self.customers]
        self.credited, self.voided = {}, 0
        for owner in self.tenants + self.customers:
            self.order("credits", f"{self._owner(owner)}/credits", {"amount": "2"})
        self.settle_orders()
        self.served = sandbox.served()["requests"]

    def _make(self, path, body):
        reply = self.http.post(self.admin_url + path, json=body)
        assert reply.status_code == 200, f"{path}: {reply.text}"
        return reply.json()

    def _owner(self, owner):
        return f"{'tenants' if owner['object'] == 'tenant' else 'customers'}/{owner['id']}"

    @property
    def secrets(self):
        return [k["secret"] for k in self.keys]

    # ---- what an operator does, each thing once however often it is asked for ----

    def order(self, kind, path, body):
        self.serial += 1
        self.orders.append((kind, path, body, f"order-{self.serial}"))

    def settle_orders(self):
        """Asks for what was not acknowledged; true when all is."""
        while self.orders:
            kind, path, body, key = self.orders[0]
            try:
                reply = self.http.post(self.admin_url + path, json=body, headers={"Idempotency-Key": key})
            except httpx.HTTPError:
                return False
            if reply.status_code == 503:
                return False
            self._acknowledged(kind, path, body, reply)
            self.orders.pop(0)
        return True

    def _acknowledged(self, kind, path, body, reply):
        if kind == "credits" and reply.status_code < 300:
            owner = path.split("/")[1]
            self.credited[owner] = self.credited.get(owner, Decimal(0)) + Decimal(body["amount"])
            return
        self.voided += body.get("action") == "void" and reply.status_code < 300
        # a refund may find all of it refunded, a hold may have been resolved, an expiry may have passed, an adjustment may be too much
        assert reply.status_code < 300 or reply.status_code in (400, 404, 409, 429), f"{path} {body}: {reply.status_code} {reply.text}"

    def interfere(self):
        """Something at random, given up when the gateway dies."""
        rng, owner = self.rng, self.rng.choice(self.tenants + self.customers)
        path = f"{self._owner(owner)}/credits"
        try:
            what = rng.choice(("credit", "promotion", "expiring", "adjustment", "refund", "refund", "refund", "resolve"))
            if what == "credit":
                self.order("credits", path, {"amount": f"{rng.uniform(0.2, 1):.9f}", "priority": rng.randrange(100)})
            elif what == "promotion":
                self.order("credits", path, {"amount": f"{rng.uniform(0.001, 0.03):.9f}", "category": "promotional", "priority": rng.randrange(100)})
            elif what == "expiring":
                self.order("credits", f"{self._owner(self.tenants[5])}/credits", {"amount": f"{rng.uniform(0.05, 0.3):.9f}", "expires_at": later(rng.uniform(0.2, 1.5))})
            elif what == "adjustment":
                self.order("credits", path, {"amount": "-0.001", "note": "correction"})
            elif what == "refund":
                self._refund(rng)
            elif what == "resolve":
                self._resolve(rng)
        except httpx.HTTPError:
            pass

    def _refund(self, rng):
        records = self.http.get(self.admin_url + "usage/records", params={"limit": 20}).json().get("data", [])
        paid = [r for r in records if Decimal(r["wholesale"]) > 0]
        if paid:
            part = {} if rng.random() < 0.5 else {"amount": f"{rng.uniform(0.001, 0.02):.9f}"}
            self.order("refund", f"usage/records/{rng.choice(paid)['id']}/refund", {"reason": "blurred", **part})

    def _resolve(self, rng):
        for hold in self.http.get(self.admin_url + "holds", params={"state": "in_doubt", "limit": 5}).json().get("data", []):
            self.order("resolve", f"holds/{hold['id']}/resolve", {"action": rng.choice(("void", "capture"))})

    # ---- checking ----

    def check(self, told, sandbox):
        """The gateway runs, nobody calls: fsck, what callers were told, what the upstream made, balances, budgets."""
        admin = self.gateway.admin
        assert self.settle_orders()
        self.gateway.fsck()
        assert admin.get("holds", state="open")["data"] == []
        records = admin.records()
        by_request = {r["request_id"]: r for r in records}
        assert len(by_request) == len(records), "a request has two records"
        self._check_told(told, by_request)
        left = len(admin.get("holds", state="in_doubt", limit=100)["data"]) + self.voided  # calls that left no record
        captured = sum("in_doubt" not in r["flags"] for r in records)
        time.sleep(0.5)  # calls that a kill left behind end upstream
        served = sandbox.served()["requests"] - self.served
        assert captured <= served <= len(records) + left, f"{served} served, {captured} captured, {len(records) - captured} in doubt, {left} kept or voided"
        self._check_money(admin, records)
        return records

    def _check_told(self, told, by_request):
        once = set()
        for t in told:
            if t.status != 200 or t.replayed:
                continue
            record = by_request.get(t.request)
            assert record is not None, f"acknowledged {t.request} is lost"
            assert t.charge == record["retail" if record["customer"] else "wholesale"] and "in_doubt" not in record["flags"], (t.charge, record)
            assert t.key is None or (t.secret, t.key) not in once, f"{t.key} was carried out twice"
            once.add((t.secret, t.key))

    def _check_money(self, admin, records):
        for owner in self.tenants + self.customers:
            balance = admin.get(f"{self._owner(owner)}/balance")
            assert Decimal(balance["available"]) >= 0, (owner["name"], balance)
        for tenant in self.tenants[3:5]:  # no customers of their own, nothing that expires: every cent is known
            paid = sum((Decimal(r["wholesale"]) - Decimal(r["refunded"]) for r in records if r["tenant"] == tenant["id"]), Decimal(0))
            assert Decimal(admin.get(f"{self._owner(tenant)}/balance")["posted"]) == self.credited[tenant["id"]] - paid
        for key in self.keys:
            self._within(key, "3" if key["name"] == "k" else "1000", [r["retail"] for r in records if r["key"] == key["id"]])
        self._within(self.tenants[1], "8", [r["wholesale"] for r in records if r["tenant"] == self.tenants[1]["id"]])
        for customer in self.customers:
            self._within(customer, "1", [r["retail"] for r in records if r["customer"] == customer["id"]])

    def _within(self, owner, budget, charges):
        assert sum(map(Decimal, charges), Decimal(0)) <= Decimal(budget), f"{owner['id']} is over its budget of {budget}"

    def close(self):
        self.http.close()
        if self.gateway.running:
            self.gateway.stop()
        self.gateway.fsck()
