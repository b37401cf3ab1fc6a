// Limits and counters that cgroup v1 and v2 have in common.

import { isErrno, unknown } from '../../proto/errors';
import type { LinuxResources, MemoryResources } from '../spec';
import { readControl, setControl } from './files';

const SWAPPINESS_MAX = 100;
/** -1 as clients send it: as an unsigned number. */
const SWAPPINESS_UNSET = 2 ** 63;

/** Undefined when it is not asked for. @throws UNKNOWN beyond 100 */
export function swappinessOf({ swappiness }: MemoryResources): number | undefined {
  if (swappiness === undefined || swappiness < 0 || swappiness >= SWAPPINESS_UNSET) return undefined;
  if (swappiness <= SWAPPINESS_MAX) return swappiness;
  throw unknown(`invalid memory swappiness value: ${swappiness} (valid range is 0-100)`);
}

/**
 * With checkBeforeUpdate no limit is set that is below what is in use: v2 would kill for it, v1 take pages away for a long
 * time before it gives up.
 * @throws UNKNOWN in runc's words
 */
export function checkUsage({ checkBeforeUpdate, limit = 0, swap = 0 }: MemoryResources, usageOf: () => bigint): void {
  if (!checkBeforeUpdate) return;
  const usage = usageOf();
  if (swap > 0 && BigInt(swap) <= usage) throw unknown(`rejecting memory+swap limit ${swap} <= usage ${usage}`);
  if (limit > 0 && BigInt(limit) <= usage) throw unknown(`rejecting memory limit ${limit} <= usage ${usage}`);
}

/** Names of files: pages are limited, and so are reservations where the kernel counts them. */
export function hugepageFiles(directory: string, pageSize: string, suffix: string): string[] {
  const reserved = `hugetlb.${pageSize}.rsvd.${suffix}`;
  const limit = `hugetlb.${pageSize}.${suffix}`;
  return readControl(directory, reserved) === undefined ? [limit] : [limit, reserved];
}

export function applyRdma({ rdma }: LinuxResources, directory: () => string): void {
  for (const [device, { hcaHandles, hcaObjects }] of Object.entries(rdma ?? {})) {
    const handles = hcaHandles === undefined ? '' : ` hca_handle=${hcaHandles}`;
    const objects = hcaObjects === undefined ? '' : ` hca_object=${hcaObjects}`;
    setControl('rdma', directory(), 'rdma.max', `${device}${handles}${objects}`);
  }
}

interface RdmaEntry {
  readonly device: string;
  readonly hcaHandles: number;
  readonly hcaObjects: number;
}

const RDMA_MAX = 2 ** 32 - 1;

export function rdmaStat(path: string): { current: RdmaEntry[]; limit: RdmaEntry[] } {
  return { current: rdmaEntries(path, 'rdma.current'), limit: rdmaEntries(path, 'rdma.max') };
}

/** Lines "mlx5_1 hca_handle=2 hca_object=max". */
function rdmaEntries(path: string, file: string): RdmaEntry[] {
  return (readControl(path, file) ?? '').split('\n').flatMap((line) => {
    const [, device] = /^(\S+) hca_/.exec(line) ?? [];
    const count = (name: string) => {
      const value = new RegExp(`${name}=(\\w+)`).exec(line)?.[1] ?? '0';
      return value === 'max' ? RDMA_MAX : Number(value);
    };
    return device === undefined ? [] : [{ device, hcaHandles: count('hca_handle'), hcaObjects: count('hca_object') }];
  });
}

/** Does both; where the kernel finds the first invalid as long as the second is not done, once more. */
export function retryAfter(canRetry: boolean, first: () => void, second: () => void): void {
  let isRefused = false;
  try {
    first();
  } catch (error) {
    if (!canRetry || !isErrno((error as Error).cause, 'EINVAL')) throw error;
    isRefused = true;
  }
  second();
  if (isRefused) first();
}
