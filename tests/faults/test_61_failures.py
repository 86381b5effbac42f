"""The failure classes, one row each, for plain and for streamed calls: what the client sees, what it pays, what the record says,
and what became of the hold."""

import gzip
import json
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

import pytest

from lib import sse
from lib.admin import Account
from lib.check import is_error
from lib.gateway import certificate
from lib.ledger import hold_becomes
from lib.ports import free_port
from lib.process import PATIENCE
from lib.sse import DONE, completed, failed, partial, stream
from lib.upstream import ScriptedUpstream, answer, error_body, hang, head, images, raw, reset, slow, usage

CALL = {"model": "gpt-image-1", "prompt": "a sea otter in the morning light", "size": "1024x1024", "quality": "low"}
STREAM = {**CALL, "stream": True, "partial_images": 1}
USED = usage(20, 0, 272)
PRICE = Decimal("0.01098")  # 20 x 5.00 + 272 x 40.00 a million
# without usage: 272 by the table (and 100 a partial image), 8 + 6 for the prompt's 32 bytes
ESTIMATE, STREAM_ESTIMATE = Decimal("0.01095"), Decimal("0.01495")
GOOD = json.dumps(images(usage=USED)).encode()
HTML = "<html><body><h1>502 Bad Gateway</h1></body></html>"
DOUBT = ("in_doubt",)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def settings(authority):
    return {"relay": {"timeout": "2s", "connect_timeout": "1s", "ca_file": authority[0]}}


@dataclass
class Row:
    """<retry>: whether an SDK may try again by itself; false where that could pay twice."""
    name: str
    script: object
    status: int
    code: str | None
    retry: bool
    hold: str
    charge: Decimal = Decimal(0)
    flags: tuple = ()
    record_status: int | None = 200


def rows(table):
    return pytest.mark.parametrize("row", table, ids=[r.name for r in table])


def refusal(name, script, status=502, code="upstream_error", retry=True):
    return Row(name, script, status, code, retry, "void")


def doubt(name, script, status=502, code="upstream_error", record_status=None):
    return Row(name, script, status, code, False, "doubt", Decimal(0), DOUBT, record_status)


def good(name, script, charge=PRICE, flags=()):
    return Row(name, script, 200, None, True, "capture", charge, flags)


def told(value):
    """A reply with this usage, written as it stands."""
    return answer(json.dumps(images(usage="@")).replace('"@"', value if isinstance(value, str) else json.dumps(value)))


REFUSALS = [
    refusal("400", answer(error_body("no", param="prompt", code="invalid_value"), 400), 400, "invalid_value"),
    refusal("404", answer(error_body("no such model", code="model_not_found"), 404), 404, "model_not_found"),
    refusal("401", answer(error_body("Incorrect API key provided: sk-upst*0001", code="invalid_api_key"), 401)),
    refusal("403", answer(error_body("must be verified"), 403)),
    refusal("429", answer(error_body("slow down", "requests"), 429), 503, "no_channel_available"),
    refusal("429 with Retry-After", answer(error_body("slow down", "requests"), 429, Retry_After="7"), 503, "no_channel_available"),
    refusal("500", answer(error_body("sorry", "server_error"), 500)),
    refusal("503 HTML", answer(HTML, 503, "text/html")),
    refusal("500 without a body", answer("", 500)),
    refusal("500 cut", raw(head(500, 500) + b'{"error":')),
    refusal("400 HTML", answer(HTML, 400, "text/html")),
    refusal("302", raw(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")),
    refusal("200 with an error object", answer(error_body("no image", "server_error")), 502, "upstream_invalid_response", False),
]

LOST = [
    doubt("closed before the head", raw(b"")),
    doubt("reset before the head", raw(b"", rst=True)),
    doubt("half a head", raw(b"HTTP/1.1 200 OK\r\nContent-Ty")),
    doubt("no HTTP at all", raw(b"220 smtp.example.com ESMTP\r\n"), code="any"),
    doubt("silence before the head", hang(6), 504, "upstream_timeout"),
    doubt("silence inside the head", hang(6, b"HTTP/1.1 200 OK\r\n"), 504, "upstream_timeout"),
    doubt("504 of a proxy", answer(HTML, 504, "text/html"), 504, "upstream_timeout"),
    doubt("524 of a proxy", answer(HTML, 524, "text/html"), 504, "upstream_timeout"),
]

PLAIN = [
    doubt("silence inside the body", hang(6, head(200, len(GOOD)) + GOOD[:40]), 504, "upstream_timeout"),
    doubt("slower than the call's time", slow(images(usage=USED), 6), 504, "upstream_timeout"),
    doubt("head and nothing", raw(head(200, 5000))),
    doubt("half a body", raw(head(200, len(GOOD)) + GOOD[:len(GOOD) // 2])),
    doubt("half a body, reset", raw(head(200, len(GOOD)) + GOOD[:len(GOOD) // 2], rst=True, delay=0.1)),
    doubt("200 plain text", answer("your picture is ready", content_type="text/plain"), code="upstream_invalid_response"),
    doubt("200 empty", answer(""), code="upstream_invalid_response"),
    doubt("200 null", answer("null"), code="upstream_invalid_response"),
    doubt("usage but no image", answer({"created": 1, "data": [], "usage": USED}), code="upstream_invalid_response"),
    doubt("200 HTML", answer(HTML, content_type="text/html"), code="upstream_invalid_response"),
    doubt("truncated JSON", answer(GOOD[:-20]), code="upstream_invalid_response"),
    doubt("length too long", raw(head(200, len(GOOD) + 10) + GOOD)),
    doubt("length too short", raw(head(200, len(GOOD) - 20) + GOOD), code="upstream_invalid_response"),
    doubt("chunked, cut", raw(head(200, Transfer_Encoding="chunked") + b"%x\r\n" % len(GOOD) + GOOD + b"\r\n")),
    doubt("events instead of JSON", stream(completed(USED)), code="upstream_invalid_response"),
    doubt("damaged gzip", answer(gzip.compress(GOOD)[:-9] + bytes(9), Content_Encoding="gzip"), code="any"),
    doubt("204", raw(b"HTTP/1.1 204 No Content\r\n\r\n"), code="upstream_invalid_response"),
    refusal("no image", answer({"created": 1, "data": []}), 502, "upstream_invalid_response", False),
    good("good", answer(GOOD)),
    good("gzip", answer(gzip.compress(GOOD), Content_Encoding="gzip")),
    good("until close", raw(head(200, Connection="close") + GOOD)),
    good("fewer images", answer(images(1, usage=USED)), flags=("fewer_images",)),
    good("usage of all kinds", told({**usage(30, 50, 272), "input_tokens_details": {"text_tokens": 30, "image_tokens": 50, "cached_tokens": 20}}), Decimal("0.011455"), None),
    good("usage without details", told({"input_tokens": 20, "output_tokens": 272, "total_tokens": 292})),
    good("usage without a total", told({"input_tokens": 20, "output_tokens": 272})),
    good("missing usage", answer(images()), ESTIMATE, ("estimated",)),
    good("null usage", told("null"), ESTIMATE, ("estimated",)),
    good("negative usage", told(usage(-20, 0, 272)), ESTIMATE, ("estimated", "untrusted_usage")),
    good("negative output", told(usage(20, 0, -272)), ESTIMATE, ("estimated", "untrusted_usage")),
    good("usage with exponents", told('{"input_tokens":2e1,"output_tokens":2.72e2,"total_tokens":292}'), ESTIMATE, ("estimated", "untrusted_usage")),
    good("usage in strings", told({"input_tokens": "20", "output_tokens": "272", "total_tokens": "292"}), ESTIMATE, ("estimated", "untrusted_usage")),
    good("usage as a list", told([]), ESTIMATE, ("estimated", "untrusted_usage")),
    good("details that do not add up", told({**USED, "input_tokens_details": {"text_tokens": 1, "image_tokens": 1}}), ESTIMATE, ("estimated", "untrusted_usage")),
    good("fractional usage", told('{"input_tokens":20.5,"output_tokens":272,"total_tokens":292.5}'), ESTIMATE, ("estimated", "untrusted_usage")),
    good("huge usage", told(usage(20, 0, 10**15)), ESTIMATE, ("estimated", "untrusted_usage")),
    good("usage beyond 64 bits", told(usage(20, 0, 2**64 + 272)), ESTIMATE, ("estimated", "untrusted_usage")),
    good("inconsistent usage", told({**USED, "total_tokens": 1}), ESTIMATE, ("estimated", "untrusted_usage")),
    good("usage twice", answer(GOOD[:-1] + b', "usage": ' + json.dumps(usage(1, 0, 1)).encode() + b"}"), ESTIMATE, ("estimated", "untrusted_usage")),
]


def sent(row):
    return {**CALL, "n": 2} if row.name == "fewer images" else CALL


@rows(REFUSALS + LOST + PLAIN)
def test_plain(account, upstream, row):
    upstream.use(row.script)
    with hold_becomes(account, row.hold, row.charge, row.flags, row.record_status):
        reply = account.post(sent(row))
        assert (reply.headers.get("x-should-retry") == "false") == (not row.retry), reply.headers
        if row.status == 200:
            assert reply.status_code == 200 and Decimal(reply.headers["tallygate-charge"]) == row.charge
        else:
            error = is_error(reply, row.status, row.code, type="server_error" if row.status >= 500 else "invalid_request_error")
            assert "html" not in str(error).lower() and "sk-upst" not in str(error)
    assert len(upstream.requests) == 1, "a failed call is not repeated by the gateway"


@rows(REFUSALS + LOST + [doubt("JSON instead of events", answer(GOOD), code="upstream_invalid_response"),
                         doubt("truncated JSON instead of events", answer(GOOD[:-20]), code="upstream_invalid_response"),
                         doubt("HTML instead of events", answer(HTML, content_type="text/html"), code="upstream_invalid_response")])
def test_stream_that_never_begins(account, upstream, row):
    """Before the first byte has left, a status says what happened, as for a plain call."""
    upstream.use(row.script)
    with hold_becomes(account, row.hold, row.charge, row.flags, row.record_status):
        reply = account.post(STREAM)
        is_error(reply, row.status, row.code)
        assert (reply.headers.get("x-should-retry") == "false") == (not row.retry)
    assert len(upstream.requests) == 1


@dataclass
class Events:
    """A stream that began: the events that the client gets, the code of the last one when it is an error."""
    name: str
    script: object
    events: str  # p: partial image, c: completed, e: error, d: [DONE]
    code: str | None
    hold: str
    charge: Decimal = Decimal(0)
    flags: tuple = ()
    n: int = 1


P, C = partial(0), completed(USED)
STREAMS = [
    Events("good", stream(P, C, DONE), "pcd", None, "capture", PRICE),
    Events("no [DONE]", stream(P, C), "pc", None, "capture", PRICE),
    Events("error event", stream(P, failed(code="overloaded")), "pe", "overloaded", "void"),
    Events("error event at once", stream(failed(code="overloaded")), "e", "overloaded", "void"),
    Events("error event after an image", stream(C, failed(code="overloaded")), "ce", "overloaded", "capture", PRICE, ("fewer_images",), 2),
    Events("error as data alone", stream(P, sse.event("", error_body("no", code="overloaded"), named=False)), "pe", "overloaded", "void"),
    Events("cut inside an event", stream(P, C[:-40], end=False), "pe", "upstream_error", "doubt", Decimal(0), DOUBT),
    Events("cut between events", stream(P, end=False), "pe", "upstream_error", "doubt", Decimal(0), DOUBT),
    Events("reset between events", stream(P, 0.1, end=False, after=reset), "pe", "upstream_error", "doubt", Decimal(0), DOUBT),
    Events("ends without a picture", stream(P), "pe", "upstream_invalid_response", "doubt", Decimal(0), DOUBT),
    Events("[DONE] without a picture", stream(P, DONE), "pde", "upstream_invalid_response", "doubt", Decimal(0), DOUBT),
    Events("silence between events", stream(P, 5, C), "pe", "upstream_timeout", "doubt", Decimal(0), DOUBT),
    Events("silence inside an event", stream(P, C[:60], 5, C[60:]), "pe", "upstream_timeout", "doubt", Decimal(0), DOUBT),
    Events("cut after an image", stream(C, 0.1, end=False), "ce", "upstream_error", "capture", PRICE, ("fewer_images",), 2),
    Events("silence after an image", stream(C, 5, C), "ce", "upstream_timeout", "capture", PRICE, ("fewer_images",), 2),
    Events("fewer images", stream(C, DONE), "cd", None, "capture", PRICE, ("fewer_images",), 2),
    Events("usage of the whole in each", stream(completed(usage(40, 0, 544)), completed(usage(40, 0, 544))), "cc", None, "capture", 2 * PRICE, (), 2),
    Events("usage of its own in each", stream(C, C), "cc", None, "capture", 2 * PRICE, (), 2),
    Events("without usage", stream(P, completed()), "pc", None, "capture", STREAM_ESTIMATE, ("estimated",)),
    Events("usage in one of two", stream(C, completed()), "cc", None, "capture", None, ("estimated", "untrusted_usage"), 2),
    Events("negative usage", stream(P, completed(usage(-20, 0, 272))), "pc", None, "capture", STREAM_ESTIMATE, ("estimated", "untrusted_usage")),
    Events("last frame not ended", stream(P, C[:-1]), "pc", None, "capture", PRICE),
    Events("completed and then cut", stream(P, C, end=False, after=reset), "pc", None, "capture", PRICE),
]
KINDS = {"p": "image_generation.partial_image", "c": "image_generation.completed", "e": "error"}


@pytest.mark.parametrize("row", STREAMS, ids=[r.name for r in STREAMS])
def test_stream_that_began(account, upstream, row):
    """200 has left, so the rest is told in the stream: complete frames only, and a proper end."""
    upstream.use(row.script)
    charge = row.charge if row.charge is not None else None
    if charge is None:  # two images by the table, the prompt for each
        charge = 2 * ESTIMATE
    with hold_becomes(account, row.hold, charge, row.flags, None):
        with account.stream({**STREAM, "n": row.n, "partial_images": int("p" in row.events)}) as reply:
            got = reply.read()
        assert reply.status_code == 200
    events = [e for e in sse.events(got) if e[1] != "[DONE]"]
    seen = [name or body.get("type") or "error" for name, body in events]
    assert seen == [KINDS[k] for k in row.events if k != "d"], got
    if row.code is not None:
        error = events[-1][1]["error"]
        assert error["code"] == row.code and {"message", "type", "param", "code"} <= set(error), error


# ---- the way there: nothing can have been bought, so a retry is free ----

@contextmanager
def closed(authority, tmp_path):
    yield f"http://127.0.0.1:{free_port()}/v1"


@contextmanager
def no_such_name(authority, tmp_path):
    yield "http://nowhere.invalid/v1"


@contextmanager
def full(authority, tmp_path):
    """A full backlog: the connection is never made."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(8)]
        for s in fillers:
            s.setblocking(False)
            s.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        [s.close() for s in fillers]


@contextmanager
def server(cert, key, host="127.0.0.1", scheme="https"):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    upstream = ScriptedUpstream(answer(GOOD), tls=context)
    yield f"{scheme}://{host}:{upstream.port}/v1"
    upstream.close()


@contextmanager
def unknown_authority(authority, tmp_path):
    with server(*certificate(tmp_path, name="other")) as base:
        yield base


@contextmanager
def wrong_host(authority, tmp_path):
    with server(*authority, host="localhost") as base:
        yield base


@contextmanager
def clear_text_to_tls(authority, tmp_path):
    with server(*authority, scheme="http") as base:
        yield base


@contextmanager
def tls_to_clear_text(authority, tmp_path):
    with accepting(lambda conn: conn.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as base:
        yield base


@contextmanager
def mute(authority, tmp_path):
    """Accepts and never shakes hands."""
    with accepting(lambda conn: None) as base:
        yield base


@contextmanager
def accepting(greet):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = []
        threading.Thread(target=lambda: _accept(listener, kept, greet), daemon=True).start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
        listener.shutdown(socket.SHUT_RDWR)
        [c.close() for c in kept]


def _accept(listener, kept, greet):
    try:
        while True:
            kept.append(listener.accept()[0])
            greet(kept[-1])
    except OSError:
        pass


WAYS = [("connection refused", closed, 502, "upstream_error"), ("name that does not resolve", no_such_name, 502, "upstream_error"), ("never connected", full, 504, "upstream_timeout"),
        ("unknown authority", unknown_authority, 502, "upstream_error"), ("wrong host", wrong_host, 502, "upstream_error"), ("TLS to clear text", tls_to_clear_text, 502, "upstream_error"),
        ("never shakes hands", mute, 504, "upstream_timeout")]


@contextmanager
def served_by(world, base, models):
    channel = world.channel(base, name="for a while", models=models)
    try:
        yield Account(world)
    finally:
        world.admin.delete(f"channels/{channel['id']}")


@pytest.mark.parametrize("way, status, code", [w[1:] for w in WAYS], ids=[w[0] for w in WAYS])
@pytest.mark.parametrize("body", [{"model": "dall-e-3", "prompt": "x"}, {**STREAM, "model": "gpt-image-1-mini"}], ids=["plain", "stream"])
def test_never_reached(world, authority, tmp_path, way, status, code, body):
    with way(authority, tmp_path) as base, served_by(world, base, ["dall-e-3", "gpt-image-1-mini"]) as account:
        begun = time.monotonic()
        with hold_becomes(account, "void"):
            reply = account.post(body)
            is_error(reply, status, code)
            assert reply.headers.get("x-should-retry") != "false"
        assert time.monotonic() - begun < 5 * PATIENCE


def test_clear_text_to_a_tls_port(world, authority, tmp_path):
    """The request did leave: an alert comes back, or nothing. No picture can be known to have been made."""
    with clear_text_to_tls(authority, tmp_path) as base, served_by(world, base, ["dall-e-3"]) as account:
        with hold_becomes(account, "doubt", 0, DOUBT, None):
            reply = account.post({"model": "dall-e-3", "prompt": "x"})
            assert reply.status_code == 502 and reply.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("body", [CALL, STREAM], ids=["plain", "stream"])
def test_tls_with_a_known_authority(world, authority, body):
    """relay.ca_file makes it good."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority)
    upstream = ScriptedUpstream(stream(P, C) if body is STREAM else answer(GOOD), tls=context)
    with served_by(world, upstream, {"gpt-image-1-mini": "gpt-image-1"}) as account, hold_becomes(account, "capture", Decimal("0.002216")):
        assert account.post({**body, "model": "gpt-image-1-mini"}).status_code == 200
    upstream.close()


def test_an_upstream_that_never_reads(account, upstream):
    """4 MB that it does not take: the time is over, and it may have read enough to act."""
    from lib.form import file, form, text
    from lib.picture import png
    upstream.use(answer(GOOD))
    upstream.on_head = lambda conn, asked: time.sleep(4) or False
    body = form(file("image", png(64, length=16 << 20)), *(text(k, v) for k, v in CALL.items()))
    with hold_becomes(account, "doubt", 0, DOUBT, None):
        reply = account.form(body=body)
        is_error(reply, 504, "upstream_timeout")
        assert reply.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("rule, charge", [("charge", None), ("keep", Decimal(0))])
def test_in_doubt_rules_hold_for_streams(world, upstream, rule, charge):
    account = Account(world, tenant={"in_doubt": rule})
    hold = Decimal(world.admin.create("quotes", {"tenant": account.id, "model": "dall-e-2", "size": "1024x1024"})["hold"])
    upstream.use(raw(b"", rst=True))
    assert account.post({"model": "dall-e-2", "prompt": "x", "size": "1024x1024", "stream": True}).status_code == 502
    if rule == "keep":
        world.wait_for(lambda: account.balance()["held"] == hold, "the hold is kept")
        assert account.records() == []
    else:
        assert account.credited - account.settled()["posted"] == hold
