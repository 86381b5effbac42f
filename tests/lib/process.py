"""One started executable: its log, its end, and the sanitizers' complaints in it."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("TG_BINARY", ROOT / "build" / "tallygate"))
SANITIZED = os.environ.get("TG_SANITIZED", "") not in ("", "0")
# Everything that waits, waits longer under a sanitizer, and beside other tests.
PATIENCE = (4 if SANITIZED else 1) * (2 if "PYTEST_XDIST_WORKER" in os.environ else 1)

COMPLAINT = re.compile(r"(ERROR: (Address|Leak|Undefined|Thread)\w*Sanitizer|runtime error:|assertion .*failed|TG_ASSERT)", re.I)


def environment(**extra):
    """The environment of a child: no proxies, no OpenAI settings of whoever runs the tests."""
    env = {k: v for k, v in os.environ.items() if not k.upper().startswith(("OPENAI_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"))}
    env.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0:exitcode=99")
    env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
    env.setdefault("LSAN_OPTIONS", f"suppressions={ROOT / 'tests' / 'lsan.supp'}:print_suppressions=0")
    env.update(extra)
    return env


def run(*args, timeout=60, **kwargs):
    """The executable, to its end: CompletedProcess with text."""
    return subprocess.run([str(BINARY), *map(str, args)], capture_output=True, text=True, timeout=timeout * PATIENCE,
                          stdin=subprocess.DEVNULL, env=environment(), **kwargs)


class Process:
    """A tallygate that runs in the background, with standard error and output in files."""

    def __init__(self, directory, name):
        self.directory = Path(directory)
        self.log = self.directory / f"{name}.log"
        self.out = self.directory / f"{name}.out"
        self.child = None

    def spawn(self, *args, preexec_fn=None, env=None):
        assert self.child is None or self.child.poll() is not None, "already running"
        with open(self.log, "ab") as err, open(self.out, "ab") as out:
            self.child = subprocess.Popen([str(BINARY), *map(str, args)], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                          env=env or environment(), preexec_fn=preexec_fn)

    @property
    def pid(self):
        return self.child.pid

    @property
    def running(self):
        return self.child is not None and self.child.poll() is None

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_until(self, ready, what, timeout=20):
        """Polls <ready> until it is true; fails with the log when the process ends first."""
        end = time.monotonic() + timeout * PATIENCE
        while time.monotonic() < end:
            if self.child.poll() is not None:
                raise AssertionError(f"exited with {self.child.returncode} before {what}:\n{self.text()[-4000:]}")
            if ready():
                return
            time.sleep(0.02)
        raise AssertionError(f"not {what} after {timeout * PATIENCE} s:\n{self.text()[-4000:]}")

    def wait_exit(self, timeout=30):
        """The exit code, once it ends."""
        try:
            return self.child.wait(timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout * PATIENCE} s:\n{self.text()[-4000:]}") from None

    def signal(self, number):
        self.child.send_signal(number)

    def kill(self):
        """kill -9, as a power cut would."""
        if self.running:
            self.child.kill()
        self.child.wait()

    def terminate(self, timeout=30):
        """TERM, then the exit code; a sanitizer's complaint is a failure."""
        if self.child is None:
            return 0
        if self.running:
            self.child.send_signal(signal.SIGTERM)
        try:
            code = self.wait_exit(timeout)
        finally:
            if self.running:
                self.kill()
        self.complain()
        return code

    def complain(self):
        found = COMPLAINT.search(self.text())
        assert not found, f"{found.group(0)}:\n{self.text()[max(0, found.start() - 200):found.start() + 6000]}"

    def rss_kib(self, kind="VmRSS"):
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(kind + ":"):
                return int(line.split()[1])
        return 0
