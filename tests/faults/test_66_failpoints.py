"""Each failpoint killed, failed and delayed: after the next start fsck is clean, what was acknowledged is there, once, what the
upstream made is captured or booked as lost, and no hold is left. Needs a build with TG_FAILPOINTS (the sanitizers' presets)."""

import time

import pytest

from lib.failpoints import CALL, Run, World, compiled_in, fired, run_armed
from lib.gateway import Gateway
from lib.past import HOUR, start_in_the_past
from lib.process import BINARY, ROOT, environment

POINTS = compiled_in()
pytestmark = pytest.mark.skipif(not POINTS, reason=f"{BINARY} was built without TG_FAILPOINTS: use a build of etc/cmake/asan.cmake")

# Passages where it happens: the first, and for what every batch passes some in the middle of other work.
COUNTS = {"commit.before": (1, 2, 5, 9, 14), "commit.after": (1, 2, 5, 9, 14), "begin.busy": (2, 6), "deliver.before": (1, 4, 8), "account.row": (1, 6, 17),
          "transfer.row": (1, 2, 5, 9), "link.row": (1, 4), "hold.row": (1, 3), "entry.row": (1, 3, 4), "lot.row": (1, 3, 6), "put.written": (1, 3)}
# Failures that pass: the transaction, or the archive, is tried another time.
PASSING = {"begin.busy", "archive.written", "archive.named"}
# On a store whose last process was killed.
DEAD = {"start.dead", "doubt.applied", "start.begun"}


def cases():
    for name, actions in POINTS.items():
        if name.startswith("migrate."):
            continue
        for count in COUNTS.get(name, (1,)):
            for action in actions:
                if action != "delay":
                    yield pytest.param(name, count, action, id=f"{name}-{count}-{action}")


@pytest.fixture(scope="module")
def world(tmp_path_factory, sandbox):
    """A store with something of everything, closed cleanly."""
    gateway = Gateway(tmp_path_factory.mktemp("world"))
    made = World(gateway, sandbox)
    made.held = made.holds(gateway.admin)
    gateway.stop()
    gateway.fsck()
    return made


@pytest.fixture
def start(world, tmp_path, request):
    """Starts a copy of the world under failpoints."""
    made = []

    def begin(spec, dead=False):
        gateway = world.copy(tmp_path)
        case = Run(world, gateway)
        made.append(case)
        if dead:
            leave_holds(case)
        return case, case.start(spec)
    yield begin
    for case in made:
        case.close()
        if case.gateway.running:
            case.gateway.kill()
        case.gateway.complain()


def leave_holds(case):
    """A process that was killed with calls under way."""
    import threading
    gateway = case.gateway
    gateway.settings["retention"]["records"] = "0"
    gateway.write_config()
    start_in_the_past(gateway, HOUR / 2)
    threads = [threading.Thread(target=case.call, args=(case.world.free.secret, {**CALL, "prompt": "x [[latency=400ms]]"})) for _ in range(3)]
    [t.start() for t in threads]
    gateway.wait_for(lambda: len(gateway.admin.get("holds", state="open")["data"]) == 3, "three calls are under way")
    time.sleep(0.1)
    gateway.kill()
    gateway.settings["retention"]["records"] = "35d"
    gateway.write_config()
    [t.join() for t in threads]
    time.sleep(0.5)  # the upstream counts them when they are made
    case.http.close()
    case.http = type(case.http)(timeout=80, trust_env=False)


def finish(case, served, sandbox):
    gateway = case.gateway
    gateway.start()
    case.check(served, sandbox)
    gateway.stop()
    gateway.fsck()


@pytest.mark.parametrize("name, count, action", list(cases()))
def test_failpoint(start, sandbox, name, count, action):
    served = sandbox.served()["requests"]
    case, alive = start(f"{name}:{count}:{action}", name in DEAD)
    gateway = case.gateway
    case.work()  # even when it did not start: all of it is then done after the next one
    case.wait(lambda: fired(gateway, name))
    if action == "err" and name in PASSING:
        assert fired(gateway, name), "the workload does not reach it"
        gateway.stop()
    else:
        assert fired(gateway, name), f"the workload does not reach it:\n{gateway.text()[-2000:]}"
        code = gateway.wait_exit(10)
        running = alive or name not in DEAD and '"event":"started"' in gateway.text()  # folding and pruning begin with the start
        assert code == (-9 if action == "kill" else 3 if running else 1), code
    finish(case, served, sandbox)


def test_every_place_is_slow(start, sandbox):
    """All of them delayed, in one process: nothing goes wrong, and the workload passes each."""
    served = sandbox.served()["requests"]
    names = [name for name in POINTS if not name.startswith("migrate.")]
    case, alive = start(",".join(f"{name}:{count}:delay={'100ms' if count == 1 else '20ms'}" for name in names for count in COUNTS.get(name, (1,))[:1]), dead=True)
    assert alive
    case.work()
    case.wait(lambda: all(fired(case.gateway, name) for name in names))
    missed = [name for name in names if not fired(case.gateway, name)]
    assert not missed, f"the workload does not reach {missed}"
    case.gateway.stop()
    finish(case, served, sandbox)


@pytest.mark.parametrize("action", ["kill", "err", "delay=50ms"])
@pytest.mark.parametrize("name", [name for name in POINTS if name.startswith("migrate.")])
def test_migration(own_gateway, name, action):
    """A new store, interrupted at this step of each of its migrations; then it opens as any other."""
    for count in range(1, len(list((ROOT / "migrations").glob("*.sql"))) + 1):
        gateway = own_gateway(name=f"after-{count}")
        done = run_armed(f"{name}:{count}:{action}", "migrate", "-c", gateway.config)
        assert f'"name": "{name}"' in done.stderr, f"not reached: {done.stderr}"
        assert done.returncode == {"kill": -9, "err": 1}.get(action, 0), done.stderr
        gateway.start()
        gateway.stop()
        gateway.fsck()


@pytest.mark.parametrize("value, why", [("no.such:1:kill", "there is no failpoint 'no.such'"), ("hold.row:0:kill", "hold.row:0:kill"), ("hold.row:1:melt", "hold.row:1:melt"),
                                        ("deliver.before:1:err", "deliver.before:1:err"), ("hold.row:1:kill,hold.row:2:kill", "twice"), ("hold.row", "hold.row")])
def test_what_is_not_understood_is_refused(own_gateway, value, why):
    gateway = own_gateway()
    gateway.spawn("serve", "-c", gateway.config, env=environment(TG_FAILPOINT=value))
    assert gateway.wait_exit(10) == 2 and why in gateway.text() and "TG_FAILPOINT" in gateway.text()
