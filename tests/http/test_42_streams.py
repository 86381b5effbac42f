"""Streams, the checklist's rows 65-66, 69-72 and 74: every frame as it came and when it came, the charge exact, the end honest."""

import json
import socket
import time
from decimal import Decimal

import pytest

from lib import sse
from lib.check import charges, has_request_id, is_error, money
from lib.form import content_type, file, form, text
from lib.http2 import Http2
from lib.picture import png
from lib.process import PATIENCE
from lib.sse import DONE, completed, failed, partial, stream
from lib.upstream import PIXEL, answer, error_body, images, reset, usage
from lib.wire import connect, request

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
BODY = {"model": "gpt-image-1", "prompt": "a sea otter in the morning light", "size": "1024x1024", "quality": "low", "stream": True}
USED = usage(20, 0, 272)
PRICE = "0.01098"  # 20 x 5.00 + 272 x 40.00 a million


LARGE = "QUJD" * 100_000


def spent(caller):
    return caller.credited - caller.settled()["posted"]


def read(caller, body=BODY, path=GENERATIONS, **kwargs):
    """(response, everything that came). The stream has to end properly."""
    with caller.stream(body, path, **kwargs) as reply:
        return reply, reply.read()


def streamed(caller, upstream, *frames, price=PRICE, body=BODY, path=GENERATIONS, flags=(), **script):
    """The frames come through byte for byte and the call costs exactly <price>."""
    upstream.use(stream(*frames, **script))
    with charges(caller, price):
        reply, got = read(caller, body, path)
        assert (reply.status_code, reply.headers["content-type"].split(";")[0]) == (200, "text/event-stream"), got
    assert got == b"".join(f for f in frames if isinstance(f, bytes)), got
    record = caller.records()[0]
    assert record["stream"] is True and set(record["flags"]) == set(flags), record
    return record


@pytest.mark.parametrize("count", [0, 1, 3])
def test_row_65_partial_images(caller, upstream, count):
    """An upstream's usage on `completed` already counts the partials."""
    told = usage(20, 0, 272 + 100 * count)
    price = (Decimal(20) * 5 + (272 + 100 * count) * 40) / 10**6
    record = streamed(caller, upstream, *(partial(i) for i in range(count)), completed(told), price=price, body={**BODY, "partial_images": count})
    assert (record["partial_images"], record["images"], record["image_output_tokens"]) == (count, 1, 272 + 100 * count)
    assert upstream.requests[0].json() == {**BODY, "partial_images": count}


def test_row_65_headers(caller, upstream):
    upstream.use(stream(completed(USED), Set_Cookie="a=b", OpenAI_Organization="org", X_Request_Id="req_up_1", Cache_Control="private"))
    reply, _ = read(caller)
    has_request_id(reply)
    assert reply.headers["cache-control"] == "no-cache" and reply.headers["x-upstream-request-id"] == "req_up_1"
    assert not {"set-cookie", "openai-organization"} & set(reply.headers), reply.headers
    assert caller.records()[0]["upstream_request_id"] == "req_up_1"


def test_row_65_each_event_leaves_at_once(caller, upstream):
    """A partial image is in the client's hands long before the next one is made."""
    upstream.use(stream(partial(0), 0.4, partial(1), 0.4, completed(USED), 0.4, DONE))
    arrived, got = [], b""
    with caller.stream({**BODY, "partial_images": 2}) as reply:
        begun = time.monotonic()
        for piece in reply.iter_raw():
            got += piece
            arrived += [time.monotonic() - begun] * (got.count(b"\n\n") - len(arrived))
    assert sse.kinds(got)[:3] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert arrived[0] < 0.3 * PATIENCE and arrived[1] - arrived[0] > 0.2 and arrived[2] - arrived[1] > 0.2, arrived


def test_row_65_the_completed_event_leaves_after_its_charge(caller, upstream):
    """Whoever has the picture finds it on the bill."""
    upstream.use(stream(partial(0), 0.2, completed(USED), 0.5, DONE))
    with caller.stream({**BODY, "partial_images": 1}) as reply:
        got = b""
        for piece in reply.iter_raw():
            got += piece
            if b".completed" in got and got.endswith(b"\n\n"):
                assert len(caller.records()) == 1 and caller.balance()["held"] == 0
                break
        assert b".completed" in got


def test_row_65_partial_images_are_the_upstreams_to_send(caller, upstream):
    """Fewer than asked for, as OpenAI says may happen."""
    assert streamed(caller, upstream, partial(0), completed(USED), body={**BODY, "partial_images": 3})["partial_images"] == 1


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("repeated", [False, True], ids=["each its own", "the whole in each"])
def test_row_65_several_images(caller, upstream, n, repeated):
    """Usage is told for each image, or the whole call's in each event: the customer pays what was used either way."""
    told = usage(20 * n, 0, 272 * n) if repeated else USED
    record = streamed(caller, upstream, *[completed(told)] * n, price=Decimal(PRICE) * n, body={**BODY, "n": n})
    assert (record["images"], record["image_output_tokens"], record["text_input_tokens"]) == (n, 272 * n, 20 * n)


def test_row_65_minimal_events(caller, upstream):
    """As the documentation's examples have them: no sizes, no times, the type only once."""
    plain = sse.event("image_generation.completed", {"b64_json": PIXEL, "usage": USED})
    streamed(caller, upstream, sse.event("image_generation.partial_image", {"b64_json": PIXEL, "partial_image_index": 0}), plain, body={**BODY, "partial_images": 1})


def test_row_65_the_type_inside_the_data_is_enough(caller, upstream):
    assert streamed(caller, upstream, partial(0, named=False), completed(USED, named=False), body={**BODY, "partial_images": 1})["partial_images"] == 1


def test_row_65_unknown_events_and_fields_pass(caller, upstream):
    odd = b"id: 7\nretry: 1000\nevent: image_generation.thinking\ndata: {\"type\":\"image_generation.thinking\",\"x\":[1,2.50]}\n\n"
    streamed(caller, upstream, b": hello\n\n", odd, b"data\n\n", completed(USED, later={"a": 1}), DONE)


def test_row_65_stream_false_is_no_stream(caller, upstream):
    upstream.use(answer(images(usage=USED)))
    with charges(caller, PRICE):
        assert caller.post({**BODY, "stream": False}).headers["content-type"].startswith("application/json")
    assert caller.records()[0]["stream"] is False


@pytest.mark.parametrize("streamed", [False, None])
def test_row_68_partial_images_without_a_stream(caller, upstream, streamed):
    """Whether that makes sense is the upstream's to judge; it passes as it is."""
    body = {**BODY, "stream": streamed, "partial_images": 2}
    upstream.use(answer(images(usage=USED)))
    with charges(caller, PRICE):
        assert caller.post(body).status_code == 200
    assert upstream.requests[0].json() == body and caller.records()[0]["partial_images"] == 0


def test_row_65_http2(caller, upstream):
    frames = [partial(0), completed(USED), DONE]
    upstream.use(stream(frames[0], 0.3, *frames[1:]))
    with charges(caller, PRICE), Http2(caller.gateway) as http:
        got = http.finish(http.post(GENERATIONS, {**caller.authorization, "content-type": "application/json"}, json.dumps({**BODY, "partial_images": 1}).encode()))
        assert (got.status, got.body, got.reset) == (200, b"".join(frames), None)
    assert got.arrived[0][0] < got.arrived[-1][0] - 0.15


@pytest.mark.parametrize("count", [0, 2])
def test_row_66_stream_of_an_edit(caller, upstream, count):
    told = usage(40, 194, 272 + 100 * count)
    upstream.use(stream(*(partial(i, "edit") for i in range(count)), completed(told, "edit"), DONE))
    body = form(file("image", png(64)), text("model", "gpt-image-1"), text("prompt", "a hat"), text("size", "1024x1024"), text("stream", "true"),
                text("partial_images", count))
    with charges(caller, (Decimal(40) * 5 + 194 * 10 + (272 + 100 * count) * 40) / 10**6):
        reply, got = read(caller, body, EDITS, headers={"Content-Type": content_type()})
    assert sse.kinds(got) == ["image_edit.partial_image"] * count + ["image_edit.completed", None]
    assert upstream.requests[0].body == body and caller.records()[0]["operation"] == "edits"


def test_row_66_stream_of_a_json_edit(caller, upstream):
    body = {**BODY, "images": [{"file_id": "file-1"}]}
    streamed(caller, upstream, completed(usage(40, 194, 272), "edit"), price="0.01302", body=body, path=EDITS)


@pytest.mark.parametrize("piece", [1, 2, 7, 4096])
@pytest.mark.parametrize("eol", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_row_69_any_split(caller, upstream, piece, eol):
    streamed(caller, upstream, partial(0, eol=eol), completed(USED, eol=eol), piece=piece, body={**BODY, "partial_images": 1})


def test_row_69_lone_carriage_returns(caller, upstream):
    streamed(caller, upstream, partial(0, eol="\r"), completed(USED, eol="\r"), piece=3, body={**BODY, "partial_images": 1})


def test_row_69_several_data_lines(caller, upstream):
    text_of_it = json.dumps({"type": "image_generation.completed", "b64_json": PIXEL, "usage": USED}, indent=1)
    frame = "event: image_generation.completed\n" + "".join(f"data: {line}\n" for line in text_of_it.split("\n")) + "\n"
    streamed(caller, upstream, frame.encode())


def test_row_69_thirty_megabytes_in_a_line(caller, upstream):
    frame = completed(USED, b64="QUJD" * (30 << 18))
    before = caller.gateway.rss_kib()
    streamed(caller, upstream, partial(0, b64="QUJD" * (10 << 18)), frame, piece=1 << 16, body={**BODY, "partial_images": 1})
    from lib.process import SANITIZED
    assert SANITIZED or caller.gateway.rss_kib() - before < 16 * 1024


def test_row_69_usage_in_front_of_the_picture(caller, upstream):
    frame = sse.event("image_generation.completed", {"usage": USED, "type": "image_generation.completed", "b64_json": PIXEL * 400})
    streamed(caller, upstream, frame, piece=100)


def test_row_69_what_only_looks_like_usage(caller, upstream):
    """Text inside strings, in comments and in other events is not usage."""
    fake = json.dumps({"usage": usage(0, 0, 1)})
    streamed(caller, upstream, b": " + fake.encode() + b"\n\n", sse.event("note", {"usage": usage(0, 0, 1)}), completed(USED, revised_prompt=f"\n\ndata: {fake}\n\n"))


def test_row_69_last_frame_without_its_empty_line(caller, upstream):
    """Python would drop it: it is completed."""
    upstream.use(stream(completed(USED).removesuffix(b"\n\n")))
    with charges(caller, PRICE):
        _, got = read(caller)
    assert sse.kinds(got) == ["image_generation.completed"]


@pytest.mark.parametrize("told", [None, usage(-1, 0, 272), {**USED, "total_tokens": 1}], ids=["missing", "negative", "wrong sum"])
def test_row_89_streams_without_believable_usage(caller, upstream, told):
    """Table and partials, as estimated; never less than the picture."""
    upstream.use(stream(partial(0), partial(1), completed(told)))
    _, got = read(caller, {**BODY, "partial_images": 2})
    assert len(sse.events(got)) == 3
    record = caller.records()[0]
    assert ("estimated" if told is None else "untrusted_usage") in record["flags"]
    assert record["image_output_tokens"] == 472 and Decimal("0.01888") <= spent(caller) == money(record["wholesale"]) < Decimal("0.0191")


def last_error(got):
    """An SDK raises what it finds under a top-level "error", whatever the event's name is."""
    name, body = [e for e in sse.events(got) if e[1] != "[DONE]"][-1]
    assert name is not None and "error" in body, body
    assert set(body["error"]) >= {"message", "type", "param", "code"}, body
    return body["error"]


def test_row_70_error_event(caller, upstream):
    """The upstream gave up: its word, no charge, and the hold is free."""
    frames = [partial(0), failed("The model is tired", "overloaded")]
    upstream.use(stream(*frames))
    _, got = read(caller, {**BODY, "partial_images": 1})
    assert got == b"".join(frames) and last_error(got)["code"] == "overloaded"
    assert spent(caller) == 0 and caller.balance()["available"] == 10


def test_row_70_error_after_some_images(caller, upstream):
    """Two of three came: those are paid for."""
    frames = [completed(USED), completed(USED), failed()]
    upstream.use(stream(*frames))
    _, got = read(caller, {**BODY, "n": 3})
    assert got.startswith(frames[0]) and sse.kinds(got) == ["image_generation.completed"] * 2 + ["error"]
    record = caller.records()[0]
    assert spent(caller) == 2 * Decimal(PRICE) and "fewer_images" in record["flags"] and record["images"] == 2


@pytest.mark.parametrize("cut", ["between", "inside", "inside a large one", "inside a large completed", "in the name", "reset", "length"])
def test_row_71_dies_in_mid_stream(caller, upstream, cut):
    """Every frame that came is whole and the last one is an error; a clean end, no completed event; the hold goes by the rule (released)."""
    frames = {"between": [partial(0)], "inside": [partial(0), completed(USED)[:-30]], "inside a large one": [partial(0), partial(1, b64=LARGE)[:-40], 0.1],
              "inside a large completed": [partial(0), completed(USED, b64=LARGE)[:-40], 0.1], "in the name": [partial(0), b"event: image_gen"],
              "reset": [partial(0), 0.2], "length": [partial(0)]}[cut]
    upstream.use(stream(*frames, end=False, after={"reset": reset, "length": lambda conn: conn.sendall(b"ffff\r\nabc")}.get(cut)))
    _, got = read(caller, {**BODY, "partial_images": 1})
    events = sse.events(got)
    assert events[0][0] == "image_generation.partial_image"
    assert last_error(got)["code"] == "upstream_error" and len(events) == 2
    assert spent(caller) == 0 and "in_doubt" in caller.records()[0]["flags"]


def test_row_71_dies_after_the_completed_event(caller, upstream):
    """All was delivered: charged, and the client has what it paid for."""
    upstream.use(stream(completed(USED), end=False, after=reset))
    with charges(caller, PRICE):
        _, got = read(caller)
    assert sse.kinds(got)[0] == "image_generation.completed"


def test_row_71_dies_after_some_images(caller, upstream):
    upstream.use(stream(completed(USED), 0.1, end=False, after=reset))
    _, got = read(caller, {**BODY, "n": 2})
    assert sse.kinds(got) == ["image_generation.completed", "error"]
    assert spent(caller) == Decimal(PRICE) and "fewer_images" in caller.records()[0]["flags"]


def test_row_71_ends_without_completed(caller, upstream):
    """A whole stream with nothing to pay for at its end: an error, not silence."""
    upstream.use(stream(partial(0), DONE))
    _, got = read(caller, {**BODY, "partial_images": 1})
    assert last_error(got)["code"] in ("upstream_invalid_response", "upstream_error")
    assert spent(caller) == 0


def test_row_72_keep_alive_comments(caller, upstream):
    """Silence of more than 15 s: a comment that every SDK passes over."""
    upstream.use(stream(partial(0), 17, completed(USED)))
    _, got = read(caller, {**BODY, "partial_images": 1})
    assert [e for e in sse.parse(got) if e[0] == ":"] == [(":", "keep-alive")], got
    assert got.replace(b": keep-alive\n\n", b"") == partial(0) + completed(USED) and spent(caller) == Decimal(PRICE)


@pytest.mark.parametrize("rst", [False, True], ids=["fin", "rst"])
def test_row_74_gone_in_mid_stream(caller, upstream, rst):
    """The upstream is read to its end: the picture was made and is paid for, once."""
    upstream.use(stream(partial(0), 0.5, partial(1, b64="QUJD" * 200_000), completed(USED), DONE))
    sock = connect(caller.gateway)
    sock.sendall(request("POST", GENERATIONS, {**caller.authorization, "Content-Type": "application/json"}, json.dumps({**BODY, "partial_images": 2}).encode()))
    got = b""
    while b"partial_image" not in got:
        got += sock.recv(65536)
    if rst:
        reset(sock)
    else:
        sock.shutdown(socket.SHUT_WR)
        sock.close()
    record = caller.gateway.wait_for(lambda: (r := caller.records()) and r[0], "a usage record")
    assert spent(caller) == Decimal(PRICE) and "client_gone" in record["flags"] and len(caller.records()) == 1


def test_done_and_what_comes_after_it(caller, upstream):
    """After the last completed event nobody waits for an upstream that keeps its connection open."""
    upstream.use(stream(completed(USED), 8, DONE))
    begun = time.monotonic()
    with charges(caller, PRICE):
        _, got = read(caller)
    assert sse.kinds(got)[0] == "image_generation.completed" and time.monotonic() - begun < 4 * PATIENCE


@pytest.mark.parametrize("script, status, code", [
    (answer(error_body("no", code="moderation_blocked"), 400), 400, "moderation_blocked"), (answer("<html>", 502, "text/html"), 502, "upstream_error"),
    (answer(images(usage=USED)), 502, "upstream_invalid_response"), (answer(error_body("slow down", "requests"), 429), 503, "no_channel_available"),
    (answer(completed(USED), content_type="text/plain"), 502, "upstream_invalid_response")], ids=["400", "502", "JSON", "429", "text"])
def test_no_stream_came(caller, upstream, script, status, code):
    """SDKs would yield nothing at all from a JSON body: it is an error, with a status."""
    upstream.use(script)
    reply = caller.post(BODY)
    is_error(reply, status, code)
    assert spent(caller) == 0
    assert (reply.headers.get("x-should-retry") == "false") == (code == "upstream_invalid_response")


def test_a_stream_that_nobody_asked_for(caller, upstream):
    upstream.use(stream(completed(USED)))
    reply = caller.post({**BODY, "stream": None})
    is_error(reply, 502, "upstream_invalid_response")
    assert reply.headers["x-should-retry"] == "false" and spent(caller) == 0


@pytest.mark.parametrize("headers", [{}, {"Accept": "application/json"}, {"Accept": "text/event-stream"}, {"Accept": "*/*"}])
def test_what_decides_is_the_body(caller, upstream, headers):
    """SDKs send Accept: application/json with streams, too."""
    upstream.use(stream(completed(USED)))
    reply, got = read(caller, headers=headers)
    assert reply.headers["content-type"].startswith("text/event-stream") and sse.kinds(got) == ["image_generation.completed"]
