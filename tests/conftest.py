"""Fixtures: one gateway and one sandbox a module; every module ends with a clean stop and a clean fsck."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lib.admin import Account  # noqa: E402
from lib.gateway import Gateway, Sandbox  # noqa: E402
from lib.upstream import ScriptedUpstream  # noqa: E402


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def sandbox(directory):
    box = Sandbox(directory).start()
    yield box
    box.stop()


@pytest.fixture(scope="module")
def settings():
    """What a module's gateway is configured with besides ports and paths; a module overrides it."""
    return {}


@pytest.fixture(scope="module")
def bare_gateway(directory, settings):
    """A gateway without any channel."""
    gateway = Gateway(directory, settings).start()
    yield gateway
    gateway.stop()
    gateway.fsck()


@pytest.fixture(scope="module")
def gateway(bare_gateway, sandbox):
    """A gateway in front of the sandbox."""
    bare_gateway.channel(sandbox, name="sandbox")
    return bare_gateway


@pytest.fixture(autouse=True)
def survives(request):
    """A test that brings its module's gateway or sandbox down fails itself; the next one finds it running again."""
    yield
    for name in ("bare_gateway", "sandbox"):
        process = request.getfixturevalue(name) if name in request.fixturenames else None
        if process is not None and process.child is not None and not process.running:
            code, log = process.child.returncode, process.text()[-4000:]
            process.start()
            pytest.fail(f"{name} exited with {code} during this test:\n{log}")


@pytest.fixture
def account(gateway):
    """A new tenant with 10.00 and a key."""
    return Account(gateway)


@pytest.fixture(scope="module")
def upstream():
    """An upstream that does as its script says."""
    server = ScriptedUpstream()
    yield server
    server.close()


@pytest.fixture
def own_gateway(tmp_path):
    """Makes gateways of a test's own; they are killed at its end if it did not stop them."""
    made = []

    def make(settings=None, name="gateway"):
        gateway = Gateway(tmp_path, settings, name)
        made.append(gateway)
        return gateway
    yield make
    for gateway in made:
        if gateway.running:
            gateway.kill()
        gateway.complain()
