"""HTTP/1.1 over a bare socket, for requests that no client library would send."""

import socket
import ssl
from dataclasses import dataclass


@dataclass
class Reply:
    status: int
    headers: dict
    body: bytes
    rest: bytes = b""

    def json(self):
        import json
        return json.loads(self.body)


def connect(gateway, timeout=30):
    return socket.create_connection(("127.0.0.1", gateway.public_port), timeout)


def request(method, path, headers=None, body=b"", host="gateway"):
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{k}: {v}" for k, v in (headers or {}).items()]
    if body and not any(k.lower() in ("content-length", "transfer-encoding") for k in (headers or {})):
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def read_reply(sock, before=b""):
    """One reply. Raises ConnectionError when the peer closes before its head is whole."""
    data = before
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            raise ConnectionError(f"closed after {data!r}")
        data += more
    top, _, data = data.partition(b"\r\n\r\n")
    lines = top.decode("latin-1").split("\r\n")
    status = int(lines[0].split()[1])
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if 100 <= status < 200:
        return read_reply(sock, data)
    if "content-length" in headers:
        length = int(headers["content-length"])
        while len(data) < length:
            more = sock.recv(65536)
            if not more:
                break
            data += more
        return Reply(status, headers, data[:length], data[length:])
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while True:
            while b"\r\n" not in data:
                data += _more(sock)
            size, _, data = data.partition(b"\r\n")
            size = int(size.split(b";")[0], 16)
            while len(data) < size + 2:
                data += _more(sock)
            body, data = body + data[:size], data[size + 2:]
            if size == 0:
                return Reply(status, headers, body, data)
    while (more := sock.recv(65536)):
        data += more
    return Reply(status, headers, data)


def _more(sock):
    more = sock.recv(65536)
    if not more:
        raise ConnectionError("closed inside a chunked body")
    return more


def exchange(gateway, data, timeout=30):
    """Sends these bytes on a connection of their own and reads one reply."""
    with connect(gateway, timeout) as sock:
        sock.sendall(data)
        return read_reply(sock)


def alpn(gateway, cafile, protocols):
    """What the listener chooses by ALPN; None when nothing."""
    context = ssl.create_default_context(cafile=str(cafile))
    context.set_alpn_protocols(protocols)
    with connect(gateway) as sock, context.wrap_socket(sock, server_hostname="127.0.0.1") as tls:
        return tls.selected_alpn_protocol()
