// The label that remembers which repositories a blob came from or went to, so that a push can have the registry take it
// from there: containerd.io/distribution.source.HOST = REPOSITORY[,REPOSITORY...], as containerd writes it.

import type { Reference } from './types';

const PREFIX = 'containerd.io/distribution.source.';
/** containerd refuses labels of more than 4096 bytes, key and value together. */
const LABEL_BYTES_MAX = 4096;
/** Repositories asked for one blob. */
const CANDIDATES_MAX = 3;

/** The label of a blob after a pull or push, with what its labels say already. */
export function sourceLabel(
  { host, repository }: Reference,
  labels: Readonly<Record<string, string>>,
): { readonly key: string; readonly value: string } {
  const key = keyOf(host);
  const known = (labels[key] ?? '').split(',').filter((name) => name !== '' && name !== repository);
  // The oldest ones go when there are too many.
  let names = [...known, repository];
  while (names.length > 1 && Buffer.byteLength(key + names.join(',')) > LABEL_BYTES_MAX) names = names.slice(1);
  return { key, value: names.join(',') };
}

/** Other repositories of the same host that a blob with these labels was in, those nearest to the wanted one first. */
export function mountCandidates(
  { host, repository }: Reference,
  labels: Readonly<Record<string, string>>,
): readonly string[] {
  const names = (labels[keyOf(host)] ?? '').split(',').filter((name) => name !== '' && name !== repository);
  const near = (name: string) => commonParts(name.split('/'), repository.split('/'));
  return names.sort((a, b) => near(b) - near(a)).slice(0, CANDIDATES_MAX);
}

/** containerd leaves the port out. */
function keyOf(host: string): string {
  return `${PREFIX}${host.replace(/:\d+$/, '')}`;
}

function commonParts(a: readonly string[], b: readonly string[]): number {
  const length = a.findIndex((part, index) => part !== b[index]);
  return length < 0 ? a.length : length;
}
