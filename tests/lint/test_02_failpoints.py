"""Failpoints stand in the table, in the code and in test builds alone."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from source import ROOT, files, text  # noqa: E402

from lib.failpoints import compiled_in  # noqa: E402
from lib.process import BINARY, run  # noqa: E402

TABLE = dict(re.findall(r'^FAILPOINT_AT\((\w+), "([a-z.]+)", (?:FAILS|RUNS), ".+"\)$', (ROOT / "daemon/base/failpoints.def").read_text(), re.M))
needs_binary = pytest.mark.skipif(not BINARY.exists(), reason="no executable yet; set TG_BINARY")


def test_the_table_is_in_order():
    assert len(TABLE) == (ROOT / "daemon/base/failpoints.def").read_text().count("\nFAILPOINT_AT(") and len(set(TABLE.values())) == len(TABLE)
    assert all(name.replace(".", "_").upper() == row for row, name in TABLE.items())


def test_each_stands_in_one_place():
    code = "\n".join(text(p) for room in ("daemon", "admin", "db") for p in files(".c", under=room))
    used = re.findall(r"\bFAILPOINT(?:_CODE|_NTH)?\((\w+)", code)
    by_kind = [row for row in TABLE if row.endswith("_APPLIED") and row != "LAPSE_APPLIED"]  # batch.c, by enum store_kind
    assert sorted(used) == sorted(row for row in TABLE if row not in by_kind or row in ("HOLD_APPLIED", "PUT_APPLIED"))
    assert [row for row in TABLE][:len(by_kind)] == by_kind


@needs_binary
def test_a_release_has_none():
    """Neither their names nor what reads them; a test build lists exactly the table's."""
    built = compiled_in()
    if built:
        assert list(built) == list(TABLE.values())
        pytest.skip(f"{BINARY} is a test build: it has them, as it should; a build of release.cmake must not")
    binary = BINARY.read_bytes()
    found = [name for name in TABLE.values() if name.encode() in binary] + [word for word in (b"TG_FAILPOINT", b"failpoint") if word in binary]
    assert not found
    assert run("help", "--failpoints").returncode == 2


@pytest.mark.parametrize("preset, value", [("release", "OFF"), ("asan", "ON"), ("tsan", "ON"), ("debug", "ON")])
def test_presets(preset, value):
    assert f"set(TG_FAILPOINTS {value} CACHE" in (ROOT / f"etc/cmake/{preset}.cmake").read_text()
    assert "TG_FAILPOINTS" in (ROOT / "CMakeLists.txt").read_text() and "never in a release" in (ROOT / "CMakeLists.txt").read_text()
