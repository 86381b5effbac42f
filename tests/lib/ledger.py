"""What became of a call's money, from every side that shows it: wallet, records, the writer's counters."""

from contextlib import contextmanager
from decimal import Decimal

from .check import money

ENDS = {"void": "tallygate_voids_total", "capture": "tallygate_captures_total", "doubt": "tallygate_in_doubt_total"}


@contextmanager
def hold_becomes(account, end, charge=0, flags=(), status=200):
    """Inside, exactly one call is made: its hold ends as <end> ("none": there never was one), <charge> is paid, and the record
    says so with exactly <flags> and the upstream's <status> (None: whichever); a void leaves no record."""
    gateway, charge = account.gateway, Decimal(charge)
    before, counted, had = account.settled(), gateway.metrics(), len(account.records())
    yield
    expected = {"tallygate_holds_total": int(end != "none"), **{name: int(which == end) for which, name in ENDS.items()}}

    def counts():
        now = gateway.metrics()
        return {name: int(now[name] - counted[name]) for name in expected}
    gateway.wait_for(lambda: counts() == expected or _differs(counts(), expected), "the hold to end")
    assert counts() == expected
    after, records = account.settled(), account.records()
    assert before["posted"] - after["posted"] == charge, f"{before['posted'] - after['posted']} paid instead of {charge}"
    new = records[:len(records) - had]
    if end in ("void", "none"):
        assert new == [], new
        return
    assert len(new) == 1, new
    assert money(new[0]["wholesale"]) == charge, new
    if flags is not None:
        assert set(new[0]["flags"]) == set(flags), new[0]["flags"]
    if status is not None:
        assert new[0]["attempts"][0]["status"] == status, new[0]["attempts"]


def _differs(now, expected):
    """More than was expected: waiting will not help."""
    return any(now[name] > expected[name] for name in expected)
