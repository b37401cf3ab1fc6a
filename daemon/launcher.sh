#!/bin/sh
# Starts gantryd on the Node that was installed with it, wherever this file is linked from. The V8 flags and malloc's keep
# the idle daemon small (a fixed threshold stops glibc from holding on to memory: 15 MiB after an import), and let no filter
# expression of a client run for ever. Threads: syncs, copies and
# removals of trees may hold some for seconds, the rest must do for files and decompression.
here=$(dirname "$(readlink -f "$0")")
case $(uname -m) in aarch64) arch=arm64 ;; *) arch=x64 ;; esac
for root in "$here/../.." "$here/.."; do
  node=$root/node_modules/node-linux-$arch/bin/node
  if [ -x "$node" ]; then
    export UV_THREADPOOL_SIZE=8 MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=131072 NODE_COMPILE_CACHE=$here/../.cache/daemon
    exec "$node" --max-semi-space-size=1 --no-warnings --disable-sigusr1 \
      --enable-experimental-regexp-engine-on-excessive-backtracks --regexp-backtracks-before-fallback=20000 \
      -- "$here/../daemon/main.js" "$@"
  fi
done
echo "gantryd: the bundled Node is missing; run make build" >&2
exit 125
