"""An upstream that can lie: a raw-socket HTTP/1.1 server in a thread, steered by `script`.

`script` is called as script(connection, request) for each request, on the connection's own thread, and writes whatever bytes it
wants; helpers below make the usual lies. Requests are kept in `requests`, whatever the answer was. A body of more than
KEPT bytes is only counted and digested.

`on_head(connection, request)`, when set, runs before the body is read; False ends the connection. `on_body(bytes)`, when set,
runs after each piece of a body: it sleeps, for an upstream that reads slowly. `tls`, when set, is a server's SSLContext.
"""

import base64
import hashlib
import json
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field

PIXEL = base64.b64encode(bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000 1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
    .replace(" ", ""))).decode()

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 413: "Payload Too Large",
           429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable"}


KEPT = 64 << 20
PIECE = 1 << 18


@dataclass
class Request:
    method: str
    path: str
    headers: dict
    body: bytes = b""
    length: int = 0
    digest: str = ""  # SHA-256 of the body

    def json(self):
        return json.loads(self.body)


@dataclass
class ScriptedUpstream:
    script: object = None
    requests: list = field(default_factory=list)
    idle: set = field(default_factory=set)
    on_head: object = None
    on_body: object = None
    tls: object = None
    started: int = 0  # requests whose head has come

    def __post_init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.closing = threading.Event()
        self.lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def base_url(self):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v1"

    def close(self):
        self.closing.set()
        # shutdown wakes the thread that waits in accept; close alone would leave it there
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()

    def use(self, script):
        """From now on <script> answers; forgets what was asked before, and closes what was kept alive."""
        with self.lock:
            self.requests.clear()
            self.on_head = self.on_body = None
            self.started = 0
            idle, self.idle = self.idle, set()
        for conn in idle:
            try:
                conn.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.script = script
        if idle:
            time.sleep(0.05)  # the gateway sees them closed
        return self

    def _accept(self):
        while not self.closing.is_set():
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        conn.settimeout(120)
        if self.tls:
            try:
                conn = self.tls.wrap_socket(conn, server_side=True)
            except (OSError, ssl.SSLError):
                conn.close()
                return
        stream = conn.makefile("rb")
        try:
            while not self.closing.is_set():
                with self.lock:
                    self.idle.add(conn)
                request = read_head(stream)
                if request is None:
                    return
                with self.lock:
                    self.idle.discard(conn)
                    self.started += 1
                if self.on_head is not None and self.on_head(conn, request) is False:
                    return
                read_body(stream, request, self.on_body)
                with self.lock:
                    self.requests.append(request)
                if self.script(conn, request) is False:
                    return
        except OSError:
            pass
        finally:
            with self.lock:
                self.idle.discard(conn)
            stream.close()
            try:
                conn.close()
            except OSError:
                pass


def read_head(stream):
    line = stream.readline()
    if not line.strip():
        return None
    method, path, _ = (line.decode("latin-1") + "  ").split(" ", 2)
    headers = {}
    while (line := stream.readline().strip()):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return Request(method, path, headers)


def pieces(stream, headers):
    """The body, piece by piece; ConnectionError when it is cut."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while (size := int(stream.readline().split(b";")[0] or b"-1", 16)) > 0:
            yield from exactly(stream, size)
            stream.readline()
        while stream.readline().strip():
            pass
        return
    yield from exactly(stream, int(headers.get("content-length", 0)))


def exactly(stream, length):
    while length:
        data = stream.read1(min(length, PIECE))
        if not data:
            raise ConnectionError("the body is cut")
        length -= len(data)
        yield data


def read_body(stream, request, on_body=None):
    digest, kept = hashlib.sha256(), []
    for data in pieces(stream, request.headers):
        request.length += len(data)
        digest.update(data)
        if request.length <= KEPT:
            kept.append(data)
        if on_body is not None:
            on_body(data)
    request.body = b"".join(kept) if request.length <= KEPT else b""
    request.digest = digest.hexdigest()


def reset(conn):
    """RST, not FIN."""
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


def head(status=200, length=None, content_type="application/json", **headers):
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}"]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    if length is not None:
        lines.append(f"Content-Length: {length}")
    lines += [f"{k.replace('_', '-')}: {v}" for k, v in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(body, status=200, content_type="application/json", **headers):
    """A script that gives this answer, whole. <body>: bytes, str or something for JSON."""
    if not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()

    def script(conn, request):
        conn.sendall(head(status, len(body), content_type, **headers) + body)
    return script


def images(n=1, usage=None, **more):
    """The body of a good reply. usage: as it is to be sent."""
    body = {"created": 1700000000, "data": [{"b64_json": PIXEL} for _ in range(n)], **more}
    if usage is not None:
        body["usage"] = usage
    return body


def usage(text, image, output, **more):
    return {"total_tokens": text + image + output, "input_tokens": text + image, "output_tokens": output,
            "input_tokens_details": {"text_tokens": text, "image_tokens": image}, **more}


def raw(data, close=True, rst=False, delay=0):
    """A script that writes these bytes, then closes (FIN or RST) or leaves the connection open."""
    def script(conn, request):
        if data:
            conn.sendall(data)
        if delay:
            time.sleep(delay)
        if rst:
            reset(conn)
        return False if close else None
    return script


def hang(seconds=60, first=b""):
    """A script that (after <first>) says nothing."""
    def script(conn, request):
        if first:
            conn.sendall(first)
        time.sleep(seconds)
        return False
    return script


def slow(body, seconds, pieces=10):
    """A good reply whose body takes <seconds>."""
    data = json.dumps(body).encode()

    def script(conn, request):
        conn.sendall(head(200, len(data)))
        step = max(1, len(data) // pieces)
        for at in range(0, len(data), step):
            conn.sendall(data[at:at + step])
            time.sleep(seconds / pieces)
    return script


def error_body(message, type="invalid_request_error", param=None, code=None):
    return {"error": {"message": message, "type": type, "param": param, "code": code}}
