#!/bin/sh
# Starts gantry on the Node that was installed with it, wherever this file is linked from. Without the "--" Node would
# take options such as --env-file, which are meant for gantry, for its own.
here=$(dirname "$(readlink -f "$0")")
case $(uname -m) in aarch64) arch=arm64 ;; *) arch=x64 ;; esac
for root in "$here/../.." "$here/.."; do
  node=$root/node_modules/node-linux-$arch/bin/node
  if [ -x "$node" ]; then
    NODE_COMPILE_CACHE=$here/../.cache/cli exec "$node" -- "$here/../cli.js" "$@"
  fi
done
echo "gantry: the bundled Node is missing; run make build" >&2
exit 125
