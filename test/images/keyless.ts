// Signatures by certificate, as sigstore's public services make them: an authority that gives short-lived certificates for
// an identity, and a log or a time-stamping authority that says when a signature was seen.

import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, sign, X509Certificate } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mustRun } from '../setup/command';
import { bundleBlob, type SignatureBlob, type StatementPlan, simpleSignature, statement } from './signatures';

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
const LOG_INDEX = 7;

export interface KeylessPlan extends StatementPlan {
  readonly identity: string;
  readonly issuer: string;
  /** When the log has seen the signature; now unless given. */
  readonly seenAt?: Date;
  /** Where the log is another one than the trusted root names. */
  readonly log?: Log;
}

export class KeylessAuthority {
  readonly log = new Log();
  readonly #directory: string;
  #serial = 0;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async create(directory: string): Promise<KeylessAuthority> {
    mkdirSync(directory, { recursive: true });
    const authority = new KeylessAuthority(directory);
    const uses = ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign'].flatMap((use) => [
      '-addext',
      use,
    ]);
    const files = ['-keyout', authority.#path('ca.key'), '-out', authority.#path('ca.crt')];
    await mustRun(['openssl', 'req', '-x509', ...KEY, '-days', '2', '-subj', '/O=test/CN=test', ...uses, ...files]);
    return authority;
  }

  /** What a trusted_root.json says of this authority, and of who vouches for the time. */
  trustedRoot({ hasLog = true, stamper }: { hasLog?: boolean; stamper?: Stamper } = {}): object {
    const validFor = { start: '2020-01-01T00:00:00Z' };
    const rawBytes = derOf(this.#path('ca.crt')).toString('base64');
    const logs = hasLog ? [this.log] : [];
    return {
      mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
      tlogs: logs.map((log) => ({
        baseUrl: 'https://log.invalid',
        hashAlgorithm: 'SHA2_256',
        publicKey: { rawBytes: log.key, keyDetails: 'PKIX_ECDSA_P256_SHA_256', validFor },
        logId: { keyId: log.id.toString('base64') },
      })),
      certificateAuthorities: [
        {
          subject: { organization: 'test', commonName: 'test' },
          uri: 'https://authority.invalid',
          certChain: { certificates: [{ rawBytes }] },
          validFor,
        },
      ],
      ctlogs: [],
      timestampAuthorities: (stamper === undefined ? [] : [stamper]).map(({ certificate }) => ({
        subject: { organization: 'test', commonName: 'stamper' },
        certChain: { certificates: [{ rawBytes: derOf(certificate).toString('base64') }, { rawBytes }] },
        validFor,
      })),
    };
  }

  /** A bundle with a statement about an image, signed with a key that a new certificate is for. */
  async bundle(digest: string, plan: KeylessPlan): Promise<SignatureBlob> {
    const { key, certificate } = await this.#issue(plan);
    const { payload, payloadType, signed } = statement(digest, plan);
    const signature = sign('sha256', signed, createPrivateKey(key));
    const body = Buffer.from(
      JSON.stringify({
        apiVersion: '0.0.1',
        kind: 'dsse',
        spec: {
          payloadHash: { algorithm: 'sha256', value: createHash('sha256').update(payload).digest('hex') },
          signatures: [{ signature: signature.toString('base64') }],
        },
      }),
    );
    const { entry } = (plan.log ?? this.log).promise('dsse', body, plan.seenAt ?? new Date());
    return bundleBlob(
      {
        verificationMaterial: {
          x509CertificateChain: { certificates: [{ rawBytes: certificate.toString('base64') }] },
          tlogEntries: [entry],
        },
        dsseEnvelope: {
          payload: payload.toString('base64'),
          payloadType,
          signatures: [{ sig: signature.toString('base64'), keyid: '' }],
        },
      },
      'application/vnd.dev.sigstore.bundle+json;version=0.1',
    );
  }

  /** The same with a time stamp in place of the log's promise. */
  async stampedBundle(digest: string, plan: KeylessPlan, stamper: Stamper): Promise<SignatureBlob> {
    const { key, certificate } = await this.#issue(plan);
    const { payload, payloadType, signed } = statement(digest, plan);
    const signature = sign('sha256', signed, createPrivateKey(key));
    return bundleBlob({
      verificationMaterial: {
        certificate: { rawBytes: certificate.toString('base64') },
        tlogEntries: [],
        timestampVerificationData: {
          rfc3161Timestamps: [{ signedTimestamp: (await stamper.stamp(signature)).toString('base64') }],
        },
      },
      dsseEnvelope: {
        payload: payload.toString('base64'),
        payloadType,
        signatures: [{ sig: signature.toString('base64'), keyid: '' }],
      },
    });
  }

  /** Somebody who says when a signature was seen (RFC 3161). */
  async stamper(): Promise<Stamper> {
    const { certificate, key } = await this.#certify('stamper', ['extendedKeyUsage=critical,timeStamping']);
    const settings = [
      `serial=${this.#path('serial')}`,
      'default_policy=1.2.3.4',
      'digests=sha256',
      'signer_digest=sha256',
    ];
    writeFileSync(this.#path('ts.cnf'), ['[tsa]', 'default_tsa=t', '[t]', ...settings, ''].join('\n'));
    writeFileSync(this.#path('serial'), '01\n');
    return {
      certificate,
      stamp: async (bytes) => {
        const [data, query, reply] = [this.#path('data'), this.#path('query'), this.#path('reply')];
        writeFileSync(data, bytes);
        await mustRun(['openssl', 'ts', '-query', '-data', data, '-sha256', '-no_nonce', '-cert', '-out', query]);
        const by = ['-signer', certificate, '-inkey', key, '-config', this.#path('ts.cnf')];
        await mustRun(['openssl', 'ts', '-reply', '-queryfile', query, ...by, '-out', reply]);
        return readFileSync(reply);
      },
    };
  }

  /** A payload with the same in annotations, as cosign 2 and before wrote it. */
  async simpleSignature(digest: string, plan: KeylessPlan): Promise<SignatureBlob> {
    const { key, certificate } = await this.#issue(plan);
    const signed = simpleSignature({ sign: (bytes) => sign('sha256', bytes, createPrivateKey(key)) }, digest);
    const { annotations = {} } = signed.descriptor;
    const body = Buffer.from(
      JSON.stringify({
        apiVersion: '0.0.1',
        kind: 'hashedrekord',
        spec: {
          data: { hash: { algorithm: 'sha256', value: signed.descriptor.digest.slice('sha256:'.length) } },
          signature: { content: annotations['dev.cosignproject.cosign/signature'] },
        },
      }),
    );
    const { promised, promise } = (plan.log ?? this.log).promise('hashedrekord', body, plan.seenAt ?? new Date());
    const added = {
      'dev.sigstore.cosign/certificate': new X509Certificate(certificate).toString(),
      'dev.sigstore.cosign/bundle': JSON.stringify({ SignedEntryTimestamp: promise, Payload: promised }),
    };
    return { ...signed, descriptor: { ...signed.descriptor, annotations: { ...annotations, ...added } } };
  }

  async #issue({ identity, issuer }: KeylessPlan): Promise<{ key: Buffer; certificate: Buffer }> {
    this.#serial += 1;
    const issued = await this.#certify(`leaf${this.#serial}`, [
      `subjectAltName=critical,URI:${identity}`,
      'extendedKeyUsage=codeSigning',
      `1.3.6.1.4.1.57264.1.8=ASN1:UTF8String:${issuer}`,
    ]);
    return { key: readFileSync(issued.key), certificate: derOf(issued.certificate) };
  }

  /** A key with a certificate, as files. */
  async #certify(name: string, extensions: readonly string[]): Promise<{ key: string; certificate: string }> {
    const file = (extension: string) => this.#path(`${name}.${extension}`);
    writeFileSync(file('ext'), `${extensions.join('\n')}\n`);
    await mustRun(['openssl', 'req', ...KEY, '-subj', `/CN=${name}`, '-keyout', file('key'), '-out', file('csr')]);
    const signing = ['-CA', this.#path('ca.crt'), '-CAkey', this.#path('ca.key'), '-CAcreateserial', '-days', '1'];
    const files = ['-in', file('csr'), '-extfile', file('ext'), '-out', file('crt')];
    await mustRun(['openssl', 'x509', '-req', ...signing, ...files]);
    return { key: file('key'), certificate: file('crt') };
  }

  #path(name: string): string {
    return join(this.#directory, name);
  }
}

export interface Stamper {
  /** File, PEM. */
  readonly certificate: string;
  readonly stamp: (bytes: Uint8Array) => Promise<Buffer>;
}

function derOf(certificate: string): Buffer {
  return new X509Certificate(readFileSync(certificate)).raw;
}

/** A transparency log that promises to include an entry (Rekor, signed entry timestamp). */
export class Log {
  readonly #pair = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });

  /** DER in base64. */
  get key(): string {
    return this.#der().toString('base64');
  }

  get id(): Buffer {
    return createHash('sha256').update(this.#der()).digest();
  }

  /** What is promised, the promise, and both as a bundle's entry. */
  promise(kind: 'dsse' | 'hashedrekord', body: Buffer, seenAt: Date) {
    const promised = {
      body: body.toString('base64'),
      integratedTime: Math.floor(seenAt.getTime() / 1000),
      logID: this.id.toString('hex'),
      logIndex: LOG_INDEX,
    };
    const promise = sign('sha256', Buffer.from(JSON.stringify(promised)), this.#pair.privateKey).toString('base64');
    const entry = {
      logIndex: String(LOG_INDEX),
      logId: { keyId: this.id.toString('base64') },
      kindVersion: { kind, version: '0.0.1' },
      integratedTime: String(promised.integratedTime),
      inclusionPromise: { signedEntryTimestamp: promise },
      canonicalizedBody: promised.body,
    };
    return { promised, promise, entry };
  }

  #der(): Buffer {
    return createPublicKey(this.#pair.publicKey.export({ type: 'spki', format: 'pem' })).export({
      type: 'spki',
      format: 'der',
    }) as Buffer;
  }
}
