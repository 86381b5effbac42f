"""Event streams through Tallygate and through nginx: how late an event comes, and what a waiting stream costs in memory."""

import json
import resource
import signal
import statistics
import subprocess
import time

CALLS, LATENCY_STREAMS = 10_000, 1_000
INTERVAL_US, EVENTS, BYTES = 250_000, 40, 512  # 4,000 events a second, ten seconds long
PER_SECOND = 2_000
PATH = "/v1/images/generations"


def spare_descriptors(calls, spare=200):
    """A call takes two descriptors of the gateway: as many as this machine allows, at most <calls>."""
    return min(calls, (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - spare) // 2)


def rss_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


class Streams:
    def __init__(self, bench):
        self.bench = bench

    def mock(self, name, events):
        port = self.bench.ports[name]
        process = self.bench.spawn(str(self.bench.options.tools / "stream_mock"), str(port), str(events), str(INTERVAL_US), str(BYTES))
        self.bench.wait(port)
        return process

    def gateway(self, name, mock, threads):
        return self.bench.start_tallygate(name, threads, [("streams", f"http://127.0.0.1:{self.bench.ports[mock]}/v1", ["gpt-image-1"])])

    def nginx(self, name, mock):
        self.bench.nginx(name, f"""upstream {mock} {{ server 127.0.0.1:{self.bench.ports[mock]}; keepalive 2048; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{self.bench.ports[name]};
    location / {{ proxy_pass http://{mock}; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; proxy_read_timeout 600s; }} }}""")

    def load(self, name, streams, wait=True):
        command = [self.bench.options.tools / "stream_load", self.bench.ports[name], PATH, self.bench.keys.get(name, "sk-none"), streams, PER_SECOND]
        process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, text=True)
        if not wait:
            return process
        return self.finish(process)

    @staticmethod
    def finish(process):
        out, _ = process.communicate(timeout=300)
        seen = json.loads(out.strip().splitlines()[-1])
        assert process.returncode == 0 and seen["failed"] == 0, seen
        return seen

    def latency(self):
        """Medians of some rounds in which all take turns: {contestant: {"partial_p50", "partial_p99", ...}}"""
        self.mock("ticker", EVENTS)
        self.nginx("stream_proxy", "ticker")
        self.gateway("stream_one", "ticker", 1)
        contestants = {"direct": "ticker", "nginx": "stream_proxy", "tallygate": "stream_one"}
        seen = {c: [] for c in contestants}
        for _ in range(self.bench.options.rounds):
            for contestant, name in contestants.items():
                seen[contestant].append(self.load(name, LATENCY_STREAMS))
        return {c: {k: statistics.median(s[k] for s in all_of_it) for k in all_of_it[0]} for c, all_of_it in seen.items()}

    def memory(self):
        """(streams, KiB before, KiB with all of them open, KiB after)"""
        streams = spare_descriptors(CALLS)
        mock = self.mock("holder", 0)
        gateway = self.gateway("stream_held", "holder", 1)
        time.sleep(1)
        before = rss_kib(gateway.pid)
        load = self.load("stream_held", streams, wait=False)
        assert load.stdout.readline() == "open\n", "not all streams opened"
        time.sleep(1)
        during = rss_kib(gateway.pid)
        mock.send_signal(signal.SIGUSR1)
        self.finish(load)
        time.sleep(3)  # its memory goes back when it is quiet
        return streams, before, during, rss_kib(gateway.pid)


def measure(bench):
    bench.dir.chmod(0o755)
    streams = Streams(bench)
    latency, (held, before, during, after) = streams.latency(), streams.memory()
    per_call = (during - before) / held
    row = lambda what, key: (what, *(f"{latency[c][key]:,.0f}" for c in ("direct", "nginx", "tallygate")))
    table = [row(f"event under {LATENCY_STREAMS:,} streams: p50, us", "partial_p50"), row("- p99, us", "partial_p99"), row("- largest, us", "partial_max"),
             row("the completed one, which waits for its capture: p50, us", "completed_p50"), row("- p99, us", "completed_p99"),
             (f"RSS with {held:,} open streams, MB", "", "", f"{during / 1024:.1f}"), ("- idle, and after them, MB", "", "", f"{before / 1024:.1f}, {after / 1024:.1f}"),
             ("- a stream, KiB", "", "", f"{per_call:.1f}")]
    targets = [("an event passes within 1,000 us at p99", latency["tallygate"]["partial_p99"], 1000), (f"<= 64 KiB a stream ({held:,} at once)", per_call, 64)]
    if held < CALLS:
        targets[-1] = (targets[-1][0] + f"; this machine's descriptors allow no {CALLS:,}", *targets[-1][1:])
    return table, targets


def render(table, targets):
    lines = ["| | mock alone | nginx, proxy_buffering off | tallygate, 1 loop |", "|---|---:|---:|---:|"]
    lines += ["| " + " | ".join(row) + " |" for row in table]
    lines += ["", "| to reach | measured | limit | |", "|---|---:|---:|---|"]
    lines += [f"| {what} | {value:.1f} | {limit} | {'reached' if value <= limit else 'missed'} |" for what, value, limit in targets]
    return "\n".join(lines) + "\n"
