"""kill -9 during uploads and streams, with Idempotency-Keys, and at any moment under 200 callers: nothing acknowledged is lost, nothing paid
or bought twice, no budget exceeded, nothing left behind."""

import json
import os
import random
import shutil
import signal
import socket
import sys
import threading
import time
from decimal import Decimal

import httpx
import pytest

from lib.admin import Account
from lib.check import is_error, money
from lib.crowd import Crowd
from lib.form import content_type, file, form, text
from lib.http2 import Http2
from lib.picture import png
from lib.process import PATIENCE
from lib.sse import DONE, completed, partial, stream
from lib.town import Town
from lib.upstream import answer, images, usage
from lib.wire import connect, request

CALL = {"model": "gpt-image-1", "prompt": "a sea otter", "size": "1024x1024", "quality": "low"}
USED = usage(20, 0, 272)
PRICE = Decimal("0.01098")
EDITS, GENERATIONS = "/v1/images/edits", "/v1/images/generations"
EDIT = form(file("image", png(64, length=4 << 20)), *(text(k, v) for k, v in CALL.items()))


@pytest.fixture(params=["release", "charge"])
def killed(own_gateway, upstream, request):
    gateway = own_gateway({"relay": {"in_doubt": request.param}}).start()
    gateway.channel(upstream, models=["gpt-image-1"])
    upstream.use(None)
    return gateway, Account(gateway, credit="100"), request.param


def after_a_kill(gateway, account):
    """Started again: clean, nothing held, and the balance is the records' sum."""
    gateway.start()
    balance, records = account.settled(), account.records()
    assert balance["posted"] == account.credited - sum((money(r["wholesale"]) for r in records), Decimal(0))
    gateway.fsck()
    return records


def leftovers(gateway):
    """Files of uploads that have a name, and so would outlive the process."""
    return [p.name for p in gateway.directory.rglob("*") if p.is_file() and p.stat().st_size >= 1 << 20]


def test_killed_during_uploads(killed, upstream):
    """Half of each body has come, by both protocols: no hold was made, no file is left."""
    gateway, account, _ = killed
    upstream.use(answer(images(usage=USED)))
    kept = []
    for _ in range(4):
        sock = connect(gateway)
        sock.sendall(request("POST", EDITS, {**account.authorization, "Content-Type": content_type(), "Content-Length": str(len(EDIT))}) + EDIT[:len(EDIT) // 2])
        http = Http2(gateway)
        http.send(http.post(EDITS, {**account.authorization, "content-type": content_type()}, end=False), EDIT[:len(EDIT) // 2], end=False)
        kept += [sock, http]
    gateway.kill()
    assert after_a_kill(gateway, account) == [] and upstream.started == 0 and leftovers(gateway) == []
    assert account.form(body=EDIT).status_code == 200
    gateway.stop()
    gateway.fsck()
    assert kept


def test_killed_while_the_upstream_works_on_uploads(killed, upstream):
    gateway, account, rule = killed
    upstream.use(lambda conn, asked: time.sleep(3) or False)
    threads = [threading.Thread(target=lambda: _quietly(lambda: account.form(body=EDIT))) for _ in range(6)]
    [t.start() for t in threads]
    gateway.wait_for(lambda: len(upstream.requests) == 6, "all are asked")
    hold = account.balance()["held"] / 6
    gateway.kill()
    [t.join() for t in threads]
    records = after_a_kill(gateway, account)
    assert len(records) == 6 and all("in_doubt" in r["flags"] for r in records) and leftovers(gateway) == []
    assert {money(r["wholesale"]) for r in records} == {hold if rule == "charge" else Decimal(0)}
    gateway.stop()


def test_killed_in_the_middle_of_streams(killed, upstream):
    """Before the completed event: in doubt, by the rule. What was completed before the kill is charged as it was."""
    gateway, account, rule = killed
    upstream.use(stream(partial(0), 3, completed(USED)))
    body = {**CALL, "stream": True, "partial_images": 1}
    threads = [threading.Thread(target=lambda: _quietly(lambda: account.post(body))) for _ in range(6)]
    [t.start() for t in threads]
    gateway.wait_for(lambda: len(upstream.requests) == 6, "all are asked")
    time.sleep(0.2)
    gateway.kill()
    [t.join() for t in threads]
    records = after_a_kill(gateway, account)
    assert len(records) == 6 and all("in_doubt" in r["flags"] for r in records)
    assert {money(r["wholesale"]) > 0 for r in records} == {rule == "charge"}
    gateway.stop()


def test_whoever_has_the_picture_is_charged(killed, upstream):
    """The completed event never leaves before its capture is durable: a kill right after it loses nothing."""
    gateway, account, _ = killed
    upstream.use(stream(partial(0), completed(USED), 5, DONE))
    with httpx.Client(timeout=30, trust_env=False) as http, http.stream("POST", gateway.public_url + GENERATIONS, json={**CALL, "stream": True, "partial_images": 1},
                                                                        headers=account.authorization) as reply:
        got = b""
        for piece in reply.iter_raw():
            got += piece
            if b".completed" in got and got.endswith(b"\n\n"):
                break
        gateway.kill()
    record, = after_a_kill(gateway, account)
    assert money(record["wholesale"]) == PRICE and record["flags"] == []
    gateway.stop()


def _quietly(call):
    try:
        return call()
    except httpx.HTTPError:
        return None


def keyed(account, name, body=CALL):
    return account.post(body, headers={"Idempotency-Key": name})


@pytest.mark.parametrize("body", [CALL, {**CALL, "stream": True}], ids=["plain", "stream"])
def test_a_finished_call_is_not_made_again(killed, upstream, body):
    """Answered, then killed: its answer again when it was kept, else 409 with the charge's id."""
    gateway, account, _ = killed
    upstream.use(stream(completed(USED)) if "stream" in body else answer(images(usage=USED)))
    first = keyed(account, "k", body)
    assert first.status_code == 200
    gateway.kill()
    record, = after_a_kill(gateway, account)
    second = keyed(account, "k", body)
    if second.status_code == 200:
        assert second.content == first.content and second.headers["idempotent-replayed"] == "true"
    else:
        is_error(second, 409, "idempotency_answer_unavailable", message=record["id"])
    is_error(keyed(account, "k", {**body, "n": 2}), 422, "idempotency_key_reused")
    assert len(upstream.requests) == 1 and account.credited - account.settled()["posted"] == PRICE
    gateway.stop()
    gateway.fsck()


def test_an_unfinished_call_is_not_made_again(killed, upstream):
    """Killed while the upstream worked: whether it was made is unknown, so the key stays used."""
    gateway, account, _ = killed
    upstream.use(lambda conn, asked: time.sleep(3) or False)
    thread = threading.Thread(target=lambda: _quietly(lambda: keyed(account, "k")))
    thread.start()
    gateway.wait_for(lambda: upstream.requests, "the upstream is asked")
    gateway.kill()
    thread.join()
    record, = after_a_kill(gateway, account)
    upstream.use(answer(images(usage=USED)))
    reply = keyed(account, "k")
    is_error(reply, 409, "idempotency_answer_unavailable", message=record["id"])
    assert reply.headers["x-should-retry"] == "false"
    assert upstream.requests == [] and len(account.records()) == 1
    gateway.stop()
    gateway.fsck()


def test_a_kept_hold_is_still_running(own_gateway, upstream):
    """in_doubt = keep: nobody knows yet, and a repeat does not either."""
    gateway = own_gateway({"relay": {"in_doubt": "keep"}}).start()
    gateway.channel(upstream, models=["gpt-image-1"])
    account = Account(gateway)
    upstream.use(lambda conn, asked: time.sleep(3) or False)
    thread = threading.Thread(target=lambda: _quietly(lambda: keyed(account, "k")))
    thread.start()
    gateway.wait_for(lambda: upstream.requests, "the upstream is asked")
    gateway.kill()
    thread.join()
    gateway.start()
    upstream.use(answer(images(usage=USED)))
    is_error(keyed(account, "k"), 409, "idempotency_in_progress")
    assert upstream.requests == [] and account.balance()["held"] > 0
    gateway.stop()
    gateway.fsck()


def test_kills_under_load_with_keys(own_gateway, sandbox):
    """Sixteen callers that repeat each call until it is answered, over six kills: one charge a key, exactly what was served at least."""
    gateway = own_gateway().start()
    gateway.channel(sandbox)
    account, halt, answered, lock = Account(gateway, credit="1000"), threading.Event(), {}, threading.Lock()
    body = {"model": "dall-e-2", "prompt": "x", "size": "256x256"}

    def caller(worker):
        i = 0
        while not halt.is_set():
            reply = _quietly(lambda: keyed(account, f"{worker}-{i}", body))
            if reply is None or (reply.status_code == 409 and reply.json()["error"]["code"] == "idempotency_in_progress"):
                time.sleep(0.02)
                continue
            with lock:
                answered[f"{worker}-{i}"] = reply
            i += 1
    threads = [threading.Thread(target=caller, args=(w,)) for w in range(16)]
    [t.start() for t in threads]
    for round in range(6):
        time.sleep(0.4 + 0.05 * round)
        gateway.kill()
        gateway.start()
    halt.set()
    [t.join() for t in threads]
    balance, records = account.settled(), account.records()
    assert len(records) == len({r["request_id"] for r in records}), "a request has two records"
    assert balance["posted"] == account.credited - sum((money(r["wholesale"]) for r in records), Decimal(0))
    # each key that was answered 200 has its charge, and no key has two
    good = sum(r.status_code == 200 for r in answered.values())
    assert good > 50 and {r.status_code for r in answered.values()} <= {200, 409, 503}
    assert good <= len(records) <= len(answered) + 16
    assert sandbox.served()["requests"] <= len(records)
    gateway.stop()
    gateway.fsck()


def test_kill_with_many_answers_kept(own_gateway, upstream):
    """Torn files of a killed writer are never given, and the folder is in order after the next start."""
    gateway = own_gateway().start()
    gateway.channel(upstream, models=["gpt-image-1"])
    account = Account(gateway, credit="100")
    upstream.use(answer({"created": 1, "data": [{"b64_json": "A" * 400_000}], "usage": USED}))
    expected = {}
    threads = [threading.Thread(target=lambda i=i: expected.__setitem__(f"k{i}", _quietly(lambda: keyed(account, f"k{i}")))) for i in range(24)]
    [t.start() for t in threads]
    gateway.wait_for(lambda: len(upstream.requests) >= 8, "some are under way")
    gateway.kill()
    [t.join() for t in threads]
    after_a_kill(gateway, account)
    asked = len(upstream.requests)
    upstream.use(answer(images(usage=USED)))
    for name, first in expected.items():
        second = keyed(account, name)
        if first is not None:
            assert second.status_code in (200, 409), second.text
            assert second.status_code == 409 or second.content == first.content
    # a hold may have become durable and its call never have left: such a record is in doubt, and free
    records = account.records()
    assert len(records) == len(expected), "a key has one record"
    assert sum(money(r["wholesale"]) > 0 for r in records) <= asked + len(upstream.requests)
    gateway.stop()
    gateway.fsck()
    names = [p.name for p in gateway.directory.rglob("answers/*")]
    assert all(n.startswith("req_") and "." not in n for n in names), names


def test_a_clean_stop_finishes_streams_and_uploads(own_gateway, upstream):
    """A clean stop in the middle of an upload and of a stream: both are finished before the daemon goes."""
    gateway = own_gateway().start()
    gateway.channel(upstream, models=["gpt-image-1"])
    account = Account(gateway)
    upstream.use(stream(partial(0), 0.6, completed(USED), DONE))
    got = []
    thread = threading.Thread(target=lambda: got.append(account.post({**CALL, "stream": True, "partial_images": 1})))
    thread.start()
    gateway.wait_for(lambda: upstream.requests, "the upstream is asked")
    sock = connect(gateway)
    body = json.dumps({**CALL, "images": [{"file_id": "file-1"}]}).encode()
    sock.sendall(request("POST", EDITS, {**account.authorization, "Content-Type": "application/json", "Content-Length": str(len(body))}) + body[:30])
    time.sleep(0.1)
    stopper = threading.Thread(target=gateway.stop)
    stopper.start()
    sock.sendall(body[30:])
    stopper.join()
    thread.join()
    assert got[0].status_code == 200 and b".completed" in got[0].content
    gateway.fsck()


# (bodies, weights) of callers who call at any moment
MIX = ([{"model": "dall-e-2", "prompt": prompt, "size": size} for prompt, size in
          (("x", "256x256"), ("x", "512x512"), ("x [[latency=30ms]]", "256x256"), ("x [[latency=300ms]]", "256x256"), ("x [[status=400]]", "256x256"), ("x [[die=headers]]", "256x256"))],
         (10, 3, 4, 2, 1, 1))
TOWN = 50  # cycles on one store


def ready(gateway):
    """True once it takes calls; false when it does not, which its log explains."""
    end = time.monotonic() + 20 * PATIENCE
    while time.monotonic() < end and gateway.running:
        try:
            socket.create_connection(("127.0.0.1", gateway.admin_port), timeout=1).close()
            return True
        except OSError:
            time.sleep(0.002)
    return False


def kill(gateway, rng):
    """Starts it and kills it at any moment of its life: while it starts, while it works (yields, mostly), while it drains."""
    how = rng.random()
    gateway.spawn("serve", "-c", gateway.config)
    if how < 0.1:
        time.sleep(rng.uniform(0, 0.06))
    else:
        assert ready(gateway), gateway.text()[-4000:]
        yield
        if how > 0.95:
            gateway.signal(signal.SIGTERM)
            time.sleep(rng.uniform(0, 0.02))
        else:
            assert gateway.running, f"it exited with {gateway.child.returncode}:\n{gateway.text()[-4000:]}"
    gateway.kill()


def test_kills_at_any_moment(tmp_path, sandbox, capsys):
    """200 callers and an operator over TG_KILL_CYCLES kills (default: 100, at most 90 s; once by hand: 2,000)."""
    by_hand = "TG_KILL_CYCLES" in os.environ
    cycles = int(os.environ.get("TG_KILL_CYCLES", "100"))
    seed = int(os.environ.get("TG_KILL_SEED", "1"))
    rng, began, seen = random.Random(seed), time.monotonic(), {"cycles": 0, "answers": 0, "records": 0, "in_doubt": 0, "refunded": 0, "refused": 0}
    crowd = Crowd(200, MIX, seed)
    try:
        while seen["cycles"] < cycles and (by_hand or time.monotonic() - began < 80):
            _town(tmp_path / f"town-{seen['cycles']}", sandbox, rng, crowd, seen["cycles"] + min(TOWN, cycles - seen["cycles"]), seen,
                  None if by_hand else began + 80)
            if by_hand:
                with capsys.disabled():
                    print(f"\n{seen} {time.monotonic() - began:.0f} s", end="", flush=True)
    finally:
        crowd.join()
    took = time.monotonic() - began
    with capsys.disabled():
        print(f"\n  {seen}, {took:.1f} s, {took / max(seen['cycles'], 1):.3f} s a cycle")
    assert seen["cycles"] >= min(cycles, 10) and seen["answers"] > seen["cycles"] and seen["in_doubt"] > 0 and seen["refunded"] > 0 and seen["refused"] > 0


def _town(directory, sandbox, rng, crowd, cycles, seen, until):
    """Cycles on a store of its own, up to <cycles> in all or until the time is over; then everything is checked."""
    directory.mkdir()
    town = Town(directory, sandbox, rng)
    gateway = town.gateway
    try:
        crowd.aim(gateway.public_port, town.secrets)
        gateway.kill()
        while seen["cycles"] < cycles and (until is None or time.monotonic() < until):
            for _ in kill(gateway, rng):
                end = time.monotonic() + rng.uniform(0, 0.2)
                town.settle_orders()
                while time.monotonic() < end and town.settle_orders():
                    town.interfere()
            seen["cycles"] += 1
        gateway.start()
        assert crowd.pause(time.sleep, 20 * PATIENCE), "a call hangs"
        records = town.check(crowd.told, sandbox)
        seen["answers"] += sum(t.status == 200 for t in crowd.told)
        seen["refused"] += sum(t.code == "insufficient_quota" for t in crowd.told)
        seen["records"] += len(records)
        seen["in_doubt"] += sum("in_doubt" in r["flags"] for r in records)
        seen["refunded"] += sum(Decimal(r["refunded"]) > 0 for r in records)
    finally:
        crowd.pause(time.sleep, 1)
        if gateway.running and sys.exc_info()[0] is not None:
            gateway.kill()
        town.close()
    shutil.rmtree(directory)
