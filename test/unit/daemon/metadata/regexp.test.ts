// Translation of Go's regular expressions.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { compileRegExp } from '../../../../daemon/metadata/regexp';

describe('compileRegExp()', () => {
  const cases: [source: string, text: string, expected: boolean][] = [
    ['^/tasks/', '/tasks/exit', true],
    ['a.c', 'a\nc', false],
    ['(?s)a.c', 'a\nc', true],
    ['(?i)ABC', 'abc', true],
    ['\\Aabc\\z', 'abc', true],
    ['\\Aabc\\z', 'abc\n', false],
    ['(?P<name>x)y', 'xy', true],
    ['[[:alpha:]]+-[[:digit:]]', 'ab-1', true],
    ['[^[:space:]]', ' ', false],
    ['\\Qa.b\\E+', 'a.bbb', true],
    ['a\\-b\\:c\\"d', 'a-b:c"d', true],
    ['sha256\\:[a-f0-9]{4}', 'sha256:abcd', true],
    ['x{,2}', 'x{,2}', true],
    ['\\x{1F600}', '\u{1F600}', true],
    ['\\pL+', 'é', true],
    ['a|b', 'b', true],
    ['[]a]', ']', true],
  ];
  it.each(cases)('%j on %j: %p', (source, text, expected) => {
    expect(compileRegExp(source).test(text)).toBe(expected);
  });

  it('does not backtrack for ever under the flags of the launcher', () => {
    const launcher = readFileSync(join(__dirname, '../../../../daemon/launcher.sh'), 'utf8');
    const flags = launcher.match(/--(enable-experimental-regexp|regexp)[a-z0-9=-]*/g) ?? [];
    const program = `process.stdout.write(String(${compileRegExp('^(a+)+$').toString()}.test('a'.repeat(40) + '!')));`;

    const answer = execFileSync(process.execPath, [...flags, '-e', program], { timeout: 60_000 }).toString();

    expect(flags).toHaveLength(2);
    expect(answer).toBe('false');
  });

  it.each(['(a', 'a(?=b)', '(?<!a)b', '(a)\\1', '[[:nope:]]', 'a\\'])('refuses %j', (source) => {
    expect(() => compileRegExp(source)).toThrow(SyntaxError);
  });
});
