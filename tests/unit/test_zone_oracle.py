#!/usr/bin/env python3
"""Time zones against Python's own reading of the same files.

Usage: test_zone_oracle.py --driver PATH [--seed S]

For every zone of the machine's database: the offset around each change of the clocks between 1971 and 2060, and at
random instants up to 2150; when the days around each change begin, and random days. The changes are found by asking
Python alone, on a grid of a week and then by bisection. When a day begins follows from PEP 495: of a midnight that
comes twice the first; of one that is jumped over the instant of the jump, found by bisection once more.
Exit status: 0 all equal, 1 a difference, 2 it could not run.
"""

import argparse
import random
import subprocess
import sys
import zoneinfo
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

DATABASE = Path("/usr/share/zoneinfo")
DAY = 86400
EPOCH = date(1970, 1, 1)
FIRST = (date(1971, 1, 1) - EPOCH).days * DAY
LAST = (date(2060, 1, 1) - EPOCH).days * DAY
FAR = (date(2150, 1, 1) - EPOCH).days * DAY
GRID = 7 * DAY


def offset(zone, second):
    delta = datetime.fromtimestamp(second, zone).utcoffset()
    return delta.days * DAY + delta.seconds


def bisect(zone, low, high):
    """The first instant in (low, high] whose offset is not that of <low>; there is one."""
    before = offset(zone, low)
    while high - low > 1:
        middle = (low + high) // 2
        if offset(zone, middle) == before:
            low = middle
        else:
            high = middle
    return high


def changes(zone):
    found = []
    low, before = FIRST, offset(zone, FIRST)
    for high in range(FIRST + GRID, LAST, GRID):
        after = offset(zone, high)
        if after != before:
            found.append(bisect(zone, low, high))
        low, before = high, after
    return found


def day_begins(zone, day):
    civil = EPOCH + timedelta(days=day)
    midnight = datetime(civil.year, civil.month, civil.day, tzinfo=zone)
    first = int(midnight.astimezone(timezone.utc).timestamp())
    if first + offset(zone, first) == day * DAY:
        return first
    # No clock shows it: <first> takes the offset before the jump, fold=1 the one after, which is the earlier instant.
    earlier = int(midnight.replace(fold=1).astimezone(timezone.utc).timestamp())
    assert earlier < first, (zone.key, civil)
    return bisect(zone, earlier - 1, first)


def questions(name, zone, found, rng):
    """(what to ask, the right answer)"""
    seconds = [at + near for at in found for near in (-1, 0, 1)]
    seconds += [rng.randrange(FIRST, FAR) for _ in range(100)]
    days = [at // DAY + near for at in found for near in (-1, 0, 1)]
    days += [rng.randrange(FIRST // DAY, FAR // DAY) for _ in range(50)]
    asked = [(f"{name} {second}", offset(zone, second)) for second in seconds]
    asked += [(f"{name} day {day}", day_begins(zone, day)) for day in days]
    return asked


def ask(driver, asked):
    lines = "".join(question + "\n" for question, _ in asked)
    done = subprocess.run([driver], input=lines.encode(), stdout=subprocess.PIPE, check=False)
    answers = done.stdout.decode().splitlines()
    if done.returncode != 0 or len(answers) != len(asked):
        print(f"driver: status {done.returncode}, {len(answers)} answers to {len(asked)} questions", file=sys.stderr)
        sys.exit(2)
    failures = 0
    for (question, wanted), answer in zip(asked, answers):
        if str(wanted) != answer:
            failures += 1
            if failures <= 20:
                print(f"asked   {question}\nwanted  {wanted}\ngot     {answer}\n", file=sys.stderr)
    return failures


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--driver", required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    zoneinfo.reset_tzpath(to=[str(DATABASE)])
    names = sorted(n for n in zoneinfo.available_timezones() if (DATABASE / n).is_file())
    if len(names) < 300:
        print(f"{len(names)} zones in {DATABASE}: is the package tzdata installed?", file=sys.stderr)
        sys.exit(2)
    known, asked = {}, []  # many names are of one zone: its changes are looked for once
    for name in names:
        zone = zoneinfo.ZoneInfo(name)
        content = (DATABASE / name).read_bytes()
        found = known.get(content)
        if found is None:
            found = known[content] = changes(zone)
            asked += questions(name, zone, found, rng)
        else:
            asked += questions(name, zone, found[-3:], rng)
    failures = ask(options.driver, asked)
    print(f"{len(names)} zones, {sum(map(len, known.values()))} changes, {len(asked)} questions, {failures} differences")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
