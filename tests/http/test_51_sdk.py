"""The official SDKs, unchanged: edits, variations, streams and models; every way to hand a picture over."""

import asyncio
import base64
import io
import json

import openai
import pytest

from lib import node
from lib.check import charges, has_request_id, money, untouched
from lib.picture import png
from lib.process import PATIENCE

EDIT = {"model": "gpt-image-1", "prompt": "a hat for the otter [[usage=40,194,272]]", "size": "1024x1024", "quality": "low"}
PRICE = "0.01302"  # 40 x 5.00 + 194 x 10.00 + 272 x 40.00 a million
NODES = pytest.mark.parametrize("folder", node.sdks(), ids=lambda f: f.name)


def client(account, kind=openai.OpenAI, **kwargs):
    return kind(base_url=account.gateway.base_url, api_key=account.secret, timeout=60 * PATIENCE, **kwargs)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "otter.png"
    path.write_bytes(png(256))
    return path


WAYS = {
    "Path": lambda p: p, "open file": lambda p: open(p, "rb"), "tuple": lambda p: ("otter.png", p.read_bytes(), "image/png"),
    "BytesIO with a name": lambda p: named(io.BytesIO(p.read_bytes())), "list of one": lambda p: [p], "list of four": lambda p: [p, p, p, p],
    "mixed list": lambda p: [p, ("b.png", p.read_bytes(), "image/png")],
}


def named(stream):
    stream.name = "otter.png"
    return stream


@pytest.mark.parametrize("way", WAYS)
def test_python_edit(account, picture, way):
    with charges(account, PRICE), client(account) as sdk:
        raw = sdk.images.with_raw_response.edit(image=WAYS[way](picture), **EDIT)
    has_request_id(raw)
    reply = raw.parse()
    assert base64.b64decode(reply.data[0].b64_json).startswith(b"\x89PNG") and reply.usage.input_tokens_details.image_tokens == 194
    assert account.records()[0]["operation"] == "edits"


@pytest.mark.parametrize("way", ["bytes", "BytesIO"])
def test_python_without_a_type(account, picture, way):
    """The SDK says application/octet-stream: OpenAI's own refusal comes through, free of charge."""
    image = picture.read_bytes() if way == "bytes" else io.BytesIO(picture.read_bytes())
    with client(account) as sdk, pytest.raises(openai.BadRequestError) as caught:
        sdk.images.edit(image=image, **EDIT)
    assert caught.value.code in ("unsupported_file_mimetype", "missing_file_mimetype") and account.settled()["posted"] == account.credited


def test_python_edit_with_a_mask(account, picture):
    with charges(account, PRICE), client(account) as sdk:
        sdk.images.edit(image=picture, mask=picture, **EDIT)
    with charges(account, "0.016"), client(account) as sdk:
        sdk.images.edit(image=picture, mask=picture, model="dall-e-2", prompt="x", size="256x256")


def test_python_variation(account, picture):
    with charges(account, "0.036"), client(account) as sdk:
        reply = sdk.images.create_variation(image=picture, n=2, size="512x512", model="dall-e-2")
    assert len(reply.data) == 2 and account.records()[0]["operation"] == "variations"


def test_python_async_edits(account, picture):
    async def run():
        async with client(account, openai.AsyncOpenAI) as sdk:
            return await asyncio.gather(*(sdk.images.edit(image=picture, **EDIT) for _ in range(8)))
    with charges(account, 8 * money(PRICE), records=8):
        assert len(asyncio.run(run())) == 8


def events_of(stream):
    return [(e.type, getattr(e, "partial_image_index", None)) for e in stream]


def expected(operation, count):
    return [(f"image_{operation}.partial_image", i) for i in range(count)] + [(f"image_{operation}.completed", None)]


STREAM = {"model": "gpt-image-1", "prompt": "a sea otter", "size": "1024x1024", "quality": "low", "stream": True}


def from_table(records, count):
    """The sandbox counts tokens by the tables: a picture's 272, and 100 a partial image."""
    record = records[0]
    assert record["image_output_tokens"] == 272 + 100 * count and record["partial_images"] == count and record["stream"] is True and record["flags"] == [], record


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_python_streams(account, picture, count):
    with client(account) as sdk:
        assert events_of(sdk.images.generate(partial_images=count, **STREAM)) == expected("generation", count)
        from_table(account.records(), count)
        assert events_of(sdk.images.edit(image=picture, partial_images=count, **STREAM)) == expected("edit", count)
        from_table(account.records(), count)
    assert account.credited - account.settled()["posted"] == account.charged() > 0


def test_python_async_streams(account):
    async def run():
        async with client(account, openai.AsyncOpenAI) as sdk:
            return [(e.type, getattr(e, "partial_image_index", None)) async for e in await sdk.images.generate(partial_images=3, **STREAM)]
    assert asyncio.run(run()) == expected("generation", 3)
    from_table(account.records(), 3)


def left(account, record_count=1):
    """Charged once, and the record says that nobody waited."""
    account.gateway.wait_for(lambda: len(account.records()) == record_count, "a usage record")
    account.settled()
    records = account.records()
    assert len(records) == record_count and "client_gone" in records[0]["flags"], records
    assert account.credited - account.settled()["posted"] == money(records[0]["wholesale"]) > 0


def test_python_leaves_a_stream(account):
    with client(account) as sdk:
        stream = sdk.images.generate(partial_images=3, **{**STREAM, "prompt": "otter [[slow=2MiB/s]] [[bytes=2MiB]]"})
        next(iter(stream))
        stream.close()
    left(account)


def test_python_cancels_a_stream(account):
    async def run():
        async with client(account, openai.AsyncOpenAI, max_retries=0) as sdk:
            async with asyncio.timeout(20 * PATIENCE):
                async for _ in await sdk.images.generate(partial_images=3, **{**STREAM, "prompt": "otter [[slow=2MiB/s]] [[bytes=2MiB]]"}):
                    return
    asyncio.run(run())
    left(account)


def test_python_stream_that_fails(account):
    """Before its first byte: a status, as without a stream."""
    with client(account, max_retries=0) as sdk:
        with pytest.raises(openai.BadRequestError) as caught:
            sdk.images.generate(**{**STREAM, "prompt": "x [[moderation]]"})
        assert caught.value.code == "moderation_blocked"
        with pytest.raises(openai.InternalServerError):
            sdk.images.generate(**{**STREAM, "prompt": "x [[status=500]]"})
    assert account.settled()["posted"] == account.credited


def test_python_stream_that_dies(account):
    """In the middle: the SDK raises an APIError with the gateway's code."""
    with client(account, max_retries=0) as sdk, pytest.raises(openai.APIError) as caught:
        list(sdk.images.generate(partial_images=2, **{**STREAM, "prompt": "x [[die=50%]]"}))
    assert caught.value.code == "upstream_error", caught.value
    assert account.settled()["posted"] == account.credited and "in_doubt" in account.records()[0]["flags"]


@NODES
@pytest.mark.parametrize("source", ["stream", "buffer", "bytes"])
@pytest.mark.parametrize("files, listed", [(1, False), (1, True), (3, True)], ids=["one", "list of one", "three"])
def test_node_edit(account, picture, folder, source, files, listed):
    """createReadStream sends no type that OpenAI takes, nor do bytes: the refusal is relayed, the sandbox being as strict."""
    seen = node.call(folder, account, "edit", EDIT, image=[str(picture)] * files, source=source, list=listed)
    if source == "buffer":
        assert seen["ok"] and account.credited - account.settled()["posted"] == money(PRICE), seen
        return
    assert (seen["ok"], seen["status"], seen["code"], seen["param"]) == (False, 400, "unsupported_file_mimetype", "image"), seen
    assert account.settled()["posted"] == account.credited


@NODES
def test_node_mask_and_variation(account, picture, folder):
    with charges(account, money(PRICE)):
        assert node.call(folder, account, "edit", EDIT, image=[str(picture)], mask=str(picture))["ok"]
    with charges(account, "0.016"):
        seen = node.call(folder, account, "createVariation", {"model": "dall-e-2", "size": "256x256"}, image=[str(picture)])
        assert seen["ok"] and seen["data"]["data"][0].get("url") or seen["data"]["data"][0]["b64_json"], seen


@NODES
@pytest.mark.parametrize("count", [0, 1, 3])
def test_node_streams(account, picture, folder, count):
    for method, more, kind in (("generate", {}, "generation"), ("edit", {"image": [str(picture)]}, "edit")):
        seen = node.call(folder, account, method, {**STREAM, "partial_images": count}, **more)
        assert seen["ok"] and [(e["type"], e.get("partial_image_index")) for e in seen["events"]] == expected(kind, count), seen
        from_table(account.records(), count)
        assert seen["headers"]["content-type"].startswith("text/event-stream")


@NODES
@pytest.mark.parametrize("how", [{"leave": 1}, {"abort": 400}], ids=["break", "abort"])
def test_node_leaves_a_stream(account, folder, how):
    node.call(folder, account, "generate", {**STREAM, "partial_images": 3, "prompt": "otter [[slow=4MiB/s]] [[bytes=2MiB]]"}, maxRetries=0, **how)
    left(account)


@NODES
def test_node_stream_that_dies(account, folder):
    seen = node.call(folder, account, "generate", {**STREAM, "partial_images": 2, "prompt": "x [[die=50%]]"})
    assert (seen["ok"], seen["code"], seen["attempts"]) == (False, "upstream_error", 1), seen
    assert account.settled()["posted"] == account.credited


@NODES
def test_node_json_edit(account, folder, picture):
    """No helper sends it, so by fetch: Node's own HTTP client."""
    import subprocess
    body = {**EDIT, "images": [{"image_url": "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()}]}
    program = "const [url, key, body] = process.argv.slice(1); const r = await fetch(url, {method: 'POST', body, headers: " \
        "{authorization: 'Bearer ' + key, 'content-type': 'application/json'}}); console.log(r.status, (await r.json()).data.length)"
    with charges(account, PRICE):
        done = subprocess.run(["node", "--input-type=module", "-e", program, account.gateway.base_url + "/images/edits", account.secret, json.dumps(body)],
                              capture_output=True, text=True, timeout=60 * PATIENCE)
        assert done.stdout.split()[0] == "200", done


def test_python_models(account):
    with client(account) as sdk:
        listed = [m.id for m in sdk.models.list()]
        assert "dall-e-2" in listed and listed == sorted(listed)
        assert sdk.models.retrieve("dall-e-2").object == "model"
        with pytest.raises(openai.NotFoundError) as caught:
            sdk.models.retrieve("x/y")
    assert caught.value.code == "model_not_found"


@NODES
def test_node_models(account, folder):
    seen = node.call(folder, account, "models.list")
    assert seen["ok"] and "dall-e-2" in [m["id"] for m in seen["data"]["data"]], seen
    assert node.call(folder, account, "models.retrieve", id="dall-e-2")["data"]["id"] == "dall-e-2"
    seen = node.call(folder, account, "models.retrieve", id="x/y")
    assert (seen["status"], seen["code"], seen["name"]) == (404, "model_not_found", "NotFoundError"), seen


ERRORS = [("edit", {**EDIT, "n": 11}, "BadRequestError", 400, "integer_above_max_value", "n"), ("edit", {**EDIT, "model": "nope"}, "NotFoundError", 404, "model_not_found", "model"),
          ("edit", {**EDIT, "size": "1x1"}, "BadRequestError", 400, "invalid_value", "size"), ("create_variation", {"model": "dall-e-2", "n": 0}, "BadRequestError", 400, "integer_below_min_value", "n")]


@pytest.mark.parametrize("method, body, name, status, code, param", ERRORS)
def test_error_classes(account, sandbox, picture, method, body, name, status, code, param):
    with untouched(account, sandbox), client(account) as sdk, pytest.raises(openai.APIStatusError) as caught:
        getattr(sdk.images, method)(image=picture, **body)
    error = caught.value
    assert (type(error).__name__, error.status_code, error.code, error.param) == (name, status, code, param) and error.request_id.startswith("req_")
    for folder in node.sdks():
        seen = node.call(folder, account, "createVariation" if method == "create_variation" else method, body, image=[str(picture)])
        assert (seen["name"], seen["status"], seen["code"], seen["param"], seen["attempts"]) == (name, status, code, param, 1), seen


@NODES
def test_a_call_with_an_idempotency_key(account, picture, folder):
    """By a header that any SDK can add: made once, answered twice."""
    with charges(account, PRICE):
        first, second = (node.call(folder, account, "edit", EDIT, image=[str(picture)], source="buffer", headers={"Idempotency-Key": "k"}) for _ in range(2))
    # Node picks a new boundary for each form: that does not make it another call
    assert first["ok"] and second["ok"] and second["headers"]["idempotent-replayed"] == "true", second
    with client(account) as sdk, charges(account, "0.016"):
        body = {"model": "dall-e-2", "prompt": "x", "size": "256x256", "extra_headers": {"Idempotency-Key": "j"}}
        assert sdk.images.generate(**body) == sdk.images.generate(**body)
