// The zygote: a shim that never serves a container but has rehearsed it, and is forked by gantryd for every new one. A
// forked shim starts in a few milliseconds instead of the start of a Node process, and shares the zygote's memory.
//
// Forking a Node process relies on behaviour that nobody promises. So it is tried before anybody depends on it, on known
// versions only, and gantryd starts shims as programs when there is no zygote.

import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { failedPrecondition, unknown } from '../proto/errors';
import { becomeForked, forkOnce, Reaper, reapChild, serveForks } from '../runtime-native/index';
import type { ShimArgs } from './args';
import { collectGarbage } from './idle';
import { NativeRuntime } from './native-runtime';
import { runtimeRoot } from './options';
import { type RehearsalOptions, rehearse, removeSockets } from './rehearsal';
import { serveShim } from './serve';

/** The end of a socket pair whose other end gantryd has. */
const CONTROL_FD = 3;
const REQUEST_BYTES_MAX = 16_384;
/** Major versions of Node whose forks have been tried. */
const NODE_VERSIONS = [24];
/** The first loads code, the second runs it from V8's caches; more make no measurable difference. */
const REHEARSALS = 2;
const SELF_TEST_TIMEOUT_MS = 15_000;
const POLL_MS = 2;

/** What gantryd says about a shim, in the request to fork it. */
interface Birth {
  readonly namespace: string;
  readonly id: string;
  readonly socket: string;
  readonly address: string;
  readonly debug: boolean;
}

/**
 * Rehearses, tests itself, tells gantryd that it is ready (eight bytes: its pid, zero), and forks until gantryd is gone.
 * In a forked shim it resolves when that shim may end.
 * @throws FAILED_PRECONDITION for an untried version of Node, UNKNOWN when the test fails
 */
export async function zygote(args: ShimArgs): Promise<void> {
  const major = Number(process.versions.node.split('.')[0]);
  if (!NODE_VERSIONS.includes(major))
    throw failedPrecondition(`Node ${process.version} has not been tried as a zygote`);
  // Node makes it a stream at the first look, and looks at it whenever a socket is closed.
  Object.defineProperty(process, 'stderr', { value: undefined });
  const runtime = new NativeRuntime();
  await removeLeftovers(runtime, args);
  for (let i = 0; i < REHEARSALS; i++) await rehearse(runtime, rehearsalOf(args));
  await comeToRest();
  const isChild = await testFork(runtime, args);
  if (isChild) return;
  announceReady();
  const buffer = Buffer.alloc(REQUEST_BYTES_MAX);
  const length = serveForks(CONTROL_FD, buffer);
  if (length === undefined) return;
  becomeForked();
  await beShim(JSON.parse(buffer.toString('utf8', 0, length)) as Birth);
}

/** Everything of a rehearsal is named by the process that does it. */
function rehearsalOf({ bundle, socket }: ShimArgs): RehearsalOptions {
  const { pid } = process;
  return { directory: join(bundle, String(pid)), socket: `${socket}${pid}`, id: `gantry-rehearsal-${pid}` };
}

/** What a zygote that was killed in a rehearsal has left. */
async function removeLeftovers(runtime: NativeRuntime, { bundle, socket }: ShimArgs): Promise<void> {
  mkdirSync(bundle, { recursive: true, mode: 0o700 });
  for (const pid of readdirSync(bundle).filter((name) => !existsSync(`/proc/${name}`))) {
    const directory = join(bundle, pid);
    const options = { binaryName: '', systemdCgroup: false };
    const root = runtimeRoot({ root: '' }, '', directory);
    await runtime.destroy({ id: `gantry-rehearsal-${pid}`, bundle: directory, root, options });
    runtime.unmount(join(directory, 'rootfs'));
    removeSockets(`${socket}${pid}`);
    rmSync(directory, { recursive: true, force: true });
  }
}

async function beShim(birth: Birth): Promise<void> {
  const { namespace, id, address } = birth;
  process.title = `gantry-shim -namespace ${namespace} -id ${id} -address ${address}`;
  writeFileSync('/proc/self/comm', 'gantry-shim');
  process.env['NAMESPACE'] = namespace;
  const args = { ...birth, action: 'serve', publishBinary: '', bundle: '' } as const;
  await serveShim(args, new NativeRuntime(), true);
}

/** Nothing of the event loop may be at work in the moment of a fork. @throws UNKNOWN naming what is */
async function comeToRest(): Promise<void> {
  Reaper.close();
  for (let turn = 0; turn < 10; turn++) await sleep(1);
  const resources = process.getActiveResourcesInfo();
  if (resources.length > 0) throw unknown(`zygote: not at rest: ${resources.join(', ')}`);
  collectGarbage();
}

/** Forks one child, which must live through a test. True in the child. @throws UNKNOWN when it does not */
async function testFork(runtime: NativeRuntime, args: ShimArgs): Promise<boolean> {
  const pid = forkOnce();
  if (pid === 0) {
    becomeForked();
    await testChild(runtime, args);
    return true;
  }
  const deadline = performance.now() + SELF_TEST_TIMEOUT_MS;
  for (let exit = reapChild(pid); ; exit = reapChild(pid)) {
    if (exit === 0) return false;
    if (exit !== undefined) throw unknown(`zygote: the test of a fork ended with status ${exit}`);
    if (performance.now() > deadline) {
      process.kill(pid, 'SIGKILL');
      throw unknown(`zygote: the test of a fork took longer than ${SELF_TEST_TIMEOUT_MS} ms`);
    }
    await sleep(POLL_MS);
  }
}

/** Everything that a shim relies on: the loop, timers, the thread pool, garbage collection, and a container's life. */
async function testChild(runtime: NativeRuntime, args: ShimArgs): Promise<void> {
  const [own = ''] = (await readFile('/proc/self/stat', 'utf8')).split(' ');
  if (Number(own) !== process.pid) throw unknown(`pid ${process.pid} instead of ${own}`);
  await sleep(1);
  collectGarbage();
  await rehearse(runtime, rehearsalOf(args));
  collectGarbage();
}

function announceReady(): void {
  const ready = Buffer.alloc(8);
  ready.writeInt32LE(process.pid, 0);
  writeSync(CONTROL_FD, ready);
}
