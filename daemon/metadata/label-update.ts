// Labels as the stores of this folder want them: checked, without empty values, changed by update masks.

import { invalidArgument } from '../../proto/errors';
import { checkLabels, type Labels } from './labels';

/** A checked copy; a label with an empty value is no label. @throws INVALID_ARGUMENT */
export function cleanLabels(labels: Readonly<Labels>): Labels {
  checkLabels(labels);
  return withoutEmpty(labels);
}

/** A copy without empty values. */
export function withoutEmpty(labels: Readonly<Labels>): Labels {
  const result = Object.create(null) as Labels;
  for (const [key, value] of Object.entries(labels)) if (value !== '') result[key] = value;
  return result;
}

/**
 * The map after a mask: FIELD replaces it, FIELD.K sets one key (an empty value removes it).
 * @throws INVALID_ARGUMENT for any other path
 */
export function maskLabels(
  current: Readonly<Labels>,
  given: Readonly<Labels>,
  paths: readonly string[],
  field = 'labels',
): Labels {
  let result = copy(current);
  for (const path of paths) {
    if (path === field) {
      result = copy(given);
    } else if (path.startsWith(`${field}.`)) {
      const key = path.slice(field.length + 1);
      result[key] = given[key] ?? '';
    } else {
      throw invalidArgument(`cannot update "${path}" field`);
    }
  }
  return withoutEmpty(result);
}

/** Without a prototype, so that any key is safe. */
function copy(labels: Readonly<Labels>): Labels {
  return Object.assign(Object.create(null) as Labels, labels);
}
