"""Idempotency-Key on the three POSTs, the checklist's row 87: one call upstream and one charge a key, whatever is repeated."""

import json
import threading
import time
from decimal import Decimal

import pytest

from lib import sse
from lib.admin import Account
from lib.check import charges, has_request_id, is_error, money, untouched
from lib.form import BOUNDARY, content_type, file, form, text
from lib.picture import png
from lib.process import PATIENCE
from lib.sse import DONE, completed, partial, stream
from lib.upstream import answer, error_body, images, raw, usage

EDITS, GENERATIONS, VARIATIONS = "/v1/images/edits", "/v1/images/generations", "/v1/images/variations"
BODY = {"model": "gpt-image-1", "prompt": "a sea otter", "size": "1024x1024", "quality": "low"}
USED = usage(20, 0, 272)
PRICE = "0.01098"
EDIT = form(file("image", png(64)), *(text(k, v) for k, v in BODY.items()))
VARIATION = form(file("image", png(64)), text("model", "dall-e-2"), text("size", "1024x1024"))


def key(name):
    return {"Idempotency-Key": name}


def call(caller, name, body=BODY, path=GENERATIONS, **kwargs):
    headers = key(name)
    if isinstance(body, bytes):
        headers["Content-Type"] = content_type()
    return caller.post(body, path=path, headers=headers, **kwargs)


def again(first, second):
    """The same answer, under a request id of its own, marked."""
    assert (second.status_code, second.content, second.headers["content-type"]) == (first.status_code, first.content, first.headers["content-type"])
    has_request_id(second)
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    assert second.headers["idempotent-replayed"] == "true" and "idempotent-replayed" not in first.headers
    if "tallygate-charge" in first.headers:
        assert second.headers["tallygate-charge"] == first.headers["tallygate-charge"]


@pytest.mark.parametrize("path, body, price", [(GENERATIONS, BODY, PRICE), (EDITS, EDIT, PRICE), (VARIATIONS, VARIATION, "0.02")], ids=["generations", "edits", "variations"])
def test_row_87_the_stored_answer(caller, upstream, path, body, price):
    upstream.use(answer(images(**({} if path == VARIATIONS else {"usage": USED})), X_Request_Id="req_up"))
    with charges(caller, price):
        first = call(caller, "one", body, path)
        assert first.status_code == 200 and money(first.headers["tallygate-charge"]) == money(price)
        for _ in range(3):
            again(first, call(caller, "one", body, path))
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("size", [300_000, 3 << 20, 20 << 20])
def test_row_87_large_answers(caller, upstream, size):
    """From the file, whole, in constant memory."""
    upstream.use(answer({"created": 1, "data": [{"b64_json": "A" * size}], "usage": USED}))
    with charges(caller, PRICE):
        first = call(caller, "large")
        again(first, call(caller, "large"))


def test_row_87_streams(caller, upstream):
    """A stream comes again as a stream, without its pauses."""
    upstream.use(stream(partial(0), 0.3, completed(USED), DONE))
    body = {**BODY, "stream": True, "partial_images": 1}
    with charges(caller, PRICE):
        first, second = call(caller, "stream", body), call(caller, "stream", body)
    again(first, second)
    assert sse.kinds(second.content) == sse.kinds(first.content) and len(upstream.requests) == 1


@pytest.mark.parametrize("other, path", [({**BODY, "n": 2}, GENERATIONS), ({**BODY, "prompt": "a sea  otter"}, GENERATIONS), (EDIT, EDITS)], ids=["n", "space", "path"])
def test_row_87_another_body(caller, upstream, other, path):
    upstream.use(answer(images(usage=USED)))
    assert call(caller, "k").status_code == 200
    with untouched(caller, upstream):
        reply = call(caller, "k", other, path)
        is_error(reply, 422, "idempotency_key_reused", message=r"^This Idempotency-Key was used with a different request before\.$")


def test_row_87_another_boundary_is_the_same_call(caller, upstream):
    """Node and Python choose one anew each time they send; what stands between the boundaries is what counts."""
    upstream.use(answer(images(usage=USED)))
    other = {**key("k"), "Content-Type": content_type("quite-another-one")}
    with charges(caller, PRICE):
        first = call(caller, "k", EDIT, EDITS)
        again(first, caller.post(EDIT.replace(BOUNDARY.encode(), b"quite-another-one"), path=EDITS, headers=other))
    with untouched(caller, upstream):
        body = form(file("image", png(65)), *(text(k, v) for k, v in BODY.items()), boundary="quite-another-one")
        is_error(caller.post(body, path=EDITS, headers=other), 422, "idempotency_key_reused")


def test_row_87_still_running(caller, upstream):
    """409 for the second, which tells SDKs not to try again; the first is not disturbed."""
    gate = threading.Event()

    def wait(conn, asked):
        gate.wait(20 * PATIENCE)
        answer(images(usage=USED))(conn, asked)
    upstream.use(wait)
    got = []
    with charges(caller, PRICE):
        first = threading.Thread(target=lambda: got.append(call(caller, "slow")))
        first.start()
        caller.gateway.wait_for(lambda: upstream.requests, "the upstream is asked")
        for _ in range(2):
            reply = call(caller, "slow")
            is_error(reply, 409, "idempotency_in_progress")
            assert reply.headers["x-should-retry"] == "false"
        is_error(call(caller, "slow", {**BODY, "n": 2}), 422, "idempotency_key_reused")
        gate.set()
        first.join()
        assert got[0].status_code == 200
        again(got[0], call(caller, "slow"))
    assert len(upstream.requests) == 1


def test_row_87_forty_at_once(caller, upstream):
    """One of them calls; the others hear of it or get its answer."""
    def late(conn, asked):
        time.sleep(0.3)
        answer(images(usage=USED))(conn, asked)
    upstream.use(late)
    replies, barrier = [], threading.Barrier(40)

    def one():
        barrier.wait()
        replies.append(call(caller, "crowd"))
    threads = [threading.Thread(target=one) for _ in range(40)]
    with charges(caller, PRICE):
        [t.start() for t in threads]
        [t.join() for t in threads]
    assert {r.status_code for r in replies} <= {200, 409} and len(upstream.requests) == 1
    assert sum(r.status_code == 200 and "idempotent-replayed" not in r.headers for r in replies) == 1


VOID = [answer(error_body("no", code="moderation_blocked"), 400), answer(error_body("sorry", "server_error"), 500), answer(error_body("slow down", "requests"), 429)]


@pytest.mark.parametrize("script", VOID, ids=["400", "500", "429"])
def test_row_87_what_had_no_effect_is_not_kept(caller, upstream, script):
    """The key is free again: the next attempt is a first one."""
    upstream.use(script)
    assert call(caller, "retry").status_code >= 400
    upstream.use(answer(images(usage=USED)))
    with charges(caller, PRICE):
        reply = call(caller, "retry")
        assert reply.status_code == 200 and "idempotent-replayed" not in reply.headers


def test_row_87_refusals_of_ours_are_not_kept(world, upstream):
    upstream.use(answer(images(usage=USED)))
    poor = Account(world, credit=None)
    is_error(call(poor, "k"), 429, "insufficient_quota", type="insufficient_quota")
    is_error(call(poor, "k", {**BODY, "n": 0}), 400, "integer_below_min_value")
    is_error(call(poor, "k", {**BODY, "model": "nope"}), 404, "model_not_found")
    poor.credit("1.00")
    with charges(poor, PRICE):
        assert call(poor, "k").status_code == 200


@pytest.mark.parametrize("script", [raw(b"", rst=True), answer("nonsense")], ids=["reset", "nonsense"])
def test_row_87_an_outcome_in_doubt(caller, upstream, script):
    """The upstream may have been paid: never asked again under this key."""
    upstream.use(script)
    assert call(caller, "doubt").status_code == 502
    caller.settled()
    upstream.use(answer(images(usage=USED)))
    with untouched(caller, upstream):
        reply = call(caller, "doubt")
        is_error(reply, 409, "idempotency_answer_unavailable", message="use_[0-9A-Za-z]+")
        assert reply.headers["x-should-retry"] == "false"


def test_row_87_keys_of_two_callers(world, caller, upstream):
    """An Idempotency-Key belongs to the API key that sent it."""
    upstream.use(answer(images(usage=USED)))
    other = Account(world)
    sibling = Account.__new__(Account)
    sibling.__dict__.update(caller.__dict__)
    sibling.secret = world.admin.create("keys", {"tenant": caller.id, "name": "sibling"})["secret"]
    for who in (caller, other, sibling):
        assert "idempotent-replayed" not in call(who, "same").headers
    assert len(upstream.requests) == 3 and caller.credited - caller.settled()["posted"] == 2 * Decimal(PRICE)


@pytest.mark.parametrize("name", ["", "x" * 256, "ä", "a\x01b"])
def test_row_87_bad_keys(caller, upstream, name):
    with untouched(caller, upstream):
        reply = caller.post(BODY, headers={"Idempotency-Key": name.encode()})
        is_error(reply, 400)


@pytest.mark.parametrize("name", ["x" * 255, "a b", "0", "'; DROP TABLE keys; --", "../../etc/passwd"])
def test_row_87_good_keys(caller, upstream, name):
    upstream.use(answer(images(usage=USED)))
    with charges(caller, PRICE):
        again(call(caller, name), call(caller, name))


def test_row_87_two_headers(caller, upstream):
    from lib.wire import exchange, request
    data = request("POST", GENERATIONS, {**caller.authorization, "Content-Type": "application/json", "Idempotency-Key": "a\r\nIdempotency-Key: b"}, json.dumps(BODY).encode())
    with untouched(caller, upstream):
        is_error(exchange(caller.gateway, data), 400)


def test_row_87_a_client_that_left(caller, upstream):
    """Whoever comes back for an abandoned call finds its answer, or hears that it was charged; it is not made twice."""
    from lib.upstream import reset
    from lib.wire import connect, request

    def late(conn, asked):
        time.sleep(0.5)
        answer(images(usage=USED))(conn, asked)
    upstream.use(late)
    body = json.dumps(BODY).encode()
    sock = connect(caller.gateway)
    sock.sendall(request("POST", GENERATIONS, {**caller.authorization, "Content-Type": "application/json", **key("left")}, body))
    caller.gateway.wait_for(lambda: upstream.requests, "the upstream is asked")
    reset(sock)
    caller.gateway.wait_for(lambda: caller.records(), "a usage record")
    with untouched(caller, upstream):
        reply = caller.post(body, headers=key("left"))
        assert reply.status_code in (200, 409), reply.text
        assert reply.status_code == 200 or is_error(reply, 409, "idempotency_answer_unavailable")
    assert caller.credited - caller.settled()["posted"] == Decimal(PRICE)


def kept(gateway):
    """The files of kept answers."""
    return sorted(p for p in gateway.directory.rglob("answers/*") if p.is_file())


@pytest.fixture
def small(own_gateway, upstream):
    """A gateway that keeps answers of at most 64 KiB, 256 KiB in all."""
    gateway = own_gateway({"idempotency": {"max_answer": "64KiB", "max_kept": "256KiB"}}).start()
    gateway.channel(upstream, models=["gpt-image-1"])
    upstream.use(answer({"created": 1, "data": [{"b64_json": "A" * 60_000}], "usage": USED}))
    return gateway, Account(gateway)


def test_answers_too_large_to_keep(small, upstream):
    gateway, account = small
    upstream.use(answer({"created": 1, "data": [{"b64_json": "A" * 70_000}], "usage": USED}))
    assert call(account, "big").status_code == 200
    use = account.records()[0]["id"]
    with untouched(account, upstream):
        reply = call(account, "big")
        is_error(reply, 409, "idempotency_answer_unavailable", message=use)
        assert reply.headers["x-should-retry"] == "false"
    assert kept(gateway) == []


def test_answers_are_bounded_in_all(small, upstream):
    """The oldest go first; a call whose answer went is still not made again."""
    gateway, account = small
    for i in range(8):
        assert call(account, f"k{i}").status_code == 200
    assert sum(p.stat().st_size for p in kept(gateway)) <= 256 << 10 and 2 <= len(kept(gateway)) <= 4
    with untouched(account, upstream):
        is_error(call(account, "k0"), 409, "idempotency_answer_unavailable")
        assert call(account, "k7").headers["idempotent-replayed"] == "true"


def test_answers_survive_a_restart(small, upstream):
    gateway, account = small
    first = call(account, "k")
    gateway.restart()
    with untouched(account, upstream):
        again(first, call(account, "k"))
        is_error(call(account, "k", {**BODY, "n": 2}), 422, "idempotency_key_reused")
    gateway.stop()
    gateway.fsck()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "gone", "longer"])
def test_a_damaged_answer_is_never_given(small, upstream, damage):
    gateway, account = small
    assert call(account, "k").status_code == 200
    gateway.stop()
    path, = kept(gateway)
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": data[:-1], "flipped": data[:30_000] + bytes([data[30_000] ^ 1]) + data[30_001:], "empty": b"", "longer": data + b"x"}[damage])
    gateway.start()
    with untouched(account, upstream):
        is_error(call(account, "k"), 409, "idempotency_answer_unavailable")
    gateway.stop()
    gateway.fsck()


def test_answers_hold_no_secret(small):
    gateway, account = small
    assert call(account, "canary-key").status_code == 200
    data = b"".join(p.read_bytes() for p in kept(gateway))
    assert data and account.secret.encode() not in data and b"sk-upstream" not in data and b"a sea otter" not in data
    assert all(p.stat().st_mode & 0o077 == 0 for p in kept(gateway))
    assert "canary-key" not in gateway.text() and account.secret not in gateway.text()
