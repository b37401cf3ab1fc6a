// The contract of an OCI runtime's command line: limits, and what containers use.

import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { OciCommand } from './oci-command';
import type { KnownDeviations } from './oci-command.suite';
import { pidsOf } from './oci-lifecycle';

const MEGABYTE = 2 ** 20;
/** On cgroup v2 without a cgroup namespace a container sees its own cgroup, or all of them (runc, crun). */
const LIMIT = limitScript('memory/memory.limit_in_bytes', 'memory.max');
const PIDS = limitScript('pids/pids.max', 'pids.max');

export function resourceCases(command: () => OciCommand, known: KnownDeviations): void {
  const limited = () =>
    command().running(['sleep', '1000'], (spec) => {
      spec.linux.resources = { memory: { limit: 64 * MEGABYTE }, pids: { limit: 50 } } as never;
    });

  test('limits of the configuration hold from the start', async () => {
    const id = await limited();

    expect(await command().must('exec', id, 'sh', '-c', LIMIT)).toBe(`${64 * MEGABYTE}\n`);
    expect(await command().must('exec', id, 'sh', '-c', PIDS)).toBe('50\n');
  });

  test('update takes flags', async () => {
    const id = await limited();
    await command().must('update', '--memory', String(48 * MEGABYTE), '--pids-limit', '40', id);

    expect(await command().must('exec', id, 'sh', '-c', LIMIT)).toBe(`${48 * MEGABYTE}\n`);
    expect(await command().must('exec', id, 'sh', '-c', PIDS)).toBe('40\n');
  });

  test('update takes a document', async () => {
    const id = await limited();
    const path = join(command().directory, 'resources.json');
    writeFileSync(path, JSON.stringify({ memory: { limit: 32 * MEGABYTE } }));
    await command().must('update', '--resources', path, id);

    expect(await command().must('exec', id, 'sh', '-c', LIMIT)).toBe(`${32 * MEGABYTE}\n`);
    expect(await command().must('exec', id, 'sh', '-c', PIDS)).toBe('50\n');
  });

  if (!known.isCrun && !(known.looksNotBeforeUpdate && isUnified())) usageCases(command, limited);

  test('update of what resctrl would do is refused where there is none', async () => {
    const id = await command().running();
    for (const [flag, words] of [
      ['--l3-cache-schema', 'l3 cache schema is not enabled'],
      ['--mem-bw-schema', 'memory bandwidth schema is not enabled'],
    ] as const) {
      const value = flag === '--mem-bw-schema' ? 'MB:0=20' : 'L3:0=f';
      const { exitCode, stderr } = await command().call('update', flag, value, '--pids-limit', '40', id);

      expect(exitCode).not.toBe(0);
      expect(stderr).toContain(known.isCrun ? 'unrecognized option' : words);
      expect(await command().must('exec', id, 'sh', '-c', PIDS)).not.toBe('40\n');
    }
  });

  test('ps shows the processes by the pids of the host', async () => {
    const id = await command().running();
    const { pid } = await command().state(id);

    expect(await pidsOf(command(), id)).toEqual([pid]);
    const table = (await command().must('ps', id)).trim().split('\n');
    expect(table).toHaveLength(2);
    expect(table[0]).toContain('PID');
    expect(table[1]).toContain(String(pid));
  });
}

const isUnified = () => existsSync('/sys/fs/cgroup/cgroup.controllers');

/** What prints a limit of the container that it runs in. */
function limitScript(v1: string, v2: string): string {
  const files = [
    `/sys/fs/cgroup/${v1}`,
    `/sys/fs/cgroup/${v2}`,
    `/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)/${v2}`,
  ];
  return files.map((file) => `cat "${file}" 2>/dev/null`).join(' || ');
}

/** crun does not look before it sets. */
function usageCases(command: () => OciCommand, limited: () => Promise<string>): void {
  test('update with checkBeforeUpdate refuses a limit below what is in use, and kills nothing', async () => {
    const id = await limited();
    // Memory that cannot be taken back without swap.
    await command().must('exec', id, 'dd', 'if=/dev/zero', 'of=/dev/shm/used', 'bs=1M', 'count=24');
    const path = join(command().directory, 'resources.json');
    const limits = { limit: 8 * MEGABYTE, swap: 8 * MEGABYTE };
    writeFileSync(path, JSON.stringify({ memory: { ...limits, checkBeforeUpdate: true } }));
    const { exitCode, stderr } = await command().call('update', '--resources', path, id);

    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(
      /rejecting memory(\+swap)? limit 8388608|unable to set memory limit|[Dd]evice or resource busy/,
    );
    expect(await command().must('exec', id, 'sh', '-c', LIMIT)).toBe(`${64 * MEGABYTE}\n`);
    expect((await command().state(id)).status).toBe('running');
  });
}
