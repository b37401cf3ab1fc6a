#!/bin/sh
# Starts gantryd on the Node that was installed with it, wherever this file is linked from. The V8 flag and malloc's keep
# the idle daemon small. Fixed thresholds stop glibc from holding on to memory: 15 MiB after an import, and 60 MiB after a
# pull of 450 MB, which reads 64 KiB at a time. Most other flags of V8 would make it refuse the compiled code that Node
# brings: the daemon and each of its threads would start slower (v8.cachedDataVersionTag() tells; see roomy-heap.ts for one).
# Threads of libuv: syncs, copies and removals of trees, and layers, may hold some for seconds, the rest must do for
# files. With OpenSSL's authorities Node does not parse its own at every start (2 MB, 10 ms); it takes one such flag
# only. Whom registries are trusted by says registry/http/trust.ts.
authorities=--use-openssl-ca
case "$NODE_OPTIONS $NODE_USE_SYSTEM_CA" in *-ca* | *' 1') authorities= ;; esac
here=$(dirname "$(readlink -f "$0")")
case $(uname -m) in aarch64) arch=arm64 ;; *) arch=x64 ;; esac
for root in "$here/../.." "$here/.."; do
  node=$root/node_modules/node-linux-$arch/bin/node
  if [ -x "$node" ]; then
    export UV_THREADPOOL_SIZE=8 MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=131072 MALLOC_MMAP_THRESHOLD_=524288
    export NODE_COMPILE_CACHE=$here/../.cache/daemon
    exec "$node" --max-semi-space-size=1 $authorities --no-warnings --disable-sigusr1 \
      -- "$here/../daemon/main.js" "$@"
  fi
done
echo "gantryd: the bundled Node is missing; run make build" >&2
exit 125
