#!/usr/bin/env bash
# From a fresh Debian 12 to the first image: installs what is needed, builds, starts gateway and a simulated upstream on an
# embedded SQLite, makes a tenant with credit, a channel and a key, makes one image, shows the picture's file and the charge,
# and keeps running until Ctrl-C. Run again, it picks up where it was.
#
#   etc/quickstart.sh [--once] [--dir DIR]
#     --once     stop after the first image
#     --dir DIR  where database, keys and pictures are kept (default: ~/.local/state/tallygate-quickstart)
#   PORT, ADMIN_PORT, SANDBOX_PORT: 8080, 8081 and 8089 unless set
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
dir=${XDG_STATE_HOME:-${HOME:-/root}/.local/state}/tallygate-quickstart
once=no
port=${PORT:-8080} admin_port=${ADMIN_PORT:-8081} sandbox_port=${SANDBOX_PORT:-8089}
tallygate=$root/build/tallygate
started=()

packages=(cmake make gcc pkg-config libc6-dev libh2o-evloop-dev libcurl4-openssl-dev libsqlite3-dev libjson-c-dev libsodium-dev
    libssl-dev libsystemd-dev libpng-dev libjpeg-dev libwebp-dev zlib1g-dev libzstd-dev curl jq ca-certificates tzdata)

if [ -t 1 ]; then bold=$'\e[1m' green=$'\e[32m' plain=$'\e[0m'; else bold='' green='' plain=''; fi
say() { printf '%s==>%s %s\n' "$green" "$plain" "$*"; }
die() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; exit "$1"; }

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            --once) once=yes ;;
            --dir) [ $# -gt 1 ] || usage 2; dir=$2; shift ;;
            -h | --help) usage 0 ;;
            *) usage 2 ;;
        esac
        shift
    done
}

install_packages() {
    local missing=() package
    for package in "${packages[@]}"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "these packages are missing, and neither root nor sudo is here to install them: ${missing[*]}"
        as_root=(sudo)
    fi
    say "installing ${#missing[@]} packages: ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

build() {
    say "building (Release) in $root/build"
    cmake -S "$root" -B "$root/build" >"$dir/build.log" 2>&1 || { tail -n 20 "$dir/build.log" >&2; die "cmake failed; see $dir/build.log"; }
    if [ -t 1 ]; then
        cmake --build "$root/build" -j "$(nproc)" --target tallygate
    else
        cmake --build "$root/build" -j "$(nproc)" --target tallygate >>"$dir/build.log" 2>&1 || { tail -n 20 "$dir/build.log" >&2; die "the build failed; see $dir/build.log"; }
    fi
}

write_configuration() {
    cat >"$dir/tallygate.conf" <<END
[public]
listen = 127.0.0.1:$port
[admin]
listen = 127.0.0.1:$admin_port
[store]
url = sqlite:$dir/tallygate.db
END
}

# start NAME URL COMMAND...: unless it runs already
start() {
    local name=$1 url=$2
    shift 2
    if curl -sf -o /dev/null "$url"; then
        say "$name is running already"
        return
    fi
    "$@" >>"$dir/$name.log" 2>&1 &
    started+=("$!")
    for _ in $(seq 100); do
        kill -0 "${started[-1]}" 2>/dev/null || { tail -n 5 "$dir/$name.log" >&2; die "$name did not start; see $dir/$name.log"; }
        if curl -sf -o /dev/null "$url"; then
            say "$name started, its log is $dir/$name.log"
            return
        fi
        sleep 0.1
    done
    die "$name does not answer on $url; see $dir/$name.log"
}

stop_all() {
    trap - EXIT INT TERM
    for pid in "${started[@]:-}"; do
        [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    done
    wait 2>/dev/null || true
}

# admin METHOD PATH IDEMPOTENCY-KEY [BODY]: prints the answer. Each step has a key of its own, so a step that was done before is
# answered as it was the first time.
admin() {
    local answer
    answer=$(curl -sS -X "$1" "http://127.0.0.1:$admin_port/admin/v1$2" -H "Authorization: Bearer $(cat "$dir/admin-token")" \
        -H "Idempotency-Key: $3" ${4:+-d "$4"}) || die "the admin API does not answer"
    jq -e 'has("error") | not' <<<"$answer" >/dev/null || die "$2: $(jq -r .error.message <<<"$answer")"
    printf '%s' "$answer"
}

make_admin_token() {
    [ ! -s "$dir/admin-token" ] || return 0
    "$tallygate" admin-token create -c "$dir/tallygate.conf" --name quickstart >"$dir/admin-token.new"
    mv "$dir/admin-token.new" "$dir/admin-token"
}

# What was made is noted in $dir/state.json; the answers themselves are kept by the gateway for a day only.
make_things() {
    local tenant key
    if [ -s "$dir/state.json" ]; then
        say "using the tenant, channel and key of the last time"
        return
    fi
    tenant=$(admin POST /tenants quickstart-tenant '{"name": "Quickstart Ltd"}' | jq -r .id)
    admin POST "/tenants/$tenant/credits" quickstart-credit '{"amount": "10.00", "note": "to try it out"}' >/dev/null
    admin POST /channels quickstart-channel "{\"name\": \"sandbox\", \"kind\": \"openai\", \"base_url\": \"http://127.0.0.1:$sandbox_port/v1\",
        \"api_key\": \"sk-sandbox\", \"models\": {\"dall-e-2\": \"dall-e-2\", \"dall-e-3\": \"dall-e-3\", \"gpt-image-1\": \"gpt-image-1\"}}" >/dev/null
    key=$(admin POST /keys quickstart-key "{\"tenant\": \"$tenant\", \"name\": \"first key\"}" | jq -r .secret)
    jq -n --arg tenant "$tenant" --arg key "$key" '{tenant: $tenant, key: $key}' >"$dir/state.new"
    mv "$dir/state.new" "$dir/state.json"
    say "made a tenant with 10.00 USD, a channel to the sandbox, and an API key"
}

make_image() {
    local tenant key record picture charge
    tenant=$(jq -r .tenant "$dir/state.json")
    key=$(jq -r .key "$dir/state.json")
    say "asking gpt-image-1 for a picture"
    curl -sS -o "$dir/reply.json" "http://127.0.0.1:$port/v1/images/generations" -H "Authorization: Bearer $key" \
        -H 'Content-Type: application/json' -d '{"model": "gpt-image-1", "prompt": "a sea otter", "size": "1024x1024", "quality": "low"}'
    jq -e 'has("error") | not' "$dir/reply.json" >/dev/null || die "the call failed: $(jq -r .error.message "$dir/reply.json")"
    record=$(admin GET "/usage/records?limit=1" -)
    picture=$dir/otter-$(jq -r '.data[0].request_id' <<<"$record").png
    charge=$(jq -r '.data[0].wholesale' <<<"$record")
    jq -r '.data[0].b64_json' "$dir/reply.json" | base64 -d >"$picture"
    printf '\n  picture   %s\n  usage     %s\n  charge    %s USD\n  balance   %s USD\n\n' "$bold$picture$plain" \
        "$(jq -c '.usage | {input_tokens, output_tokens}' "$dir/reply.json")" "$bold$charge$plain" \
        "$(admin GET "/tenants/$tenant/balance" - | jq -r .available)"
}

show_how_to_go_on() {
    local key
    key=$(jq -r .key "$dir/state.json")
    cat <<END
Go on from any OpenAI SDK; only base URL and key are other than OpenAI's:

  ${bold}Python${plain}   from openai import OpenAI
           client = OpenAI(base_url="http://127.0.0.1:$port/v1", api_key="$key")
           print(client.images.generate(model="dall-e-3", prompt="a sea otter", size="1024x1024").data[0].url)

  ${bold}Node${plain}     import OpenAI from "openai";
           const client = new OpenAI({ baseURL: "http://127.0.0.1:$port/v1", apiKey: "$key" });
           console.log((await client.images.generate({ model: "dall-e-3", prompt: "a sea otter" })).data[0].url);

  ${bold}Admin${plain}    $tallygate admin records tail -c $dir/tallygate.conf
           curl -H "Authorization: Bearer \$(cat $dir/admin-token)" http://127.0.0.1:$admin_port/admin/v1/usage/records
           http://127.0.0.1:$admin_port/admin/v1/reference      every route, in a browser
  ${bold}Ledger${plain}   $tallygate fsck -c $dir/tallygate.conf

END
}

read_arguments "$@"
umask 077
mkdir -p "$dir"
install_packages
build
write_configuration
trap stop_all EXIT
trap 'exit 0' INT TERM
start sandbox "http://127.0.0.1:$sandbox_port/sandbox/served" "$tallygate" sandbox --listen "127.0.0.1:$sandbox_port"
start gateway "http://127.0.0.1:$admin_port/healthz" "$tallygate" serve -c "$dir/tallygate.conf"
make_admin_token
make_things
make_image
if [ "$once" = no ]; then
    show_how_to_go_on
    if [ ${#started[@]} -gt 0 ]; then
        say "running; Ctrl-C stops it"
        wait
    else
        say "gateway and sandbox go on running where they were started"
    fi
fi
