// Messages of D-Bus in their binary form (D-Bus Specification, "Message Protocol" and "Type System"): little endian, as
// much of the types as systemd's manager needs.

/** A value with its signature; what a variant holds. */
export interface Variant {
  readonly type: string;
  readonly value: Value;
}

/** Numbers up to 32 bits as number, beyond as bigint; structs and arrays as arrays. */
export type Value = number | bigint | string | boolean | Variant | readonly Value[];

export interface Message {
  readonly kind: 'call' | 'return' | 'error' | 'signal';
  readonly serial: number;
  readonly path?: string | undefined;
  readonly interface?: string | undefined;
  readonly member?: string | undefined;
  readonly error?: string | undefined;
  readonly replyTo?: number | undefined;
  readonly destination?: string | undefined;
  readonly signature?: string | undefined;
  readonly body: readonly Value[];
}

const KINDS = ['invalid', 'call', 'return', 'error', 'signal'] as const;
const LITTLE_ENDIAN = 'l'.charCodeAt(0);
const VERSION = 1;
const FIXED_HEADER_SIZE = 16;
const HEADER_ALIGNMENT = 8;
const SIZE_MAX = 128 * 1024 * 1024;
/** Header fields: number, name, type. */
const FIELDS = [
  [1, 'path', 'o'],
  [2, 'interface', 's'],
  [3, 'member', 's'],
  [4, 'error', 's'],
  [5, 'replyTo', 'u'],
  [6, 'destination', 's'],
  [8, 'signature', 'g'],
] as const;
const ALIGNMENT: Readonly<Record<string, number>> = {
  ...{ y: 1, g: 1, v: 1, n: 2, q: 2, b: 4, i: 4, u: 4, s: 4, o: 4, a: 4 },
  ...{ x: 8, t: 8, d: 8, '(': 8, '{': 8 },
};

/** Booleans are numbers of 32 bits. */
const NUMBER_SIZES: Readonly<Record<string, number>> = { y: 1, b: 4, n: 2, q: 2, i: 4, u: 4, d: 8, x: 8, t: 8 };

export function encodeMessage(message: Message): Buffer {
  const body = new Writer();
  for (const [index, type] of types(message.signature ?? '').entries()) body.write(type, message.body[index] as Value);
  const fields = FIELDS.flatMap(([number, name, type]) => {
    const value = message[name];
    return value === undefined ? [] : [[number, { type, value }]];
  });
  const header = new Writer();
  header.write('y', LITTLE_ENDIAN);
  header.write('y', KINDS.indexOf(message.kind));
  header.write('y', 0);
  header.write('y', VERSION);
  header.write('u', body.bytes().length);
  header.write('u', message.serial);
  header.write('a(yv)', fields as Value);
  header.align(HEADER_ALIGNMENT);
  return Buffer.concat([header.bytes(), body.bytes()]);
}

/** The first message of the bytes, and how many of them it takes; undefined when it is not complete. @throws RangeError */
export function decodeMessage(bytes: Buffer): { message: Message; size: number } | undefined {
  if (bytes.length < FIXED_HEADER_SIZE) return undefined;
  if (bytes[0] !== LITTLE_ENDIAN) throw new RangeError('D-Bus message of another byte order');
  const fieldsSize = bytes.readUInt32LE(12);
  const bodyStart = aligned(FIXED_HEADER_SIZE + fieldsSize, HEADER_ALIGNMENT);
  const size = bodyStart + bytes.readUInt32LE(4);
  if (size > SIZE_MAX) throw new RangeError(`D-Bus message of ${size} bytes`);
  if (bytes.length < size) return undefined;
  const header = new Reader(bytes.subarray(0, bodyStart), FIXED_HEADER_SIZE - 4);
  const fields = (header.read('a(yv)') as [number, Variant][]).flatMap(([number, { value }]) => {
    const name = FIELDS.find(([known]) => known === number)?.[1];
    return name === undefined ? [] : [[name, value]];
  });
  const named = Object.fromEntries(fields) as Partial<Message>;
  const reader = new Reader(bytes.subarray(bodyStart, size), 0);
  const body = types(named.signature ?? '').map((type) => reader.read(type));
  const kind = KINDS[bytes[1] ?? 0] ?? 'invalid';
  if (kind === 'invalid') throw new RangeError(`D-Bus message of type ${bytes[1]}`);
  return { message: { ...named, kind, serial: bytes.readUInt32LE(8), body }, size };
}

/** The complete types of a signature: "sa(sv)u" are "s", "a(sv)" and "u". */
function types(signature: string): string[] {
  const found: string[] = [];
  for (let at = 0; at < signature.length; ) {
    const end = typeEnd(signature, at);
    found.push(signature.slice(at, end));
    at = end;
  }
  return found;
}

function typeEnd(signature: string, start: number): number {
  const first = signature[start];
  if (first === 'a') return typeEnd(signature, start + 1);
  if (first !== '(' && first !== '{') return start + 1;
  let at = start + 1;
  while (signature[at] !== ')' && signature[at] !== '}') at = typeEnd(signature, at);
  return at + 1;
}

function aligned(offset: number, alignment: number): number {
  return Math.ceil(offset / alignment) * alignment;
}

function alignmentOf(type: string): number {
  const alignment = ALIGNMENT[type.charAt(0)];
  if (alignment === undefined) throw new RangeError(`D-Bus type "${type}"`);
  return alignment;
}

function writeNumber(buffer: Buffer, at: number, type: string, value: Value): void {
  const number = Number(value);
  if (type === 'y') buffer.writeUInt8(number, at);
  else if (type === 'n') buffer.writeInt16LE(number, at);
  else if (type === 'q') buffer.writeUInt16LE(number, at);
  else if (type === 'i') buffer.writeInt32LE(number, at);
  else if (type === 'd') buffer.writeDoubleLE(number, at);
  else if (type === 'x') buffer.writeBigInt64LE(BigInt(value as bigint), at);
  else if (type === 't') buffer.writeBigUInt64LE(BigInt(value as bigint), at);
  else buffer.writeUInt32LE(number, at);
}

class Writer {
  private buffer = Buffer.alloc(256);
  private length = 0;

  bytes(): Buffer {
    return this.buffer.subarray(0, this.length);
  }

  align(alignment: number): void {
    this.reserve(aligned(this.length, alignment) - this.length);
  }

  write(type: string, value: Value): void {
    this.align(alignmentOf(type));
    const size = NUMBER_SIZES[type];
    if (size !== undefined) {
      // Room first: it may be in another buffer.
      const at = this.reserve(size);
      writeNumber(this.buffer, at, type, value);
    } else if (type === 's' || type === 'o') this.writeText(value as string, 4);
    else if (type === 'g') this.writeText(value as string, 1);
    else if (type === 'v') this.writeVariant(value as Variant);
    else if (type.startsWith('a')) this.writeArray(type.slice(1), value as readonly Value[]);
    else
      for (const [index, member] of types(type.slice(1, -1)).entries())
        this.write(member, (value as Value[])[index] as Value);
  }

  private writeText(text: string, sizeLength: number): void {
    const size = Buffer.byteLength(text);
    const at = this.reserve(sizeLength + size + 1);
    this.buffer.writeUIntLE(size, at, sizeLength);
    this.buffer.write(text, at + sizeLength);
  }

  private writeVariant({ type, value }: Variant): void {
    this.write('g', type);
    this.write(type, value);
  }

  private writeArray(element: string, values: readonly Value[]): void {
    const sizeAt = this.reserve(4);
    this.align(alignmentOf(element));
    const start = this.length;
    for (const value of values) this.write(element, value);
    this.buffer.writeUInt32LE(this.length - start, sizeAt);
  }

  /** Zeroed room. */
  private reserve(size: number): number {
    const at = this.length;
    this.length += size;
    if (this.length > this.buffer.length) {
      this.buffer = Buffer.concat([this.buffer, Buffer.alloc(Math.max(this.length, this.buffer.length))]);
    }
    return at;
  }
}

class Reader {
  private readonly buffer: Buffer;
  private offset: number;

  constructor(buffer: Buffer, offset: number) {
    this.buffer = buffer;
    this.offset = offset;
  }

  read(type: string): Value {
    this.offset = aligned(this.offset, alignmentOf(type));
    if (type === 'y') return this.buffer.readUInt8(this.skip(1));
    if (type === 'b') return this.buffer.readUInt32LE(this.skip(4)) !== 0;
    if (type === 'n') return this.buffer.readInt16LE(this.skip(2));
    if (type === 'q') return this.buffer.readUInt16LE(this.skip(2));
    if (type === 'i') return this.buffer.readInt32LE(this.skip(4));
    if (type === 'u') return this.buffer.readUInt32LE(this.skip(4));
    if (type === 'd') return this.buffer.readDoubleLE(this.skip(8));
    if (type === 'x') return this.buffer.readBigInt64LE(this.skip(8));
    if (type === 't') return this.buffer.readBigUInt64LE(this.skip(8));
    if (type === 's' || type === 'o') return this.readText(4);
    if (type === 'g') return this.readText(1);
    if (type === 'v') return this.readVariant();
    if (type.startsWith('a')) return this.readArray(type.slice(1));
    return types(type.slice(1, -1)).map((member) => this.read(member));
  }

  private readText(sizeLength: number): string {
    const size = this.buffer.readUIntLE(this.skip(sizeLength), sizeLength);
    const at = this.skip(size + 1);
    return this.buffer.toString('utf8', at, at + size);
  }

  private readVariant(): Variant {
    const type = this.readText(1);
    return { type, value: this.read(type) };
  }

  private readArray(element: string): Value[] {
    const size = this.buffer.readUInt32LE(this.skip(4));
    this.offset = aligned(this.offset, alignmentOf(element));
    const end = this.offset + size;
    const values: Value[] = [];
    while (this.offset < end) values.push(this.read(element));
    return values;
  }

  private skip(size: number): number {
    const at = this.offset;
    this.offset += size;
    return at;
  }
}
