// Translation of Go's regular expressions.

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

  it.each(['^(a+)+$', '(?m)^(a|a)*$', '(?s)(a*)*b.'])('does not backtrack for ever: %j', (source) => {
    expect(compileRegExp(source).test(`${'a'.repeat(100)}!`)).toBe(false);
  });

  it.each(['(a', 'a(?=b)', '(?<!a)b', '(a)\\1', '[[:nope:]]', 'a\\'])('refuses %j', (source) => {
    expect(() => compileRegExp(source)).toThrow(SyntaxError);
  });
});
