import { type FlagTable, parseFlags } from '../../../../runtime-native/command/flags';

const TABLE: FlagTable = {
  detach: { type: 'boolean', short: 'd', help: '' },
  env: { type: 'list', short: 'e', help: '' },
  format: { type: 'string', short: 'f', help: '' },
  count: { type: 'string', help: '' },
};

const parse = (...args: string[]) => parseFlags(args, TABLE, false);

describe('parseFlags()', () => {
  test('takes one dash or two, a value in the same word or the next', () => {
    const { flags, words } = parse('-detach', '--format=json', '-e', 'A=1', '--env', 'B=2=3', 'id');

    expect(flags.isSet('detach')).toBe(true);
    expect(flags.text('format')).toBe('json');
    expect(flags.list('env')).toEqual(['A=1', 'B=2=3']);
    expect(words).toEqual(['id']);
  });

  test('finds flags behind words, unless what follows is a command line', () => {
    expect(parse('id', '-d').flags.isSet('detach')).toBe(true);
    const { flags, words } = parseFlags(['-d', 'id', 'ls', '-f', '--', 'x'], TABLE, true);
    expect(flags.has('format')).toBe(false);
    expect(words).toEqual(['id', 'ls', '-f', '--', 'x']);
  });

  test('takes nothing for a flag behind "--", nor a single dash', () => {
    expect(parse('-', '--', '-d').words).toEqual(['-', '-d']);
  });

  test('a boolean can be switched off, and the last value counts', () => {
    expect(parse('--detach=false').flags.isSet('detach')).toBe(false);
    expect(parse('-f', 'a', '-f', 'b').flags.text('format')).toBe('b');
  });

  test('refuses what it does not know, and flags without their value', () => {
    expect(() => parse('--nothing')).toThrow('flag provided but not defined: -nothing');
    expect(() => parse('--format')).toThrow('flag needs an argument: -format');
  });

  test('count() refuses what is no whole number', () => {
    expect(parse('--count', '12').flags.count('count')).toBe(12);
    expect(parse('--count', '-1').flags.count('count')).toBe(-1);
    expect(parse().flags.count('count')).toBeUndefined();
    for (const text of ['', 'x', '1.5', '1e99']) {
      expect(() => parse('--count', text).flags.count('count')).toThrow('parse error');
    }
  });
});
