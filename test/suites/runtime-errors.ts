// The runtime's contract: the words in which create fails.

import { join } from 'node:path';
import { placeLink } from './runtime-bundle';
import type { Change, Tools } from './runtime-case';

export function errorCases({ run, sh }: Tools): void {
  const failing = async (args: readonly string[], change?: Change) => (await run(args, change)).error ?? 'no error';
  const START = 'unable to start container process: ';
  const INIT = `${START}error during container init: `;

  test.each([
    ['/x', 'exec: "/x": stat /x: no such file or directory'],
    ['x', 'exec: "x": executable file not found in $PATH'],
    ['./x', 'exec: "./x": stat ./x: no such file or directory'],
    ['/etc', 'exec: "/etc": permission denied'],
    ['/not-executable', 'exec: "/not-executable": permission denied'],
    ['', 'exec: "": executable file not found in $PATH'],
  ])('program %j', async (program, words) => {
    expect(await failing([program])).toContain(START + words);
  });

  test('a name without PATH is not found', async () => {
    expect(
      await failing(['sh'], (spec) => {
        spec.process.env = [];
      }),
    ).toContain('exec: "sh": executable file not found in $PATH');
  });

  test('no program at all', async () => {
    expect(await failing([])).toContain('args must not be empty');
  });

  test('a working directory that is a file', async () => {
    expect(
      await failing(['true'], (spec) => {
        spec.process.cwd = '/not-executable';
      }),
    ).toContain(`${INIT}mkdir /not-executable: not a directory`);
  });

  test('a relative working directory', async () => {
    expect(
      await failing(['true'], (spec) => {
        spec.process.cwd = 'relative';
      }),
    ).toContain('Cwd must be an absolute path');
  });

  test('a bind source that is missing', async () => {
    expect(
      await failing(['true'], (spec) => {
        spec.mounts.push({ destination: '/m', type: 'bind', source: '/no/such', options: ['rbind'] } as never);
      }),
    ).toMatch(/error mounting "\/no\/such" to rootfs.*: stat \/no\/such: no such file or directory/);
  });

  test('a filesystem that the kernel does not have', async () => {
    expect(
      await failing(['true'], (spec) => {
        spec.mounts.push({ destination: '/m', type: 'nosuchfs', source: 'x', options: [] } as never);
      }),
    ).toMatch(/error mounting "x" to rootfs at "\/m": .*no such device/);
  });

  test('an option that the filesystem does not have', async () => {
    expect(
      await failing(['true'], (spec) => {
        spec.mounts.push({ destination: '/m', type: 'tmpfs', source: 'x', options: ['bogus=1'] } as never);
      }),
    ).toMatch(/error mounting "x" to rootfs at "\/m": .*invalid argument/);
  });

  test('a limit above what the caller has', async () => {
    const result = await failing(['true'], (spec) => {
      spec.process.rlimits = [{ type: 'RLIMIT_NOFILE', soft: 2 ** 31, hard: 2 ** 31 }];
    });

    // A caller with CAP_SYS_RESOURCE fails as well: the number is above the kernel's own limit.
    expect(result).toContain(
      `${INIT}error setting rlimits for ready process: error setting rlimit type 7: operation not permitted`,
    );
  });

  test.each<[string, Change, RegExp]>([
    ['namespace', (spec) => spec.linux.namespaces.push({ type: 'foo' } as never), /namespace \{"?\\?"foo/],
    [
      'rlimit',
      (spec) => (spec.process.rlimits = [{ type: 'RLIMIT_FOO', soft: 1, hard: 1 }]),
      /wrong rlimit value: RLIMIT_FOO/,
    ],
    [
      'device type',
      (spec) => (spec.linux.devices = [{ path: '/dev/x', type: 'z' } as never]),
      /invalid device type \\?"z\\?"/,
    ],
    [
      'sysctl of the host',
      (spec) => (spec.linux.sysctl = { 'kernel.panic': '1' }),
      /is not in a separate kernel namespace/,
    ],
    [
      'seccomp action',
      (spec) => (spec.linux.seccomp = { defaultAction: 'SCMP_ACT_NOPE' } as never),
      /string SCMP_ACT_NOPE is not a valid action for seccomp/,
    ],
  ])('unknown %s', async (_what, change, words) => {
    expect(await failing(['true'], change)).toMatch(words);
  });

  test('a user id above 2^31', async () => {
    expect(
      await failing(['true'], (spec) => {
        spec.process.user.uid = 2 ** 31;
      }),
    ).toContain('unable to setup user: uids and gids must be in range 0-2147483647');
  });

  test('proc is not mounted through a link of the image', async () => {
    const result = await sh('true', (spec, bundle) => {
      placeLink('/tmp', join(bundle.rootfs, 'linked'));
      spec.mounts.push({ destination: '/linked', type: 'proc', source: 'proc', options: [] } as never);
    });

    expect(result.error).toContain('must be mounted on ordinary directory');
  });

  test('nothing is mounted over parts of proc', async () => {
    expect(
      await failing(['true'], (spec) => {
        spec.mounts.push({ destination: '/proc/sys', type: 'bind', source: '/tmp', options: ['bind'] } as never);
      }),
    ).toContain('cannot be mounted because it is inside /proc');
  });
}
