// Results of native functions (0 or more, or -errno) as JavaScript errors of the shape that Node's own have.

import { getSystemErrorMap } from 'node:util';

/**
 * Passes a result on when it is not negative.
 * @throws an error with `code`, `errno` and `syscall`, as Node's fs throws them
 */
export function checkResult(result: number, syscall: string, path?: string): number {
  if (result < 0) throw systemError(result, syscall, path);
  return result;
}

/** The error for -errno. */
export function systemError(result: number, syscall: string, path?: string): NodeJS.ErrnoException {
  const [code, text] = getSystemErrorMap().get(result) ?? [`E${-result}`, 'unknown error'];
  const where = path === undefined ? '' : ` '${path}'`;
  return Object.assign(new Error(`${code}: ${text}, ${syscall}${where}`), {
    code,
    errno: result,
    syscall,
    ...(path === undefined ? {} : { path }),
  });
}
