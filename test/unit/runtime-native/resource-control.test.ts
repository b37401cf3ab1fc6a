import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ResourceControl } from '../../../runtime-native/launcher/resource-control';

describe('ResourceControl', () => {
  let root = '';
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'gantry-resctrl-'));
    writeFileSync(join(root, 'schemata'), '');
  });
  afterEach(() => rmSync(root, { recursive: true }));

  test('a container without a class of its own gets one by its id, and gives it back', () => {
    const rdt = { l3CacheSchema: 'L3:0=f', memBwSchema: 'MB:0=20', schemata: ['L2:0=1'] };
    const control = new ResourceControl(rdt, 'c1', root);
    control.create();

    expect(readFileSync(join(root, 'c1/schemata'), 'utf8')).toBe('L3:0=f\nMB:0=20\nL2:0=1\n');
    expect(control.joinFiles).toEqual([join(root, 'c1/tasks')]);
    rmSync(join(root, 'c1/schemata'));
    control.remove();
    expect(existsSync(join(root, 'c1'))).toBe(false);
  });

  test('a class with a name is shared and stays', () => {
    mkdirSync(join(root, 'gold/mon_groups'), { recursive: true });
    const control = new ResourceControl({ closID: 'gold', enableMonitoring: true }, 'c1', root);
    control.create();

    expect(control.joinFiles).toEqual([join(root, 'gold/tasks'), join(root, 'gold/mon_groups/c1/tasks')]);
    ResourceControl.removeFor({ closID: 'gold' }, 'c1', root);
    expect(readdirSync(join(root, 'gold/mon_groups'))).toEqual([]);
  });

  test('is refused where the kernel has no resctrl', () => {
    expect(() => new ResourceControl({ closID: 'gold' }, 'c1', '/no/such')).toThrow(
      /^linux\.intelRdt: needs the kernel's resctrl filesystem/,
    );
  });
});
