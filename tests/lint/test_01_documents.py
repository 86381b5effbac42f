"""What is written down agrees with the binary and with the tree."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from source import ROOT, files, name, text  # noqa: E402

from lib.process import BINARY, run  # noqa: E402

needs_binary = pytest.mark.skipif(not BINARY.exists(), reason="no executable yet; set TG_BINARY")


@needs_binary
@pytest.mark.parametrize("path, command", [("etc/tallygate.conf", ("help", "--sample")), ("etc/man/tallygate.8", ("help", "--man")),
                                           ("etc/completion/tallygate.bash", ("help", "--completion"))])
def test_generated_files_are_up_to_date(path, command):
    made = run(*command)
    assert made.returncode == 0 and (ROOT / path).read_text() == made.stdout, f"run: build/tallygate {' '.join(command)} > {path}"


@needs_binary
def test_sample_configuration_is_accepted():
    done = run("check-config", "-c", ROOT / "etc" / "tallygate.conf")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_binary
def test_man_page_is_well_formed():
    import shutil
    import subprocess
    assert "NAME" in run("help", "--man").stdout
    if shutil.which("groff"):
        done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", str(ROOT / "etc/man/tallygate.8")], capture_output=True, text=True)
        assert not done.stderr, done.stderr


def table(path, macro):
    return re.findall(rf"^{macro}\((\w+)", (ROOT / path).read_text(), re.M)


def test_every_configuration_key_is_in_the_sample():
    sample = (ROOT / "etc/tallygate.conf").read_text()
    for section, key in re.findall(r"^CONF\((\w+), (\w+)", (ROOT / "daemon/base/conf.def").read_text(), re.M):
        assert re.search(rf"^#?\s*{key} = ?", sample, re.M), f"[{section}] {key}"
        assert f"[{section}]" in sample


def test_rows_of_tables_are_used():
    """An event or metric that no code names is a dead row."""
    used = "\n".join(text(p) for room in ("daemon", "admin", "db") for p in files(".c", ".h", under=room))
    dead = []
    for path, macro, prefix in (("daemon/base/events.def", "EVENT", "LOG_"), ("daemon/base/metrics.def", "(?:COUNTER|GAUGE|HISTOGRAM)(?:_BY)?", "METRIC_")):
        dead += [f"{path}: {row}" for row in table(path, macro) if not re.search(rf"\b{prefix}{row}\b", used)]
    assert not dead, dead


PATH = re.compile(r"(?<![\w./-])((?:daemon|db|admin|migrations|tests|etc|\.ci)/[\w./*{},-]*[\w*}/])")


@pytest.mark.parametrize("path", files(".md"), ids=name)
def test_mentions_exist(path):
    """Each path in a document is there; {a,b} and * are read as a shell would."""
    missing = []
    for mention in PATH.findall(re.sub(r"https?://\S+", "", text(path))):
        group = re.search(r"\{([^}]*)\}", mention)
        for one in [mention.replace(group.group(0), part) for part in group.group(1).split(",")] if group else [mention]:
            one = one.rstrip(".,/")
            if "results" in one or one.startswith("tests/.venv") or "NAME" in one:
                continue
            if not (ROOT / one).exists() and not list(ROOT.glob(one)):
                missing.append(one)
    assert not missing, f"{name(path)} names {missing}"


@pytest.mark.parametrize("path", files(".md"), ids=name)
def test_links_exist(path):
    for target in re.findall(r"\]\(([^)#\s]+)\)", text(path)):
        assert target.startswith("http") or (path.parent / target).exists(), f"{name(path)} links {target}"


def test_openapi_names_every_admin_route():
    """admin/routes.def and admin/openapi.yaml agree, both ways."""
    document, methods = (ROOT / "admin/openapi.yaml").read_text(), {}
    path = None
    for line in document.split("\n"):
        if match := re.match(r"  (/[^:]*):$", line):
            path = match.group(1)
        elif path and (match := re.match(r"    (get|post|patch|delete|put):", line)):
            methods.setdefault(path, set()).add(match.group(1).upper())
        elif line and not line.startswith(" "):
            path = None
    routes = set()
    for method, pattern in re.findall(r'^(?:ROUTE|PLAIN)\(\w+, "(\w+)", "([^"]+)"', (ROOT / "admin/routes.def").read_text(), re.M):
        routes.add((method, pattern))
    written = {(m, p) for p, ms in methods.items() for m in ms}
    def bare(pairs):
        return {(m, re.sub(r"^/admin/v1", "", re.sub(r"\{\w+\}", "{}", p)) or "/") for m, p in pairs}
    assert bare(routes) == bare(written), (sorted(bare(routes) - bare(written)), sorted(bare(written) - bare(routes)))
