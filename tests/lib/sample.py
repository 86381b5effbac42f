"""One of every kind of thing that the admin API knows, made through it: what a document's examples and a fuzzer's ids are taken from."""

import time

from .admin import Account, Customer, unique


class Sample:
    """A reseller with customers, keys, books, tokens, holds in doubt, usage and refunds; `ids` has several of each kind."""

    def __init__(self, gateway):
        self.gateway, self.admin = gateway, gateway.admin
        self.ids = {}
        self.book = self.take("pbk", self.admin.create("price-books", {"name": unique("retail"), "kind": "retail"}))
        self.version = self.take("pbv", self.admin.create(f"price-books/{self.book['id']}/versions", {"rates": [
            {"model": "dall-e-2", "unit": "image", "amount": "0.03"}, {"model": "dall-e-3", "quality": "hd", "unit": "image", "amount": "0.15"}]}))
        self.account = Account(gateway, tenant={"in_doubt": "keep", "external_id": unique("crm"), "timezone": "Europe/Berlin",
                                                "budgets": [{"amount": "5000.00", "window": "month"}]}, key={"external_id": unique("shop")})
        self.take("ten", self.account.tenant)
        self.take("key", self.account.key)
        self.customer = Customer(self.account, credit="5.00", wallet="own", markup_percent="20", external_id=unique("studio"))
        self.shared = Customer(self.account, wallet="shared", price_book=self.book["id"])
        for one in (self.customer, self.shared):
            self.take("cus", one.customer)
            self.take("key", one.key)
        self.token = self.take("adt", self.admin.create("admin-tokens", {"name": "reader", "scope": self.account.id, "role": "viewer"}))
        for channel in self.admin.all("channels"):
            self.take("chn", channel)
        for grant in self.admin.grants(self.account.id) + self.admin.grants(self.customer.id):
            self.take("grt", grant)
        self.use()

    def take(self, kind, thing):
        self.ids.setdefault(kind, []).append(thing["id"])
        return thing

    def use(self):
        for caller in (self.account, self.customer, self.shared):
            for size in ("256x256", "512x512"):
                assert caller.post({"model": "dall-e-2", "prompt": "a lighthouse", "size": size}).status_code == 200
        self.account.post({"model": "dall-e-2", "prompt": "[[die=headers]]", "size": "256x256"})
        self.gateway.wait_for(lambda: self.admin.all("holds", state="in_doubt", tenant=self.account.id), "a hold in doubt")
        for kind, path in (("use", "usage/records"), ("hld", "holds"), ("txn", f"tenants/{self.account.id}/ledger"), ("txn", f"customers/{self.customer.id}/ledger")):
            for thing in self.admin.all(path, **({"tenant": self.account.id} if kind in ("use", "hld") else {})):
                self.take(kind, thing)
        self.month = time.strftime("%Y-%m", time.gmtime(time.time() + 7200))
