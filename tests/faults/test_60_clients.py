"""Clients that leave at every point. What was bought is charged once; what was not is free; nothing stays held."""

import json
import socket
import struct
import threading
import time
from decimal import Decimal

import pytest

from lib.admin import Account
from lib.check import money
from lib.process import PATIENCE
from lib.upstream import answer, images, slow, usage
from lib.wire import connect, request

BODY = json.dumps({"model": "gpt-image-1", "prompt": "a sea otter in the morning light", "size": "1024x1024", "quality": "low"}).encode()
PRICE = Decimal("0.01098")
REPLY = images(usage=usage(20, 0, 272))


def call_bytes(account, body=BODY):
    return request("POST", "/v1/images/generations", {"Authorization": f"Bearer {account.secret}", "Content-Type": "application/json"}, body)


def leave(sock, rst):
    if rst:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def charged(account, amount, flags=None):
    """Settled at exactly this much, with one record when it is not nothing."""
    wait = account.gateway.wait_for
    if amount:
        wait(lambda: len(account.records()) == 1, "a usage record")
    assert account.credited - account.settled()["posted"] == amount
    records = account.records()
    assert sum((money(r["wholesale"]) for r in records), Decimal(0)) == amount
    if flags is not None:
        assert set(flags) <= set(records[0]["flags"]), records


@pytest.mark.parametrize("rst", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("part", [0, 10, 0.5, -1], ids=["nothing", "line", "half", "all but one byte"])
def test_gone_before_the_request_is_whole(account, upstream, part, rst):
    upstream.use(answer(REPLY))
    data = call_bytes(account)
    length = int(len(data) * part) if isinstance(part, float) else part if part >= 0 else len(data) + part
    sock = connect(account.gateway)
    sock.sendall(data[:length])
    time.sleep(0.1)
    leave(sock, rst)
    time.sleep(0.2)
    charged(account, 0)
    assert upstream.requests == [] and account.gateway.alive()


@pytest.mark.parametrize("rst", [False, True], ids=["fin", "rst"])
def test_gone_at_once(account, upstream, rst):
    """Sent and gone: either nothing was bought, or it was bought and is charged."""
    upstream.use(answer(REPLY))
    sock = connect(account.gateway)
    sock.sendall(call_bytes(account))
    leave(sock, rst)
    account.gateway.wait_for(lambda: account.balance()["held"] == 0, "no hold")
    time.sleep(0.5)
    spent = account.credited - account.settled()["posted"]
    assert spent == PRICE * len(upstream.requests) == PRICE * len(account.records())


@pytest.mark.parametrize("rst", [False, True], ids=["fin", "rst"])
def test_row_73_gone_while_the_upstream_works(account, upstream, rst):
    """The picture is paid for upstream, so it is read to its end and charged, and the record says why nobody saw it."""
    def late(conn, asked):
        time.sleep(1)
        answer(REPLY)(conn, asked)
    upstream.use(late)
    sock = connect(account.gateway)
    sock.sendall(call_bytes(account))
    account.gateway.wait_for(lambda: upstream.requests, "the upstream is asked")
    leave(sock, rst)
    charged(account, PRICE, ["client_gone"] if rst else None)


def test_gone_while_the_reply_comes(account, upstream):
    upstream.use(slow(REPLY, 1.5))
    sock = connect(account.gateway)
    sock.sendall(call_bytes(account))
    time.sleep(0.7)
    leave(sock, True)
    charged(account, PRICE, ["client_gone"])


def test_gone_inside_a_large_reply(account, upstream):
    """3 MiB on the way, the client takes 100 KiB and goes: the whole is read and charged."""
    big = {"created": 1, "data": [{"b64_json": "A" * (3 << 20)}], "usage": usage(20, 0, 272)}
    upstream.use(answer(big))
    sock = connect(account.gateway)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.sendall(call_bytes(account))
    got = 0
    while got < 100000:
        got += len(sock.recv(8192))
    leave(sock, True)
    charged(account, PRICE)


def test_gone_before_the_upstream_fails(account, upstream):
    def fail_late(conn, asked):
        time.sleep(0.7)
        answer({"error": {"message": "no", "type": "server_error", "param": None, "code": None}}, 500)(conn, asked)
    upstream.use(fail_late)
    sock = connect(account.gateway)
    sock.sendall(call_bytes(account))
    account.gateway.wait_for(lambda: upstream.requests, "the upstream is asked")
    leave(sock, True)
    time.sleep(1)
    charged(account, 0)


def test_slow_reader(account, upstream):
    """A client that reads 3 MiB slowly gets them all, and the daemon serves others meanwhile."""
    big = json.dumps({"created": 1, "data": [{"b64_json": "A" * (3 << 20)}], "usage": usage(20, 0, 272)}).encode()
    upstream.use(answer(big))
    sock = connect(account.gateway, 60)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.sendall(call_bytes(account))
    got = b""
    other = Account(account.gateway)
    started = time.monotonic()
    while len(got) < 200000:
        got += sock.recv(4096)
        time.sleep(0.02)
    assert other.post(BODY).status_code == 200
    while len(got) < len(big) or not got.endswith(b"}"):
        more = sock.recv(1 << 20)
        if not more:
            break
        got += more
    sock.close()
    assert got.partition(b"\r\n\r\n")[2] == big and time.monotonic() - started < 30 * PATIENCE
    charged(account, PRICE)


def test_reader_that_stops(account, upstream):
    """A client that reads nothing at all holds only its own few buffers; when it goes the call is charged."""
    big = json.dumps({"created": 1, "data": [{"b64_json": "A" * (24 << 20)}], "usage": usage(20, 0, 272)}).encode()
    upstream.use(answer(big))
    sock = connect(account.gateway)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    before = account.gateway.rss_kib()
    sock.sendall(call_bytes(account))
    time.sleep(1.5)
    from lib.process import SANITIZED
    assert SANITIZED or account.gateway.rss_kib() - before < 16 * 1024
    leave(sock, True)
    charged(account, PRICE)


def test_http2_reset(account, upstream):
    """RST_STREAM(CANCEL) while the upstream works: charged, and the connection lives on."""
    import h2.config
    import h2.connection
    import h2.errors
    import h2.events

    def late(conn, asked):
        time.sleep(0.7)
        answer(REPLY)(conn, asked)
    upstream.use(late)
    sock = connect(account.gateway)
    peer = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    peer.initiate_connection()
    top = [(":method", "POST"), (":path", "/v1/images/generations"), (":scheme", "http"), (":authority", "x"),
           ("authorization", f"Bearer {account.secret}"), ("content-type", "application/json")]
    peer.send_headers(1, top)
    peer.send_data(1, BODY, end_stream=True)
    sock.sendall(peer.data_to_send())
    account.gateway.wait_for(lambda: upstream.requests, "the upstream is asked")
    peer.reset_stream(1, h2.errors.ErrorCodes.CANCEL)
    upstream.script = answer(REPLY)
    peer.send_headers(3, top)
    peer.send_data(3, BODY, end_stream=True)
    sock.sendall(peer.data_to_send())
    status, ended = None, False
    while not ended:
        for event in peer.receive_data(sock.recv(65536)):
            if isinstance(event, h2.events.ResponseReceived) and event.stream_id == 3:
                status = dict(event.headers).get(b":status")
            ended = ended or isinstance(event, h2.events.StreamEnded) and event.stream_id == 3
        sock.sendall(peer.data_to_send())
    sock.close()
    assert status in (b"200", "200")
    account.gateway.wait_for(lambda: len(account.records()) == 2, "both are recorded")
    assert account.credited - account.settled()["posted"] == 2 * PRICE
    assert sorted(len(r["flags"]) for r in account.records()) == [0, 1]


def test_sdk_timeout(account, upstream):
    """The SDK gives up after half a second and retries: each attempt that the upstream served is charged once."""
    import openai

    def late(conn, asked):
        time.sleep(1.5)
        answer(REPLY)(conn, asked)
    upstream.use(late)
    with openai.OpenAI(base_url=account.gateway.base_url, api_key=account.secret, timeout=0.5, max_retries=1) as sdk, pytest.raises(openai.APITimeoutError):
        sdk.images.generate(**json.loads(BODY))
    account.gateway.wait_for(lambda: account.balance()["held"] == 0 and len(account.records()) == len(upstream.requests), "all is settled")
    assert account.credited - account.settled()["posted"] == PRICE * len(upstream.requests)


def test_crowd_that_leaves(account, upstream):
    """200 clients, each leaving at its own moment: money equals what the upstream served."""
    def late(conn, asked):
        time.sleep(0.2)
        answer(REPLY)(conn, asked)
    upstream.use(late)

    def one(i):
        try:
            sock = connect(account.gateway)
            sock.sendall(call_bytes(account))
            time.sleep((i % 40) * 0.01)
            leave(sock, i % 2 == 0)
        except OSError:
            pass
    threads = [threading.Thread(target=one, args=(i,)) for i in range(200)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    time.sleep(0.5)
    account.gateway.wait_for(lambda: account.balance()["held"] == 0, "no hold is left", 20)
    records = account.records()
    assert len(records) == len(upstream.requests)
    assert account.credited - account.settled()["posted"] == PRICE * len(records)
    assert account.gateway.alive()
