// The contract of an OCI runtime, seen from inside its containers and from its exit statuses and errors. The cases run
// on gantry's runtime and, to know that they are right, on runc where it is installed.

import type { Spec } from '../../runtime-native/spec';
import { makeBundle, makeSpec, type TestBundle } from './runtime-bundle';
import type { Change, RuntimeUnderTest } from './runtime-case';
import { errorCases } from './runtime-errors';
import { filesystemCases } from './runtime-filesystem';
import { hookCases } from './runtime-hooks';
import { isolationCases } from './runtime-isolation';
import { processCases } from './runtime-process';
import { userCases } from './runtime-user';

/** Defines the cases for one runtime. */
export function runtimeSuite(runtime: RuntimeUnderTest): void {
  let bundle: TestBundle;
  let counter = 0;
  beforeAll(() => {
    bundle = makeBundle();
  });
  afterAll(() => bundle.remove());

  const run = (args: readonly string[], change: Change = () => {}) => {
    const id = `s${++counter}`;
    const spec = makeSpec(bundle, id, args);
    change(spec, bundle);
    return runtime.run({ id: `${bundle.name}-${id}`, bundle, spec: spec as Spec });
  };
  const sh = (script: string, change?: Change) => run(['sh', '-c', script], change);
  const out = async (script: string, change?: Change) => {
    const result = await sh(script, change);
    expect(result.error).toBeUndefined();
    return result.stdout.trim();
  };

  describe('process', () => {
    processCases({ run, sh, out });
  });
  describe('root filesystem', () => {
    filesystemCases({ run, sh, out });
  });
  describe('isolation', () => {
    isolationCases({ run, sh, out });
  });
  describe('namespaces and ids', () => {
    userCases({ run, sh, out });
  });
  describe('errors of create', () => {
    errorCases({ run, sh, out });
  });
  describe('hooks', () => {
    hookCases({ run, sh, out });
  });
}
