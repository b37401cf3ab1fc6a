// The filter language: grammar, operators and the strings that real clients send.

import { parseFilters } from '../../../../daemon/metadata/filters';

type Fields = Record<string, string>;

function matches(filters: string[], fields: Fields, labels: Fields = {}): boolean {
  return parseFilters(filters).matches(([head = '', ...rest]) =>
    head === 'labels' ? labels[rest.join('.')] : rest.length === 0 ? fields[head] : undefined,
  );
}

describe('parseFilters() matches', () => {
  const cases: [filters: string[], fields: Fields, labels: Fields, expected: boolean][] = [
    [[], {}, {}, true],
    [[''], {}, {}, true],
    [['id==a', ''], { id: 'b' }, {}, true],
    [['id==a'], { id: 'a' }, {}, true],
    [['id==a'], { id: 'b' }, {}, false],
    [['id==a', 'id==b'], { id: 'b' }, {}, true],
    [['id==a,name==x'], { id: 'a', name: 'y' }, {}, false],
    [['type==t, id==overlayfs'], { type: 't', id: 'overlayfs' }, {}, true],
    [['type=="io.containerd.snapshotter.v1"'], { type: 'io.containerd.snapshotter.v1' }, {}, true],
    [['namespace==moby,topic~=|^/tasks/|'], { namespace: 'moby', topic: '/tasks/exit' }, {}, true],
    [['namespace==moby,topic~=|^/tasks/|'], { namespace: 'moby', topic: '/images/create' }, {}, false],
    [['labels."buildkit/lease.temporary"'], {}, { 'buildkit/lease.temporary': 'x' }, true],
    [['labels."buildkit/lease.temporary"'], {}, {}, false],
    [['labels.org.mobyproject.image.parent'], {}, { 'org.mobyproject.image.parent': 'p' }, true],
    [['labels.a."b/c"==v'], {}, { 'a.b/c': 'v' }, true],
    [['labels."nerdctl/name"==n1'], {}, { 'nerdctl/name': 'n1' }, true],
    [['id~=^n1.*$'], { id: 'n123' }, {}, true],
    [['id~=^n1.*$'], { id: 'xn123' }, {}, false],
    [['target~=^sha256:a\\.b/c$'], { target: 'sha256:a.b/c' }, {}, true],
    [['name==host:5000/x:tag@y'], { name: 'host:5000/x:tag@y' }, {}, true],
    [['id!=a'], {}, {}, true],
    [['id!=a'], { id: 'a' }, {}, false],
    [['id!=""'], {}, {}, false],
    [['id==""'], {}, {}, false],
    [['id~=/^$/'], {}, {}, true],
    [['id~=(a'], { id: '(a' }, {}, false],
    [['id == a'], { id: 'a' }, {}, true],
    [['id=="\\x41\\u00e9\\101\\n"'], { id: 'A\u00e9A\n' }, {}, true],
    [['id~="a|b"'], { id: 'xbx' }, {}, true],
    [['id==a.b-c'], { id: 'a.b-c' }, {}, true],
  ];
  it.each(cases)('%j on %j %j: %p', (filters, fields, labels, expected) => {
    expect(matches(filters, fields, labels)).toBe(expected);
  });
});

describe('parseFilters() refuses', () => {
  const bad = [
    'id=a',
    'id===a',
    'id==',
    '==a',
    'id,',
    ',id',
    'id a',
    'id ',
    'id.',
    '.id',
    'id=="a',
    'id==/a/',
    'id==|a|',
    'id=="\\q"',
    'a-b==c',
    'id=="a\nb"',
    'id==a b',
    'id~=|a',
    'id=="\\400"',
    'labels.a/b==c',
  ];
  it.each(bad)('%j', (filter) => {
    expect(() => parseFilters([filter])).toThrow(/parse error: .*: invalid argument$/s);
  });

  it('a filter that is too long', () => {
    expect(() => parseFilters([`id==${'a'.repeat(70_000)}`])).toThrow(/longer than/);
  });
});
