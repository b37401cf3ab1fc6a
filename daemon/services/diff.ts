// containerd.services.diff.v1.Diff.

import { invalidArgument, notImplemented } from '../../proto/errors';
import { DiffService } from '../../proto/generated/containerd.services.diff.v1';
import { type ApplyDeps, applyLayer } from '../diff/apply';
import { defineService, type Service } from '../grpc/handler';

export function diffService(deps: ApplyDeps): Service {
  return defineService(DiffService, {
    apply: async ({ diff, mounts, syncFs }, context) => {
      const namespace = context.requireNamespace();
      if (diff === undefined) throw invalidArgument('diff descriptor is required');
      const { signal } = context;
      return { applied: await applyLayer(deps, { namespace, diff, mounts, syncFs, signal }) };
    },
    diff: () => {
      throw notImplemented('creating a layer from two mounts');
    },
  });
}
