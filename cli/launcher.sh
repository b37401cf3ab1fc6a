#!/bin/sh
# Starts gantry on the Node that was installed with it, wherever this file is linked from. Without the "--" Node would
# take options such as --env-file, which are meant for gantry, for its own. Starts no other program unless it must. With 4 MB
# for new objects a short command ends before V8 looks for garbage. With OpenSSL's authorities, which nobody asks for, Node
# does not parse its own (2 MB, 10 ms); it takes one such flag only.
authorities=--use-openssl-ca
case "$NODE_OPTIONS $NODE_USE_SYSTEM_CA" in *-ca* | *' 1') authorities= ;; esac
self=$0
[ -L "$self" ] && self=$(readlink -f "$self")
case $self in */*) here=${self%/*} ;; *) here=. ;; esac
for root in "$here/../.." "$here/.."; do
  for arch in x64 arm64; do
    node=$root/node_modules/node-linux-$arch/bin/node
    if [ -x "$node" ]; then
      exec "$node" --min-semi-space-size=4 $authorities -- "$here/../cli.js" "$@"
    fi
  done
done
echo "gantry: the bundled Node is missing; run make build" >&2
exit 125
