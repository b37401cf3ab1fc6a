// Holds the .proto files and the generated codec against the tables of the public API (package, message, field, number,
// type). The oracle is a second, independent encoder that knows only the tables and the protobuf wire format.

import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as protobuf from 'protobufjs';
import type { MessageType, Method } from '../../../proto/codec';

type Row = Record<string, string>;
type Value = Record<string, unknown>;

const ROOT = join(__dirname, '../../..');
const GENERATED = join(ROOT, 'proto/generated');
const generatedPackages = globSync('*.ts', { cwd: GENERATED }).map((file) => file.replace(/\.ts$/, ''));

const messages = table('messages.tsv');
const enums = table('enums.tsv');
const services = table('services.tsv');
const enumNames = new Set(enums.map((row) => `${row['package']}.${row['enum']}`));
const fieldsOf = Map.groupBy(messages, (row) => `${row['package']}.${row['message']}`);
const root = loadProtos();

describe('.proto files', () => {
  test.each([...fieldsOf.keys()])('%s has the fields of the table', (name) => {
    const rows = fieldsOf.get(name) as Row[];

    const actual = root
      .lookupType(name)
      .fieldsArray.map((field) => `${field.name} = ${field.id}: ${describeField(field)}`);

    const expected = rows
      .filter((row) => row['number'] !== '-')
      .map((row) => {
        return `${row['field']} = ${row['number']}: ${expectedField(row)}`;
      });
    expect(actual.sort()).toEqual(expected.sort());
  });

  test.each([...enumNames])('enum %s has the values of the table', (name) => {
    const expected = enums.filter((row) => `${row['package']}.${row['enum']}` === name);

    const { values } = root.lookupEnum(name);

    expect(values).toEqual(Object.fromEntries(expected.map((row) => [row['value'], Number(row['number'])])));
  });

  test('services have the methods of the table', () => {
    const lines = services.map((row) => {
      const service = root.lookupService(`${row['package']}.${row['service']}`);
      const method = service.methods[row['method'] as string]?.resolve() as protobuf.Method | undefined;
      return [
        row['package'],
        row['service'],
        row['method'],
        method?.resolvedRequestType?.fullName.slice(1),
        method?.resolvedResponseType?.fullName.slice(1),
        method?.requestStream ? '1' : '0',
        method?.responseStream ? '1' : '0',
      ].join(' ');
    });

    expect(lines).toEqual(services.map((row) => Object.values(row).join(' ')));
  });
});

describe('codec', () => {
  const generated = [...fieldsOf.keys()].filter((name) => find(name) !== undefined);

  test('covers every package that the daemon, the shim or the CLI speaks', () => {
    expect(generated.length).toBeGreaterThan(230);
  });

  test.each(generated)('%s is written and read as the table says', (name) => {
    const type = find(name) as MessageType<unknown>;
    const value = sample(name, 0);

    const bytes = type.encode(value as never);

    expect(bytes.toString('hex')).toBe(encodeByTable(name, value).toString('hex'));
    expect(plain(type.decode(bytes))).toEqual(plain(value));
  });

  test.each(generated)('%s decodes from nothing to its defaults and encodes back to nothing', (name) => {
    const type = find(name) as MessageType<unknown>;

    expect(type.encode(type.decode(Buffer.alloc(0)) as never)).toHaveLength(0);
  });

  test('decode() skips unknown fields and throws on truncated bytes', () => {
    const type = find('containerd.services.containers.v1.GetContainerRequest') as MessageType<{ id: string }>;
    const bytes = type.encode({ id: 'web' });
    const extra = Buffer.concat([Buffer.from([0xfa, 0x07, 0x02, 0x61, 0x62]), bytes]);

    expect(type.decode(extra)).toEqual({ id: 'web' });
    expect(() => type.decode(bytes.subarray(0, 3))).toThrow();
  });

  test('64-bit values keep their sign and their last digit', () => {
    const type = find('google.protobuf.Timestamp') as MessageType<{ seconds: bigint; nanos: number }>;

    for (const seconds of [-62135596800n, 0n, (1n << 63n) - 1n, -(1n << 63n), 9007199254740993n]) {
      expect(type.decode(type.encode({ seconds })).seconds).toBe(seconds);
    }
  });

  test('a label named __proto__ is a label', () => {
    const type = find('containerd.services.namespaces.v1.Namespace') as MessageType<{ labels: Record<string, string> }>;
    const labels = JSON.parse('{"__proto__": "x"}') as Record<string, string>;

    const decoded = type.decode(type.encode({ labels }));

    expect(Object.entries(decoded.labels)).toEqual([['__proto__', 'x']]);
  });

  test.each(services.filter((row) => generatedPackages.includes(row['package'] as string)))(
    '$package.$service/$method has its path and stream kind',
    (row) => {
      const module = load(row['package'] as string);
      const service = module[`${row['service']}Service`] as Record<string, Method<unknown, unknown>>;
      const key = (row['method'] as string).charAt(0).toLowerCase() + (row['method'] as string).slice(1);

      expect(service[key]).toMatchObject({
        path: `/${row['package']}.${row['service']}/${row['method']}`,
        requestStream: row['client_stream'] === '1',
        responseStream: row['server_stream'] === '1',
      });
      expect(service[key]?.requestType.name).toBe(row['request_type']);
      expect(service[key]?.responseType.name).toBe(row['response_type']);
    },
  );
});

function table(file: string): Row[] {
  const [head, ...lines] = readFileSync(join(__dirname, 'tables', file), 'utf8')
    .trimEnd()
    .split('\n');
  const columns = (head as string).split('\t');
  return lines.map((line) => {
    const cells = line.split('\t');
    return Object.fromEntries(columns.map((column, index) => [column, cells[index] ?? '']));
  });
}

function loadProtos(): protobuf.Root {
  const api = join(ROOT, 'proto/api');
  const loaded = new protobuf.Root();
  loaded.resolvePath = (_origin, target) =>
    target.startsWith('/') || protobuf.common.get(target) ? target : join(api, target);
  loaded.loadSync(
    globSync('**/*.proto', { cwd: api }).map((file) => join(api, file)),
    { keepCase: true },
  );
  loaded.resolveAll();
  return loaded;
}

function describeField(field: protobuf.Field): string {
  const type = field.resolvedType ? field.resolvedType.fullName.slice(1) : field.type;
  const deprecated = field.options?.['deprecated'] ? ' deprecated' : '';
  if (field instanceof protobuf.MapField) return `map<${field.keyType},${type}>${deprecated}`;
  if (field.repeated) return `repeated ${type}${deprecated}`;
  const group = field.partOf;
  if (!group) return `${type}${deprecated}`;
  return (group.name.startsWith('_') ? `optional ${type}` : `oneof:${group.name} ${type}`) + deprecated;
}

function expectedField(row: Row): string {
  const deprecated = row['deprecated'] ? ' deprecated' : '';
  const prefix = row['label'] === 'singular' || row['label'] === 'map' ? '' : `${row['label']} `;
  return `${prefix}${(row['type'] as string).replaceAll(' ', '')}${deprecated}`;
}

function load(name: string): Record<string, unknown> {
  return require(join(GENERATED, name)) as Record<string, unknown>;
}

function find(name: string): MessageType<unknown> | undefined {
  const pkg = generatedPackages.filter((item) => name.startsWith(`${item}.`)).sort((a, b) => b.length - a.length)[0];
  if (pkg === undefined) return undefined;
  return load(pkg)[name.slice(pkg.length + 1).replaceAll('.', '')] as MessageType<unknown> | undefined;
}

function camel(name: string): string {
  return name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

const WELL_KNOWN: Record<string, Value> = {
  'google.protobuf.Any': { typeUrl: 'a.B', value: Buffer.from([1, 2]) },
  'google.protobuf.Timestamp': { seconds: -5n, nanos: 7 },
  'google.protobuf.FieldMask': { paths: ['labels.a', 'image'] },
  'google.protobuf.Empty': {},
  'google.protobuf.Duration': { seconds: 3n, nanos: 1 },
};

/** A value that sets every field; nesting stops at depth 3 so that recursive messages end. */
function sample(name: string, depth: number): Value {
  if (WELL_KNOWN[name]) return WELL_KNOWN[name];
  const rows = (fieldsOf.get(name) ?? []).filter((row) => row['number'] !== '-');
  const value: Value = {};
  for (const row of rows) {
    const type = row['type'] as string;
    const isMessage = !enumNames.has(type) && type.includes('.') && !type.startsWith('map<');
    if (isMessage && depth >= 3) continue;
    const key = camel(row['field'] as string);
    const map = /^map<string, ?(.+)>$/.exec(type);
    if (map) value[key] = { 'a/b.c': one(map[1] as string, depth), d: one(map[1] as string, depth) };
    else if (row['label'] === 'repeated') value[key] = [one(type, depth), one(type, depth)];
    else value[key] = one(type, depth);
  }
  return value;
}

function one(type: string, depth: number): unknown {
  switch (type) {
    case 'string':
      return 'zażółć';
    case 'bytes':
      return Buffer.from([0, 255, 7]);
    case 'bool':
      return true;
    case 'double':
      return 0.25;
    case 'int64':
      return -9007199254740993n;
    case 'uint64':
      return 18446744073709551615n;
    case 'int32':
      return -3;
    case 'uint32':
      return 4294967295;
    default:
      return enumNames.has(type) ? 1 : sample(type, depth + 1);
  }
}

const WELL_KNOWN_FIELDS: Record<string, Row[]> = {
  'google.protobuf.Any': [row('type_url', 1, 'string'), row('value', 2, 'bytes')],
  'google.protobuf.Timestamp': [row('seconds', 1, 'int64'), row('nanos', 2, 'int32')],
  'google.protobuf.Duration': [row('seconds', 1, 'int64'), row('nanos', 2, 'int32')],
  'google.protobuf.FieldMask': [row('paths', 1, 'string', 'repeated')],
  'google.protobuf.Empty': [],
};

function row(field: string, number: number, type: string, label = 'singular'): Row {
  return { field, number: String(number), type, label };
}

/** Encodes with nothing but the table: fields in ascending order of their rows in the generated table. */
function encodeByTable(name: string, value: Value): Buffer {
  const rows = (WELL_KNOWN_FIELDS[name] ?? (fieldsOf.get(name) as Row[])).filter((item) => item['number'] !== '-');
  const order = (find(name) as MessageType<unknown>).fields.map((field) => field[0]);
  rows.sort((a, b) => order.indexOf(Number(a['number'])) - order.indexOf(Number(b['number'])));
  const parts: Buffer[] = [];
  for (const item of rows) {
    const content = value[camel(item['field'] as string)];
    if (content === undefined) continue;
    const [number, type] = [Number(item['number']), item['type'] as string];
    const map = /^map<string, ?(.+)>$/.exec(type);
    if (map) {
      for (const [key, entry] of Object.entries(content as Value)) {
        parts.push(
          lengthDelimited(number, Buffer.concat([single(1, 'string', key), single(2, map[1] as string, entry)])),
        );
      }
    } else if (item['label'] !== 'repeated') parts.push(single(number, type, content));
    else if (['string', 'bytes'].includes(type) || (type.includes('.') && !enumNames.has(type))) {
      for (const entry of content as unknown[]) parts.push(single(number, type, entry));
    } else {
      parts.push(lengthDelimited(number, Buffer.concat((content as unknown[]).map((entry) => scalar(type, entry)))));
    }
  }
  return Buffer.concat(parts);
}

function single(number: number, type: string, value: unknown): Buffer {
  if (type === 'string' || type === 'bytes') return lengthDelimited(number, Buffer.from(value as string));
  if (type.includes('.') && !enumNames.has(type)) return lengthDelimited(number, encodeByTable(type, value as Value));
  return Buffer.concat([varint(BigInt((number << 3) | (type === 'double' ? 1 : 0))), scalar(type, value)]);
}

function scalar(type: string, value: unknown): Buffer {
  if (type !== 'double') return varint(BigInt.asUintN(64, BigInt(value as number)));
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value as number);
  return bytes;
}

function lengthDelimited(number: number, bytes: Buffer): Buffer {
  return Buffer.concat([varint(BigInt((number << 3) | 2)), varint(BigInt(bytes.length)), bytes]);
}

function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80n) {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  return Buffer.from([...bytes, Number(rest)]);
}

/** Comparable form: absent sub-messages dropped, prototypes ignored. */
function plain(value: unknown): unknown {
  if (Buffer.isBuffer(value)) return value.toString('hex');
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, item]) => item !== undefined)
      .map(([key, item]) => [key, plain(item)]),
  );
}
