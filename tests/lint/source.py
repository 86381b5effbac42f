"""The project's files, and just enough C to look at them: comments and strings taken out, functions with their lengths."""

import re
import subprocess
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SKIP = ("build", ".git", "node_modules", ".venv", "__pycache__", "results", "corpus")


@lru_cache
def files(*suffixes, under=""):
    """Every file of the project with one of these endings, without what is built or installed."""
    found = []
    for path in sorted((ROOT / under).rglob("*")):
        parts = path.relative_to(ROOT).parts
        if path.is_file() and path.suffix in suffixes and not any(p == s or p.startswith("build") for p in parts[:-1] for s in SKIP):
            found.append(path)
    return found


def product():
    """The product's own C: everything but the tests."""
    return [p for room in ("daemon", "admin", "db") for p in files(".c", ".h", ".def", under=room)]


def name(path):
    return str(path.relative_to(ROOT))


@lru_cache
def text(path):
    return path.read_text(encoding="utf-8")


TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


@lru_cache
def code(path):
    """The file with comments, strings and characters blanked; every line keeps its number."""
    def blank(match):
        kept = match.group(0)
        mark = kept[0] if kept[0] in "\"'" else ""
        return mark + re.sub(r"[^\n]", " ", kept[len(mark):len(kept) - len(mark)]) + mark
    return TOKEN.sub(blank, text(path))


def lines_matching(path, pattern, source=code):
    """file:line: text, for every line in which <pattern> is found."""
    raw = text(path).split("\n")
    return [f"{name(path)}:{i}: {raw[i - 1].strip()}" for i, line in enumerate(source(path).split("\n"), 1) if re.search(pattern, line)]


FUNCTION = re.compile(r"^(?!static const|const struct|struct \w+ \w+ = |enum|union|typedef|extern)[A-Za-z_][^;={}]*\)\s*\n\{\n(.*?)^\}", re.M | re.S)


@lru_cache
def functions(path):
    """(name, line, lines of the body) of each function; a function's brace stands on a line of its own here."""
    found = []
    for match in FUNCTION.finditer(code(path)):
        top = match.group(0).split("\n{", 1)[0]
        called = re.findall(r"(\w+)\s*\(", top)
        line = code(path).count("\n", 0, match.start()) + 1
        found.append((called[-1] if called and called[0].startswith(("TG_", "__attribute")) else (called or ["?"])[0], line, match.group(1).count("\n")))
    return found


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=120)
