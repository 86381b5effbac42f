"""Uploads of 800 MB and replies of 200 MB, slow on either side: whole, exact, and the daemon's memory does not follow."""

import hashlib
import json
import socket
import threading
import time

import httpx
import pytest

from lib.form import BOUNDARY, content_type, file, form, text
from lib.http2 import Http2
from lib.ledger import hold_becomes
from lib.picture import png
from lib.process import PATIENCE, SANITIZED
from lib.upstream import answer, head, images, usage
from lib.wire import connect, read_reply, request

EDITS, GENERATIONS = "/v1/images/edits", "/v1/images/generations"
FIELDS = [text("model", "gpt-image-1"), text("prompt", "a hat"), text("size", "1024x1024"), text("quality", "low")]
USED = usage(40, 194, 272)
PRICE = "0.01302"
MIB = 1 << 20
GROWTH = 32 * 1024  # KiB
IMAGES, IMAGE = 16, (4 if SANITIZED else 50) * MIB  # as many and as large as an edit may have: 800 MB
REPLY = (20 if SANITIZED else 200) * MIB


@pytest.fixture(scope="module")
def settings():
    return {"public": {"max_body": "1GiB"}, "relay": {"timeout": "120s"}}


class Watch:
    """The largest RSS of a daemon while something goes on, above where it began. mapped=False: without the pages of mapped
    files, which are the page cache's."""

    def __init__(self, gateway, mapped=True):
        self.read = lambda: gateway.rss_kib("VmRSS" if mapped else "RssAnon")
        self.before, self.peak, self.over = self.read(), 0, threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        while not self.over.wait(0.02):
            self.peak = max(self.peak, self.read())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *failed):
        self.over.set()
        self.thread.join()
        if not any(failed):
            assert SANITIZED or self.peak - self.before < GROWTH, f"{self.before} KiB before, {self.peak} KiB at the most"


class Upload:
    """The body of an edit with 16 images, made piece by piece; its length and digest are known before."""

    def __init__(self, images=IMAGES, size=IMAGE):
        block = png(64, length=size)
        self.parts = []
        for i in range(images):
            whole = form(file("image[]", b"", f"{i}.png"))
            self.parts += [whole[:whole.rindex(b"\r\n--")], block, b"\r\n"]
        self.parts.append(form(*FIELDS))
        self.length = sum(map(len, self.parts))
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(part)
        self.digest = digest.hexdigest()

    def __iter__(self):
        for part in self.parts:
            for at in range(0, len(part), MIB // 2):
                yield part[at:at + MIB // 2]


@pytest.fixture(scope="module")
def upload():
    return Upload()


def arrived(upstream, upload):
    asked, = upstream.requests
    assert (asked.length, asked.digest) == (upload.length, upload.digest)
    assert int(asked.headers["content-length"]) == upload.length


def post(account, upload, chunked=False, pause=0):
    def pieces():
        for piece in upload:
            yield piece
            if pause:
                time.sleep(pause)
    headers = {**account.authorization, "Content-Type": content_type()}
    if not chunked:
        headers["Content-Length"] = str(upload.length)
    with httpx.Client(timeout=180 * PATIENCE, trust_env=False) as http:
        return http.post(account.gateway.public_url + EDITS, content=pieces(), headers=headers)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_800_mb_up(account, upstream, upload, chunked):
    upstream.use(answer(images(usage=USED)))
    with Watch(account.gateway), hold_becomes(account, "capture", PRICE):
        reply = post(account, upload, chunked)
        assert reply.status_code == 200, reply.text
    arrived(upstream, upload)


def test_800_mb_to_a_slow_upstream(account, upstream, upload):
    upstream.use(answer(images(usage=USED)))
    upstream.on_body = lambda data: time.sleep(len(data) / (200 * MIB))
    with Watch(account.gateway), hold_becomes(account, "capture", PRICE):
        assert post(account, upload).status_code == 200
    arrived(upstream, upload)


def test_a_slow_uploader(account, upstream):
    """Some MB/s; others are served meanwhile."""
    upload = Upload(4, 8 * MIB)
    upstream.use(answer(images(usage=USED)))
    done = []
    with Watch(account.gateway), hold_becomes(account, "capture", PRICE):
        thread = threading.Thread(target=lambda: done.append(post(account, upload, pause=0.03)))
        thread.start()
        time.sleep(0.3)
        begun = time.monotonic()
        assert httpx.get(account.gateway.base_url + "/models", headers=account.authorization, trust_env=False).status_code == 200
        assert time.monotonic() - begun < 1 * PATIENCE and not done
        thread.join()
    assert done[0].status_code == 200
    arrived(upstream, upload)


def test_800_mb_over_http2(account, upstream, upload):
    """The HTTP library collects such a body in a file that it maps."""
    upstream.use(answer(images(usage=USED)))
    with Watch(account.gateway, mapped=False), hold_becomes(account, "capture", PRICE), Http2(account.gateway, 180) as http:
        number = http.post(EDITS, {**account.authorization, "content-type": content_type(), "content-length": upload.length}, end=False)
        left = upload.length
        for piece in upload:
            left -= len(piece)
            assert http.send(number, piece, end=left == 0) == len(piece)
        assert http.finish(number, 120).status == 200
    arrived(upstream, upload)


def test_many_uploads_at_once(account, upstream):
    """Twelve of 16 MB: no memory follows from them all."""
    upload = Upload(2, 8 * MIB)
    upstream.use(answer(images(usage=USED)))
    replies = []
    with Watch(account.gateway):
        threads = [threading.Thread(target=lambda: replies.append(post(account, upload).status_code)) for _ in range(12)]
        [t.start() for t in threads]
        [t.join() for t in threads]
    assert replies == [200] * 12 and {(r.length, r.digest) for r in upstream.requests} == {(upload.length, upload.digest)}


def test_nothing_stays_on_the_disk(world):
    """Spooled bodies have no name, and their room is free again."""
    left = [p for p in world.directory.rglob("*") if p.is_file() and p.stat().st_size > 8 * MIB]
    assert left == []
    world.wait_for(lambda: not [link for link in _descriptors(world.pid) if "(deleted)" in link], "spools are closed")


def _descriptors(pid):
    import os
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            pass
    return found


START, REST = b'{"created":1,"data":[{"b64_json":"', b'"}],"usage":' + json.dumps(usage(10, 0, 272)).encode() + b"}"
MADE = "0.01093"  # 10 x 5.00 + 272 x 40.00 a million
BLOCK = b"QUJD" * (MIB // 4)


def large_reply(pause=0):
    def script(conn, asked):
        conn.sendall(head(200, len(START) + REPLY + len(REST)) + START)
        for _ in range(REPLY // MIB):
            conn.sendall(BLOCK)
            if pause:
                time.sleep(pause)
        conn.sendall(REST)
    return script


def reply_digest():
    digest = hashlib.sha256(START)
    for _ in range(REPLY // MIB):
        digest.update(BLOCK)
    digest.update(REST)
    return digest.hexdigest()


CALL = {"model": "gpt-image-1", "prompt": "a hat", "size": "1024x1024", "quality": "low"}


@pytest.mark.parametrize("pace", ["fast", "slow reader", "slow upstream"])
def test_200_mb_down(account, upstream, pace):
    upstream.use(large_reply(0.01 if pace == "slow upstream" else 0))
    digest, begun, taken = hashlib.sha256(), time.monotonic(), 0
    with Watch(account.gateway), hold_becomes(account, "capture", MADE), account.stream(CALL, timeout=180) as reply:
        for piece in reply.iter_raw():
            digest.update(piece)
            taken += len(piece)
            if pace == "slow reader" and taken / (60 * MIB) > time.monotonic() - begun:
                time.sleep(0.02)
    assert digest.hexdigest() == reply_digest()


def test_200_mb_down_over_http2(account, upstream):
    """A reader that opens its window late and little."""
    upstream.use(large_reply())
    with Watch(account.gateway), hold_becomes(account, "capture", MADE), Http2(account.gateway, 180) as http:
        number = http.post(GENERATIONS, {**account.authorization, "content-type": "application/json"}, json.dumps(CALL).encode())
        stream, digest, taken = http.streams[number], hashlib.sha256(), 0
        while not stream.ended:
            http.until(lambda: stream.body or stream.ended, 60)
            digest.update(stream.body)
            taken += len(stream.body)
            stream.body, stream.arrived = b"", []
    assert digest.hexdigest() == reply_digest()


def test_readers_that_stop(account, upstream):
    """Twenty clients that ask for 200 MB and read 64 KB: each costs a few buffers, and all are charged in the end."""
    upstream.use(large_reply())
    with Watch(account.gateway):
        socks = []
        for _ in range(20):
            sock = connect(account.gateway, 60 * PATIENCE)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sock.sendall(request("POST", GENERATIONS, {**account.authorization, "Content-Type": "application/json"}, json.dumps(CALL).encode()))
            socks.append(sock)
        for sock in socks:
            assert b"200" in sock.recv(65536)[:20]
        time.sleep(1)
        [sock.close() for sock in socks]
        account.gateway.wait_for(lambda: len(account.records()) == 20 and account.balance()["held"] == 0, "all are charged", 60)
    assert all("client_gone" in r["flags"] for r in account.records())


def test_the_limit_still_holds(account, upstream):
    """A body past public.max_body is refused at its head; one without a length where it gets too long."""
    upstream.use(answer(images(usage=USED)))
    with hold_becomes(account, "none"), connect(account.gateway) as sock:
        sock.sendall(request("POST", EDITS, {**account.authorization, "Content-Type": f"multipart/form-data; boundary={BOUNDARY}", "Content-Length": str((1 << 30) + 1)}))
        assert read_reply(sock).status == 413
