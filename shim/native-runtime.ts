// The shim's runtime on top of our own runtime library, in this process: no program is executed to create a container.

import { isNotFound } from '../proto/errors';
import type { Mount } from '../proto/generated/containerd.types';
import {
  Container,
  mountAll,
  openPipe,
  peerCredentials,
  Reaper,
  type Spec,
  setBlocking,
  setWindowSize,
  unmountRecursive,
} from '../runtime-native/index';
import { runtimeRoot } from './options';
import type { CreateOptions, ExitListener, Runtime, RuntimeContainer } from './runtime';

/** Compiled seccomp filters, shared by all shims of the host until its next boot. */
const FILTER_CACHE = '/run/gantry/seccomp';

export class NativeRuntime implements Runtime {
  async create({ id, bundle, namespace, rootfs, spec, io, options }: CreateOptions): Promise<RuntimeContainer> {
    const container = await Container.create({
      id,
      bundle,
      rootfs,
      spec: spec as Spec,
      io,
      root: runtimeRoot(options, namespace, bundle),
      systemdCgroup: options.systemdCgroup,
      noPivotRoot: options.noPivotRoot,
      noNewKeyring: options.noNewKeyring,
      cacheDir: FILTER_CACHE,
    });
    return asRuntimeContainer(container);
  }

  async destroy({ id, root }: { id: string; root: string }): Promise<void> {
    try {
      await Container.load(root, id).delete();
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  onExit(pid: number, listener: ExitListener): void {
    Reaper.shared().onExit(pid, ({ code }) => listener(code));
  }

  mount(mounts: readonly Mount[], target: string): void {
    mountAll(mounts, target);
  }

  unmount(target: string): void {
    unmountRecursive(target);
  }

  resizeTerminal(fd: number, rows: number, columns: number): void {
    setWindowSize(fd, rows, columns);
  }

  peer(fd: number): { uid: number; gid: number } {
    return peerCredentials(fd);
  }

  pipe(): { read: number; write: number } {
    const [read, write] = openPipe();
    return { read, write };
  }

  setNonblocking(fd: number): void {
    setBlocking(fd, false);
  }
}

/** The library's class and the shim's interface differ only in how exactly they know OCI documents. */
function asRuntimeContainer(container: Container): RuntimeContainer {
  return container as unknown as RuntimeContainer;
}
