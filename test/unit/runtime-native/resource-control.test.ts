import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
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

  test('a class for what runs already takes all threads, and is gone when one cannot be taken', () => {
    const control = new ResourceControl({ memBwSchema: 'MB:0=20' }, 'c1', root);
    mkdirSync(join(root, 'c1'));
    expect(() => control.createFor(() => [process.pid])).toThrow('linux.intelRdt: the group');
    rmdirSync(join(root, 'c1'));
    control.createFor(() => [process.pid]);

    const joined = readFileSync(join(root, 'c1/tasks'), 'utf8');
    expect(readFileSync(join(root, 'c1/schemata'), 'utf8')).toBe('MB:0=20\n');
    expect(joined.startsWith(readdirSync('/proc/self/task').join(''))).toBe(true);
    rmSync(join(root, 'c1/tasks'));
    rmSync(join(root, 'c1/schemata'));
    control.remove();

    mkdirSync(join(root, 'gold/tasks'), { recursive: true });
    const monitored = new ResourceControl({ closID: 'gold' }, 'c1', root);
    expect(() => monitored.createFor(() => [process.pid])).toThrow(
      /^linux\.intelRdt: write .*\/gold\/tasks: is a directory/,
    );
    expect(existsSync(join(root, 'gold'))).toBe(true);
  });

  test.each([
    [{ l3CacheSchema: 'L3:0=f' }, 'Intel RDT/CAT: l3 cache schema is not enabled: '],
    [{ memBwSchema: 'MB:0=20' }, 'Intel RDT/MBA: memory bandwidth schema is not enabled: '],
  ])('check(%j) wants the processor to have it', (schemata, words) => {
    expect(() => ResourceControl.check(schemata, root)).toThrow(words);
    mkdirSync(join(root, 'info/L3'), { recursive: true });
    mkdirSync(join(root, 'info/MB'));

    expect(() => ResourceControl.check(schemata, root)).not.toThrow();
    expect(() => ResourceControl.check({}, '/no/such')).not.toThrow();
  });

  test('is refused where the kernel has no resctrl', () => {
    expect(() => new ResourceControl({ closID: 'gold' }, 'c1', '/no/such')).toThrow(
      /^linux\.intelRdt: needs the kernel's resctrl filesystem/,
    );
  });
});
