// The shim's runtime on top of our own runtime library, in this process: no program is executed to create a container,
// unless the options name one.

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
import { isProgram, runtimeRoot } from './options';
import type { CreateOptions, DestroyOptions, ExitListener, Runtime, RuntimeContainer } from './runtime';

/** Compiled seccomp filters, shared by all shims of the host until its next boot. */
const FILTER_CACHE = '/run/gantry/seccomp';

export class NativeRuntime implements Runtime {
  async create(request: CreateOptions): Promise<RuntimeContainer> {
    const { id, bundle, namespace, rootfs, spec, io, options } = request;
    const root = runtimeRoot(options, namespace, bundle);
    if (isProgram(options)) {
      const { createByProgram } = await import('./program/runtime.js');
      return await createByProgram({ ...request, root });
    }
    const container = await Container.create({
      id,
      bundle,
      rootfs,
      spec: spec as Spec,
      io,
      root,
      systemdCgroup: options.systemdCgroup,
      noPivotRoot: options.noPivotRoot,
      noNewKeyring: options.noNewKeyring,
      cacheDir: FILTER_CACHE,
    });
    return asRuntimeContainer(container);
  }

  async destroy({ id, bundle, root, options }: DestroyOptions): Promise<void> {
    if (isProgram(options)) {
      const { destroyByProgram } = await import('./program/runtime.js');
      await destroyByProgram({ id, bundle, root, binary: options.binaryName, systemdCgroup: options.systemdCgroup });
      return;
    }
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
