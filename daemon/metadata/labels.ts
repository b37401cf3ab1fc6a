// Labels of records: JSON in the database, checked on the way in, changed through update masks.

import { invalidArgument } from '../../proto/errors';

export type Labels = Record<string, string>;

/** Key and value of a label together, in bytes. */
export const LABEL_BYTES_MAX = 4096;
/** Characters of a key that is too long which the message shows. */
const KEY_SHOWN_MAX = 64;

/** Checks sizes and drops empty values, which stand for removal. @throws INVALID_ARGUMENT that begins with `what` */
export function checkLabels(labels: Readonly<Labels>, what?: string): Labels {
  const kept: Labels = Object.create(null);
  for (const [key, value] of Object.entries(labels)) {
    const size = Buffer.byteLength(key) + Buffer.byteLength(value);
    if (size > LABEL_BYTES_MAX) {
      const prefix = what === undefined ? '' : `${what}: `;
      const shown = key.slice(0, KEY_SHOWN_MAX);
      throw invalidArgument(
        `${prefix}label key and value length (${size} bytes) greater than maximum size (${LABEL_BYTES_MAX} bytes), key: ${shown}`,
      );
    }
    if (value !== '') kept[key] = value;
  }
  return kept;
}

export function parseLabels(text: string): Labels {
  return Object.assign(Object.create(null), JSON.parse(text)) as Labels;
}

export function serializeLabels(labels: Labels): string {
  return JSON.stringify(labels);
}

/**
 * Labels after an update. `labels` replaces all, `labels.K` sets one (an empty value removes it).
 * @throws INVALID_ARGUMENT for a path outside the labels.
 */
export function updateLabels(current: Labels, given: Labels, paths: readonly string[], what?: string): Labels {
  let result = current;
  for (const path of paths) {
    if (path === 'labels') result = given;
    else if (path.startsWith('labels.')) {
      const key = path.slice('labels.'.length);
      result = Object.assign(Object.create(null), result, { [key]: given[key] ?? '' });
    } else throw invalidArgument(`cannot update "${path}" field`);
  }
  return checkLabels(result, what);
}
