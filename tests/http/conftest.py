"""A gateway whose only channel is an upstream that the test scripts, for the modules that look at what goes upstream."""

import pytest

from lib.admin import Account

MODELS = ["dall-e-2", "dall-e-3", "gpt-image-1", "gpt-image-2"]


@pytest.fixture(scope="module")
def world(bare_gateway, upstream):
    bare_gateway.channel(upstream, models=MODELS)
    return bare_gateway


@pytest.fixture
def caller(world, upstream):
    """A new tenant with 10.00 and a key, in front of the scripted upstream, which forgets what was before."""
    upstream.use(None)
    return Account(world)
