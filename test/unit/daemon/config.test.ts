// Configuration: defaults, file, flags, and one clear sentence for every mistake.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DEFAULT_CONFIG, loadConfig, printConfig } from '../../../daemon/config';
import { SCHEDULER_DEFAULTS } from '../../../daemon/gc/scheduler';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'gantry-config-'));
});

afterEach(() => rmSync(directory, { recursive: true }));

function file(text: string): string {
  const path = join(directory, 'config.toml');
  writeFileSync(path, text);
  return path;
}

describe('loadConfig()', () => {
  it('has the documented defaults', () => {
    const config = loadConfig(file(''), {});

    expect(config).toMatchObject({
      root: '/var/lib/gantryd',
      state: '/run/gantryd',
      address: '/run/gantryd/gantryd.sock',
      log: { level: 'info', format: 'text' },
      grpc: { messageBytesMax: 16 * 1024 * 1024 },
      runtimes: {},
      content: { sharingPolicy: 'shared' },
      gc: SCHEDULER_DEFAULTS,
      overlayfs: { mountOptions: [] },
      erofs: { mountOptions: [], mkfsOptions: ['-zlz4'] },
      registry: {
        hostsDirectories: ['/etc/gantryd/hosts.d', '/etc/containerd/certs.d', '/etc/docker/certs.d'],
        dockerConfig: '',
        connectionsPerHostMax: 8,
        stallMs: 30_000,
        bytesPerSecondMin: 1024,
      },
    });
    expect(loadConfig(file(DEFAULT_CONFIG), {})).toEqual(config);
  });

  it('reads proxy plug-ins, and refuses bad ones', () => {
    const plugin = (text: string) => file(`[proxy_plugins.remote]\n${text}`);

    expect(loadConfig(plugin('type = "snapshot"\naddress = "/run/s"'), {}).proxies).toEqual([
      { name: 'remote', address: '/run/s', snapshotter: 'remote', capabilities: [], exports: {} },
    ]);
    const full =
      'type = "snapshot"\naddress = "/run/s"\nsnapshotter = "x"\ncapabilities = ["rebase"]\nexports = { root = "/d" }';
    const printed = printConfig(loadConfig(plugin(full), {}));
    expect(loadConfig(file(printed), {}).proxies).toEqual(loadConfig(plugin(full), {}).proxies);
    expect(loadConfig(plugin(full), {}).proxies).toEqual([
      { name: 'remote', address: '/run/s', snapshotter: 'x', capabilities: ['rebase'], exports: { root: '/d' } },
    ]);
    for (const [text, words] of [
      ['type = "content"\naddress = "/run/s"', /"proxy_plugins.remote.type" must be "snapshot", not "content"/],
      ['type = "snapshot"', /"proxy_plugins.remote.address" must be the absolute path of a socket/],
      [`type = "snapshot"\naddress = "/${'x'.repeat(107)}"`, /at most 107 bytes/],
      ['type = "snapshot"\naddress = "/s"\nplatform = "x"', /"proxy_plugins.remote.platform" is not known/],
      ['type = "snapshot"\naddress = "/s"\ncapabilities = "x"', /must be a list of strings/],
      ['type = "snapshot"\naddress = "/s"\nexports = { a = 1 }', /must be a table of strings/],
    ] as const) {
      expect(() => loadConfig(plugin(text), {})).toThrow(words);
    }
    expect(() => loadConfig(file('[proxy_plugins.native]\ntype = "snapshot"\naddress = "/s"'), {})).toThrow(
      /has the name of one of gantry's own snapshotters/,
    );
    expect(() => loadConfig(file('[proxy_plugins]\nremote = 1'), {})).toThrow(/"proxy_plugins.remote" must be a table/);
  });

  it('lets flags win over the file and the file over the defaults', () => {
    const path = file('root = "/a"\nstate = "/b"\n[log]\nlevel = "warn"\nformat = "json"');

    const config = loadConfig(path, { root: '/c', logLevel: 'debug' });

    expect(config).toMatchObject({ root: '/c', state: '/b', log: { level: 'debug', format: 'json' } });
  });

  it('puts the socket into the state directory unless it is set', () => {
    expect(loadConfig(file('state = "/s"'), {}).address).toBe('/s/gantryd.sock');
    expect(loadConfig(file('state = "/s"'), { state: '/t' }).address).toBe('/t/gantryd.sock');
    expect(loadConfig(file('state = "/s"\naddress = "/x"'), {}).address).toBe('/x');
    expect(loadConfig(file('state = "/s"\naddress = "/x"'), { address: '/y' }).address).toBe('/y');
  });

  it('takes any runtime name', () => {
    const path = file('[runtimes]\n"io.containerd.runc.v2" = "/usr/bin/containerd-shim-runc-v2"');

    expect(loadConfig(path, {}).runtimes).toEqual({ 'io.containerd.runc.v2': '/usr/bin/containerd-shim-runc-v2' });
  });

  const mistakes: [text: string, message: RegExp][] = [
    ['root = ', /config\.toml:1:\d+: /],
    ['\n\nroot "x"', /config\.toml:3:\d+: /],
    ['rooot = "/x"', /unknown key "rooot"/],
    ['[log]\nlevle = "x"', /unknown key "log\.levle"/],
    ['root = 5', /"root" must be a string/],
    ['root = "relative"', /"root" must be an absolute path, not "relative"/],
    ['root = "/x"\nstate = "/x/"', /"root" and "state" must be different directories/],
    ['log = "info"', /"log" must be a table/],
    ['[log]\nlevel = "loud"', /"log\.level" must be one of error, warn, info, debug, not "loud"/],
    ['[gc]\npause_threshold = 0.6', /"gc\.pause_threshold" must be from 0 to 0\.5, not 0\.6/],
    ['[gc]\npause_threshold = nan', /"gc\.pause_threshold" must be from 0 to 0\.5/],
    ['[grpc]\nmax_message_bytes = 1000', /"grpc\.max_message_bytes" must be from 1048576 to 1073741824, not 1000/],
    ['[gc]\nmutation_threshold = -1', /"gc\.mutation_threshold" must be from 0/],
    ['[gc]\nmutation_threshold = 1.5', /"gc\.mutation_threshold" must be a whole number/],
    ['[gc]\nmutation_threshold = "1"', /"gc\.mutation_threshold" must be a number/],
    ['[runtimes]\nx = 5', /"runtimes\.x" must be a string/],
    ['[runtimes]\nx = ""', /"runtimes\.x" must be a string that names a program/],
    ['[content]\nsharing_policy = "none"', /"content\.sharing_policy" must be one of shared, isolated/],
    ['[registry]\ndocker_config = "config.json"', /"registry": "config.json" must be an absolute path/],
    ['[registry]\nstall_timeout_ms = 5', /"registry\.stall_timeout_ms" must be from 1000/],
    ['[snapshotter.overlayfs]\nmount_options = "x"', /"snapshotter\.overlayfs\.mount_options" must be/],
    [
      '[snapshotter.overlayfs]\nmount_options = [1]',
      /"snapshotter\.overlayfs\.mount_options" must be a list of strings/,
    ],
  ];
  it.each(mistakes)('refuses %j in one sentence', (text, message) => {
    let caught = '';
    try {
      loadConfig(file(text), {});
    } catch (error) {
      caught = (error as Error).message;
    }

    expect(caught).toMatch(message);
    expect(caught).not.toContain('\n');
  });

  it('names the flag when the mistake is in a flag', () => {
    expect(() => loadConfig(file(''), { state: 'here' })).toThrow(/^flag --state must be an absolute path, not "here"/);
    expect(() => loadConfig(file(''), { logLevel: 'loud' })).toThrow(/^flag --log-level must be one of error, warn,/);
  });

  it('refuses a file that is named and not there', () => {
    expect(() => loadConfig(join(directory, 'nope'), {})).toThrow(/config .*nope: ENOENT/);
  });
});

describe('printConfig()', () => {
  it('prints what loads to the same configuration', () => {
    const text =
      '[runtimes]\n"a.b" = "/x"\n[gc]\nschedule_delay_ms = 5\n[snapshotter.overlayfs]\nmount_options = ["x"]\n[registry]\nhosts_directories = []';
    const config = loadConfig(file(text), { root: '/r' });

    expect(loadConfig(file(printConfig(config)), {})).toEqual(config);
  });
});
