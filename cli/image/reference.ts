// Image names. The daemon stores any text; people write short names. A short name means Docker's registry, as every
// other client has it (distribution reference grammar).

const DEFAULT_REGISTRY = 'docker.io';

/** The full name of "busybox", "busybox:1", "me/app" or "host:5000/app". */
export function fullName(name: string): string {
  const [first = '', ...rest] = name.split('/');
  const hasRegistry = rest.length > 0 && (first.includes('.') || first.includes(':') || first === 'localhost');
  const path = hasRegistry ? name : `${DEFAULT_REGISTRY}/${rest.length === 0 ? `library/${name}` : name}`;
  const last = path.slice(path.lastIndexOf('/') + 1);
  return last.includes(':') || path.includes('@') ? path : `${path}:latest`;
}

/** Names to look for, best first: as written, then in full. */
export function candidateNames(name: string): string[] {
  return [...new Set([name, fullName(name)])];
}
