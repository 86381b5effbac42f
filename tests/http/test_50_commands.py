"""The command line and the daemon's life: tokens, help, check-config, reload, drain; contract sections 1 and 2."""

import json
import re
import signal
import threading
import time

import httpx
import pytest

from lib.admin import Account, Admin
from lib.check import is_error, money
from lib.process import run

COMMANDS = ["serve", "check-config", "migrate", "admin-token", "admin", "fsck", "backup", "sandbox", "version", "help"]
BODY = {"model": "dall-e-2", "prompt": "x", "size": "256x256"}


def test_help_lists_every_command():
    done = run("help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"^\s+{command}\s", done.stdout, re.M), command


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command):
    long, topic = run(command, "--help"), run("help", command)
    assert (long.returncode, topic.returncode) == (0, 0)
    assert "tallygate " + command in long.stdout and "xit" in topic.stdout, "exit codes"
    assert long.stdout == topic.stdout or command == "admin", "admin explains its verbs"


@pytest.mark.parametrize("args", [(), ("nonsense",), ("help", "nonsense"), ("fsck",), ("fsck", "--nonsense"), ("fsck", "-c"), ("serve",), ("admin-token",), ("admin-token", "steal"),
                                  ("check-config",), ("sandbox",), ("sandbox", "--listen", "nowhere"), ("version", "extra")])
def test_called_wrongly(args):
    done = run(*args)
    assert done.returncode != 0 and done.stderr.strip(), done
    assert done.returncode in (1, 2)


def test_version():
    done = run("version")
    assert done.returncode == 0 and re.fullmatch(r"(tallygate )?\d+\.\d+\.\d+\n", done.stdout)


# ---- check-config ----

def check(tmp_path, text):
    (tmp_path / "t.conf").write_bytes(text if isinstance(text, bytes) else text.encode())
    return run("check-config", "-c", tmp_path / "t.conf")


GOOD = "[store]\nurl = sqlite:/tmp/nowhere/x.db\n"


def test_good_config(tmp_path):
    done = check(tmp_path, "# a comment\n\n" + GOOD + "[public]\nlisten = 127.0.0.1:1\nlisten = [::1]:2\nlisten = unix:/tmp/x\nmax_body = 1GiB\nhttp2 = off\n")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("text, line, key", [
    ("[public]\nlissen = x\n", 2, "lissen"), ("[nowhere]\nlisten = x\n", None, "nowhere"), ("listen = 127.0.0.1:80\n", 1, "listen"), ("[public\nlisten = x\n", 1, ""),
    ("[public]\nlisten = 127.0.0.1\n", 2, "listen"), ("[public]\nlisten = 127.0.0.1:99999\n", 2, "listen"), ("[public]\nlisten =\n", 2, "listen"), ("[public]\nmax_body = lots\n", 2, "max_body"),
    ("[public]\nmax_body = 5 MiBs\n", 2, "max_body"), ("[public]\nhttp2 = maybe\n", 2, "http2"), ("[relay]\ntimeout = 0s\n", 2, "timeout"), ("[relay]\ntimeout = 5\u00a0s\n", 2, "timeout"),
    ("[relay]\nin_doubt = shrug\n", 2, "in_doubt"), ("[server]\nthreads = -1\n", 2, "threads"), ("[server]\nthreads = 1000000\n", 2, "threads"), ("[server]\nthreads = 2x\n", 2, "threads"),
    ("[store]\nurl = postgres://x\n", 2, "url"), ("[store]\nurl = sqlite:\n", 2, "url"), ("[public]\nhttp2\n", 2, ""), ("[relay]\ntimeout = 99999999999999999999s\n", 2, "timeout"),
    ("[public]\ntls_certificate = /nowhere/cert.pem\n", 2, "tls_"), ("[server]\nthreads = 1\nthreads = 2\n", 3, "threads")])
def test_config_faults_name_file_line_and_key(tmp_path, text, line, key):
    done = check(tmp_path, text)
    assert done.returncode == 1, done.stdout + done.stderr
    told = done.stdout + done.stderr
    assert re.search(rf"t\.conf:{line or r'[0-9]+'}: .*{key}", told), told


def test_config_tells_every_fault(tmp_path):
    done = check(tmp_path, "[public]\nhttp2 = maybe\nmax_body = x\n[relay]\nnonsense = 1\n")
    told = done.stdout + done.stderr
    assert done.returncode == 1 and all(f"t.conf:{n}: " in told for n in (2, 3, 5)), told


@pytest.mark.parametrize("text", [b"\x00\xff\xfe", b"[public]\nlisten = \x00\n", b"x" * 100000, b"[" * 5000, b"\n" * 50000 + b"z"])
def test_config_of_garbage(tmp_path, text):
    assert check(tmp_path, text).returncode == 1


def test_config_missing(tmp_path):
    done = run("check-config", "-c", tmp_path / "none.conf")
    assert done.returncode == 1 and "none.conf" in done.stderr + done.stdout
    assert run("serve", "-c", tmp_path / "none.conf").returncode != 0


# ---- admin tokens ----

def test_admin_token_before_the_first_start_and_beside_it(own_gateway):
    gateway = own_gateway()
    early = gateway.create_token()
    assert re.fullmatch(r"ta-[0-9A-Za-z]+", early)
    gateway.token = early
    gateway.start()
    late = gateway.create_token("--role", "viewer")
    other = Admin(gateway.admin_url, late)
    assert gateway.admin.call("GET", "tenants").status_code == other.call("GET", "tenants").status_code == 200
    is_error(other.call("POST", "tenants", {"name": "x"}), 403)
    other.close()
    mine = gateway.admin.create("tenants", {"name": "mine"})
    scoped = Admin(gateway.admin_url, gateway.create_token("--scope", mine["id"]))
    assert [t["id"] for t in scoped.get("tenants")["data"]] == [mine["id"]]
    scoped.close()
    for args in (("--scope", "ten_nope"), ("--role", "king")):
        done = run("admin-token", "create", "-c", gateway.config, "--name", "x", *args)
        assert done.returncode != 0 and not done.stdout and done.stderr, done
    gateway.restart()
    assert gateway.admin.call("GET", "tenants").status_code == 200
    gateway.stop()
    gateway.fsck()


# ---- migrate, fsck ----

def test_migrate(own_gateway):
    gateway = own_gateway({"store": {"auto_migrate": "off"}})
    refused = run("serve", "-c", gateway.config)
    assert refused.returncode not in (0, -11), refused
    assert run("migrate", "-c", gateway.config).returncode == 0
    assert run("migrate", "-c", gateway.config).returncode == 0
    gateway.start()
    busy = run("migrate", "-c", gateway.config)
    assert busy.returncode == 1 and busy.stderr
    gateway.stop()
    gateway.fsck()


def test_fsck_json_and_beside_a_running_daemon(gateway, account):
    assert account.post(BODY).status_code == 200
    assert "FAIL" not in gateway.fsck()
    done = run("fsck", "-c", gateway.config, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)


def test_fsck_cannot_look(own_gateway, tmp_path):
    assert run("fsck", "-c", own_gateway().config).returncode == 2
    (tmp_path / "gateway.db").write_bytes(b"this is no database" * 1000)
    assert run("fsck", "-c", tmp_path / "gateway.conf").returncode == 2


def test_fsck_sees_a_changed_balance(own_gateway, sandbox):
    import sqlite3
    gateway = own_gateway().start()
    gateway.channel(sandbox)
    assert Account(gateway).post(BODY).status_code == 200
    gateway.stop()
    with sqlite3.connect(gateway.database) as db:
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        table = "account" if "account" in tables else "accounts"
        db.execute(f"UPDATE {table} SET posted = posted + 1 WHERE rowid = (SELECT max(rowid) FROM {table})")
    db.close()
    done = run("fsck", "-c", gateway.config)
    assert done.returncode == 1 and "FAIL" in done.stdout, done.stdout


# ---- the daemon's life ----

def in_flight(account, body, results):
    def call():
        try:
            results.append(account.post(body))
        except httpx.HTTPError as error:
            results.append(error)
    thread = threading.Thread(target=call)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain(own_gateway, sandbox, number):
    """What is in flight is finished and captured; nothing new is accepted; exit 0."""
    gateway = own_gateway().start()
    gateway.channel(sandbox)
    account, results = Account(gateway), []
    thread = in_flight(account, {**BODY, "prompt": "x [[latency=2s]]"}, results)
    gateway.wait_for(lambda: account.balance()["held"] > 0, "the call is held")
    gateway.signal(number)
    time.sleep(0.5)
    assert gateway.running, "left a call behind"
    try:
        is_error(account.post(BODY), 503, "service_unavailable")
    except httpx.TransportError:
        pass  # not even accepted
    code = gateway.wait_exit()
    thread.join()
    assert code == 0 and results[0].status_code == 200, results
    gateway.start()
    assert account.balance()["posted"] == money("9.984") and len(account.records()) == 1
    gateway.stop()
    gateway.fsck()


def test_second_signal_stops_at_once(own_gateway, sandbox):
    gateway = own_gateway().start()
    gateway.channel(sandbox)
    account, results = Account(gateway), []
    thread = in_flight(account, {**BODY, "prompt": "x [[hang]]"}, results)
    gateway.wait_for(lambda: account.balance()["held"] > 0, "the call is held")
    gateway.signal(signal.SIGTERM)
    time.sleep(0.5)
    assert gateway.running
    started = time.monotonic()
    gateway.signal(signal.SIGTERM)
    gateway.wait_exit()
    assert time.monotonic() - started < 10
    thread.join()
    gateway.start()
    assert account.balance() == {"posted": 10, "held": 0, "available": 10}
    gateway.stop()
    gateway.fsck()


def test_drain_timeout(own_gateway, sandbox):
    gateway = own_gateway({"server": {"drain_timeout": "1s"}}).start()
    gateway.channel(sandbox)
    account, results = Account(gateway), []
    thread = in_flight(account, {**BODY, "prompt": "x [[hang]]"}, results)
    gateway.wait_for(lambda: account.balance()["held"] > 0, "the call is held")
    gateway.signal(signal.SIGTERM)
    gateway.wait_exit(15)
    thread.join()
    gateway.start()
    assert account.balance()["held"] == 0
    gateway.stop()
    gateway.fsck()


def test_readyz_while_draining(own_gateway, sandbox):
    """The admin listener goes on answering, on new connections too, so that a supervisor sees why nothing is accepted."""
    gateway = own_gateway().start()
    gateway.channel(sandbox)
    assert gateway.ready().status_code == 200
    account, results = Account(gateway), []
    thread = in_flight(account, {**BODY, "prompt": "x [[latency=2s]]"}, results)
    gateway.wait_for(lambda: account.balance()["held"] > 0, "the call is held")
    gateway.signal(signal.SIGTERM)
    gateway.wait_for(lambda: gateway.ready().status_code == 503, "it is draining")
    assert "draining" in gateway.ready().text
    assert gateway.wait_exit() == 0
    thread.join()
    assert results[0].status_code == 200
    gateway.fsck()



def test_reload_with_a_bad_config_keeps_the_old(own_gateway, sandbox):
    gateway = own_gateway().start()
    gateway.channel(sandbox)
    account = Account(gateway)
    gateway.config.write_text(gateway.config.read_text() + "[relay]\nnonsense = 1\n")
    gateway.signal(signal.SIGHUP)
    gateway.wait_for(lambda: "reload_refused" in gateway.text(), "the refusal is logged")
    assert account.post(BODY).status_code == 200
    gateway.write_config()
    gateway.signal(signal.SIGHUP)
    gateway.wait_for(lambda: '"reloaded"' in gateway.text(), "the reload is logged")
    assert account.post(BODY).status_code == 200
    gateway.stop()


def test_reload_takes_effect(own_gateway, upstream):
    from lib.upstream import hang
    gateway = own_gateway({"relay": {"timeout": "60s"}}).start()
    gateway.channel(upstream)
    account = Account(gateway)
    gateway.settings["relay"]["timeout"] = "1s"
    gateway.write_config()
    gateway.signal(signal.SIGHUP)
    gateway.wait_for(lambda: '"reloaded"' in gateway.text(), "the reload is logged")
    upstream.use(hang(20))
    started = time.monotonic()
    is_error(account.post(BODY), 504, "upstream_timeout")
    assert time.monotonic() - started < 10
    gateway.stop()


def test_reload_names_what_needs_a_restart(own_gateway):
    gateway = own_gateway().start()
    gateway.settings["server"]["threads"] = "1"
    gateway.write_config()
    gateway.signal(signal.SIGHUP)
    gateway.wait_for(lambda: "restart_needed" in gateway.text(), "it is said")
    assert "threads" in gateway.text()
    gateway.stop()


def test_taken_port(own_gateway, sandbox):
    gateway = own_gateway({"public": {"listen": f"127.0.0.1:{sandbox.port}"}})
    done = run("serve", "-c", gateway.config)
    assert done.returncode not in (0, -6, -11) and str(sandbox.port) in done.stderr, done.stderr


def test_unix_listener(own_gateway, sandbox, tmp_path):
    gateway = own_gateway({"public": {"listen": [f"unix:{tmp_path}/p.sock"]}}).start()
    gateway.channel(sandbox)
    account = Account(gateway)
    with httpx.Client(transport=httpx.HTTPTransport(uds=f"{tmp_path}/p.sock"), trust_env=False) as http:
        reply = http.post("http://x/v1/images/generations", json=BODY, headers={"Authorization": f"Bearer {account.secret}"}, timeout=30)
    assert reply.status_code == 200
    gateway.stop()
    gateway.start()  # the old socket file is no obstacle
    gateway.stop()


def test_log_lines_are_json(gateway, account):
    assert account.post(BODY).status_code == 200
    for line in gateway.text().splitlines():
        assert {"ts", "level", "event"} <= set(json.loads(line)), line


def test_master_key_is_private(gateway):
    keys = list(gateway.directory.glob("*master*"))
    assert keys and all(k.stat().st_mode & 0o077 == 0 for k in keys)


def test_wrong_master_key(own_gateway, sandbox, tmp_path):
    """Another key would lock every customer out silently: the daemon says so and does not start."""
    gateway = own_gateway().start()
    gateway.channel(sandbox)
    gateway.stop()
    for key in tmp_path.glob("*master*"):
        key.write_text("ab" * 32 + "\n")
    done = run("serve", "-c", gateway.config)
    assert done.returncode not in (0, -6, -11) and "key" in done.stderr, done


def test_settings_survive(own_gateway, sandbox):
    gateway = own_gateway().start()
    gateway.channel(sandbox)
    account = Account(gateway)
    assert account.post(BODY).status_code == 200
    before, records = account.settled(), account.records()
    gateway.restart()
    assert account.balance() == before and gateway.admin.records(tenant=account.id) == records
    assert account.post(BODY).status_code == 200
    gateway.stop()
    gateway.fsck()
