#!/bin/sh
# make demo: starts a private gantryd, makes a small image, imports it, runs a container with the gantry CLI, shows its
# output, exit status and events, and stops clean. Everything lives in one temporary directory. Argument: the Node to use.
set -eu
node=$1
project=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d /tmp/gantry-demo.XXXXXX)
socket=$work/state/gantryd.sock
daemon='' follower=''

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
show() { printf '$ gantry %s\n' "$*"; }
gantry() { "$project/dist/bin/gantry" --address "$socket" --namespace demo "$@"; }
stop() {
  [ -z "$follower" ] || kill "$follower" 2>/dev/null || true
  [ -z "$daemon" ] || { kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null || true; }
  rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT TERM

[ "$(id -u)" = 0 ] || { echo 'make demo needs root: it runs a real container' >&2; exit 1; }

say '1. a private gantryd'
"$project/dist/bin/gantryd" --root "$work/root" --state "$work/state" --address "$socket" --log-level warn &
daemon=$!
tries=0
until gantry version >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ "$tries" -lt 100 ] || { echo 'gantryd did not come up' >&2; exit 1; }
  kill -0 "$daemon" || exit 1
  sleep 0.1
done
show version; gantry version

say '2. an image made from what this machine has'
"$node" "$project/dist/test/demo/image.js" "$work/hello.tar"
show images import hello.tar; gantry images import "$work/hello.tar"
show images ls; gantry images ls

say '3. a container'
gantry events >"$work/events" 2>/dev/null &
follower=$!
sleep 0.5
show run --rm demo/hello:latest hello
status=0
gantry run --rm demo/hello:latest hello || status=$?
echo "exit status: $status"

say '4. its events'
sleep 0.3
cat "$work/events"

say '5. nothing is left'
show containers ls; gantry containers ls
show tasks ls; gantry tasks ls

[ "$status" = 7 ] || { echo "the container should have ended with status 7, not $status" >&2; exit 1; }
