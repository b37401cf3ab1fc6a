// The section [trust] of the configuration: which images may be pulled and run. Shapes and their checks only; keys are
// read by policy.ts.

import { isAbsolute } from 'node:path';
import { invalidArgument } from '../../proto/errors';
import { checkDigest } from '../../proto/ids';

/** What an image has to bring. */
export type Requirement = 'accept' | 'reject' | 'digest' | 'signature';

export interface RuleConfig {
  /** Pattern for names of images, see pattern.ts. */
  readonly match: string;
  readonly require: Requirement;
  /** For "digest": the only ones; empty: the name has to hold one. */
  readonly digests: readonly string[];
  /** For "signature": files with public keys, one of which has to fit. */
  readonly keys: readonly string[];
  /** For "signature": a file with sigstore's trusted root, for signatures by certificate; empty: none. */
  readonly trustedRoot: string;
  /** Pattern for whom the certificate names. */
  readonly identity: string;
  /** Who vouched for the identity. */
  readonly issuer: string;
  /** Pattern for the name in the signature; empty: any, only the digest counts. */
  readonly signedAs: string;
  /** Types of in-toto statements that count as signatures. */
  readonly predicates: readonly string[];
}

export interface VerifiersConfig {
  /** Empty: none. */
  readonly binDir: string;
  /** The first ones by name; negative: all. */
  readonly maxVerifiers: number;
  readonly timeoutMs: number;
}

export interface TrustConfig {
  readonly default: 'accept' | 'reject';
  readonly rules: readonly RuleConfig[];
  readonly verifiers: VerifiersConfig;
}

type Table = Readonly<Record<string, unknown>>;

/** How cosign calls a signature among other statements about an image. */
export const SIGNATURE_PREDICATE = 'https://sigstore.dev/cosign/sign/v1';

const REQUIREMENTS: readonly unknown[] = ['accept', 'reject', 'digest', 'signature'] satisfies Requirement[];
const KEYS: Readonly<Record<Requirement, readonly string[]>> = {
  accept: [],
  reject: [],
  digest: ['digests'],
  signature: ['keys', 'trusted_root', 'identity', 'issuer', 'signed_as', 'predicates'],
};
const TIMEOUT_MS_RANGE = [1, 600_000] as const;

/** @throws INVALID_ARGUMENT naming the file, the key and what is wrong with it */
export function trustConfig(trust: Table, source: string): TrustConfig {
  const wrong = (key: string, what: string) => invalidArgument(`config ${source}: "trust.${key}" ${what}`);
  const { default: standard, rules, verifiers } = trust as { default: unknown; rules: unknown; verifiers: Table };
  if (standard !== 'accept' && standard !== 'reject') throw wrong('default', 'must be one of accept, reject');
  if (!Array.isArray(rules)) throw wrong('rules', 'must be a list of tables');
  return {
    default: standard,
    rules: rules.map((rule: unknown, index) =>
      ruleConfig(rule, (key, what) => wrong(`rules[${index + 1}]${key}`, what)),
    ),
    verifiers: verifiersConfig(verifiers, wrong),
  };
}

/** As it stands in the file. */
export function printTrust({ default: standard, rules, verifiers }: TrustConfig) {
  const { binDir, maxVerifiers, timeoutMs } = verifiers;
  return {
    default: standard,
    rules: rules.map(printRule),
    verifiers: { bin_dir: binDir, max_verifiers: maxVerifiers, per_verifier_timeout_ms: timeoutMs },
  };
}

function ruleConfig(rule: unknown, wrong: (key: string, what: string) => Error): RuleConfig {
  if (typeof rule !== 'object' || rule === null || Array.isArray(rule)) throw wrong('', 'must be a table');
  const { match, require } = rule as Table;
  if (typeof match !== 'string') throw wrong('.match', 'must be a string');
  if (!REQUIREMENTS.includes(require)) throw wrong('.require', `must be one of ${REQUIREMENTS.join(', ')}`);
  const allowed = ['match', 'require', ...KEYS[require as Requirement]];
  for (const key of Object.keys(rule)) {
    if (allowed.includes(key)) continue;
    const isKnown = Object.values(KEYS).flat().includes(key);
    throw wrong(`.${key}`, isKnown ? `does not go with require = "${require}"` : 'is not known');
  }
  const text = (key: string) => {
    const value = (rule as Table)[key] ?? '';
    if (typeof value !== 'string') throw wrong(`.${key}`, 'must be a string');
    return value;
  };
  const texts = (key: string) => {
    const value = (rule as Table)[key] ?? [];
    if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value as string[];
    throw wrong(`.${key}`, 'must be a list of strings');
  };
  const result: RuleConfig = {
    match,
    require: require as Requirement,
    digests: texts('digests'),
    keys: texts('keys'),
    trustedRoot: text('trusted_root'),
    identity: text('identity'),
    issuer: text('issuer'),
    signedAs: text('signed_as'),
    predicates: (rule as Table)['predicates'] === undefined ? [SIGNATURE_PREDICATE] : texts('predicates'),
  };
  checkRule(result, wrong);
  return result;
}

function checkRule(rule: RuleConfig, wrong: (key: string, what: string) => Error): void {
  for (const digest of rule.digests) {
    try {
      checkDigest(digest);
    } catch {
      throw wrong('.digests', `holds "${digest}", which is no digest`);
    }
  }
  if (rule.require !== 'signature') return;
  const { keys, trustedRoot, identity, issuer } = rule;
  if (keys.length === 0 && trustedRoot === '') throw wrong('', 'needs "keys", or "trusted_root" for certificates');
  for (const key of keys) if (!isAbsolute(key)) throw wrong('.keys', `holds "${key}", which is no absolute path`);
  if (trustedRoot === '') {
    if (identity !== '' || issuer !== '') throw wrong('', 'has an identity without "trusted_root"');
    return;
  }
  if (!isAbsolute(trustedRoot)) throw wrong('.trusted_root', 'must be an absolute path');
  // Certificates are given to anybody: without these two, anybody could sign.
  if (identity === '' || issuer === '') throw wrong('', 'needs "identity" and "issuer" beside "trusted_root"');
}

function verifiersConfig(verifiers: Table, wrong: (key: string, what: string) => Error): VerifiersConfig {
  const whole = (key: string, [min, max]: readonly [number, number]) => {
    const value = verifiers[key] as number;
    if (Number.isInteger(value) && value >= min && value <= max) return value;
    throw wrong(`verifiers.${key}`, `must be a whole number from ${min} to ${max}`);
  };
  const binDir = verifiers['bin_dir'] as string;
  if (binDir !== '' && !isAbsolute(binDir)) throw wrong('verifiers.bin_dir', 'must be an absolute path');
  return {
    binDir,
    maxVerifiers: whole('max_verifiers', [-1, 1000]),
    timeoutMs: whole('per_verifier_timeout_ms', TIMEOUT_MS_RANGE),
  };
}

function printRule(rule: RuleConfig) {
  const { match, require, digests, keys, trustedRoot, identity, issuer, signedAs, predicates } = rule;
  switch (require) {
    case 'accept':
    case 'reject':
      return { match, require };
    case 'digest':
      return { match, require, digests: [...digests] };
    case 'signature': {
      const certificate = trustedRoot === '' ? {} : { trusted_root: trustedRoot, identity, issuer };
      return { match, require, keys: [...keys], ...certificate, signed_as: signedAs, predicates: [...predicates] };
    }
  }
}
