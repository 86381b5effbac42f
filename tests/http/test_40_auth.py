"""Who may call: checklist rows 79 and 80, policies, suspended accounts. Nothing refused here reaches the upstream."""

import time
from datetime import datetime, timedelta, timezone

import pytest

from lib.admin import Account
from lib.check import calls, charges, is_error, untouched
from lib.wire import exchange

BODY = {"model": "dall-e-2", "prompt": "a sea otter", "size": "256x256"}
JSON = b'{"model": "dall-e-2", "prompt": "a sea otter", "size": "256x256"}'
NO_KEY = r"^You didn't provide an API key\."


def raw_post(gateway, *headers):
    lines = [b"POST /v1/images/generations HTTP/1.1", b"Host: x", b"Content-Type: application/json", b"Content-Length: %d" % len(JSON)]
    return exchange(gateway, b"\r\n".join([*lines, *headers]) + b"\r\n\r\n" + JSON)


@pytest.mark.parametrize("header", [None, b"Authorization:", b"Authorization: Bearer", b"Authorization: Bearer ",
                                    b"Authorization: Basic c2s6c2s=", b"Authorization: Digest x"])
def test_row_79_no_key(gateway, sandbox, account, header):
    with untouched(account, sandbox):
        is_error(raw_post(gateway, *([header] if header else [])), 401, None, param=None, message=NO_KEY)


def test_row_79_lower_case_bearer_is_accepted(gateway, account):
    with charges(account, "0.016"):
        assert raw_post(gateway, b"authorization: bearer " + account.secret.encode()).status == 200


def test_row_79_two_headers(gateway, sandbox, account):
    """Which of two keys is meant cannot be known: neither is used."""
    with untouched(account, sandbox):
        header = b"Authorization: Bearer " + account.secret.encode()
        is_error(raw_post(gateway, header, b"Authorization: Bearer sk-tg-other"), 401)


def flip(secret, at):
    return secret[:at] + ("A" if secret[at] != "A" else "B") + secret[at + 1:]


@pytest.mark.parametrize("change", [
    lambda s: "sk-openai-key", lambda s: s + "x", lambda s: s[:-1], lambda s: flip(s, len(s) - 1), lambda s: flip(s, 20),
    lambda s: s.upper(), lambda s: "sk-tg-" + "0" * 49, lambda s: "x" * 8000, lambda s: s + " " + s])
def test_row_80_bad_key(gateway, sandbox, account, change):
    bad = change(account.secret)
    with untouched(account, sandbox):
        error = is_error(raw_post(gateway, b"Authorization: Bearer " + bad.encode()), 401, "invalid_api_key", param=None,
                         message=r"^Incorrect API key provided")
    # the message masks what it repeats
    assert bad not in error["message"]
    assert len(bad) < 30 or bad[8:-4] not in error["message"]


def test_row_80_the_log_never_shows_a_key(gateway, account):
    assert account.post(BODY).status_code == 200
    raw_post(gateway, b"Authorization: Bearer " + flip(account.secret, 30).encode())
    log = gateway.text()
    assert account.secret not in log and account.secret[10:-4] not in log


def test_key_text(account):
    """sk-tg- + 43 base62 + 6 base62 of the CRC-32 over all before."""
    import re
    import zlib
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    assert re.fullmatch(r"sk-tg-[0-9A-Za-z]{49}", account.secret)
    value, text = zlib.crc32(account.secret[:-6].encode()), ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        text = digits[digit] + text
    assert account.secret[-6:] == text


def test_revoked_key(gateway, sandbox, account):
    assert account.post(BODY).status_code == 200
    gateway.admin.create(f"keys/{account.key['id']}/revoke", {})
    with untouched(account, sandbox):
        for _ in range(8):  # every loop knows before the admin call returned
            is_error(account.post(BODY), 401, "invalid_api_key")


def test_expired_key(gateway, sandbox):
    soon = (datetime.now(timezone.utc) + timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    account = Account(gateway, key={"expires_at": soon})
    assert account.post(BODY).status_code == 200
    time.sleep(2.5)
    with untouched(account, sandbox):
        is_error(account.post(BODY), 401, "invalid_api_key")


def test_deleted_key(gateway, sandbox, account):
    gateway.admin.delete(f"keys/{account.key['id']}")
    with untouched(account, sandbox):
        is_error(account.post(BODY), 401, "invalid_api_key")


def test_suspended_tenant(gateway, sandbox, account):
    gateway.admin.patch(f"tenants/{account.id}", {"status": "suspended"})
    with untouched(account, sandbox):
        is_error(account.post(BODY), 403, "account_suspended")
    gateway.admin.patch(f"tenants/{account.id}", {"status": "active"})
    with charges(account, "0.016"):
        assert account.post(BODY).status_code == 200


@pytest.mark.parametrize("policy, body, status, code, param", [
    ({"models": ["dall-e-3"]}, {}, 404, "model_not_found", "model"),
    ({"operations": ["edits"]}, {}, 403, "policy_violation", "any"),
    ({"sizes": ["512x512"]}, {}, 403, "policy_violation", "size"),
    ({"qualities": ["low"]}, {"model": "gpt-image-1", "size": "1024x1024", "quality": "high"}, 403, "policy_violation", "quality"),
    ({"max_n": 2}, {"n": 3}, 403, "policy_violation", "n"),
    ({"ip_allow": ["10.0.0.0/8"]}, {}, 403, "ip_not_authorized", "any"),
])
def test_policy_of_key_and_tenant(gateway, sandbox, policy, body, status, code, param):
    for more in ({"key": {"policy": policy}}, {"tenant": {"policy": policy}}):
        account = Account(gateway, **more)
        with untouched(account, sandbox):
            is_error(account.post({**BODY, **body}), status, code, param=param)


def test_policy_that_allows(gateway, sandbox):
    policy = {"models": ["dall-e-2"], "operations": ["generations"], "sizes": ["256x256"], "max_n": 2,
              "ip_allow": ["10.0.0.0/8", "127.0.0.0/8", "::1/128"]}
    account = Account(gateway, key={"policy": policy}, tenant={"policy": policy})
    with charges(account, "0.032"):
        assert account.post({**BODY, "n": 2}).status_code == 200


def test_test_mode_key_moves_no_money(bare_gateway, gateway, sandbox):
    """Test keys use channels of kind sandbox alone, and never money."""
    account = Account(gateway, credit=None, key={"mode": "test"})
    assert account.secret.startswith("sk-tg-test-")
    asked = calls(sandbox)
    refused = account.post(BODY)
    assert (refused.status_code, refused.json()["error"]["code"]) in ((503, "no_channel_available"), (404, "model_not_found")), refused.text
    assert calls(sandbox) == asked
    channel = gateway.channel(sandbox, name="test channel", kind="sandbox", models=["dall-e-2"])
    reply = account.post(BODY)
    assert reply.status_code == 200, reply.text
    assert account.balance() == {"posted": 0, "held": 0, "available": 0}
    assert [r["flags"] for r in account.records()] == [["test"]]
    gateway.admin.delete(f"channels/{channel['id']}")

