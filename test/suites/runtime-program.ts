// A runtime as a command line, for the runtime contract.

import { execFile } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RunResult, RuntimeUnderTest } from './runtime-case';

export function runtimeProgram(program: string, state: string): RuntimeUnderTest {
  return {
    run({ id, bundle, spec }): Promise<RunResult> {
      mkdirSync(state, { recursive: true });
      const directory = join(bundle.path, id);
      mkdirSync(directory);
      writeFileSync(join(directory, 'config.json'), JSON.stringify(spec));
      return new Promise((resolve) => {
        const child = execFile(
          program,
          ['--root', state, 'run', '--bundle', directory, id],
          (failure, stdout, stderr) => {
            const error = /msg="(runc run failed: .*)"/
              .exec(stderr)?.[1]
              ?.replaceAll('\\"', '"')
              .replaceAll('\\\\', '\\');
            const code = failure === null ? 0 : Number(failure.code ?? -1);
            resolve({ error, code, stdout, stderr: stderr.replaceAll(/^time=.*\n/gm, '') });
          },
        );
        child.stdin?.end();
      });
    },
  };
}
