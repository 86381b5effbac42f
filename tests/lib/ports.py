"""Free TCP ports on loopback. Each is handed out once a process, so that two daemons of one test never collide."""

import socket

_given = set()


def free_port():
    """A port that nobody listens on now; the caller binds it soon."""
    for _ in range(200):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port
    raise RuntimeError("no free port found")
