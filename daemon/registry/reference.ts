// Names of images: split as containerd does it, and completed as docker does it. The API takes complete names only; what
// a person types is completed by the client that takes it.

import { invalidArgument } from '../../proto/errors';
import { checkDigest } from '../../proto/ids';
import type { Reference } from './types';

const DEFAULT_HOST = 'docker.io';
const DEFAULT_FOLDER = 'library/';
const DEFAULT_TAG = 'latest';
const REFERENCE_LENGTH_MAX = 4096;
/** Length of host and repository together (distribution's reference grammar). */
const NAME_LENGTH_MAX = 255;

const LABEL = '[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?';
const HOST = new RegExp(`^(?:${LABEL}(?:\\.${LABEL})*|\\[[0-9a-fA-F:.]+\\])(?::[0-9]{1,5})?$`);
const REPOSITORY = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;

/**
 * Splits a complete name, `HOST/REPOSITORY[:TAG][@DIGEST]`; nothing is added to it.
 * @throws INVALID_ARGUMENT naming the part that is wrong
 */
export function parseReference(text: string): Reference {
  if (text.length > REFERENCE_LENGTH_MAX) throw invalidArgument(`reference of ${text.length} characters is too long`);
  const at = text.indexOf('@');
  const digest = at < 0 ? undefined : checked(text, 'digest', text.slice(at + 1), isDigest);
  const named = at < 0 ? text : text.slice(0, at);
  const slash = named.indexOf('/');
  if (slash < 0) throw bad(text, 'it has no host: complete names are HOST/REPOSITORY[:TAG][@DIGEST]');
  const colon = named.indexOf(':', slash);
  const tag = colon < 0 ? undefined : checked(text, 'tag', named.slice(colon + 1), (value) => TAG.test(value));
  const host = checked(text, 'host', named.slice(0, slash), isHost);
  const repository = checked(text, 'repository', named.slice(slash + 1, colon < 0 ? undefined : colon), (value) =>
    REPOSITORY.test(value),
  );
  if (host.length + 1 + repository.length > NAME_LENGTH_MAX) {
    throw bad(text, `host and repository are longer than ${NAME_LENGTH_MAX} characters`);
  }
  return { host, repository, tag, digest, text };
}

/**
 * Completes what a person types as docker does: the first part is a host only if it has a dot or a port, is in capitals
 * or is "localhost"; then the default host, its folder for official images, and the tag "latest" if there is neither tag nor digest.
 * @throws INVALID_ARGUMENT
 */
export function normalizeReference(text: string): Reference {
  const slash = text.indexOf('/');
  const first = slash < 0 ? '' : text.slice(0, slash);
  const hasHost = /[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase();
  const host = !hasHost || first === 'index.docker.io' ? DEFAULT_HOST : first;
  let rest = hasHost ? text.slice(slash + 1) : text;
  if (host === DEFAULT_HOST && !/^[^:@]*\//.test(rest)) rest = `${DEFAULT_FOLDER}${rest}`;
  const parsed = parseReference(`${host}/${rest}`);
  if (parsed.tag !== undefined || parsed.digest !== undefined) return parsed;
  return { ...parsed, tag: DEFAULT_TAG, text: `${parsed.text}:${DEFAULT_TAG}` };
}

function isHost(host: string): boolean {
  const port = /:([0-9]+)$/.exec(host)?.[1];
  return HOST.test(host) && (port === undefined || (Number(port) > 0 && Number(port) < 65536));
}

function isDigest(digest: string): boolean {
  try {
    return checkDigest(digest) !== '';
  } catch {
    return false;
  }
}

function checked(text: string, part: string, value: string, isGood: (value: string) => boolean): string {
  if (!isGood(value)) throw bad(text, `its ${part} "${value}" is not well-formed`);
  return value;
}

function bad(text: string, cause: string): Error {
  return invalidArgument(`reference "${text}": ${cause}`);
}
