// The runtime's contract: what a process is given, and how its end shows.

import type { Change, Tools } from './runtime-case';

/** 32 and 33: the C library's own, which a program that is started by another may find ignored and cannot set. */
const LIBC_SIGNALS = 0x1_8000_0000n;

export function processCases({ run, sh, out }: Tools): void {
  test('output and exit status reach the caller', async () => {
    const result = await sh('echo out; echo err >&2; exit 7');

    expect(result).toMatchObject({ error: undefined, code: 7, stdout: 'out\n', stderr: 'err\n' });
  });

  test('a signal shows as 128 and its number', async () => {
    const result = await sh('sh -c "kill -9 \\$\\$"; echo $?');

    expect(result.stdout).toBe('137\n');
  });

  test('user, groups, umask and home are those of the configuration and the image', async () => {
    const text = await out('id -u; id -g; id -G; umask; echo $HOME', (spec) => {
      spec.process.user = { uid: 1000, gid: 1000, umask: 0o027, additionalGids: [5, 44] };
    });

    expect(text.split('\n')).toEqual(['1000', '1000', '1000 5 44', '0027', '/home/user']);
  });

  test('HOME is / for a user that the image does not know, and a given one stays', async () => {
    const setUser: Change = (spec) => {
      spec.process.user = { uid: 4242, gid: 1, umask: 0o022, additionalGids: [] };
    };
    const unknown = await out('echo $HOME', setUser);
    const given = await out('echo $HOME', (spec) => spec.process.env.push('HOME=/given'));

    expect([unknown, given]).toEqual(['/', '/given']);
  });

  test('of an environment variable given twice the last value counts', async () => {
    expect(await out('echo $A', (spec) => spec.process.env.push('A=1', 'A=2'))).toBe('2');
  });

  test('the working directory is made when it is missing', async () => {
    expect(
      await out('pwd; stat -c %a .', (spec) => {
        spec.process.cwd = '/made/for/me';
      }),
    ).toBe('/made/for/me\n755');
  });

  test('capabilities are exactly the given ones, and none is inheritable', async () => {
    const text = await out('grep Cap /proc/self/status', (spec) => {
      const set = ['CAP_CHOWN', 'CAP_KILL'];
      spec.process.capabilities = { ...spec.process.capabilities, bounding: set, effective: set, permitted: set };
    });

    expect(text).toMatch(/CapInh:\s0{16}\nCapPrm:\s0{14}21\nCapEff:\s0{14}21\nCapBnd:\s0{14}21\nCapAmb:\s0{16}/);
  });

  test('no_new_privs is set when asked for', async () => {
    const script = 'grep NoNewPrivs /proc/self/status';

    expect(await out(script)).toMatch(/0$/);
    expect(
      await out(script, (spec) => {
        spec.process.noNewPrivileges = true;
      }),
    ).toMatch(/1$/);
  });

  test('limits are set', async () => {
    expect(
      await out('ulimit -n; ulimit -Hn', (spec) => {
        spec.process.rlimits = [{ type: 'RLIMIT_NOFILE', soft: 100, hard: 200 }];
      }),
    ).toBe('100\n200');
  });

  test('oom_score_adj is set', async () => {
    expect(
      await out('cat /proc/self/oom_score_adj', (spec) => {
        spec.process.oomScoreAdj = 500;
      }),
    ).toBe('500');
  });

  test('no descriptor but 0, 1 and 2 reaches the program, and no signal is blocked or ignored', async () => {
    const files = await run(['ls', '/proc/self/fd']);
    const signals = await run(['grep', '-E', 'SigBlk|SigIgn', '/proc/self/status']);

    // The last one is the directory that ls reads.
    expect(files.stdout).toBe('0\n1\n2\n3\n');
    const masks = [...signals.stdout.matchAll(/^Sig(?:Blk|Ign):\s(\w{16})$/gm)].map(([, mask]) => BigInt(`0x${mask}`));
    expect(masks.map((mask) => mask & ~LIBC_SIGNALS)).toEqual([0n, 0n]);
  });

  test('a program that cannot be executed ends with status 1 and tells stderr', async () => {
    const result = await run(['/bad-format']);

    expect(result).toMatchObject({ error: undefined, code: 1, stderr: 'exec /bad-format: exec format error\n' });
  });

  test('a seccomp filter refuses with its errno, and what it does not know with ENOSYS', async () => {
    const result = await sh('mkdir /tmp/refused; echo $?; grep Seccomp: /proc/self/status', (spec) => {
      spec.linux.seccomp = {
        defaultAction: 'SCMP_ACT_ALLOW',
        architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
        syscalls: [{ names: ['mkdir', 'mkdirat', 'no_such_call'], action: 'SCMP_ACT_ERRNO', errnoRet: 28 }],
      } as unknown as typeof spec.linux.seccomp;
    });

    expect(result.stdout).toMatch(/^1\nSeccomp:\s2\n$/);
    expect(result.stderr).toMatch(/No space left/);
  });
}
