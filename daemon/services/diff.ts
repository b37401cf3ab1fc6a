// containerd.services.diff.v1.Diff.

import { invalidArgument } from '../../proto/errors';
import { DiffService } from '../../proto/generated/containerd.services.diff.v1';
import { type ApplyDeps, applyLayer } from '../diff/apply';
import { createLayer } from '../diff/create';
import { defineService, type Service } from '../grpc/handler';
import { checkLabels } from '../metadata/labels';
import { leaseOf } from './leases';

export function diffService(deps: ApplyDeps): Service {
  return defineService(DiffService, {
    apply: async ({ diff, mounts, syncFs }, context) => {
      const namespace = context.requireNamespace();
      if (diff === undefined) throw invalidArgument('diff descriptor is required');
      const { signal } = context;
      return { applied: await applyLayer(deps, { namespace, diff, mounts, syncFs, signal }) };
    },
    diff: async ({ left, right, mediaType, ref, labels, sourceDateEpoch }, context) => ({
      diff: await createLayer(deps, {
        namespace: context.requireNamespace(),
        lease: leaseOf(context),
        left,
        right,
        mediaType,
        ref,
        labels: checkLabels(labels),
        epochSeconds: sourceDateEpoch === undefined ? undefined : Number(sourceDateEpoch.seconds),
        signal: context.signal,
      }),
    }),
  });
}
