"""Who may what: every route of the admin listener, as `tallygate help --routes` names them, by every kind of token. A route that this module
does not know how to call fails it, so that none is left out.

Writes are tried with a body or a precondition that cannot be right: 400 or 412 then says that the token was let through to them."""

import re

import pytest

from lib.check import REQUEST_ID, is_error
from lib.routes import GOOD, GUARDED, MISSING, PREFIX, ROUTES, World, counts, kind_of, name

OWNED = {"tenant": "ten", "customer": "cus", "key": "key"}  # parameters and members that name what belongs to a tenant


@pytest.fixture(scope="module")
def world(gateway):
    made = World(gateway)
    yield made
    made.close()


@pytest.fixture(scope="module", autouse=True)
def nothing_has_changed(world):
    """No call of this module may have done anything but what it says."""
    before = counts(world)
    yield
    assert counts(world) == before


# ---- what is expected ----

def passes(route):
    """What a token gets that may."""
    if route["method"] == "GET":
        return {200}
    return {412} if route["method"] == "DELETE" else {400}


def expected(who, route):
    platform, write = route["scope"] == "platform", route["access"] != "read"
    if who not in GOOD:
        return {401}
    if write and who.endswith("viewer"):
        return {403}
    if who.startswith("platform"):
        return passes(route)
    if who.startswith("own"):
        if platform:
            return {404}
        if route["scope"] == "terms":
            return {403}
        # the tenant's own money and terms are the platform's to move
        return passes(route) | ({403} if route["access"] == "money" else set())
    if platform or "{id}" in route["path"]:
        return {404}
    return {403} if route["scope"] == "terms" else passes(route)


def masked(reply, id):
    text = reply.text.replace(id, "ID") if id else reply.text
    assert REQUEST_ID.match(reply.headers["x-request-id"])
    text = text.replace(reply.headers["x-request-id"], "REQUEST")
    headers = {k: v for k, v in reply.headers.items() if k not in ("date", "x-request-id")}
    return reply.status_code, text, headers


# ---- the matrix ----

WHO = ["platform admin", "platform viewer", "own admin", "own viewer", "other admin", "revoked", "expired", "none", "garbage", "an API key"]


def test_there_are_routes():
    assert len(GUARDED) > 50 and {r["scope"] for r in GUARDED} == {"platform", "terms", "tenant"} and {r["access"] for r in GUARDED} == {"read", "write", "money"}


@pytest.mark.parametrize("who", WHO)
def test_every_route(world, who):
    wrong = []
    for place, route in enumerate(GUARDED):
        id = world.ids[kind_of(route)] if "{id}" in route["path"] else None
        reply = world.ask(who, route, id, place)
        if reply.status_code not in expected(who, route):
            wrong.append(f"{name(route)}: {reply.status_code} instead of {expected(who, route)}: {reply.text[:200]}")
        elif reply.status_code >= 400:
            error = is_error(reply, reply.status_code)
            assert reply.status_code != 400 or error["param"] in ("no_such_member", "Idempotency-Key"), (name(route), error)
            assert reply.status_code != 401 or (world.tokens[who] or "ta-never-shown")[8:] not in reply.text, "a token is repeated"
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("route", [r for r in GUARDED if "{id}" in r["path"]], ids=name)
def test_what_is_not_ones_own_is_like_what_is_not_there(world, route):
    kind = kind_of(route)
    theirs, missing = world.ids[kind], f"{PREFIX[kind]}_{MISSING}"
    assert masked(world.ask("other admin", route, theirs), theirs) == masked(world.ask("other admin", route, missing), missing)
    assert world.ask("other admin", route, theirs).status_code == 404
    if route["scope"] == "platform":  # of the platform's things the owner's own token sees as little
        assert masked(world.ask("own admin", route, theirs), theirs) == masked(world.ask("own admin", route, missing), missing)


@pytest.mark.parametrize("route", [r for r in GUARDED if r["scope"] == "tenant" and any(q["name"] in OWNED for q in r["query"])], ids=name)
def test_filters_that_name_what_is_not_ones_own(world, route):
    collections = {"tenant": "tenants", "customer": "customers", "key": "keys"}
    for q in route["query"]:
        if q["name"] not in OWNED:
            continue
        theirs, missing = world.ids[collections[q["name"]]], f"{OWNED[q['name']]}_{MISSING}"
        answers = [masked(world.ask("other admin", route, query={q["name"]: id}), id) for id in (theirs, missing)]
        assert answers[0] == answers[1] and answers[0][0] == 404, (name(route), q["name"], answers)


@pytest.mark.parametrize("route", [r for r in GUARDED if r["scope"] == "tenant" and r["body"] and "{id}" not in r["path"]], ids=name)
def test_bodies_that_name_what_is_not_ones_own(world, route):
    """Each member that may name a tenant's thing, beside what the body must have."""
    collections = {"tenant": "tenants", "customer": "customers", "key": "keys", "price_book": "price-books", "scope": "tenants"}
    prefixes = {**OWNED, "price_book": "pbk", "scope": "ten"}
    least = {"name": "x", "kind": "retail", "model": "dall-e-2"}
    fields = {f["name"]: f for f in route["body"]["fields"]}
    if "keys" in fields:  # a list of what POST /keys takes
        bodies = [lambda id, m=m: {"keys": [{"name": "x", m: id}]} for m in ("tenant", "customer")]
        members = ["tenant", "customer"]
    else:
        members = [m for m in fields if m in collections]
        bodies = [lambda id, m=m: {**{f: least[f] for f in fields if fields[f]["required"]}, m: id} for m in members]
    assert members, f"{name(route)}: what could it name?"
    for member, body in zip(members, bodies):
        theirs, missing = world.ids[collections[member]], f"{prefixes[member]}_{MISSING}"
        answers = [masked(world.ask("other admin", route, body=body(id)), id) for id in (theirs, missing)]
        assert answers[0] == answers[1] and answers[0][0] == 404, (name(route), member, answers)


def test_lists_of_a_tenant_have_nothing_of_others(world):
    """Whatever can be read without an id: not one id of the other tenant's, nor of the platform's things, nor a cost."""
    mine = {v for k, v in world.ids.items() if k != "channels"} | {world.own.id}
    for route in GUARDED:
        if route["method"] != "GET" or "{id}" in route["path"] or route["scope"] != "tenant":
            continue
        reply = world.ask("other admin", route)
        assert reply.status_code == 200, (name(route), reply.text)
        assert not [i for i in mine if i in reply.text], name(route)
        own = world.ask("own admin", route)
        assert not re.search(r'"(cost|channel)"|chn_', own.text) or "/organization/" in route["path"], (name(route), own.text)
        assert world.ids["channels"] not in own.text and world.other.id not in own.text


def test_wrong_ids(world):
    """An id that is none, or of something else, is like a missing one; so is an escaped one."""
    for route in GUARDED:
        if "{id}" not in route["path"]:
            continue
        kind = kind_of(route)
        for id in ("x", f"{PREFIX[kind]}_", f"{PREFIX[kind]}_{'z' * 22}", f"{PREFIX[kind]}_{'0' * 22}", f"{PREFIX[kind]}_{MISSING}x", world.ids["keys" if kind != "keys" else "tenants"]):
            reply = world.ask("platform admin", route, id)
            is_error(reply, 404, "not_found", param="id")


def test_open_routes(world):
    """Those without a token say the same to everybody."""
    for route in ROUTES:
        if not route["token"]:
            replies = [world.call(who, route["method"], route["path"]) for who in ("none", "garbage", "other admin")]
            assert {r.status_code for r in replies} == {200}, route
            if route["path"] != "/metrics":
                assert len({r.headers.get("content-type") for r in replies}) == 1
