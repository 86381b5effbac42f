"""The grammar of multipart bodies, the checklist's rows 51-58 and 60-61: one reading, or a refusal."""

import gzip
import random
import shutil
import subprocess

import pytest

from lib.check import charges, is_error, untouched
from lib.form import BOUNDARY, content_type, file, form, parse, text
from lib.picture import png
from lib.process import PATIENCE
from lib.upstream import answer, images, usage
from lib.wire import exchange, request

EDITS = "/v1/images/edits"
OTTER = png(64)
G = [text("model", "gpt-image-1"), text("prompt", "a hat for the otter"), text("size", "1024x1024"), text("quality", "low")]
USED = usage(40, 194, 272)
PRICE = "0.01302"


def passes(caller, upstream, body, price=PRICE, kind=None, **kwargs):
    """Read as one call, charged exactly, forwarded untouched."""
    upstream.use(answer(images(usage=USED)))
    with charges(caller, price):
        reply = caller.form(body=body, kind=kind, **kwargs)
        assert reply.status_code == 200, reply.text
    assert upstream.requests[0].body == body
    return upstream.requests[0]


def refused(caller, upstream, body, code="any", param="any", kind=None, status=400, **kwargs):
    upstream.use(answer(images(usage=USED)))
    with untouched(caller, upstream):
        is_error(caller.form(body=body, kind=kind, **kwargs), status, code, param=param)


def curl(caller, *args, **kwargs):
    """(status, everything that curl printed)"""
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    done = subprocess.run(["curl", "-sS", "-w", "\n%{http_code}", "-H", f"Authorization: Bearer {caller.secret}", *args, caller.gateway.public_url + EDITS],
                          capture_output=True, text=True, timeout=60 * PATIENCE, **kwargs)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.rsplit("\n", 1)[1]), done.stdout


def test_row_51_curls_nested_lists(caller, upstream, tmp_path):
    """-F "image[]=@a,b" is one part of type multipart/mixed: two images, each looked at for itself."""
    (tmp_path / "a.png").write_bytes(OTTER)
    (tmp_path / "b.png").write_bytes(png(32))
    upstream.use(answer(images(usage=USED)))
    with charges(caller, PRICE):
        status, said = curl(caller, "-F", f"image[]=@{tmp_path}/a.png,{tmp_path}/b.png", "-F", "model=gpt-image-1", "-F", "prompt=a hat", "-F", "size=1024x1024")
        assert status == 200, said
    assert b"multipart/mixed" in upstream.requests[0].body and upstream.requests[0].body.count(OTTER) == 1


def nested(*pieces, name="image[]", inner="inner"):
    mark = f"--{inner}\r\n".encode()
    return f'Content-Disposition: form-data; name="{name}"\r\nContent-Type: multipart/mixed; boundary={inner}\r\n\r\n'.encode() + \
        b"".join(mark + p + b"\r\n" for p in pieces) + f"--{inner}--\r\n".encode()


def attachment(data):
    return b'Content-Disposition: attachment; filename="a.png"\r\nContent-Type: image/png\r\n\r\n' + data


def test_row_51_seventeen_nested(caller, upstream):
    refused(caller, upstream, form(*G, nested(*[attachment(OTTER)] * 17)), param="image")
    passes(caller, upstream, form(*G, nested(*[attachment(OTTER)] * 16)))


@pytest.mark.parametrize("piece", [nested(attachment(b"")), nested(attachment(OTTER), attachment(OTTER), name="image"), nested(nested(attachment(OTTER))),
                                   nested(attachment(OTTER))[:-9], nested(attachment(OTTER), name="model")],
                         ids=["empty", "two as image", "two levels", "not closed", "model"])
def test_row_51_bad_nesting(caller, upstream, piece):
    refused(caller, upstream, form(*G[1:], piece))


@pytest.mark.parametrize("kind", [f'multipart/form-data; boundary="{BOUNDARY}"', f"Multipart/Form-Data;boundary={BOUNDARY}", f"multipart/form-data; charset=utf-8; boundary={BOUNDARY}",
                                  f"multipart/form-data; BOUNDARY={BOUNDARY}", f'multipart/form-data; boundary="{BOUNDARY}"; charset=utf-8'])
def test_row_52_spellings_of_a_boundary(caller, upstream, kind):
    asked = passes(caller, upstream, form(*G, file("image", OTTER)), kind=kind)
    assert asked.headers["content-type"] == kind


def test_row_52_seventy_characters(caller, upstream):
    for length, good in ((1, True), (70, True), (71, False), (200, False)):
        body = form(*G, file("image", OTTER), boundary="b" * length)
        (passes if good else refused)(caller, upstream, body, kind=content_type("b" * length))


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary=""', 'multipart/form-data; boundary="x',
                                  f"multipart/form-data; boundary={BOUNDARY}; boundary=other", f'multipart/form-data; boundary="{BOUNDARY} "',
                                  "multipart/form-data; boundary=bä", "multipart/form-data; boundary={}", "multipart/mixed; boundary=" + BOUNDARY])
def test_row_52_bad_boundaries(caller, upstream, kind):
    refused(caller, upstream, form(*G, file("image", OTTER)), headers={"Content-Type": kind.encode()})


MARK = b"--" + BOUNDARY.encode()


@pytest.mark.parametrize("inside", [b"\r\n" + MARK[:-1], MARK, MARK + b"--", b"\r\n\r\n" + MARK[:-1] + b"\r\n--", b"\r\n--\r\n-", b"\r", b"\r\n", b"\r\n-", b"\r\r\n" + MARK[:-2],
                                    b"\r\n " + MARK, b"\r\nx" + MARK + b"\r\n"])
def test_row_53_what_looks_like_a_boundary(caller, upstream, inside):
    """Content, at its beginning, in its middle and at its end."""
    picture = OTTER + inside + b"middle" + inside
    asked = passes(caller, upstream, form(file("image", picture), *G))
    assert parse(asked.headers["content-type"], asked.body)[0].data == picture


@pytest.mark.parametrize("inside", [b"\r\n" + MARK + b"x", b"\r\n" + MARK + b"-\r\n", b"\n" + MARK + b"\r\n", b"\n" + MARK + b"--\n", b"\r\n" + MARK + b"\n"])
def test_row_53_what_some_would_take_for_a_boundary(caller, upstream, inside):
    """Parsers differ here: an upstream might find other parts than were priced, so it is refused."""
    refused(caller, upstream, form(file("image", OTTER + inside + b"middle"), *G))


@pytest.mark.parametrize("cut", [1, 2, 4, 40, len(form(*G)) // 2])
def test_row_54_cut_off(caller, upstream, cut):
    body = form(file("image", OTTER), *G).removesuffix(b"\r\n")
    refused(caller, upstream, body[:-cut])
    passes(caller, upstream, body)


def test_row_54_preamble_and_epilogue(caller, upstream):
    body = form(*G, file("image", OTTER))
    passes(caller, upstream, b"This is a preamble.\r\n--almost\r\n" + body)
    passes(caller, upstream, b"\r\n" + body)
    passes(caller, upstream, body + b"an epilogue\r\n--almost\r\n")
    refused(caller, upstream, body + b"\r\n".join([b"", MARK, text("n", 9), MARK + b"--", b""]))


def test_row_54_bare_line_feeds(caller, upstream):
    refused(caller, upstream, form(*G, file("image", b"x")).replace(b"\r\n", b"\n"))
    refused(caller, upstream, b"")
    refused(caller, upstream, b"hello")
    refused(caller, upstream, f"--{BOUNDARY}--\r\n".encode())


@pytest.mark.parametrize("filename", ["we%22ird ä.png", "../../etc/passwd", "x" * 4000 + ".png", "", r"a\"b.png", "C:\\a.png", "a;b=c.png", "\u202egnp.a"])
def test_row_55_file_names_are_only_forwarded(caller, upstream, filename):
    passes(caller, upstream, form(*G, file("image", OTTER, filename)))


def test_row_55_no_file_name_is_no_file(caller, upstream):
    refused(caller, upstream, form(*G, file("image", OTTER, None)), "invalid_type", "image")


def test_row_55_extended_names(caller, upstream):
    odd = b"Content-Disposition: form-data; name=\"image\"; filename*=UTF-8''a.png; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n" + OTTER
    passes(caller, upstream, form(*G, odd))
    refused(caller, upstream, form(*G, odd.replace(b'name="image"', b"name*=UTF-8''image")))


def test_row_56_what_is_priced_may_come_last(caller, upstream):
    upstream.use(answer(images(3)))
    body = form(file("image", OTTER), text("prompt", "x"), text("n", 3), text("size", "512x512"), text("model", "dall-e-2"))
    with charges(caller, "0.054"):
        assert caller.form(body=body).status_code == 200
    record = caller.records()[0]
    assert (record["n"], record["model"], record["size"], record["images"]) == (3, "dall-e-2", "512x512", 3)


def test_row_56_any_order(caller, upstream):
    shuffle = random.Random(56).shuffle
    for _ in range(6):
        parts = [*G, file("image", OTTER), text("n", 1), text("user", "u")]
        shuffle(parts)
        passes(caller, upstream, form(*parts))


@pytest.mark.parametrize("n", ["2abc", " 2", "2 ", "+2", "０２", "2.0", "1e1", "0x2", "", "true", "99999999999999999999", "-1", "0", "11", "02"])
def test_row_57_n_is_a_plain_number(caller, upstream, n):
    refused(caller, upstream, form(*G, file("image", OTTER), text("n", n)), param="n")


@pytest.mark.parametrize("name", ["n", "model", "size", "quality", "stream", "partial_images", "prompt", "input_fidelity"])
def test_row_57_scalars_twice(caller, upstream, name):
    value = {"n": 1, "model": "gpt-image-1", "size": "1024x1024", "quality": "low", "stream": "false", "partial_images": 0, "prompt": "x", "input_fidelity": "low"}[name]
    rest = [p for p in G if b'"' + name.encode() + b'"' not in p]
    refused(caller, upstream, form(*rest, file("image", OTTER), text(name, value), text(name, value)), "duplicate_parameter", name)


@pytest.mark.parametrize("name", ["N", "n[]", "n ", "Model", "SIZE", "image[0]", "images"])
def test_row_57_look_alikes(caller, upstream, name):
    """An upstream with another reading of names must not find another n than was priced: refused, or not what it looks like."""
    upstream.use(answer(images(usage=USED)))
    reply = caller.form(*G, file("image", OTTER), text(name, "2"))
    assert reply.status_code in (200, 400), reply.text
    if reply.status_code == 200:
        assert name in ("image[0]", "images")
    else:
        assert upstream.requests == [] and caller.settled()["posted"] == caller.credited


@pytest.mark.parametrize("name, value, code", [("stream", "yes", "any"), ("stream", "True", "any"), ("partial_images", "4", "any"), ("partial_images", "x", "any"), ("size", "1x1", "invalid_value"),
                                               ("prompt", b"\xff\xfe", "any"), ("model", b"gpt-image-1\0", "any"), ("prompt", "x" * 32001, "string_above_max_length")])
def test_row_57_other_scalars(caller, upstream, name, value, code):
    rest = [p for p in G if b'"' + name.encode() + b'"' not in p]
    upstream.use(answer(images(usage=USED)))
    with untouched(caller, upstream):
        reply = caller.form(*rest, file("image", OTTER), text(name, value))
        assert reply.status_code in (400, 404), reply.text
        is_error(reply, reply.status_code, code)


def test_row_58_ten_thousand_parts(caller, upstream):
    before = caller.gateway.rss_kib()
    refused(caller, upstream, form(*G, *[text("user", "x")] * 10_000))
    refused(caller, upstream, form(*G, *[text(f"x{i}", "x") for i in range(10_000)]))
    refused(caller, upstream, form(*G, file("image", OTTER), nested(*[attachment(b"x")] * 10_000, name="other")))
    from lib.process import SANITIZED
    assert SANITIZED or caller.gateway.rss_kib() - before < 16 * 1024


@pytest.mark.parametrize("head", [b'Content-Disposition: form-data; name="image"; filename="a.png"\r\nX-Big: ' + b"y" * 65536, b'Content-Disposition: form-data; name="' + b"n" * 65536 + b'"',
                                  b'Content-Disposition: form-data; name="user"\r\n' + b"X: y\r\n" * 20_000 + b"Z: 1", b"X: y", b'Content-Disposition: form-data; name=""; name="n"',
                                  b'Content-Disposition: form-data; name="n"; name="m"', b'Content-Disposition: form-data; name="n"\r\nContent-Disposition: form-data; name="m"',
                                  b'Content-Disposition: form-data; name="n"\r\nContent-Transfer-Encoding: base64', b'Content-Disposition: form-data; name="n'],
                         ids=["64 KiB", "name", "lines", "no name", "empty name", "two names", "two dispositions", "base64", "open quote"])
def test_row_58_part_heads(caller, upstream, head):
    refused(caller, upstream, form(*G, file("image", OTTER), head + b"\r\n\r\n1"))


def test_row_58_a_head_that_never_ends(caller, upstream):
    refused(caller, upstream, form(*G) + f"--{BOUNDARY}\r\n".encode() + b"x" * (4 << 20))


def test_row_60_chunked_with_extensions_and_trailers(caller, upstream):
    """The framing goes, the body stays."""
    body = form(file("image", OTTER), *G)
    chunks = b"".join(b"%x;name=\"va;lue\"\r\n" % len(body[i:i + 50]) + body[i:i + 50] + b"\r\n" for i in range(0, len(body), 50))
    headers = {**caller.authorization, "Content-Type": content_type(), "Transfer-Encoding": "chunked", "Trailer": "X-Sum"}
    upstream.use(answer(images(usage=USED)))
    with charges(caller, PRICE):
        reply = exchange(caller.gateway, request("POST", EDITS, headers) + chunks + b"0\r\nX-Sum: 1\r\nAuthorization: Bearer sk-evil\r\n\r\n")
        assert reply.status == 200, reply
    asked = upstream.requests[0]
    assert asked.body == body and "x-sum" not in asked.headers and asked.headers["authorization"].endswith("-0001")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "GZIP", "gzip, identity"])
@pytest.mark.parametrize("path", [EDITS, "/v1/images/generations", "/v1/images/variations"])
def test_row_61_encoded_bodies(caller, upstream, encoding, path):
    """What cannot be read cannot be priced."""
    upstream.use(answer(images()))
    with untouched(caller, upstream):
        kind = "application/json" if path.endswith("generations") else content_type()
        reply = caller.post(gzip.compress(form(*G, file("image", OTTER))), path=path, headers={"Content-Type": kind, "Content-Encoding": encoding})
        assert reply.status_code in (400, 415), reply.text
        is_error(reply, reply.status_code)


def test_row_61_identity_is_no_encoding(caller, upstream):
    passes(caller, upstream, form(*G, file("image", OTTER)), headers={"Content-Encoding": "identity"})


def test_any_split(caller, upstream):
    """One body, cut into segments at every place that matters: the same call."""
    from lib.sse import nodelay
    from lib.wire import connect, read_reply
    body = form(*G, file("image", OTTER + b"\r\n--" + BOUNDARY[:-1].encode()))
    cuts = sorted({at + d for at in range(len(body)) if body.startswith(b"\r\n--", at) for d in range(-1, len(BOUNDARY) + 8, 3)})
    data = request("POST", EDITS, {**caller.authorization, "Content-Type": content_type()}, body)
    start = len(data) - len(body)
    upstream.use(answer(images(usage=USED)))
    with charges(caller, "%.5f" % (float(PRICE) * 2), records=2):
        for step in (1, 2):
            with connect(caller.gateway) as sock:
                nodelay(sock)
                at = 0
                for cut in [start + c for c in cuts[::step]] + [len(data)]:
                    sock.send(data[at:cut])
                    at = cut
                assert read_reply(sock).status == 200
    assert [r.body for r in upstream.requests] == [body, body]
