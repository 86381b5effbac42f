"""Tallygate against nginx as a plain proxy, both in front of one nginx mock; standard library only, wrk makes the load.

Each figure is the median of some rounds, and the contestants take turns inside a round, so that a noisy machine hits both.
"""

import argparse
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import beside
import streams

SMALL = '{"created":1589478378,"data":[{"url":"https://example.com/a-picture-of-a-sea-otter.png"}]}'
LARGE_BYTES = 1_600_000
REQUEST = {"model": "dall-e-2", "prompt": "a sea otter with a hat, in the style of an old engraving", "n": 1, "size": "256x256"}
CREDIT = "1000000"


def raise_file_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port):
    for _ in range(100):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


class Ports(dict):
    """A free port for each name, found when it is first asked for."""

    def __missing__(self, name):
        self[name] = free_port()
        return self[name]


class Bench:
    def __init__(self, options):
        self.options = options
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="tallygate-bench-", dir=options.work))
        self.processes = []
        self.ports = Ports()
        self.keys, self.tokens, self.tenants = {}, {}, {}

    # ---- the cast ----

    def spawn(self, *command):
        log = open(self.dir / "log", "ab")
        process = subprocess.Popen(command, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    @staticmethod
    def wait(port):
        wait_for(port)

    def nginx(self, name, server):
        conf = self.dir / f"{name}.conf"
        conf.write_text(f"""worker_processes 1; daemon off; pid {self.dir}/{name}.pid; error_log {self.dir}/{name}.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; default_type application/json;
  client_body_temp_path {self.dir}/{name}-b; proxy_temp_path {self.dir}/{name}-p; fastcgi_temp_path {self.dir}/{name}-f;
  uwsgi_temp_path {self.dir}/{name}-u; scgi_temp_path {self.dir}/{name}-s;
  {server}
}}
""")
        self.spawn("nginx", "-c", str(conf))
        wait_for(self.ports[name])

    def start_nginx(self):
        (self.dir / "large.json").write_text('{"created":1589478378,"data":[{"b64_json":"' + "A" * LARGE_BYTES + '"}]}')
        self.dir.chmod(0o755)
        self.nginx("mock", f"""server {{
    listen 127.0.0.1:{self.ports['mock']}; root {self.dir};
    location /small/ {{ return 200 '{SMALL}'; }}
    location /large/ {{ error_page 405 =200 /large.json; try_files /large.json =404; }}
    location = /large.json {{ }}
  }}""")
        self.nginx("proxy", f"""upstream mock {{ server 127.0.0.1:{self.ports['mock']}; keepalive 128; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{self.ports['proxy']};
    location / {{ proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_max_temp_file_size 0; }} }}""")

    def start_tallygate(self, name, threads, channels=None):
        """channels: [(name, base URL, models)], all else being what the plain calls need."""
        conf = self.dir / f"{name}.conf"
        conf.write_text(f"""[public]
listen = 127.0.0.1:{self.ports[name]}
[admin]
listen = 127.0.0.1:{self.ports[name + '_admin']}
[store]
url = sqlite:{self.dir}/{name}.db
[server]
threads = {threads}
log_level = warn
""")
        token = subprocess.run([self.options.tallygate, "admin-token", "create", "-c", conf, "--name", "bench"], check=True,
                               capture_output=True, text=True).stdout.split()[0]
        process = self.spawn(self.options.tallygate, "serve", "-c", str(conf))
        wait_for(self.ports[name])
        admin = lambda path, body: self.admin(name, token, path, body)
        tenant = admin("tenants", {"name": "bench"})["id"]
        self.tokens[name], self.tenants[name] = token, tenant
        admin(f"tenants/{tenant}/credits", {"amount": CREDIT})
        mock = f"http://127.0.0.1:{self.ports['mock']}"
        for kind, base, models in channels or [("small", mock + "/small", ["dall-e-2"]), ("large", mock + "/large", ["dall-e-3"])]:
            admin("channels", {"name": kind, "kind": "openai", "api_key": "sk-bench", "models": {m: m for m in models}, "base_url": base})
        self.keys[name] = admin("keys", {"tenant": tenant, "name": "bench"})["secret"]
        return process

    def admin(self, name, token, path, body):
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports[name + '_admin']}/admin/v1/{path}", json.dumps(body).encode(),
                                         {"Authorization": f"Bearer {token}", "Content-Type": "application/json",
                                          "Idempotency-Key": f"bench-{path}-{body.get('name')}"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def stop(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    # ---- the load ----

    def wrk(self, contestant, kind, connections):
        """(requests a second, p50 in microseconds)"""
        direct = contestant in ("mock", "proxy")
        path = f"/{kind}/images/generations" if direct else "/v1/images/generations"
        request = dict(REQUEST) if kind == "small" else {"model": "dall-e-3", "prompt": REQUEST["prompt"]}
        script = self.dir / "post.lua"
        script.write_text(f"""wrk.method = "POST"
wrk.body = [[{json.dumps(request)}]]
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {self.keys.get(contestant, 'sk-none')}"
""")
        out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{self.options.seconds}s", "--latency", "-s", script,
                              f"http://127.0.0.1:{self.ports[contestant]}{path}"], check=True, capture_output=True, text=True).stdout
        if "Non-2xx" in out or "Socket errors" in out:
            sys.exit(f"{contestant}, {kind}, c={connections}:\n{out}")
        p50 = re.search(r"50%\s+([\d.]+)(us|ms|s)", out)
        scale = {"us": 1, "ms": 1000, "s": 1_000_000}[p50[2]]
        return float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), float(p50[1]) * scale

    def rounds(self, contestants, kind, connections):
        figures = {c: [] for c in contestants}
        for r in range(self.options.rounds):
            for c in contestants:
                print(f"\r{kind}, c={connections}, round {r + 1} of {self.options.rounds}: {c:6}", end="", file=sys.stderr, flush=True)
                figures[c].append(self.wrk(c, kind, connections))
        print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
        return {c: tuple(statistics.median(x) for x in zip(*f)) for c, f in figures.items()}


def rss_mb(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024


def fdatasync_us(directory):
    """The bare cost of a durable 4 KiB overwrite on the store's disk: median."""
    path = directory / "probe"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(fd, bytes(1 << 20))
    os.fsync(fd)
    took = []
    for i in range(1000):
        start = time.perf_counter()
        os.pwrite(fd, b"x" * 4096, i % 256 * 4096)
        os.fdatasync(fd)
        took.append((time.perf_counter() - start) * 1e6)
    os.close(fd)
    return statistics.median(took)


def database_figures(tallygate, directory, name):
    """(bytes of the closed database, finished requests in it)"""
    import sqlite3

    path = directory / f"{name}.db"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        return path.stat().st_size, db.execute("SELECT count(*) FROM usage").fetchone()[0]


def measure(bench):
    table = []
    bench.start_nginx()
    one = bench.start_tallygate("one", 1)
    every = bench.start_tallygate("all", 0)
    time.sleep(1)
    idle = rss_mb(one.pid), rss_mb(every.pid)
    sync = fdatasync_us(bench.dir)

    names = ("mock", "proxy", "one", "all")
    c64 = bench.rounds(names, "small", 64)
    c1 = bench.rounds(names, "small", 1)
    large = bench.rounds(names, "large", 16)
    loaded = rss_mb(one.pid), rss_mb(every.pid)

    row = lambda what, f: table.append((what, *(f(n) for n in names)))
    row("small reply, c=64: req/s", lambda n: f"{c64[n][0]:,.0f}")
    row("- ratio to nginx", lambda n: f"{c64[n][0] / c64['proxy'][0]:.2f}")
    row("- p50, ms", lambda n: f"{c64[n][1] / 1000:.2f}")
    row("small reply, c=1: p50, us", lambda n: f"{c1[n][1]:,.0f}")
    row("- added to nginx, us", lambda n: f"{c1[n][1] - c1['proxy'][1]:+,.0f}")
    row("1.6 MB reply, c=16: req/s", lambda n: f"{large[n][0]:,.0f}")
    row("- ratio to nginx", lambda n: f"{large[n][0] / large['proxy'][0]:.2f}")
    table.append(("RSS idle, MB", "", "", f"{idle[0]:.1f}", f"{idle[1]:.1f}"))
    table.append(("RSS after load, MB", "", "", f"{loaded[0]:.1f}", f"{loaded[1]:.1f}"))

    for process in (one, every):
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    size, requests = database_figures(bench.options.tallygate, bench.dir, "one")
    table.append((f"store bytes a request ({requests:,} requests)", "", "", f"{size / requests:.0f}", ""))
    for name in ("one", "all"):
        subprocess.run([bench.options.tallygate, "fsck", "-c", bench.dir / f"{name}.conf"], check=True, capture_output=True)
    targets = [
        ("req/s at c=64 >= 0.20 x nginx", c64["one"][0] / c64["proxy"][0], 0.20, True),
        (f"added p50 at c=1 <= two bare fdatasyncs ({sync:.0f} us each) + 250 us", c1["one"][1] - c1["proxy"][1], 2 * sync + 250, False),
        ("1.6 MB replies >= 0.8 x nginx", large["one"][0] / large["proxy"][0], 0.8, True),
        ("idle RSS <= 20 MB", idle[0], 20, False),
        ("<= 250 bytes of store a request", size / requests, 250, False),
    ]
    return table, targets


def scanners(tool, megabytes=256):
    """What scan_bench prints: how fast replies, events and forms are read."""
    return subprocess.run([tool, str(megabytes)], check=True, capture_output=True, text=True).stdout


def render(table, targets):
    lines = ["| | mock alone | nginx proxy, 1 worker | tallygate, 1 loop | tallygate, a loop a core |", "|---|---:|---:|---:|---:|"]
    lines += ["| " + " | ".join(row) + " |" for row in table]
    lines += ["", "| to reach (1 loop) | measured | limit | |", "|---|---:|---:|---|"]
    for what, value, limit, above in targets:
        good = value >= limit if above else value <= limit
        lines.append(f"| {what} | {value:.2f} | {limit:.2f} | {'reached' if good else 'missed'} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tallygate", required=True)
    parser.add_argument("--tools", type=pathlib.Path, required=True, help="where stream_mock, stream_load and scan_bench were built")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--work", help="where the store lies meanwhile; its disk is what is measured")
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["calls", "beside", "streams", "scanners", "keys"])
    options = parser.parse_args()
    if options.only == "keys":  # by itself: it makes a store of a million keys first
        tool = [options.tallygate, "--key-set", options.tools / "key_set"] + (["--work", options.work] if options.work else [])
        sys.exit(subprocess.run([sys.executable, pathlib.Path(__file__).with_name("keys.py"), "--tallygate", *tool]).returncode)
    raise_file_limit()
    bench, text = Bench(options), ""
    try:
        if options.only in (None, "calls"):
            text += render(*measure(bench))
        if options.only in (None, "beside"):
            text += "\n" * bool(text) + beside.render(*beside.measure(bench, REQUEST))
        if options.only in (None, "streams"):
            text += "\n" * bool(text) + streams.render(*streams.measure(bench))
        if options.only in (None, "scanners"):
            text += "\n" * bool(text) + "```\n" + scanners(options.tools / "scan_bench") + "```\n"
    finally:
        bench.stop()
    bench.options.out.mkdir(parents=True, exist_ok=True)
    (bench.options.out / "latest.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
