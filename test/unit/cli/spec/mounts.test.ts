import { addMounts, defaultMounts, parseMount, parseTmpfs, parseVolume } from '../../../../cli/spec/mounts';

test("parseMount() takes ctr's form", () => {
  expect(parseMount('type=bind,src=/etc,dst=/mnt,options=rbind:ro')).toEqual({
    type: 'bind',
    source: '/etc',
    destination: '/mnt',
    options: ['rbind', 'ro'],
  });
});

test("parseMount() takes docker's form and binds recursively", () => {
  expect(parseMount('source=/etc,target=/mnt,readonly')).toEqual({
    type: 'bind',
    source: '/etc',
    destination: '/mnt',
    options: ['rbind', 'ro'],
  });
});

test('parseMount() needs no source for other types', () => {
  expect(parseMount('type=tmpfs,dst=/t,options=size=1m:mode=700')).toEqual({
    type: 'tmpfs',
    source: 'tmpfs',
    destination: '/t',
    options: ['size=1m', 'mode=700'],
  });
});

test.each([
  ['type=bind,src=/etc', 'absolute path'],
  ['type=bind,dst=/mnt', 'source is missing'],
  ['type=bind,src=/nonexistent-here,dst=/mnt', 'does not exist'],
  ['type=bind,src=/etc,dst=mnt', 'absolute path'],
  ['speed=fast', 'unknown field "speed"'],
])('parseMount() refuses %s', (text, words) => {
  expect(() => parseMount(text)).toThrow(words);
});

test('parseVolume() and parseTmpfs() are short forms', () => {
  expect(parseVolume('/etc:/mnt:ro').options).toEqual(['rbind', 'ro']);
  expect(parseTmpfs('/t:size=1m').options).toEqual(['nosuid', 'nodev', 'noexec', 'size=1m']);
  expect(() => parseVolume('/etc')).toThrow('SOURCE:DESTINATION');
});

test('addMounts() replaces a default mount at the same place', () => {
  const run = parseMount('type=bind,src=/etc,dst=/run/');

  const mounts = addMounts(defaultMounts(), [run]);

  expect(mounts.filter(({ destination }) => destination.startsWith('/run'))).toEqual([run]);
});
