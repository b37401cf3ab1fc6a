// Block I/O in the files of cgroup v1.

import type { BlockIoResources } from '../spec';
import { countText } from './files';
import type { GroupFiles } from './v1-resources';

/** @throws UNKNOWN naming the field when the kernel has no scheduler with weights */
export function applyBlockIo(files: GroupFiles, blockIo: BlockIoResources): void {
  // BFQ has names of its own.
  const weightFile = (field: string, suffix: string) =>
    files.has(field, `blkio.weight${suffix}`) ? `blkio.weight${suffix}` : `blkio.bfq.weight${suffix}`;
  const { weight, leafWeight } = blockIo;
  if (weight) files.set('blockIO.weight', weightFile('blockIO.weight', ''), String(weight));
  if (leafWeight) files.set('blockIO.leafWeight', 'blkio.leaf_weight', String(leafWeight));
  const perDevice = 'blockIO.weightDevice';
  for (const device of blockIo.weightDevice ?? []) {
    const name = `${device.major}:${device.minor}`;
    if (device.weight) files.set(perDevice, weightFile(perDevice, '_device'), `${name} ${device.weight}`);
    if (device.leafWeight) files.set(perDevice, 'blkio.leaf_weight_device', `${name} ${device.leafWeight}`);
  }
  const throttles = [
    ['throttleReadBpsDevice', 'read_bps'],
    ['throttleWriteBpsDevice', 'write_bps'],
    ['throttleReadIOPSDevice', 'read_iops'],
    ['throttleWriteIOPSDevice', 'write_iops'],
  ] as const;
  for (const [field, name] of throttles) {
    for (const { major, minor, rate } of blockIo[field] ?? []) {
      files.set(`blockIO.${field}`, `blkio.throttle.${name}_device`, `${major}:${minor} ${countText(rate ?? 0)}`);
    }
  }
}
