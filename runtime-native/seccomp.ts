import { unknown } from '../proto/errors';
import type { CompiledFilter } from './credentials';
import type { Seccomp } from './spec';

export function compileSeccomp(
  seccomp: Seccomp | null | undefined,
  _cacheDir: string | undefined,
): CompiledFilter | undefined {
  if (!seccomp) return undefined;
  throw unknown('seccomp comes next');
}
