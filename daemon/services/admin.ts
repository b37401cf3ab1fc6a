// gantry.admin.v1.Admin: what gantryd tells and does beyond containerd's API. Only conversions here; the work is done in
// gc/, registry/ and transfer/.

import type { Input } from '../../proto/codec';
import { messageOf } from '../../proto/errors';
import {
  AdminService,
  type CollectResponse,
  ImageState,
  type VerifyImageRequest,
  type ImageFinding as WireFinding,
  type Usage as WireUsage,
} from '../../proto/generated/gantry.admin.v1';
import type { Snapshotter } from '../../snapshotter/snapshotter';
import type { Collector, GcResult } from '../gc/collector';
import { diskUsage, type Usage } from '../gc/usage';
import { type CallContext, defineService, type Service } from '../grpc/handler';
import { targetOf } from '../images/image-records';
import { anyPlatform, exactly } from '../images/platform';
import { parseReference } from '../registry/reference';
import { BlobProgress } from '../transfer/blob-progress';
import { withLease } from '../transfer/lease';
import { ProgressReport } from '../transfer/progress';
import { registryOptions } from '../transfer/registry';
import { type ImageFinding, type VerifyOptions, type VerifyParts, verifyImage } from '../transfer/verify';
import { leaseOf } from './leases';

export interface AdminDeps extends VerifyParts {
  readonly collector: Collector;
  readonly snapshotters: ReadonlyMap<string, Snapshotter>;
}

const NS_PER_MS = 1e6;
const STATES: Readonly<Record<ImageFinding['state'], number>> = {
  good: ImageState.GOOD,
  missing: ImageState.MISSING,
  corrupt: ImageState.CORRUPT,
  repaired: ImageState.REPAIRED,
};

export function adminService(deps: AdminDeps): Service {
  const { collector, registries, streams } = deps;
  return defineService(AdminService, {
    collect: async () => toCollected(await collector.runThoroughly()),

    diskUsage: async () => ({ usages: (await diskUsage(deps)).map(toUsage) }),

    testRegistry: async function* ({ host: given, resolver }, context) {
      // As part of a name: what a host may look like is checked in one place.
      const { host } = parseReference(`${given}/any`);
      const options = registryOptions(streams, context.requireNamespace(), resolver);
      for await (const { durationMs, ...finding } of registries.diagnose(host, options, context.signal)) {
        yield { ...finding, durationNs: toNs(durationMs) };
      }
    },

    verifyImage: (request, context) => verify(deps, request, context),

    why: ({ type, key }, context) => ({
      steps: collector.why({ namespace: context.requireNamespace(), type, key }),
    }),
  });
}

async function* verify(
  deps: AdminDeps,
  request: VerifyImageRequest,
  context: CallContext,
): AsyncGenerator<Input<WireFinding>> {
  const { name, platforms, allPlatforms, repair, source, progressStream } = request;
  const { signal } = context;
  const namespace = context.requireNamespace();
  const target = targetOf(deps.images.get(namespace, name));
  const chosen = platforms.length > 0 ? exactly(platforms) : undefined;
  const report = new ProgressReport(progressStream === '' ? undefined : deps.streams.get(namespace, progressStream));
  const options: VerifyOptions = {
    owner: { namespace, lease: '', signal },
    platforms: allPlatforms ? anyPlatform : chosen,
    source: repair ? (source ?? { reference: name, resolver: undefined }) : undefined,
    progress: new BlobProgress(report, name, 'reading'),
  };
  try {
    report.tell({ event: `Verifying ${name}` });
    // What is refused is not fetched, nor unpacked.
    if (repair) await deps.trust?.checkContainer(namespace, name, signal);
    if (!repair) yield* toFindings(verifyImage(deps, target, options));
    else {
      yield* underLease(deps, context, (lease) =>
        toFindings(verifyImage(deps, target, { ...options, owner: { namespace, lease, signal } })),
      );
    }
    report.tell({ event: `Verified ${name}` });
  } finally {
    await report.close();
  }
}

/** As withLease(), for what gives one thing after the other. */
async function* underLease<T>(
  { db }: AdminDeps,
  context: CallContext,
  body: (lease: string) => AsyncGenerator<T>,
): AsyncGenerator<T> {
  const opened = Promise.withResolvers<string>();
  const ended = Promise.withResolvers<void>();
  const owner = { namespace: context.requireNamespace(), lease: leaseOf(context) };
  const held = withLease(db, owner, (lease) => {
    opened.resolve(lease);
    return ended.promise;
  });
  held.catch(opened.reject);
  try {
    yield* body(await opened.promise);
  } finally {
    ended.resolve();
    await held;
  }
}

async function* toFindings(findings: AsyncIterable<ImageFinding>): AsyncGenerator<Input<WireFinding>> {
  for await (const { kind, key, sizeBytes, state, detail } of findings) {
    yield { kind, key, size: BigInt(sizeBytes), state: STATES[state], detail };
  }
}

function toCollected(result: GcResult): Input<CollectResponse> {
  const counts = Map.groupBy(result.removed, ({ namespace, type }) => JSON.stringify([namespace, type]));
  return {
    removed: [...counts.values()].flatMap((nodes) =>
      nodes.slice(0, 1).map(({ namespace, type }) => ({ namespace, type, count: BigInt(nodes.length) })),
    ),
    swept: result.swept.map(({ type, count, sizeBytes }) => ({ type, count: BigInt(count), size: sizeBytes })),
    lost: [...result.lost],
    failures: result.failures.map(messageOf),
    pauseNs: toNs(result.pauseMs),
    durationNs: toNs(result.durationMs),
  };
}

function toUsage(usage: Usage): Input<WireUsage> {
  return {
    namespace: usage.namespace,
    type: usage.type,
    count: BigInt(usage.count),
    size: usage.sizeBytes,
    garbageCount: BigInt(usage.garbageCount),
    garbageSize: usage.garbageBytes,
    unusedCount: BigInt(usage.unusedCount),
    unusedSize: usage.unusedBytes,
    unmeasuredCount: BigInt(usage.unmeasuredCount),
  };
}

function toNs(ms: number): bigint {
  return BigInt(Math.round(ms * NS_PER_MS));
}
