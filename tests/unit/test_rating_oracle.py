#!/usr/bin/env python3
"""The pricing engine against an oracle of exact fractions.

Usage: test_rating_oracle.py --driver PATH [--cases N] [--seed S] [--jobs J]

Cases go to the driver (rating_driver.c) in batches through a pipe; every answer must be equal to the bit. What is
checked: charges of random rates, quantities and markups; the edges of overflow; which of many rates is found; the token
formulas over random sizes; and every published price. The oracle knows nothing of the engine: it works on whole
pico-dollars without bound, on a sample of the cases on dollars as fractions too, and the published figures stand here
a second time, as they were published.

Random charges (N of them, a million unless said) are shared out to J processes in pieces, each with a seed of its own,
so that a run is the same for any J. One in ten lies around a bound: it must be an error exactly when the charge does
not fit, and a run in which either side of a bound was never met fails.
Exit status: 0 all equal, 1 a difference, 2 it could not run.
"""

import argparse
import math
import multiprocessing
import os
import random
import subprocess
import sys
from fractions import Fraction

UNITS = [
    "image",
    "request",
    "text_input_token",
    "cached_text_input_token",
    "image_input_token",
    "cached_image_input_token",
    "image_output_token",
    "text_output_token",
]
KIN = {3: 2, 4: 2, 5: 4, 7: 6}  # whose rate stands in for a missing one
INT64_MAX = 2**63 - 1
MARKUP_MIN, MARKUP_MAX = -(10**6), 10**9
NANO = 10**9
PICO = 10**12
BATCH = 50_000
PIECE = 250_000  # random charges to a process at a time
SAMPLE = 50  # one charge in so many is worked out as a fraction too


class DriverError(Exception):
    pass


class Driver:
    """Runs cases in batches and compares the answers."""

    def __init__(self, path):
        self.path = path
        self.cases = []
        self.count = 0
        self.failures = 0

    def expect(self, case, answer):
        self.cases.append((case, answer))
        if len(self.cases) >= BATCH:
            self.flush()

    def ask(self, cases):
        done = subprocess.run(
            [self.path], input="".join(c + "\n" for c in cases).encode(), stdout=subprocess.PIPE, check=False
        )
        answers = done.stdout.decode().splitlines()
        if done.returncode != 0 or len(answers) != len(cases):
            raise DriverError(f"status {done.returncode}, {len(answers)} answers to {len(cases)} cases")
        return answers

    def flush(self):
        got = self.ask([case for case, _ in self.cases])
        for (case, wanted), answer in zip(self.cases, got):
            if str(wanted) != answer:
                self.failures += 1
                if self.failures <= 20:
                    print(f"case    {case}\nwanted  {wanted}\ngot     {answer}\n", file=sys.stderr)
        self.count += len(self.cases)
        self.cases = []


# ---- charges ---------------------------------------------------------------------------------------------------------


def rate_of(rates, unit):
    while rates[unit] is None and unit in KIN:
        unit = KIN[unit]
    return rates[unit]


def oracle_charge(markup, rates, quantities):
    """The sum in pico-dollars, times 1 + markup; one rounding, up, to nano-dollars."""
    if not MARKUP_MIN <= markup <= MARKUP_MAX or min(quantities) < 0:
        return "INVALID_VALUE"
    pico = [rate_of(rates, unit) for unit in range(8)]
    if all(p is None for p in pico):
        # Nothing is priced; a quantity that is too large cannot matter.
        return "MODEL_NOT_FOUND"
    shares = [q * (p or 0) for q, p in zip(quantities, pico)]
    total = sum(shares)
    if total > INT64_MAX * 10**9:  # the sum before the markup has a bound of its own
        return "INVALID_VALUE"
    nano = -(total * (10**6 + markup) // -(10**9))
    if nano > INT64_MAX:
        return "INVALID_VALUE"
    lines = " ".join(str(min(share // 1000, INT64_MAX)) for share in shares)
    return f"{nano} {lines}"


def fraction_charge(markup, rates, quantities):
    """The same once more, in dollars: what the words of the contract say."""
    pico = [rate_of(rates, unit) for unit in range(8)]
    if not MARKUP_MIN <= markup <= MARKUP_MAX or min(quantities) < 0:
        return "INVALID_VALUE"
    if all(p is None for p in pico):
        return "MODEL_NOT_FOUND"
    dollars = sum((q * Fraction(p or 0, PICO) for q, p in zip(quantities, pico)), Fraction(0))
    nano = math.ceil(dollars * (1 + Fraction(markup, 10**6)) * NANO)
    if nano > INT64_MAX or dollars * NANO > INT64_MAX * 10**6:
        return "INVALID_VALUE"
    return str(nano)


def charge_case(markup, rates, quantities):
    words = ["c", str(markup)]
    words += ["-" if r is None else str(r) for r in rates]
    words += [str(q) for q in quantities]
    return " ".join(words)


def random_rates(rng):
    kind = rng.random()
    if kind < 0.5:  # token prices as they are published: whole cents per million
        return [None if rng.random() < 0.4 else int(rng.random() * 6000) * 10_000 for _ in UNITS]
    if kind < 0.8:  # any price, to the pico-dollar
        return [None if rng.random() < 0.4 else int(rng.random() * 10 ** int(rng.random() * 13)) for _ in UNITS]
    rates = [None] * 8  # per image, perhaps with a fee for the request
    rates[0] = int(rng.random() * 5_000_000) * 1_000_000
    if rng.random() < 0.3:
        rates[1] = int(rng.random() * 10**10)
    return rates


def random_quantities(rng):
    quantities = [int(rng.random() * 11), 1] + [0] * 6
    top = 10 ** (1 + int(rng.random() * 7))
    for unit in range(2, 8):
        if rng.random() < 0.6:
            quantities[unit] = int(rng.random() * (top + 1))
    return quantities


def random_markup(rng):
    kind = rng.random()
    if kind < 0.2:
        return 0
    if kind < 0.6:
        return int(rng.random() * 2_000_001) - 1_000_000
    if kind < 0.9:
        return int(rng.random() * 100) * 10_000
    return int(rng.random() * (MARKUP_MAX - MARKUP_MIN + 1)) + MARKUP_MIN


def edge_charge(rng):
    """A charge a little above or below what an int64 holds, made of two units."""
    markup = rng.choice((MARKUP_MIN + 1, -(10**6) // 2, -1, 0, 0, 1, 12_345, 10**6, MARKUP_MAX - 1, MARKUP_MAX, random_markup(rng)))
    limit = INT64_MAX * 10**9 // max(10**6 + markup, 1)  # the largest sum that fits, in pico-dollars
    pico = min(limit, INT64_MAX * 10**9) + rng.choice((-1, 1)) * int(rng.random() * 10 ** int(rng.random() * 13))
    rate = 2 ** (20 + int(rng.random() * 42))
    while pico // rate > INT64_MAX:
        rate *= 2
    rate = min(rate, INT64_MAX)
    whole, rest = divmod(max(pico, 0), rate)
    rates, quantities = [None] * 8, [0] * 8
    rates[6], quantities[6] = rate, min(whole, INT64_MAX)
    rates[0], quantities[0] = rest, 1
    return markup, rates, quantities


def random_charge(rng):
    if rng.random() < 0.1:
        return edge_charge(rng)
    return random_markup(rng), random_rates(rng), random_quantities(rng)


def check_random_charges(job):
    """One piece, in a process of its own: (cases, failures, those that fit an int64, those that do not)."""
    path, seed, cases = job
    rng = random.Random(seed)
    driver = Driver(path)
    fit = beyond = 0
    for i in range(cases):
        markup, rates, quantities = random_charge(rng)
        wanted = oracle_charge(markup, rates, quantities)
        if i % SAMPLE == 0 and fraction_charge(markup, rates, quantities) != wanted.split()[0]:
            print(f"the oracle differs from itself: {charge_case(markup, rates, quantities)}", file=sys.stderr)
            driver.failures += 1
        beyond += wanted == "INVALID_VALUE"
        fit += wanted[0].isdigit()
        driver.expect(charge_case(markup, rates, quantities), wanted)
    driver.flush()
    return driver.count, driver.failures, fit, beyond


def share_out_charges(path, seed, cases, jobs):
    pieces = [(path, f"{seed}/{i}", min(PIECE, cases - i)) for i in range(0, cases, PIECE)]
    with multiprocessing.Pool(jobs) as pool:
        return [sum(column) for column in zip(*pool.imap_unordered(check_random_charges, pieces))]


def check_edges(driver, rng):
    """Around every bound: INT64_MAX as rate, quantity and result, the markup's ends, negative quantities."""
    near = [0, 1, 2, 999, 1000, 1001, 10**6, 10**9, 10**12, 2**31, 2**32, 2**62, INT64_MAX - 1, INT64_MAX]
    markups = [MARKUP_MIN - 1, MARKUP_MIN, MARKUP_MIN + 1, -1, 0, 1, 10**6, MARKUP_MAX - 1, MARKUP_MAX, MARKUP_MAX + 1]
    for markup in markups:
        for rate in near:
            for quantity in near:
                rates, quantities = [None] * 8, [0] * 8
                rates[6], quantities[6] = rate, quantity
                driver.expect(charge_case(markup, rates, quantities), oracle_charge(markup, rates, quantities))
    for _ in range(20_000):
        rates = [rng.choice(near + [None]) for _ in UNITS]
        quantities = [rng.choice(near) for _ in UNITS]
        markup = rng.choice(markups)
        driver.expect(charge_case(markup, rates, quantities), oracle_charge(markup, rates, quantities))
    for markup in (MARKUP_MIN + 1, -1, 0, 1, 12345, MARKUP_MAX):
        limit = INT64_MAX * 10**9 // (10**6 + markup)  # the largest sum in pico-dollars that still fits
        for pico in (limit - 1, limit, limit + 1):
            rate = 2**31
            rest = pico % rate
            whole = pico // rate
            if whole > INT64_MAX:
                rate, whole, rest = 2**61, pico // 2**61, pico % 2**61
            rates, quantities = [None] * 8, [0] * 8
            rates[6], quantities[6] = rate, whole
            rates[0], quantities[0] = rest, 1
            driver.expect(charge_case(markup, rates, quantities), oracle_charge(markup, rates, quantities))
    for unit in range(8):
        quantities = [0] * 8
        quantities[unit] = -1
        driver.expect(charge_case(0, [1] * 8, quantities), "INVALID_VALUE")
    driver.expect(charge_case(0, [None] * 8, [1] * 8), "MODEL_NOT_FOUND")
    driver.expect(charge_case(0, [None, None, None, 5] + [None] * 4, [0] * 8), oracle_charge(0, [None] * 3 + [5] + [None] * 4, [0] * 8))


# ---- which rate ------------------------------------------------------------------------------------------------------


def oracle_find(item, unit, rates):
    """Of the matching rates the one that names most; quality over size over operation; of equals the dearer."""
    while True:
        best = None
        for operation, size, quality, rate_unit, pico in rates:
            named = [(quality, item[2]), (size, item[1]), (operation, item[0])]
            if rate_unit != unit or any(name != "-" and name != value for name, value in named):
                continue
            flags = tuple(name != "-" for name, _ in named)
            rank = (sum(flags), flags, pico)
            if best is None or rank > best:
                best = rank
        if best is not None:
            return best[2]
        if unit not in KIN:
            return "none"
        unit = KIN[unit]


def check_finding(driver, rng, cases):
    operations = ["-", "generations", "edits", "variations"]
    sizes = ["-", "1024x1024", "1792x1024", "auto"]
    qualities = ["-", "low", "high", "hd"]
    for _ in range(cases):
        item = (rng.choice(operations), rng.choice(sizes), rng.choice(qualities))
        unit = rng.randrange(8)
        rates = [
            (rng.choice(operations), rng.choice(sizes), rng.choice(qualities), rng.randrange(8), rng.randrange(1000))
            for _ in range(rng.randrange(17))
        ]
        words = ["f", *item, UNITS[unit], str(len(rates))]
        for operation, size, quality, rate_unit, pico in rates:
            words += [operation, size, quality, UNITS[rate_unit], str(pico)]
        driver.expect(" ".join(words), oracle_find(item, unit, rates))


# ---- tokens ----------------------------------------------------------------------------------------------------------

FACTORS_2 = {"low": 16, "medium": 48, "high": 96}
FACTORS_25 = {"low": 16, "medium": 24, "high": 48, "xhigh": 64, "max": 96}


def oracle_output(factor, w, h, images):
    """round(factor * shorter / longer), then one ceiling over all images."""
    s = math.floor(Fraction(factor * min(w, h), max(w, h)) + Fraction(1, 2))
    return math.ceil(Fraction(images * factor * s * (2_000_000 + w * h), 4_000_000))


def legal(w, h):
    return (
        w % 16 == 0
        and h % 16 == 0
        and max(w, h) <= 3840
        and Fraction(max(w, h), min(w, h)) <= 3
        and 655_360 <= w * h <= 8_294_400
    )


def oracle_patches(w, h):
    longer, shorter = Fraction(max(w, h)), Fraction(min(w, h))
    scale = min(max(Fraction(512) / longer, Fraction(1, 2)), Fraction(1))
    shorter = max(shorter, longer / 3)
    longer, shorter = longer * scale, shorter * scale
    patches = math.ceil(longer / 16) * math.ceil(shorter / 16)
    if patches <= 1536:
        return patches
    # Both edges times sqrt(1536 * 256 / area), in patches, rounded down: the root of an exact fraction.
    grow = Fraction(1536 * 256) / (longer * shorter) / 256
    return math.isqrt(math.floor(longer * longer * grow)) * math.isqrt(math.floor(shorter * shorter * grow))


def oracle_tiles(w, h, high):
    longer, shorter = max(w, h), min(w, h)
    if longer > 2048:
        longer, shorter = 2048, shorter * 2048 // longer
    if shorter > 512:
        longer, shorter = longer * 512 // shorter, 512
    return 65 + 129 * math.ceil(Fraction(longer, 512)) + (0 if not high else 4160 if w == h else 6240)


def check_tokens(driver, rng, cases):
    for _ in range(cases):
        w, h = rng.randrange(1, 250) * 16, rng.randrange(1, 250) * 16
        if rng.random() < 0.02:
            w += rng.randrange(16)
        images = rng.randrange(1, 11)
        for model, factors in (("gpt-image-2", FACTORS_2), ("gpt-image-2.5-flare", FACTORS_25)):
            quality, factor = rng.choice(list(factors.items()))
            wanted = oracle_output(factor, w, h, images) if legal(w, h) else -1
            driver.expect(f"t {model} {w}x{h} {quality} {images}", wanted)
    for _ in range(cases):
        top = rng.choice([64, 600, 1100, 5000, 100_000])
        w, h = rng.randrange(1, top), rng.randrange(1, top)
        if rng.random() < 0.1:
            h = w
        high = rng.randrange(2)
        driver.expect(f"i gpt-image-2 {w} {h} {high}", oracle_patches(w, h))
        driver.expect(f"i gpt-image-1 {w} {h} {high}", oracle_tiles(w, h, high))


# ---- what is published -----------------------------------------------------------------------------------------------


def nano(text):
    value = Fraction(text) * NANO
    assert value.denominator == 1
    return value.numerator


def default_case(model, operation="generations", size="-", quality="-", **quantities):
    values = [quantities.get(unit, 0) for unit in UNITS]
    return " ".join(["d", model, operation, size, quality] + [str(v) for v in values])


DALLE = [
    ("dall-e-2", "standard", {"256x256": "0.016", "512x512": "0.018", "1024x1024": "0.020"}),
    ("dall-e-3", "standard", {"1024x1024": "0.040", "1024x1792": "0.080", "1792x1024": "0.080"}),
    ("dall-e-3", "hd", {"1024x1024": "0.080", "1024x1792": "0.120", "1792x1024": "0.120"}),
]

# Dollars per million tokens: text in, text cached, image in, image cached, image out, text out.
PER_MILLION = {
    "gpt-image-1": ("5.00", "1.25", "10.00", "2.50", "40.00", "40.00"),
    "gpt-image-1-mini": ("2.00", "0.20", "2.50", "0.25", "8.00", "8.00"),
    "gpt-image-1.5": ("5.00", "1.25", "8.00", "2.00", "32.00", "10.00"),
    "chatgpt-image-latest": ("5.00", "1.25", "8.00", "2.00", "32.00", "10.00"),
    "gpt-image-2": ("5.00", "1.25", "8.00", "2.00", "30.00", "30.00"),
    "gpt-image-2.5-sunburst": ("5.00", "1.25", "8.00", "2.00", "30.00", "30.00"),
    "gpt-image-2.5-flare": ("5.00", "1.25", "8.00", "2.00", "30.00", "30.00"),
    "gpt-image-2.6-sunburst": ("5.00", "1.25", "8.00", "2.00", "30.00", "30.00"),
    "gpt-image-2.6-flare": ("5.00", "1.25", "8.00", "2.00", "30.00", "30.00"),
}

TABLE_SIZES = ("1024x1024", "1024x1536", "1536x1024")
TABLE = {"low": (272, 408, 400), "medium": (1056, 1584, 1568), "high": (4160, 6240, 6208)}

# Exact dollars a picture, by the table and the price of an output token.
PER_PICTURE = {
    "gpt-image-1": {
        "low": (".01088", ".01632", ".016"),
        "medium": (".04224", ".06336", ".06272"),
        "high": (".1664", ".2496", ".24832"),
    },
    "gpt-image-1.5": {
        "low": (".008704", ".013056", ".0128"),
        "medium": (".033792", ".050688", ".050176"),
        "high": (".13312", ".19968", ".198656"),
    },
}
MINI_PER_PICTURE = {"low": (".005", ".006", ".006"), "medium": (".011", ".015", ".015"), "high": (".036", ".052", ".052")}

# Formula: factor -> tokens and dollars (four decimals) for 1024x1024, 1024x1536 and 1536x1024, 2048x2048, 3840x2160.
FORMULA = {
    16: ((196, ".0059"), (158, ".0047"), (397, ".0119"), (371, ".0111")),
    24: ((439, ".0132"), (343, ".0103"), (892, ".0268"), (865, ".0260")),
    48: ((1756, ".0527"), (1372, ".0412"), (3568, ".1070"), (3336, ".1001")),
    64: ((3122, ".0937"), (2459, ".0738"), (6343, ".1903"), (5930, ".1779")),
    96: ((7024, ".2107"), (5488, ".1646"), (14272, ".4282"), (13342, ".4003")),
}
FORMULA_SIZES = (("1024x1024",), ("1024x1536", "1536x1024"), ("2048x2048",), ("3840x2160", "2160x3840"))
IMAGE_2_PER_PICTURE = {"low": (".006", ".005"), "medium": (".053", ".041"), "high": (".211", ".165")}

INPUT_1 = {(1024, 1024): 194, (1024, 1536): 323, (1920, 1080): 323, (1024, 1025): 194}
INPUT_2 = {
    (1024, 1024): 1024,
    (1536, 1024): 1536,
    (1280, 720): 920,
    (2048, 2048): 1521,
    (3840, 2160): 1508,
    (256, 256): 256,
    (64, 64): 16,
    (0, 0): 1536,
}


def rounded(value, decimals):
    return math.floor(value * 10**decimals + Fraction(1, 2))


def check_dalle(driver):
    for model, quality, prices in DALLE:
        for size, price in prices.items():
            for operation in ("generations", "edits", "variations") if model == "dall-e-2" else ("generations",):
                for images in (1, 2, 10):
                    case = default_case(model, operation, size, quality, image=images, request=1)
                    driver.expect(case, images * nano(price))
                images = 1
                driver.expect(f"h {model} {operation} {size} {quality} 1 0 100", nano(price))
    driver.expect("h dall-e-2 generations 256x256 - 2 0 100", nano("0.032"))
    driver.expect("h dall-e-2 generations - - 1 0 100", nano("0.020"))
    driver.expect("h dall-e-3 generations - - 1 0 100", nano("0.040"))
    driver.expect("h dall-e-3 generations 1792x1024 hd 1 0 100", nano("0.120"))
    driver.expect("h dall-e-3 generations auto auto 1 0 100", nano("0.120"))
    driver.expect(default_case("dall-e-3", size="512x512", quality="hd", image=1), "MODEL_NOT_FOUND")
    driver.expect(default_case("dall-e-4", size="1024x1024", quality="hd", image=1), "MODEL_NOT_FOUND")


def check_token_prices(driver):
    for model, prices in PER_MILLION.items():
        for unit, price in zip(UNITS[2:], prices):
            for tokens in (1, 100, 1_000_000):
                driver.expect(default_case(model, **{unit: tokens}), math.ceil(Fraction(price) * tokens * NANO / 10**6))
    for alias, model in (
        ("gpt-image-1.5-2025-12-16", "gpt-image-1.5"),
        ("gpt-image-2-2026-04-21", "gpt-image-2"),
        ("gpt-image-2.5-flare-2026-09-08", "gpt-image-2.5-flare"),
        ("gpt-image-2.5-sunburst-2026-09-08", "gpt-image-2.5-sunburst"),
    ):
        wanted = nano(Fraction(PER_MILLION[model][4]) / 10**6) * 1000
        driver.expect(default_case(alias, image_output_token=1000), wanted)
        driver.expect(f"t {alias} 1024x1024 low 1", 272 if model == "gpt-image-1.5" else 196)
    used = {"text_input_token": 20, "image_output_token": 1056, "image": 1, "request": 1}
    driver.expect(default_case("gpt-image-1", **used), nano("0.042340"))
    for model, price in (("gpt-image-1", ".004"), ("gpt-image-1.5", ".0032"), ("gpt-image-2", ".003"), ("gpt-image-1-mini", ".0008")):
        driver.expect(default_case(model, image_output_token=100), nano(price))  # one partial image


def check_tables(driver):
    for model in ("gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "chatgpt-image-latest"):
        for quality, row in TABLE.items():
            for column, (size, tokens) in enumerate(zip(TABLE_SIZES, row)):
                for images in (1, 3, 10):
                    driver.expect(f"t {model} {size} {quality} {images}", tokens * images)
                if model in PER_PICTURE:
                    case = default_case(model, image_output_token=tokens)
                    driver.expect(case, nano(PER_PICTURE[model][quality][column]))
                if model == "gpt-image-1-mini":  # a hold covers the price per picture, which is the dearer
                    hold = Fraction(MINI_PER_PICTURE[quality][column]) / Fraction("8") * 10**6
                    driver.expect(f"o {model} {size} {quality}", hold.numerator)
                else:
                    driver.expect(f"o {model} {size} {quality}", tokens)
        driver.expect(f"t {model} 512x512 low 1", -1)
        driver.expect(f"t {model} 1024x1024 hd 1", -1)


def check_formula(driver):
    for model, factors in (("gpt-image-2", FACTORS_2), ("gpt-image-2.5-sunburst", FACTORS_25), ("gpt-image-2.5-flare", FACTORS_25)):
        for quality, factor in factors.items():
            for sizes, (tokens, price) in zip(FORMULA_SIZES, FORMULA[factor]):
                assert rounded(Fraction(30, 10**6) * tokens, 4) == Fraction(price) * 10**4
                for size in sizes:
                    driver.expect(f"t {model} {size} {quality} 1", tokens)
                    driver.expect(f"o {model} {size} {quality}", tokens)
                driver.expect(default_case(model, image_output_token=tokens), tokens * 30_000)
    for quality, prices in IMAGE_2_PER_PICTURE.items():
        for (tokens, _), price in zip(FORMULA[FACTORS_2[quality]], prices):
            assert rounded(Fraction(30, 10**6) * tokens, 3) == Fraction(price) * 1000
    driver.expect("t gpt-image-2 2880x2880 high 1", 23719)
    driver.expect(default_case("gpt-image-2", image_output_token=23719), nano("0.71157"))
    driver.expect("t gpt-image-2 1024x1024 low 2", 391)
    driver.expect("h gpt-image-2 generations auto auto 10 0 0", 10 * (23719 * 30_000 + 6 * 5_000))
    for size in ("1000x1000", "4096x1024", "800x800", "3840x1264", "3840x2176"):
        driver.expect(f"t gpt-image-2 {size} low 1", -1)
    driver.expect("t gpt-image-2 816x816 low 1", oracle_output(16, 816, 816, 1))


def check_inputs(driver):
    for (w, h), tokens in INPUT_1.items():
        driver.expect(f"i gpt-image-1 {w} {h} 0", tokens)
        driver.expect(f"i gpt-image-1 {w} {h} 1", tokens + (4160 if w == h else 6240))
    for (w, h), tokens in INPUT_2.items():
        for high in (0, 1):
            driver.expect(f"i gpt-image-2 {w} {h} {high}", tokens)
            driver.expect(f"i gpt-image-2.5-flare {h} {w} {high}", tokens)
    driver.expect(default_case("gpt-image-1", image_input_token=4160), nano(".0416"))
    driver.expect(default_case("gpt-image-1", image_input_token=6240), nano(".0624"))
    driver.expect(default_case("gpt-image-2", image_input_token=1536), nano(".012288"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--driver", required=True)
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    rng = random.Random(options.seed)
    driver = Driver(options.driver)

    check_dalle(driver)
    check_token_prices(driver)
    check_tables(driver)
    check_formula(driver)
    check_inputs(driver)
    check_edges(driver, rng)
    check_finding(driver, rng, min(options.cases, 20_000))
    check_tokens(driver, rng, min(options.cases, 20_000))
    driver.flush()
    count, failures, fit, beyond = share_out_charges(options.driver, options.seed, options.cases, options.jobs)
    count += driver.count
    failures += driver.failures
    print(f"{count} cases, {failures} differ (seed {options.seed}; random charges: {fit} fit, {beyond} do not)")
    if options.cases >= PIECE and (fit == 0 or beyond == 0):
        print("one side of the bound was never met", file=sys.stderr)
        return 1
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (DriverError, OSError) as fault:
        print(f"driver: {fault}", file=sys.stderr)
        sys.exit(2)
