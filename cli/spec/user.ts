// The user of a process: names from --user or from the image, resolved with the image's own /etc/passwd and
// /etc/group (passwd(5), group(5)).

import { CommandError, EXIT } from '../failure';
import type { User } from './types';

/** Ids above this wrap to 0 somewhere on the way (CVE-2024-40635). */
const ID_MAX = 2 ** 31 - 1;

/** Reads a file of the root filesystem: undefined when it is not there. */
export type ReadFile = (path: string) => string | undefined;

interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

interface GroupEntry {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/**
 * @param text USER, UID, USER:GROUP or UID:GID; empty means root.
 * @throws CommandError when a name is unknown or an id is out of range.
 */
export function resolveUser(text: string, readFile: ReadFile): User {
  const [userText = '', groupText] = text.split(':', 2);
  const passwd = parsePasswd(readFile('/etc/passwd') ?? '');
  const groups = parseGroup(readFile('/etc/group') ?? '');
  const entry = findUser(userText === '' ? '0' : userText, passwd);
  const gid = groupText === undefined || groupText === '' ? entry.gid : findGroup(groupText, groups);
  const isNamed = groupText === undefined || groupText === '';
  const more = isNamed ? groups.filter(({ members }) => members.includes(entry.name)).map((group) => group.gid) : [];
  return { uid: entry.uid, gid, additionalGids: [...new Set([gid, ...more])] };
}

/** True when an id or two ids say everything, so that the files need not be read. */
export function needsFiles(text: string): boolean {
  return !/^\d+:\d+$/.test(text);
}

/** Additional groups of --group-add. @throws CommandError when a name is unknown. */
export function resolveGroups(names: readonly string[], readFile: ReadFile): number[] {
  if (names.length === 0) return [];
  const groups = parseGroup(readFile('/etc/group') ?? '');
  return names.map((name) => findGroup(name, groups));
}

function findUser(text: string, passwd: readonly PasswdEntry[]): PasswdEntry {
  const id = idOf('user', text);
  const entry = passwd.find((item) => (id === undefined ? item.name === text : item.uid === id));
  if (entry !== undefined) return entry;
  if (id === undefined) throw new CommandError(`user "${text}" is not in the image's /etc/passwd`, EXIT.failed);
  return { name: '', uid: id, gid: 0 };
}

function findGroup(text: string, groups: readonly GroupEntry[]): number {
  const id = idOf('group', text);
  if (id !== undefined) return id;
  const entry = groups.find((item) => item.name === text);
  if (entry === undefined) throw new CommandError(`group "${text}" is not in the image's /etc/group`, EXIT.failed);
  return entry.gid;
}

function idOf(what: string, text: string): number | undefined {
  if (!/^\d+$/.test(text)) return undefined;
  const id = Number(text);
  if (id > ID_MAX) throw new CommandError(`${what} id ${text} is out of range (0 to ${ID_MAX})`, EXIT.failed);
  return id;
}

function parsePasswd(text: string): PasswdEntry[] {
  return rows(text).map(([name = '', , uid = '', gid = '']) => ({ name, uid: number(uid), gid: number(gid) }));
}

function parseGroup(text: string): GroupEntry[] {
  return rows(text).map(([name = '', , gid = '', members = '']) => ({
    name,
    gid: number(gid),
    members: members.split(',').filter((member) => member !== ''),
  }));
}

function rows(text: string): string[][] {
  return text
    .split('\n')
    .map((row) => row.trim().split(':'))
    .filter(([name, , id]) => name !== undefined && name !== '' && /^\d+$/.test(id ?? '') && Number(id) <= ID_MAX);
}

function number(text: string): number {
  const value = Number(text);
  return Number.isInteger(value) && value >= 0 && value <= ID_MAX ? value : 0;
}
