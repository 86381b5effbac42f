"""Assertions that many tests share: error objects, untouched money."""

import re
from contextlib import contextmanager
from decimal import Decimal

REQUEST_ID = re.compile(r"^req_[0-9A-Za-z]{10,40}$")


def is_error(reply, status, code="any", type=None, param="any", message=None):
    """An error of this kind, with all four keys and a request id; gives the error object. "any": not looked at.
    On the admin listener the object has request_id as its fifth key, equal to the header."""
    assert reply.status_code == status if hasattr(reply, "status_code") else reply.status == status, \
        f"{getattr(reply, 'status_code', getattr(reply, 'status', None))} instead of {status}: {body_text(reply)}"
    assert reply.headers.get("content-type", "").startswith("application/json"), dict(reply.headers)
    answer = reply.json()
    assert set(answer) == {"error"}, answer
    error = answer["error"]
    relayed = {"moderation_details"} if code == "moderation_blocked" else set()  # the upstream's own words
    assert set(error) - {"request_id"} - relayed == {"message", "type", "param", "code"}, error
    if "request_id" in error:
        assert error["request_id"] == reply.headers["x-request-id"], error
    if type is None:
        type = "server_error" if status >= 500 else "invalid_request_error"
    assert error["type"] == type, error
    if code != "any":
        assert error["code"] == code, error
    if param != "any":
        assert error["param"] == param, error
    if message is not None:
        assert re.search(message, error["message"]), f"{error['message']!r} does not match {message!r}"
    has_request_id(reply)
    return error


def body_text(reply):
    return reply.text[:500] if hasattr(reply, "text") else reply.body[:500]


def has_request_id(reply):
    assert REQUEST_ID.match(reply.headers.get("x-request-id", "")), dict(reply.headers)


def anonymous(reply, *ids):
    """The answer's text without these ids and without its own request id: two refusals must not differ in more."""
    text = re.sub(r'"request_id": "req_[0-9A-Za-z]+"', '"request_id": "REQ"', reply.text)
    for one in ids:
        text = text.replace(one, "ID")
    return text


def money(text):
    """A decimal string of an answer; a JSON number would be a fault."""
    assert isinstance(text, str), f"{text!r} is not a decimal string"
    return Decimal(text)


@contextmanager
def untouched(account, upstream=None):
    """Nothing inside moves the account's money, leaves a record, or (with <upstream>) reaches the upstream."""
    before, records = account.balance(), len(account.records())
    asked = calls(upstream)
    yield
    assert calls(upstream) == asked, "the upstream was called"
    assert account.balance() == before, f"{account.balance()} instead of {before}"
    assert len(account.records()) == records


def calls(upstream):
    if upstream is None:
        return 0
    return upstream.served()["requests"] if hasattr(upstream, "served") else len(upstream.requests)


@contextmanager
def charges(account, amount, records=1):
    """What happens inside costs exactly <amount> and leaves <records> usage records whose sum is the same."""
    amount = Decimal(amount)
    before, had = account.settled(), len(account.records())
    yield
    after = account.settled()
    assert before["posted"] - after["posted"] == amount, f"charged {before['posted'] - after['posted']} instead of {amount}"
    assert after["available"] - before["available"] == -amount
    new = account.records()[:len(account.records()) - had]
    assert len(new) == records, new
    assert sum((money(r["wholesale"]) for r in new), Decimal(0)) == amount, new
