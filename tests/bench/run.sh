#!/usr/bin/env bash
# nginx as a plain one-worker proxy, and Tallygate with its durable ledger, in front of the same mock, in one run: calls, and event streams
# (latency of an event under 1,000 of them, memory of 10,000); what admin writes cost the callers. Then the scanners alone.
# Prints tables and writes them to tests/bench/results/latest.md. Absolute figures drift with the machine; the ratios are what to read.
#
#   tests/bench/run.sh [--only calls|beside|streams|scanners|keys] [--seconds N] [--rounds N]
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${TG_BENCH_BUILD:-$root/build-bench}

packages=()
for need in wrk:wrk h2load:nghttp2-client nginx:nginx-light python3:python3-minimal; do
    PATH=$PATH:/usr/sbin command -v "${need%%:*}" >/dev/null || packages+=("${need##*:}")
done
pkg-config --exists cmocka || packages+=(libcmocka-dev)
if [ ${#packages[@]} -gt 0 ]; then
    sudo=(); [ "$(id -u)" = 0 ] || sudo=(sudo)
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi
cmake -S "$root" -B "$build" -DCMAKE_BUILD_TYPE=Release -DTG_TESTS=ON >/dev/null
cmake --build "$build" -j "$(nproc)" --target tallygate stream_mock stream_load scan_bench key_set | tail -n 1
tools=$(dirname "$(find "$build" -name stream_mock -type f -perm -u+x | head -n 1)")
PATH=$PATH:/usr/sbin exec python3 "$root/tests/bench/run.py" --tallygate "$build/tallygate" --tools "$tools" --out "$root/tests/bench/results" "$@"
