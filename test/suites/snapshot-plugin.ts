// Debian's containerd as a proxy plug-in: it serves the same Snapshots service over its socket.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { installedContainerd } from '../setup/clients';
import { startContainerd, type TestDaemon, temporaryDirectory } from '../setup/daemons';

/** Its collector is off: it would take what no lease of its own holds. */
export async function startSnapshotPlugin(): Promise<TestDaemon> {
  const directory = temporaryDirectory('plugin');
  const config = join(directory, 'plugin.toml');
  writeFileSync(
    config,
    `version = 2
root = "${directory}/root"
state = "${directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "${directory}/d.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "${directory}/opt"
[plugins."io.containerd.gc.v1.scheduler"]
mutation_threshold = 0
deletion_threshold = 1000000
startup_delay = "0s"
`,
  );
  // Of two configurations the last counts.
  return startContainerd(await installedContainerd(), { directory, args: ['--config', config] });
}
