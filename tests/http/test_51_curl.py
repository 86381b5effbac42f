"""curl, as people type it: forms, lists, streams, HTTP/2."""

import json
import shutil
import subprocess

import pytest

from lib import sse
from lib.check import charges
from lib.picture import png
from lib.process import PATIENCE

PROMPT = "a hat [[usage=40,194,272]]"
PRICE = "0.01302"

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


@pytest.fixture
def pictures(tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.png").write_bytes(png(128))
    (tmp_path / "large.png").write_bytes(png(128, length=1_200_000))
    return tmp_path


def curl(account, path, *args, fields=(), where=None):
    """(status, headers as text, body)"""
    command = ["curl", "-sS", "-i", "-H", f"Authorization: Bearer {account.secret}", *args]
    for field in fields:
        command += ["-F", field]
    done = subprocess.run([*command, account.gateway.base_url + path], capture_output=True, timeout=60 * PATIENCE, cwd=where)
    assert done.returncode == 0, done.stderr
    data = done.stdout
    while data.startswith(b"HTTP/1.1 100"):
        data = data.partition(b"\r\n\r\n")[2]
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode(), body


FORM = ["model=gpt-image-1", f"prompt={PROMPT}", "size=1024x1024", "quality=low"]
HTTP = pytest.mark.parametrize("http", [["--http1.1"], ["--http2-prior-knowledge"]], ids=["http1", "http2"])


@HTTP
def test_four_images(account, pictures, http):
    """The command of OpenAI's guide."""
    with charges(account, PRICE):
        status, head, body = curl(account, "/images/edits", *http, fields=[f"image[]=@{n}.png" for n in "abcd"] + FORM, where=pictures)
        assert status == 200, body[:500]
    assert len(json.loads(body)["data"]) == 1 and "x-request-id: req_" in head


@HTTP
def test_nested_list(account, pictures, http):
    with charges(account, PRICE):
        status, _, body = curl(account, "/images/edits", *http, fields=["image[]=@a.png,b.png"] + FORM, where=pictures)
        assert status in (200, 400), body[:500]
        if status == 400:
            pytest.fail(f"the simulated upstream or the gateway does not read curl's lists: {body[:300]}")


@HTTP
def test_more_than_a_mib(account, pictures, http):
    """Past 1 MiB curl waits for a 100 over HTTP/1.1."""
    with charges(account, PRICE):
        status, _, body = curl(account, "/images/edits", *http, fields=["image=@large.png"] + FORM, where=pictures)
        assert status == 200, body[:500]


def test_chunked_upload(account, pictures):
    with charges(account, PRICE):
        status, _, body = curl(account, "/images/edits", "-H", "Transfer-Encoding: chunked", fields=["image=@large.png"] + FORM, where=pictures)
        assert status == 200, body[:500]


@HTTP
def test_mask_and_variation(account, pictures, http):
    with charges(account, "0.016"):
        assert curl(account, "/images/edits", *http, fields=["image=@a.png", "mask=@b.png", "model=dall-e-2", "prompt=x", "size=256x256"], where=pictures)[0] == 200
    with charges(account, "0.032"):
        assert curl(account, "/images/variations", *http, fields=["image=@a.png", "n=2", "size=256x256"], where=pictures)[0] == 200


@HTTP
def test_stream(account, pictures, http):
    body = {"model": "gpt-image-1", "prompt": PROMPT, "size": "1024x1024", "quality": "low", "stream": True, "partial_images": 2}
    status, head, got = curl(account, "/images/generations", *http, "-N", "-H", "Content-Type: application/json", "-d", json.dumps(body))
    assert status == 200 and "content-type: text/event-stream" in head.lower()
    assert sse.kinds(got) == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    status, _, got = curl(account, "/images/edits", *http, fields=["image=@a.png", "stream=true", "partial_images=1"] + FORM, where=pictures)
    assert status == 200 and sse.kinds(got) == ["image_edit.partial_image", "image_edit.completed"]
    assert account.credited - account.settled()["posted"] == account.charged() and len(account.records()) == 2


def test_default_content_type_of_d(account, sandbox):
    """-d without a type is a form: told so, not a 500."""
    from lib.check import untouched
    with untouched(account, sandbox):
        status, _, body = curl(account, "/images/edits", "-d", "prompt=x")
    assert status == 400 and json.loads(body)["error"]["code"] == "unsupported_content_type"
