"""Failpoints of a test build, and a workload that passes every one of them (daemon/base/failpoints.def)."""

import re
import shutil
import subprocess
import time
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import httpx

from .admin import Account, unique
from .check import money
from .gateway import Gateway
from .past import DAY, HOUR, start_in_the_past
from .process import BINARY, PATIENCE, environment, run

CALL = {"model": "dall-e-2", "prompt": "x", "size": "256x256"}
BULK = 4  # keys made at once
GRANT = Decimal("0.010")  # three of them, so that one call's hold lies on several lots


def compiled_in():
    """{name: its actions}, empty where the executable has none."""
    if not BINARY.exists():
        return {}
    done = run("help", "--failpoints")
    return {line.split("\t")[0]: line.split("\t")[1].split(",") for line in done.stdout.splitlines()} if done.returncode == 0 else {}


def run_armed(spec, *args):
    """The executable with failpoints, to its end."""
    return subprocess.run([str(BINARY), *map(str, args)], capture_output=True, text=True, timeout=60 * PATIENCE, stdin=subprocess.DEVNULL, env=environment(TG_FAILPOINT=spec))


def later(seconds):
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def fired(gateway, name):
    return re.search(rf'"event": "failpoint", "name": "{re.escape(name)}"', gateway.text()) is not None


class World:
    """Names of what a store holds, so that a copy of the store can be worked with."""

    def __init__(self, gateway, sandbox):
        """Makes it, with a gateway that is not started: <old> whose records are to be pruned, <free> whose calls in doubt are released, <kept> whose are kept, <lapsing> and <taken> for grants alone."""
        start_in_the_past(gateway, 40 * DAY)
        gateway.channel(sandbox)
        self.old = Account(gateway)
        assert all(self.old.post(CALL).status_code == 200 for _ in range(3))
        gateway.stop()
        start_in_the_past(gateway, HOUR)  # what is done now is to be folded at the next start
        admin = gateway.admin
        self.pruned = b"".join(httpx.get(f"{gateway.admin_url}/admin/v1/usage/records", params={"tenant": self.old.id}, trust_env=False, timeout=10 * PATIENCE,
                                         headers={"Authorization": f"Bearer {gateway.token}", "Accept": "application/x-ndjson"}).iter_bytes())
        self.free, self.kept = Account(gateway, credit="50", tenant={"budgets": [{"amount": "40", "window": "lifetime"}]}), Account(gateway, tenant={"in_doubt": "keep"})
        self.lapsing, self.taken = Account(gateway, credit=None), Account(gateway, credit=None)
        self.grant = admin.credit(self.taken.id, "5")["id"]
        self.customer = admin.create("customers", {"tenant": self.free.id, "name": "own", "wallet": "own", "budgets": [{"amount": "9", "window": "day"}]})
        self.customer_key = admin.create("keys", {"tenant": self.free.id, "customer": self.customer["id"], "name": "own"})
        self.spare = admin.create("keys", {"tenant": self.free.id, "name": "spare"})
        admin.ok("POST", f"customers/{self.customer['id']}/credits", {"amount": "3"}, headers={"Idempotency-Key": unique("credit")})
        assert self.free.post(CALL).status_code == 200
        self.record = self.free.records()[0]["id"]
        for _ in range(3):
            self.kept.post({**CALL, "prompt": "x [[die=headers]]"})
        gateway.wait_for(lambda: len(self.holds(admin)) == 3, "three holds are in doubt")
        for _ in range(3):
            admin.credit(self.free.id, GRANT, category="promotional", priority=1)
        self.credited = Decimal(50) + 3 * GRANT
        self.token, self.directory, self.database = gateway.token, gateway.directory, gateway.database

    def holds(self, admin, state="in_doubt"):
        return [h["id"] for h in admin.get("holds", state=state, limit=100)["data"]]

    def copy(self, directory):
        """A gateway of its own on a copy of this store, which must not be open."""
        for name in ("master.key", *(p.name for p in self.directory.glob(self.database.name + "*"))):
            if (self.directory / name).exists():
                shutil.copy(self.directory / name, directory / name)
        gateway = Gateway(directory, {"retention": {"records": "35d"}})
        gateway.token = self.token
        return gateway


class Run:
    """One process that meets failpoints while the workload runs; remembers what was asked for and what was acknowledged."""

    def __init__(self, world, gateway):
        self.world, self.gateway = world, gateway
        self.calls = []   # (secret, body, Idempotency-Key or None, reply or None)
        self.orders = []  # (path, body, Idempotency-Key, reply or None): admin calls, each to happen once
        self.edits = []   # (path, field, value, acknowledged)
        self.http = httpx.Client(timeout=20 * PATIENCE, trust_env=False)

    # ---- the workload ----

    def start(self, spec):
        """False: it died or refused to start. <spec> is a value of TG_FAILPOINT."""
        g = self.gateway
        g.spawn("serve", "-c", g.config, env=environment(TG_FAILPOINT=spec))
        end = time.monotonic() + 20 * PATIENCE
        while g.running and time.monotonic() < end:
            if g.alive():
                return True
            time.sleep(0.02)
        assert not g.running, f"it hangs:\n{g.text()[-3000:]}"
        return False

    def call(self, secret, body, key=None):
        headers = {"Authorization": f"Bearer {secret}", **({"Idempotency-Key": key} if key else {})}
        self.calls.append([secret, body, key, None])
        if self.gateway.running:
            try:
                self.calls[-1][3] = self.http.post(self.gateway.public_url + "/v1/images/generations", json=body, headers=headers)
            except httpx.HTTPError:
                pass

    def admin(self, method, path, body=None, key=None):
        headers = {"Authorization": f"Bearer {self.gateway.token}", **({"Idempotency-Key": key} if key else {})}
        try:
            return self.http.request(method, f"{self.gateway.admin_url}/admin/v1/{path}", json=body, headers=headers)
        except httpx.HTTPError:
            return None

    def order(self, path, body):
        self.orders.append([path, body, unique("order"), None])
        if self.gateway.running:
            self.orders[-1][3] = self.admin("POST", path, body, self.orders[-1][2])

    def edit(self, path, field, value):
        reply = self.admin("PATCH", path, {field: value}) if self.gateway.running else None
        self.edits.append((path, field, value, reply is not None and reply.status_code == 200))

    def work(self):
        """Everything that can be done with money, one thing after the other."""
        w, free = self.world, self.world.free
        self.order(f"tenants/{w.lapsing.id}/credits", {"amount": "2", "expires_at": later(1.5)})
        self.call(free.secret, CALL)                                           # over several lots
        self.call(free.secret, CALL, "first")
        self.call(free.secret, CALL, "first")                                  # again
        self.call(free.secret, {**CALL, "prompt": "x [[status=400]]"})         # void
        self.call(free.secret, {**CALL, "prompt": "x [[moderation]]"}, "void")
        self.call(free.secret, {**CALL, "prompt": "x [[die=headers]]"}, "lost")
        self.call(w.kept.secret, {**CALL, "prompt": "x [[die=headers]]"})
        self.call(free.secret, {**CALL, "size": "512x512", "n": 2})            # never sold before
        self.order(f"tenants/{free.id}/credits", {"amount": "1", "category": "promotional"})
        self.order(f"tenants/{free.id}/credits", {"amount": "-0.5", "note": "correction"})
        self.order(f"usage/records/{w.record}/refund", {"amount": "0.001", "reason": "blurred"})
        self.order(f"usage/records/{w.record}/refund", {"reason": "all of it"})
        self.order(f"grants/{w.grant}/void", {"note": "by mistake"})
        held = w.held[:2]
        self.order(f"holds/{held[0]}/resolve", {"action": "void"})
        self.order(f"holds/{held[1]}/resolve", {"action": "capture", "amount": "0.016"})
        self.order("customers", {"tenant": free.id, "name": "another", "wallet": "own"})
        self.order(f"customers/{w.customer['id']}/credits", {"amount": "1"})
        self.call(w.customer_key["secret"], CALL)
        self.call(w.customer_key["secret"], CALL, "own")
        self.edit(f"customers/{w.customer['id']}", "budgets", [])
        self.edit(f"tenants/{free.id}", "name", "renamed")
        self.order(f"keys/{w.spare['id']}/revoke", {})
        self.order("keys/bulk", {"keys": [{"tenant": free.id, "name": f"bulk {i}"} for i in range(BULK)]})
        self.call(free.secret, CALL, "last")

    def wait(self, done, seconds=8):
        """For what time brings: lots lapse, quiet is used for a checkpoint."""
        end = time.monotonic() + seconds
        while self.gateway.running and not done() and time.monotonic() < end:
            time.sleep(0.05)

    # ---- afterwards, on the gateway as it started again ----

    def check(self, served_before, sandbox):
        """What was acknowledged is there, once; what the upstream made is captured or booked as lost; nothing is held."""
        gateway, w = self.gateway, self.world
        admin = gateway.admin
        gateway.wait_for(lambda: admin.get("holds", state="open")["data"] == [], "no hold stays open", 5)
        self._calls_are_recorded(admin)
        self._served_is_booked(admin, served_before, sandbox)
        for path, field, value, acknowledged in self.edits:
            assert not acknowledged or admin.get(path)[field] == value, f"the acknowledged change of {path} is lost"
        assert sum(k["name"].startswith("bulk") for k in admin.get("keys", tenant=w.free.id, limit=100)["data"]) in (0, BULK), "some of many keys were made"
        self._old_records_are_archived(admin)
        self._orders_happen_once(admin)
        for hold in w.holds(admin):
            admin.ok("POST", f"holds/{hold}/resolve", {"action": "void"}, headers={"Idempotency-Key": unique("order")})
        self._balances(admin)
        assert self._again(w.free.secret, CALL, None).status_code == 200

    def _old_records_are_archived(self, admin):
        self.gateway.wait_for(lambda: admin.records(tenant=self.world.old.id) == [], "old records are pruned")
        whole = [p for p in (self.gateway.directory / "archive").iterdir() if p.suffix == ".zst"]
        lines = [subprocess.run(["zstd", "-dc", str(p)], check=True, capture_output=True).stdout for p in whole]
        assert sorted(b"".join(lines).splitlines()) == sorted(self.world.pruned.splitlines()), "what was pruned is not in the archive, once"

    def _records(self, admin):
        return [r for tenant in (self.world.free, self.world.kept) for r in admin.records(tenant=tenant.id)]

    def _calls_are_recorded(self, admin):
        by_request = {r["request_id"]: r for r in self._records(admin)}
        for secret, _, _, reply in self.calls:
            if reply is not None and reply.status_code == 200 and "idempotent-replayed" not in reply.headers:
                record = by_request.get(reply.headers["x-request-id"])
                assert record is not None, f"acknowledged {reply.headers['x-request-id']} is lost"
                price = record["retail"] if secret == self.world.customer_key["secret"] else record["wholesale"]
                assert price == reply.headers["tallygate-charge"] and "in_doubt" not in record["flags"]

    def _served_is_booked(self, admin, before, sandbox):
        new = self._records(admin)
        captured = [r for r in new if "in_doubt" not in r["flags"]]
        lost = len(new) - len(captured)
        served = sandbox.served()["requests"] - before
        assert len(captured) - 1 <= served <= len(captured) - 1 + lost + len(self.world.holds(admin)), \
            f"{served} served, {len(captured) - 1} captured, {lost} lost"

    def _again(self, secret, body, key):
        return self.http.post(self.gateway.public_url + "/v1/images/generations", json=body,
                              headers={"Authorization": f"Bearer {secret}", **({"Idempotency-Key": key} if key else {})})

    def _orders_happen_once(self, admin):
        """Each is given again under its key: what was acknowledged is answered the same and moves nothing, the rest happens now."""
        for path, body, key, reply in self.orders:
            if reply is None or reply.status_code == 503:
                continue
            assert 200 <= reply.status_code < 300, f"{path}: {reply.status_code} {reply.text}"
            before = admin.balance(self.world.free.id)
            again = self.admin("POST", path, body, key)
            assert again is not None and again.content == reply.content, f"{path}: {reply.text} became {again and again.text}"
            assert admin.balance(self.world.free.id) == before
        for path, body, key, reply in self.orders:
            if reply is None or reply.status_code == 503:
                again = self.admin("POST", path, body, key)
                expired = "expires_at" in body and again.status_code == 400  # it has had its time
                assert 200 <= again.status_code < 300 or expired, f"{path}: {again.text}"

    def _balances(self, admin):
        w = self.world
        records = admin.records(tenant=w.free.id)
        charged = sum((money(r["wholesale"]) - money(r["refunded"]) for r in records), Decimal(0))
        balance = admin.balance(w.free.id)
        assert balance["held"] == 0 and balance["posted"] == w.credited + Decimal("0.5") - charged, (balance, charged)
        assert admin.balance(w.taken.id)["posted"] == 0
        gateway = self.gateway
        gateway.wait_for(lambda: admin.balance(w.lapsing.id)["posted"] == 0, "what is left of the grant lapses")
        own = admin.get(f"customers/{w.customer['id']}/balance")
        retail = sum((money(r["retail"]) for r in records if r["customer"] == w.customer["id"]), Decimal(0))
        assert money(own["held"]) == 0 and money(own["posted"]) == Decimal(4) - retail, (own, retail)

    def close(self):
        self.http.close()
