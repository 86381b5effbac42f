"""Lying upstreams: what the customer sees, and what is charged, for each way an upstream can fail."""

import json
import time
from decimal import Decimal

import pytest

from lib.admin import Account
from lib.check import is_error, money
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


# ---- refused before work: nothing is paid, no record of use, the hold is void (the classes: test_61_failures) ----

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


# ---- connections ----

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
