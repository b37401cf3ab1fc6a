// Removes from the output of commands what differs between two runs of the same thing: times, pids, private paths, generated
// ids, versions, and the width of columns. Everything else is compared.

/** What matches becomes the text. */
export type Rule = readonly [RegExp, string];

const RULES: readonly Rule[] = [
  [/\r/g, ''],
  // A terminal that ends at once may be gone before ctr sets its size.
  [/^.*resize pty.*\n/gm, ''],
  // Where a snapshotter keeps a snapshot.
  [/\$ROOT\/[\w./-]*?snapshots\/\d+\//g, '$SNAPSHOT/'],
  [/\$ROOT\/[\w./-]*?snapshots\/\d+/g, '$SNAPSHOT'],
  [/\/(?:tmp|var\/tmp)\/(containerd-mount|initialC)\d+/g, '/tmp/$1N'],
  [/\/run\/containerd\/fifo\/\d+/g, '$FIFO'],
  // Go's and RFC 3339 forms of a moment.
  [/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? \+0000 UTC( m=\S+)?/g, 'TIME'],
  [/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)/g, 'TIME'],
  [/(?<![\w.])\d+(\.\d+)?(ns|µs|ms|s)(?![\w])/g, 'DURATION'],
  [/\b\d+\.\d+ (s|ms)\b/g, 'DURATION'],
  [/\d+(\.\d+)? [KMG]?i?B\/s/g, 'RATE'],
  [/"pid": ?\d+/gi, '"pid":PID'],
  [/\b\d+(\s+)(CREATED|RUNNING|STOPPED|PAUSED|PAUSING|UNKNOWN)\b/g, 'PID$1$2'],
  [/extract-\d+-[\w-]+ /g, 'extract-N '],
  [/\b[A-Z][a-z]{2} +\d+ \d\d:\d\d\b/g, 'TIME'],
  [/\b(Less than a second|About a minute|\d+ (seconds?|minutes?))/g, 'AGE'],
  // How a snapshotter names a snapshot inside.
  [/\$NS\/\d+\//g, ''],
  // The words of an error's class, which containerd may say twice.
  [/(: [a-z ]+)\1$/gm, '$1'],
  [/[ \t]+/g, ' '],
  [/ +$/gm, ''],
  [/(^|\n)(Client|Server): *\n/g, '$1$2:\n'],
];

/** Labels at the end of a line; ctr prints them in any order. */
const LABEL_LIST = /(?<![^\s])[\w./-]+=[^\s,]*(,[\w./-]+=[^\s,]*)+$/gm;

/** `placeholders` maps names to the values that belong to this run only; `rules` come before the common ones. */
export function normalise(text: string, placeholders: Record<string, string>, rules: readonly Rule[]): string {
  // Longer values first: one may be the beginning of another.
  const entries = Object.entries(placeholders).sort(([, left], [, right]) => right.length - left.length);
  const named = entries.reduce((result, [name, value]) => result.replaceAll(value, `$${name}`), text);
  const ruled = [...rules, ...RULES].reduce(
    (result, [pattern, replacement]) => result.replace(pattern, replacement),
    named,
  );
  return ruled.replace(LABEL_LIST, (list) => list.split(',').sort().join(','));
}
