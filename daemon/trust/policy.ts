// The policy in force: rules with their keys, and which rule a name falls under.

import { createHash } from 'node:crypto';
import { invalidArgument, messageOf } from '../../proto/errors';
import { parseObject } from '../../proto/json';
import type { RuleConfig, TrustConfig } from './config';
import { loadKey, readTrustFile, type TrustedKey } from './keys';
import { formsOf, globExpression, namePattern } from './pattern';

export interface Rule {
  /** As errors name it. */
  readonly title: string;
  readonly demand: Demand;
}

export type Demand =
  | { readonly kind: 'accept' }
  | { readonly kind: 'reject' }
  /** Empty: the name has to hold the digest. */
  | { readonly kind: 'digest'; readonly digests: readonly string[] }
  | SignatureDemand;

export interface SignatureDemand {
  readonly kind: 'signature';
  readonly keys: readonly TrustedKey[];
  readonly certificate: CertificateDemand | undefined;
  /** Undefined: any. */
  readonly signedAs: RegExp | undefined;
  readonly predicates: readonly string[];
  /** Differs when anything differs that decides about a signature. */
  readonly id: string;
}

/** For signatures by certificate. */
export interface CertificateDemand {
  /** sigstore's trusted root as JSON has it. */
  readonly trustedRoot: Readonly<Record<string, unknown>>;
  readonly identity: RegExp;
  readonly issuer: string;
}

export interface Policy {
  /** The rule for an image's name, which may be empty; undefined: nothing is demanded. */
  ruleFor(name: string): Rule | undefined;
  /** Of all rules. */
  readonly signatures: readonly SignatureDemand[];
}

/** Reads keys and trusted roots, once. @throws INVALID_ARGUMENT naming the file and what is wrong with it */
export function loadPolicy(config: TrustConfig): Policy {
  const rules = config.rules.map((rule) => ({ pattern: namePattern(rule.match), rule: loadRule(rule) }));
  const standard: Rule = { title: 'the default', demand: { kind: config.default } };
  return {
    signatures: rules.flatMap(({ rule: { demand } }) => (demand.kind === 'signature' ? [demand] : [])),
    ruleFor(name) {
      const forms = formsOf(name);
      const found = rules.find(({ pattern }) => forms.some((form) => pattern.test(form)))?.rule ?? standard;
      return found.demand.kind === 'accept' ? undefined : found;
    },
  };
}

function loadRule(config: RuleConfig): Rule {
  const title = `rule "${config.match}"`;
  switch (config.require) {
    case 'accept':
    case 'reject':
      return { title, demand: { kind: config.require } };
    case 'digest':
      return { title, demand: { kind: 'digest', digests: config.digests } };
    case 'signature':
      return { title, demand: signatureDemand(config) };
  }
}

function signatureDemand(config: RuleConfig): SignatureDemand {
  const { trustedRoot: path, identity, issuer, signedAs, predicates } = config;
  const keys = config.keys.map(loadKey);
  const root = path === '' ? undefined : readTrustFile(path, 'trusted root');
  const decisive = {
    keys: keys.map(({ fingerprint }) => fingerprint).sort(),
    root: root?.toString('utf8') ?? '',
    identity,
    issuer,
    signedAs,
    predicates: [...predicates].sort(),
  };
  return {
    kind: 'signature',
    keys,
    certificate:
      root === undefined
        ? undefined
        : { trustedRoot: parsedRoot(root, path), identity: globExpression(identity), issuer },
    signedAs: signedAs === '' ? undefined : globExpression(signedAs),
    predicates,
    id: createHash('sha256').update(JSON.stringify(decisive)).digest('hex'),
  };
}

function parsedRoot(root: Buffer, path: string): Record<string, unknown> {
  try {
    return parseObject(root, 'the file');
  } catch (error) {
    throw invalidArgument(`trusted root ${path}: ${messageOf(error)}`, { cause: error });
  }
}
