// Whom connections with TLS trust: the machine's authorities, and those that are configured for an endpoint.

import { existsSync, readFileSync } from 'node:fs';
import { createSecureContext, rootCertificates, type SecureContext, setDefaultCACertificates } from 'node:tls';
import type { TlsSettings } from './endpoint';

/** Where distributions keep the authorities that the machine trusts, the first one that is there. */
const AUTHORITY_FILES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

/** Trust in the machine's authorities and those of an endpoint. Reading them takes milliseconds: one for all connections. */
export function secureContextFor({ authorities, clients }: TlsSettings): SecureContext {
  return createSecureContext({
    ca: [...trustedAuthorities(), ...authorities],
    cert: clients.map(({ certificate }) => certificate),
    key: clients.map(({ key }) => key),
    minVersion: 'TLSv1.2',
  });
}

let defaults: string | undefined;

/**
 * The same trust for connections of this thread that are made without a context: Node's agents connect so to a proxy,
 * and to nothing else. It is in force for what connects before the next call.
 */
export function trustByDefault({ authorities }: Pick<TlsSettings, 'authorities'>): void {
  const key = JSON.stringify(authorities);
  if (defaults === key) return;
  setDefaultCACertificates([...trustedAuthorities(), ...authorities]);
  defaults = key;
}

function trustedAuthorities(): readonly string[] {
  const named = process.env['SSL_CERT_FILE'];
  const file = [...(named === undefined ? [] : [named]), ...AUTHORITY_FILES].find((path) => existsSync(path));
  return file === undefined ? rootCertificates : [readFileSync(file, 'utf8')];
}
