"""House rules that a compiler does not check: rooms, libraries, banned calls, sizes, words."""

import re
import shutil
import statistics
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from source import ROOT, code, files, functions, lines_matching, name, output, product, text  # noqa: E402

ROOMS = ["daemon/base", "daemon/billing", "db", "daemon/gate", "daemon/images", "daemon/front", "daemon/relay", "daemon/sandbox", "admin", "daemon"]
# What a room may include of the project, besides itself.
MAY = {
    "daemon/base": set(),
    "daemon/billing": {"daemon/base"},
    "db": {"daemon/base", "daemon/billing"},
    "daemon/gate": {"daemon/base", "daemon/billing", "db"},
    "daemon/images": {"daemon/base", "daemon/billing", "db"},
    "daemon/front": {"daemon/base"},
    "daemon/relay": {"daemon/base", "daemon/billing", "db", "daemon/gate", "daemon/images", "daemon/front"},
    "daemon/sandbox": {"daemon/base", "daemon/billing", "db", "daemon/images", "daemon/front"},
    "admin": set(ROOMS) - {"admin", "daemon"},
    "daemon": set(ROOMS) - {"daemon"},
}
# Which room alone may include a library.
LIBRARY = {
    r"h2o(\.h|/)": {"daemon/front"}, r"curl/": {"daemon/relay", "admin"}, r"sqlite3\.h": {"db"}, r"sodium(\.h|/)": {"daemon/base"}, r"json-c/": {"daemon/base"},
    r"openssl/": {"daemon/front", "daemon/sandbox"}, r"systemd/": {"daemon/base"}, r"(png|jpeglib|jpeg)\.h|webp/": {"daemon/sandbox"},
}
BANNED = (r"\b(strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|atoll|atof|scanf|fscanf|alloca|gmtime|localtime|ctime|asctime|strerror_l|rand|srand|"
          r"random|tmpnam|mktemp|system|popen|setjmp|longjmp|strncpy|strncat|bcopy|usleep|gethostbyname|inet_addr|inet_ntoa)\s*\(")
MONEY = ["daemon/billing", "db", "daemon/gate", "daemon/relay", "admin"]


def room(path):
    folder = name(path.parent)
    return folder if folder in MAY else None


def fail(found, why):
    assert not found, f"{why}:\n  " + "\n  ".join(found)


def test_include_directions():
    found = []
    for path in product():
        here = room(path)
        assert here, f"{name(path)} stands in no room"
        for number, line in enumerate(text(path).split("\n"), 1):
            match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not match:
                continue
            target = match.group(1)
            there = here if "/" not in target else str(Path(target).parent)
            full = path.parent / target if "/" not in target else ROOT / target
            if not full.exists():
                found.append(f"{name(path)}:{number}: {target} is not there (includes are written from the project's root)")
            elif there != here and there not in MAY[here]:
                found.append(f"{name(path)}:{number}: {here} may not include {target}")
    fail(found, "include directions")


def test_admin_knows_of_the_relay_its_header_alone():
    found = [m for p in product() if room(p) == "admin" for m in lines_matching(p, r'#include "daemon/relay/(?!relay\.h)', text)]
    fail(found, "admin may not reach into relay")


def test_library_headers():
    found = []
    for path in product():
        for pattern, rooms in LIBRARY.items():
            if room(path) not in rooms:
                found += lines_matching(path, rf"#\s*include\s+<{pattern}", text)
    fail(found, "a library's header outside its room")


def test_banned_functions():
    found = [m for p in product() for m in lines_matching(p, BANNED)]
    fail([m for m in found if "setjmp(png_jmpbuf(" not in m], "unbounded, thread-unsafe or otherwise banned")  # libpng reports errors no other way


def test_no_floating_point_near_money():
    paths = [p for p in product() if room(p) in MONEY or p.name.startswith("money")]
    fail([m for p in paths for m in lines_matching(p, r"\b(double|float|strtod|strtof|lround|ceil|floor|pow)\b")], "floating point")


def test_raw_allocation_goes_through_base():
    """Out of memory is decided in one place."""
    paths = [p for p in product() if name(p) != "daemon/base/attrs.c"]
    fail([m for p in paths for m in lines_matching(p, r"(?<![\w.>])(malloc|calloc|realloc|strdup|strndup|asprintf)\s*\(")], "use mem_alloc and its like")


def test_lengths_of_files():
    long = [f"{name(p)}: {text(p).count(chr(10))}" for p in product() if text(p).count("\n") > 600]
    long += [f"{name(p)}: {text(p).count(chr(10))}" for p in files(".c", ".h", ".py", under="tests") if text(p).count("\n") > 1200]
    fail(long, "too long (600 lines; tests 1200)")


def test_lengths_of_functions(capsys):
    sizes, long = [], []
    for path in product():
        for function, line, size in functions(path):
            sizes.append(size)
            if size > 80:
                long.append(f"{name(path)}:{line}: {function}: {size} lines")
    with capsys.disabled():
        print(f"\n  {len(sizes)} functions, median {statistics.median(sizes):.0f} lines, {sum(s > 60 for s in sizes)} above 60, longest {max(sizes)}")
    assert len(sizes) > 500, "the functions are not recognised any more"
    assert statistics.median(sizes) < 20
    fail(long, "longer than 80 lines")


def test_names_of_files():
    bad = [name(p) for p in files(".c", ".h", ".def", ".py", ".sh", ".sql", ".cmake") if not re.fullmatch(r"[a-z0-9_]+\.\w+", p.name)]
    fail(bad, "lower case, digits and _ only")


def test_rooms_have_a_readme():
    fail([r for r in ROOMS + ["etc", "tests"] if not (ROOT / r / "README.md").exists()], "no README.md")


def test_files_open_with_their_role():
    fail([name(p) for p in product() if not re.match(rf"/\* {re.escape(p.name)} - \S", text(p))], "a file opens with /* its name - its role")


def test_header_guards():
    bad = []
    for path in files(".h", under="daemon") + files(".h", under="admin") + files(".h", under="db"):
        guard = re.search(r"^#ifndef (TG_\w+_H)\n#define (\w+)$", text(path), re.M)
        if not guard or guard.group(1) != guard.group(2) or not re.search(r"#endif\s*$", text(path)):
            bad.append(name(path))
    fail(bad, "#ifndef TG_..._H")


def test_headers_stand_alone():
    """Each header compiles by itself."""
    flags = output("pkg-config", "--cflags", "libh2o-evloop", "libcurl", "sqlite3", "json-c", "libsodium", "openssl").stdout.split()
    headers = [p for p in product() if p.suffix == ".h"]
    source = "".join(f'#include "{name(h)}"\n' for h in headers)
    # one compiler run for all is quick; only when it fails each is tried alone
    import subprocess
    command = ["cc", "-std=gnu17", "-fsyntax-only", "-D_GNU_SOURCE", "-DH2O_USE_LIBUV=0", f"-I{ROOT}", *flags, "-x", "c", "-"]

    def bad(body):
        return subprocess.run(command, input=body, capture_output=True, text=True).stderr
    assert shutil.which("cc")
    for body in (source, "".join(f'#include "{name(h)}"\n' for h in reversed(headers))):
        if bad(body):
            fail([bad(f'#include "{name(h)}"\n')[:400] for h in headers if bad(f'#include "{name(h)}"\n')] or [bad(body)[:2000]], "headers")


def test_layout():
    bad = []
    for path in files(".c", ".h", ".def"):
        for i, line in enumerate(text(path).split("\n"), 1):
            if line != line.rstrip() or "\t" in line:
                bad.append(f"{name(path)}:{i}: trailing blanks or a tab")
            elif len(line) > 120 and path.suffix != ".def" and not re.search(r'"[^"]{60,}', line):
                bad.append(f"{name(path)}:{i}: {len(line)} columns")
    for path in files(".c", ".h", ".def", ".py", ".sh", ".md", ".sql", ".cmake", ".yaml", ".ini", ".mjs"):
        if text(path) and not text(path).endswith("\n"):
            bad.append(f"{name(path)}: no newline at its end")
        if "\r" in text(path):
            bad.append(f"{name(path)}: carriage returns")
    fail(bad, "layout")


def test_words():
    """Nothing is left for later without an issue, and no file speaks of the machine it was written on."""
    me = Path(__file__).resolve()
    paths = [p for p in files(".c", ".h", ".def", ".py", ".sh", ".md", ".sql", ".cmake", ".yaml", ".ini", ".mjs", ".txt") if p != me]
    fail([m for p in paths for m in lines_matching(p, r"\b(TODO|FIXME|XXX|HACK)\b|not implemented|/(home|root)/[a-z]", text)], "words")


def test_typedefs():
    """struct thing, without a typedef (function types excepted)."""
    fail([m for p in product() for m in lines_matching(p, r"\btypedef\s+(struct|enum|union)\s+\w*\s*(\{|\*?\w+\s*;)")], "typedef")


def test_asserts_are_the_projects():
    fail([m for p in product() for m in lines_matching(p, r"#\s*include\s+<assert\.h>|(?<![\w.])assert\s*\(", code) if name(p) not in ("daemon/base/attrs.h",)],
         "TG_ASSERT stays on in every build; assert does not")


@pytest.mark.parametrize("path", [*files(".sh"), ROOT / ".ci" / "run"], ids=name)
def test_shell_syntax(path):
    assert path.exists()
    done = output("bash", "-n", str(path))
    assert done.returncode == 0, done.stderr
    if shutil.which("shellcheck"):
        done = output("shellcheck", "-S", "warning", str(path))
        assert done.returncode == 0, done.stdout
    assert path.stat().st_mode & 0o111, f"{name(path)} is not executable"
    assert text(path).startswith("#!/")


def test_python_syntax():
    for path in files(".py"):
        compile(text(path), name(path), "exec")


def test_migrations_are_numbered():
    numbers = [int(p.name[:4]) for p in files(".sql", under="migrations")]
    assert numbers == list(range(1, len(numbers) + 1))
