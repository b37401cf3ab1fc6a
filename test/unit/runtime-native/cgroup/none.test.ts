import { reopenCgroup } from '../../../../runtime-native/cgroup/cgroup';
import { NoCgroup } from '../../../../runtime-native/cgroup/none';

describe('NoCgroup', () => {
  test('stands for a container that has no cgroups, also when it is found again', () => {
    const group = reopenCgroup({}, false);

    expect(group).toBeInstanceOf(NoCgroup);
    expect([group.paths, group.joinFiles(), group.pids()]).toEqual([{}, [], []]);
  });

  test('has none below it', () => {
    expect(() => new NoCgroup().below()).toThrow('the container has no cgroups');
  });

  test('refuses limits, and takes what sets none', () => {
    const group = new NoCgroup();

    expect(() => group.apply({ memory: { limit: 5 } })).toThrow(
      'linux.resources.memory: needs cgroups, on which the caller has no rights',
    );
    expect(() => group.apply({ cpu: {}, devices: [{ allow: false }], unified: null })).not.toThrow();
  });
});
