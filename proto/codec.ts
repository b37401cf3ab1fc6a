// Table-driven protobuf codec: generated message tables in, bytes out. It exists so that the shim and the daemon
// share one small set of types with bigint for 64-bit numbers. The wire work is protobufjs' Reader and Writer;
// this file must not know any particular message.

import { Reader, Writer } from 'protobufjs/minimal';

/** Everything optional, all the way down: what callers may pass to `encode`. Missing fields take their default. */
export type Input<T> = T extends Uint8Array | string | number | bigint | boolean | undefined
  ? T
  : T extends readonly (infer E)[]
    ? readonly Input<E>[]
    : { readonly [K in keyof T]?: Input<T[K]> | undefined };

export type Scalar = 'string' | 'bytes' | 'bool' | 'int32' | 'uint32' | 'int64' | 'uint64' | 'double' | 'enum';

type Label = 'singular' | 'optional' | 'repeated' | 'map';

/** One row of a message table: number, property name, type, label, and the type of a map's values where they are scalar. */
export type Field = readonly [number: number, name: string, type: Scalar | (() => MessageType<unknown>), label?: Label];

/** A message type: its full protobuf name and how it is written and read. Unknown fields are skipped on decode. */
export interface MessageType<T> {
  readonly name: string;
  readonly fields: readonly Field[];
  /** @throws TypeError when a value does not fit its field. */
  encode(value: Input<T>): Buffer;
  /** @throws Error when the bytes are not a valid encoding. */
  decode(bytes: Uint8Array): T;
  write(value: Input<T>, writer: Writer): Writer;
  read(reader: Reader, length: number): T;
}

export type StreamKind = 'unary' | 'client' | 'server' | 'bidi';

/** A method of a service, in the shape that grpc-js takes as a method definition and that ttrpc uses as well. */
export interface Method<Req, Res, Kind extends StreamKind = StreamKind> {
  readonly path: string;
  readonly kind: Kind;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  readonly requestType: MessageType<Req>;
  readonly responseType: MessageType<Res>;
  readonly requestSerialize: (value: Input<Req>) => Buffer;
  readonly requestDeserialize: (bytes: Buffer) => Req;
  readonly responseSerialize: (value: Input<Res>) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => Res;
}

/** Bytes fields of this size are views of their message. */
const VIEW_BYTES_MIN = 16 * 1024;

type Row = Record<string, unknown>;

/** Used by the generated files. @public */
export function message<T>(name: string, fields: readonly Field[]): MessageType<T> {
  // Made when it is needed: a program starts with far more types than it ever decodes.
  let byNumber: ReadonlyMap<number, Field> | undefined;
  const type: MessageType<T> = {
    name,
    fields,
    encode: (value) => viewOf(type.write(value, Writer.create()).finish()),
    decode: (bytes) => {
      const reader = Reader.create(bytes);
      return type.read(reader, reader.len);
    },
    write(value, writer) {
      for (const field of fields) {
        const item = (value as Row)[field[1]];
        if (item !== undefined && item !== null) writeField(field, item, writer);
      }
      return writer;
    },
    read(reader, end) {
      byNumber ??= new Map(fields.map((field) => [field[0], field]));
      const result = defaults(fields);
      while (reader.pos < end) {
        const tag = reader.uint32();
        const field = byNumber.get(tag >>> 3);
        if (field === undefined) reader.skipType(tag & 7);
        else readField(field, result, reader, tag & 7);
      }
      if (reader.pos > end) throw new RangeError(`${name}: a field is longer than its message`);
      return result as T;
    },
  };
  return type;
}

export function method<Req, Res, Kind extends StreamKind>(
  path: string,
  kind: Kind,
  requestType: MessageType<Req>,
  responseType: MessageType<Res>,
): Method<Req, Res, Kind> {
  return {
    path,
    kind,
    requestStream: kind === 'client' || kind === 'bidi',
    responseStream: kind === 'server' || kind === 'bidi',
    requestType,
    responseType,
    requestSerialize: requestType.encode,
    requestDeserialize: requestType.decode,
    responseSerialize: responseType.encode,
    responseDeserialize: responseType.decode,
  };
}

const WIRE_TYPE = {
  string: 2,
  bytes: 2,
  bool: 0,
  int32: 0,
  uint32: 0,
  int64: 0,
  uint64: 0,
  double: 1,
  enum: 0,
} as const;
const ZERO = { string: '', bool: false, int32: 0, uint32: 0, int64: 0n, uint64: 0n, double: 0, enum: 0 } as const;

function defaults(fields: readonly Field[]): Row {
  const row: Row = {};
  for (const [, name, type, label = 'singular'] of fields) {
    if (label === 'repeated') row[name] = [];
    else if (label === 'map') row[name] = Object.create(null);
    else if (label === 'optional' || typeof type === 'function') row[name] = undefined;
    else row[name] = type === 'bytes' ? Buffer.alloc(0) : ZERO[type];
  }
  return row;
}

function writeField(field: Field, item: unknown, writer: Writer): void {
  const [number, , type, label = 'singular'] = field;
  if (label === 'map') {
    for (const [key, value] of Object.entries(item as Row)) {
      if (value === undefined) continue;
      const entry = writer.uint32((number << 3) | 2).fork();
      entry.uint32(10).string(key);
      writeOne(2, type, value, entry);
      entry.ldelim();
    }
  } else if (label === 'repeated') {
    writeRepeated(number, type, item as readonly unknown[], writer);
  } else if (label === 'optional' || typeof type === 'function' || !isZero(item)) {
    writeOne(number, type, item, writer);
  }
}

function writeRepeated(number: number, type: Field[2], items: readonly unknown[], writer: Writer): void {
  if (items.length === 0) return;
  if (typeof type === 'function' || type === 'string' || type === 'bytes') {
    for (const item of items) writeOne(number, type, item, writer);
    return;
  }
  const packed = writer.uint32((number << 3) | 2).fork();
  for (const item of items) writeScalar(type, item, packed);
  packed.ldelim();
}

function writeOne(number: number, type: Field[2], item: unknown, writer: Writer): void {
  if (typeof type === 'function') {
    type()
      .write(item as Input<unknown>, writer.uint32((number << 3) | 2).fork())
      .ldelim();
  } else {
    writeScalar(type, item, writer.uint32((number << 3) | WIRE_TYPE[type]));
  }
}

function writeScalar(type: Scalar, item: unknown, writer: Writer): void {
  switch (type) {
    case 'string':
      writer.string(item as string);
      return;
    case 'bytes':
      writer.bytes(item as Uint8Array);
      return;
    case 'bool':
      writer.bool(item as boolean);
      return;
    case 'double':
      writer.double(item as number);
      return;
    case 'uint32':
      writer.uint32(item as number);
      return;
    case 'int32':
    case 'enum':
      writer.int32(item as number);
      return;
    case 'int64':
    case 'uint64':
      writer.uint64(toBits(item as bigint) as never);
  }
}

function isZero(item: unknown): boolean {
  return (
    item === '' || item === 0 || item === 0n || item === false || (item instanceof Uint8Array && item.length === 0)
  );
}

function readField(field: Field, row: Row, reader: Reader, wireType: number): void {
  const [, name, type, label = 'singular'] = field;
  if (label === 'map') {
    const [key, value] = readEntry(type, reader);
    (row[name] as Row)[key] = value;
  } else if (label === 'repeated') {
    const items = row[name] as unknown[];
    if (wireType === 2 && typeof type !== 'function' && type !== 'string' && type !== 'bytes') {
      const end = reader.uint32() + reader.pos;
      while (reader.pos < end) items.push(readScalar(type, reader));
    } else {
      items.push(readOne(type, reader));
    }
  } else {
    row[name] = readOne(type, reader);
  }
}

function readEntry(type: Field[2], reader: Reader): [string, unknown] {
  const end = reader.uint32() + reader.pos;
  let key = '';
  let value: unknown = typeof type === 'function' ? type().decode(new Uint8Array()) : (ZERO as Row)[type];
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag >>> 3 === 1) key = reader.string();
    else if (tag >>> 3 === 2) value = readOne(type, reader);
    else reader.skipType(tag & 7);
  }
  return [key, value];
}

function readOne(type: Field[2], reader: Reader): unknown {
  if (typeof type !== 'function') return readScalar(type, reader);
  const length = reader.uint32();
  return type().read(reader, reader.pos + length);
}

function readScalar(type: Scalar, reader: Reader): unknown {
  switch (type) {
    case 'string':
      return reader.string();
    case 'bytes':
      return detached(reader.bytes());
    case 'bool':
      return reader.bool();
    case 'double':
      return reader.double();
    case 'uint32':
      return reader.uint32();
    case 'int32':
    case 'enum':
      return reader.int32();
    case 'int64':
      return BigInt.asIntN(64, fromBits(reader.uint64()));
    case 'uint64':
      return fromBits(reader.uint64());
  }
}

function toBits(value: bigint): { low: number; high: number; unsigned: boolean } {
  const bits = BigInt.asUintN(64, value);
  return { low: Number(bits & 0xffffffffn) | 0, high: Number(bits >> 32n) | 0, unsigned: true };
}

function fromBits(value: unknown): bigint {
  if (typeof value === 'number') return BigInt(value);
  const { low, high } = value as { low: number; high: number };
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

/** Small values do not keep their message in memory; of large ones, which are most of it, a copy would cost more. */
function detached(bytes: Uint8Array): Buffer {
  return bytes.length < VIEW_BYTES_MIN ? Buffer.from(bytes) : viewOf(bytes);
}

function viewOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
