import { spawnSync } from 'node:child_process';
import { validateSpec } from '../../../runtime-native/config/validate';
import { features } from '../../../runtime-native/features';
import { parseMountOptions } from '../../../runtime-native/plan/mount-options';
import { compileSeccomp } from '../../../runtime-native/seccomp/seccomp';
import type { Spec } from '../../../runtime-native/spec';
import { needsFile, testUnless } from '../../setup/needs';

const RUNC = '/usr/sbin/runc';
/** Options of some filesystems, which take them from us as such. */
const NOT_OURS = ['acl', 'noacl'];
const SUPERBLOCK = ['sync', 'dirsync', 'mand', 'lazytime'];

describe('features()', () => {
  const document = features();
  const { linux } = document;
  const MAPPINGS = [{ containerID: 0, hostID: 100_000, size: 1 }];
  /** The words of the refusal, empty when it is accepted. */
  const refusal = ({ linux: changes, ...others }: { linux?: object; hooks?: object; ociVersion?: string }) => {
    const process = { args: ['sh'], cwd: '/', user: { uid: 0, gid: 0 } };
    const base = { ociVersion: '1.3.0', process, root: { path: 'rootfs' } };
    const spec = { ...base, ...others, linux: { namespaces: [{ type: 'mount' }], ...changes } };
    try {
      validateSpec(spec as Spec);
      return '';
    } catch (error) {
      return (error as Error).message;
    }
  };
  const namespaces = (type: string) => ({
    namespaces: [...new Set(['mount', type])].map((each) => ({ type: each })),
    ...(type === 'user' ? { uidMappings: MAPPINGS, gidMappings: MAPPINGS } : {}),
  });
  const seccomp = (changes: object) => ({ linux: { seccomp: { defaultAction: 'SCMP_ACT_ALLOW', ...changes } } });
  const rule = (changes: object) => ({ syscalls: [{ names: ['getcwd'], action: 'SCMP_ACT_LOG', ...changes }] });
  const listener = { ...rule({ action: 'SCMP_ACT_NOTIFY' }), listenerPath: '/run/agent.sock' };
  const policy = (mode: string, flags: string[]) => ({
    linux: { memoryPolicy: { mode, flags, ...(/DEFAULT|LOCAL/.test(mode) ? {} : { nodes: '0' }) } },
  });

  test.each<[string, readonly string[], (name: string) => object]>([
    ['namespaces', linux.namespaces, (type) => ({ linux: namespaces(type) })],
    ['actions', linux.seccomp.actions, (action) => seccomp({ ...listener, ...rule({ action }) })],
    ['operators', linux.seccomp.operators, (op) => seccomp(rule({ args: [{ index: 0, value: 1, valueTwo: 1, op }] }))],
    ['architectures', linux.seccomp.archs, (name) => seccomp({ architectures: [name] })],
    ['filter flags', linux.seccomp.knownFlags, (name) => seccomp({ ...listener, flags: [name] })],
    ['memory modes', linux.memoryPolicy.modes, (mode) => policy(mode, [])],
    ['memory flags', linux.memoryPolicy.flags, (name) => policy('MPOL_BIND', [name])],
  ])('%s are what configurations may say', (_what, names, change) => {
    expect(names.length).toBeGreaterThan(2);
    expect(names.map((name) => refusal(change(name))).filter(Boolean)).toEqual([]);
    expect(refusal(change('NOTHING'))).not.toBe('');
  });

  test('hooks are those that are looked at', () => {
    for (const name of document.hooks) {
      expect(refusal({ hooks: { [name]: [{ path: '/bin/true' }] } })).toBe('');
      expect(refusal({ hooks: { [name]: [{ path: 'true' }] } })).toMatch(`hooks.${name}[0].path: `);
    }
  });

  test('versions are those that are accepted', () => {
    for (const ociVersion of [document.ociVersionMin, document.ociVersionMax]) expect(refusal({ ociVersion })).toBe('');
  });

  test('mount options are those that are not left to filesystems', () => {
    const left = document.mountOptions.filter((name) => parseMountOptions([name]).data.length > 0);

    expect(left.sort()).toEqual([...SUPERBLOCK].sort());
    expect(parseMountOptions(['size=1']).data).toEqual(['size=1']);
  });

  test('supported flags of filters are those that this kernel takes', () => {
    expect(linux.seccomp.knownFlags).toEqual(expect.arrayContaining(linux.seccomp.supportedFlags));
    expect(linux.seccomp.supportedFlags).toEqual(expect.arrayContaining(['SECCOMP_FILTER_FLAG_LOG']));
    for (const flag of linux.seccomp.supportedFlags) {
      expect(compileSeccomp({ defaultAction: 'SCMP_ACT_ALLOW', flags: [flag] }, undefined)).toBeDefined();
    }
  });

  testUnless(needsFile(RUNC, 'package runc'))('lists hold all that those of runc do', () => {
    const runc = JSON.parse(spawnSync(RUNC, ['features'], { encoding: 'utf8' }).stdout) as typeof document;
    const lists = ({ hooks, mountOptions, linux: { namespaces, capabilities, seccomp } }: typeof document) => [
      ...[hooks, mountOptions, namespaces, capabilities],
      ...[seccomp.actions, seccomp.operators, seccomp.archs],
    ];
    const ours = lists(document);

    for (const [index, names] of lists(runc).entries()) {
      expect(names.filter((name) => !ours[index]?.includes(name) && !NOT_OURS.includes(name))).toEqual([]);
    }
  });
});
