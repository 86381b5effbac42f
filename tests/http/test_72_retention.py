"""Retention: old records are archived, byte for byte as the API showed them, and pruned; everything else stays as it was."""

import json
import os
import shutil
import stat
import subprocess
import time
from datetime import datetime, timezone
from decimal import Decimal

import httpx
import pytest

from lib.admin import Account, unique
from lib.check import is_error, money
from lib.gateway import Gateway
from lib.past import DAY, start_in_the_past
from lib.process import PATIENCE, run

CALLS = [{"model": "dall-e-2", "prompt": "a", "size": "256x256", "n": 2}, {"model": "gpt-image-1", "prompt": "b \u00e9", "quality": "low", "size": "1024x1024"},
         {"model": "dall-e-3", "prompt": "c [[images=1]]"}, {"model": "gpt-image-1", "prompt": "d [[usage=none]]", "quality": "low", "size": "1024x1024", "user": "\"quoted\""}]
AGES = (60, 45)   # days ago, of which records are to go
YOUNG = 20        # and of which they stay


def midnight(age):
    """Seconds into the past: to a quarter past twelve of the day of UTC that is <age> days ago."""
    now = time.time()
    return now - ((now // DAY - age) * DAY + 12 * 3600 + 900)


def day_name(age):
    return datetime.fromtimestamp((time.time() // DAY - age) * DAY, timezone.utc).strftime("%Y-%m-%d")


def day_bounds(age):
    begin = int(time.time() // DAY - age) * DAY
    return {"start_time": str(begin), "end_time": str(begin + DAY)}


def ndjson(gateway, **filters):
    """The records as the API streams them: bytes."""
    reply = httpx.get(gateway.admin_url + "/admin/v1/usage/records", params=filters, timeout=30 * PATIENCE, trust_env=False,
                      headers={"Authorization": f"Bearer {gateway.token}", "Accept": "application/x-ndjson"})
    assert reply.status_code == 200, reply.text
    return reply.content


def unpacked(path):
    return subprocess.run(["zstd", "-dc", str(path)], check=True, capture_output=True).stdout


class Store:
    """A store with records of several ages, closed; whoever needs one works on a copy."""

    def __init__(self, directory, sandbox):
        self.gateway = gateway = Gateway(directory)
        for age in (*AGES, YOUNG):
            start_in_the_past(gateway, midnight(age))
            if age == AGES[0]:
                gateway.channel(sandbox)
                self.account = Account(gateway, credit="100")
                self.customer = gateway.admin.create("customers", {"tenant": self.account.id, "name": "own", "wallet": "own"})
                gateway.admin.credit(self.customer["id"], "50")
                self.customer_key = gateway.admin.create("keys", {"tenant": self.account.id, "customer": self.customer["id"], "name": "own"})["secret"]
            self.business()
            gateway.stop()

    def business(self):
        admin = self.gateway.admin
        for body in CALLS:
            assert self.account.post(body).status_code == 200
        assert self.account.post(CALLS[0], headers={"Authorization": f"Bearer {self.customer_key}", "Idempotency-Key": unique("order")}).status_code == 200
        self.account.post({**CALLS[0], "prompt": "[[die=headers]]"})
        self.gateway.wait_for(lambda: admin.get("holds", state="open")["data"] == [], "all holds end")
        assert admin.money(f"usage/records/{self.account.records()[-1]['id']}/refund", {"amount": "0.003", "reason": "blurred"}).status_code in (200, 201)

    def copy(self, directory, settings=None):
        for name in ("master.key", "archive", *(p.name for p in self.gateway.directory.glob(self.gateway.database.name + "*"))):
            source = self.gateway.directory / name
            if source.is_dir():
                shutil.copytree(source, directory / name)
            elif source.exists():
                shutil.copy(source, directory / name)
        gateway = Gateway(directory, settings)
        gateway.token = self.gateway.token
        return gateway

    def facts(self, gateway):
        """What must stay: ledgers, balances now and then, accounts, reports."""
        admin, owners = gateway.admin, (self.account.id, self.customer["id"])
        found = {}
        for owner in owners:
            path = ("tenants/" if owner.startswith("ten_") else "customers/") + owner
            found[owner] = [admin.ledger(owner), admin.get(path + "/accounts"),
                            [admin.get(path + "/balance", at=str(int(time.time() - age * DAY) // DAY * DAY)) for age in (61, 60, 59, 50, 45, 44, 30, 20, 19)]]
        for group in ("customer", "model", "channel"):
            found[group] = admin.get("usage", start_time=day_bounds(61)["start_time"], bucket_width="all", group_by=group)["data"][0]["results"]
        return found


@pytest.fixture(scope="module")
def store(tmp_path_factory, sandbox):
    return Store(tmp_path_factory.mktemp("old"), sandbox)


@pytest.fixture
def start(store, tmp_path):
    """A gateway on a copy of the old store."""
    made = []

    def begin(settings=None, prepare=None):
        gateway = store.copy(tmp_path, settings)
        made.append(gateway)
        if prepare is not None:
            (tmp_path / "archive").mkdir(0o700, exist_ok=True)
            prepare(tmp_path / "archive")
        return gateway.start()
    yield begin
    for gateway in made:
        gateway.stop()
        gateway.fsck()


def keep(gateway, value):
    gateway.settings.setdefault("retention", {})["records"] = value
    gateway.write_config()
    gateway.signal(1)


def pruned(gateway):
    return int(gateway.metrics()["tallygate_records_pruned_total"])


def wait_pruned(gateway, n):
    gateway.wait_for(lambda: pruned(gateway) >= n, f"{n} records are pruned")
    assert pruned(gateway) == n


def files(gateway):
    return sorted(p.name for p in (gateway.directory / "archive").iterdir())


KEPT = {"retention": {"records": "35d"}}


def test_the_archive_is_what_the_api_showed(store, start):
    gateway = start()
    old = {age: ndjson(gateway, **day_bounds(age)) for age in AGES}
    young, before = ndjson(gateway, **day_bounds(YOUNG)), store.facts(gateway)
    records = {age: [json.loads(line) for line in text.splitlines()] for age, text in old.items()}
    assert all(len(lines) == len(CALLS) + 2 for lines in records.values()) and young.count(b"\n") == len(CALLS) + 2
    assert not (gateway.directory / "archive").exists() and pruned(gateway) == 0
    keep(gateway, "35d")
    wait_pruned(gateway, 2 * (len(CALLS) + 2))
    assert files(gateway) == sorted(f"records-{day_name(age)}.ndjson.zst" for age in AGES)
    for age in AGES:
        path = gateway.directory / "archive" / f"records-{day_name(age)}.ndjson.zst"
        assert unpacked(path) == old[age]
        assert subprocess.run(["zstd", "-tq", str(path)]).returncode == 0 and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((gateway.directory / "archive").stat().st_mode) == 0o700
    assert ndjson(gateway) == young and store.facts(gateway) == before
    for record in records[AGES[0]]:
        is_error(gateway.admin.call("GET", f"usage/records/{record['id']}"), 404)
        is_error(gateway.admin.money(f"usage/records/{record['id']}/refund", {"reason": "late"}), 404)
        assert gateway.admin.get("usage/records", request_id=record["request_id"])["data"] == []
    metrics, log = gateway.metrics(), gateway.text()
    assert metrics["tallygate_records_archived_total"] == pruned(gateway) and metrics["tallygate_archive_failures_total"] == 0
    assert log.count('"event":"records_archived"') == log.count('"event":"records_pruned"') == 2
    references = [t for t in gateway.admin.ledger(store.account.id) if t["kind"] == "refund"]
    assert {t["reference"] for t in references} <= {r["id"] for lines in records.values() for r in lines} | {json.loads(line)["id"] for line in young.splitlines()}
    gateway.restart()
    assert store.facts(gateway) == before and ndjson(gateway) == young


def test_the_rest_of_a_day_goes_after_a_crash(store, start):
    """A whole archive and records that are still there: the archive stays as it is and the records go."""
    gateway = start(KEPT)
    wait_pruned(gateway, 2 * (len(CALLS) + 2))
    archive = gateway.directory / "archive"
    gateway.stop()
    before = {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in archive.iterdir()}
    for path in gateway.directory.glob("gateway.db*"):  # as if nothing had been pruned yet
        path.unlink()
    for path in store.gateway.directory.glob("gateway.db*"):
        shutil.copy(path, gateway.directory)
    gateway.start()
    wait_pruned(gateway, 2 * (len(CALLS) + 2))
    assert {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in archive.iterdir()} == before
    assert gateway.metrics()["tallygate_records_archived_total"] == 0


def other_bytes(path):
    path.write_bytes(b"somebody else's")


def no_seal(path):
    subprocess.run(["zstd", "-q", "-o", str(path)], input=b"{}\n", check=True)


def other_seal(path):
    """Another store's: its last record has the number of one of ours, and another request."""
    no_seal(path)
    text = json.dumps({"day": path.name[8:18], "records": 6, "last": "use_" + "0" * 21 + "9", "request": "req_" + "0" * 21 + "1"}, separators=(",", ":"))
    with open(path, "ab") as f:
        f.write((0x184D2A57).to_bytes(4, "little") + (248).to_bytes(4, "little") + text.encode().ljust(247) + b"\n")


@pytest.mark.parametrize("make", [other_bytes, no_seal, other_seal])
def test_no_file_is_written_over(store, start, make):
    name = f"records-{day_name(AGES[0])}"

    def prepare(archive):
        make(archive / f"{name}.ndjson.zst")
        (archive / f"{name}.ndjson.zst.part").write_bytes(b"left by a crash")
    gateway = start(KEPT, prepare)
    archive = gateway.directory / "archive"
    foreign = (archive / f"{name}.ndjson.zst").read_bytes()
    wait_pruned(gateway, 2 * (len(CALLS) + 2))
    assert (archive / f"{name}.ndjson.zst").read_bytes() == foreign
    assert files(gateway) == sorted([f"{name}.ndjson.zst", f"{name}.2.ndjson.zst", f"records-{day_name(AGES[1])}.ndjson.zst"])
    assert unpacked(archive / f"{name}.2.ndjson.zst").count(b"\n") == len(CALLS) + 2


def test_what_cannot_be_archived_stays(start):
    gateway = start({"retention": {"records": "35d", "archive_directory": "/proc/nowhere/archive"}})
    gateway.wait_for(lambda: gateway.metrics()["tallygate_archive_failures_total"] >= 1, "the archive fails")
    assert '"event":"archive_failed"' in gateway.text() and "/proc/nowhere/archive" in gateway.text()
    assert pruned(gateway) == 0 and ndjson(gateway).count(b"\n") == 3 * (len(CALLS) + 2)
    gateway.settings["retention"]["archive_directory"] = str(gateway.directory / "elsewhere")
    gateway.write_config()
    gateway.restart()
    wait_pruned(gateway, 2 * (len(CALLS) + 2))
    assert len(list((gateway.directory / "elsewhere").iterdir())) == 2


def test_nothing_goes_unless_it_is_configured(store, start):
    gateway = start()
    keep(gateway, "3650d")
    time.sleep(0.5)
    assert pruned(gateway) == 0 and not (gateway.directory / "archive").exists()
    keep(gateway, "50d")
    wait_pruned(gateway, len(CALLS) + 2)
    assert files(gateway) == [f"records-{day_name(AGES[0])}.ndjson.zst"]


@pytest.mark.parametrize("value, good", [("0", True), ("35d", True), ("3650d", True), ("840h", True), ("34d", False), ("1s", False), ("3651d", False), ("forever", False)])
def test_its_range(tmp_path, value, good):
    done = run("check-config", "-c", Gateway(tmp_path, {"retention": {"records": value}}).config)
    assert (done.returncode == 0) == good and (good or ": records: " in done.stdout + done.stderr)


def test_a_statement_of_a_pruned_month(store, start):
    """The same before and after, to the nano-dollar."""
    gateway = start()
    month = datetime.fromtimestamp(time.time() - AGES[0] * DAY, timezone.utc).strftime("%Y-%m")
    before = gateway.admin.get(f"tenants/{store.account.id}/statement", month=month)
    assert money(before["opening_balance"]) + sum((money(m["amount"]) for m in before["movements"]), Decimal(0)) == money(before["closing_balance"])
    keep(gateway, "35d")
    wait_pruned(gateway, 2 * (len(CALLS) + 2))
    assert gateway.admin.get(f"tenants/{store.account.id}/statement", month=month) == before
