// Which signatures count: every kind of key and form of signature, and everything that must not count.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { trustConfig } from '../../../../daemon/trust/config';
import { loadPolicy, type SignatureDemand } from '../../../../daemon/trust/policy';
import { objectionTo } from '../../../../daemon/trust/signatures';
import type { SignatureSource } from '../../../../daemon/trust/sources';
import { KeylessAuthority, type KeylessPlan, Log } from '../../../images/keyless';
import {
  bundle,
  bundleBlob,
  digestOf,
  type KeyKind,
  makeSigner,
  messageBundle,
  type SignatureBlob,
  type Signer,
  signatureManifest,
  simpleSignature,
  tampered,
} from '../../../images/signatures';

const IMAGE = Buffer.from('{"schemaVersion":2}');
const DIGEST = digestOf(IMAGE);
const OTHER = digestOf(Buffer.from('other'));
const VERIFIERS = { bin_dir: '', max_verifiers: 10, per_verifier_timeout_ms: 10_000 };

let directory: string;
let serial = 0;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'gantry-trust-'));
});

afterEach(() => rmSync(directory, { recursive: true }));

function demandOf(rule: object): SignatureDemand {
  const config = { default: 'accept', rules: [{ match: '*', require: 'signature', ...rule }], verifiers: VERIFIERS };
  const demand = loadPolicy(trustConfig(config, 'test')).ruleFor('x')?.demand;
  if (demand?.kind !== 'signature') throw new Error('no demand');
  return demand;
}

function keyFile(signer: Signer): string {
  serial += 1;
  const path = join(directory, `${serial}.pem`);
  writeFileSync(path, signer.publicPem);
  return path;
}

function sourceOf(manifests: readonly (readonly SignatureBlob[])[], title = 'here'): SignatureSource {
  const made = manifests.map((signatures) => signatureManifest(signatures));
  const blobs = [...manifests.flat(), ...made.map(({ manifest }) => manifest)];
  return {
    title,
    async *manifests() {
      for (const { manifest } of made) yield manifest.descriptor;
    },
    async read({ digest }) {
      const found = blobs.find(({ descriptor }) => descriptor.digest === digest);
      if (found === undefined) throw new Error(`no ${digest}`);
      return found.bytes;
    },
  };
}

/** What the daemon has to say of an image with these signatures. */
function judge(demand: SignatureDemand, ...signatures: SignatureBlob[]): Promise<string | undefined> {
  const image = { digest: DIGEST, bytes: async () => IMAGE };
  return objectionTo(image, demand, [sourceOf([signatures])], new AbortController().signal);
}

describe.each<KeyKind>(['p256', 'ed25519', 'rsa'])('signatures with a key of kind %s', (kind) => {
  it('count in every form', async () => {
    const signer = makeSigner(kind);
    const demand = demandOf({ keys: [keyFile(makeSigner()), keyFile(signer)] });

    expect(await judge(demand, simpleSignature(signer, DIGEST))).toBeUndefined();
    expect(await judge(demand, bundle(signer, DIGEST))).toBeUndefined();
    expect(await judge(demand, messageBundle(signer, IMAGE))).toBeUndefined();
  });

  it('do not count when they are by somebody else or for another image', async () => {
    const [signer, stranger] = [makeSigner(kind), makeSigner(kind)];
    const demand = demandOf({ keys: [keyFile(signer)] });

    for (const forged of [
      simpleSignature(stranger, DIGEST),
      bundle(stranger, DIGEST),
      messageBundle(stranger, IMAGE),
      messageBundle(signer, Buffer.from('other')),
    ]) {
      expect(await judge(demand, forged)).toMatch(
        /^no signature counts of 1 in here \(.*not made with a key of the rule\)$/,
      );
    }
    expect(await judge(demand, simpleSignature(signer, OTHER))).toContain(`it is for another image, ${OTHER}`);
    expect(await judge(demand, bundle(signer, OTHER))).toContain('it is for another image');
  });
});

describe('objectionTo()', () => {
  const signer = makeSigner();
  const fake = (text: string): SignatureBlob => {
    const { descriptor } = bundleBlob({});
    return { descriptor: { ...descriptor, digest: digestOf(Buffer.from(text)) }, bytes: Buffer.from(text) };
  };

  it('takes no payload that was changed, and nothing that says something else', async () => {
    const demand = demandOf({ keys: [keyFile(signer)] });
    const good = simpleSignature(signer, DIGEST);
    const bare = { ...good, descriptor: { ...good.descriptor, annotations: {} } };

    expect(await judge(demand, tampered(good))).toContain('not made with a key of the rule');
    expect(await judge(demand, bare)).toContain('it lacks the annotation');
    expect(await judge(demand, simpleSignature(signer, DIGEST, { type: 'a promise' }))).toContain(
      'it says "a promise"',
    );
    const provenance = { predicateType: 'https://slsa.dev/provenance/v1' };
    expect(await judge(demand, bundle(signer, DIGEST, provenance))).toContain(
      'it states "https://slsa.dev/provenance/v1"',
    );
    expect(await judge(demand, bundle(signer, DIGEST, { payloadType: 'text/plain' }))).toContain(
      'it is over "text/plain"',
    );
  });

  it('takes no statement of an unknown form, and no bytes that are not the image', async () => {
    const demand = demandOf({ keys: [keyFile(signer)] });
    const other = Buffer.from('other');
    const image = { digest: DIGEST, bytes: async () => other };

    expect(await judge(demand, bundle(signer, DIGEST, { type: 'a letter' }))).toContain('is of the type "a letter"');
    const judged = objectionTo(
      image,
      demand,
      [sourceOf([[messageBundle(signer, other)]])],
      new AbortController().signal,
    );
    expect(await judged).toContain(`${DIGEST}: its bytes have another digest`);
  });

  it('takes other statements where the rule names them', async () => {
    const predicateType = 'https://slsa.dev/provenance/v1';
    const demand = demandOf({ keys: [keyFile(signer)], predicates: [predicateType] });

    expect(await judge(demand, bundle(signer, DIGEST, { predicateType }))).toBeUndefined();
    expect(await judge(demand, bundle(signer, DIGEST))).toContain('it states');
  });

  it('compares the signed name where the rule wants it', async () => {
    const demand = demandOf({ keys: [keyFile(signer)], signed_as: 'registry.example/team/*' });
    const name = 'registry.example/team/app';

    expect(await judge(demand, simpleSignature(signer, DIGEST, { name }))).toBeUndefined();
    expect(await judge(demand, bundle(signer, DIGEST, { name }))).toBeUndefined();
    expect(await judge(demand, simpleSignature(signer, DIGEST, { name: 'else/app' }))).toContain(
      'for the name "else/app"',
    );
    expect(await judge(demand, bundle(signer, DIGEST))).toContain('it is for another name');
    expect(await judge(demand, messageBundle(signer, IMAGE))).toContain('does not say for which name');
  });

  it('finds the good one among broken ones and in the last source', async () => {
    const demand = demandOf({ keys: [keyFile(signer)] });
    const image = { digest: DIGEST, bytes: async () => IMAGE };
    const broken = [fake('no JSON'), fake('[]'), fake('{}'), fake('{"mediaType":"x","dsseEnvelope":7}')];
    const failing: SignatureSource = {
      ...sourceOf([], 'there'),
      // biome-ignore lint/correctness/useYield: it fails before.
      async *manifests() {
        throw new Error('out of reach');
      },
    };
    const { signal } = new AbortController();
    const good = sourceOf([broken, [simpleSignature(makeSigner(), DIGEST)], [bundle(signer, DIGEST)]]);

    expect(await objectionTo(image, demand, [failing, good], signal)).toBeUndefined();
    expect(await objectionTo(image, demand, [failing, sourceOf([])], signal)).toBe(
      'no signature was found in there and here (there: out of reach)',
    );
    expect(await objectionTo(image, demand, [sourceOf([broken])], signal)).toMatch(
      /^no signature counts of 4 in here \(/,
    );
  });

  it('ends when nobody waits for it any more', async () => {
    const demand = demandOf({ keys: [keyFile(signer)] });
    const control = new AbortController();
    const source: SignatureSource = {
      ...sourceOf([]),
      // biome-ignore lint/correctness/useYield: it fails before.
      async *manifests() {
        control.abort(new Error('gone'));
        throw new Error('aborted');
      },
    };

    const judged = objectionTo({ digest: DIGEST, bytes: async () => IMAGE }, demand, [source], control.signal);

    await expect(judged).rejects.toThrow('gone');
  });

  it('looks at a limited number of signatures', async () => {
    const demand = demandOf({ keys: [keyFile(signer)] });
    const strangers = Array.from({ length: 101 }, () => fake('{}'));

    expect(await judge(demand, ...strangers, bundle(signer, DIGEST))).toContain('96 more');
  });
});

describe('signatures by certificate', () => {
  const identity = 'https://forge.invalid/team/app/.build/release.yml@refs/tags/v1';
  const issuer = 'https://issuer.invalid';

  async function made() {
    const authority = await KeylessAuthority.create(join(directory, 'authority'));
    return { authority, demand: demandBy(authority.trustedRoot()) };
  }

  function demandBy(trustedRoot: object): SignatureDemand {
    const root = join(directory, 'trusted_root.json');
    writeFileSync(root, JSON.stringify(trustedRoot));
    return demandOf({ trusted_root: root, identity: 'https://forge.invalid/team/app/*', issuer });
  }

  const forms = {
    'a bundle': (from: KeylessAuthority, digest: string, plan: KeylessPlan) => from.bundle(digest, plan),
    annotations: (from: KeylessAuthority, digest: string, plan: KeylessPlan) => from.simpleSignature(digest, plan),
  };

  describe.each(Object.entries(forms))('in %s', (_form, make) => {
    it('count for whom the rule names', async () => {
      const { authority, demand } = await made();

      expect(await judge(demand, await make(authority, DIGEST, { identity, issuer }))).toBeUndefined();
    });

    it('do not count for anybody else', async () => {
      const { authority, demand } = await made();
      const objection = async (plan: object, digest = DIGEST) =>
        judge(demand, await make(authority, digest, { identity, issuer, ...plan }));

      expect(await objection({ identity: 'https://forge.invalid/team/other' })).toContain('certificate identity error');
      expect(await objection({ identity: `https://evil.invalid/?${identity}` })).toContain(
        'certificate identity error',
      );
      expect(await objection({ issuer: 'https://evil.invalid' })).toContain('invalid certificate extension');
      expect(await objection({}, OTHER)).toContain('it is for another image');
    });

    it("do not count by another authority or log, or outside of the certificate's time", async () => {
      const { authority, demand } = await made();
      const stranger = await KeylessAuthority.create(join(directory, 'stranger'));
      const plan = { identity, issuer };

      expect(await judge(demand, await make(stranger, DIGEST, plan))).toContain('certificate chain');
      const logged = await make(stranger, DIGEST, { ...plan, log: authority.log });
      expect(await judge(demand, logged)).toContain('certificate chain');
      expect(await judge(demand, await make(authority, DIGEST, { ...plan, log: new Log() }))).toContain(
        'inclusion promise could not be verified',
      );
      for (const days of [-2, 2]) {
        const seenAt = new Date(Date.now() + days * 86_400_000);
        expect(await judge(demand, await make(authority, DIGEST, { ...plan, seenAt }))).toContain('certificate chain');
      }
    });
  });

  it('count with a time stamp, but where the root has a log, this has to know them too', async () => {
    const { authority } = await made();
    const stamper = await authority.stamper();
    const stamped = await authority.stampedBundle(DIGEST, { identity, issuer }, stamper);
    const stranger = await (await KeylessAuthority.create(join(directory, 'stranger'))).stamper();
    const forged = await authority.stampedBundle(DIGEST, { identity, issuer }, stranger);

    expect(await judge(demandBy(authority.trustedRoot({ hasLog: false, stamper })), stamped)).toBeUndefined();
    expect(await judge(demandBy(authority.trustedRoot({ stamper })), stamped)).toContain(
      'expected 1 tlog entries, got 0',
    );
    const untimely = await judge(demandBy(authority.trustedRoot({ hasLog: false, stamper })), forged);
    expect(untimely).toContain('timestamp could not be verified');
  });

  it('are all that counts for a rule without keys', async () => {
    const { authority, demand } = await made();
    const good = await authority.simpleSignature(DIGEST, { identity, issuer });
    const { 'dev.sigstore.cosign/bundle': _, ...unlogged } = good.descriptor.annotations ?? {};

    expect(await judge(demand, bundle(makeSigner(), DIGEST))).toContain('nor with a certificate');
    expect(await judge(demand, simpleSignature(makeSigner(), DIGEST))).toContain('nor with a certificate');
    expect(await judge(demand, tampered(good))).toContain('no signature counts of 1');
    const bare = { ...good, descriptor: { ...good.descriptor, annotations: unlogged } };
    expect(await judge(demand, bare)).toContain('expected 1 timestamps, got 0');
  });
});
