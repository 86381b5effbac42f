"""What admin writes cost the customers: calls at a steady pace, with and without a reseller's work beside them.

The same load runs by turns alone and beside an admin client that creates keys, changes them, gives credit and creates
customers, one after the other, as often a second as is asked. Both stand on the same cores as the daemon, so the client's own
work counts against us."""

import http.client
import json
import re
import statistics
import subprocess
import sys
import threading
import time

RATE, CONNECTIONS, WRITES = 10_000, 50, 50  # calls a second, over so many connections; admin writes a second


class Clerk(threading.Thread):
    """The admin client: <writes> a second until it is stopped."""

    def __init__(self, port, token, tenant):
        super().__init__(daemon=True)
        self.port, self.token, self.tenant = port, token, tenant
        self.done, self.times, self.wrong = threading.Event(), [], []

    def work(self, n, key):
        kind = n % 4
        if kind == 0:
            return "POST", "keys", {"tenant": self.tenant, "name": f"clerk {n}"}
        if kind == 1 and key:
            return "PATCH", f"keys/{key}", {"policy": {"max_n": n % 10 + 1}}
        if kind == 2:
            return "POST", f"tenants/{self.tenant}/credits", {"amount": "1.00", "note": "beside"}
        return "POST", "customers", {"tenant": self.tenant, "name": f"customer {n}"}

    def run(self):
        link, key, n, begun = http.client.HTTPConnection("127.0.0.1", self.port), None, 0, time.monotonic()
        while not self.done.is_set():
            method, path, body = self.work(n, key)
            start = time.perf_counter()
            link.request(method, f"/admin/v1/{path}", json.dumps(body),
                         {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", "Idempotency-Key": f"clerk-{id(self)}-{n}"})
            answer = link.getresponse()
            made = json.load(answer)
            self.times.append((time.perf_counter() - start) * 1e3)
            if answer.status != 200:
                self.wrong.append(made)
            elif path == "keys":
                key = made["id"]
            n += 1
            self.done.wait(max(0, begun + n / WRITES - time.monotonic()))


def calls(bench, seconds):
    """(calls a second that were answered, mean milliseconds of one)"""
    out = subprocess.run(["h2load", "--h1", f"-c{CONNECTIONS}", f"--rps={RATE // CONNECTIONS}", f"-D{seconds}", "--warm-up-time=1", f"-d{bench.dir}/body.json",
                          "-HContent-Type: application/json", f"-HAuthorization: Bearer {bench.keys['beside']}",
                          f"http://127.0.0.1:{bench.ports['beside']}/v1/images/generations"], check=True, capture_output=True, text=True).stdout
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", out)
    mean = re.search(r"time for request:\s+\S+\s+\S+\s+([\d.]+)(us|ms|s)", out)
    bad = re.search(r"(\d+) failed, (\d+) errored", out)
    if not rate or int(bad[1]) or int(bad[2]):
        sys.exit(out)
    return float(rate[1]), float(mean[1]) * {"us": 1e-3, "ms": 1, "s": 1e3}[mean[2]]


def measure(bench, request):
    if "mock" not in bench.ports:
        bench.start_nginx()
    bench.start_tallygate("beside", 1)
    (bench.dir / "body.json").write_text(json.dumps(request))
    token, tenant = bench.tokens["beside"], bench.tenants["beside"]
    alone, beside, times = [], [], []
    for _ in range(bench.options.rounds):
        alone.append(calls(bench, bench.options.seconds))
        clerk = Clerk(bench.ports["beside_admin"], token, tenant)
        clerk.start()
        beside.append(calls(bench, bench.options.seconds))
        clerk.done.set()
        clerk.join()
        if clerk.wrong:
            sys.exit(f"an admin write failed: {clerk.wrong[0]}")
        times += clerk.times
    middle = lambda runs: [statistics.median(x) for x in zip(*runs)]
    return middle(alone), middle(beside), statistics.median(times), len(times) / bench.options.rounds / (bench.options.seconds + 1)


def render(alone, beside, write, writes):
    lost = 100 * (1 - beside[0] / alone[0])
    return f"""| {RATE:,} calls/s paced, 1 loop | alone | beside {writes:.0f} admin writes/s |
|---|---:|---:|
| calls answered a second | {alone[0]:,.0f} | {beside[0]:,.0f} |
| mean time of a call, ms | {alone[1]:.2f} | {beside[1]:.2f} |
| p50 of an admin write, ms | | {write:.2f} |

| to reach | measured | limit | |
|---|---:|---:|---|
| calls lost to admin writes, % | {lost:.2f} | 5 | {'reached' if lost < 5 else 'missed'} |
"""
