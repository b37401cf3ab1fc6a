// What tests of gantry's runtime library share: for each test a bundle, ways to make containers in it, and a look
// afterwards that nothing of them is left.

import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Container, type CreateOptions } from '../../runtime-native/index';
import type { Spec } from '../../runtime-native/spec';
import {
  CGROUP_PARENT,
  type Mutable,
  makeBundle,
  makeSpec,
  mountsBelow,
  removeCgroupParents,
  type TestBundle,
} from './runtime-bundle';
import { collectExits, Output, waitForExit } from './runtime-library';

export type SpecChange = (spec: Mutable<Spec>) => void;

const NO_CHANGE: SpecChange = () => {};

export class RuntimeBench {
  readonly #containers: Container[] = [];
  readonly #outputs: Output[] = [];
  #root: string | undefined;
  #bundle: TestBundle | undefined;
  #counter = 0;

  /** State directory of the runtime. */
  get root(): string {
    this.#root ??= mkdtempSync(join(tmpdir(), 'gantry-runtime-root-'));
    return this.#root;
  }

  /** The one of this test. */
  get bundle(): TestBundle {
    this.#bundle ??= makeBundle();
    return this.#bundle;
  }

  /** What the runtime suite's RuntimeUnderTest runs. */
  specOf(args: readonly string[], change = NO_CHANGE): { id: string; bundle: TestBundle; spec: Spec } {
    const id = `c${++this.#counter}`;
    const spec = makeSpec(this.bundle, id, args);
    change(spec);
    return { id: `${this.bundle.name}-${id}`, bundle: this.bundle, spec: spec as Spec };
  }

  optionsFor(args: readonly string[], change = NO_CHANGE): CreateOptions {
    const { id, bundle, spec } = this.specOf(args, change);
    return { id, bundle: bundle.path, spec, rootfs: bundle.rootfs, io: this.newOutput().io, root: this.root };
  }

  newOutput(): Output {
    const output = new Output();
    this.#outputs.push(output);
    return output;
  }

  /** Deleted after the test. */
  async create(options: CreateOptions): Promise<Container> {
    const container = await Container.create(options);
    this.#containers.push(container);
    return container;
  }

  /** Created and started. */
  async running(args: readonly string[] = ['sleep', '1000'], change = NO_CHANGE): Promise<Container> {
    const container = await this.create(this.optionsFor(args, change));
    await container.start();
    return container;
  }

  /** Runs a process in a container to its end. */
  async exec(
    container: Container,
    args: readonly string[],
    change: object = {},
  ): Promise<{ code: number; stdout: string; stderr: string }> {
    const output = this.newOutput();
    const process = { args, cwd: '/', env: ['PATH=/bin'], user: { uid: 0, gid: 0 }, ...change };
    const { pid } = await container.exec({ execId: 'e', process, io: output.io });
    const { code } = await waitForExit(pid);
    return { code, ...output.read() };
  }

  /** To be called after each test. */
  async clean(): Promise<void> {
    for (const container of this.#containers.splice(0)) await container.delete();
    for (const output of this.#outputs.splice(0)) output.close();
    const { name, path } = this.bundle;
    expect(readdirSync(this.root)).toEqual([]);
    expect(cgroupsOf(name)).toEqual([]);
    expect(mountsBelow(path)).toEqual([]);
    this.bundle.remove();
    this.#bundle = undefined;
  }
}

/** A bench for the tests of the describe() around it. */
export function useRuntime(): RuntimeBench {
  const bench = new RuntimeBench();
  let stop = () => {};
  beforeAll(() => {
    stop = collectExits();
  });
  afterEach(() => bench.clean());
  afterAll(() => {
    stop();
    removeCgroupParents();
    rmSync(bench.root, { recursive: true, force: true });
  });
  return bench;
}

/** The cgroups of a bundle's containers in all hierarchies. */
export function cgroupsOf(name: string): string[] {
  return ['.', ...readdirSync('/sys/fs/cgroup')]
    .map((hierarchy) => join('/sys/fs/cgroup', hierarchy, CGROUP_PARENT))
    .filter((directory) => existsSync(directory))
    .flatMap((directory) =>
      readdirSync(directory)
        .filter((entry) => entry.startsWith(name))
        .map((entry) => join(directory, entry)),
    );
}
