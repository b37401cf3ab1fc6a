// Debian's containerd as a proxy plug-in: it serves the same Snapshots service over its socket.

import { installedContainerd } from '../setup/clients';
import { startContainerd, type TestDaemon } from '../setup/daemons';

/** Its collector is off: it would take what no lease of its own holds. */
const NO_COLLECTION = `[plugins."io.containerd.gc.v1.scheduler"]
mutation_threshold = 0
deletion_threshold = 1000000
startup_delay = "0s"
`;

export async function startSnapshotPlugin(): Promise<TestDaemon> {
  return startContainerd(await installedContainerd(), { toml: NO_COLLECTION });
}
