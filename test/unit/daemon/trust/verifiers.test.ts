// Programs that judge images: what they are told, what their answers mean, and what they cannot do.

import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { refusalOf } from '../../../../daemon/trust/verifiers';
import { isAlive } from '../../../integration/shim/harness';
import { waitFor } from '../../../setup/command';

const DIGEST = `sha256:${'a'.repeat(64)}`;
const IMAGE = {
  name: 'registry.example/team/app:1',
  target: { mediaType: 'application/vnd.oci.image.index.v1+json', digest: DIGEST, size: 7 },
};
const WAIT_MS = 60_000;

let directory: string;
let binDir: string;
let logged: string[];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'gantry-verifiers-'));
  binDir = join(directory, 'bin');
  mkdirSync(binDir);
  logged = [];
});

afterEach(() => rmSync(directory, { recursive: true }));

function program(name: string, body: string, mode = 0o755): void {
  const path = join(binDir, name);
  writeFileSync(path, `#!/bin/sh\n${body}\n`);
  chmodSync(path, mode);
}

function judge({ timeoutMs = WAIT_MS, maxVerifiers = 10, signal = new AbortController().signal } = {}) {
  const tell = (message: string, fields: object) => logged.push(`${message} ${JSON.stringify(fields)}`);
  const log = { warn: tell, debug: tell } as unknown as Parameters<typeof refusalOf>[2]['log'];
  return refusalOf(IMAGE, { binDir, maxVerifiers, timeoutMs }, { log, signal });
}

const file = (name: string) => join(directory, name);

describe('refusalOf()', () => {
  it('tells each verifier what the protocol says, and nothing else', async () => {
    program('a', `echo "$@" > ${file('args')}; cat > ${file('stdin')}; env > ${file('env')}; pwd > ${file('pwd')}`);
    program('b', `ls -l /proc/$$/fd > ${file('fds')}`);
    const open = openSync(file('secret'), 'w');
    process.env['GANTRY_SECRET'] = 'hidden';

    const refusal = await judge();

    delete process.env['GANTRY_SECRET'];
    closeSync(open);
    expect(refusal).toBeUndefined();
    expect(readFileSync(file('args'), 'utf8')).toBe(
      `-name ${IMAGE.name} -digest ${DIGEST} -stdin-media-type application/vnd.oci.descriptor.v1+json\n`,
    );
    expect(JSON.parse(readFileSync(file('stdin'), 'utf8'))).toEqual(IMAGE.target);
    expect(readFileSync(file('env'), 'utf8')).not.toContain('hidden');
    expect(readFileSync(file('pwd'), 'utf8')).toBe('/\n');
    expect(readFileSync(file('fds'), 'utf8')).toContain('/fds');
    expect(readFileSync(file('fds'), 'utf8')).not.toContain('/secret');
  });

  it('takes the word of all, in the order of their names', async () => {
    program('10-good', `echo good >> ${file('order')}`);
    program('20-bad', `echo bad >> ${file('order')}; echo "because  of"; echo reasons; exit 3`);
    program('30-never', `echo never >> ${file('order')}`);

    expect(await judge()).toBe('verifier 20-bad rejects it (exit code 3): because of reasons');
    expect(readFileSync(file('order'), 'utf8')).toBe('good\nbad\n');
  });

  it('accepts without verifiers, and says so where the directory is missing', async () => {
    expect(await judge()).toBeUndefined();
    expect(logged).toEqual([]);
    rmSync(binDir, { recursive: true });

    expect(await judge()).toBeUndefined();
    expect(logged).toEqual([expect.stringContaining('there is no such directory')]);
  });

  it('asks no more than it shall', async () => {
    program('a', 'exit 0');
    program('b', 'exit 1');

    expect(await judge({ maxVerifiers: 1 })).toBeUndefined();
    expect(logged).toEqual([expect.stringContaining('more than max_verifiers')]);
    expect(await judge({ maxVerifiers: -1 })).toContain('verifier b rejects it');
  });

  it('refuses when one cannot be run', async () => {
    program('plain', 'exit 0', 0o644);

    await expect(judge()).rejects.toMatchObject({ kind: 'permission denied' });
    await expect(judge()).rejects.toThrow(/image verifier .*plain: .*EACCES; only programs may be in this directory/);
    rmSync(join(binDir, 'plain'));
    mkdirSync(join(binDir, 'folder'));
    await expect(judge()).rejects.toThrow(/image verifier .*folder: .*EACCES/);
  });

  it('refuses when one ends by a signal', async () => {
    program('killed', 'kill -9 $$');

    await expect(judge()).rejects.toThrow(/killed: ended by SIGKILL: permission denied/);
  });

  it('refuses when one takes too long, and ends it with its children', async () => {
    program('slow', `sleep 1000 & echo $! > ${file('child')}; echo $$ > ${file('pid')}; wait`);

    await expect(judge({ timeoutMs: 10_000 })).rejects.toThrow(/slow: no answer within 10000 ms: permission denied/);

    for (const name of ['pid', 'child']) {
      const pid = Number(readFileSync(file(name), 'utf8'));
      await waitFor('the process to end', () => !isAlive(pid) || undefined, WAIT_MS);
    }
  });

  it('does not wait for what a verifier leaves behind', async () => {
    program('parent', `sleep 1000 & echo $! > ${file('child')}; exit 0`);

    expect(await judge()).toBeUndefined();

    const child = Number(readFileSync(file('child'), 'utf8'));
    await waitFor('the child to end', () => !isAlive(child) || undefined, WAIT_MS);
  });

  it('keeps only the beginning of long output, from one that reads nothing', async () => {
    program('loud', 'head -c 3000000 /dev/zero | tr "\\0" x; head -c 3000000 /dev/zero | tr "\\0" y >&2; exit 1');

    const refusal = await judge();

    expect(refusal).toMatch(/^verifier loud rejects it \(exit code 1\): x+\.\.\.$/);
    expect(refusal?.length).toBeLessThan(2000);
    expect(logged.join().length).toBeLessThan(40_000);
    expect(logged.join()).toContain('(truncated)');
  });

  it('stops when nobody waits any more', async () => {
    program('slow', `echo $$ > ${file('pid')}; exec sleep 1000`);
    const control = new AbortController();

    const judged = judge({ signal: control.signal });
    const ended = expect(judged).rejects.toThrow('gone');
    await waitFor('the verifier to run', () => existsSync(file('pid')) || undefined, WAIT_MS);
    control.abort(new Error('gone'));

    await ended;
  });
});
