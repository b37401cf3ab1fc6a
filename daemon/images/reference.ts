// Names of images. The store takes any text; archives and registries use the grammar of distribution's references.

const DEFAULT_REGISTRY = 'docker.io';
const OFFICIAL = 'library/';

/** The full name of a docker name such as "busybox" or "me/app:1". */
export function fullName(name: string): string {
  const [first = '', ...rest] = name.split('/');
  const hasRegistry = rest.length > 0 && (/[.:]/.test(first) || first === 'localhost');
  const path = hasRegistry ? name : `${DEFAULT_REGISTRY}/${rest.length === 0 ? OFFICIAL : ''}${name}`;
  return tagOf(path) === '' && !path.includes('@') ? `${path}:latest` : path;
}

/** The short form of a name, as docker shows it, with a tag. */
export function familiarName(name: string): string {
  const full = fullName(name);
  const path = full.startsWith(`${DEFAULT_REGISTRY}/`) ? full.slice(DEFAULT_REGISTRY.length + 1) : full;
  return path.startsWith(OFFICIAL) ? path.slice(OFFICIAL.length) : path;
}

/** What stands behind the repository: the tag, or a digest with its "@". A name without registry or path is its own object. */
export function objectOf(name: string): string {
  const slash = name.indexOf('/');
  const end = name.slice(slash + 1).search(/[:@]/);
  if (slash < 0) return name;
  return end < 0 ? '' : name.slice(slash + 1 + end).replace(/^:/, '');
}

/**
 * The name that an archive's reference stands for: a bare tag is put behind the prefix; a full name stays, unless only
 * names with the prefix are wanted. Empty: none.
 */
export function prefixedName(ref: string, prefix: string, onlyPrefixed: boolean): string {
  if (prefix === '') return '';
  if (!/[/:@]/.test(ref)) return `${prefix}:${ref}`;
  const last = ref.slice(ref.lastIndexOf('/') + 1);
  return onlyPrefixed && !isBelow(ref, prefix, /^($|[/:@])/) && !isBelow(last, prefix, /^($|[:@])/) ? '' : ref;
}

function isBelow(name: string, prefix: string, next: RegExp): boolean {
  return name.startsWith(prefix) && next.test(name.slice(prefix.length));
}

function tagOf(name: string): string {
  return /:([^/@]*)(@|$)/.exec(name.slice(name.lastIndexOf('/') + 1))?.[1] ?? '';
}
