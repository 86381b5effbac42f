"""The checklist's rows 1-33, one named test each: status, type, code and param; no money moved, and nobody called, where refused."""

import json

import pytest

from lib.admin import Account
from lib.check import charges, has_request_id, is_error, money, untouched
from lib.process import SANITIZED
from lib.upstream import answer, error_body, images, usage

D2, D3, G1, G2 = "dall-e-2", "dall-e-3", "gpt-image-1", "gpt-image-2"
PROMPT = "a sea otter"
BAD_JSON = r"^We could not parse the JSON body of your request\."


@pytest.fixture(scope="module")
def scripted(bare_gateway, upstream, gateway):
    """A second tenant's world: models that only the scripted upstream serves, under upstream names of their own choice."""
    bare_gateway.channel(upstream, name="scripted", models={"chatgpt-image-latest": "chatgpt-image-latest"}, api_key="sk-scripted-0002")
    return upstream


GS = "chatgpt-image-latest"


def refused(account, sandbox, body, code, param="any", message=None, status=400, **kwargs):
    with untouched(account, sandbox):
        return is_error(account.post(body, **kwargs), status, code, param=param, message=message)


def good(account, body, price, **kwargs):
    with charges(account, price):
        reply = account.post(body, **kwargs)
        assert reply.status_code == 200, reply.text
        has_request_id(reply)
        assert money(reply.headers["tallygate-charge"]) == money(str(price)), reply.headers["tallygate-charge"]
    return reply


def relayed(account, body, code, param="any"):
    """The upstream refused: its own words, no charge."""
    before = account.balance()
    error = is_error(account.post(body), 400, code, param=param)
    assert account.settled() == before and account.records() == []
    return error


def test_row_01_minimal_call(account):
    reply = good(account, {"model": D3, "prompt": PROMPT, "n": 1, "size": "1024x1024"}, "0.04")
    item = reply.json()["data"][0]
    assert item.get("url") or item.get("b64_json")
    assert reply.headers["content-type"].startswith("application/json")


def test_row_02_nothing_is_added(gateway, account, scripted):
    body = b'{"model":"chatgpt-image-latest",  "prompt": "a sea \xc3\xb6tter"}'
    scripted.use(answer(images(usage=usage(100, 0, 1000), size="1024x1024", quality="low")))
    reply = good(account, body, "0.0325")  # 100 x 5.00 + 1000 x 32.00 a million
    assert scripted.requests[0].body == body
    assert reply.json()["size"] == "1024x1024" and reply.json()["quality"] == "low"


def test_row_02_auto_is_priced_from_usage(account):
    reply = account.post({"model": G1, "prompt": PROMPT})
    assert reply.status_code == 200, reply.text
    used = reply.json()["usage"]
    nano = used["input_tokens_details"]["text_tokens"] * 5000 + used["output_tokens"] * 40000
    # a large reply starts before its charge is known: the header is absent then
    assert int((account.credited - account.settled()["posted"]) * 10**9) == nano


def test_row_03_body_is_byte_identical(account, scripted):
    odd = b'{ "created" : 1,\n "data":[{"b64_json":"' + b"QUJD" * 5000 + b'"}],"later":{"x":[1,2.50,null]},\n"usage":' + \
        json.dumps(usage(10, 0, 20)).encode() + b" }\n"
    scripted.use(answer(odd))
    assert good(account, {"model": GS, "prompt": PROMPT}, "0.00069").content == odd


def test_row_03_b64_json(account):
    reply = good(account, {"model": D2, "prompt": PROMPT, "size": "256x256", "response_format": "b64_json"}, "0.016")
    import base64
    assert base64.b64decode(reply.json()["data"][0]["b64_json"]).startswith(b"\x89PNG")


def test_row_04_response_format_on_gpt_image(account):
    relayed(account, {"model": G1, "prompt": PROMPT, "response_format": "url"}, "unknown_parameter", "response_format")


def test_row_05_two_images(account):
    assert len(good(account, {"model": D2, "prompt": PROMPT, "n": 2, "size": "512x512"}, "0.036").json()["data"]) == 2


def test_row_05_fewer_images(account):
    reply = good(account, {"model": D2, "prompt": "otter [[images=1]]", "n": 3, "size": "512x512"}, "0.018")
    assert len(reply.json()["data"]) == 1
    record = account.records()[0]
    assert record["images"] == 1 and record["n"] == 3 and "fewer_images" in record["flags"]


@pytest.mark.parametrize("n", ["0", "-1"])
def test_row_06_n_too_small(account, sandbox, n):
    refused(account, sandbox, f'{{"model":"dall-e-2","prompt":"x","n":{n}}}', "integer_below_min_value", "n",
            rf"^Invalid 'n': integer below minimum value\. Expected a value >= 1, but got {n} instead\.$")


def test_row_07_n_too_big(account, sandbox):
    refused(account, sandbox, {"model": D2, "prompt": "x", "n": 11}, "integer_above_max_value", "n",
            r"^Invalid 'n': integer above maximum value\. Expected a value <= 10, but got 11 instead\.$")


def test_row_08_dall_e_3_is_one_at_a_time(account, sandbox):
    refused(account, sandbox, {"model": D3, "prompt": "x", "n": 2}, None, message=r"^You must provide n=1 for this model\.$")


@pytest.mark.parametrize("n", ['"1"', "true", "[]", "{}", "1.5", '""'])
def test_row_09_n_of_a_wrong_type(account, sandbox, n):
    refused(account, sandbox, f'{{"model":"dall-e-2","prompt":"x","n":{n}}}', "invalid_type", "n")


def test_row_09_n_as_a_whole_float(account, sandbox):
    """1.0 is an integer or it is not: never something smaller than what goes upstream."""
    reply = account.post('{"model":"dall-e-2","prompt":"x","size":"256x256","n":2.0}')
    if reply.status_code == 200:
        assert account.credited - account.settled()["posted"] == money("0.032")
    else:
        is_error(reply, 400, "invalid_type", param="n")


@pytest.mark.parametrize("n", ["1e400", "99999999999999999999", "-9223372036854775809", "18446744073709551617", "4294967297", "1e1000000000"])
def test_row_10_n_beyond_everything(account, sandbox, n):
    refused(account, sandbox, f'{{"model":"dall-e-2","prompt":"x","n":{n}}}', "any", "n")


def test_row_11_nulls_are_absent(account):
    good(account, {"model": D2, "prompt": PROMPT, "n": None, "size": None, "quality": None, "user": None}, "0.02")


@pytest.mark.parametrize("body", ['{"model":"dall-e-2"}', '{"model":"dall-e-2","prompt":null}', "{}"])
def test_row_12_no_prompt(account, sandbox, body):
    refused(account, sandbox, body, "missing_required_parameter", "prompt", r"^Missing required parameter: 'prompt'\.$")


@pytest.mark.parametrize("prompt", ["5", "[]", "{}", "true", '["a"]'])
def test_row_12_prompt_of_a_wrong_type(account, sandbox, prompt):
    refused(account, sandbox, f'{{"model":"dall-e-2","prompt":{prompt}}}', "invalid_type", "prompt")


@pytest.mark.parametrize("prompt", ["", "   "])
def test_row_13_empty_prompt(account, prompt):
    """Upstream's to judge; whatever it says, nothing stays held."""
    reply = account.post({"model": D2, "prompt": prompt, "size": "256x256"})
    spent = account.credited - account.settled()["posted"]
    assert (reply.status_code, spent) in ((200, money("0.016")), (400, 0)), (reply.text, spent)


@pytest.mark.parametrize("model, limit", [(D2, 1000), (D3, 4000), (G1, 32000)])
@pytest.mark.parametrize("letter", ["a", "\U0001f9a6"])
def test_row_14_prompt_length_in_code_points(account, sandbox, model, limit, letter):
    refused(account, sandbox, {"model": model, "prompt": letter * (limit + 1)}, "string_above_max_length", "prompt",
            rf"maximum length {limit}, but got a string with length {limit + 1} instead")
    assert account.post({"model": model, "prompt": letter * limit}).status_code == 200


@pytest.mark.parametrize("prompt", [r'"\u0000"', r'"a\u0000b"', r'"\ud800"', r'"\udc00\ud800"', '"\u2028\u2029"', r'"\uffff"'])
def test_row_15_odd_characters(account, prompt):
    reply = account.post(f'{{"model":"dall-e-2","size":"256x256","prompt":{prompt}}}'.encode())
    spent = account.credited - account.settled()["posted"]
    assert (reply.status_code, spent) in ((200, money("0.016")), (400, 0)), reply.text
    if reply.status_code == 400:
        is_error(reply, 400)


SIZES = ["512x513", "1x1", "1024X1024", "01024x1024", " 1024x1024", "1024x1024 ", "1024", "1024x", "x", "", "1024x1024x1", "-1x1",
         "1e3x1024", "9" * 400, "1024×1024", "1024x1024\u0000"]


@pytest.mark.parametrize("size", SIZES + ["512x512"])
def test_row_16_bad_size_gpt_image(account, sandbox, size):
    refused(account, sandbox, {"model": G1, "prompt": "x", "size": size}, "invalid_value", "size")


@pytest.mark.parametrize("size", SIZES + ["1792x1024"])
def test_row_16_bad_size_dall_e_2(account, sandbox, size):
    refused(account, sandbox, {"model": D2, "prompt": "x", "size": size}, "invalid_value", "size")


def test_row_16_message(account, sandbox):
    refused(account, sandbox, {"model": G1, "prompt": "x", "size": "512x512"}, "invalid_value", "size",
            r"^Invalid value: '512x512'\. Supported values are: '1024x1024', '1024x1536', '1536x1024', and 'auto'\.$")


@pytest.mark.parametrize("size", ["256x256", "512x512"])
def test_row_16_bad_size_dall_e_3(account, sandbox, size):
    refused(account, sandbox, {"model": D3, "prompt": "x", "size": size}, "invalid_size", message=r"^The size is not supported by this model\.$")


@pytest.mark.parametrize("size", ["5", "[]", "true", "{}"])
def test_row_16_size_of_a_wrong_type(account, sandbox, size):
    refused(account, sandbox, f'{{"model":"gpt-image-1","prompt":"x","size":{size}}}', "invalid_type", "size")


@pytest.mark.parametrize("size, tokens", [("1024x1024", 196), ("1536x864", None), ("2880x2880", None), ("3840x2160", 371), ("2048x2048", 397)])
def test_row_17_free_sizes(account, size, tokens):
    """gpt-image-2 is priced by the published formula."""
    reply = account.post({"model": G2, "prompt": PROMPT, "size": size, "quality": "low"})
    assert reply.status_code == 200, reply.text[:500]
    width, height = map(int, size.split("x"))
    long, short, factor = max(width, height), min(width, height), 16
    expected = -(-factor * ((2 * factor * short + long) // (2 * long)) * (2000000 + width * height) // 4000000)
    assert tokens in (None, expected)
    used = reply.json()["usage"]
    assert used["output_tokens"] == expected
    nano = used["input_tokens_details"]["text_tokens"] * 5000 + expected * 30000
    assert int((account.credited - account.settled()["posted"]) * 10**9) == nano


@pytest.mark.parametrize("size, message", [
    ("1000x1000", r"[Ww]idth and height must both be divisible by 16"), ("4096x1024", r"."), ("512x512", r"below the current minimum pixel budget"),
    ("3856x2160", r"longest edge must be less than or equal to 3840"), ("3840x3840", r"."), ("0x0", r"."), ("16x16", r"."),
    ("99999999999x16", r"."), ("4294968320x1024", r".")])
def test_row_18_bad_free_sizes(account, sandbox, size, message):
    refused(account, sandbox, {"model": G2, "prompt": "x", "size": size}, "invalid_value", "size", message)


@pytest.mark.parametrize("model, quality", [(G1, "hd"), (G2, "xhigh")])
def test_row_19_quality_is_the_upstreams_to_judge(account, model, quality):
    relayed(account, {"model": model, "prompt": "x", "size": "1024x1024", "quality": quality}, "invalid_value", "quality")


@pytest.mark.parametrize("more", [{"style": "vivid"}, {"background": "transparent"}, {"moderation": "low"}, {"output_compression": 50}])
def test_row_20_other_parameters_pass_through(account, scripted, more):
    scripted.use(answer(error_body("no", param=next(iter(more)), code="invalid_value"), status=400))
    relayed(account, {"model": GS, "prompt": PROMPT, **more}, "invalid_value", next(iter(more)))
    assert scripted.requests[0].json() == {"model": GS, "prompt": PROMPT, **more}


def test_row_21_unknown_field_goes_upstream_verbatim(account, scripted):
    body = b'{"model":"chatgpt-image-latest","prompt":"x","seed":1,"zz":{"a":[1e2]}}'
    refusal = json.dumps(error_body("Unknown parameter: 'seed'.", param="seed", code="unknown_parameter"), indent=2) + "\n"
    scripted.use(answer(refusal, status=400))
    reply = account.post(body)
    is_error(reply, 400, "unknown_parameter", param="seed")
    assert reply.text == refusal
    assert scripted.requests[0].body == body
    assert account.settled()["posted"] == account.credited


@pytest.mark.parametrize("model", ["gpt-image-9", "dall-e-2 ", "DALL-E-2", "../dall-e-2", "x" * 90])
def test_row_22_unknown_model(account, sandbox, model):
    refused(account, sandbox, {"model": model, "prompt": "x"}, "model_not_found", "model", status=404)


def test_row_22_message(account, sandbox):
    refused(account, sandbox, {"model": "gpt-image-9", "prompt": "x"}, "model_not_found", "model", status=404,
            message=r"^The model `gpt-image-9` does not exist or you do not have access to it\.$")


@pytest.mark.parametrize("model", ["1", "[]", "true", '""', r'"dall-e-2\u0000"'])
def test_row_22_model_of_a_wrong_type(account, sandbox, model):
    with untouched(account, sandbox):
        reply = account.post(f'{{"model":{model},"prompt":"x"}}')
        assert reply.status_code in (400, 404), reply.text
        is_error(reply, reply.status_code, param="model")


@pytest.mark.parametrize("body", ['{"prompt":"x","size":"256x256"}', '{"prompt":"x","size":"256x256","model":null}'])
def test_row_23_model_left_out_is_dall_e_2(account, body):
    good(account, body, "0.016")
    assert account.records()[0]["model"] == D2


def test_row_23_it_is_sent_explicitly(own_gateway, upstream):
    gateway = own_gateway().start()
    gateway.channel(upstream, models={"dall-e-2": "their-name"})
    account = Account(gateway)
    for body, sent in ((b'{"prompt":"x", "size":"256x256"}', {"prompt": "x", "size": "256x256"}), (b'{"model":null,"prompt":"x"}', {"prompt": "x"}),
                       (b'{"prompt":"x","\\u006dodel" : "dall-e-2"}', {"prompt": "x"})):
        upstream.use(answer(images()))
        assert account.post(body).status_code == 200
        assert upstream.requests[0].json() == {**sent, "model": "their-name"}
    gateway.stop()
    gateway.fsck()


@pytest.mark.parametrize("body", [b'{"prompt":', b'{"prompt":"x",}', b'{"prompt":"x","n":NaN}', b"{'prompt':'x'}", b'{"prompt":"x"}}',
                                  b'{"prompt":"x"} {"n":9}', b'{"prompt":"x" "n":1}', b'{"prompt":"\t"}', b'{"prompt":"x","n":01}',
                                  b'{"prompt":"x","n":.5}', b'{"prompt":"x","n":Infinity}', b'{"prompt":"x"/**/}', b'{"prompt":"\\x41"}',
                                  b'{prompt:"x"}', b'{"prompt":"x","n":+1}', b'{"prompt":"x"\x00}', b"\x00"])
def test_row_24_malformed_json(account, sandbox, body):
    refused(account, sandbox, body, None, None, BAD_JSON)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"x"', b"5", b" ", b"true"])
def test_row_25_no_object(account, sandbox, body):
    with untouched(account, sandbox):
        is_error(account.post(None, content=body, headers={"Content-Type": "application/json"}), 400)


@pytest.mark.parametrize("bad", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\xc3"])
def test_row_26_invalid_utf8(account, sandbox, bad):
    with untouched(account, sandbox):
        is_error(account.post(b'{"model":"dall-e-2","prompt":"x' + bad + b'"}'), 400)
        is_error(account.post(b'{"model":"dall-e-2","prompt":"x","' + bad + b'":1}'), 400)


def test_row_27_byte_order_marks(account, sandbox):
    answers = {account.post(b"\xef\xbb\xbf" + b'{"model":"dall-e-2","size":"256x256","prompt":"x"}').status_code for _ in range(3)}
    assert answers in ({200}, {400})
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        refused(account, sandbox, '{"model":"dall-e-2","prompt":"x"}'.encode(encoding), "any")


@pytest.mark.parametrize("body", ['{"model":"dall-e-2","prompt":"x","n":1,"n":10}', '{"n":10,"model":"dall-e-2","prompt":"x","n":1}',
                                  '{"model":"dall-e-2","prompt":"x","size":"256x256","s\\u0069ze":"1024x1024"}',
                                  '{"model":"dall-e-2","model":"dall-e-3","prompt":"x"}'])
def test_row_28_duplicate_keys(account, sandbox, body):
    """Which of the two the upstream would believe is unknown, so neither is."""
    refused(account, sandbox, body, "any")


def test_row_29_deep_and_large(account, sandbox):
    deep = b'{"model":"dall-e-2","prompt":"x","z":' + b"[" * 100000 + b"]" * 100000 + b"}"
    refused(account, sandbox, deep, "any")
    refused(account, sandbox, b"[" * 1000000, "any")
    with untouched(account, sandbox):
        large = b'{"model":"dall-e-2","prompt":"' + b"x" * (50 << 20) + b'"}'
        is_error(account.post(large), 413, "request_too_large")
    assert SANITIZED or account.gateway.rss_kib() < 400 * 1024


def test_row_30_escaped_key(account):
    reply = good(account, r'{"model":"dall-e-2","prompt":"x","size":"256x256","\u006e":3}', "0.048")
    assert len(reply.json()["data"]) == 3


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "application", ";"])
def test_row_31_other_content_types(account, sandbox, kind):
    refused(account, sandbox, b'{"model":"dall-e-2","prompt":"x"}', "unsupported_content_type", headers={"Content-Type": kind})


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/json;charset=UTF-8", "application/json ; x=y"])
def test_row_32_spellings_of_json(account, kind):
    good(account, b'{"model":"dall-e-2","prompt":"x","size":"256x256"}', "0.016", headers={"Content-Type": kind})


def test_row_33_multipart_on_generations(account, sandbox):
    with untouched(account, sandbox):
        is_error(account.post(None, files={"image": ("a.png", b"x", "image/png")}, data={"prompt": "x"}), 400, "unsupported_content_type")


@pytest.mark.parametrize("stream", ['"true"', "1", "[]"])
def test_row_67_stream_of_a_wrong_type(account, sandbox, stream):
    refused(account, sandbox, f'{{"model":"gpt-image-1","prompt":"x","stream":{stream}}}', "invalid_type", "stream")


@pytest.mark.parametrize("partial", ["4", "-1", '"1"', "1.5"])
def test_row_68_partial_images(account, sandbox, partial):
    refused(account, sandbox, f'{{"model":"gpt-image-1","prompt":"x","partial_images":{partial}}}', "any", "partial_images")


def test_row_89_usage_missing(account):
    """No usage on a model priced by the token: table and estimated input, and the record says so."""
    body = {"model": G1, "prompt": "otter [[usage=none]]", "size": "1024x1024", "quality": "medium"}
    before = account.balance()
    reply = account.post(body)
    assert reply.status_code == 200 and "usage" not in reply.json(), reply.text[:300]
    spent = before["posted"] - account.settled()["posted"]
    record = account.records()[0]
    assert "estimated" in record["flags"]
    assert record["image_output_tokens"] == 1056
    assert money(record["wholesale"]) == spent
    assert money("0.04224") <= spent <= money("0.04224") + len(body["prompt"]) * money("0.000005") + money("0.0001")


@pytest.mark.parametrize("bad", [
    {"input_tokens": 10, "output_tokens": 20, "total_tokens": 7, "input_tokens_details": {"text_tokens": 10, "image_tokens": 0}},
    {"input_tokens": -10, "output_tokens": 20, "total_tokens": 10, "input_tokens_details": {"text_tokens": -10, "image_tokens": 0}},
    {"input_tokens": 10, "output_tokens": 10**18, "total_tokens": 10**18 + 10, "input_tokens_details": {"text_tokens": 10, "image_tokens": 0}},
    {"input_tokens": 1.5, "output_tokens": 20, "total_tokens": 21.5, "input_tokens_details": {"text_tokens": 1.5, "image_tokens": 0}},
    {"input_tokens": 10, "output_tokens": "20", "total_tokens": 30},
    {"input_tokens": 10, "output_tokens": 20, "total_tokens": 30, "input_tokens_details": {"text_tokens": 11, "image_tokens": 0}},
    {"input_tokens": 10, "output_tokens": 99999999999999999999999999, "total_tokens": 30},
])
def test_row_90_usage_that_cannot_be_true(account, scripted, bad):
    scripted.use(answer(images(usage=bad)))
    before = account.balance()
    reply = account.post({"model": GS, "prompt": "x", "size": "1024x1024", "quality": "low"})
    assert reply.status_code == 200, reply.text
    spent = before["posted"] - account.settled()["posted"]
    record = account.records()[0]
    assert "untrusted_usage" in record["flags"], record
    assert money(record["wholesale"]) == spent
    # 272 tokens at 32.00 a million, and a little for the prompt
    assert money("0.008704") <= spent < money("0.0089")
