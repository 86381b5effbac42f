"""kill -9, full disks, read-only stores, a second daemon: after each, nothing acknowledged is lost and fsck is clean."""

import os
import subprocess
import threading
import time
from decimal import Decimal

import httpx
import pytest

from lib.admin import Account
from lib.check import is_error, money
from lib.process import PATIENCE, run

BODY = {"model": "dall-e-2", "prompt": "a sea otter [[latency=500ms]]", "size": "256x256"}


class Crowd:
    """<size> callers, one call after another, until stopped; remembers the request ids that were answered 200."""

    def __init__(self, accounts, size, body=BODY):
        self.served, self.lock, self.halt = [], threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(accounts[i % len(accounts)], body)) for i in range(size)]
        [t.start() for t in self.threads]

    def _run(self, account, body):
        while not self.halt.is_set():
            try:
                reply = account.post(body)
            except httpx.HTTPError:
                return
            if reply.status_code == 200:
                with self.lock:
                    self.served.append((account, reply.headers["x-request-id"], reply.headers["tallygate-charge"]))

    def join(self):
        self.halt.set()
        [t.join() for t in self.threads]


def whole(account, served):
    """Every acknowledged call has its record; balance = credit - charges; nothing is held."""
    balance, records = account.settled(), account.records()
    by_request = {r["request_id"]: r for r in records}
    assert len(by_request) == len(records), "a request has two records"
    for owner, request_id, charge in served:
        if owner is account:
            assert request_id in by_request, f"acknowledged {request_id} is lost"
            assert by_request[request_id]["wholesale"] == charge
    assert balance["held"] == 0
    assert balance["posted"] == account.credited - sum((money(r["wholesale"]) for r in records), Decimal(0))
    return records


@pytest.mark.parametrize("rule", ["release", "charge"])
def test_kill_with_100_calls_in_flight(own_gateway, sandbox, rule):
    gateway = own_gateway({"relay": {"in_doubt": rule}}).start()
    gateway.channel(sandbox)
    accounts, everything = [Account(gateway, credit="100") for _ in range(5)], []
    for round in range(4):
        crowd = Crowd(accounts, 100)
        gateway.wait_for(lambda: sum(a.balance()["held"] for a in accounts) > 40 * Decimal("0.016"), "the calls are in flight")
        time.sleep(0.1 * round)
        gateway.kill()
        crowd.join()
        gateway.start()
        everything += crowd.served
        gateway.fsck()
        records = [r for a in accounts for r in whole(a, everything)]
        doubtful = [r for r in records if "in_doubt" in r["flags"]]
        assert doubtful, "no hold was left behind: the kill hit nothing"
        assert {r["wholesale"] for r in doubtful} == {"0.016000000" if rule == "charge" else "0.000000000"}
    gateway.stop()
    gateway.fsck()


def test_kill_under_load(own_gateway, sandbox):
    """No latency: kills land inside commits, captures and replies."""
    gateway = own_gateway().start()
    gateway.channel(sandbox)
    account, served = Account(gateway, credit="1000"), []
    for round in range(6):
        crowd = Crowd([account], 16, {**BODY, "prompt": "x"})
        time.sleep(0.3 + 0.07 * round)
        gateway.kill()
        crowd.join()
        gateway.start()
        served += crowd.served
        whole(account, served)
        gateway.fsck()
    assert served
    gateway.stop()
    gateway.fsck()


def test_kill_during_admin_writes(own_gateway):
    """Credits that were acknowledged are there; one that was not can be repeated with its key and counts once."""
    gateway = own_gateway().start()
    account, total = Account(gateway, credit=None), 0
    for round in range(4):
        acknowledged, halt = [], threading.Event()

        def credit(worker):
            i = 0
            while not halt.is_set():
                key = f"{round}-{worker}-{i}"
                try:
                    reply = httpx.post(f"{gateway.admin_url}/admin/v1/tenants/{account.id}/credits", json={"amount": "1"}, trust_env=False, timeout=20,
                                       headers={"Authorization": f"Bearer {gateway.token}", "Idempotency-Key": key})
                except httpx.HTTPError:
                    return
                if reply.status_code < 300:
                    acknowledged.append(key)
                i += 1
        threads = [threading.Thread(target=credit, args=(w,)) for w in range(8)]
        [t.start() for t in threads]
        time.sleep(0.4)
        gateway.kill()
        halt.set()
        [t.join() for t in threads]
        gateway.start()
        posted = account.balance()["posted"]
        assert len(acknowledged) <= posted - total <= len(acknowledged) + 8
        for key in acknowledged[-3:]:
            gateway.admin.credit(account.id, "1", key=key)
        assert account.balance()["posted"] == posted
        total = posted
        gateway.fsck()
    gateway.stop()


def test_kill_before_the_first_commit(own_gateway):
    gateway = own_gateway()
    for _ in range(5):
        gateway.token = gateway.token or gateway.create_token()
        gateway.start(wait=False)
        time.sleep(0.03)
        gateway.kill()
    gateway.start()
    assert gateway.admin.call("GET", "tenants").status_code == 200
    gateway.stop()
    gateway.fsck()


def test_second_daemon_is_refused(own_gateway, tmp_path):
    first = own_gateway().start()
    second = own_gateway({"store": {"url": f"sqlite:{first.database}"}}, name="second")
    second.token = first.token
    second.start(wait=False)
    code = second.wait_exit()
    assert code not in (0, -6, -11) and second.text().strip()
    assert first.admin.call("GET", "tenants").status_code == 200
    first.stop()
    first.fsck()


def test_database_of_something_else(own_gateway):
    import sqlite3
    gateway = own_gateway()
    with sqlite3.connect(gateway.database) as db:
        db.execute("CREATE TABLE precious (x)")
    db.close()
    done = run("serve", "-c", gateway.config)
    assert done.returncode not in (0, -6, -11) and done.stderr
    with sqlite3.connect(gateway.database) as db:
        assert [r[0] for r in db.execute("SELECT name FROM sqlite_schema")] == ["precious"]
    db.close()


def test_garbage_instead_of_a_database(own_gateway):
    gateway = own_gateway()
    gateway.database.write_bytes(os.urandom(100000))
    before = gateway.database.read_bytes()
    done = run("serve", "-c", gateway.config)
    assert done.returncode not in (0, -6, -11) and done.stderr
    assert gateway.database.read_bytes() == before


@pytest.mark.parametrize("where", ["missing directory", "read-only directory"])
def test_store_that_cannot_be_written(own_gateway, tmp_path, where):
    """A reason and a non-zero exit, at the start."""
    folder = tmp_path / "store"
    if where.startswith("read-only"):
        if os.geteuid() == 0 and not mounted(folder, "size=1m,ro"):
            pytest.skip("root ignores permissions and a read-only mount is not possible here")
        if os.geteuid() != 0:
            folder.mkdir()
            folder.chmod(0o500)
    gateway = own_gateway({"store": {"url": f"sqlite:{folder}/x.db"}})
    try:
        for command in (("serve",), ("admin-token", "create", "--name", "x"), ("migrate",)):
            done = run(*command, "-c", gateway.config)
            assert done.returncode not in (0, -6, -11) and done.stderr.strip(), done
    finally:
        unmount(folder)


def mounted(folder, options):
    folder.mkdir()
    return os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True).returncode == 0


def unmount(folder):
    subprocess.run(["umount", "-l", str(folder)], capture_output=True)


def fill(folder):
    """A ballast that leaves no room; there was some for it, as the folder is larger than the store's log grows in a test."""
    with open(folder / "ballast", "wb", buffering=0) as ballast:  # a buffer would be written again by close, and fail again
        try:
            while ballast.write(b"\0" * 65536):
                pass
        except OSError:
            pass


def test_full_disk(own_gateway, sandbox, tmp_path):
    """503 and an exit with a reason, never a charge without a record; with room again it goes on where it was."""
    folder = tmp_path / "small"
    if not mounted(folder, "size=48m"):
        pytest.skip("needs root and the right to mount a tmpfs")
    try:
        gateway = own_gateway({"store": {"url": f"sqlite:{folder}/tallygate.db"}}).start()
        gateway.channel(sandbox)
        account = Account(gateway, credit="1000")
        assert account.post({**BODY, "prompt": "x"}).status_code == 200
        served, statuses = [], set()
        fill(folder)
        end = time.monotonic() + 60 * PATIENCE
        while gateway.running and time.monotonic() < end:
            try:
                reply = account.post({**BODY, "prompt": "x"})
            except httpx.TransportError:
                break
            statuses.add(reply.status_code)
            if reply.status_code == 200:
                served.append((account, reply.headers["x-request-id"], reply.headers["tallygate-charge"]))
            else:
                is_error(reply, 503, "service_unavailable")
        code = gateway.wait_exit()
        assert code not in (0, -6, -11, 99), code
        assert statuses <= {200, 503}
        assert "store_failed" in gateway.text()
        (folder / "ballast").unlink()
        gateway.start()
        whole(account, served)
        assert account.post({**BODY, "prompt": "x"}).status_code == 200
        gateway.stop()
        gateway.fsck()
    finally:
        unmount(folder)


def test_full_disk_with_calls_in_flight(own_gateway, sandbox, tmp_path):
    """Captures that cannot be written are not acknowledged: their holds are resolved by the next start."""
    folder = tmp_path / "small"
    if not mounted(folder, "size=48m"):
        pytest.skip("needs root and the right to mount a tmpfs")
    try:
        gateway = own_gateway({"store": {"url": f"sqlite:{folder}/tallygate.db"}}).start()
        gateway.channel(sandbox)
        account = Account(gateway, credit="1000")
        crowd = Crowd([account], 24, {**BODY, "prompt": "x [[latency=50ms]]"})
        time.sleep(0.5)
        fill(folder)
        crowd.threads[0].join(60 * PATIENCE)
        code = gateway.wait_exit(60)
        crowd.join()
        assert code not in (0, -6, -11, 99), code
        (folder / "ballast").unlink()
        gateway.start()
        whole(account, crowd.served)
        gateway.stop()
        gateway.fsck()
    finally:
        unmount(folder)


def test_file_limit(own_gateway, sandbox):
    """Out of descriptors: some callers wait or are refused; the daemon lives and no money is lost."""
    import resource
    gateway = own_gateway({"server": {"threads": "1"}})
    gateway.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)))
    gateway.channel(sandbox)
    account = Account(gateway, credit="100")
    crowd = Crowd([account], 60, {**BODY, "prompt": "x [[latency=50ms]]"})
    time.sleep(2)
    crowd.join()
    gateway.wait_for(gateway.alive, "it answers again")
    whole(account, crowd.served)
    gateway.stop()
    gateway.fsck()


def test_log_canary(own_gateway, sandbox):
    """No key, credential or prompt text in logs, database or replies."""
    gateway = own_gateway().start()
    gateway.channel(sandbox, api_key="sk-canary-credential-XYZZY")
    account = Account(gateway)
    replies = [account.post({**BODY, "prompt": "canary-prompt-PLUGH"}), account.post({**BODY, "size": "1x1"}), account.post({"model": "nope", "prompt": "x"}),
               account.post({**BODY, "prompt": "canary-prompt-PLUGH [[status=500]]"}), account.post({**BODY, "prompt": "canary-prompt-PLUGH [[moderation]]"}),
               gateway.admin.call("GET", "channels"), gateway.admin.call("GET", "keys"), gateway.admin.call("GET", "admin-tokens"), gateway.admin.call("GET", "usage/records"),
               httpx.get(gateway.admin_url + "/metrics", trust_env=False)]
    gateway.stop()
    secrets = [account.secret, account.secret[12:-4], gateway.token, gateway.token[4:-4], "XYZZY", "canary-prompt-PLUGH"]
    files = {p.name: p.read_bytes() for p in gateway.directory.iterdir() if p.is_file()}
    for secret in secrets:
        for name, data in files.items():
            assert secret.encode() not in data, f"{secret} in {name}"
        for reply in replies:
            shown = reply.text + str(reply.headers)
            if "PLUGH" in secret and reply.status_code == 200:
                continue  # a revised prompt may well repeat the prompt
            assert secret not in shown, f"{secret} in the answer to {reply.request.url}"
