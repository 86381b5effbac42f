"""A gateway whose channel is an upstream that the test scripts, for the modules that want one."""

import pytest

from lib.admin import Account


@pytest.fixture(scope="module")
def world(bare_gateway, upstream):
    bare_gateway.channel(upstream, models=["dall-e-2", "gpt-image-1"])
    return bare_gateway


@pytest.fixture
def account(world):
    return Account(world)
