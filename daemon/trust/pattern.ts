// Patterns of rules, and what of an image's name they are compared with.

import { normalizeReference } from '../registry/reference';
import type { Reference } from '../registry/types';

/** `*` stands for any text, also for none and with slashes; everything else for itself. The whole text has to fit. */
export function globExpression(pattern: string): RegExp {
  const literals = pattern.split(/\*+/).map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'));
  return new RegExp(`^${literals.join('.*')}$`, 's');
}

/** A pattern for names. Capitals mean nothing in a host, and everything in a tag. */
export function namePattern(pattern: string): RegExp {
  const slash = pattern.indexOf('/') + 1;
  return globExpression(`${pattern.slice(0, slash).toLowerCase()}${pattern.slice(slash)}`);
}

/**
 * The forms of a name that a pattern may fit: `HOST/REPOSITORY`, and the same with `@DIGEST` or else with `:TAG`. A tag
 * beside a digest says nothing about what is pulled, so it does not count. A text that is no reference stands for itself.
 */
export function formsOf(name: string): string[] {
  const reference = referenceOf(name);
  if (reference === undefined) return [name];
  const { host, repository, tag, digest } = reference;
  const bare = `${host.toLowerCase()}/${repository}`;
  return [bare, digest === undefined ? `${bare}:${tag}` : `${bare}@${digest}`];
}

/** Undefined for a text that is none. */
export function referenceOf(name: string): Reference | undefined {
  // Would be completed to a repository of this name.
  if (/^sha(256|384|512):[a-f0-9]+$/.test(name)) return undefined;
  try {
    return normalizeReference(name);
  } catch {
    return undefined;
  }
}
