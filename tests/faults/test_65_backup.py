"""backup and fsck: of a store that is being written to, of the copy, of a stopped store; a start from the copy."""

import json
import os
import pty
import shutil
import subprocess
import threading
import time
from decimal import Decimal

import httpx
import pytest

from lib.admin import Account, unique
from lib.check import money
from lib.gateway import Gateway
from lib.process import BINARY, PATIENCE, environment, run

CALL = {"model": "dall-e-2", "prompt": "a sea otter", "size": "256x256"}


class Load:
    """<size> callers, and somebody who gives credit, takes it back and refunds, until stopped; knows what was acknowledged."""

    def __init__(self, accounts, size=12):
        self.accounts, self.halt, self.lock = accounts, threading.Event(), threading.Lock()
        self.served, self.granted, self.refunded, self.odd = [], [], [], []
        self.threads = [threading.Thread(target=self._call, args=(accounts[i % len(accounts)],)) for i in range(size)]
        self.threads.append(threading.Thread(target=self._manage_all))
        [t.start() for t in self.threads]

    def _call(self, account):
        while not self.halt.is_set():
            reply = account.post(CALL)
            with self.lock:
                (self.served if reply.status_code == 200 else self.odd).append(reply.headers["x-request-id"])

    def _manage_all(self):
        try:
            while not self.halt.is_set():
                self._manage(self.accounts[0].admin, self.accounts[0])
                time.sleep(0.02)
        except (AssertionError, httpx.HTTPError) as error:
            self.odd.append(error)

    def _manage(self, admin, account):
        grant = admin.credit(account.id, "0.5", category="promotional", priority=len(self.granted) % 7)
        admin.credit(account.id, "-0.25", note="less")
        for record in admin.get("usage/records", tenant=account.id, limit=3)["data"]:
            if money(record["refunded"]) == 0 and money(record["wholesale"]) > 0:
                admin.ok("POST", f"usage/records/{record['id']}/refund", {"amount": "0.001", "reason": "blurred"},
                         headers={"Idempotency-Key": unique("refund")})
                self.refunded.append(record["id"])
                break
        self.granted.append(grant["id"])

    def so_far(self):
        with self.lock:
            return list(self.served), list(self.granted), list(self.refunded)

    def join(self):
        self.halt.set()
        [t.join() for t in self.threads]
        assert self.odd == [], "calls failed under this load"


@pytest.fixture
def live(own_gateway, sandbox):
    gateway = own_gateway().start()
    gateway.channel(sandbox)
    return gateway, [Account(gateway, credit="100") for _ in range(3)]


@pytest.fixture
def restore(tmp_path):
    """A gateway of its own in another directory, from a copy and the master key; killed at the end if it still runs."""
    made = []

    def make(gateway, copy):
        directory = tmp_path / unique("restored")
        directory.mkdir()
        other = Gateway(directory)
        shutil.copy(copy, other.database)
        shutil.copy(gateway.directory / "master.key", directory)
        other.token = gateway.token
        made.append(other)
        return other
    yield make
    for other in made:
        if other.running:
            other.kill()
        other.complain()


def backup(gateway, copy):
    done = run("backup", "-c", gateway.config, copy)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and os.stat(copy).st_mode & 0o777 == 0o600
    return copy


def balance_is_the_sum(admin, account_id):
    """The wallet of a copy is the sum of what the copy says was given, taken, refunded and charged."""
    ledger, after = [], None
    while True:
        page = admin.get(f"tenants/{account_id}/ledger", limit=100, **({"after": after} if after else {}))
        ledger += page["data"]
        if not page["has_more"]:
            break
        after = page["next"]
    assert admin.balance(account_id)["posted"] == sum((money(t["amount"]) for t in ledger), Decimal(0))
    return ledger


def test_backups_under_load(live, restore, tmp_path):
    """Each copy is clean, has all that was acknowledged before it began, and a daemon goes on from it."""
    gateway, accounts = live
    load, copies = Load(accounts), []
    gateway.wait_for(lambda: load.odd or (len(load.served) > 50 and load.refunded), "the load runs")
    for i in range(4):
        known = load.so_far()
        copies.append((backup(gateway, tmp_path / f"copy{i}.db"), known))
        gateway.fsck()
        time.sleep(0.2)
    load.join()
    everything = load.so_far()
    assert len(everything[0]) > len(copies[-1][1][0]) > len(copies[0][1][0])
    for copy, (served, granted, refunded) in copies:
        other = restore(gateway, copy)
        other.fsck()
        other.start()
        records = {r["request_id"]: r for r in other.admin.records()}
        assert set(served) <= set(records), "an acknowledged call is not in the copy"
        assert {r["id"] for r in records.values() if money(r["refunded"]) > 0} >= set(refunded)
        assert sum(len(balance_is_the_sum(other.admin, a.id)) for a in accounts) > len(granted)
        assert all(other.admin.balance(a.id)["held"] == 0 for a in accounts), "a hold of the dead epoch is left"
        reply = httpx.post(other.public_url + "/v1/images/generations", json=CALL, headers=accounts[0].authorization, timeout=30 * PATIENCE, trust_env=False)
        assert reply.status_code == 200, reply.text
        other.stop()
        other.fsck()
    gateway.stop()
    gateway.fsck()


def test_backup_of_a_stopped_store(live, restore, tmp_path):
    gateway, accounts = live
    for account in accounts:
        assert account.post(CALL).status_code == 200
    balances = [a.settled() for a in accounts]
    gateway.stop()
    other = restore(gateway, backup(gateway, tmp_path / "copy.db"))
    gateway.fsck()
    other.fsck()
    other.start()
    assert [other.admin.balance(a.id) for a in accounts] == balances
    other.stop()


def test_backup_overwrites_nothing(live, tmp_path):
    gateway, _ = live
    (tmp_path / "mine").write_text("precious")
    done = run("backup", "-c", gateway.config, tmp_path / "mine")
    assert done.returncode == 1 and "mine" in done.stderr
    assert (tmp_path / "mine").read_text() == "precious"
    assert run("backup", "-c", gateway.config, tmp_path / "no" / "such" / "folder").returncode == 1
    assert run("backup", "-c", gateway.config).returncode == 2
    gateway.stop()


def test_killed_backups_leave_no_copy_that_is_not_whole(live, restore, tmp_path):
    gateway, accounts = live
    load, whole = Load(accounts, size=4), 0
    for i in range(12):
        copy = tmp_path / f"copy{i}.db"
        child = subprocess.Popen([str(BINARY), "backup", "-c", str(gateway.config), str(copy)], stdout=subprocess.DEVNULL, env=environment())
        time.sleep(0.002 * i * PATIENCE)
        child.kill()
        child.wait()
        if copy.exists():
            restore(gateway, copy).fsck()
            whole += 1
    backup(gateway, tmp_path / "copy0.db" if not (tmp_path / "copy0.db").exists() else tmp_path / "last.db")
    load.join()
    gateway.stop()
    gateway.fsck()
    assert whole < 12, "no kill came in time"


def on_terminal(*args):
    """(exit code, standard output, what a terminal as standard error was sent)."""
    master, slave = pty.openpty()
    child = subprocess.Popen([str(BINARY), *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=slave, env=environment())
    os.close(slave)
    shown = b""
    out = child.stdout.read()
    child.wait(60 * PATIENCE)
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    return child.returncode, out.decode(), shown.decode()


def test_progress_is_for_terminals(live, tmp_path):
    """One line, drawn anew and taken away at the end; nothing of it in files, pipes or JSON."""
    gateway, _ = live
    for args in (["fsck", "-c", gateway.config], ["backup", "-c", gateway.config, tmp_path / "a.db"], ["fsck", "-c", gateway.config, "--json"]):
        code, out, shown = on_terminal(*args)
        assert code == 0, out + shown
        assert "%" in shown and "\n" not in shown and shown.endswith("\r\x1b[K"), repr(shown)
        assert "\r" not in out and "\x1b" not in out
    answer = json.loads(out)
    assert answer["ok"] is True and answer["violated"] == 0 and len(answer["invariants"]) >= 30
    assert all(set(line) == {"name", "ok", "checked", "detail"} for line in answer["invariants"])
    for args in (["fsck", "-c", gateway.config], ["backup", "-c", gateway.config, tmp_path / "b.db"]):
        done = run(*args)
        assert done.returncode == 0 and done.stderr == "", done.stderr
    gateway.stop()
