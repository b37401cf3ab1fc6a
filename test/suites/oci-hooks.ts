// The contract of an OCI runtime's command line: when hooks run, what they are told, and what their failure does
// (runtime-spec config.md, POSIX-platform hooks).

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Hooks } from '../../runtime-native/spec';
import type { OciCommand, SpecChange } from './oci-command';
import type { TestBundle } from './runtime-bundle';

const LOG = 'hooks.log';

export function hookCases(command: () => OciCommand, known: { readonly poststartAtCreate?: boolean }): void {
  const lines = () => {
    const path = join(command().bundle.path, LOG);
    return existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : [];
  };
  const names = () => lines().map((line) => line.split(' ')[0]);

  test('each kind runs with its operation, in the order of the configuration', async () => {
    const { id } = await command().create(
      ['sleep', '1000'],
      withHooks((bundle) => ({
        prestart: [tell('prestart', bundle), tell('prestart-2', bundle)],
        createRuntime: [tell('createRuntime', bundle)],
        createContainer: [tell('createContainer', bundle)],
        poststart: [tell('poststart', bundle), tell('poststart-2', bundle)],
        poststop: [tell('poststop', bundle), tell('poststop-2', bundle)],
      })),
    );
    const created = ['prestart', 'prestart-2', 'createRuntime', 'createContainer'];
    const started = [...created, 'poststart', 'poststart-2'];
    expect(names()).toEqual(known.poststartAtCreate ? started : created);

    await command().must('start', id);
    expect(names()).toEqual(started);

    await command().must('kill', id, 'KILL');
    await command().waitForStatus(id, 'stopped');
    expect(names()).toHaveLength(6);

    await command().must('delete', id);
    expect(names().slice(6)).toEqual(['poststop', 'poststop-2']);
  });

  test('they read the state', async () => {
    const { id, path } = await command().create(
      ['sleep', '1000'],
      withHooks((bundle) => ({
        createRuntime: [tell('createRuntime', bundle)],
        poststart: [tell('poststart', bundle)],
        poststop: [tell('poststop', bundle)],
      })),
    );
    const { pid } = await command().state(id);
    await command().must('start', id);
    await command().must('delete', '--force', id);

    const states = lines().map((line) => JSON.parse(line.slice(line.indexOf(' '))) as object);
    expect(states).toEqual([
      expect.objectContaining({ id, pid, bundle: path }),
      expect.objectContaining({ id, pid, bundle: path, status: known.poststartAtCreate ? 'created' : 'running' }),
      expect.objectContaining({ id, bundle: path, status: 'stopped' }),
    ]);
  });

  test('startContainer runs inside the container, before the program', async () => {
    const id = await command().running(['sh', '-c', 'echo program >> /order; sleep 1000'], (spec) => {
      spec.hooks = {
        startContainer: [{ path: '/bin/sh', args: ['sh', '-c', 'echo hook >> /order'], env: ['PATH=/bin'] }],
      } as never;
    });
    await command().must('exec', id, 'true');

    expect(readFileSync(join(command().bundle.rootfs, 'order'), 'utf8')).toMatch(/^hook\n/);
  });

  test('they get their environment and arguments, and no other', async () => {
    await command().create(
      ['true'],
      withHooks((bundle) => ({
        createRuntime: [
          {
            path: '/bin/sh',
            args: ['name', '-c', `echo "$0 $1 $(env | grep -c .) $ONE" >> ${join(bundle.path, LOG)}`, 'zero', 'first'],
            env: ['ONE=1', 'PATH=/usr/bin:/bin'],
          },
        ],
      })),
    );

    expect(lines()[0]).toMatch(/^zero first [3-5] 1$/);
  });

  test.each(['prestart', 'createRuntime', 'createContainer'] as const)(
    'a %s hook that fails ends create, and those behind it do not run',
    async (kind) => {
      const { id, path } = command().prepare(
        ['true'],
        withHooks((bundle) => ({
          [kind]: [failing(), tell('behind', bundle)],
        })),
      );

      expect((await command().detached('create', '--bundle', path, id)).code).not.toBe(0);
      expect(names()).not.toContain('behind');
      expect((await command().call('state', id)).exitCode).not.toBe(0);
      expect(await command().must('list', '--quiet')).toBe('');
    },
  );

  test('a startContainer hook that fails keeps the program from running', async () => {
    const { id } = await command().create(['sh', '-c', 'echo > /ran'], (spec) => {
      spec.hooks = { startContainer: [{ path: '/bin/false' }] } as never;
    });
    await command().call('start', id);

    await command().waitForStatus(id, 'stopped');
    expect(existsSync(join(command().bundle.rootfs, 'ran'))).toBe(false);
  });

  test('a hook that takes longer than its timeout is a failure', async () => {
    const { id, path } = command().prepare(
      ['true'],
      withHooks(() => ({
        createRuntime: [{ path: '/bin/sleep', args: ['sleep', '1000'], timeout: 1 }],
      })),
    );

    expect((await command().detached('create', '--bundle', path, id)).code).not.toBe(0);
  });
}

function withHooks(hooks: (bundle: TestBundle) => Hooks): SpecChange {
  return (spec, bundle) => {
    spec.hooks = hooks(bundle) as never;
  };
}

/** Writes its name and what it has read into the log. */
function tell(name: string, bundle: TestBundle) {
  const script = `echo "${name} $(cat)" >> ${join(bundle.path, LOG)}`;
  return { path: '/bin/sh', args: ['sh', '-c', script], env: ['PATH=/usr/bin:/bin'] };
}

function failing() {
  return { path: '/bin/sh', args: ['sh', '-c', 'exit 3'] };
}
