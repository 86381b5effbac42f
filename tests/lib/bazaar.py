"""A gateway with mixed traffic behind it: tenants in several zones, customers of both kinds, all operations, refunds."""

import random
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

from .admin import Account, Customer, unique
from .form import file, text
from .picture import png

NAMES = ("tenant", "customer", "key", "model", "operation", "size", "quality", "channel")
TOKENS = ("text_input_tokens", "cached_text_input_tokens", "image_input_tokens", "cached_image_input_tokens", "image_output_tokens", "text_output_tokens")
COUNTS = ("images", *TOKENS)
MONEY = ("cost", "wholesale", "retail", "margin", "refunded")


class Bazaar:
    def __init__(self, gateway, calls=60, seed=6):
        self.gateway, self.admin, self.rng = gateway, gateway.admin, random.Random(seed)
        self.one = Account(gateway, credit="50", tenant={"name": unique("one"), "timezone": "Asia/Kolkata", "markup_percent": "25"})
        self.two = Account(gateway, credit="50", tenant={"name": unique("two"), "timezone": "America/New_York"})
        self.own = Customer(self.one, credit="20", markup_percent="30", external_id=unique("ext"))
        self.shared = Customer(self.one, wallet="shared", markup_percent="10")
        self.other = Customer(self.two, credit="20", name='=HYPERLINK("http://x")<script>, "quoted"')
        self.test = Account(gateway, credit=None, key={"mode": "test"})
        self.callers = [self.one, self.two, self.own, self.shared, self.other]
        self.call(calls)
        self.refund()

    def _one_call(self, seed):
        rng = random.Random(seed)
        caller = rng.choice(self.callers)
        what = rng.random()
        if what < 0.15:
            reply = caller.form(text("model", "gpt-image-1"), text("prompt", "a hat"), text("quality", "low"), text("size", "1024x1024"),
                                file("image", png(64, 64), "a.png", "image/png"))
        elif what < 0.25:
            reply = caller.form(text("model", "dall-e-2"), text("size", "256x256"), file("image", png(64, 64), "a.png", "image/png"), path="/v1/images/variations")
        else:
            model, sizes, more = rng.choice((("dall-e-2", ("256x256", "512x512"), {"n": rng.randrange(1, 4)}), ("dall-e-3", ("1024x1024", "1792x1024"), {"quality": "hd"}),
                                             ("gpt-image-1", ("1024x1024", "1536x1024"), {"quality": rng.choice(("low", "medium"))})))
            reply = caller.post({"model": model, "prompt": f"picture {seed}", "size": rng.choice(sizes), **more})
        assert reply.status_code == 200, reply.text

    def call(self, n):
        seeds = [self.rng.randrange(1 << 40) for _ in range(n)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self._one_call, seeds))
        for account in (self.one, self.two):
            account.settled()
        self.own.settled()
        self.other.settled()

    def refund(self, n=6):
        for record in self.rng.sample(self.admin.records(), n):
            amount = Decimal(record["retail" if record["customer"] in (self.own.id, self.other.id) else "wholesale"]) / 3
            reply = self.admin.money(f"usage/records/{record['id']}/refund", {"amount": f"{amount:.9f}", "reason": "blurred"})
            assert reply.status_code in (200, 400), reply.text  # 0.000000000 of a free call

    def records(self, **filters):
        return self.admin.records(**filters)


def sums(records, by=()):
    """What a report would say of these records: {names: {requests, images, ..., refunded}}."""
    out = {}
    for r in records:
        row = out.setdefault(tuple(r[name] for name in by), {"requests": 0, **dict.fromkeys(COUNTS, 0), **dict.fromkeys([m for m in MONEY if m in r], Decimal(0))})
        row["requests"] += 1
        for name in COUNTS:
            row[name] += r[name]
        for name in MONEY:
            if name in r:
                row[name] += Decimal(r[name])
    return out


def results(report, by=()):
    """The same of a report's answer, over all its buckets."""
    out = {}
    for bucket in report["data"]:
        for r in bucket["results"]:
            row = out.setdefault(tuple(r[name] for name in by), {})
            for name in ("requests", *COUNTS, *MONEY):
                if name in r:
                    row[name] = row.get(name, 0) + (Decimal(r[name]) if name in MONEY else r[name])
    return out
