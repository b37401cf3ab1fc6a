// What the registry client takes and gives. Shapes only; all of them can be sent to a worker thread, but for functions.

import type { HttpWatch } from './http/watch';

/** What an image's name says: `HOST/REPOSITORY[:TAG][@DIGEST]`. Made by parseReference() and normalizeReference(). */
export interface Reference {
  /** With the port, if the name has one. */
  readonly host: string;
  /** Without host, tag and digest: `library/busybox`. */
  readonly repository: string;
  readonly tag: string | undefined;
  readonly digest: string | undefined;
  /** The whole name. */
  readonly text: string;
}

/** An OCI descriptor (image-spec, descriptor.md), as far as a registry wants to know. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: bigint;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly artifactType?: string;
  /** Where its bytes are besides the registry. */
  readonly urls?: readonly string[];
}

export type Credentials =
  | { readonly kind: 'password'; readonly username: string; readonly secret: string }
  /** A refresh token, as `identitytoken` of docker's config.json is. */
  | { readonly kind: 'identity-token'; readonly token: string }
  /** The value of the Authorization header, taken as it is. */
  | { readonly kind: 'header'; readonly value: string };

export interface CredentialsRequest {
  /** Host that wants them, with port: a mirror's, if that is asked. */
  readonly host: string;
  /** The name as the user gave it. */
  readonly reference: string;
  /** WWW-Authenticate headers of the host's answer. */
  readonly challenges: readonly string[];
}

/** Undefined: none for this host, go on without. Asked at most once for each host and Registry. */
export type CredentialsSource = (request: CredentialsRequest, signal: AbortSignal) => Promise<Credentials | undefined>;

export interface Progress {
  /** Bytes that are in place: of the file from its start (fetch), or taken by the registry (push). May go back to 0. */
  readonly offsetBytes: bigint;
  readonly totalBytes: bigint;
}

export interface TransferOptions {
  readonly signal: AbortSignal;
  /** Called about four times a second while bytes move, and at the end. */
  readonly onProgress?: (progress: Progress) => void;
}

/** Where the bytes of a blob go. */
export interface FetchTarget {
  /**
   * The data file of an ingest; nobody else writes to it meanwhile. What is in it already is taken for the first part
   * of the blob, hashed and kept when the digest proves right in the end. It is made if it is not there, and grows from
   * its end only, so that a reader may follow it up to `offsetBytes`. After an error it holds what had arrived.
   */
  readonly path: string;
}

export interface Fetched {
  /** Equal to the descriptor's; every byte was hashed. */
  readonly digest: string;
  readonly sizeBytes: bigint;
}

export interface PushSource {
  /** File with the bytes of the blob or manifest. */
  readonly path: string;
}

export interface PushOptions extends TransferOptions {
  /** Manifests only: store it under its digest alone, as what an index names is. Otherwise under the tag, if there is one. */
  readonly byDigest?: boolean;
  /** Blobs only: repositories of the same host that may have the blob, likeliest first (distribution-source.ts). */
  readonly mountFrom?: readonly string[];
}

/** uploaded: its bytes went over; exists: the registry had it; mounted: taken from another repository of the host. */
export type PushOutcome = 'uploaded' | 'exists' | 'mounted';

/** Of one transfer, for Registries.open(). What is unset is as the daemon's configuration has it. */
export interface RegistryOptions {
  /** Directories with HOST/hosts.toml and certificates (containerd's hosts.md), separated by colons. */
  readonly hostsDirectory?: string;
  /** For hosts without hosts.toml. Unset: https, and on loopback what the host speaks. */
  readonly defaultScheme?: 'http' | 'https';
  /** Sent with every request to a registry, not to where it redirects. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly credentials?: CredentialsSource;
  /** Is told what goes over HTTP. */
  readonly watch?: HttpWatch;
}
