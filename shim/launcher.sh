#!/bin/sh
# Starts the shim on the Node that was installed with it, wherever this file is linked from or copied beside.
here=$(dirname "$(readlink -f "$0")")
case $(uname -m) in aarch64) arch=arm64 ;; *) arch=x64 ;; esac
for root in "$here/../.." "$here/.."; do
  node=$root/node_modules/node-linux-$arch/bin/node
  if [ -x "$node" ]; then
    export @ENVIRONMENT@
    exec "$node" @FLAGS@ "$here/../shim.js" "$@"
  fi
done
echo "gantry-shim: the bundled Node is missing; run make build" >&2
exit 125
