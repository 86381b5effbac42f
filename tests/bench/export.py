"""Reports and exports over HTTP, on a month of usage records: times, records a second, and what they cost in memory.

    export.py --tallygate BINARY --store PATH

PATH is a store of report_bench (its master key lies beside it as PATH.key); the daemon works on it as it is. Standard library only. Times are
the fastest and the middle of some rounds, from the request to the last byte of the answer.
"""

import argparse
import http.client
import json
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS, TARGET_MS, TARGET_RATE, TARGET_GROWTH = 7, 50, 200_000, 16 * 1024 * 1024
MONTH = "start_time=2026-10-01T00:00:00Z&end_time=2026-11-01T00:00:00Z"
REPORTS = [
    ("a month by customer and day, one tenant", f"usage?{MONTH}&limit=31&group_by=customer&tenant=TENANT&timezone=tenant", TARGET_MS),
    ("a month by customer and day, platform", f"usage?{MONTH}&limit=31&group_by=customer", TARGET_MS),
    ("the first 10 customers of a month", f"usage?{MONTH}&bucket_width=all&group_by=customer&top=10&order_by=margin", TARGET_MS),
    ("a month by tenant, model and day", f"usage?{MONTH}&limit=31&group_by=tenant,model", None),
    ("7 days by hour, one tenant", "usage?start_time=2026-10-05T00:00:00Z&end_time=2026-10-12T00:00:00Z&bucket_width=1h&limit=168&tenant=TENANT", None),
    ("a tenant's statement, JSON", "tenants/TENANT/statement?month=2026-10", None),
    ("a tenant's statement, HTML", "tenants/TENANT/statement?month=2026-10&format=html", None),
]
EXPORTS = [("all records, CSV", "usage/records?format=csv", True), ("all records, NDJSON", "usage/records?format=ndjson", True),
           ("one tenant's records, CSV", "usage/records?format=csv&tenant=TENANT", False)]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Daemon:
    """One daemon with one loop on the store."""

    def __init__(self, binary, store, directory):
        self.admin = free_port()
        conf = pathlib.Path(directory) / "export.conf"
        conf.write_text(f"[public]\nlisten = 127.0.0.1:{free_port()}\n[admin]\nlisten = 127.0.0.1:{self.admin}\n[store]\nurl = sqlite:{store}\n"
                        f"[secrets]\nmaster_key_file = {store}.key\n[server]\nthreads = 1\ncache_directory = {directory}/cache\n")
        done = subprocess.run([binary, "admin-token", "create", "-c", conf, "--name", "bench"], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(done.stderr)
        self.headers = {"Authorization": f"Bearer {done.stdout.split()[0]}"}
        self.process = subprocess.Popen([binary, "serve", "-c", conf], stderr=open(f"{directory}/log", "ab"))
        while socket.socket().connect_ex(("127.0.0.1", self.admin)) != 0:
            if self.process.poll() is not None:
                sys.exit(f"the daemon ended: {pathlib.Path(directory, 'log').read_text()[-2000:]}")
            time.sleep(0.01)
        self.connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=600)

    def get(self, path):
        """Seconds, and the answer."""
        began = time.monotonic()
        self.connection.request("GET", f"/admin/v1/{path}", headers=self.headers)
        reply = self.connection.getresponse()
        body = reply.read()
        if reply.status != 200:
            sys.exit(f"{path}: {reply.status} {body[:500]}")
        return time.monotonic() - began, body

    def drain(self, path):
        """Seconds, lines and the most memory that an export took; nothing of it is kept."""
        before = most = self.memory()
        lines, pieces, began = 0, 0, time.monotonic()
        self.connection.request("GET", f"/admin/v1/{path}", headers=self.headers)
        reply = self.connection.getresponse()
        while piece := reply.read(1 << 20):
            lines, pieces = lines + piece.count(b"\n"), pieces + 1
            if pieces % 16 == 0:
                most = max(most, self.memory())
        return time.monotonic() - began, lines, most - before

    def memory(self):
        """Resident bytes, of memory alone: the database's own pages come from its file."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no RssAnon")

    def stop(self):
        self.process.terminate()
        return self.process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tallygate", required=True)
    parser.add_argument("--store", required=True)
    args = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as directory:
        daemon = Daemon(args.tallygate, pathlib.Path(args.store).resolve(), directory)
        tenant = json.loads(daemon.get("tenants?limit=1")[1])["data"][0]["id"]
        for what, path, counted in EXPORTS:
            seconds, lines, growth = daemon.drain(path.replace("TENANT", tenant))
            fits = not counted or (lines / seconds >= TARGET_RATE and growth <= TARGET_GROWTH)
            good &= fits
            print(f"{what}: {lines} lines in {seconds:.2f} s, {lines / seconds:,.0f}/s, {growth / 1048576:.1f} MiB more memory{'' if fits else '  (missed)'}", flush=True)
        for what, path, target in REPORTS:
            rounds = [daemon.get(path.replace("TENANT", tenant)) for _ in range(ROUNDS)]
            times, best = [1000 * t for t, _ in rounds], min(1000 * t for t, _ in rounds)
            fits = target is None or best <= target
            good &= fits
            print(f"{what}: {best:.1f} ms, median {statistics.median(times):.1f} ms, {len(rounds[0][1]):,} bytes{'' if fits else f'  (missed: {target} ms)'}", flush=True)
        code = daemon.stop()
    sys.exit(0 if good and code == 0 else 1)


if __name__ == "__main__":
    main()
