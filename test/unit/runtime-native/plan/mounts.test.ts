import { mountCall, mountPointsBelow } from '../../../../runtime-native/mount';
import { bindAttributeChange, parseMountOptions } from '../../../../runtime-native/plan/mount-options';
import { bindsDev, compileMounts, type MountContext, normalTarget } from '../../../../runtime-native/plan/mounts';

const CONTEXT: MountContext = {
  bundle: '/b',
  privateCgroupNamespace: false,
  cgroup: {
    version: 1,
    hierarchies: [
      { name: 'cpu,cpuacct', options: ['cpu', 'cpuacct'], path: '/sys/fs/cgroup/cpu,cpuacct/c1' },
      { name: 'systemd', options: ['name=systemd'], path: '/sys/fs/cgroup/systemd/c1' },
    ],
  },
};
const CGROUP = { destination: '/sys/fs/cgroup', type: 'cgroup', options: ['ro', 'nosuid'] };

describe('parseMountOptions()', () => {
  test('sorts options by what they act on', () => {
    const options = parseMountOptions([
      'rbind',
      'ro',
      'nosuid',
      'suid',
      'rslave',
      'rnoexec',
      'rrw',
      'mode=755,size=1',
      'tmpcopyup',
      'sync',
    ]);

    expect(options).toMatchObject({
      bind: true,
      recursive: true,
      attributes: ['ro'],
      propagation: 'rslave',
      recursiveSet: ['noexec'],
      recursiveClear: ['ro'],
      copyUp: true,
      data: ['mode=755', 'size=1', 'sync'],
    });
  });
});

describe('bindAttributeChange()', () => {
  test('leaves all attributes when options name none', () => {
    expect(bindAttributeChange(parseMountOptions(['rbind', 'rprivate', 'rw']))).toEqual({ set: [], clear: [] });
  });

  test('sets exactly what options name, but not access times', () => {
    expect(bindAttributeChange(parseMountOptions(['bind', 'ro', 'nosuid']))).toEqual({
      set: ['ro', 'nosuid'],
      clear: ['nodev', 'noexec', 'nosymfollow'],
    });
  });
});

describe('compileMounts()', () => {
  test('gives the mount label to filesystems that SELinux does not label itself', () => {
    const label = 'u:object_r:t:s0:c1,c2';
    const types = ['proc', 'sysfs', 'tmpfs', 'devpts', 'mqueue'];
    const mounts = [
      ...types.map((type) => ({ destination: `/${type}`, type })),
      { destination: '/bind', type: 'bind', source: '/s' },
      CGROUP,
    ];
    const { mount } = compileMounts(mounts, { ...CONTEXT, label }, 0);

    const labelled = mount.filter((operation) => JSON.stringify(operation).includes(label));
    expect(labelled).toMatchObject([
      { op: 'mount', target: '/tmpfs', options: [`context=${label}`] },
      { op: 'mount', target: '/devpts', options: [`context=${label}`] },
      { op: 'fileLabel', path: '/mqueue', label },
      { op: 'mount', target: '/sys/fs/cgroup', type: 'tmpfs', options: ['mode=755', `context=${label}`] },
    ]);
  });

  test('mounts a read-only tmpfs writable first', () => {
    const { mount, finish } = compileMounts([{ destination: '/t', type: 'tmpfs', options: ['ro'] }], CONTEXT, 0);

    expect(mount).toMatchObject([{ op: 'mount', target: '/t', attributes: [], options: [] }]);
    expect(finish).toEqual([{ op: 'remount', target: '/t', set: ['ro'], clear: [], recursive: false }]);
  });

  test('binds the cgroups of the container below a tmpfs, with links for single controllers', () => {
    const { open, mount } = compileMounts([CGROUP], CONTEXT, 3);

    expect(open).toMatchObject([
      { slot: 3, path: '/sys/fs/cgroup/cpu,cpuacct/c1' },
      { slot: 4, path: '/sys/fs/cgroup/systemd/c1' },
    ]);
    expect(mount.map(({ op }) => op)).toEqual(['mount', 'attach', 'attach', 'symlink', 'symlink', 'remount']);
    expect(mount[3]).toEqual({ op: 'symlink', target: 'cpu,cpuacct', path: '/sys/fs/cgroup/cpu', replace: false });
  });

  test('mounts hierarchies themselves in a private cgroup namespace', () => {
    const { open, mount } = compileMounts([CGROUP], { ...CONTEXT, privateCgroupNamespace: true }, 0);

    expect(open).toEqual([]);
    expect(mount[2]).toMatchObject({
      op: 'mount',
      type: 'cgroup',
      target: '/sys/fs/cgroup/systemd',
      options: ['ro', 'name=systemd'],
    });
  });

  test('mounts cgroup2 on a host of version 2', () => {
    const host = {
      ...CONTEXT,
      privateCgroupNamespace: true,
      cgroup: { version: 2, path: '/sys/fs/cgroup/c1' },
    } as const;

    expect(compileMounts([CGROUP], host, 0).mount).toMatchObject([{ op: 'mount', type: 'cgroup2' }]);
    expect(compileMounts([CGROUP], { ...host, privateCgroupNamespace: false }, 0).open).toMatchObject([
      { op: 'openTree', path: '/sys/fs/cgroup/c1' },
    ]);
  });

  test('keeps proc and sysfs off links', () => {
    const { mount } = compileMounts([{ destination: '/proc', type: 'proc' }], CONTEXT, 0);

    expect(mount).toMatchObject([{ ordinaryDirectory: true, onProc: true }]);
  });
});

describe('normalTarget()', () => {
  test.each([
    ['/a/../../b/', '/b'],
    ['relative', '/relative'],
    ['/', '/'],
    ['//x//y', '/x/y'],
  ])('of %s', (destination, target) => {
    expect(normalTarget(destination)).toBe(target);
  });
});

test('bindsDev() knows a /dev of the host from a tmpfs', () => {
  expect(bindsDev([{ destination: '/dev/', type: 'bind', source: '/dev', options: ['rbind'] }])).toBe(true);
  expect(bindsDev([{ destination: '/dev', type: 'tmpfs' }])).toBe(false);
});

describe('mountCall()', () => {
  test('makes flags, propagation and data of options', () => {
    expect(mountCall('bind', ['rbind', 'ro', 'rslave'])).toEqual({
      flags: 0x5001,
      propagation: 0x84000,
      data: '',
      directory: '',
    });
    expect(mountCall('overlay', ['index=off', 'rw', 'lowerdir=/a:/b']).data).toBe('index=off,lowerdir=/a:/b');
  });

  test('gives many lower directories relative to the one they share', () => {
    const lower = Array.from({ length: 200 }, (_, index) => `/var/lib/snapshots/${index}/fs`);
    const call = mountCall('overlay', [`lowerdir=${lower.join(':')}`, 'upperdir=/u', 'workdir=/w']);

    expect(call.directory).toBe('/var/lib/snapshots');
    expect(call.data).toMatch(/^lowerdir=0\/fs:1\/fs:.*:199\/fs,upperdir=\/u,workdir=\/w$/);
  });

  test('refuses what is too long even then', () => {
    const lower = Array.from({ length: 2000 }, (_, index) => `/s/${index}/fs`);

    expect(() => mountCall('overlay', [`lowerdir=${lower.join(':')}`])).toThrow('longer than 4095 bytes');
    expect(() => mountCall('tmpfs', ['x'.repeat(5000)])).toThrow('longer than 4095 bytes');
  });
});

test('mountPointsBelow() finds the path and what lies below, with escapes, but not its neighbours', () => {
  const mountinfo = ['/a', '/a/b', '/ab', '/a/c\\040d']
    .map((point, id) => `${id} 1 0:1 / ${point} rw - tmpfs tmpfs rw`)
    .join('\n');

  expect(mountPointsBelow(mountinfo, '/a')).toEqual(['/a', '/a/b', '/a/c d']);
});

describe('the options of the runtime specification', () => {
  // runtime-spec config.md, Linux mount options.
  const attributes =
    'async atime bind defaults dev diratime dirsync exec idmap iversion lazytime loud mand noatime nodev nodiratime ' +
    'noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime ' +
    'relatime remount rexec ridmap rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro ' +
    'rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave ' +
    'strictatime suid symfollow sync tmpcopyup unbindable';

  test.each(attributes.split(' '))(
    '%s is no option of the filesystem, but for those that fsconfig(2) takes',
    (option) => {
      const { data } = parseMountOptions([option]);

      expect(data).toEqual(['sync', 'dirsync', 'mand', 'lazytime'].includes(option) ? [option] : []);
    },
  );

  test('the last of two opposites counts, also in a tree', () => {
    const options = parseMountOptions(['ro', 'rw', 'rro', 'rrw', 'rnodev', 'suid', 'nosuid']);

    expect(options).toMatchObject({ attributes: ['nosuid'], recursiveSet: ['nodev'], recursiveClear: ['ro'] });
  });
});
