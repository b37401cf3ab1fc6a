// Signatures by certificate, as sigstore's public services make them: an authority that gives short-lived certificates for
// an identity, and a log that says when a signature was seen.

import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, sign, X509Certificate } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mustRun } from '../setup/command';
import { bundleBlob, type SignatureBlob, type StatementPlan, statement } from './signatures';

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

  /** What a trusted_root.json says of this authority and its log. */
  trustedRoot(): object {
    const validFor = { start: '2020-01-01T00:00:00Z' };
    const rawBytes = new X509Certificate(readFileSync(this.#path('ca.crt'))).raw.toString('base64');
    return {
      mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
      tlogs: [
        {
          baseUrl: 'https://log.invalid',
          hashAlgorithm: 'SHA2_256',
          publicKey: { rawBytes: this.log.key, keyDetails: 'PKIX_ECDSA_P256_SHA_256', validFor },
          logId: { keyId: this.log.id.toString('base64') },
        },
      ],
      certificateAuthorities: [
        {
          subject: { organization: 'test', commonName: 'test' },
          uri: 'https://authority.invalid',
          certChain: { certificates: [{ rawBytes }] },
          validFor,
        },
      ],
      ctlogs: [],
      timestampAuthorities: [],
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
    const entry = (plan.log ?? this.log).entry(body, plan.seenAt ?? new Date());
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

  async #issue({ identity, issuer }: KeylessPlan): Promise<{ key: Buffer; certificate: Buffer }> {
    this.#serial += 1;
    const file = (extension: string) => this.#path(`leaf${this.#serial}.${extension}`);
    const extensions = [
      `subjectAltName=critical,URI:${identity}`,
      'extendedKeyUsage=codeSigning',
      `1.3.6.1.4.1.57264.1.8=ASN1:UTF8String:${issuer}`,
    ];
    writeFileSync(file('ext'), `${extensions.join('\n')}\n`);
    await mustRun(['openssl', 'req', ...KEY, '-subj', '/CN=leaf', '-keyout', file('key'), '-out', file('csr')]);
    const signing = ['-CA', this.#path('ca.crt'), '-CAkey', this.#path('ca.key'), '-CAcreateserial', '-days', '1'];
    const files = ['-in', file('csr'), '-extfile', file('ext'), '-out', file('crt')];
    await mustRun(['openssl', 'x509', '-req', ...signing, ...files]);
    return { key: readFileSync(file('key')), certificate: new X509Certificate(readFileSync(file('crt'))).raw };
  }

  #path(name: string): string {
    return join(this.#directory, name);
  }
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

  entry(body: Buffer, seenAt: Date): object {
    const integratedTime = Math.floor(seenAt.getTime() / 1000);
    const promised = JSON.stringify({
      body: body.toString('base64'),
      integratedTime,
      logID: this.id.toString('hex'),
      logIndex: LOG_INDEX,
    });
    return {
      logIndex: String(LOG_INDEX),
      logId: { keyId: this.id.toString('base64') },
      kindVersion: { kind: 'dsse', version: '0.0.1' },
      integratedTime: String(integratedTime),
      inclusionPromise: {
        signedEntryTimestamp: sign('sha256', Buffer.from(promised), this.#pair.privateKey).toString('base64'),
      },
      canonicalizedBody: body.toString('base64'),
    };
  }

  #der(): Buffer {
    return createPublicKey(this.#pair.publicKey.export({ type: 'spki', format: 'pem' })).export({
      type: 'spki',
      format: 'der',
    }) as Buffer;
  }
}
