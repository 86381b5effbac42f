"""The official SDKs, unchanged, end to end: pictures, exact charges, exact balances, one attempt where retrying is useless."""

import base64
import struct
import threading

import openai
import pytest

from lib import node
from lib.admin import Account
from lib.check import charges, has_request_id, money, untouched
from lib.process import PATIENCE

CALLS = [
    ({"model": "dall-e-2", "prompt": "a sea otter", "size": "256x256", "n": 2}, "0.032000000", 2),
    ({"model": "dall-e-3", "prompt": "a sea otter", "size": "1792x1024", "quality": "hd"}, "0.120000000", 1),
    ({"model": "gpt-image-1", "prompt": "a sea otter [[usage=20,0,1056]]", "size": "1024x1024", "quality": "medium"}, "0.042340000", 1),
]
REPLY_BUFFER = 256 * 1024  # LIMIT_REPLY_BUFFER
NAMES = ["dall-e-2", "dall-e-3", "gpt-image-1"]


def client(account, **kwargs):
    kwargs.setdefault("timeout", 60 * PATIENCE)
    return openai.OpenAI(base_url=account.gateway.base_url, api_key=account.secret, **kwargs)


def png_size(data):
    assert data.startswith(b"\x89PNG\r\n\x1a\n"), data[:20]
    return "%dx%d" % struct.unpack(">II", data[16:24])


@pytest.mark.parametrize("body, price, count", CALLS, ids=NAMES)
def test_python(account, body, price, count):
    with charges(account, price), client(account) as sdk:
        raw = sdk.images.with_raw_response.generate(**body)
        images = raw.parse()
    # a reply that is larger than the gateway's buffer starts before its charge is known
    assert raw.headers.get("tallygate-charge") == (None if len(raw.content) > REPLY_BUFFER else price)
    has_request_id(raw)
    assert len(images.data) == count
    assert all(i.url or i.b64_json for i in images.data)
    assert account.balance() == {"posted": money("10") - money(price), "held": 0, "available": money("10") - money(price)}
    record = account.records()[0]
    assert (record["model"], record["n"], record["images"], record["wholesale"]) == (body["model"], body.get("n", 1), count, price)
    assert (record["tenant"], record["key"], record["operation"], record["size"]) == (account.id, account.key["id"], "generations", body["size"])
    assert record["flags"] == [] and record["request_id"] == raw.headers["x-request-id"]
    if body["model"].startswith("gpt"):
        assert (record["text_input_tokens"], record["image_input_tokens"], record["image_output_tokens"]) == (20, 0, 1056)
        assert png_size(base64.b64decode(images.data[0].b64_json)) == "1024x1024"
        assert (images.usage.input_tokens, images.usage.output_tokens, images.usage.total_tokens) == (20, 1056, 1076)


@pytest.mark.parametrize("folder", node.sdks(), ids=lambda f: f.name)
@pytest.mark.parametrize("body, price, count", CALLS, ids=NAMES)
def test_node(account, folder, body, price, count):
    with charges(account, price):
        seen = node.generate(folder, account.gateway.base_url, account.secret, body)
    assert seen["ok"], seen
    assert seen["headers"].get("tallygate-charge", price) == price and seen["headers"]["x-request-id"].startswith("req_")
    assert len(seen["data"]["data"]) == count


def test_node_is_there():
    """The Node tests are not silently missing where Node is."""
    if node.version() == 0:
        pytest.skip("no node here")
    assert node.sdks(), "no SDK is installed in tests/sdk/node: tests/run.sh installs it"


def test_pictures_are_real(account):
    for model, size, more in (("dall-e-2", "256x256", {"response_format": "b64_json"}), ("dall-e-3", "1024x1792", {"response_format": "b64_json"}),
                              ("gpt-image-1", "1536x1024", {"quality": "low"}), ("gpt-image-1-mini", "1024x1024", {"quality": "low"})):
        with client(account) as sdk:
            image = sdk.images.generate(model=model, prompt="otter", size=size, **more).data[0]
        assert png_size(base64.b64decode(image.b64_json)) == size
        assert (image.revised_prompt is not None) == (model == "dall-e-3")


@pytest.mark.parametrize("form, magic", [("png", b"\x89PNG"), ("jpeg", b"\xff\xd8\xff"), ("webp", b"RIFF")])
def test_output_formats(account, form, magic):
    with client(account) as sdk:
        reply = sdk.images.generate(model="gpt-image-1", prompt="otter", size="1024x1024", quality="low", output_format=form)
    assert base64.b64decode(reply.data[0].b64_json).startswith(magic)


def test_url_gives_the_picture(account):
    import httpx
    with client(account) as sdk:
        url = sdk.images.generate(model="dall-e-2", prompt="otter", size="256x256", response_format="url").data[0].url
    picture = httpx.get(url, trust_env=False)
    assert picture.status_code == 200 and png_size(picture.content) == "256x256"


def test_async_python(account):
    import asyncio

    async def run():
        async with openai.AsyncOpenAI(base_url=account.gateway.base_url, api_key=account.secret, timeout=60 * PATIENCE) as sdk:
            return await asyncio.gather(*(sdk.images.generate(model="dall-e-2", prompt=f"otter {i}", size="256x256") for i in range(20)))
    with charges(account, "0.32", records=20):
        assert len(asyncio.run(run())) == 20


def counting_client(account):
    """An SDK client with its usual two retries, and the count of its attempts."""
    import httpx
    attempts = []
    hooks = {"request": [lambda request: attempts.append(request.url)]}
    try:
        http = openai.DefaultHttpxClient(event_hooks=hooks)
    except TypeError:
        http = httpx.Client(event_hooks=hooks)
    return client(account, http_client=http), attempts


def test_row_81_insufficient_quota_takes_one_attempt(gateway, sandbox):
    account = Account(gateway, credit="0.01")
    sdk, attempts = counting_client(account)
    with untouched(account, sandbox), pytest.raises(openai.RateLimitError) as caught:
        sdk.images.generate(model="dall-e-2", prompt="x", size="1024x1024")
    assert len(attempts) == 1
    error = caught.value
    assert (error.status_code, error.code, error.type, error.param) == (429, "insufficient_quota", "insufficient_quota", None)
    assert error.response.headers["x-should-retry"] == "false"
    assert "exceeded your current quota" in error.message
    sdk.close()


@pytest.mark.parametrize("folder", node.sdks(), ids=lambda f: f.name)
def test_row_81_node_takes_one_attempt(gateway, sandbox, folder):
    account = Account(gateway, credit="0.01")
    with untouched(account, sandbox):
        seen = node.generate(folder, gateway.base_url, account.secret, {"model": "dall-e-2", "prompt": "x"})
    assert (seen["ok"], seen["attempts"], seen["status"], seen["code"], seen["name"]) == (False, 1, 429, "insufficient_quota", "RateLimitError"), seen


@pytest.mark.parametrize("body, kind, code, param", [
    ({"model": "dall-e-2", "prompt": "x", "n": 11}, openai.BadRequestError, "integer_above_max_value", "n"),
    ({"model": "nope", "prompt": "x"}, openai.NotFoundError, "model_not_found", "model"),
    ({"model": "gpt-image-1", "prompt": "x", "size": "1x1"}, openai.BadRequestError, "invalid_value", "size"),
])
def test_errors_through_the_sdk(account, sandbox, body, kind, code, param):
    with untouched(account, sandbox), client(account) as sdk, pytest.raises(kind) as caught:
        sdk.images.generate(**body)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.request_id.startswith("req_")


def test_bad_key_through_the_sdk(account):
    with openai.OpenAI(base_url=account.gateway.base_url, api_key="sk-tg-wrong") as sdk, pytest.raises(openai.AuthenticationError) as caught:
        sdk.images.generate(model="dall-e-2", prompt="x")
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize("folder", node.sdks(), ids=lambda f: f.name)
def test_errors_through_node(account, sandbox, folder):
    with untouched(account, sandbox):
        seen = node.generate(folder, account.gateway.base_url, account.secret, {"model": "dall-e-2", "prompt": "x", "n": 0})
    assert (seen["status"], seen["code"], seen["param"], seen["attempts"]) == (400, "integer_below_min_value", "n", 1), seen


def test_moderation_is_relayed(account):
    with client(account) as sdk, pytest.raises(openai.BadRequestError) as caught:
        sdk.images.generate(model="gpt-image-1", prompt="x [[moderation]]", size="1024x1024", quality="low")
    assert caught.value.code == "moderation_blocked"
    assert account.settled()["posted"] == account.credited and account.records() == []


def race(account, callers, **body):
    """<callers> SDK clients at once; how many were served, and the errors of the others."""
    served, errors, gate = [], [], threading.Barrier(callers)

    def call():
        with client(account, max_retries=0) as sdk:
            gate.wait()
            try:
                served.append(sdk.images.generate(**body))
            except openai.APIStatusError as error:
                errors.append(error)
    threads = [threading.Thread(target=call) for _ in range(callers)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    return served, errors


@pytest.mark.parametrize("round", range(3))
def test_40_callers_race_for_the_last_5_images(gateway, sandbox, round):
    account = Account(gateway, credit="0.10")
    before = sandbox.served()["images"]
    served, errors = race(account, 40, model="dall-e-2", prompt="a sea otter [[latency=200ms]]", size="1024x1024")
    assert len(served) == 5 and len(errors) == 35
    assert {(e.status_code, e.code) for e in errors} == {(429, "insufficient_quota")}
    assert account.settled() == {"posted": 0, "held": 0, "available": 0}
    assert len(account.records()) == 5 and sandbox.served()["images"] - before == 5


def test_row_82_two_calls_with_money_for_one(gateway, sandbox):
    account = Account(gateway, credit="0.02")
    served, errors = race(account, 2, model="dall-e-2", prompt="x [[latency=200ms]]", size="1024x1024")
    assert (len(served), len(errors)) == (1, 1) and errors[0].code == "insufficient_quota"
    assert account.settled()["available"] == 0


def test_a_hold_returns_what_was_not_used(gateway):
    """Money enough for the worst case of one call at a time: each one's rest serves the next."""
    hold = money(gateway.admin.create("quotes", {"model": "gpt-image-1", "size": "1024x1024", "quality": "high"})["hold"])
    account = Account(gateway, credit=str(hold + money("0.05")))
    with client(account) as sdk:
        for _ in range(10):
            sdk.images.generate(model="gpt-image-1", prompt="x [[usage=10,0,100]]", size="1024x1024", quality="high")
    assert account.credited - account.settled()["posted"] == 10 * money("0.00405")


@pytest.mark.parametrize("size", ["4MiB", "300KiB", "255KiB", "20MiB"])
def test_large_replies(account, sandbox, size):
    """Byte for byte what the upstream sent, whatever passes through in how many pieces."""
    import httpx
    body = {"model": "gpt-image-1", "prompt": f"otter [[usage=10,0,100]] [[bytes={size}]]", "size": "1024x1024", "quality": "low"}
    direct = httpx.post(sandbox.base_url + "/images/generations", json=body, headers={"Authorization": "Bearer sk-x"}, timeout=60, trust_env=False)
    with charges(account, "0.00405"):
        reply = account.post(body)
    assert reply.status_code == 200
    unit = int(size[:-3]) * (1 << 20 if size.endswith("MiB") else 1 << 10)
    assert unit * 0.9 < len(reply.content) < unit * 1.6
    expected, got = direct.json(), reply.json()
    expected.pop("created"), got.pop("created")
    assert expected == got
    assert len(direct.content) == len(reply.content)


def test_slow_and_split_replies(account):
    with charges(account, "0.00405", records=1):
        assert account.post({"model": "gpt-image-1", "prompt": "x [[usage=10,0,100]] [[bytes=2KiB]] [[split=1]]", "size": "1024x1024"}).status_code == 200
    with charges(account, "0.00405", records=1):
        assert account.post({"model": "gpt-image-1", "prompt": "x [[usage=10,0,100]] [[bytes=400KiB]] [[slow=400KiB/s]]", "size": "1024x1024"}).status_code == 200


def test_memory_stays_bounded(gateway, account):
    """Forty replies of 20 MiB pass through: the daemon's memory does not follow."""
    from lib.process import SANITIZED
    if SANITIZED:
        pytest.skip("a sanitizer's memory says nothing")
    before = gateway.rss_kib()
    for _ in range(40):
        assert account.post({"model": "gpt-image-1", "prompt": "x [[usage=10,0,100]] [[bytes=20MiB]]", "size": "1024x1024"}).status_code == 200
    assert gateway.rss_kib() - before < 32 * 1024
