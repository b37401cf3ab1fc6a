// The syntax of the command line, which is that of runc: flags with one or two dashes, a value after "=" or as the next
// word, and repeated flags where a command takes lists.

import { unknown } from '../../proto/errors';

/** What a flag takes. An "optional" one takes a value only behind "=". */
export type FlagType = 'boolean' | 'string' | 'list';

export interface Flag {
  readonly type: FlagType;
  readonly help: string;
  /** One letter. */
  readonly short?: string;
}

export type FlagTable = Readonly<Record<string, Flag>>;

export class Flags {
  private readonly values = new Map<string, string[]>();

  add(name: string, value: string): void {
    this.values.set(name, [...(this.values.get(name) ?? []), value]);
  }

  has(name: string): boolean {
    return this.values.has(name);
  }

  /** The last one given. */
  text(name: string): string | undefined {
    return this.values.get(name)?.at(-1);
  }

  list(name: string): readonly string[] {
    return this.values.get(name) ?? [];
  }

  isSet(name: string): boolean {
    const value = this.text(name);
    return value !== undefined && value !== 'false';
  }

  /** Undefined for "auto", and when it is not given. @throws UNKNOWN for what Go would not take for a truth value */
  automatic(name: string): boolean | undefined {
    const value = this.text(name) ?? '';
    if (value === '' || value === 'auto') return undefined;
    if (/^(1|t|T|TRUE|true|True)$/.test(value)) return true;
    if (/^(0|f|F|FALSE|false|False)$/.test(value)) return false;
    throw unknown(`invalid value "${value}" for flag -${name}: true, false or auto`);
  }

  /** @throws UNKNOWN for what is no whole number */
  count(name: string): number | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const count = Number(value);
    if (value.trim() === '' || !Number.isSafeInteger(count)) {
      throw unknown(`invalid value "${value}" for flag -${name}: parse error`);
    }
    return count;
  }
}

/** Where a list of words ends up: flags, then the words that are none. */
export interface Parsed {
  readonly flags: Flags;
  readonly words: readonly string[];
}

/**
 * @param stopAtWord - what follows the first word is not looked at: the command line of a program
 * @throws UNKNOWN for flags that the table does not have, or without their value
 */
export function parseFlags(args: readonly string[], table: FlagTable, stopAtWord: boolean): Parsed {
  const flags = new Flags();
  const words: string[] = [];
  for (let index = 0; index < args.length; index++) {
    const arg = args[index] ?? '';
    if (arg === '--') {
      words.push(...args.slice(index + 1));
      break;
    }
    const match = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(arg);
    if (match === null) {
      words.push(arg);
      if (!stopAtWord) continue;
      words.push(...args.slice(index + 1));
      break;
    }
    const name = fullName(match[1] ?? '', table);
    const { type } = table[name] ?? { type: 'boolean' };
    const value = match[2] ?? (type === 'boolean' ? 'true' : args[++index]);
    if (value === undefined) throw unknown(`flag needs an argument: -${match[1]}`);
    flags.add(name, value);
  }
  return { flags, words };
}

function fullName(name: string, table: FlagTable): string {
  if (table[name] !== undefined) return name;
  const found = Object.entries(table).find(([, { short }]) => short === name);
  if (found === undefined) throw unknown(`flag provided but not defined: -${name}`);
  return found[0];
}
