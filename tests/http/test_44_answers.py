"""Answers on their way out, the checklist's rows 84-86, 88, 91-92 and 98: relayed, mapped or withheld; never paid for what did not come."""

import gzip
import hashlib
import json
import time
import zlib
from decimal import Decimal

import pytest

from lib.check import charges, is_error
from lib.form import file, form, text
from lib.picture import png
from lib.process import PATIENCE, SANITIZED
from lib.upstream import PIXEL, answer, error_body, head, images, raw, usage

BODY = {"model": "gpt-image-1", "prompt": "a sea otter", "size": "1024x1024", "quality": "low"}
USED = usage(20, 0, 272)
PRICE = "0.01098"
HTML = "<html><body><h1>502 Bad Gateway</h1></body></html>"
EDIT = form(file("image", png(64)), *(text(k, v) for k, v in BODY.items()))


@pytest.fixture(scope="module")
def settings():
    return {"relay": {"timeout": "3s"}}


def spent(caller):
    return caller.credited - caller.settled()["posted"]


def call(caller, operation):
    return caller.post(BODY) if operation == "generations" else caller.form(body=EDIT)


REFUSED = [
    # what the upstream says, status, code
    ("429", answer(error_body("slow down", "requests", code="rate_limit_exceeded"), 429, Retry_After="7"), 503, "no_channel_available"),
    ("500", answer(error_body("sorry", "server_error"), 500), 502, "upstream_error"),
    ("502 HTML", answer(HTML, 502, "text/html"), 502, "upstream_error"),
    ("503", answer(error_body("overloaded", "server_error"), 503, x_should_retry="false"), 502, "upstream_error"),
]


@pytest.mark.parametrize("script, status, code", [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
@pytest.mark.parametrize("operation", ["generations", "edits"])
def test_row_84_the_upstream_refuses(caller, upstream, operation, script, status, code):
    """An envelope of our own, no HTML, nothing held; an SDK may try again."""
    upstream.use(script)
    reply = call(caller, operation)
    error = is_error(reply, status, code)
    assert "html" not in json.dumps(error).lower() and reply.headers.get("x-should-retry") != "false"
    assert spent(caller) == 0 and caller.records() == []
    if code == "no_channel_available":
        assert reply.headers["retry-after"] == "7"


@pytest.mark.parametrize("operation", ["generations", "edits"])
def test_row_84_the_upstream_hangs(caller, upstream, operation):
    upstream.use(lambda conn, asked: time.sleep(5) or False)
    reply = call(caller, operation)
    is_error(reply, 504, "upstream_timeout")
    assert reply.headers["x-should-retry"] == "false" and spent(caller) == 0


@pytest.mark.parametrize("script", [answer("a picture", content_type="text/plain"), answer(json.dumps(images(usage=USED))[:-9]), answer({"created": 1}), answer({"created": 1, "data": {}}),
                                    answer({"created": 1, "data": [{}]}), answer({"created": 1, "data": [{"b64_json": ""}]}), answer("[]"), answer({"created": 1, "data": [5], "usage": USED})],
                         ids=["text", "truncated", "no data", "data no list", "empty item", "empty picture", "a list", "number"])
def test_row_85_a_200_that_is_no_answer(caller, upstream, script):
    upstream.use(script)
    reply = caller.post(BODY)
    is_error(reply, 502, "upstream_invalid_response")
    assert reply.headers["x-should-retry"] == "false" and spent(caller) == 0


def test_row_86_a_retry_of_the_sdk_is_a_call_of_its_own(caller, upstream):
    """No SDK sends an Idempotency-Key by itself: what was bought twice is charged twice, and both records can be told apart."""
    upstream.use(answer(images(usage=USED)))
    with charges(caller, "0.02196", records=2):
        ids = {caller.post(BODY, headers={"x-stainless-retry-count": str(i)}).headers["x-request-id"] for i in (0, 1)}
    assert {r["request_id"] for r in caller.records()} == ids


def test_row_88_moderation(caller, upstream):
    words = json.dumps({"error": {"code": "moderation_blocked", "message": "Your request was rejected by the safety system.", "param": None,
                                  "type": "image_generation_user_error", "moderation_details": {"moderation_stage": "output", "categories": ["sexual"]}}}, indent=2) + "\n"
    upstream.use(answer(words, 400))
    for operation in ("generations", "edits"):
        reply = call(caller, operation)
        assert (reply.status_code, reply.text) == (400, words)
    assert spent(caller) == 0 and caller.records() == []


def test_row_91_200_mb(caller, upstream):
    """Streamed through with its length, whole and unchanged, in constant memory."""
    size = (20 if SANITIZED else 200) << 20
    start, rest = b'{"created":1,"data":[{"b64_json":"', b'"}],"usage":' + json.dumps(USED).encode() + b"}"
    block = b"QUJD" * (1 << 18)

    def script(conn, asked):
        conn.sendall(head(200, len(start) + size + len(rest)) + start)
        for _ in range(size >> 20):
            conn.sendall(block)
        conn.sendall(rest)
    upstream.use(script)
    before, digest, length = caller.gateway.rss_kib(), hashlib.sha256(), 0
    expected = hashlib.sha256(start + block * (size >> 20) + rest).hexdigest()
    with charges(caller, PRICE), caller.stream(BODY) as reply:
        assert int(reply.headers["content-length"]) == len(start) + size + len(rest)
        for piece in reply.iter_raw():
            length += len(piece)
            digest.update(piece)
    assert digest.hexdigest() == expected
    assert SANITIZED or caller.gateway.rss_kib() - before < 32 * 1024


@pytest.mark.parametrize("encoding, pack", [("gzip", gzip.compress), ("deflate", zlib.compress), ("x-gzip", gzip.compress)])
@pytest.mark.parametrize("operation", ["generations", "edits"])
def test_row_92_compressed_answers(caller, upstream, operation, encoding, pack):
    """Asked for or not: read for its usage, and the client gets something it can read."""
    plain = json.dumps(images(usage=USED)).encode()
    upstream.use(answer(pack(plain), Content_Encoding=encoding))
    with charges(caller, PRICE):
        reply = call(caller, operation)
        assert reply.status_code == 200 and reply.content == plain


def test_row_92_large_and_compressed(caller, upstream):
    plain = json.dumps({"created": 1, "data": [{"b64_json": "QUJD" * (1 << 20)}], "usage": USED}).encode()
    upstream.use(answer(gzip.compress(plain), Content_Encoding="gzip"))
    with charges(caller, PRICE):
        assert caller.post(BODY).content == plain


@pytest.mark.parametrize("cut", [10, 5000])
def test_row_92_damaged_compression(caller, upstream, cut):
    import os
    packed = bytearray(gzip.compress(json.dumps({"created": 1, "data": [{"b64_json": os.urandom(9000).hex()}], "usage": USED}).encode()))
    packed[cut:cut + 40] = bytes(40)
    upstream.use(answer(bytes(packed), Content_Encoding="gzip"))
    reply = caller.post(BODY)
    assert reply.status_code == 502, reply.text
    assert reply.headers["x-should-retry"] == "false" and spent(caller) == 0


def test_row_92_an_encoding_nobody_reads(caller, upstream):
    upstream.use(answer(b"\x8b\x02\x80hello", Content_Encoding="br"))
    reply = caller.post(BODY)
    assert reply.status_code == 502 and reply.headers["x-should-retry"] == "false" and spent(caller) == 0


PRIVATE = {"OpenAI-Organization": "org-x", "OpenAI-Project": "proj-x", "Cookie": "a=b", "X-Forwarded-For": "1.2.3.4", "X-Forwarded-Host": "evil", "X-Real-IP": "1.2.3.4",
           "Forwarded": "for=1.2.3.4", "Idempotency-Key": "only-ours", "X-Secret": "s", "api-key": "k", "Proxy-Authorization": "Basic eA==", "TE": "trailers", "Via": "1.1 x",
           "Origin": "https://evil", "Referer": "https://evil"}


@pytest.mark.parametrize("operation", ["generations", "edits"])
def test_row_98_headers_that_stay_here(caller, upstream, operation):
    upstream.use(answer(images(usage=USED)))
    body = json.dumps(BODY).encode() if operation == "generations" else EDIT
    kind = {} if operation == "generations" else {"Content-Type": "multipart/form-data; boundary=tallygate-test-boundary"}
    assert caller.post(body, path=f"/v1/images/{operation}", headers={**PRIVATE, **kind}).status_code == 200
    got = upstream.requests[0].headers
    assert not {k.lower() for k in PRIVATE} & set(got), got
    assert got["authorization"] == "Bearer sk-upstream-secret-credential-0001" and got["host"] == f"127.0.0.1:{upstream.port}"
    assert caller.secret not in str(got) and "expect" not in got


def test_row_98_headers_that_stay_there(caller, upstream):
    theirs = {"Set-Cookie": "__cf_bm=x", "OpenAI-Organization": "org", "OpenAI-Project": "proj", "X-Ratelimit-Limit-Requests": "5", "Retry-After": "9", "Server": "cloudflare", "CF-Ray": "1", "Alt-Svc": "h3",
              "Strict-Transport-Security": "x", "Access-Control-Allow-Origin": "*", "Connection": "close", "X-Should-Retry": "true"}
    data = json.dumps(images(usage=USED)).encode()
    lines = "".join(f"{k}: {v}\r\n" for k, v in {**theirs, "X-Request-Id": "req_theirs", "Content-Length": len(data), "Content-Type": "application/json"}.items())
    upstream.use(raw(b"HTTP/1.1 200 OK\r\n" + lines.encode() + b"\r\n" + data))
    reply = caller.post(BODY)
    assert reply.status_code == 200 and reply.headers["x-upstream-request-id"] == "req_theirs" and reply.headers["x-request-id"] != "req_theirs"
    for name in theirs:
        assert reply.headers.get(name) != theirs[name], name
    assert caller.records()[0]["upstream_request_id"] == "req_theirs"


@pytest.mark.parametrize("item", [{"url": "https://x/y.png"}, {"b64_json": PIXEL, "revised_prompt": "an otter\u2028"}, {"b64_json": PIXEL, "later": {"a": [1.50, None]}}])
def test_replies_pass_byte_for_byte(caller, upstream, item):
    text_of_it = json.dumps({"created": 1, "data": [item], "usage": USED, "later": [1e2, {}]}, indent=3, ensure_ascii=False) + "\n"
    upstream.use(answer(text_of_it, content_type="application/json; charset=utf-8"))
    with charges(caller, PRICE):
        assert caller.post(BODY).text == text_of_it


def test_an_upstream_that_answers_before_the_upload_is_over(caller, upstream):
    """413 in the middle of 6 MB: its word is the answer, and nothing is charged."""
    words = json.dumps(error_body("too large", code="request_too_large")) + "\n"

    def early(conn, asked):
        conn.sendall(head(413, len(words), Connection="close") + words.encode())
        conn.shutdown(1)
        end = time.monotonic() + 2
        while time.monotonic() < end and conn.recv(65536):
            pass
        return False
    upstream.on_head = early
    body = form(file("image", png(64, length=6 << 20)), *(text(k, v) for k, v in BODY.items()))
    reply = caller.form(body=body)
    assert reply.status_code in (413, 502), reply.text
    if reply.status_code == 413:
        assert reply.text == words
    assert spent(caller) == Decimal(0)


def test_a_slow_upload_upstream(caller, upstream):
    """An upstream that reads slowly: back-pressure, not a failure, within the call's time."""
    upstream.use(answer(images(usage=USED)))
    upstream.on_body = lambda data: time.sleep(len(data) / (8 << 20))
    body = form(file("image", png(64, length=12 << 20)), *(text(k, v) for k, v in BODY.items()))
    begun = time.monotonic()
    with charges(caller, PRICE):
        assert caller.form(body=body).status_code == 200
    assert upstream.requests[0].body == body and time.monotonic() - begun > 1 and PATIENCE
