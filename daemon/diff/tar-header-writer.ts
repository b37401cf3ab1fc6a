// Headers of tar archives as Go's archive/tar writes them in PAX format: ustar fields, and an extended header only for
// what does not fit into them. Names are bytes as latin1 strings.

export interface HeaderFields {
  readonly name: string;
  /** One character. */
  readonly typeFlag: string;
  readonly linkName?: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtimeSeconds: number;
  readonly major?: number;
  readonly minor?: number;
  readonly xattrs?: readonly (readonly [name: string, value: string])[];
}

const BLOCK_BYTES = 512;
const NAME_BYTES = 100;
const ID_MAX = 0o7777777;
const SIZE_MAX = 0o77777777777;
const PLAIN = /^[ -~]*$/;

/** Bytes that a stored size takes in the archive, without the size itself. */
export function paddingOf(size: number): number {
  return (BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES;
}

/** The header blocks of an entry, extended header first where one is needed. */
export function writeHeader(fields: HeaderFields): Buffer {
  const records = paxRecords(fields);
  const block = headerBlock(fields);
  if (records.length === 0) return block;
  const body = Buffer.concat(records);
  const slash = fields.name.replace(/\/$/, '').lastIndexOf('/');
  const name = `${fields.name.slice(0, slash + 1)}PaxHeaders.0/${fields.name.slice(slash + 1)}`;
  const pax = headerBlock({
    name: toAscii(name),
    typeFlag: 'x',
    mode: 0,
    uid: 0,
    gid: 0,
    size: body.length,
    mtimeSeconds: 0,
  });
  return Buffer.concat([pax, body, Buffer.alloc(paddingOf(body.length)), block]);
}

function headerBlock(fields: HeaderFields): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  const octal = (value: number, at: number, length: number) =>
    block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
  block.write(toAscii(fields.name).slice(0, NAME_BYTES), 0, 'latin1');
  octal(fields.mode & 0o7777, 100, 8);
  octal(fields.uid > ID_MAX ? 0 : fields.uid, 108, 8);
  octal(fields.gid > ID_MAX ? 0 : fields.gid, 116, 8);
  octal(fields.size > SIZE_MAX ? 0 : fields.size, 124, 12);
  octal(fitsTime(fields.mtimeSeconds) ? fields.mtimeSeconds : 0, 136, 12);
  block.write('        ', 148, 'latin1');
  block.write(fields.typeFlag, 156, 'latin1');
  block.write(toAscii(fields.linkName ?? '').slice(0, NAME_BYTES), 157, 'latin1');
  block.write('ustar\u000000', 257, 'latin1');
  octal(Math.min(fields.major ?? 0, ID_MAX), 329, 8);
  octal(Math.min(fields.minor ?? 0, ID_MAX), 337, 8);
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

function paxRecords({ name, linkName = '', uid, gid, size, mtimeSeconds, xattrs = [] }: HeaderFields): Buffer[] {
  const records: Buffer[] = [];
  const add = (keyword: string, value: string | number) => records.push(paxRecord(keyword, String(value)));
  for (const [key, value] of xattrs) add(`SCHILY.xattr.${key}`, value);
  if (gid > ID_MAX) add('gid', gid);
  if (linkName.length > NAME_BYTES || !PLAIN.test(linkName)) add('linkpath', linkName);
  if (!fitsTime(mtimeSeconds)) add('mtime', mtimeSeconds);
  if (name.length > NAME_BYTES || !PLAIN.test(name)) add('path', name);
  if (size > SIZE_MAX) add('size', size);
  if (uid > ID_MAX) add('uid', uid);
  return records;
}

/** The length counts itself. */
function paxRecord(keyword: string, value: string): Buffer {
  const rest = keyword.length + value.length + 3;
  let length = rest + String(rest).length;
  if (String(length).length > String(rest).length) length = rest + String(length).length;
  return Buffer.from(`${length} ${keyword}=${value}\n`, 'latin1');
}

function fitsTime(seconds: number): boolean {
  return seconds >= 0 && seconds <= SIZE_MAX;
}

function toAscii(text: string): string {
  return text.replace(/[^ -~]/g, '_');
}
