"""etc/quickstart.sh from nothing to an image, and again from where it was."""

import os
import re
import subprocess
from decimal import Decimal

import pytest

from lib.ports import free_port
from lib.process import ROOT, SANITIZED, environment


@pytest.mark.skipif(SANITIZED, reason="it builds its own executable: once is enough")
def test_quickstart_twice(tmp_path):
    ports = {name: str(free_port()) for name in ("PORT", "ADMIN_PORT", "SANDBOX_PORT")}
    balances, pictures = [], set()
    for _ in range(2):
        done = subprocess.run([str(ROOT / "etc" / "quickstart.sh"), "--once", "--dir", str(tmp_path / "state")], capture_output=True, text=True, timeout=600,
                              stdin=subprocess.DEVNULL, env={**environment(), **ports})
        assert done.returncode == 0, done.stdout + done.stderr
        assert "\x1b" not in done.stdout, "colour only on a terminal"
        shown = dict(re.findall(r"^  (picture|charge|balance) +(\S+)", done.stdout, re.M))
        with open(shown["picture"], "rb") as picture:
            assert picture.read(8) == b"\x89PNG\r\n\x1a\n"
        pictures.add(shown["picture"])
        assert Decimal(shown["charge"]) > 0
        balances.append(Decimal(shown["balance"]) + len(balances) * Decimal(shown["charge"]) + Decimal(shown["charge"]))
    assert balances == [10, 10], "the second run goes on with the first one's tenant"
    assert len(pictures) == 2
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0
    assert os.listdir(tmp_path / "state")
