"""Bodies on their way in, the checklist's rows 47-50, 60, 75-76, 78 and 99-100: limits, Expect, early answers that can be read, time."""

import json
import shutil
import socket
import subprocess
import threading
import time

import openai
import pytest

from lib import node
from lib.admin import Account
from lib.check import charges, is_error, money, untouched
from lib.form import content_type, file, form, text
from lib.http2 import Http2
from lib.picture import png
from lib.process import PATIENCE
from lib.upstream import ScriptedUpstream, answer, images, usage
from lib.wire import connect, read_reply, request

EDITS, GENERATIONS = "/v1/images/edits", "/v1/images/generations"
MIB = 1 << 20
G = [text("model", "gpt-image-1"), text("prompt", "a hat"), text("size", "1024x1024"), text("quality", "low")]
BODY = json.dumps({"model": "dall-e-2", "prompt": "otter", "size": "256x256"}).encode()


@pytest.fixture(scope="module")
def settings():
    return {"public": {"max_body": "4MiB"}, "server": {"request_timeout": "3s"}}


def upload(length):
    """A form of exactly so many bytes."""
    empty = len(form(*G, file("image", png(8, length=200))))
    return form(*G, file("image", png(8, length=200 + length - empty)))


def head(caller, path=EDITS, kind=None, **more):
    return {**caller.authorization, "Content-Type": kind or content_type(), **more}


def python(caller):
    return openai.OpenAI(base_url=caller.gateway.base_url, api_key=caller.secret, timeout=60 * PATIENCE, max_retries=2)


def test_row_47_over_the_limit_through_python(caller, upstream):
    """30 MB against 4: the SDK sees the 413 and not a broken connection, and tries once."""
    with untouched(caller, upstream), python(caller) as sdk, pytest.raises(openai.APIStatusError) as caught:
        sdk.images.edit(model="gpt-image-1", prompt="x", image=("a.png", png(8, length=30 * MIB), "image/png"))
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")
    assert upstream.started == 0


@pytest.mark.parametrize("folder", node.sdks(), ids=lambda f: f.name)
@pytest.mark.parametrize("source", ["buffer", "stream"])
def test_row_47_over_the_limit_through_node(caller, upstream, folder, source, tmp_path):
    (tmp_path / "a.png").write_bytes(png(8, length=30 * MIB))
    with untouched(caller, upstream):
        seen = node.call(folder, caller, "edit", {"model": "gpt-image-1", "prompt": "x"}, image=[str(tmp_path / "a.png")], source=source)
    assert (seen["ok"], seen["status"], seen["code"], seen["attempts"]) == (False, 413, "request_too_large", 1), seen


def test_row_47_the_limit_exactly(caller, upstream):
    upstream.use(answer(images(usage=usage(40, 194, 272))))
    body = upload(4 * MIB)
    with charges(caller, "0.01302"):
        assert caller.form(body=body).status_code == 200
    assert upstream.requests[0].body == body
    with untouched(caller, upstream):
        is_error(caller.form(body=upload(4 * MIB + 1)), 413, "request_too_large")


def test_row_47_answered_before_the_upload(caller, upstream):
    """The length alone decides; then the connection lingers for the client's bytes and ends."""
    with untouched(caller, upstream), connect(caller.gateway) as sock:
        sock.sendall(request("POST", EDITS, head(caller, **{"Content-Length": str(1 << 40)})))
        reply = read_reply(sock)
        is_error(reply, 413, "request_too_large")
        assert reply.headers["connection"] == "close"
        sock.sendall(b"x" * MIB)
        assert sock.recv(100) == b""


def test_row_48_chunked_over_the_limit(caller, upstream):
    def pieces():
        for _ in range(30 * 16):
            yield b"x" * 65536
    body = form(*G, file("image", b""))
    body = body[:body.rindex(b"\r\n--")]
    with untouched(caller, upstream):
        is_error(caller.post(None, path=EDITS, content=(p for part in ([body], pieces()) for p in part), headers={"Content-Type": content_type()}), 413, "request_too_large")


def test_row_48_an_upload_without_end(caller, upstream):
    """The answer comes at the limit; what follows is not read for ever."""
    sent, piece = 0, b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with untouched(caller, upstream), connect(caller.gateway, 60 * PATIENCE) as sock:
        sock.sendall(request("POST", EDITS, head(caller, **{"Transfer-Encoding": "chunked"})))
        end = time.monotonic() + 30 * PATIENCE
        try:
            while time.monotonic() < end:
                sock.sendall(piece)
                sent += 65536
        except OSError:
            pass
        assert time.monotonic() < end, f"{sent} bytes were taken"


def test_early_refusals_can_be_read(caller, upstream):
    """3 MB under way when the answer is already known: each client reads it, whatever the reason."""
    body = upload(3 * MIB)
    empty = Account(caller.gateway, credit=None)
    with untouched(caller, upstream):
        is_error(caller.form(body=body, headers={"Authorization": "Bearer sk-tg-wrong"}), 401, "invalid_api_key")
        is_error(caller.form(body=b"no boundary at all" + body), 400)
        is_error(caller.form(body=body, path="/v1/images/nowhere"), 404, None)
        is_error(empty.form(body=body), 429, "insufficient_quota", type="insufficient_quota")


def curl(caller, path, *args):
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    done = subprocess.run(["curl", "-sSv", "-o", "/dev/null", "-w", "%{http_code} %{size_upload} %{time_total}", *args, caller.gateway.public_url + path],
                          capture_output=True, text=True, timeout=60 * PATIENCE)
    status, uploaded, took = done.stdout.split()
    return int(status), int(uploaded), float(took), done.stderr


@pytest.fixture
def form_file(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(8, length=1_200_000))
    return path


def edit_args(caller, form_file, secret=None):
    return ["-H", f"Authorization: Bearer {secret or caller.secret}", "-F", f"image[]=@{form_file}", "-F", "model=gpt-image-1", "-F", "prompt=x", "-F", "size=1024x1024"]


def test_row_49_curl_is_told_to_continue(caller, upstream, form_file):
    upstream.use(answer(images(usage=usage(40, 194, 272))))
    with charges(caller, "0.01302"):
        status, uploaded, took, said = curl(caller, EDITS, "-H", "Expect: 100-continue", *edit_args(caller, form_file))
    assert status == 200 and uploaded > 1_200_000
    assert "HTTP/1.1 100 Continue" in said and took < 0.9 * PATIENCE, (took, said)


@pytest.mark.parametrize("why", ["key", "wallet", "suspended", "type", "size"])
def test_row_49_curl_uploads_nothing_for_a_refusal(caller, upstream, form_file, why):
    """The final answer instead of the 100: not a byte of 1.2 MB is sent."""
    account, secret, extra, expected = caller, None, [], {"key": 401, "wallet": 429, "suspended": 403, "type": 400, "size": 413}[why]
    if why == "key":
        secret = "sk-tg-wrong"
    elif why == "wallet":
        account = Account(caller.gateway, credit=None)
    elif why == "suspended":
        account = Account(caller.gateway)
        caller.gateway.admin.patch(f"tenants/{account.id}", {"status": "suspended"})
    elif why == "type":
        extra = ["-H", "Content-Type: text/plain"]
    else:
        form_file.write_bytes(bytes(8 * MIB))
    with untouched(account, upstream):
        status, uploaded, _, said = curl(account, EDITS, "-H", "Expect: 100-continue", *edit_args(account, form_file, secret), *extra)
    assert (status, uploaded) == (expected, 0), said
    assert "100 Continue" not in said


def test_row_49_a_client_that_does_not_wait(caller, upstream):
    upstream.use(answer(images()))
    with charges(caller, "0.016"), connect(caller.gateway) as sock:
        sock.sendall(request("POST", GENERATIONS, head(caller, kind="application/json", **{"Expect": "100-continue"}), BODY))
        assert read_reply(sock).status == 200


@pytest.mark.parametrize("value", ["200-ok", "100-continue, x", ""])
def test_row_50_other_expectations(caller, upstream, value):
    """417, or as if it were not there; never a hang."""
    upstream.use(answer(images()))
    with connect(caller.gateway, 20 * PATIENCE) as sock:
        sock.sendall(request("POST", GENERATIONS, head(caller, kind="application/json", Expect=value), BODY))
        status = read_reply(sock).status
    assert status in (200, 417)
    assert len(upstream.requests) == (status == 200) == len(caller.records())


@pytest.mark.parametrize("code", [8, 0], ids=["cancel", "no error"])
def test_row_75_reset_inside_the_body(caller, upstream, code):
    """That call is gone, the connection and its other streams live."""
    upstream.use(answer(images()))
    kind = {**caller.authorization, "content-type": "application/json"}
    with charges(caller, "0.016"), Http2(caller.gateway) as http:
        leaving = http.post(GENERATIONS, {**kind, "content-length": str(len(BODY))}, end=False)
        http.send(leaving, BODY[:20], end=False)
        http.reset(leaving, code)
        assert http.finish(http.post(GENERATIONS, kind, BODY)).status == 200
        assert http.goaway is None
    assert len(upstream.requests) == 1


def test_row_75_reset_after_the_head(caller, upstream):
    """A large answer, abandoned: it is read to its end upstream and charged; the next stream gets its own."""
    big = json.dumps({**images(), "pad": "A" * (2 << 20)}).encode()
    upstream.use(answer(big))
    kind = {**caller.authorization, "content-type": "application/json"}
    with charges(caller, "0.032", records=2), Http2(caller.gateway) as http:
        http.reading = False
        leaving = http.post(GENERATIONS, kind, BODY)
        http.until(lambda: http.streams[leaving].body)
        http.reset(leaving)
        http.reading = True
        http.peer.increment_flow_control_window(1 << 20)
        got = http.finish(http.post(GENERATIONS, kind, BODY))
        assert (got.status, got.body) == (200, big)


@pytest.mark.parametrize("told", [True, False], ids=["length", "no length"])
def test_row_76_413_over_http2(caller, upstream, told):
    """A whole answer with its end and no error; the connection goes on."""
    upstream.use(answer(images()))
    kind = {**caller.authorization, "content-type": content_type(), **({"content-length": 16 * MIB} if told else {})}
    with charges(caller, "0.016"), Http2(caller.gateway) as http:
        got = http.finish(http.post(EDITS, kind, b"x" * (16 * MIB)))
        assert got.status == 413 and got.ended and got.json()["error"]["code"] == "request_too_large", got
        assert got.reset in (None, 0)
        good = http.post(GENERATIONS, {**caller.authorization, "content-type": "application/json"}, BODY)
        assert http.finish(good).status == 200 and http.goaway is None


def test_row_76_far_beyond_the_limit_over_http2(caller, upstream):
    """An upload without end is cut: answered or reset, in bounded time and memory; the connection goes on."""
    upstream.use(answer(images()))
    with charges(caller, "0.016"), Http2(caller.gateway, 60) as http:
        over = http.post(EDITS, {**caller.authorization, "content-type": content_type()}, end=False)
        sent, piece = 0, b"x" * MIB
        while http.send(over, piece, end=False) == MIB:
            sent += MIB
            assert sent < 128 * MIB, "taken without end"
            http.turn(0)
        stream = http.streams[over]
        assert stream.status == 413 or stream.reset is not None, stream
        good = http.post(GENERATIONS, {**caller.authorization, "content-type": "application/json"}, BODY)
        assert http.finish(good).status == 200


def test_row_78_pipelined_uploads(caller, upstream):
    """Two POSTs with bodies, the second an edit of 300 KB, a third without: in order, each charged once."""
    upstream.use(lambda conn, asked: answer(images(usage=usage(40, 194, 272)) if asked.path == EDITS else images())(conn, asked))
    body = upload(300_000)
    data = request("POST", GENERATIONS, head(caller, kind="application/json"), BODY) + request("POST", EDITS, head(caller), body) + \
        request("GET", "/v1/models", caller.authorization) + request("POST", GENERATIONS, head(caller, kind="application/json"), BODY)
    with charges(caller, "0.04502", records=3), connect(caller.gateway) as sock:
        threading.Thread(target=sock.sendall, args=(data,), daemon=True).start()
        rest, seen = b"", []
        for _ in range(4):
            reply = read_reply(sock, rest)
            rest = reply.rest
            seen.append((reply.status, reply.json().get("object", "images")))
    assert seen == [(200, "images"), (200, "images"), (200, "list"), (200, "images")]
    assert [r.path for r in upstream.requests] == [GENERATIONS, EDITS, GENERATIONS] and upstream.requests[1].body == body


def test_row_78_behind_a_refused_upload(caller, upstream):
    """What stands behind a body that was not read is not taken for a request."""
    smuggled = request("POST", GENERATIONS, head(caller, kind="application/json"), BODY)
    with untouched(caller, upstream), connect(caller.gateway) as sock:
        sock.sendall(request("POST", EDITS, {**head(caller), "Authorization": "Bearer sk-tg-wrong", "Content-Length": str(MIB)}) + smuggled)
        reply = read_reply(sock)
        is_error(reply, 401, "invalid_api_key")
        sock.shutdown(socket.SHUT_WR)
        assert reply.rest + sock.recv(65536) == b""


@pytest.mark.parametrize("phase", ["nothing", "head", "body", "chunk", "form"])
def test_row_99_slow_to_send(caller, upstream, phase):
    """Silence in any phase ends the connection in about the request's time; no money was held."""
    first = {"nothing": b"", "head": b"POST /v1/images/edits HTTP/1.1\r\nHost: x\r\n",
             "body": request("POST", GENERATIONS, head(caller, kind="application/json", **{"Content-Length": "500"}), b"{"),
             "chunk": request("POST", GENERATIONS, head(caller, kind="application/json", **{"Transfer-Encoding": "chunked"}), b"fff\r\n{"),
             "form": request("POST", EDITS, head(caller, **{"Content-Length": "500000"}), upload(100_000)[:40_000])}[phase]
    with untouched(caller, upstream), connect(caller.gateway, 40 * PATIENCE) as sock:
        sock.sendall(first)
        begun = time.monotonic()
        try:
            while sock.recv(65536):
                pass
        except ConnectionError:
            pass
        took = time.monotonic() - begun
    # a body that has come so far earns a second for each 16 KiB
    assert 2 < took < (12 if phase != "form" else 3 + 40_000 / 16384 + 8) * PATIENCE, took


def test_row_99_a_byte_a_second(caller, upstream):
    """Dripping is no way round it."""
    with untouched(caller, upstream), connect(caller.gateway, 40 * PATIENCE) as sock:
        sock.sendall(request("POST", GENERATIONS, head(caller, kind="application/json", **{"Content-Length": "500"})))
        begun = time.monotonic()
        try:
            while time.monotonic() - begun < 20 * PATIENCE:
                sock.sendall(b" ")
                time.sleep(0.25)
        except OSError:
            pass
        assert time.monotonic() - begun < 12 * PATIENCE


def test_row_100_keep_alive_after_ten_seconds(own_gateway):
    """Idle as long as no SDK keeps a connection; the same one still works."""
    server = ScriptedUpstream(answer(images()))
    gateway = own_gateway().start()
    gateway.channel(server, models=["dall-e-2"])
    account = Account(gateway)
    data = request("POST", GENERATIONS, head(account, kind="application/json"), BODY)
    with connect(gateway) as sock:
        for pause in (0, 10):
            time.sleep(pause)
            sock.sendall(data)
            assert read_reply(sock).status == 200
    server.close()
    assert account.credited - account.settled()["posted"] == money("0.032")
    gateway.stop()
    gateway.fsck()
