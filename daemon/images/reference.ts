// Names of images in archives. The store takes any text; what docker wrote is completed by registry/reference.ts.

const DEFAULT_REGISTRY = 'docker.io/';
const OFFICIAL = 'library/';

/** The short form of a name, as docker shows it, with a tag. */
export function familiarName(name: string): string {
  const path = name.startsWith(DEFAULT_REGISTRY) ? name.slice(DEFAULT_REGISTRY.length) : name;
  const short = path.startsWith(OFFICIAL) && path !== name ? path.slice(OFFICIAL.length) : path;
  return /[:@]/.test(short.slice(short.lastIndexOf('/') + 1)) ? short : `${short}:latest`;
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
