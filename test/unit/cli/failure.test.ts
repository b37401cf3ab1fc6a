import { unreachable } from '../../../cli/client';
import { CommandError, exitCodeOf, sentenceOf, startFailureCode, usageError } from '../../../cli/failure';
import { alreadyExists, failedPrecondition, invalidArgument, notFound, unknown } from '../../../proto/errors';

test('exitCodeOf() tells kinds of failure apart', () => {
  expect(exitCodeOf(usageError('x'))).toBe(2);
  expect(exitCodeOf(notFound('x'))).toBe(4);
  expect(exitCodeOf(alreadyExists('x'))).toBe(5);
  expect(exitCodeOf(failedPrecondition('x'))).toBe(5);
  expect(exitCodeOf(invalidArgument('x'))).toBe(1);
  expect(exitCodeOf(unreachable('/run/x.sock', 'ENOENT'))).toBe(3);
  expect(exitCodeOf(new CommandError('x', 77))).toBe(77);
  expect(exitCodeOf(new Error('x'))).toBe(1);
});

test.each([
  ['exec: "x": executable file not found in $PATH: unknown', 127],
  ['unable to start container process: exec: "/x": stat /x: no such file or directory: unknown', 127],
  ['unable to start container process: exec: "/etc": is a directory: unknown', 126],
  ['unable to start container process: exec: "/etc/passwd": permission denied: unknown', 126],
  ['OCI runtime create failed: unable to apply caps: operation not permitted', 125],
  ['error mounting "/a": no such file or directory', 125],
])("startFailureCode() reads runc's words: %s", (text, code) => {
  expect(startFailureCode(unknown(text))).toBe(code);
});

test('sentenceOf() names the file of an errno error and drops empty class words', () => {
  const missing = Object.assign(new Error('ENOENT: ...'), { code: 'ENOENT', path: '/a/b' });

  expect(sentenceOf(missing)).toBe('/a/b: no such file or directory');
  expect(sentenceOf(unknown('runtime failed: unknown'))).toBe('runtime failed');
  expect(sentenceOf(unreachable('unix:///run/x.sock', 'ECONNREFUSED'))).toMatch(
    /^cannot reach gantryd at \/run\/x.sock: nobody answers/,
  );
});
