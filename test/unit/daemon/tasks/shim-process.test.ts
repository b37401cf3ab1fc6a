import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Bundle } from '../../../../daemon/tasks/bundle';
import { killBundleProcesses, killShimProcess, killStrayShims } from '../../../../daemon/tasks/shim-process';

describe('shims as processes', () => {
  let directory: string;
  let state: string;
  let children: ChildProcess[];
  let bundle: Bundle;

  beforeEach(() => {
    directory = realpathSync(mkdtempSync(join(tmpdir(), 'gantry-shims-')));
    state = join(directory, 'state');
    children = [];
    bundle = new Bundle({ state, root: join(directory, 'root') }, { namespace: 'default', id: 'web' });
    bundle.create(Buffer.from('{}'));
  });

  afterEach(() => {
    for (const child of children) child.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  });

  async function workIn(cwd: string): Promise<ChildProcess & { pid: number }> {
    const child = spawn('sleep', ['60'], { cwd, stdio: 'ignore' });
    children.push(child);
    await new Promise((resolve) => child.once('spawn', resolve));
    return child as ChildProcess & { pid: number };
  }

  const exited = (child: ChildProcess) => new Promise((resolve) => child.once('exit', (_, signal) => resolve(signal)));

  test('killBundleProcesses() ends what works on the bundle and nothing else', async () => {
    const shim = await workIn(bundle.path);
    const other = await workIn(directory);
    const gone = exited(shim);

    await killBundleProcesses(bundle);

    expect(await gone).toBe('SIGKILL');
    expect(existsSync(`/proc/${other.pid}`)).toBe(true);
  });

  test('killShimProcess() leaves a process alone that does not work on the bundle', async () => {
    const other = await workIn(directory);

    await killShimProcess(other.pid, bundle);

    expect(existsSync(`/proc/${other.pid}/cwd`)).toBe(true);
  });

  test('killShimProcess() ends a shim whose bundle was removed', async () => {
    const shim = await workIn(bundle.path);
    const gone = exited(shim);
    await bundle.remove();

    await killShimProcess(shim.pid, bundle);

    expect(await gone).toBe('SIGKILL');
  });

  test('killStrayShims() ends shims whose bundle is gone, but for those in use', async () => {
    const stray = await workIn(bundle.path);
    const used = await workIn(bundle.path);
    const living = new Bundle({ state, root: join(directory, 'root') }, { namespace: 'default', id: 'db' });
    living.create(Buffer.from('{}'));
    const shim = await workIn(living.path);
    await bundle.remove();
    const gone = exited(stray);

    expect(killStrayShims(state, new Set([used.pid]))).toEqual([stray.pid]);

    expect(await gone).toBe('SIGKILL');
    for (const { pid } of [used, shim]) expect(existsSync(`/proc/${pid}/cwd`)).toBe(true);
  });
});
