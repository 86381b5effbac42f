#!/usr/bin/env bash
# First figures: nginx as a plain one-worker proxy, and Tallygate with its durable ledger, in front of the same nginx mock, in one run.
# Prints a table and writes it to tests/bench/results/latest.md. Absolute figures drift with the machine; the ratios are what to read.
#
#   tests/bench/run.sh [--seconds N] [--rounds N]
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${TG_BENCH_BUILD:-$root/build-bench}

packages=()
for need in wrk:wrk nginx:nginx-light python3:python3-minimal; do
    PATH=$PATH:/usr/sbin command -v "${need%%:*}" >/dev/null || packages+=("${need##*:}")
done
if [ ${#packages[@]} -gt 0 ]; then
    sudo=(); [ "$(id -u)" = 0 ] || sudo=(sudo)
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi
cmake -S "$root" -B "$build" -DCMAKE_BUILD_TYPE=Release >/dev/null
cmake --build "$build" -j "$(nproc)" --target tallygate | tail -n 1
PATH=$PATH:/usr/sbin exec python3 "$root/tests/bench/run.py" --tallygate "$build/tallygate" --out "$root/tests/bench/results" "$@"
