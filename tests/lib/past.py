"""A daemon whose wall clock stands in the past, so that there are old records that it has made itself."""

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from .process import environment

HOUR, DAY = 3600, 86400


@cache
def _library():
    path = Path(tempfile.mkdtemp(prefix="tallygate-past-")) / "past.so"
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-o", str(path), str(Path(__file__).with_name("past.c"))], check=True)
    return path


def past(seconds):
    """The environment of a daemon for which it is so many seconds ago."""
    env = environment(LD_PRELOAD=str(_library()), TG_TEST_PAST=str(int(seconds)))
    env["ASAN_OPTIONS"] += ":verify_asan_link_order=0"
    return env


def start_in_the_past(gateway, seconds):
    if gateway.token is None:
        gateway.token = gateway.create_token()
    gateway.spawn("serve", "-c", gateway.config, env=past(seconds))
    gateway.wait_until(gateway.alive, "healthy")
    return gateway
