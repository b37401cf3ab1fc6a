// The policy: what the configuration may say, which rule a name falls under, which keys are taken.

import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadConfig, printConfig } from '../../../../daemon/config';
import { SIGNATURE_PREDICATE } from '../../../../daemon/trust/config';
import { formsOf, globExpression, namePattern } from '../../../../daemon/trust/pattern';
import { loadPolicy, type Policy } from '../../../../daemon/trust/policy';
import { makeSigner } from '../../../images/signatures';

const DIGEST = `sha256:${'a'.repeat(64)}`;

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'gantry-policy-'));
});

afterEach(() => rmSync(directory, { recursive: true }));

function write(name: string, text: string | Buffer): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

const configOf = (text: string) => loadConfig(write('config.toml', text), {}).trust;
const rule = (text: string) => `[[trust.rules]]\n${text}\n`;
const policyOf = (...rules: string[]): Policy => loadPolicy(configOf(rules.map(rule).join('')));

describe('the section [trust]', () => {
  it('accepts everything unless it says otherwise', () => {
    expect(configOf('')).toEqual({
      default: 'accept',
      rules: [],
      verifiers: { binDir: '', maxVerifiers: 10, timeoutMs: 10_000 },
    });
    expect(loadPolicy(configOf('')).ruleFor('any')).toBeUndefined();
  });

  it('is read, and the same when it is printed and read again', () => {
    const text = [
      '[trust]\ndefault = "reject"',
      rule('match = "a/*"\nrequire = "accept"'),
      rule(`match = "b/*"\nrequire = "digest"\ndigests = ["${DIGEST}"]`),
      rule('match = "c/*"\nrequire = "signature"\nkeys = ["/k.pem"]\nsigned_as = "c/*"\npredicates = ["p"]'),
      rule('match = "d/*"\nrequire = "signature"\ntrusted_root = "/r"\nidentity = "i*"\nissuer = "u"'),
      '[trust.verifiers]\nbin_dir = "/v"\nmax_verifiers = -1\nper_verifier_timeout_ms = 5',
    ].join('\n');

    const config = configOf(text);

    expect(config.rules[2]).toMatchObject({ keys: ['/k.pem'], signedAs: 'c/*', predicates: ['p'] });
    expect(config.rules[3]).toMatchObject({ trustedRoot: '/r', identity: 'i*', predicates: [SIGNATURE_PREDICATE] });
    expect(config.verifiers).toEqual({ binDir: '/v', maxVerifiers: -1, timeoutMs: 5 });
    expect(configOf(printConfig(loadConfig(write('config.toml', text), {})))).toEqual(config);
  });

  it.each([
    ['[trust]\ndefault = "maybe"', /"trust.default" must be one of accept, reject/],
    ['[trust]\nrules = [1]', /"trust.rules\[1\]" must be a table/],
    ['[trust]\nrule = []', /unknown key "trust.rule"/],
    [rule('require = "accept"'), /"trust.rules\[1\].match" must be a string/],
    [
      rule('match = "*"\nrequire = "hope"'),
      /"trust.rules\[1\].require" must be one of accept, reject, digest, signature/,
    ],
    [
      rule('match = "*"\nrequire = "accept"\nkeys = ["/k"]'),
      /"trust.rules\[1\].keys" does not go with require = "accept"/,
    ],
    [rule('match = "*"\nrequire = "accept"\nkey = "/k"'), /"trust.rules\[1\].key" is not known/],
    [rule('match = "*"\nrequire = "digest"\ndigests = ["abc"]'), /holds "abc", which is no digest/],
    [rule('match = "*"\nrequire = "signature"'), /needs "keys", or "trusted_root"/],
    [rule('match = "*"\nrequire = "signature"\nkeys = ["k"]'), /holds "k", which is no absolute path/],
    [rule('match = "*"\nrequire = "signature"\nkeys = "k"'), /keys" must be a list of strings/],
    [rule('match = "*"\nrequire = "signature"\nkeys = ["/k"]\nissuer = "i"'), /identity without "trusted_root"/],
    [rule('match = "*"\nrequire = "signature"\ntrusted_root = "/r"\nissuer = "i"'), /needs "identity" and "issuer"/],
    ['[trust.verifiers]\nbin_dir = "v"', /"trust.verifiers.bin_dir" must be an absolute path/],
    ['[trust.verifiers]\nmax_verifiers = 1.5', /"trust.verifiers.max_verifiers" must be a whole number/],
    ['[trust.verifiers]\nper_verifier_timeout_ms = 0', /must be a whole number from 1 to 600000/],
  ])('refuses %j', (text, words) => {
    expect(() => configOf(text)).toThrow(words);
  });
});

describe('ruleFor()', () => {
  const titleOf = (policy: Policy, name: string) => policy.ruleFor(name)?.title;

  it('takes the first rule that fits, by the full name', () => {
    const policy = policyOf(
      'match = "r.example/team/free"\nrequire = "accept"',
      'match = "r.example/team/*"\nrequire = "reject"',
      'match = "docker.io/library/*:latest"\nrequire = "reject"',
    );

    expect(titleOf(policy, 'r.example/team/free:1')).toBeUndefined();
    expect(titleOf(policy, `r.example/team/free@${DIGEST}`)).toBeUndefined();
    expect(titleOf(policy, 'r.example/team/app')).toBe('rule "r.example/team/*"');
    expect(titleOf(policy, 'r.example/team/deep/app:1')).toBe('rule "r.example/team/*"');
    expect(titleOf(policy, 'r.example/teams/app')).toBeUndefined();
    expect(titleOf(policy, 'xr.example/team/app')).toBeUndefined();
    expect(titleOf(policy, 'R.EXAMPLE/team/app')).toBe('rule "r.example/team/*"');
    expect(titleOf(policy, 'busybox')).toBe('rule "docker.io/library/*:latest"');
    expect(titleOf(policy, 'busybox:1')).toBeUndefined();
    expect(titleOf(policy, '')).toBeUndefined();
  });

  it('has the default for the rest, also for what is no name', () => {
    const policy = loadPolicy(configOf(`[trust]\ndefault = "reject"\n${rule('match = ""\nrequire = "accept"')}`));

    expect(titleOf(policy, 'busybox')).toBe('the default');
    expect(titleOf(policy, 'NO NAME')).toBe('the default');
    expect(titleOf(policy, '')).toBeUndefined();
    expect(titleOf(policyOf('match = "*"\nrequire = "reject"'), '')).toBe('rule "*"');
  });
});

describe('patterns', () => {
  it('have no special sign but the star', () => {
    expect(globExpression('a.b/*').test('a.b/c/d')).toBe(true);
    expect(globExpression('a.b/*').test('axb/c')).toBe(false);
    expect(globExpression('a+(b)|c').test('a+(b)|c')).toBe(true);
    expect(globExpression('a').test('a\n')).toBe(false);
    expect(globExpression('a***').test('a\nb')).toBe(true);
  });

  it('take a host in capitals or not, and a tag as it is', () => {
    expect(namePattern('R.Example/a:*X').test('r.example/a:1X')).toBe(true);
    expect(namePattern('R.Example/a:*X').test('r.example/a:1x')).toBe(false);
    expect(namePattern('*:X').test('r.example/a:X')).toBe(true);
  });

  it('see a tag only where it decides', () => {
    expect(formsOf('r.example/a:1')).toEqual(['r.example/a', 'r.example/a:1']);
    expect(formsOf(`r.example/a:1@${DIGEST}`)).toEqual(['r.example/a', `r.example/a@${DIGEST}`]);
    expect(formsOf('a')).toEqual(['docker.io/library/a', 'docker.io/library/a:latest']);
    expect(formsOf(DIGEST)).toEqual([DIGEST]);
    expect(formsOf('')).toEqual(['']);
  });
});

describe('keys of a rule', () => {
  const pem = (key: { export(options: object): unknown }, type: string) => String(key.export({ type, format: 'pem' }));
  const load = (path: string) => policyOf(`match = "*"\nrequire = "signature"\nkeys = ["${path}"]`);

  it('decide what a proof is worth, whatever their files are called', () => {
    const idOf = (policy: Policy) => (policy.ruleFor('x')?.demand as { id: string } | undefined)?.id;
    const [first, second] = [makeSigner('ed25519').publicPem, makeSigner('rsa').publicPem];

    const id = idOf(load(write('a.pem', first)));

    expect(idOf(load(write('b.pem', first)))).toBe(id);
    expect(idOf(load(write('a.pem', second)))).not.toBe(id);
  });

  it('have to be public keys of a kind that is good enough', () => {
    const p384 = generateKeyPairSync('ec', { namedCurve: 'secp384r1' }).publicKey;
    const short = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey;
    const secret = generateKeyPairSync('ed25519').privateKey;
    const good = makeSigner().publicPem;

    for (const [text, words] of [
      [pem(p384, 'spki'), /ec secp384r1 is not taken/],
      [pem(short, 'spki'), /RSA of 1024 bits is not taken/],
      [pem(secret, 'pkcs8'), /the file is no public key in PEM form/],
      [good.replace(/\n[A-Za-z0-9+/]{20}/, '\nAAAA'), /cannot be read as one/],
      ['x'.repeat((1 << 20) + 1), /larger than/],
      ['', /the file is no public key in PEM form/],
    ] as const) {
      const path = write('key.pem', text);
      expect(() => load(path)).toThrow(words);
      expect(() => load(path)).toThrow(`public key ${path}: `);
    }
    expect(() => load('/nonexistent.pem')).toThrow(/public key \/nonexistent.pem: ENOENT/);
    expect(() => load(write('rsa.pem', makeSigner('rsa').publicPem))).not.toThrow();
  });

  it('stand beside a trusted root, which has to be JSON', () => {
    const path = write('root.json', 'no');
    const text = `match = "*"\nrequire = "signature"\ntrusted_root = "${path}"\nidentity = "i"\nissuer = "u"`;

    expect(() => policyOf(text)).toThrow(`trusted root ${path}: the file is not JSON`);
  });
});
