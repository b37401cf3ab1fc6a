// Fields that do not go with the user namespace, or with a launcher that has no rights without one; known only when the
// namespaces have been compiled.

import { isMapped, mappingsOf, mapsOnlySelf } from '../launcher/user-namespace';
import type { CompiledNamespaces } from '../plan/namespaces';
import type { Spec } from '../spec';
import { refuse } from './checks';

/** @throws UNKNOWN `PATH: WORDS` */
export function checkUserNamespace(
  spec: Spec,
  { user, hasNew, has }: CompiledNamespaces,
  isOrdinaryUser: boolean,
): void {
  if (isOrdinaryUser && user === 'host') refuse('linux.namespaces', 'an ordinary user needs a user namespace');
  if (has('mount') && !hasNew('mount')) {
    const { maskedPaths, readonlyPaths } = spec.linux ?? {};
    const changes = { mounts: spec.mounts, 'linux.maskedPaths': maskedPaths, 'linux.readonlyPaths': readonlyPaths };
    for (const [path, entries] of Object.entries(changes))
      if (entries && entries.length > 0) refuse(path, 'a mount namespace that is joined stays as it is');
    if (spec.root?.readonly) refuse('root.readonly', 'a mount namespace that is joined stays as it is');
  }
  const mappings = user === 'new' ? mappingsOf(spec.linux ?? {}) : undefined;
  if (mappings === undefined) return;
  const { uid = 0, gid = 0, additionalGids } = spec.process?.user ?? {};
  if (!isMapped(mappings.uid, uid)) refuse('process.user.uid', `${uid} has no mapping in linux.uidMappings`);
  if (!isMapped(mappings.gid, gid)) refuse('process.user.gid', `${gid} has no mapping in linux.gidMappings`);
  (additionalGids ?? []).forEach((id, index) => {
    const path = `process.user.additionalGids[${index}]`;
    if (isOrdinaryUser && mapsOnlySelf(mappings)) refuse(path, 'the kernel forbids groups where only one id is mapped');
    if (!isMapped(mappings.gid, id)) refuse(path, `${id} has no mapping in linux.gidMappings`);
  });
}
