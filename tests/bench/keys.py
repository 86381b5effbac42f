"""A million API keys: how long a start takes, what a key costs in memory, how fast a page and a search are over HTTP.

    keys.py --tallygate BINARY --key-set TOOL [--set DIRECTORY] [--work DIRECTORY] [--keys N]

Standard library only. --set keeps the generated store for the next run. Times are the medians and the slowest of some rounds, each over a
connection that is open already.
"""

import argparse
import http.client
import json
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = 40
TARGET_MS, TARGET_START, TARGET_BYTES = 10, 1.0, 250


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def rss(pid):
    """Resident bytes, of memory alone: the program's own pages come from its file."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


class Daemon:
    """One daemon with two loops on the store in <directory>."""

    def __init__(self, binary, directory):
        self.binary, self.directory = binary, pathlib.Path(directory)
        self.public, self.admin = free_port(), free_port()
        self.conf = self.directory / "keys.conf"
        self.conf.write_text(f"[public]\nlisten = 127.0.0.1:{self.public}\n[admin]\nlisten = 127.0.0.1:{self.admin}\n"
                             f"[store]\nurl = sqlite:{self.directory}/tallygate.db\n[server]\nthreads = 2\n")
        done = subprocess.run([binary, "admin-token", "create", "-c", self.conf, "--name", "bench"], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(done.stderr)
        self.token = done.stdout.split()[0]
        self.process = None

    def start(self):
        """Seconds until both listeners answer."""
        began = time.monotonic()
        self.process = subprocess.Popen([self.binary, "serve", "-c", self.conf], stderr=open(self.directory / "log", "ab"))
        for port in (self.admin, self.public):
            while True:
                with socket.socket() as s:
                    if s.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if self.process.poll() is not None:
                    sys.exit(f"the daemon ended: see {self.directory}/log")
                time.sleep(0.002)
        self.get("/admin/v1/tenants?limit=1")
        return time.monotonic() - began

    def connection(self, port=None):
        return http.client.HTTPConnection("127.0.0.1", port or self.admin, timeout=60)

    def get(self, path, connection=None):
        c = connection or self.connection()
        c.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
        reply = c.getresponse()
        body = reply.read()
        assert reply.status == 200, body
        return json.loads(body)

    def call(self, secret):
        c = self.connection(self.public)
        c.request("GET", "/v1/models", headers={"Authorization": f"Bearer {secret}"})
        return c.getresponse().status

    def stop(self):
        self.process.terminate()
        self.process.wait()


def questions(daemon):
    """Name and path of each list and search; ids are of things that have many keys and few."""
    tenants = daemon.get("/admin/v1/tenants?limit=100")["data"]
    large, small = tenants[-1]["id"], tenants[0]["id"]
    page = daemon.get("/admin/v1/keys?limit=100")
    some = page["data"]
    live = next(k for k in some if k["mode"] == "live")
    test = next((k for k in some if k["mode"] == "test"), live)
    customer = next(k["customer"] for k in some if k["customer"])
    named = next(k["external_id"] for k in some if k["external_id"])
    old = daemon.get(f"/admin/v1/keys?limit=100&tenant={small}")["data"][-1]["id"]
    return [
        ("first page", "/admin/v1/keys?limit=100"),
        ("deep page", f"/admin/v1/keys?limit=100&after={old}"),
        ("tenant with half of them", f"/admin/v1/keys?limit=100&tenant={large}"),
        ("small tenant", f"/admin/v1/keys?limit=100&tenant={small}"),
        ("customer", f"/admin/v1/keys?limit=100&customer={customer}"),
        ("revoked, test", "/admin/v1/keys?limit=100&status=revoked&mode=test"),
        ("large tenant, disabled, test", f"/admin/v1/keys?limit=100&tenant={large}&status=disabled&mode=test"),
        ("prefix, no digit", "/admin/v1/keys?limit=100&prefix=sk-tg-test-"),
        ("prefix, 1 digit", f"/admin/v1/keys?limit=100&prefix={live['prefix'][:7]}"),
        ("prefix, 1 digit, small tenant", f"/admin/v1/keys?limit=100&tenant={small}&prefix={live['prefix'][:7]}"),
        ("prefix, 1 digit, test, revoked", f"/admin/v1/keys?limit=100&status=revoked&prefix={test['prefix'][:12]}"),
        ("prefix, 2 digits", f"/admin/v1/keys?limit=100&prefix={live['prefix'][:8]}"),
        ("prefix, all digits", f"/admin/v1/keys?limit=100&prefix={live['prefix']}"),
        ("last4", f"/admin/v1/keys?limit=100&last4={live['last4']}"),
        ("external_id", f"/admin/v1/keys?limit=100&external_id={named}"),
        ("customers of the large tenant", f"/admin/v1/customers?limit=100&tenant={large}"),
        ("customer by external_id", "/admin/v1/customers?limit=100&external_id=cust-777"),
        ("one key", f"/admin/v1/keys/{old}"),
    ]


def time_questions(daemon):
    rows, connection = [], daemon.connection()
    for name, path in questions(daemon):
        took = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            answer = daemon.get(path, connection)
            took.append((time.perf_counter() - began) * 1e3)
        rows.append((name, len(answer.get("data", [answer])), statistics.median(took), max(took)))
    return rows


def check_secrets(daemon, directory):
    """Every shown key does what its status says; returns how many were tried."""
    lines = (directory / "secrets.txt").read_text().split("\n")[:-1]
    for line in lines:
        secret, status, _ = line.split()
        assert daemon.call(secret) == (200 if status == "active" else 401), line
    return len(lines)


def start_figures(daemon, rounds=5):
    times = []
    for i in range(rounds):
        if i > 0:
            daemon.stop()
        times.append(daemon.start())
    return statistics.median(times), rss(daemon.process.pid)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tallygate", required=True)
    parser.add_argument("--key-set", required=True)
    parser.add_argument("--set")
    parser.add_argument("--work", help="where the stores lie meanwhile")
    parser.add_argument("--keys", type=int, default=1_000_000)
    options = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="tallygate-keys-", dir=options.work))
    made = pathlib.Path(options.set) if options.set else work / "set"
    try:
        if not (made / "tallygate.db").exists():
            made.mkdir(parents=True, exist_ok=True)
            print(subprocess.run([options.key_set, made, str(options.keys)], check=True, capture_output=True, text=True).stdout, end="")
        (work / "empty").mkdir()
        shutil.copy(made / "master.key", work / "empty")
        (work / "full").mkdir()
        for name in ("tallygate.db", "master.key", "secrets.txt"):
            shutil.copy(made / name, work / "full")
        empty, full = Daemon(options.tallygate, work / "empty"), Daemon(options.tallygate, work / "full")
        nothing, base = start_figures(empty)
        empty.stop()
        took, all_of_it = start_figures(full)
        print(f"start: {took:.2f} s (target {TARGET_START}; an empty store {nothing:.2f} s)")
        print(f"memory: {(all_of_it - base) / options.keys:.0f} bytes a key, customers and all (target {TARGET_BYTES})")
        print(f"secrets tried: {check_secrets(full, made)}")
        rows = time_questions(full)
        for name, n, median, worst in rows:
            print(f"{name:34} {n:4} rows  median {median:6.2f} ms  slowest {worst:6.2f} ms")
        print(f"slowest median: {max(row[2] for row in rows):.2f} ms (target {TARGET_MS})")
        full.stop()
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
