"""The wire: raw HTTP/1.1, HTTP/2 with prior knowledge and by ALPN, error objects for everything, a request id on every answer."""

import json
import socket
import threading

import httpx
import pytest

from lib.admin import Account
from lib.check import charges, has_request_id, is_error, money, untouched
from lib.gateway import Gateway, certificate
from lib.process import PATIENCE
from lib.wire import alpn, connect, exchange, read_reply, request

BODY = json.dumps({"model": "dall-e-2", "prompt": "otter", "size": "256x256"}).encode()
PATH = "/v1/images/generations"


def headers(account, **more):
    return {"Authorization": f"Bearer {account.secret}", "Content-Type": "application/json", **more}


@pytest.mark.parametrize("path", ["/v1/imagez", "/", "/v1", "/v2/images/generations", "/v1/images/foo", "/v1/images/generations/", "//v1//images/generations",
                                  "/v1/images/../images/generations", "/v1/%2e%2e/v1/images/generations", "/V1/images/generations",
                                  "/v1/images/generations%00"])
def test_unknown_url(account, sandbox, path):
    with untouched(account, sandbox):
        error = is_error(exchange(account.gateway, request("POST", path, headers(account), BODY)), 404, None)
    assert error["message"].startswith("Invalid URL (POST ")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "FOO"])
def test_wrong_method(account, sandbox, method):
    with untouched(account, sandbox), connect(account.gateway) as sock:
        sock.sendall(request(method, PATH, headers(account, Connection="close")))
        if method == "HEAD":
            assert sock.recv(4096).startswith(b"HTTP/1.1 405 ")
            return
        reply = read_reply(sock)
        is_error(reply, 405, None, message=rf"^Not allowed to {method} on /v1/images/generations\. \(HINT: Perhaps you meant to use a different HTTP method\?\)$")
        assert reply.headers["allow"] == "POST"


def test_query_is_no_obstacle(account):
    with charges(account, "0.016"):
        assert exchange(account.gateway, request("POST", PATH + "?api-version=1", headers(account), BODY)).status == 200


@pytest.mark.parametrize("data", [b"hello\r\n\r\n", b"POST\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n", b"GET / HTTP/1.1\r\nbroken header\r\n\r\n",
                                  b"GET / HTTP/1.1\r\n: x\r\n\r\n", b"GET  / HTTP/1.1\r\n\r\n\r\n"])
def test_unparsable(gateway, data):
    """Either the error object or a closed connection; never a hang, never a crash."""
    with connect(gateway, 10 * PATIENCE) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        try:
            reply = read_reply(sock)
        except ConnectionError:
            reply = None
    if reply is not None:
        is_error(reply, 400)
    assert gateway.alive()


@pytest.mark.parametrize("extra", [
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"Content-Length: 5\r\nContent-Length: 6\r\n", b"Content-Length: 5\r\nContent-Length: 5\r\n",
    b"Content-Length: -1\r\n", b"Content-Length: +5\r\n", b"Content-Length: 5x\r\n", b"Content-Length: 99999999999999999999999\r\n",
    b"Transfer-Encoding: gzip\r\n", b"Transfer-Encoding: chunked, chunked\r\n", b"Transfer-Encoding : chunked\r\n"])
def test_row_59_doubtful_lengths(account, sandbox, extra):
    """Two readings of where the request ends: 400 (or 413) and the connection is closed, nothing of it is executed."""
    smuggled = request("POST", PATH, headers(account), BODY)
    with untouched(account, sandbox), connect(account.gateway, 10 * PATIENCE) as sock:
        sock.sendall(b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + extra + b"\r\n0\r\n\r\n" + smuggled)
        reply = read_reply(sock)
        assert reply.status in (400, 413, 501), reply
        is_error(reply, reply.status, type="invalid_request_error")
        assert not reply.rest
        try:
            assert sock.recv(100) == b"", "the connection stays open"
        except ConnectionError:
            pass


@pytest.mark.parametrize("size", [b"FFFFFFFFFFFFFFFFF", b"-1", b"zz", b"0x5", b""])
def test_row_59_bad_chunk_size(account, sandbox, size):
    with untouched(account, sandbox), connect(account.gateway, 10 * PATIENCE) as sock:
        sock.sendall(request("POST", PATH, headers(account, **{"Transfer-Encoding": "chunked"})) + size + b"\r\n{}\r\n0\r\n\r\n")
        try:
            assert read_reply(sock).status == 400
        except ConnectionError:
            pass


def test_chunked_body_with_extensions_and_trailers(account):
    chunks = b"5;x=y\r\n" + BODY[:5] + b"\r\n" + b"%x\r\n" % len(BODY[5:]) + BODY[5:] + b"\r\n0\r\nX-Trailer: 1\r\n\r\n"
    with charges(account, "0.016"):
        reply = exchange(account.gateway, request("POST", PATH, headers(account, **{"Transfer-Encoding": "chunked"})) + chunks)
        assert reply.status == 200, reply


def test_413_with_length_is_answered_before_the_body(account, sandbox):
    """The declared length alone decides, and the client can read the answer although it goes on sending."""
    with untouched(account, sandbox), connect(account.gateway) as sock:
        sock.sendall(request("POST", PATH, headers(account, **{"Content-Length": str(1 << 40)})))
        is_error(read_reply(sock), 413, "request_too_large")


def test_413_while_sending_is_readable(account, sandbox):
    with untouched(account, sandbox):
        reply = account.post(b'{"prompt":"' + b"x" * (8 << 20) + b'"}')
        is_error(reply, 413, "request_too_large")


def test_413_chunked(account, sandbox):
    def pieces():
        for _ in range(64):
            yield b"x" * 65536
    with untouched(account, sandbox):
        is_error(account.post(None, content=pieces(), headers={"Content-Type": "application/json"}), 413, "request_too_large")


def test_large_head(account):
    with connect(account.gateway) as sock:
        try:
            sock.sendall(request("POST", PATH, headers(account, **{f"X-{i}": "y" * 8000 for i in range(40)}), BODY))
            assert read_reply(sock).status in (400, 413, 431)
        except ConnectionError:
            pass
    assert account.gateway.alive()


def test_row_78_pipelining(account):
    with charges(account, "0.032", records=2), connect(account.gateway) as sock:
        sock.sendall(request("POST", PATH, headers(account), BODY) * 2)
        first = read_reply(sock)
        second = read_reply(sock, first.rest)
    assert first.status == second.status == 200
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


def test_keep_alive_after_errors(account):
    with charges(account, "0.016"), connect(account.gateway) as sock:
        for path, body, status in ((PATH, b"{", 400), ("/nowhere", BODY, 404), (PATH, BODY, 200), (PATH, b'{"prompt":1}', 400)):
            sock.sendall(request("POST", path, headers(account), body))
            assert read_reply(sock).status == status


def test_bytes_one_by_one(account):
    data = request("POST", PATH, headers(account), BODY)
    with charges(account, "0.016"), connect(account.gateway) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(data)):
            sock.send(data[i:i + 1])
        assert read_reply(sock).status == 200


def test_expect_100_continue(account):
    with charges(account, "0.016"), connect(account.gateway) as sock:
        sock.sendall(request("POST", PATH, headers(account, **{"Expect": "100-continue", "Content-Length": str(len(BODY))})))
        assert sock.recv(4096).startswith(b"HTTP/1.1 100")
        sock.sendall(BODY)
        assert read_reply(sock).status == 200


def test_half_closing_client_gets_its_answer(account):
    with charges(account, "0.016"), connect(account.gateway) as sock:
        sock.sendall(request("POST", PATH, headers(account), BODY))
        sock.shutdown(socket.SHUT_WR)
        reply = read_reply(sock)
        assert reply.status == 200


def test_what_never_passes(gateway, sandbox, account):
    """Upstream's own headers stay outside, and the caller's cookies never go there (see test_60)."""
    reply = account.post(BODY)
    for name in ("set-cookie", "openai-organization", "cf-ray", "alt-svc"):
        assert name not in reply.headers
    assert "sk-upstream" not in str(reply.headers) + reply.text


def h2_client(gateway, **kwargs):
    return httpx.Client(http1=False, http2=True, trust_env=False, timeout=60 * PATIENCE, **kwargs)


def test_http2_prior_knowledge(gateway, account):
    with charges(account, "0.048", records=3), h2_client(gateway) as http:
        for _ in range(3):
            reply = http.post(gateway.public_url + PATH, content=BODY, headers=headers(account))
            assert (reply.http_version, reply.status_code) == ("HTTP/2", 200), reply.text
            has_request_id(reply)
            assert money(reply.headers["tallygate-charge"]) == money("0.016")


def test_http2_errors(gateway, account, sandbox):
    with untouched(account, sandbox), h2_client(gateway) as http:
        is_error(http.post(gateway.public_url + "/v1/imagez", content=BODY, headers=headers(account)), 404, None)
        is_error(http.get(gateway.public_url + PATH, headers=headers(account)), 405, None)
        is_error(http.post(gateway.public_url + PATH, content=b"{", headers=headers(account)), 400, None)
        is_error(http.post(gateway.public_url + PATH, content=BODY), 401, None)
        is_error(http.post(gateway.public_url + PATH, content=b'{"prompt":"' + b"x" * (3 << 20) + b'"}', headers=headers(account)), 413, "request_too_large")


def test_http2_many_streams(gateway, account):
    """32 calls at once on one connection."""
    results = []
    with charges(account, "0.512", records=32), h2_client(gateway) as http:
        def call():
            results.append(http.post(gateway.public_url + PATH, content=BODY, headers=headers(account)).status_code)
        threads = [threading.Thread(target=call) for _ in range(32)]
        [t.start() for t in threads]
        [t.join() for t in threads]
    assert results == [200] * 32


def test_http2_nghttp(gateway, account, tmp_path):
    """Another implementation's frames: nghttp2's client."""
    import shutil
    import subprocess
    if not shutil.which("nghttp"):
        pytest.skip("nghttp is not installed")
    (tmp_path / "body").write_bytes(BODY)
    with charges(account, "0.016"):
        done = subprocess.run(["nghttp", "-nv", "-d", str(tmp_path / "body"), "-H", f"Authorization: Bearer {account.secret}", "-H", "Content-Type: application/json",
                               gateway.public_url + PATH], capture_output=True, text=True, timeout=60)
        assert ":status: 200" in done.stdout, done.stdout


@pytest.fixture(scope="module")
def tls(directory, sandbox):
    cert, key = certificate(directory)
    gateway = Gateway(directory, {"public": {"tls_certificate": cert, "tls_key": key}}, name="tls").start()
    gateway.channel(sandbox)
    yield gateway, cert
    gateway.stop()
    gateway.fsck()


@pytest.mark.parametrize("offered, chosen", [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), (["http/1.1", "h2"], "h2"), (["h2"], "h2")])
def test_tls_alpn(tls, offered, chosen):
    gateway, cert = tls
    assert alpn(gateway, cert, offered) == chosen


@pytest.mark.parametrize("h2", [False, True])
def test_tls_call(tls, h2):
    gateway, cert = tls
    import ssl
    account = Account(gateway)
    with charges(account, "0.016"), httpx.Client(http2=h2, http1=not h2, verify=ssl.create_default_context(cafile=str(cert)), trust_env=False) as http:
        reply = http.post(gateway.public_url + PATH, content=BODY, headers=headers(account), timeout=60)
        assert (reply.http_version, reply.status_code) == ("HTTP/2" if h2 else "HTTP/1.1", 200)


def test_tls_is_not_clear_text(tls):
    gateway, _ = tls
    with connect(gateway, 5 * PATIENCE) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            assert not sock.recv(4096).startswith(b"HTTP/")
        except ConnectionError:
            pass
    assert gateway.alive()


def test_http2_can_be_off(own_gateway, sandbox, tmp_path):
    cert, key = certificate(tmp_path)
    gateway = own_gateway({"public": {"tls_certificate": cert, "tls_key": key, "http2": "off"}}).start()
    assert alpn(gateway, cert, ["h2", "http/1.1"]) == "http/1.1"
    gateway.stop()
