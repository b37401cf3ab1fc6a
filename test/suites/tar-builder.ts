// Writes tar archives byte by byte, also such as no tar program would write. Real archives come from tar(1) in the tests
// that compare with it.

export interface TarSpec {
  readonly name: string;
  readonly type?: string;
  readonly linkName?: string;
  readonly content?: string | Buffer;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  /** Size in the header, when it is not that of the content. */
  readonly size?: number;
  readonly major?: number;
  readonly minor?: number;
  /** Records of a PAX header before the entry. */
  readonly pax?: Record<string, string | Buffer>;
  /** Bytes to put into the header afterwards, before the checksum. */
  readonly patch?: readonly (readonly [offset: number, bytes: Buffer | string])[];
  readonly gnu?: boolean;
}

const BLOCK = 512;

/** The archive with its two zero blocks, unless `end` is false. */
export function tar(entries: readonly TarSpec[], end = true): Buffer {
  return Buffer.concat([...entries.flatMap(entryBlocks), ...(end ? [Buffer.alloc(2 * BLOCK)] : [])]);
}

export function entryBlocks(spec: TarSpec): Buffer[] {
  const content = Buffer.from(spec.content ?? '');
  return [...(spec.pax === undefined ? [] : paxBlocks('x', spec.pax)), header(spec, content.length), pad(content)];
}

export function paxBlocks(type: string, records: Record<string, string | Buffer>): Buffer[] {
  const body = Buffer.concat(Object.entries(records).map(([keyword, value]) => paxRecord(keyword, Buffer.from(value))));
  return [header({ name: 'PaxHeader', type }, body.length), pad(body)];
}

export function paxRecord(keyword: string, value: Buffer): Buffer {
  const rest = keyword.length + value.length + 3;
  let length = rest + String(rest).length;
  if (String(length).length > String(rest).length) length++;
  return Buffer.concat([Buffer.from(`${length} ${keyword}=`), value, Buffer.from('\n')]);
}

export function pad(content: Buffer): Buffer {
  return Buffer.concat([content, Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK)]);
}

export function header(spec: TarSpec, contentBytes: number): Buffer {
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, at: number, length: number) =>
    block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
  block.write(spec.name, 0, 100, 'utf8');
  octal(spec.mode ?? 0o644, 100, 8);
  octal(spec.uid ?? 0, 108, 8);
  octal(spec.gid ?? 0, 116, 8);
  octal(spec.size ?? contentBytes, 124, 12);
  octal(spec.mtime ?? 1_600_000_000, 136, 12);
  block.write('        ', 148);
  block.write(spec.type ?? '0', 156);
  block.write(spec.linkName ?? '', 157, 100, 'utf8');
  block.write(spec.gnu ? 'ustar  \0' : 'ustar\u000000', 257, 'latin1');
  octal(spec.major ?? 0, 329, 8);
  octal(spec.minor ?? 0, 337, 8);
  for (const [offset, bytes] of spec.patch ?? []) Buffer.from(bytes).copy(block, offset);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}
