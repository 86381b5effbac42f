#!/usr/bin/env bash
# The mutation check: puts one bug after another into a copy of the source and sees that the tests find it.
#
#   tests/mutants/run.sh                 every mutant; first, that the tests pass without one
#   tests/mutants/run.sh NAME...         these alone
#   tests/mutants/run.sh --update        makes every patch fit the source again, line numbers and all
#
# A mutant is NAME.patch: a line that says what the bug is, a line with the tests that must find it ("Tests: store/test_ops ..."), a diff.
# TG_JOBS: compiler processes and parallel tests (default: the cores). Exit code: 0 when each was found.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
jobs=${TG_JOBS:-$(nproc)}
work=$(mktemp -d) || exit 2
tree=$work/tree
trap 'rm -rf "$work"' EXIT

copy_tree() {
    mkdir "$tree" && (cd "$root" && git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' f; do
        [ -e "$f" ] && printf '%s\0' "$f"
    done | tar --null -T - -cf -) | tar -xf - -C "$tree"
}

field() { sed -n "s/^$2: *//p" "$here/$1.patch" | head -n 1; }

# A test's name to the target that makes it.
target_of() {
    case $1 in
    unit/rating_oracle) echo rating_driver ;;
    *) echo "${1/\//_}" ;;
    esac
}

# build TEST...: 0 when all that they need was built.
build() {
    local targets=() test
    for test in "$@"; do
        targets+=("$(target_of "$test")")
    done
    cmake --build "$work/build" -j "$jobs" --target "${targets[@]}" >"$work/build.log" 2>&1
}

# failing TEST...: prints which of them fail; stops at the first one.
failing() {
    local pattern
    pattern="^($(IFS='|'; echo "$*"))\$"
    TMPDIR=$stores ctest --test-dir "$work/build" -R "$pattern" -j "$jobs" --timeout 60 --stop-on-failure >"$work/test.log" 2>&1
    sed -nE 's/.*Test +#[0-9]+: ([^ ]+) .*\*\*\*.*/\1/p' "$work/test.log" | sort -u
}

change() { # change NAME [git apply's options]
    git -C "$tree" apply -C1 --recount "${@:2}" "$here/$1.patch" 2>"$work/apply.log"
}

update() {
    local name
    for name in "${names[@]}"; do
        change "$name" || { echo "$name: does not apply"; cat "$work/apply.log"; return 1; }
        { sed '/^--- /,$d' "$here/$name.patch"; git -C "$tree" diff -U2 --no-color | sed '/^diff --git/d; /^index /d'; } >"$work/new.patch"
        git -C "$tree" checkout -q . && cp "$work/new.patch" "$here/$name.patch"
    done
}

mapfile -t names < <(cd "$here" && for f in *.patch; do echo "${f%.patch}"; done)
copy_tree || exit 2
git -C "$tree" init -q && git -C "$tree" add -A && git -C "$tree" -c user.name=mutants -c user.email=mutants@localhost commit -qm tree || exit 2
if [ "${1:-}" = --update ]; then
    update
    exit
fi
[ $# -gt 0 ] && names=("$@")
for name in "${names[@]}"; do
    [ -f "$here/$name.patch" ] || { echo "no such mutant: $name" >&2; exit 2; }
done

# In memory where there is room: what is synced here need not last.
stores=$work/stores
if [ -d /dev/shm ] && [ "$(df --output=avail -k /dev/shm | tail -n 1)" -gt 262144 ]; then
    stores=$(mktemp -d /dev/shm/tg-mutants-XXXXXX)
    trap 'rm -rf "$work" "$stores"' EXIT
fi
mkdir -p "$work/build" "$stores"
cmake -S "$tree" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS_DEBUG=-O1 -DTG_TESTS=ON >"$work/build.log" 2>&1 ||
    { tail -n 20 "$work/build.log"; exit 2; }

mapfile -t tests < <(for name in "${names[@]}"; do field "$name" Tests | tr ' ' '\n'; done | sort -u)
build "${tests[@]}" || { grep -E -A 6 'error|FAILED' "$work/build.log" | head -n 40; exit 2; }
bad=$(failing "${tests[@]}")
if [ -n "$bad" ]; then
    echo "without a mutant these fail: $bad"
    tail -n 40 "$work/test.log"
    exit 1
fi

survived=0
printf '%-24s %4s  %s\n' mutant s 'found by'
for name in "${names[@]}"; do
    start=$SECONDS
    read -ra tests <<<"$(field "$name" Tests)"
    if ! change "$name"; then
        found="DOES NOT APPLY: $(head -n 1 "$work/apply.log")" survived=1
    elif ! build "${tests[@]}"; then
        found="DOES NOT COMPILE: $(grep -m 1 error "$work/build.log")" survived=1
    else
        found=$(failing "${tests[@]}" | tr '\n' ' ')
        [ -n "$found" ] || { found="NOTHING: it survived" survived=1; }
    fi
    git -C "$tree" checkout -q .
    printf '%-24s %4d  %s\n' "$name" $((SECONDS - start)) "$found"
done
if [ $survived = 0 ]; then
    echo "${#names[@]} mutants: all found, tests passed without them"
fi
exit $survived
