// What was acknowledged is on disk: the order of system calls, and kill -9 during a storm of writes.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SPEC_URL } from '../../proto/any';
import { ContainersService } from '../../proto/generated/containerd.services.containers.v1';
import { NamespacesService } from '../../proto/generated/containerd.services.namespaces.v1';
import { VersionService } from '../../proto/generated/containerd.services.version.v1';
import { waitFor } from '../setup/command';
import { describeUnless, needsFile, testUnless } from '../setup/needs';
import { Gantryd, missingForDaemon } from './gantryd';
import { client } from './grpc-client';

const suite = describeUnless(missingForDaemon());

const ROUNDS = 5;
const WRITERS = 8;
const ROUND_MS_MAX = 30_000;
/** Of a label in an answer: the daemon writes nothing else as long at a time. */
const LABEL_BYTES = 3000;

suite('an acknowledged write', () => {
  let daemon: Gantryd;

  beforeEach(() => {
    daemon = new Gantryd();
  });

  afterEach(() => daemon.destroy());

  testUnless(needsFile('/usr/bin/strace', 'package strace'))('is synced before its answer is sent', async () => {
    const trace = join(daemon.directory, 'trace');
    // -D makes the tracer the child, so that signals reach the daemon.
    const calls = 'trace=pwrite64,fdatasync,write,writev,sendmsg';
    await daemon.start({
      wrapper: ['strace', '-D', '-f', '-yy', '-s', '0', '-e', calls, '-o', trace],
      flags: ['--log-level', 'error'],
    });
    const version = client(VersionService, daemon.address, 'n');
    await version.version({});
    const namespaces = client(NamespacesService, daemon.address, 'n');
    const before = lines(trace).length - 1;

    await namespaces.create({ namespace: { name: 'durable', labels: { label: 'x'.repeat(LABEL_BYTES) } } });

    // strace writes a line a moment after the call that it tells of.
    await waitFor('the answer in the trace', () => startOfAnswer(lines(trace)) >= 0);
    const after = lines(trace).slice(before);
    namespaces.close();
    version.close();
    const written = after.findIndex((line) => line.includes('pwrite64(') && line.includes('gantry.db-wal'));
    const synced = after.findIndex((line, index) => index > written && endOfSync(line));
    const answered = startOfAnswer(after);
    expect(written).toBeGreaterThanOrEqual(0);
    expect(synced).toBeGreaterThan(written);
    expect(answered).toBeGreaterThan(synced);
  });

  it('survives kill -9 at any moment', async () => {
    const acknowledged: string[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      await daemon.start({ flags: ['--log-level', 'error'] });
      const found = await readBack(daemon.address);
      expect(acknowledged.filter((id) => !found.has(id))).toEqual([]);
      const storm = Array.from({ length: WRITERS }, (_, writer) =>
        write(daemon.address, `r${round}w${writer}`, acknowledged),
      );
      // By answers and not by the clock alone: on a busy machine the first ones take long.
      const enough = acknowledged.length + 2 * WRITERS;
      const deadline = Date.now() + ROUND_MS_MAX;
      while (acknowledged.length < enough && Date.now() < deadline) await sleep(1);
      await sleep(Math.random() * 400);
      expect(await daemon.stop('SIGKILL')).toBe('SIGKILL');
      await Promise.all(storm);
    }

    await daemon.start({ flags: ['--log-level', 'error'] });
    const found = await readBack(daemon.address);

    expect(acknowledged.length).toBeGreaterThan(ROUNDS * WRITERS);
    expect(acknowledged.filter((id) => !found.has(id))).toEqual([]);
  });
});

/** Creates containers until the daemon is gone; the id is noted when the answer came. */
async function write(address: string, prefix: string, acknowledged: string[]): Promise<void> {
  const containers = client(ContainersService, address, prefix);
  const spec = { typeUrl: SPEC_URL, value: Buffer.from('{}') };
  try {
    for (let index = 0; ; index += 1) {
      const id = `${prefix}.${index}`;
      await containers.create({ container: { id, runtime: { name: 'r' }, spec } }, { timeoutMs: 60_000 });
      acknowledged.push(id);
    }
  } catch {
    // The daemon was killed: what was not answered may or may not be there.
  } finally {
    containers.close();
  }
}

async function readBack(address: string): Promise<Set<string>> {
  const namespaces = client(NamespacesService, address, 'any');
  const containers = client(ContainersService, address, 'any');
  try {
    const found = new Set<string>();
    for (const { name } of (await namespaces.list({})).namespaces) {
      for (const { id } of (await containers.list({}, { namespace: name })).containers) found.add(id);
    }
    return found;
  } finally {
    namespaces.close();
    containers.close();
  }
}

function lines(path: string): string[] {
  return readFileSync(path, 'utf8').split('\n');
}

/** A sync of the WAL that succeeded, in one line or resumed after lines of other threads. */
function endOfSync(line: string): boolean {
  return /fdatasync(\(.*gantry\.db-wal>\)| resumed>\))\s+= 0/.test(line);
}

/** Where the answer with the label is written, in one line or resumed after lines of other threads; -1: not yet. */
function startOfAnswer(trace: readonly string[]): number {
  const end = trace.findIndex((line) => {
    const match =
      /^\d+ +(?:(?:write|writev|sendmsg)\(\d+<UNIX-STREAM:|<\.\.\. (?:write|writev|sendmsg) resumed>).* = (\d+)$/.exec(
        line,
      );
    return match !== null && Number(match[1]) > LABEL_BYTES;
  });
  const resumed = /^(\d+ +)<\.\.\. (\w+) resumed>/.exec(trace[end] ?? '');
  return resumed === null
    ? end
    : trace.findLastIndex((line, at) => at < end && line.startsWith(`${resumed[1]}${resumed[2]}(`));
}
