import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DEFAULT_CAPABILITIES } from '../../../../cli/spec/capabilities';
import { defaultSeccomp, readSeccomp } from '../../../../cli/spec/seccomp';

function unconditional(capabilities: readonly string[]): string[] {
  const [first] = defaultSeccomp(capabilities, 'x64').syscalls;
  return first?.names ?? [];
}

test('defaultSeccomp() allows what programs need and nothing that escapes', () => {
  const names = unconditional(DEFAULT_CAPABILITIES);

  expect(names).toEqual(expect.arrayContaining(['execve', 'openat', 'futex', 'arch_prctl', 'chroot', 'statx']));
  for (const name of [
    'mount',
    'bpf',
    'reboot',
    'kexec_load',
    'add_key',
    'keyctl',
    'io_uring_setup',
    'clone',
    'setns',
  ]) {
    expect(names).not.toContain(name);
  }
  expect(new Set(names).size).toBe(names.length);
});

test('defaultSeccomp() follows the capabilities', () => {
  expect(unconditional(['CAP_SYS_ADMIN'])).toEqual(expect.arrayContaining(['mount', 'clone', 'clone3', 'unshare']));
  expect(unconditional([])).not.toContain('chroot');
});

test('defaultSeccomp() keeps new namespaces and vsock out by arguments', () => {
  const { syscalls } = defaultSeccomp(DEFAULT_CAPABILITIES, 'x64');

  expect(syscalls).toContainEqual({
    names: ['clone'],
    action: 'SCMP_ACT_ALLOW',
    args: [{ index: 0, value: 0x7e020000, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }],
  });
  expect(syscalls).toContainEqual({ names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 });
  expect(syscalls).toContainEqual({
    names: ['socket'],
    action: 'SCMP_ACT_ALLOW',
    args: [{ index: 0, value: 40, op: 'SCMP_CMP_NE' }],
  });
});

test('defaultSeccomp() names the architectures of the machine', () => {
  expect(defaultSeccomp([], 'x64').architectures[0]).toBe('SCMP_ARCH_X86_64');
  expect(defaultSeccomp([], 'arm64').architectures).toEqual(['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM']);
});

test('readSeccomp() wants a profile', () => {
  const directory = mkdtempSync(join(tmpdir(), 'gantry-seccomp-'));
  const path = join(directory, 'profile.json');

  writeFileSync(path, '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[]}');
  expect(readSeccomp(path).defaultAction).toBe('SCMP_ACT_ALLOW');
  writeFileSync(path, '{}');
  expect(() => readSeccomp(path)).toThrow('no "defaultAction"');
  writeFileSync(path, 'nope');
  expect(() => readSeccomp(path)).toThrow('cannot use seccomp profile');
  rmSync(directory, { recursive: true });
});
