"""What Schemathesis loads beside its configuration: which of its findings are no faults, and a count of the answers for $TG_FUZZ_SEEN."""

import atexit
import itertools
import json
import os
import re
from collections import Counter

import schemathesis

seen = Counter()
serial = itertools.count(1)


@schemathesis.hook
def before_call(context, case, kwargs):
    """A good Idempotency-Key would soon be used up, and a good If-Match be of an older version: three of four calls get fresh ones, so that they come further."""
    headers, turn = case.headers, next(serial)
    missing = case.meta is not None and "missing" in str(getattr(case.meta.phase.data, "scenario", "")).lower()
    if not headers or missing or turn % 4 == 0:
        return
    key, match = headers.get("Idempotency-Key"), headers.get("If-Match")
    if isinstance(key, str) and re.fullmatch(r"[ -~]{1,255}", key):
        headers["Idempotency-Key"] = f"fuzz-{turn}"
    if match == '"3"':
        headers["If-Match"] = "*"


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """It tries hundreds of bad tokens from one address; past the first ones 429 is the answer, and documented."""
    return not (type(failure).__name__ == "IgnoredAuth" and "429 Too Many Requests" in f"{failure.title} {failure.message}")


@schemathesis.hook
def after_call(context, case, response):
    seen[f"{case.operation.label} {response.status_code}"] += 1


@atexit.register
def write():
    if path := os.environ.get("TG_FUZZ_SEEN"):
        with open(path, "w", encoding="utf-8") as file:
            json.dump(seen, file)
