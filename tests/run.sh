#!/usr/bin/env bash
# Builds and runs every test, on a bare Debian 12 too: whatever is missing is installed by apt, pip and npm first.
#
#   tests/run.sh                 everything
#   tests/run.sh PHASE [ARGS]    one phase; what follows goes to its runner: tests/run.sh http -k race
#
# Phases: install, build, lint, unit, mutants, asan, tsan, http, faults, http-asan, faults-asan, fuzz.
# TG_JOBS: compiler processes and parallel tests (default: the cores). TG_FUZZ_SECONDS: a fuzzer's time (default 12).
# Exit code: 0 when every phase passed.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root" || exit 2
jobs=${TG_JOBS:-$(nproc)}
fuzz_seconds=${TG_FUZZ_SECONDS:-12}
venv=tests/.venv
logs=$root/build-logs
phases=(install build lint unit mutants asan tsan http faults http-asan faults-asan fuzz)
names=() results=() times=()
mkdir -p "$logs"

bold='' red='' green='' plain=''
if [ -t 1 ]; then
    bold=$'\e[1m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
fi

say() { printf '%s==> %s%s\n' "$bold" "$*" "$plain"; }

# ---- what the tests need ----

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "not root, and no sudo: cannot run $*" >&2
        return 1
    fi
}

node_is_new_enough() {
    command -v node >/dev/null && command -v npm >/dev/null && [ "$(node -p 'parseInt(process.versions.node)')" -ge 18 ]
}

install_packages() {
    local want=(build-essential clang libclang-rt-14-dev cmake ninja-build pkg-config libh2o-evloop-dev libcurl4-openssl-dev libsqlite3-dev
        libjson-c-dev libsodium-dev libssl-dev libsystemd-dev libpng-dev libjpeg-dev libwebp-dev zlib1g-dev libzstd-dev zstd libcmocka-dev python3 python3-venv
        python3-pip curl jq make ca-certificates openssl nghttp2-client sqlite3 procps groff-base git tzdata)
    node_is_new_enough || want+=(nodejs npm)
    local missing=() package
    for package in "${want[@]}"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    say "apt: ${missing[*]}"
    as_root apt-get update -qq || return
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$logs/apt.log" 2>&1 ||
        { tail -n 20 "$logs/apt.log"; return 1; }
}

# A folder is installed again only when its list changed.
install_python() {
    cmp -s tests/requirements.txt $venv/installed.txt 2>/dev/null && [ -x $venv/bin/pytest ] && return 0
    say "pip: tests/requirements.txt"
    rm -rf $venv
    /usr/bin/python3 -m venv $venv && $venv/bin/pip install -q --disable-pip-version-check -r tests/requirements.txt &&
        cp tests/requirements.txt $venv/installed.txt
}

install_node() {
    local sdk
    for sdk in node node-latest; do
        [ $sdk = node-latest ] && [ "$(node -p 'parseInt(process.versions.node)')" -lt 20 ] && continue
        cmp -s tests/sdk/$sdk/package-lock.json tests/sdk/$sdk/node_modules/installed.json 2>/dev/null && continue
        say "npm: tests/sdk/$sdk"
        (cd tests/sdk/$sdk && npm ci --silent --no-audit --no-fund && cp package-lock.json node_modules/installed.json) || return
    done
}

phase_install() { install_packages && install_python && install_node; }

# ---- building ----

# build NAME PRESET [cmake arguments]: in build-NAME.
build() {
    local name=$1 preset=$2
    shift 2
    cmake -C etc/cmake/$preset.cmake -S . -B "build-$name" -G Ninja "$@" >"$logs/build-$name.log" 2>&1 &&
        cmake --build "build-$name" -j "$jobs" >>"$logs/build-$name.log" 2>&1 && return 0
    grep -E -A 6 'error|warning|FAILED' "$logs/build-$name.log" | head -n 60
    echo "build-$name failed; the whole log: $logs/build-$name.log"
    return 1
}

build_release() { build release release; }
build_asan() { build asan asan; }
build_tsan() { build tsan tsan; }
build_fuzz() { build fuzz fuzz; }
phase_build() { build_release && build_asan && build_tsan && build_fuzz; }

# ---- running ----

unit() { # unit FOLDER [ctest arguments]
    local folder=$1
    shift
    ctest --test-dir "$folder" -j "$jobs" --output-on-failure "$@" 2>&1
}

phase_unit() { build_release && unit build-release "$@"; }
phase_asan() { build_asan && unit build-asan "$@"; }
phase_tsan() { build_tsan && unit build-tsan "$@"; }

# A copy of its own, so that nothing of it comes into the other builds.
phase_mutants() { TG_JOBS=$jobs tests/mutants/run.sh "$@"; }

pytest_on() { # pytest_on FOLDER sanitized|plain ARGUMENTS
    local folder=$1 sanitized=0
    [ "$2" = sanitized ] && sanitized=1
    shift 2
    TG_BINARY=$root/$folder/tallygate TG_SANITIZED=$sanitized PYTHONDONTWRITEBYTECODE=1 $venv/bin/pytest -q -c tests/pytest.ini --rootdir tests "$@"
}

phase_lint() { build_release && pytest_on build-release plain tests/lint "$@"; }
# Side by side: most of a test's time is waiting. A worker takes tests from the other's end when it has none left.
both() { pytest_on "$@" -n "$jobs" --dist worksteal; }
phase_http() { build_release && both build-release plain tests/http "$@"; }
phase_faults() { build_release && both build-release plain tests/faults "$@"; }
phase_http-asan() { build_asan && both build-asan sanitized tests/http "$@"; }
phase_faults-asan() { build_asan && both build-asan sanitized tests/faults "$@"; }

# What a fuzzer finds on the way is kept in build-fuzz; what breaks something lands beside it as crash-*.
fuzz_one() {
    local target=$1 name=${1##*/fuzz_}
    mkdir -p "build-fuzz/corpus/$name" "build-fuzz/found"
    local seeds=()
    [ -d "tests/fuzz/corpus/$name" ] && seeds=("tests/fuzz/corpus/$name")
    if "$target" -max_total_time="$fuzz_seconds" -rss_limit_mb=2048 -timeout=10 -verbosity=0 -print_final_stats=0 \
        -artifact_prefix="build-fuzz/found/$name-" "build-fuzz/corpus/$name" "${seeds[@]}" >"$logs/fuzz-$name.log" 2>&1; then
        echo "fuzz_$name: $fuzz_seconds s, nothing found"
    else
        tail -n 40 "$logs/fuzz-$name.log"
        echo "fuzz_$name: FAILED, see build-fuzz/found"
        return 1
    fi
}
export -f fuzz_one
export fuzz_seconds logs

phase_fuzz() {
    build_fuzz || return
    local targets
    targets=$(find build-fuzz -maxdepth 1 -type f -name 'fuzz_*' -perm -u+x | sort)
    [ -n "$targets" ] || { echo "no fuzzer was built"; return 1; }
    xargs -P "$jobs" -I{} bash -c 'fuzz_one {}' <<<"$targets"
}

# ---- the whole ----

run_phase() {
    local name=$1 start=$SECONDS status
    shift
    say "$name"
    "phase_$name" "$@" 2>&1 | tee "$logs/$name.log"
    status=${PIPESTATUS[0]}
    names+=("$name") results+=("$status") times+=($((SECONDS - start)))
    say "$name: $([ "$status" = 0 ] && echo passed || echo FAILED) after $((SECONDS - start)) s"
    return "$status"
}

# The last line of what the phase's runner said: its count.
count_of() {
    grep -E '([0-9]+ (passed|failed|error))|tests passed|nothing found|mutants: ' "$logs/$1.log" 2>/dev/null | tail -n 1 | sed 's/\x1b\[[0-9;]*m//g; s/=//g; s/^ *//'
}

summary() {
    local i failed=0
    printf '\n%sphase          result    seconds  %s\n' "$bold" "$plain"
    for i in "${!names[@]}"; do
        local word=passed colour=$green
        [ "${results[$i]}" = 0 ] || { word=FAILED colour=$red; failed=1; }
        printf '%-14s %s%-8s%s %8d  %s\n' "${names[$i]}" "$colour" "$word" "$plain" "${times[$i]}" "$(count_of "${names[$i]}")"
    done
    return $failed
}

if [ $# -gt 0 ]; then
    phase=$1
    shift
    if [[ " ${phases[*]} " != *" $phase "* ]]; then
        sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
        exit 2
    fi
    [ "$phase" = install ] || phase_install || exit 1
    run_phase "$phase" "$@"
    exit
fi

for phase in "${phases[@]}"; do
    if ! run_phase "$phase" && [ "$phase" = install ]; then
        exit 1
    fi
done
summary
