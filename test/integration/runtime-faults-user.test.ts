// A launch into user and time namespaces with id-mapped mounts and a network device: every operation of its plans and
// every call of its own to the kernel fails once. Nothing may be left, and the error must say what it was.

import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { compileLaunch } from '../../runtime-native/create';
import { describeFailure } from '../../runtime-native/failure';
import { Container, type CreateOptions } from '../../runtime-native/index';
import { waitFor } from '../setup/command';
import { describeUnless } from '../setup/needs';
import { childrenOf } from '../setup/processes';
import { FaultyKernel } from '../suites/kernel-faults';
import { CGROUP_VERSION } from '../suites/resource-limits';
import { type SpecChange, useRuntime } from '../suites/runtime-bench';
import { missingForContainers } from '../suites/runtime-bundle';
import { waitForExit } from '../suites/runtime-library';

const ENOSYS = 38;
const FIRST_ID = 400_000;
const MAPPING = [{ containerID: 0, hostID: FIRST_ID, size: 65_536 }];
const TIMEOUT_MS = 300_000;
/** Calls that only these launches make. */
const OWN_CALLS = /gantry_(launch|open_tree|idmap_tree|move_device)|[ug]id_map|oom_score_adj|\/ns\//;

const kernel = new FaultyKernel();

describeUnless(missingForContainers())('a launch into a user namespace that fails', () => {
  const runtime = useRuntime();
  let device = '';
  /** Orphans of other tests. */
  let earlier: ReadonlySet<number>;
  beforeEach(() => {
    earlier = new Set(childrenOf(process.pid));
    device = `g${runtime.bundle.name}`;
    execFileSync('ip', ['link', 'add', device, 'type', 'veth', 'peer', 'name', `${device}p`]);
  });
  afterEach(() => {
    kernel.disarm();
    execFileSync('ip', ['link', 'del', device]);
  });

  const full: SpecChange = (spec) => {
    const source = join(runtime.bundle.path, 'volume');
    mkdirSync(source, { recursive: true });
    spec.linux.namespaces.push({ type: 'user' } as never, { type: 'time' } as never, { type: 'cgroup' } as never);
    Object.assign(spec.linux, { uidMappings: MAPPING, gidMappings: MAPPING });
    spec.linux.timeOffsets = { boottime: { secs: 7 } } as never;
    spec.linux.netDevices = { [device]: { name: 'eth3' } };
    spec.linux.memoryPolicy = { mode: 'MPOL_BIND', nodes: '0', flags: [] };
    spec.process.scheduler = { policy: 'SCHED_BATCH', nice: 3 } as never;
    spec.process.oomScoreAdj = 100;
    spec.mounts.push({ destination: '/mnt/v', type: 'bind', source, options: ['bind', 'idmap'] } as never);
    chmodSync(runtime.bundle.path, 0o711);
    for (const name of ['.', 'tmp', 'mnt', 'dev']) chownSync(join(runtime.bundle.rootfs, name), FIRST_ID, FIRST_ID);
  };
  const optionsFor = (): CreateOptions => runtime.optionsFor(['/no/such'], full);
  const state = () => ({
    processes: childrenOf(process.pid).filter((pid) => !earlier.has(pid)),
    files: openFiles(),
    devices: readdirSync('/sys/class/net').filter((name) => name.startsWith(device)),
  });
  const expectState = async (before: object, of: unknown) => {
    // An orphan may become our child only now; it is reaped within a second, a process left is not.
    let found: object = {};
    const isAsBefore = () => {
      found = state();
      return isDeepStrictEqual(found, before);
    };
    await waitFor('the end of orphans', isAsBefore).catch(() => expect([of, found]).toEqual([of, before]));
  };

  /** Of the program that is not there in the end, if nothing else fails before. */
  async function attempt(options: CreateOptions): Promise<string> {
    try {
      const container = await Container.create(options);
      kernel.disarm();
      const exit = waitForExit(container.pid);
      await container.delete();
      await exit;
      return 'created';
    } catch (error) {
      return (error as Error).message;
    } finally {
      kernel.disarm();
    }
  }

  test(
    'at an operation',
    async () => {
      await attempt(optionsFor());
      const before = state();
      const { operations } = compileLaunch(optionsFor()).plan;
      const last = operations.findIndex(({ op }) => op === 'findExecutable');

      for (let index = 0; index < last; index++) {
        const options = optionsFor();
        const operation = compileLaunch(options).plan.operations[index];
        // The first plan makes the namespace that maps the mount.
        kernel.failOperation(1, index);
        const error = await attempt(options);
        const reason = describeFailure({ operation, error: ENOSYS, stage: 0, text: '' }, true);
        expect([index, error]).toEqual([index, `runc create failed: unable to start container process: ${reason}`]);
        await expectState(before, index);
      }
      expect(last).toBeGreaterThan(CGROUP_VERSION === 1 ? 60 : 50); // v1 has an operation for each hierarchy.
    },
    TIMEOUT_MS,
  );

  test(
    'at a call to the kernel',
    async () => {
      await attempt(optionsFor());
      const before = state();
      kernel.failCall(undefined);
      await attempt(optionsFor());
      // The second move brings the device back.
      const calls = kernel.calls.filter((call) => OWN_CALLS.test(call) && call !== 'gantry_move_device 1');

      for (const call of calls) {
        const options = optionsFor();
        kernel.failCall(call);
        const error = await attempt(options);
        expect([call, error]).toEqual([call, expect.stringMatching(/^runc create failed: .*(EIO|put error)/)]);
        await expectState(before, call);
      }
      expect(calls.map((call) => call.replace(/ \d+$/, ''))).toEqual(
        expect.arrayContaining([
          'gantry_launch',
          'gantry_open_tree',
          'gantry_idmap_tree',
          'gantry_move_device',
          'writeFileSync /proc/N/uid_map',
          'writeFileSync /proc/N/gid_map',
          'openSync /proc/N/ns/user',
          'openSync /proc/N/ns/net',
        ]),
      );
    },
    TIMEOUT_MS,
  );
});

function openFiles(): string[] {
  return readdirSync('/proc/self/fd')
    .map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return '';
      }
    })
    .filter((file) => /^(socket|pipe|anon_inode|\/memfd|\/sys\/fs\/cgroup|\/proc|\w+:\[|\/$)/.test(file))
    .map((file) => file.replace(/\d+/g, 'N'))
    .sort();
}
