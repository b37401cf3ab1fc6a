// Compiled plans by what they were compiled from, so that a configuration that comes again is neither checked nor
// compiled again. What differs between containers of one configuration (id, cgroups) is put in afterwards.

import type { Spec } from '../spec';
import type { Operation, Plan } from './operations';
import type { CompiledCreate, CreateContext } from './plan';

/** Of specs, and of contexts of each. A shim has one container, and seldom more. */
const ENTRIES_MAX = 4;

export class PlanCache {
  private readonly specs = new Map<string, Map<string, CompiledCreate>>();

  /** The compiled contexts of an equal configuration; `check` sees each configuration once. */
  contextsOf(spec: Spec, check: (spec: Spec) => void): Map<string, CompiledCreate> {
    const key = specKey(spec);
    const known = this.specs.get(key);
    if (known !== undefined) return known;
    check(spec);
    const contexts = new Map<string, CompiledCreate>();
    insert(this.specs, key, contexts);
    return contexts;
  }
}

/** @param contexts - of this configuration, as contextsOf() has given them */
export function compileCached(
  contexts: Map<string, CompiledCreate>,
  spec: Spec,
  context: CreateContext,
  compile: (spec: Spec, context: CreateContext) => CompiledCreate,
): CompiledCreate {
  const key = contextKey(spec, context);
  let template = contexts.get(key);
  if (template === undefined) {
    template = compile(spec, { ...context, id: '', cgroupFiles: [] });
    insert(contexts, key, template);
  }
  return { ...template, plan: complete(template.plan, context) };
}

/** The oldest makes room. */
function insert<T>(map: Map<string, T>, key: string, value: T): void {
  const oldest = map.keys().next();
  if (map.size >= ENTRIES_MAX && !oldest.done) map.delete(oldest.value);
  map.set(key, value);
}

/** A path of cgroups that is no text stays in, to be refused. */
function specKey(spec: Spec): string {
  const path = spec?.linux?.cgroupsPath;
  if (typeof path !== 'string' || /[\0\n]/.test(path)) return JSON.stringify(spec);
  return JSON.stringify({ ...spec, linux: { ...spec.linux, cgroupsPath: '' } });
}

/** The filter follows from the configuration; the container's cgroups are seen only where they are bound. */
function contextKey(spec: Spec, context: CreateContext): string {
  const { id: _id, cgroupFiles: _files, seccomp: _filter, mounts, ...rest } = context;
  const bindsCgroup =
    !mounts.privateCgroupNamespace && (spec.mounts ?? []).some(({ type }) => type?.startsWith('cgroup'));
  const { cgroup } = mounts;
  const shown = bindsCgroup
    ? cgroup
    : cgroup.version === 1
      ? cgroup.hierarchies.map(({ name, options }) => [name, options])
      : cgroup.version;
  return JSON.stringify([rest, { ...mounts, cgroup: shown }]);
}

function complete(plan: Plan, { id, cgroupFiles }: CreateContext): Plan {
  const operations: Operation[] = plan.operations.map((operation) =>
    operation.op === 'keyring' ? { op: 'keyring', name: `_ses.${id}` } : operation,
  );
  // Behind what the process writes of itself, which is written while it costs the container nothing.
  const first = operations.findIndex(({ op }) => op !== 'writeFile');
  operations.splice(first, 0, ...cgroupFiles.map((path) => ({ op: 'writeFile', path, data: '0' }) as const));
  return { ...plan, operations };
}
