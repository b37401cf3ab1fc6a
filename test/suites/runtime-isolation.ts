// The runtime's contract: namespaces and cgroups.

import { readFileSync } from 'node:fs';
import { CGROUP_PARENT } from './runtime-bundle';
import type { Tools } from './runtime-case';

export function isolationCases({ out, sh }: Tools): void {
  test('the program is process 1 of its own pid namespace', async () => {
    expect(await out('echo $$; ps -o pid | wc -l')).toMatch(/^1\n[2-4]$/);
  });

  test('the hostname is its own', async () => {
    expect(await out('hostname')).toBe('box');
  });

  test('a new network namespace has a loopback that is up', async () => {
    expect(await out('ip -o link')).toMatch(/^1: lo: <LOOPBACK,UP/);
  });

  test('a namespace is shared with the host when it is not asked for', async () => {
    const own = readFileSync('/proc/sys/kernel/hostname', 'utf8').trim();
    const text = await out('hostname', (spec) => {
      spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'uts');
      spec.hostname = '';
    });

    expect(text).toBe(own);
  });

  test('sysctls of its own namespaces are set', async () => {
    expect(
      await out('cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax', (spec) => {
        spec.linux.sysctl = { 'net.ipv4.ip_unprivileged_port_start': '77', 'kernel.msgmax': '4096' };
      }),
    ).toBe('77\n4096');
  });

  test('the cgroups are those of the configuration', async () => {
    const text = await out('cat /proc/self/cgroup', (spec) => {
      spec.linux.resources = { ...spec.linux.resources, pids: { limit: 30 } };
    });

    expect(text).toMatch(new RegExp(`:/${CGROUP_PARENT}/`));
  });

  test('a private cgroup namespace hides where they are', async () => {
    const text = await out('cat /proc/self/cgroup', (spec) => {
      spec.linux.namespaces.push({ type: 'cgroup' } as never);
    });

    expect(text).not.toContain(CGROUP_PARENT);
  });

  test('devices that are not allowed cannot be opened', async () => {
    const result = await sh('mknod /dev/disk b 7 0; head -c 1 /dev/disk');

    expect(result.code).not.toBe(0);
    expect(result.stderr).toMatch(/Operation not permitted/);
  });

  test('a process limit holds', async () => {
    const result = await sh('(sleep 60 & sleep 60 & sleep 60 & sleep 60 & wait) 2>&1', (spec) => {
      spec.linux.resources = { ...spec.linux.resources, pids: { limit: 3 } };
    });

    expect(result.stdout + result.stderr).toMatch(/fork/);
  });

  test('memory beyond the limit ends the process', async () => {
    const result = await sh('dd if=/dev/zero of=/dev/null bs=64M count=1; echo $?', (spec) => {
      spec.linux.resources = { ...spec.linux.resources, memory: { limit: 16 << 20, swap: 16 << 20 } } as never;
    });

    expect(result.stdout).toBe('137\n');
  });
}
