// The runtime's contract: hooks.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestBundle } from './runtime-bundle';
import type { Tools } from './runtime-case';

export function hookCases({ run, sh }: Tools): void {
  test('each kind runs at its time and reads the state', async () => {
    const log = (kind: string, bundle: TestBundle) => ({
      path: '/bin/sh',
      args: ['sh', '-c', `echo "${kind} $(cat)" >> ${join(bundle.path, 'hooks.log')}`],
      env: ['PATH=/usr/bin:/bin'],
    });
    let path = '';
    const result = await sh('echo ran', (spec, bundle) => {
      path = join(bundle.path, 'hooks.log');
      const inside = {
        path: '/bin/sh',
        args: ['sh', '-c', 'echo startContainer >> /tmp/hooks.log; cat >> /tmp/hooks.log'],
      };
      spec.hooks = {
        prestart: [log('prestart', bundle)],
        createRuntime: [log('createRuntime', bundle)],
        createContainer: [log('createContainer', bundle)],
        startContainer: [inside],
        poststart: [log('poststart', bundle)],
        poststop: [log('poststop', bundle)],
      } as never;
    });

    expect(result).toMatchObject({ error: undefined, code: 0, stdout: 'ran\n' });
    const lines = readFileSync(path, 'utf8').trim().split('\n');
    expect(lines.map((line) => line.split(' ')[0])).toEqual([
      'prestart',
      'createRuntime',
      'createContainer',
      'poststart',
      'poststop',
    ]);
    expect(lines[0]).toMatch(/"status":"creating"/);
    expect(lines[4]).toMatch(/"status":"stopped"/);
    const state = JSON.parse(lines[0]?.slice('prestart '.length) ?? '') as { pid: number; bundle: string };
    expect(state.pid).toBeGreaterThan(1);
    expect(readFileSync(join(path, '../rootfs/tmp/hooks.log'), 'utf8')).toMatch(/^startContainer\n\{.*\}/);
  });

  test('one that fails ends create and tells its output', async () => {
    const { error } = await run(['true'], (spec) => {
      spec.hooks = { prestart: [{ path: '/bin/sh', args: ['sh', '-c', 'echo out; echo err >&2; exit 3'] }] } as never;
    });

    expect(error).toContain('error running hook: exit status 3, stdout: out\\n, stderr: err\\n');
  });

  test('one that is missing ends create', async () => {
    const { error } = await run(['true'], (spec) => {
      spec.hooks = { createRuntime: [{ path: '/no/such' }] } as never;
    });

    expect(error).toContain('error running hook #0: fork/exec /no/such: no such file or directory');
  });

  test('one that takes too long is killed', async () => {
    const { error } = await run(['true'], (spec) => {
      spec.hooks = { prestart: [{ path: '/bin/sleep', args: ['sleep', '20'], timeout: 1 }] } as never;
    });

    expect(error).toContain('hook ran past specified timeout of 1.0s');
  });
}
