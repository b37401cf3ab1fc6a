// Refuses configurations that are malformed or contradict themselves, before anything is created. Every error starts with
// the JSON path of the field. Fields that the runtime does not know are left to those who do.

import { bindsSource, parseMountOptions } from '../plan/mount-options';
import type { Process, Spec, SpecMount } from '../spec';
import { listOf, mapOf, object, refuse, text } from './checks';
import { checkExtents, checkLinux } from './linux-rules';
import { linuxSchema, mappings } from './linux-schema';
import { checkProcess } from './process-rules';
import { hookSchema, processSchema } from './process-schema';

const NAME_MAX = 64;
/** In the order in which they run. */
export const HOOKS = ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop'];
const hostName = text(new RegExp(`^[^\\n]{0,${NAME_MAX}}$`), `must not be longer than ${NAME_MAX} bytes`);

const schema = object(
  {
    ociVersion: text(/^1\.\d+\.\d+([-+][\w.+-]*)?$/, 'must be a version 1.x.y of the runtime specification'),
    root: object({ path: text(/./, 'must not be empty'), readonly: (value, path) => boolean(value, path) }, ['path']),
    process: processSchema,
    hostname: hostName,
    domainname: hostName,
    mounts: listOf(
      object(
        {
          destination: text(/./, 'must not be empty'),
          type: text(),
          source: text(),
          options: listOf(text()),
          uidMappings: mappings,
          gidMappings: mappings,
        },
        ['destination'],
      ),
    ),
    hooks: object(Object.fromEntries(HOOKS.map((name) => [name, listOf(hookSchema)]))),
    annotations: mapOf(text(), text(/./, 'must not be empty')),
    linux: linuxSchema,
  },
  ['ociVersion'],
);

/** @throws UNKNOWN `linux.namespaces[0].type: ...` */
export function validateSpec(spec: Spec): void {
  if (spec?.process === undefined || spec.process === null) refuse('process', 'process property must not be empty');
  schema(spec, '');
  checkProcess(spec.process, 'process');
  const linux = spec.linux ?? {};
  checkLinux(spec, linux);
  const hasUserNamespace = (linux.namespaces ?? []).some(({ type }) => type === 'user');
  (spec.mounts ?? []).forEach((mount, index) => {
    checkMount(mount, `mounts[${index}]`, hasUserNamespace);
  });
}

/** The process of an exec. @throws UNKNOWN `process.user.uid: ...` */
export function validateProcess(process: Process): void {
  processSchema(process, 'process');
  checkProcess(process, 'process');
}

function boolean(value: unknown, path: string): void {
  if (typeof value !== 'boolean') refuse(path, 'must be true or false');
}

function checkMount(mount: SpecMount, path: string, hasUserNamespace: boolean): void {
  const options = parseMountOptions(mount.options ?? []);
  const binds = bindsSource(mount, options);
  if (binds && !mount.source) refuse(`${path}.source`, 'is required for a bind mount');
  if (!binds && !mount.type) refuse(`${path}.type`, 'is required');
  if (options.copyUp && mount.type !== 'tmpfs') refuse(`${path}.options`, 'tmpcopyup needs type tmpfs');
  const uids = mount.uidMappings ?? [];
  const gids = mount.gidMappings ?? [];
  const isMapped = uids.length + gids.length > 0;
  if (uids.length === 0 && isMapped) refuse(`${path}.uidMappings`, 'is required besides gidMappings');
  if (gids.length === 0 && isMapped) refuse(`${path}.gidMappings`, 'is required besides uidMappings');
  checkExtents(uids, `${path}.uidMappings`);
  checkExtents(gids, `${path}.gidMappings`);
  if ((isMapped || options.idmap !== undefined) && !binds)
    refuse(isMapped ? `${path}.uidMappings` : `${path}.options`, 'only bind mounts can be id-mapped');
  if (options.idmap !== undefined && !isMapped && !hasUserNamespace)
    refuse(`${path}.options`, `${options.idmap} needs mappings or a user namespace`);
}
