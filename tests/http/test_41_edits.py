"""Edits and variations, the checklist's rows 34-46 and 62-64: what is refused, what goes upstream byte for byte, what is charged."""

import base64
import json

import pytest

from lib.admin import Account
from lib.check import charges, is_error, money, untouched
from lib.form import content_type, file, form, names, parse, text
from lib.picture import jpeg, png, webp
from lib.upstream import answer, error_body, images, usage

EDITS, VARIATIONS = "/v1/images/edits", "/v1/images/variations"
OTTER = png(64)
G = [text("model", "gpt-image-1"), text("prompt", "a hat for the otter"), text("size", "1024x1024"), text("quality", "low")]
D = [text("model", "dall-e-2"), text("prompt", "a hat for the otter"), text("size", "256x256")]
USED = usage(40, 194, 272)
PRICE = "0.01302"  # 40 x 5.00 + 194 x 10.00 + 272 x 40.00 a million


def good(caller, upstream, body, price, path=EDITS, kind=None, reply=None, **kwargs):
    """200, charged exactly; the upstream got the same bytes under the same Content-Type. The request it got."""
    upstream.use(answer(reply or images(usage=USED)))
    with charges(caller, price):
        got = caller.form(body=body, path=path, kind=kind, **kwargs)
        assert got.status_code == 200, got.text
        assert money(got.headers["tallygate-charge"]) == money(price)
    assert len(upstream.requests) == 1
    asked = upstream.requests[0]
    assert (asked.method, asked.path) == ("POST", path)
    assert asked.body == body and asked.headers["content-type"] == (kind or content_type())
    assert int(asked.headers["content-length"]) == len(body) and "transfer-encoding" not in asked.headers
    return asked


def refused(caller, upstream, body, code="any", param="any", status=400, path=EDITS, message=None, **kwargs):
    upstream.use(answer(images()))
    with untouched(caller, upstream):
        reply = caller.form(body=body, path=path, **kwargs)
        return is_error(reply, reply.status_code if status is None else status, code, param=param, message=message)


def relayed(caller, upstream, body, code, param, message="no", path=EDITS):
    """The upstream judged: its own words come back, the whole hold is free again."""
    before, had = caller.settled(), caller.records()
    text_of_it = json.dumps(error_body(message, param=param, code=code), indent=2) + "\n"
    upstream.use(answer(text_of_it, status=400))
    reply = caller.form(body=body, path=path)
    assert (reply.status_code, reply.text) == (400, text_of_it)
    assert upstream.requests[0].body == body
    assert caller.settled() == before and caller.records() == had


def test_row_34_chunked_upload_as_node_streams_it(caller, upstream):
    """No length, one HTTP chunk a fragment, application/octet-stream: forwarded with a length."""
    body = form(file("image", OTTER, "otter.png", "application/octet-stream"), *G, boundary="openai-1q2w3e4r5t6")

    def fragments():
        for at in range(0, len(body), 97):
            yield body[at:at + 97]
    upstream.use(answer(images(usage=USED)))
    kind = content_type("openai-1q2w3e4r5t6")
    with charges(caller, PRICE):
        assert caller.post(None, path=EDITS, content=fragments(), headers={"Content-Type": kind}).status_code == 200
    asked = upstream.requests[0]
    assert asked.body == body and asked.headers["content-type"] == kind and int(asked.headers["content-length"]) == len(body)


def test_row_34_the_mime_type_is_the_upstreams_to_judge(caller, upstream):
    relayed(caller, upstream, form(file("image", OTTER, type="application/octet-stream"), *G), "unsupported_file_mimetype", "image",
            "Invalid file 'image': unsupported mimetype ('application/octet-stream').")
    relayed(caller, upstream, form(file("image", OTTER, type=None), *G), "missing_file_mimetype", "image")


@pytest.mark.parametrize("filename, kind, picture", [("otter.png", "image/png", OTTER), ("otter.jpg", "image/jpeg", jpeg(800, 600)),
                                                     ("otter.webp", "image/webp", webp(640, 480)), ("x", "image/gif", b"GIF89a\x10\0\x10\0\0\0\0;")])
def test_row_35_part_headers_are_kept(caller, upstream, filename, kind, picture):
    asked = good(caller, upstream, form(*G, file("image", picture, filename, kind)), PRICE)
    part = parse(asked.headers["content-type"], asked.body)[-1]
    assert (part.name, part.filename, part.type, part.data) == ("image", filename, kind, picture)


def test_row_36_four_images_in_order(caller, upstream):
    pictures = [png(16 * i) for i in range(1, 5)]
    body = form(*(file("image[]", p, f"{i}.png") for i, p in enumerate(pictures)), *G)
    told = usage(40, 4 * 194, 272)
    asked = good(caller, upstream, body, "0.01884", reply=images(usage=told))
    parts = parse(asked.headers["content-type"], asked.body)
    assert [p.data for p in parts if p.name == "image[]"] == pictures
    record = caller.records()[0]
    assert (record["operation"], record["image_input_tokens"], record["n"]) == ("edits", 776, 1)


def test_row_37_a_list_of_one(caller, upstream):
    good(caller, upstream, form(*G, file("image[]", OTTER)), PRICE)


def test_row_38_image_twice(caller, upstream):
    refused(caller, upstream, form(*G, file("image", OTTER), file("image", OTTER)), "duplicate_parameter", "image",
            message=r"^Duplicate parameter: 'image'\.")


@pytest.mark.parametrize("order", [1, -1])
def test_row_39_image_and_image_list(caller, upstream, order):
    refused(caller, upstream, form(*G, *[file("image", OTTER), file("image[]", OTTER)][::order]))


def test_row_40_seventeen_images(caller, upstream):
    refused(caller, upstream, form(*G, *[file("image[]", OTTER)] * 17), param="image")
    good(caller, upstream, form(*G, *[file("image[]", OTTER)] * 16), PRICE)


def test_row_41_mask(caller, upstream):
    """Forwarded where it stands; whether it fits is the upstream's to judge."""
    body = form(file("mask", png(64), "mask.png"), *G, file("image[]", OTTER))
    assert names(parse(content_type(), good(caller, upstream, body, PRICE).body))[0] == "mask"
    good(caller, upstream, form(file("image", OTTER), file("mask", png(64)), *D), "0.016", reply=images())
    relayed(caller, upstream, form(file("image", OTTER), file("mask", png(32)), *G), "invalid_image_file", "image",
            "Invalid image file or mode for image 2, please check your image file.")


def test_row_41_two_masks(caller, upstream):
    refused(caller, upstream, form(file("image", OTTER), file("mask", OTTER), file("mask", OTTER), *G), "duplicate_parameter", "mask")


@pytest.mark.parametrize("parts", [G, [*G, file("mask", OTTER)], [*G, file("picture", OTTER)]])
def test_row_42_no_image(caller, upstream, parts):
    refused(caller, upstream, form(*parts), "missing_required_parameter", "image", message=r"^Missing required parameter: 'image'\.$")


def test_row_42_no_prompt(caller, upstream):
    refused(caller, upstream, form(G[0], file("image", OTTER)), "missing_required_parameter", "prompt")


@pytest.mark.parametrize("field", ["image", "image[]"])
def test_row_43_image_as_text(caller, upstream, field):
    refused(caller, upstream, form(*G, text(field, "https://example.com/a.png")), "invalid_type", "image")


def test_row_44_no_png_at_all(caller, upstream):
    """Held at the dearest that an unreadable picture can be, and free again when the upstream says no."""
    relayed(caller, upstream, form(*G, file("image", b"MZ\x90" + bytes(500), "a.png")), "invalid_image_file", "image",
            "Invalid image file or mode for image 1, please check your image file.")
    good(caller, upstream, form(*G, file("image", b"\x89PNG\r\n\x1a\n" + b"\xff" * 40)), PRICE)


@pytest.mark.parametrize("field", ["image", "image[]", "mask"])
def test_row_45_nothing_in_it(caller, upstream, field):
    parts = [file(field, b"")] + ([file("image", OTTER)] if field == "mask" else [])
    refused(caller, upstream, form(*G, *parts), param=field.rstrip("[]"))


MIB = 1 << 20


@pytest.mark.parametrize("field", ["image", "mask"])
@pytest.mark.parametrize("first", [True, False], ids=["model first", "model last"])
def test_row_46_four_mib_for_dall_e_2(caller, upstream, field, first):
    """At the limit exactly it passes, a byte more is refused, wherever the model stands."""
    def body(length):
        files = [file(field, png(64, length=length))] + ([file("image", OTTER)] if field == "mask" else [])
        return form(*D, *files) if first else form(*files, *D)
    refused(caller, upstream, body(4 * MIB + 1), param=field, status=None)
    good(caller, upstream, body(4 * MIB), "0.016", reply=images())


def test_row_46_fifty_mib_for_gpt_image(caller, upstream):
    refused(caller, upstream, form(*G, file("image", png(64, length=50 * MIB + 1))), param="image", status=None)
    good(caller, upstream, form(file("image", png(64, length=50 * MIB)), *G), PRICE)


# ---- edits as JSON ----

J = {"model": "gpt-image-1", "prompt": "a hat for the otter", "size": "1024x1024", "quality": "low"}
DATA_URL = "data:image/png;base64," + base64.b64encode(OTTER).decode()


def as_json(caller, upstream, body, price=PRICE, reply=None):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    upstream.use(answer(reply or images(usage=USED)))
    with charges(caller, price):
        got = caller.post(body, path=EDITS)
        assert got.status_code == 200, got.text
    assert upstream.requests[0].body == body and upstream.requests[0].headers["content-type"] == "application/json"


def refused_json(caller, upstream, body, code="any", param="any", status=400):
    upstream.use(answer(images()))
    with untouched(caller, upstream):
        is_error(caller.post(body if isinstance(body, bytes) else json.dumps(body).encode(), path=EDITS), status, code, param=param)


@pytest.mark.parametrize("item", [{"image_url": DATA_URL}, {"image_url": "https://example.com/otter.png"}, {"file_id": "file-abc123"}],
                         ids=["data", "http", "file"])
@pytest.mark.parametrize("mask", [False, True], ids=["", "mask"])
def test_row_62_json_edit(caller, upstream, item, mask):
    as_json(caller, upstream, {**J, "images": [item], **({"mask": item} if mask else {}), "moderation": "low", "zz": [1]})
    assert caller.records()[0]["operation"] == "edits"


def test_row_62_nothing_is_fetched(caller, upstream):
    """A URL that would come back to this very upstream."""
    as_json(caller, upstream, {**J, "images": [{"image_url": f"http://127.0.0.1:{upstream.port}/a.png"}]})
    assert upstream.started == 1


@pytest.mark.parametrize("count", [16, 17, 0])
def test_row_62_how_many(caller, upstream, count):
    body = {**J, "images": [{"file_id": f"file-{i}"} for i in range(count)]}
    if count == 16:
        as_json(caller, upstream, body)
    else:
        refused_json(caller, upstream, body, param="images")


def test_row_62_length_of_a_url(caller, upstream):
    def body(length):
        return {"images": [{"image_url": (DATA_URL + "A" * length)[:length]}], **J}
    as_json(caller, upstream, body(20971520))
    refused_json(caller, upstream, body(20971521))


@pytest.mark.parametrize("item", [{"image_url": DATA_URL, "file_id": "file-1"}, {}, {"image_url": None}, {"image_url": 5}, {"file_id": []}, "x", 5, None, []])
def test_row_63_one_source_exactly(caller, upstream, item):
    refused_json(caller, upstream, {**J, "images": [item]})
    refused_json(caller, upstream, {**J, "images": [{"file_id": "file-1"}], "mask": item if item is not None else 5})


@pytest.mark.parametrize("body, code, param", [
    (J, "missing_required_parameter", "images"), ({**J, "images": "x"}, "invalid_type", "images"), ({**J, "images": {}}, "invalid_type", "images"),
    ({"images": [{"file_id": "file-1"}]}, "missing_required_parameter", "prompt"), ({**J, "images": [{"file_id": "f"}], "n": 11}, "integer_above_max_value", "n"),
    ({**J, "images": [{"file_id": "f"}], "input_fidelity": "medium"}, "invalid_value", "input_fidelity")])
def test_row_62_validated_like_a_generation(caller, upstream, body, code, param):
    refused_json(caller, upstream, body, code, param)


@pytest.mark.parametrize("body", [b'{"images":[{"image_url":"data:image/png;base64,AAAA","image_url":"https://x/y"}],"prompt":"x"}',
                                  b'{"images":[{"file_id":"a"}],"images":[{"file_id":"b"}],"prompt":"x"}',
                                  b'{"images":[{"image_url":"data:image/png;base64,' + b"A" * 300000 + b'\xff"}],"prompt":"x"}',
                                  b'{"images":[{"image_url":"data:image/png;base64,' + b"A" * 300000 + b'\n"}],"prompt":"x"}',
                                  b'{"images":[{"image_url":"' + b"A" * 300000 + b'"}]],"prompt":"x"}'],
                         ids=["source twice", "images twice", "no UTF-8", "control character", "grammar"])
def test_row_62_every_byte_is_checked(caller, upstream, body):
    """Also inside the strings that are too long to keep."""
    refused_json(caller, upstream, body)


# ---- variations ----

V = [text("model", "dall-e-2"), text("size", "256x256")]


@pytest.mark.parametrize("more, price, count", [([], "0.016", 1), ([text("n", 2)], "0.032", 2), ([text("response_format", "b64_json"), text("user", "u")], "0.016", 1)])
def test_row_64_variations(caller, upstream, more, price, count):
    good(caller, upstream, form(file("image", OTTER), *V, *more), price, path=VARIATIONS, reply=images(count))
    record = caller.records()[0]
    assert (record["operation"], record["model"], record["size"], record["images"]) == ("variations", "dall-e-2", "256x256", count)


@pytest.mark.parametrize("parts, code, param", [
    (V, "missing_required_parameter", "image"), ([*V, file("image", OTTER), file("image", OTTER)], "duplicate_parameter", "image"),
    ([*V, file("image", OTTER), text("n", 11)], "integer_above_max_value", "n"), ([V[0], file("image", OTTER), text("size", "256x257")], "invalid_value", "size"),
    ([*V, text("image", "x")], "invalid_type", "image")])
def test_row_64_bad_variations(caller, upstream, parts, code, param):
    refused(caller, upstream, form(*parts), code, param, path=VARIATIONS)


def test_row_64_variations_are_forms(caller, upstream):
    with untouched(caller, upstream):
        is_error(caller.post({"model": "dall-e-2"}, path=VARIATIONS), 400, "unsupported_content_type")


# ---- the model's name ----

@pytest.fixture(scope="module")
def renamed(bare_gateway, upstream, world):
    """Models that the upstream knows under other names, longer and shorter."""
    bare_gateway.channel(upstream, name="renamed", models={"gpt-image-1-mini": "their-much-longer-deployment-name-for-it", "gpt-image-1.5": "x"})
    return bare_gateway


@pytest.mark.parametrize("model, sent", [("gpt-image-1-mini", b"their-much-longer-deployment-name-for-it"), ("gpt-image-1.5", b"x")])
@pytest.mark.parametrize("size", [100, 600_000], ids=["small", "spooled"])
@pytest.mark.parametrize("last", [True, False], ids=["model last", "model first"])
def test_only_the_models_name_changes(renamed, upstream, model, sent, size, last):
    caller = Account(renamed)
    parts = [file("image", png(64, length=size + 1000)), text("prompt", f"{model} is a fine model"), text("size", "1024x1024"), text("quality", "low")]
    body = form(*(parts + [text("model", model)] if last else [text("model", model)] + parts))
    upstream.use(answer(images(usage=USED)))
    assert caller.form(body=body).status_code == 200
    field = b'name="model"\r\n\r\n'
    assert upstream.requests[0].body == body.replace(field + model.encode(), field + sent)
    assert caller.records()[0]["model"] == model


@pytest.mark.parametrize("path, parts", [(EDITS, [text("prompt", "x"), text("size", "256x256")]), (VARIATIONS, [text("size", "256x256")])])
@pytest.mark.parametrize("preamble", [b"", b"a preamble\r\n"])
def test_a_model_left_out_is_put_in(caller, upstream, path, parts, preamble):
    """dall-e-2, sent explicitly; every other part stays as it was."""
    parts = [file("image", OTTER), *parts]
    upstream.use(answer(images()))
    with charges(caller, "0.016"):
        assert caller.form(body=preamble + form(*parts), path=path).status_code == 200
    asked = upstream.requests[0]
    got = parse(asked.headers["content-type"], asked.body[asked.body.index(b"--"):])
    assert [p.data for p in got if p.name == "model"] == [b"dall-e-2"]
    assert [p for p in got if p.name != "model"] == parse(content_type(), form(*parts))


def test_a_model_left_out_of_a_json_edit(caller, upstream):
    """What dall-e-2 makes of it is the upstream's to say."""
    upstream.use(answer(error_body("no", param="images", code="unknown_parameter"), status=400))
    reply = caller.post({"prompt": "x", "images": [{"file_id": "file-1"}]}, path=EDITS)
    assert reply.status_code == 400
    if upstream.requests:
        assert upstream.requests[0].json()["model"] == "dall-e-2"
    assert caller.settled()["posted"] == caller.credited
