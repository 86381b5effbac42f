"""Free TCP ports on loopback. Each is handed out once a process, and each worker of a parallel run has a range of its own below
the ephemeral ports, so that two daemons never collide."""

import os
import random
import socket

FIRST, RANGE = 10000, 2500  # eight workers below 30000

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
_ports = [FIRST + _worker * RANGE + i for i in range(RANGE)]
random.shuffle(_ports)


def free_port():
    """A port that nobody listens on now; the caller binds it soon."""
    while _ports:
        port = _ports.pop()
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port found")
