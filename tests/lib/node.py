"""The OpenAI SDKs for Node: which ones run here, and a call with one of them."""

import json
import shutil
import subprocess
from pathlib import Path

from .process import PATIENCE, environment

FOLDER = Path(__file__).resolve().parents[1] / "sdk"


def version():
    """Node's major version; 0 without Node."""
    node = shutil.which("node")
    if not node:
        return 0
    return int(subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip().lstrip("v").split(".")[0])


def sdks():
    """The folders whose SDK is installed and runs on this Node."""
    found = [FOLDER / "node"] if version() >= 18 else []
    if version() >= 20:
        found.append(FOLDER / "node-latest")
    return [f for f in found if (f / "node_modules" / "openai").is_dir()]


def generate(folder, base_url, key, body, **options):
    """What one images.generate saw: ok, data or status, code, param, type, name; attempts; headers."""
    return _run(folder, base_url, key, {"body": body, **options})


def call(folder, account, method, body=None, **options):
    """What one call of any method saw; the options are those of sdk/images.mjs."""
    return _run(folder, account.gateway.base_url, account.secret, {"method": method, "body": body or {}, **options})


def _run(folder, base_url, key, task):
    done = subprocess.run(["node", str(FOLDER / "images.mjs"), str(folder), base_url, key, json.dumps(task)],
                          capture_output=True, text=True, timeout=120 * PATIENCE, env=environment())
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
