"""`tallygate admin`: the daily work from a shell, as tables and as JSON; and the completion of bash."""

import json
import os
import subprocess
import time

import httpx
import pytest

from lib.admin import Account
from lib.process import BINARY, PATIENCE, ROOT, environment, run

BODY = {"model": "dall-e-2", "prompt": "x", "size": "256x256"}


@pytest.fixture(scope="module")
def home(gateway):
    """Runs `tallygate admin WORDS` against the gateway, by its configuration."""
    def call(*words, code=0, **kwargs):
        done = run("admin", *words[:2], "-c", gateway.config, *words[2:], **kwargs)
        assert done.returncode == code, done
        return done

    def data(*words):
        return json.loads(call(*words, "--json").stdout)
    call.json = data
    return call


def test_a_day_of_work(home, gateway):
    """A tenant, its credit, a customer, a key, a call, the record, a refund: and the API sees the same."""
    tenant = home.json("tenants", "create", "--name", "Nightly Prints", "--external-id", f"np-{time.time_ns()}", "--credit-limit", "1.5")
    assert tenant["credit_limit"] == "1.500000000"
    grant = home.json("tenants", "credit", tenant["id"], "25.00", "--note", "first payment")
    assert grant["amount"] == "25.000000000"
    home("tenants", "credit", "--note", "a correction", "--", tenant["id"], "-5.00")
    assert home.json("tenants", "balance", tenant["id"])["posted"] == "20.000000000"
    customer = home.json("customers", "create", "--name", "Ada", "--tenant", tenant["id"])
    key = home.json("keys", "create", "--name", "press", "--tenant", tenant["id"], "--customer", customer["id"], "--policy", '{"max_n": 2}')
    assert key["secret"].startswith("sk-tg-") and key["policy"] == {"max_n": 2}
    made = httpx.post(gateway.public_url + "/v1/images/generations", json=BODY, headers={"Authorization": f"Bearer {key['secret']}"}, trust_env=False)
    assert made.status_code == 200, made.text
    records = home.json("records", "list", "--tenant", tenant["id"])
    assert records["object"] == "list" and [r["key"] for r in records["data"]] == [key["id"]]
    refunded = home.json("records", "refund", records["data"][0]["id"], "--reason", "blurred")
    assert refunded["refunded"] == records["data"][0]["wholesale"]
    assert home.json("tenants", "balance", tenant["id"])["posted"] == "20.000000000"
    assert home.json("keys", "update", key["id"], "--policy", "", "--name", "second press")["policy"] is None
    assert home.json("keys", "revoke", key["id"])["status"] == "revoked"
    assert gateway.admin.get(f"tenants/{tenant['id']}")["name"] == "Nightly Prints"


def test_tables(home, gateway):
    account = Account(gateway)
    lines = home("tenants", "list", "--limit", "3").stdout.splitlines()
    assert lines[0].split() == ["ID", "NAME", "STATUS", "AVAILABLE", "CREDIT_LIMIT", "EXTERNAL_ID"] and 2 <= len(lines) <= 4
    assert account.tenant["id"] in lines[1], "newest first"
    columns = [lines[0].index(name) for name in lines[0].split()]
    assert all(line[at - 1] == " " and line[at] != " " for line in lines[1:] for at in columns[1:]), "columns stand below each other"
    assert f"id: {account.tenant['id']}" in home("tenants", "get", account.tenant["id"]).stdout


def test_a_list_is_as_long_as_asked(home, gateway):
    account = Account(gateway)
    for i in range(105):
        gateway.admin.create("keys", {"tenant": account.tenant["id"], "name": f"k{i}"})
    listed = home.json("keys", "list", "--tenant", account.tenant["id"], "--limit", "103")
    assert len(listed["data"]) == 103 and listed["has_more"] is True and len({k["id"] for k in listed["data"]}) == 103
    assert len(home("keys", "list", "--tenant", account.tenant["id"], "--limit", "1000").stdout.splitlines()) == 107


def test_reports(home, gateway):
    account = Account(gateway)
    account.post(BODY)
    report = home.json("usage", "report", "--start-time", str(int(time.time()) - 60), "--tenant", account.tenant["id"], "--group-by", "model")
    assert sum(r["images"] for b in report["data"] for r in b["results"]) == 1
    table = home("usage", "report", "--start-time", str(int(time.time()) - 60), "--tenant", account.tenant["id"], "--group-by", "model").stdout
    assert "MODEL" in table and "dall-e-2" in table and "WHOLESALE" in table
    exported = home("records", "export", "--format", "ndjson", "--tenant", account.tenant["id"]).stdout
    assert [json.loads(line)["model"] for line in exported.splitlines()] == ["dall-e-2"]
    month = time.strftime("%Y-%m", time.gmtime())
    assert "<html" in home("tenants", "statement", account.tenant["id"], "--month", month, "--format", "html").stdout


def test_what_strangers_wrote_cannot_command_the_terminal(home, gateway):
    tenant = gateway.admin.create("tenants", {"name": "\u202eevil \u009b31m end"})
    for words in (("tenants", "list", "--limit", "1"), ("tenants", "get", tenant["id"])):
        shown = home(*words).stdout
        assert "end" in shown and "\x9b" not in shown and "\x1b" not in shown


def test_tokens_come_from_files_and_the_environment(gateway, tmp_path):
    (tmp_path / "token").write_text(gateway.token + "\n")
    url = str(gateway.admin_url)
    done = run("admin", "tenants", "list", "--server", url, "--token-file", tmp_path / "token")
    assert done.returncode == 0, done
    env = environment(TALLYGATE_ADMIN_URL=url, TALLYGATE_ADMIN_TOKEN=gateway.token)
    assert subprocess.run([BINARY, "admin", "tenants", "list"], env=env, capture_output=True).returncode == 0
    env = environment(TALLYGATE_ADMIN_URL=url, TALLYGATE_ADMIN_TOKEN_FILE=str(tmp_path / "token"))
    assert subprocess.run([BINARY, "admin", "tenants", "list"], env=env, capture_output=True).returncode == 0


@pytest.mark.parametrize("words, said", [
    ((), "what to do"), (("tenants",), "what to do"), (("tenants", "steal"), "what to do"), (("tenants", "get"), "ID"), (("tenants", "get", "a", "b"), "too many"),
    (("tenants", "create"), "name"), (("tenants", "create", "--name"), "value"), (("tenants", "create", "--nope", "x"), "nope"),
    (("keys", "create", "--name", "x", "--policy", "{"), "policy"), (("keys", "rotate", "key_x", "--grace-seconds", "soon"), "grace-seconds"),
    (("tenants", "list", "--limit", "0"), "rows"), (("tenants", "credit", "ten_x"), "AMOUNT")])
def test_called_wrongly(gateway, words, said):
    done = run("admin", *words[:2], *(("-c", gateway.config) if words else ()), *words[2:])
    assert done.returncode == 2 and said in done.stderr and not done.stdout, done


def test_refusals_and_silence(home, gateway, tmp_path):
    refused = home("tenants", "get", "ten_0000000000000000000001", code=1)
    assert "No such tenant" in refused.stderr and "request_id req_" in refused.stderr and not refused.stdout
    assert "limit" in home("tenants", "create", "--name", "x", "--credit-limit", "-1", code=1).stderr
    (tmp_path / "token").write_text("ta-nothing\n")
    wrong = run("admin", "tenants", "list", "--server", gateway.admin_url, "--token-file", tmp_path / "token")
    assert wrong.returncode == 1 and "ncorrect admin token" in wrong.stderr
    nobody = run("admin", "tenants", "list", "--server", "127.0.0.1:1", "--token-file", tmp_path / "token")
    assert nobody.returncode == 3 and "nobody answers" in nobody.stderr
    assert run("admin", "tenants", "list").returncode == 2, "no token"
    tricky = home("tenants", "get", "../keys?limit=1", code=1)
    assert "No such" in tricky.stderr or "Invalid URL" in tricky.stderr


def test_the_same_command_again_does_its_work_once(home, gateway):
    account = Account(gateway)
    words = ("tenants", "credit", account.tenant["id"], "3.00", "--idempotency-key", f"again-{time.time_ns()}")
    assert home.json(*words) == home.json(*words)
    assert home.json("tenants", "balance", account.tenant["id"])["posted"] == "13.000000000"


def test_records_as_they_come(gateway, tmp_path):
    account = Account(gateway)
    account.post(BODY)
    with open(tmp_path / "out", "w") as out:
        tail = subprocess.Popen([BINARY, "admin", "records", "tail", "-c", gateway.config, "--tenant", account.tenant["id"], "--json"], stdout=out, env=environment())
    try:
        wait_for_lines(tmp_path / "out", 1)
        account.post(BODY)
        account.post({**BODY, "n": 2})
        lines = wait_for_lines(tmp_path / "out", 3)
    finally:
        tail.terminate()
        tail.wait(10)
    assert [r["images"] for r in map(json.loads, lines)] == [1, 1, 2]


def wait_for_lines(path, n):
    until = time.monotonic() + 10 * PATIENCE
    while time.monotonic() < until:
        lines = path.read_text().splitlines()
        if len(lines) >= n:
            return lines
        time.sleep(0.05)
    raise AssertionError(f"{len(lines)} lines, not {n}")


def complete(*words):
    script = f"""source {ROOT}/etc/completion/tallygate.bash; COMP_WORDS=({' '.join(f"'{w}'" for w in words)}); COMP_CWORD={len(words) - 1}
        _tallygate; printf '%s\\n' "${{COMPREPLY[@]}}" """
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env=dict(os.environ)).stdout.split()


def test_completion():
    assert {"serve", "admin", "fsck"} <= set(complete("tallygate", ""))
    assert set(complete("tallygate", "adm")) == {"admin", "admin-token"}
    assert {"tenants", "keys", "usage"} <= set(complete("tallygate", "admin", ""))
    assert complete("tallygate", "admin", "keys", "ro") == ["rotate"]
    assert complete("tallygate", "admin", "keys", "rotate", "--gr") == ["--grace-seconds"]
    assert complete("tallygate", "fsck", "--j") == ["--json"]
