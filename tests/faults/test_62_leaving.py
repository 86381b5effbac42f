"""Clients that leave in every phase, over HTTP/1.1 and HTTP/2, on plain calls, uploads and streams. What was bought is paid for once."""

import json
import socket
import struct
import threading
import time
from decimal import Decimal

import pytest

from lib.admin import Account
from lib.form import content_type, file, form, text
from lib.http2 import Http2
from lib.ledger import hold_becomes
from lib.picture import png
from lib.sse import DONE, completed, partial, stream
from lib.upstream import answer, hang, images, slow, usage
from lib.wire import connect, read_reply, request

CALL = {"model": "gpt-image-1", "prompt": "a sea otter in the morning light", "size": "1024x1024", "quality": "low"}
USED = usage(20, 0, 272)
PRICE = Decimal("0.01098")
GOOD = images(usage=USED)
PATHS = {"generations": "/v1/images/generations", "edits": "/v1/images/edits"}
BIG = 4 << 20  # of an upload: more than stays in memory


def body_of(operation, stream=False):
    """(Content-Type, body)"""
    fields = {**CALL, **({"stream": True, "partial_images": 1} if stream else {})}
    if operation == "generations":
        return "application/json", json.dumps(fields).encode()
    return content_type(), form(file("image", png(64, length=BIG)), *(text(k, "true" if v is True else v) for k, v in fields.items()))


class Http1Client:
    """One call over HTTP/1.1 that can end in the middle of anything."""
    ways = ("fin", "rst", "half")

    def __init__(self, account, operation, stream=False, length=None):
        kind, self.body = body_of(operation, stream)
        self.sock = connect(account.gateway)
        self.head = request("POST", PATHS[operation], {**account.authorization, "Content-Type": kind, "Content-Length": str(len(self.body))})

    def send(self, part):
        """1: all of it; 0.5: the head and half the body; 0.1: a piece of the head."""
        if part < 0.5:
            self.sock.sendall(self.head[:20])
            return
        self.sock.sendall(self.head + self.body[:int(len(self.body) * part)] if part < 1 else self.head + self.body)

    def read(self, word):
        got = b""
        while word not in got:
            more = self.sock.recv(8192)
            assert more, f"closed after {got[-500:]}"
            got += more

    def leave(self, way):
        if way == "half":
            self.sock.shutdown(socket.SHUT_WR)
            return
        if way == "rst":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Http2Client:
    ways = ("fin", "reset stream")

    def __init__(self, account, operation, stream=False):
        kind, self.body = body_of(operation, stream)
        self.http, self.headers, self.path = Http2(account.gateway), {**account.authorization, "content-type": kind, "content-length": len(self.body)}, PATHS[operation]
        self.number = None

    def send(self, part):
        self.number = self.http.post(self.path, self.headers, end=False)
        if part >= 0.5:
            self.http.send(self.number, self.body[:int(len(self.body) * part)], end=part == 1)

    def read(self, word):
        self.http.until(lambda: word in self.http.streams[self.number].body)

    def leave(self, way):
        if way == "fin":
            self.http.sock.close()
        else:
            self.http.reset(self.number)


CLIENTS = [(Http1Client, "fin"), (Http1Client, "rst"), (Http2Client, "fin"), (Http2Client, "reset stream")]
every_client = pytest.mark.parametrize("client, way", CLIENTS, ids=[f"{'h1' if c is Http1Client else 'h2'}-{w}" for c, w in CLIENTS])


@every_client
@pytest.mark.parametrize("operation, part", [("generations", 0.1), ("generations", 0.5), ("edits", 0.1), ("edits", 0.5)])
def test_gone_before_the_request_is_whole(account, upstream, client, way, operation, part):
    """Nothing was asked for, nothing is held, nobody is called."""
    upstream.use(answer(GOOD))
    with hold_becomes(account, "none"):
        one = client(account, operation)
        one.send(part)
        time.sleep(0.1)
        one.leave(way)
        time.sleep(0.2)
    assert upstream.started == 0 and account.gateway.alive()


@every_client
@pytest.mark.parametrize("operation", ["generations", "edits"])
def test_gone_before_the_upstream_answers(account, upstream, client, way, operation):
    """The picture is being made: it is read, paid for, and the record says that nobody saw it."""
    gate = threading.Event()

    def late(conn, asked):
        gate.wait(20)
        answer(GOOD)(conn, asked)
    upstream.use(late)
    with hold_becomes(account, "capture", PRICE, ["client_gone"]):
        one = client(account, operation)
        one.send(1)
        account.gateway.wait_for(lambda: upstream.requests, "the upstream is asked")
        one.leave(way)
        time.sleep(0.2)
        gate.set()


@every_client
def test_gone_in_the_middle_of_json(account, upstream, client, way):
    big = {"created": 1, "data": [{"b64_json": "A" * (6 << 20)}], "usage": USED}
    upstream.use(slow(big, 1.2))
    with hold_becomes(account, "capture", PRICE, ["client_gone"]):
        one = client(account, "generations")
        one.send(1)
        one.read(b"AAAA")
        one.leave(way)


@every_client
@pytest.mark.parametrize("operation", ["generations", "edits"])
def test_gone_in_the_middle_of_a_stream(account, upstream, client, way, operation):
    kind = "generation" if operation == "generations" else "edit"
    upstream.use(stream(partial(0, kind), 0.4, completed(USED, kind), 0.1, DONE))
    with hold_becomes(account, "capture", PRICE, ["client_gone"]):
        one = client(account, operation, stream=True)
        one.send(1)
        one.read(b"partial_image")
        one.leave(way)


@every_client
def test_gone_inside_an_event(account, upstream, client, way):
    """6 MB of one event are on their way to a client that takes 8 KB of them."""
    frame = partial(0, b64="A" * (6 << 20))
    upstream.use(stream(frame, completed(USED)))
    with hold_becomes(account, "capture", PRICE, ["client_gone"]):
        one = client(account, "generations", stream=True)
        if isinstance(one, Http2Client):
            one.http.reading = False
        one.send(1)
        one.read(b"partial_image")
        one.leave(way)


@every_client
def test_gone_before_the_upstream_refuses(account, upstream, client, way):
    gate = threading.Event()

    def late(conn, asked):
        gate.wait(20)
        answer({"error": {"message": "no", "type": "server_error", "param": None, "code": None}}, 500)(conn, asked)
    upstream.use(late)
    with hold_becomes(account, "void"):
        one = client(account, "generations")
        one.send(1)
        account.gateway.wait_for(lambda: upstream.requests, "the upstream is asked")
        one.leave(way)
        gate.set()


@every_client
def test_gone_before_the_stream_dies(account, upstream, client, way):
    upstream.use(stream(partial(0), 0.4, end=False))
    with hold_becomes(account, "doubt", 0, ["client_gone", "in_doubt"], None):
        one = client(account, "generations", stream=True)
        one.send(1)
        one.read(b"partial_image")
        one.leave(way)


@pytest.mark.parametrize("operation", ["generations", "edits"])
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
def test_a_half_closed_client_gets_everything(account, upstream, operation, streamed):
    kind = "generation" if operation == "generations" else "edit"
    frames = [partial(0, kind), completed(USED, kind)]
    upstream.use(stream(frames[0], 0.2, frames[1]) if streamed else slow(GOOD, 0.3))
    # that it has shut its side may be noted as leaving; it is served all the same
    with hold_becomes(account, "capture", PRICE, None):
        one = Http1Client(account, operation, stream=streamed)
        one.send(1)
        one.leave("half")
        reply = read_reply(one.sock)
        assert (reply.status, reply.body) == (200, b"".join(frames) if streamed else json.dumps(GOOD).encode())
        one.sock.close()


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
def test_one_stream_of_a_connection_leaves(account, upstream, streamed):
    """RST_STREAM on one of eight: the others get theirs, on the same connection."""
    upstream.use(stream(partial(0), 0.5, completed(USED)) if streamed else slow(GOOD, 0.5))
    kind, body = body_of("generations", streamed)
    headers = {**account.authorization, "content-type": kind}
    with Http2(account.gateway) as http:
        numbers = [http.post(PATHS["generations"], headers, body) for _ in range(8)]
        account.gateway.wait_for(lambda: len(upstream.requests) == 8, "all are asked")
        http.reset(numbers[3])
        assert all(http.finish(n).status == 200 for n in numbers if n != numbers[3])
        assert http.goaway is None
    account.gateway.wait_for(lambda: len(account.records()) == 8, "eight records")
    assert account.credited - account.settled()["posted"] == 8 * PRICE
    assert sorted(len(r["flags"]) for r in account.records()) == [0] * 7 + [1]


def test_a_crowd_of_streams_that_leave(account, upstream):
    """120 streams, each leaving at its own moment and in its own way: money equals what the upstream served."""
    upstream.use(stream(partial(0), 0.1, partial(1), 0.2, completed(USED), 0.05, DONE))

    def one(i):
        client, way = CLIENTS[i % len(CLIENTS)]
        try:
            caller = client(account, "generations", stream=True)
            caller.send(1)
            time.sleep((i % 30) * 0.02)
            caller.leave(way)
        except OSError:
            pass
    threads = [threading.Thread(target=one, args=(i,)) for i in range(120)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    time.sleep(0.5)
    account.gateway.wait_for(lambda: account.balance()["held"] == 0 and len(account.records()) == len(upstream.requests), "all is settled", 20)
    assert account.credited - account.settled()["posted"] == PRICE * len(account.records())


def test_gone_while_the_upstream_hangs(own_gateway, upstream):
    """Nobody waits any more, and the upstream never says: the call's time ends it, in doubt; nothing stays held."""
    gateway = own_gateway({"relay": {"timeout": "2s"}}).start()
    gateway.channel(upstream, models=["gpt-image-1"])
    account = Account(gateway)
    upstream.use(hang(6))
    with hold_becomes(account, "doubt", 0, ["client_gone", "in_doubt"], None):
        one = Http1Client(account, "generations")
        one.send(1)
        gateway.wait_for(lambda: upstream.requests, "the upstream is asked")
        one.leave("rst")
    gateway.stop()
    gateway.fsck()
