import { systemdPath } from '../../../../runtime-native/cgroup/cgroup';
import { compileDeviceFilter } from '../../../../runtime-native/cgroup/device-filter';
import { deviceList, effectiveRules, ruleText } from '../../../../runtime-native/cgroup/devices';
import { parseLayout } from '../../../../runtime-native/cgroup/layout';
import type { DeviceRule } from '../../../../runtime-native/spec';

describe('parseLayout()', () => {
  const line = (point: string, type: string, options: string, root = '/') =>
    `1 2 0:1 ${root} ${point} rw - ${type} ${type} ${options}`;

  test('takes v1 hierarchies, and v2 only when it is /sys/fs/cgroup itself', () => {
    const mounts = [
      line('/sys/fs/cgroup/cpu,cpuacct', 'cgroup', 'rw,cpu,cpuacct'),
      line('/sys/fs/cgroup/systemd', 'cgroup', 'rw,xattr,name=systemd'),
      line('/sys/fs/cgroup/unified', 'cgroup2', 'rw'),
      line('/elsewhere/cgroup/cpu', 'cgroup', 'rw,cpu'),
    ].join('\n');

    expect(parseLayout(mounts, '4:cpu,cpuacct:/a/b\n1:name=systemd:/s\n0::/u')).toEqual({
      version: 1,
      hierarchies: [
        { name: 'cpu,cpuacct', mountpoint: '/sys/fs/cgroup/cpu,cpuacct', options: ['cpu', 'cpuacct'], own: '/a/b' },
        { name: 'systemd', mountpoint: '/sys/fs/cgroup/systemd', options: ['name=systemd'], own: '/s' },
      ],
    });
    expect(parseLayout(line('/sys/fs/cgroup', 'cgroup2', 'rw,nsdelegate'), '0::/own')).toEqual({
      version: 2,
      mountpoint: '/sys/fs/cgroup',
      own: '/own',
    });
  });

  test('takes the root of a bind mount off the own path', () => {
    const mounts = line('/sys/fs/cgroup/memory', 'cgroup', 'rw,memory', '/docker/x');

    expect(parseLayout(mounts, '3:memory:/docker/x/y')).toMatchObject({ hierarchies: [{ own: '/y' }] });
  });
});

test.each([
  ['system.slice:docker:abc', '/system.slice/docker-abc.scope'],
  ['a-b.slice:cri:x', '/a.slice/a-b.slice/cri-x.scope'],
  [':runc:x', '/system.slice/runc-x.scope'],
  ['-.slice::x.slice', '/x.slice'],
  ['', '/system.slice/runc-id.scope'],
])('systemdPath() of %j', (given, path) => {
  expect(systemdPath(given, 'id')).toBe(path);
});

test('systemdPath() refuses a plain path', () => {
  expect(() => systemdPath('/a/b', 'id')).toThrow('expected cgroupsPath to be of format "slice:prefix:name"');
});

describe('device rules', () => {
  const denyAll: DeviceRule = { allow: false, access: 'rwm' };

  const exceptionsOf = (...rules: DeviceRule[]) => deviceList(rules).exceptions.map(ruleText);
  const allowAll: DeviceRule = { allow: true, access: 'rwm' };
  const fuse: DeviceRule = { allow: true, type: 'c', major: 10, minor: 229, access: 'rw' };

  test('start with the last one for all devices and end with what every container may do', () => {
    const rules: DeviceRule[] = [{ allow: true, type: 'c', major: 9, minor: 9 }, denyAll, fuse];

    expect(deviceList(rules).allow).toBe(false);
    expect(exceptionsOf(...rules).slice(0, 3)).toEqual(['c 10:229 rw', 'c *:* m', 'b *:* m']);
    expect(exceptionsOf(...rules)).toContain('c 136:* rwm');
    expect(effectiveRules(rules).slice(0, 2)).toEqual([denyAll, fuse]);
  });

  test('deny all when there are none', () => {
    expect(deviceList([])).toEqual(deviceList([denyAll]));
    expect(effectiveRules([])[0]).toEqual({ allow: false });
  });

  test('need nothing more when all is allowed', () => {
    expect(effectiveRules([denyAll, allowAll])).toEqual([allowAll]);
    expect(deviceList([denyAll, allowAll])).toEqual({ allow: true, exceptions: [] });
  });

  test('of v1 say what later rules leave', () => {
    expect(exceptionsOf(allowAll, { ...fuse, allow: false })).toEqual(['c 10:229 rw']);
    expect(exceptionsOf(fuse, { allow: false, type: 'c', access: 'w' })[0]).toBe('c 10:229 r');
    expect(exceptionsOf(fuse, { allow: false, type: 'c', major: 10 })[0]).toBe('c *:* m');
    expect(exceptionsOf(fuse, { ...fuse, access: 'm' })[0]).toBe('c 10:229 rwm');
    expect(exceptionsOf({ ...fuse, type: 'u' })[0]).toBe('c 10:229 rw');
  });

  test('of v1 never become rules for all devices', () => {
    expect(exceptionsOf({ ...fuse, type: 'a' }).slice(0, 2)).toEqual(['b 10:229 rw', 'c 10:229 rw']);
  });

  test('of v1 are refused when they take from the middle of another', () => {
    const wide: DeviceRule = { allow: true, type: 'c', major: 10, access: 'rw' };
    const crossing: DeviceRule = { allow: false, type: 'c', minor: 229, access: 'w' };

    for (const narrow of [{ ...fuse, allow: false }, crossing]) {
      expect(() => deviceList([wide, narrow])).toThrow('cannot punch hole in existing wildcard rule [c 10:* rw]');
    }
  });

  test('mean the same as an eBPF program', () => {
    const random = generator(20260807);
    for (let round = 0; round < 300; round++) {
      const rules = Array.from({ length: 1 + random(5) }, () => randomRule(random));
      const program = compileDeviceFilter(rules);
      for (let call = 0; call < 20; call++) {
        const request = { type: 1 + random(2), access: 1 + random(7), major: random(3), minor: random(3) };
        expect([runFilter(program, request), rules, request]).toEqual([decide(rules, request), rules, request]);
      }
    }
  });
});

interface Request {
  readonly type: number;
  readonly access: number;
  readonly major: number;
  readonly minor: number;
}

const ACCESS: Readonly<Record<string, number>> = { m: 1, r: 2, w: 4 };

function decide(rules: readonly DeviceRule[], { type, access, major, minor }: Request): number {
  for (const rule of [...rules].reverse()) {
    const bits = [...(rule.access || 'rwm')].reduce((all, letter) => all | (ACCESS[letter] ?? 0), 0);
    const typeFits = !rule.type || rule.type === 'a' || rule.type === (type === 1 ? 'b' : 'c');
    const numberFits = (rule.major ?? major) === major && (rule.minor ?? minor) === minor;
    const accessFits = rule.allow ? (access & bits) === access : (access & bits) !== 0;
    if (typeFits && numberFits && accessFits) return rule.allow ? 1 : 0;
  }
  return 0;
}

function randomRule(random: (limit: number) => number): DeviceRule {
  const access = ['rwm', 'r', 'rw', 'm', 'w'][random(5)] ?? '';
  const rule = { allow: random(2) === 1, type: ['a', 'b', 'c'][random(3)] ?? 'a', access };
  return { ...rule, ...(random(2) ? { major: random(3) } : {}), ...(random(2) ? { minor: random(3) } : {}) };
}

/** Linear congruential: the same rules each time. */
function generator(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >>> 16) % limit;
  };
}

/** The instructions that device filters use, as the kernel runs them. */
function runFilter(program: Buffer, { type, access, major, minor }: Request): number {
  const context = [(access << 16) | type, major, minor];
  const registers = new Array<number>(11).fill(0);
  for (let at = 0; at < program.length / 8; at++) {
    const [code = 0, names = 0] = program.subarray(at * 8);
    const [to, from] = [names & 15, names >> 4];
    const offset = program.readInt16LE(at * 8 + 2);
    const value = program.readInt32LE(at * 8 + 4);
    const [own, other] = [registers[to] ?? 0, registers[from] ?? 0];
    if (code === 0x61) registers[to] = context[offset / 4] ?? 0;
    else if (code === 0x54) registers[to] = own & value;
    else if (code === 0x74) registers[to] = own >>> value;
    else if (code === 0xbc) registers[to] = other;
    else if (code === 0xb7) registers[to] = value;
    else if (code === 0x55) at += own !== value ? offset : 0;
    else if (code === 0x15) at += own === value ? offset : 0;
    else if (code === 0x5e) at += own !== other ? offset : 0;
    else if (code === 0x95) return registers[0] ?? 0;
    else throw new Error(`instruction ${code}`);
  }
  throw new Error('no answer');
}
