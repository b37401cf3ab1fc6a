// Information about a runtime: what its shim prints for -info (shim v2 protocol).

import { spawn } from 'node:child_process';
import { buffer, text } from 'node:stream/consumers';
import { packAny, unpackAny } from '../../proto/any';
import { invalidArgument, messageOf, unknown } from '../../proto/errors';
import { RuntimeInfo, RuntimeRequest } from '../../proto/generated/containerd.types';
import { Any } from '../../proto/generated/google.protobuf';
import type { RuntimeResolver } from './runtimes';

const DEFAULT_RUNTIME = 'io.containerd.runc.v2';
const TIMEOUT_MS = 5000;

/**
 * Answers a containerd.types.RuntimeRequest with a containerd.types.RuntimeInfo.
 * @throws INVALID_ARGUMENT for another request, UNKNOWN when the shim's program is missing or fails
 */
export async function runtimeInfo(resolver: RuntimeResolver, request: Any, signal: AbortSignal): Promise<Any> {
  const { runtimePath, options } = unpackAny(RuntimeRequest, request);
  const { path } = resolver.resolve(runtimePath === '' ? DEFAULT_RUNTIME : runtimePath);
  const output = await runInfo(path, options, signal);
  try {
    return packAny(RuntimeInfo, RuntimeInfo.decode(output));
  } catch (error) {
    throw invalidArgument(`runtime info of "${path}": ${messageOf(error)}`, { cause: error });
  }
}

async function runInfo(path: string, options: Any | undefined, signal: AbortSignal): Promise<Buffer> {
  const child = spawn(path, ['-info'], {
    stdio: ['pipe', 'pipe', 'pipe'],
    signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
  });
  const exit = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  // The shim may end without reading its input.
  child.stdin.on('error', () => {});
  child.stdin.end(options === undefined ? undefined : Any.encode(options));
  try {
    const [output, errors, code] = await Promise.all([buffer(child.stdout), text(child.stderr), exit]);
    if (code !== 0) throw new Error(`exit status ${code}: ${errors.trim()}`);
    return output;
  } catch (error) {
    throw unknown(`failed to run "${path} -info": ${messageOf(error)}`, { cause: error });
  }
}
