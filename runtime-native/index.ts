// What the shim, the daemon and the snapshotters use of the runtime. Everything else in this folder is internal.

export type { Cgroup } from './cgroup/cgroup';
export { cgroupOfProcess, joinCgroup } from './cgroup/cgroup';
export { ConsoleSocket } from './console-socket';
export type { CreateOptions } from './container';
export { Container } from './container';
export { mkfifo, openPipe, peerCredentials, setBlocking, setWindowSize, unreadBytes } from './descriptors';
export { explain } from './explain';
export { features } from './features';
export { nativeFile } from './library';
export type { Mount } from './mount';
export { mountAll, unmountRecursive } from './mount';
export type { ExitStatus } from './reaper';
export { Reaper, reapChild } from './reaper';
export type { Spec } from './spec';
export { parseSpec } from './spec';
export { becomeForked, forkOnce, serveForks } from './zygote';
