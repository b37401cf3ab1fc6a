#!/bin/sh
# Starts gantry-runtime on the Node that was installed with it, wherever this file is linked from. Without the "--" Node
# would take options for its own. Starts no other program unless it must.
self=$0
[ -L "$self" ] && self=$(readlink -f "$self")
case $self in */*) here=${self%/*} ;; *) here=. ;; esac
# Node opens files of its own, so those of the caller are counted here.
case "$*" in
  *preserve-fds*)
    fd=3
    while [ -e /proc/$$/fd/$fd ]; do fd=$((fd + 1)); done
    export GANTRY_INHERITED_FILES=$((fd - 3))
    ;;
esac
for root in "$here/../.." "$here/.."; do
  for arch in x64 arm64; do
    node=$root/node_modules/node-linux-$arch/bin/node
    if [ -x "$node" ]; then
      exec "$node" --no-warnings -- "$here/../runtime.js" "$@"
    fi
  done
done
echo "gantry-runtime: the bundled Node is missing; run make build" >&2
exit 125
