// containerd.services.transfer.v1.Transfer: moves images between registries, archives and the store. A call that is
// cancelled stops the transfer.

import { invalidArgument } from '../../proto/errors';
import { TransferService } from '../../proto/generated/containerd.services.transfer.v1';
import { defineService, type Service } from '../grpc/handler';
import { withLease } from '../transfer/lease';
import type { TransferParts } from '../transfer/parts';
import { ProgressReport } from '../transfer/progress';
import { transferTable } from '../transfer/transfer';
import { leaseOf } from './leases';

export function transferService(parts: TransferParts): Service {
  const transfer = transferTable(parts);
  return defineService(TransferService, {
    transfer: async ({ source, destination, options }, context) => {
      const namespace = context.requireNamespace();
      if (source === undefined || destination === undefined) {
        throw invalidArgument('transfer needs a source and a destination');
      }
      const progressStream = options?.progressStream ?? '';
      const report = new ProgressReport(
        progressStream === '' ? undefined : parts.streams.get(namespace, progressStream),
      );
      try {
        await withLease(parts.db, { namespace, lease: leaseOf(context) }, (lease) =>
          transfer(source, destination, { owner: { namespace, lease, signal: context.signal }, report }),
        );
      } finally {
        await report.close();
      }
      return {};
    },
  });
}
