"""An upstream that can lie: a raw-socket HTTP/1.1 server in a thread, steered by `script`.

`script` is called as script(connection, request) for each request, on the connection's own thread, and writes whatever bytes it
wants; helpers below make the usual lies. Requests are kept in `requests`, whatever the answer was.
"""

import base64
import json
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

PIXEL = base64.b64encode(bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000 1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
    .replace(" ", ""))).decode()

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 413: "Payload Too Large",
           429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable"}


@dataclass
class Request:
    method: str
    path: str
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)


@dataclass
class ScriptedUpstream:
    script: object = None
    requests: list = field(default_factory=list)
    idle: set = field(default_factory=set)

    def __post_init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.closing = threading.Event()
        self.lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self.port}/v1"

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
        stream = conn.makefile("rb")
        try:
            while not self.closing.is_set():
                with self.lock:
                    self.idle.add(conn)
                request = read_request(stream)
                if request is None:
                    return
                with self.lock:
                    self.idle.discard(conn)
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


def read_request(stream):
    head = stream.readline()
    if not head.strip():
        return None
    method, path, _ = head.decode().split(" ", 2)
    headers = {}
    while (line := stream.readline().strip()):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    length = int(headers.get("content-length", 0))
    return Request(method, path, headers, stream.read(length))


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
