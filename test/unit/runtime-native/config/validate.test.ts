import { validateProcess, validateSpec } from '../../../../runtime-native/config/validate';
import type { Process, Spec } from '../../../../runtime-native/spec';
import { BAD_DOCUMENTS, type BadDocument } from './bad-documents';

const USER_MAPPING = [{ containerID: 0, hostID: 100_000, size: 65_536 }];

function goodDocument(): Spec {
  return {
    ociVersion: '1.3.0',
    process: { args: ['sh'], env: ['PATH=/bin'], cwd: '/', user: { uid: 0, gid: 0 } },
    root: { path: 'rootfs' },
    hostname: 'h',
    linux: { namespaces: ['mount', 'uts', 'network'].map((type) => ({ type })), resources: {} },
  };
}

function withValue(path: string, value: unknown): Spec {
  const document = goodDocument();
  const names = path.split('.');
  const last = names.pop() ?? '';
  const holder = names.reduce(
    (object, name) => object[name] as Record<string, unknown>,
    document as never as Record<string, unknown>,
  );
  holder[last] = value;
  return document;
}

describe('validateSpec()', () => {
  test('takes a good document', () => {
    expect(() => validateSpec(goodDocument())).not.toThrow();
  });

  test.each<BadDocument>(BAD_DOCUMENTS)('refuses %s = %j', (path, value, named = path) => {
    let message = 'accepted';
    try {
      validateSpec(withValue(path, value));
    } catch (error) {
      message = (error as Error).message;
    }

    expect(message.slice(0, named.length + 2)).toBe(`${named}: `);
    expect(message.length).toBeGreaterThan(named.length + 5);
  });

  test('takes null where Go writes it for nothing', () => {
    const document = withValue('linux.devices', null) as { process: object };

    expect(() => validateSpec({ ...document, hooks: null, mounts: null } as never)).not.toThrow();
  });

  test('takes fields of other platforms and of later versions', () => {
    expect(() => validateSpec({ ...goodDocument(), windows: { layerFolders: 7 }, later: true } as never)).not.toThrow();
  });

  test('takes "unlimited" as JSON.parse rounds it', () => {
    const limit = JSON.parse('18446744073709551615') as number;

    expect(() =>
      validateSpec(withValue('process.rlimits', [{ type: 'RLIMIT_CORE', soft: limit, hard: limit }])),
    ).not.toThrow();
    expect(() => validateSpec(withValue('linux.resources.memory', { limit: -1, swap: -1 }))).not.toThrow();
  });

  test('takes a user namespace with mappings, and refuses one that does not map id 0', () => {
    const namespaces = [{ type: 'mount' }, { type: 'user' }];
    const mapped = (mappings: object) => withValue('linux', { namespaces, uidMappings: USER_MAPPING, ...mappings });
    const shifted = [{ containerID: 1, hostID: 100_000, size: 10 }];

    expect(() => validateSpec({ ...mapped({ gidMappings: USER_MAPPING }), hostname: '' })).not.toThrow();
    expect(() => validateSpec(mapped({ gidMappings: shifted }))).toThrow('linux.gidMappings: must map id 0');
  });
});

describe('validateProcess()', () => {
  test('names fields as the configuration does', () => {
    const process: Process = { args: ['sh'], cwd: '/', user: { uid: 2 ** 31, gid: 0 } };

    expect(() => validateProcess(process)).toThrow(/^process\.user\.uid: /);
  });
});
