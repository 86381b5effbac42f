"""Lying upstreams: what the customer sees, and what is charged, for each way an upstream can fail."""

import json
import time
from decimal import Decimal

import pytest

from lib.admin import Account
from lib.check import is_error, money
from lib.ports import free_port
from lib.process import PATIENCE
from lib.upstream import PIXEL, answer, error_body, hang, head, images, raw, slow, usage

G = {"model": "gpt-image-1", "prompt": "a sea otter in the morning light", "size": "1024x1024", "quality": "low"}
D = {"model": "dall-e-2", "prompt": "a sea otter", "size": "1024x1024", "n": 2}
HTML = "<html><body><h1>502 Bad Gateway</h1></body></html>"
GOOD = json.dumps(images(usage=usage(20, 0, 272))).encode()
PRICE = Decimal("0.01098")  # 20 x 5.00 + 272 x 40.00 a million


@pytest.fixture(scope="module")
def settings():
    return {"relay": {"timeout": "3s", "connect_timeout": "1s"}}


def spent(account):
    return account.credited - account.settled()["posted"]


# ---- refused before work: nothing is paid, no record of use, the hold is void ----

VOID = [
    # name, script, status, code, relayed body
    ("500 JSON", answer(error_body("The server had an error", "server_error"), 500), 502, "upstream_error"),
    ("500 HTML", answer(HTML, 500, "text/html"), 502, "upstream_error"),
    ("502 HTML", answer(HTML, 502, "text/html"), 502, "upstream_error"),
    ("503", answer(error_body("overloaded", "service_unavailable_error", code="server_is_overloaded"), 503), 502, "upstream_error"),
    ("500 without a body", answer("", 500), 502, "upstream_error"),
    ("401", answer(error_body("Incorrect API key provided: sk-upst*0001", code="invalid_api_key"), 401), 502, "upstream_error"),
    ("403", answer(error_body("must be verified"), 403), 502, "upstream_error"),
    ("302", raw(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"), 502, "upstream_error"),
    ("429", answer(error_body("Rate limit reached", "requests", code="rate_limit_exceeded"), 429), 503, "no_channel_available"),
    ("400 HTML", answer(HTML, 400, "text/html"), 502, "upstream_error"),
    ("200 with an error object", answer(error_body("no image was made", "server_error")), 502, "upstream_invalid_response"),
    ("200 with no image", answer({"created": 1, "data": []}), 502, "upstream_invalid_response"),
]


@pytest.mark.parametrize("script, status, code", [v[1:] for v in VOID], ids=[v[0] for v in VOID])
@pytest.mark.parametrize("body", [D, G], ids=["image", "token"])
def test_refused_is_free(account, upstream, script, status, code, body):
    upstream.use(script)
    error = is_error(account.post(body), status, code)
    assert "html" not in json.dumps(error).lower() and "sk-upst" not in json.dumps(error)
    assert spent(account) == 0 and account.records() == []
    assert account.balance() == {"posted": 10, "held": 0, "available": 10}
    assert len(upstream.requests) == 1


def test_connection_refused(world):
    channel = world.channel(f"http://127.0.0.1:{free_port()}/v1", name="closed", models=["dall-e-3"])
    account = Account(world)
    started = time.monotonic()
    is_error(account.post({"model": "dall-e-3", "prompt": "x"}), 502, "upstream_error")
    assert time.monotonic() - started < 3 * PATIENCE
    assert spent(account) == 0 and account.records() == []
    world.admin.delete(f"channels/{channel['id']}")


def test_connect_timeout(world):
    """A full backlog: the connection is never made, so nothing can have been bought."""
    import socket
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(8):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(listener.getsockname())
            fillers.append(s)
        channel = world.channel(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", name="full", models=["dall-e-3"])
        account = Account(world)
        is_error(account.post({"model": "dall-e-3", "prompt": "x"}), 504, "upstream_timeout")
        assert spent(account) == 0 and account.records() == []
        world.admin.delete(f"channels/{channel['id']}")
        [s.close() for s in fillers]


def test_name_that_does_not_resolve(world):
    channel = world.channel("http://nowhere.invalid/v1", name="nowhere", models=["dall-e-3"])
    account = Account(world)
    reply = account.post({"model": "dall-e-3", "prompt": "x"})
    assert reply.status_code in (502, 504), reply.text
    assert spent(account) == 0 and account.records() == []
    world.admin.delete(f"channels/{channel['id']}")


@pytest.mark.parametrize("seconds, told", [("7", "7"), ("0", None), ("100000", "59"), ("x", None), (None, None)])
def test_429_and_its_retry_after(account, upstream, seconds, told):
    """The channel's limit is not the customer's: 503, and a Retry-After that every SDK obeys."""
    upstream.use(answer(error_body("slow down", "requests", code="rate_limit_exceeded"), 429, **({"Retry_After": seconds} if seconds else {})))
    reply = account.post(D)
    is_error(reply, 503, "no_channel_available")
    if told:
        assert reply.headers["retry-after"] == told
    elif "retry-after" in reply.headers:
        assert 1 <= int(reply.headers["retry-after"]) <= 59
    assert spent(account) == 0 and account.records() == []


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_the_callers_own_error_is_relayed_as_it_is(account, upstream, status):
    text = json.dumps({"error": {"code": "moderation_blocked", "message": "Your request was rejected", "param": None, "type": "image_generation_user_error",
                                 "moderation_details": {"moderation_stage": "output", "categories": ["sexual"]}}}, indent=2) + "\n"
    upstream.use(answer(text, status))
    reply = account.post(D)
    assert (reply.status_code, reply.text) == (status, text)
    assert reply.headers["x-request-id"].startswith("req_") and reply.headers["content-type"].startswith("application/json")
    assert spent(account) == 0 and account.records() == []


def test_the_channels_own_bill_is_not_the_customers(account, upstream):
    upstream.use(answer(error_body("Billing hard limit has been reached", "billing_limit_user_error", code="billing_hard_limit_reached"), 400))
    is_error(account.post(D), 502, "upstream_error")
    assert spent(account) == 0


# ---- died after the request was sent: in doubt ----

DOUBT = [
    ("reset before the head", raw(b"", rst=True), 502, "upstream_error"),
    ("closed before the head", raw(b""), 502, "upstream_error"),
    ("half a head", raw(b"HTTP/1.1 200 OK\r\nContent-Ty"), 502, "upstream_error"),
    ("head and nothing", raw(head(200, 5000)), 502, "upstream_error"),
    ("half a body", raw(head(200, len(GOOD)) + GOOD[:len(GOOD) // 2]), 502, "upstream_error"),
    ("half a body, reset", raw(head(200, len(GOOD)) + GOOD[:len(GOOD) // 2], rst=True, delay=0.1), 502, "upstream_error"),
    ("length too long", raw(head(200, len(GOOD) + 10) + GOOD), 502, "upstream_error"),
    ("chunked, cut", raw(head(200, Transfer_Encoding="chunked") + b"%x\r\n" % len(GOOD) + GOOD + b"\r\n"), 502, "upstream_error"),
    ("hang before the head", hang(8), 504, "upstream_timeout"),
    ("hang inside the head", hang(8, b"HTTP/1.1 200 OK\r\n"), 504, "upstream_timeout"),
    ("hang inside the body", hang(8, head(200, len(GOOD)) + GOOD[:40]), 504, "upstream_timeout"),
    ("200 HTML", answer(HTML, 200, "text/html"), 502, "upstream_invalid_response"),
    ("200 truncated JSON", answer(GOOD[:-20]), 502, "upstream_invalid_response"),
    ("length too short", raw(head(200, len(GOOD) - 20) + GOOD), 502, "upstream_invalid_response"),
    ("200 plain text", answer("your picture is ready", 200, "text/plain"), 502, "upstream_invalid_response"),
    ("200 empty", answer(""), 502, "upstream_invalid_response"),
    ("200 null", answer("null"), 502, "upstream_invalid_response"),
    ("200 with usage but no image", answer({"created": 1, "data": [], "usage": usage(20, 0, 272)}), 502, "upstream_invalid_response"),
    ("no HTTP at all", raw(b"220 smtp.example.com ESMTP\r\n"), 502, "any"),
]


@pytest.mark.parametrize("script, status, code", [v[1:] for v in DOUBT], ids=[v[0] for v in DOUBT])
def test_in_doubt_is_released_by_default(account, upstream, script, status, code):
    """The customer pays nothing, the SDK does not buy again by itself, and the record says what is unknown."""
    upstream.use(script)
    reply = account.post(G)
    error = is_error(reply, status, code)
    assert "html" not in json.dumps(error).lower()
    assert reply.headers.get("x-should-retry") == "false"
    assert spent(account) == 0
    assert len(upstream.requests) == 1, "an upstream that may have billed is not asked again"
    records = account.records()
    if code != "any":
        assert len(records) == 1 and "in_doubt" in records[0]["flags"] and money(records[0]["wholesale"]) == 0, records


@pytest.mark.parametrize("script", [raw(b"", rst=True), raw(head(200, len(GOOD)) + GOOD[:50]), answer(GOOD[:-20]), hang(8)],
                         ids=["reset", "half", "truncated", "hang"])
def test_in_doubt_charge(world, upstream, script):
    """in_doubt = charge: the whole hold."""
    account = Account(world, tenant={"in_doubt": "charge"})
    hold = money(world.admin.create("quotes", {"tenant": account.id, "model": "dall-e-2", "size": "1024x1024", "n": 2})["hold"])
    upstream.use(script)
    assert account.post(D).status_code in (502, 504)
    assert spent(account) == hold == Decimal("0.04")
    record = account.records()[0]
    assert money(record["wholesale"]) == hold and "in_doubt" in record["flags"]


def test_in_doubt_keep(world, upstream):
    """in_doubt = keep: the money stays set aside until somebody reconciles it."""
    account = Account(world, tenant={"in_doubt": "keep"})
    upstream.use(raw(b"", rst=True))
    assert account.post(D).status_code == 502
    time.sleep(0.3)
    assert account.balance() == {"posted": 10, "held": Decimal("0.04"), "available": Decimal("9.96")}
    assert account.records() == []


# ---- 200, and lies inside ----

TOLD = [
    # name, usage, charge (None: estimated), flag
    ("exact", usage(20, 0, 272), PRICE, None),
    ("all kinds", {**usage(30, 50, 272), "input_tokens_details": {"text_tokens": 30, "image_tokens": 50, "cached_tokens": 20}}, Decimal("0.011455"), None),
    ("no details", {"input_tokens": 20, "output_tokens": 272, "total_tokens": 292}, PRICE, None),
    ("no total", {"input_tokens": 20, "output_tokens": 272}, PRICE, None),
    ("missing", None, None, "estimated"),
    ("null", "null", None, "estimated"),
    ("negative", usage(-20, 0, 272), None, "untrusted_usage"),
    ("negative output", usage(20, 0, -272), None, "untrusted_usage"),
    ("fraction", {"input_tokens": 20.5, "output_tokens": 272, "total_tokens": 292.5}, None, "untrusted_usage"),
    ("exponent", "exponent", None, "untrusted_usage"),
    ("huge", usage(20, 0, 10**15), None, "untrusted_usage"),
    ("beyond 64 bits", usage(20, 0, 2**64 + 272), None, "untrusted_usage"),
    ("wrong total", {**usage(20, 0, 272), "total_tokens": 1}, None, "untrusted_usage"),
    ("wrong details", {**usage(20, 0, 272), "input_tokens_details": {"text_tokens": 1, "image_tokens": 1}}, None, "untrusted_usage"),
    ("strings", {"input_tokens": "20", "output_tokens": "272", "total_tokens": "292"}, None, "untrusted_usage"),
    ("a list", [], None, "untrusted_usage"),
]


@pytest.mark.parametrize("told, charge, flag", [v[1:] for v in TOLD], ids=[v[0] for v in TOLD])
def test_usage(account, upstream, told, charge, flag):
    text = json.dumps(images(usage=told))
    text = text.replace('"usage": "null"', '"usage": null').replace('"usage": "exponent"', '"usage": {"input_tokens": 2e1, "output_tokens": 2.72e2, "total_tokens": 292}')
    upstream.use(answer(text))
    reply = account.post(G)
    assert (reply.status_code, reply.text) == (200, text)
    paid, record = spent(account), account.records()[0]
    assert money(record["wholesale"]) == paid == money(reply.headers["tallygate-charge"])
    if charge is not None:
        assert paid == charge and set(record["flags"]) <= {"overage"}, record
        return
    assert flag in record["flags"], record
    # 272 tokens by the table, and at least nothing, at most a token a byte, for the prompt
    assert Decimal("0.01088") <= paid <= Decimal("0.01088") + Decimal("0.000005") * (len(G["prompt"]) + 16)


def test_duplicate_usage(account, upstream):
    text = json.dumps(images(usage=usage(20, 0, 272)))[:-1] + ', "usage": ' + json.dumps(usage(1, 0, 1)) + "}"
    upstream.use(answer(text))
    assert account.post(G).status_code == 200
    assert "untrusted_usage" in account.records()[0]["flags"] and spent(account) >= Decimal("0.01088")


def test_usage_beyond_the_hold(world, upstream):
    """More than the worst case was used: charged as far as the wallet bears, flagged, never below zero."""
    account = Account(world, credit="0.30")
    upstream.use(answer(images(usage=usage(20, 0, 9000))))
    assert account.post(G).status_code == 200
    record, balance = account.records()[0], account.settled()
    assert {"overage", "untrusted_usage"} & set(record["flags"]), record
    assert balance["posted"] == max(Decimal(0), account.credited - money(record["wholesale"]))


@pytest.mark.parametrize("delivered, charge, flags", [(1, "0.02", ["fewer_images"]), (2, "0.04", []), (3, "0.04", [])])
def test_images_delivered(account, upstream, delivered, charge, flags):
    """Pictures that came are paid for, never more than were asked for."""
    upstream.use(answer(images(delivered)))
    assert account.post(D).status_code == 200
    record = account.records()[0]
    assert spent(account) == Decimal(charge) and record["flags"] == flags


def test_fewer_images_per_token_without_usage(account, upstream):
    upstream.use(answer(images(1)))
    assert account.post({**G, "n": 3}).status_code == 200
    record = account.records()[0]
    assert {"fewer_images", "estimated"} <= set(record["flags"]) and record["image_output_tokens"] == 272


def test_pretty_printed_and_late_usage(account, upstream):
    upstream.use(answer(json.dumps(images(usage=usage(20, 0, 272)), indent=4) + "\n\n"))
    assert account.post(G).status_code == 200 and spent(account) == PRICE


def test_b64_that_looks_like_json(account, upstream):
    """Only what stands at its place in the reply counts."""
    fake = json.dumps({"usage": usage(0, 0, 0), "data": []})
    upstream.use(answer({"created": 1, "data": [{"b64_json": PIXEL, "revised_prompt": fake, "usage": usage(1, 0, 1)}], "usage": usage(20, 0, 272)}))
    assert account.post(G).status_code == 200 and spent(account) == PRICE


def test_chunked_reply(account, upstream):
    data = b"".join(b"%x\r\n%s\r\n" % (1, GOOD[i:i + 1]) for i in range(len(GOOD))) + b"0\r\n\r\n"
    upstream.use(raw(head(200, Transfer_Encoding="chunked") + data))
    reply = account.post(G)
    assert (reply.status_code, reply.content) == (200, GOOD) and spent(account) == PRICE


def test_reply_until_close(account, upstream):
    """No length and no chunks: the end of the connection is the end, when the JSON is whole."""
    upstream.use(raw(head(200, Connection="close") + GOOD))
    reply = account.post(G)
    assert (reply.status_code, reply.content) == (200, GOOD) and spent(account) == PRICE


def test_gzip_reply(account, upstream):
    import gzip
    data = gzip.compress(GOOD)
    upstream.use(raw(head(200, len(data), Content_Encoding="gzip") + data))
    reply = account.post(G)
    assert (reply.status_code, reply.content) == (200, GOOD) and spent(account) == PRICE


def test_1xx_before_the_answer(account, upstream):
    upstream.use(raw(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + head(200, len(GOOD)) + GOOD))
    assert account.post(G).status_code == 200 and spent(account) == PRICE


@pytest.mark.parametrize("what", [b"X-Big: " + b"a" * 200000 + b"\r\n", b"X-Many: 1\r\n" * 20000], ids=["long", "many"])
def test_giant_reply_head(account, upstream, what):
    upstream.use(raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + what + b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD))
    assert account.post(G).status_code in (200, 502)
    assert account.settled()["held"] == 0


def test_large_reply_dies_on_the_way(account, upstream):
    """Bytes had left already: the customer sees a broken reply, never a whole one; released by default."""
    import httpx
    big = json.dumps({"created": 1, "data": [{"b64_json": "A" * (3 << 20)}], "usage": usage(20, 0, 272)}).encode()
    upstream.use(raw(head(200, len(big)) + big[:2 << 20], delay=0.3))
    with pytest.raises(httpx.TransportError):
        account.post(G)
    assert spent(account) == 0
    assert "in_doubt" in account.records()[0]["flags"]


@pytest.mark.parametrize("end", [b"", b"}", b' "x"'])
def test_large_reply_that_is_no_json_at_its_end(account, upstream, end):
    import httpx
    big = json.dumps({"created": 1, "data": [{"b64_json": "A" * (3 << 20)}], "usage": usage(20, 0, 272)}).encode()[:-1] + end
    upstream.use(answer(big))
    if end == b"}":
        assert account.post(G).content == big and spent(account) == PRICE
        return
    with pytest.raises(httpx.TransportError):
        account.post(G)
    assert spent(account) == 0


def test_slow_reply_within_the_time(account, upstream):
    upstream.use(slow(images(usage=usage(20, 0, 272)), 1.5))
    assert account.post(G).status_code == 200 and spent(account) == PRICE


def test_slow_reply_beyond_the_time(account, upstream):
    upstream.use(slow(images(usage=usage(20, 0, 272)), 8))
    is_error(account.post(G), 504, "upstream_timeout")
    assert spent(account) == 0


# ---- what goes upstream ----

def test_headers_that_go_and_that_do_not(account, upstream):
    upstream.use(answer(images()))
    sent = {"OpenAI-Organization": "org-x", "OpenAI-Project": "proj-x", "Cookie": "a=b", "X-Forwarded-For": "1.2.3.4", "Idempotency-Key": "k", "X-Secret": "s"}
    assert account.post(D, headers=sent).status_code == 200
    asked = upstream.requests[0]
    assert asked.path == "/v1/images/generations" and asked.method == "POST"
    assert asked.headers["authorization"] == "Bearer sk-upstream-secret-credential-0001"
    assert asked.headers["content-type"] == "application/json"
    assert not {"openai-organization", "openai-project", "cookie", "x-forwarded-for", "x-secret"} & set(asked.headers), asked.headers
    assert account.secret not in str(asked.headers)


def test_upstream_headers_stay_outside(account, upstream):
    upstream.use(answer(images(), Set_Cookie="__cf_bm=x", OpenAI_Organization="org-secret", x_ratelimit_limit_requests="500", Server="cloudflare", CF_Ray="1",
                        Alt_Svc="h3", X_Request_Id="req_upstream_1"))
    reply = account.post(D)
    assert reply.headers["x-request-id"] != "req_upstream_1" and reply.headers.get("server") != "cloudflare"
    for name in ("set-cookie", "openai-organization", "x-ratelimit-limit-requests", "cf-ray", "alt-svc"):
        assert name not in reply.headers
    assert account.records()[0]["upstream_request_id"] == "req_upstream_1"


def test_dead_keep_alive_connection(account, upstream):
    """An upstream that closes idle connections costs nobody anything."""
    def once(conn, request):
        answer(images(2))(conn, request)
        return False
    upstream.use(once)
    for _ in range(5):
        assert account.post(D).status_code == 200
        time.sleep(0.1)
    assert spent(account) == Decimal("0.20") and len(upstream.requests) == 5


def test_private_addresses_off(own_gateway, upstream):
    gateway = own_gateway({"relay": {"private_addresses": "off"}}).start()
    for base in (upstream.base_url, f"http://localhost:{upstream.port}/v1", f"http://[::ffff:127.0.0.1]:{upstream.port}/v1", "http://169.254.169.254/v1", "http://0.0.0.0:1/v1"):
        reply = gateway.admin.call("POST", "channels", {"name": base, "kind": "openai", "base_url": base, "api_key": "sk-x", "models": {"dall-e-2": "dall-e-2"}})
        if reply.status_code >= 300:
            continue  # refused at once: as good
        account = Account(gateway)
        upstream.use(answer(images()))
        is_error(account.post(D), 502, "upstream_error")
        assert upstream.requests == [] and spent(account) == 0
        gateway.admin.delete(f"channels/{reply.json()['id']}")
    gateway.stop()


# ---- the sandbox's own faults, as an SDK would drive them ----

def test_sandbox_faults(own_gateway, sandbox):
    gateway = own_gateway({"relay": {"timeout": "3s"}}).start()
    gateway.channel(sandbox)
    account = Account(gateway)

    def call(directive, **more):
        return account.post({**G, "prompt": f"otter {directive}", **more})
    is_error(call("[[status=500]]"), 502, "upstream_error")
    is_error(call("[[status=429]]"), 503, "no_channel_available")
    is_error(call("[[status=503]]"), 502, "upstream_error")
    is_error(call("[[die=headers]]"), 502, "upstream_error")
    is_error(call("[[die=50%]]"), 502, "upstream_error")
    is_error(call("[[hang]]"), 504, "upstream_timeout")
    is_error(call("[[moderation]]"), 400, "moderation_blocked", type="image_generation_user_error")
    assert spent(account) == 0
    assert call("[[latency=500ms]] [[usage=20,0,272]]").status_code == 200
    assert spent(account) == PRICE
    gateway.stop()
    gateway.fsck()
