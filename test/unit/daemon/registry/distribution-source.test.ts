import { mountCandidates, sourceLabel } from '../../../../daemon/registry/distribution-source';
import { parseReference } from '../../../../daemon/registry/reference';

const KEY = 'containerd.io/distribution.source.registry.test';

test('sourceLabel() adds the repository once, last', () => {
  const reference = parseReference('registry.test:5000/team/app:1');

  expect(sourceLabel(reference, {})).toEqual({ key: KEY, value: 'team/app' });
  expect(sourceLabel(reference, { [KEY]: 'team/app,base' })).toEqual({ key: KEY, value: 'base,team/app' });
});

test('sourceLabel() forgets the oldest repositories when the label grows too long', () => {
  const names = Array.from({ length: 400 }, (_, index) => `repository-${index}`);

  const { key, value } = sourceLabel(parseReference('registry.test:5000/app:1'), { [KEY]: names.join(',') });

  expect(key.length + value.length).toBeLessThanOrEqual(4096);
  expect(value).toMatch(/repository-399,app$/);
});

test('mountCandidates() gives other repositories of the host, nearest first', () => {
  const labels = { [KEY]: 'base,team/app,team/other', 'containerd.io/distribution.source.else': 'far' };

  expect(mountCandidates(parseReference('registry.test:5000/team/app:1'), labels)).toEqual(['team/other', 'base']);
  expect(mountCandidates(parseReference('nowhere.test/app:1'), labels)).toEqual([]);
});
