// The client of the registries of one transfer: which host is asked for what, in which order, and what its answers mean.
// All HTTP is done on the thread; what is decided is decided here.

import { readFile } from 'node:fs/promises';
import { invalidArgument, isNotFound, resourceExhausted } from '../../proto/errors';
import { checkDigest, sha256 } from '../../proto/ids';
import { Authorizer } from './auth/authorizer';
import { type Asker, acceptOf, descriptorOf, hashAs, proved } from './documents';
import { endpointsOf, type HostEndpoint } from './hosts';
import { together } from './http/download';
import { type Capability, type Endpoint, urlAt } from './http/endpoint';
import type { EngineContext } from './http/engine';
import type { Authorize } from './http/exchange';
import { contentError, failureAt, type Place, RegistryError, statusError } from './http/failure';
import type { PaceLimits } from './http/pace';
import { QUESTION_RETRIES, withRetries } from './http/retry';
import { pushScope } from './http/upload';
import { isManifestType, MANIFEST_TYPES, mediaTypeOf } from './manifests';
import { addReferrer, referrersAt } from './referrers';
import type { RegistryThread } from './thread';
import type {
  Descriptor,
  Fetched,
  FetchTarget,
  PushOptions,
  PushOutcome,
  PushSource,
  Reference,
  RegistryOptions,
  TransferOptions,
} from './types';
import { urlSources } from './urls';

/** Of a manifest, index or configuration. */
export const DOCUMENT_BYTES_MAX = 8 << 20;
/** Tries at a host that is not the last one to ask. */
const MIRROR_ATTEMPTS_MAX = 2;
/** Wrong bytes are asked for once more. */
const CONTENT_RETRIES = { ...QUESTION_RETRIES, attemptsMax: 2 };
const ACCEPT = [...MANIFEST_TYPES, '*/*'].join(', ');

export interface RegistryParts extends RegistryOptions {
  readonly thread: RegistryThread;
  readonly limits: PaceLimits;
}

/**
 * A client of the registries of one image name and its mirrors (OCI distribution-spec 1.1).
 * Errors name host, stage, object, cause and what to do. Kinds: NOT_FOUND, UNAUTHENTICATED (no or refused credentials),
 * PERMISSION_DENIED, UNAVAILABLE (cannot be reached, overloaded, too slow; retried before), FAILED_PRECONDITION (other
 * bytes than their digest or size says), RESOURCE_EXHAUSTED (disk full, document too large), INVALID_ARGUMENT (bad name,
 * bad configuration of the host), UNKNOWN for other statuses, and the signal's reason.
 */
export class Registry {
  readonly #parts: RegistryParts;
  readonly #authorizers = new Map<string, Authorizer>();
  readonly #endpoints = new Map<string, Promise<readonly Endpoint[]>>();

  constructor(parts: RegistryParts) {
    this.#parts = parts;
  }

  /**
   * The descriptor that the tag or digest of the name stands for. A digest in the name wins over the tag. It is proved
   * when the document is fetched.
   */
  async resolve(reference: Reference, signal: AbortSignal): Promise<Descriptor> {
    const { tag, digest, repository, text } = reference;
    const object = digest ?? tag;
    if (object === undefined) throw invalidArgument(`reference "${text}": it has neither tag nor digest to resolve`);
    const doing = `resolve ${repository}${digest === undefined ? ':' : '@'}${object}`;
    // A digest is proved by its bytes, so that any mirror will do.
    return this.#overHosts(
      { reference, capability: digest === undefined ? 'resolve' : 'pull', doing, signal },
      async (ask, place) => {
        const found = await this.#resolveAt(ask, place, { path: `${repository}/manifests/${object}`, doing, digest });
        if (found instanceof RegistryError && isNotFound(found) && digest !== undefined) {
          const blob = await this.#resolveAt(ask, place, { path: `${repository}/blobs/${digest}`, doing, digest });
          if (!(blob instanceof RegistryError)) return blob;
        }
        if (found instanceof RegistryError) throw found;
        return found;
      },
    );
  }

  /** A manifest, index or configuration, proved against its digest. Refused when larger than 8 MiB. */
  async fetchDocument(reference: Reference, descriptor: Descriptor, signal: AbortSignal): Promise<Buffer> {
    const { mediaType, size } = descriptor;
    const digest = checkDigest(descriptor.digest);
    const doing = `fetch ${reference.repository}@${digest}`;
    if (size > DOCUMENT_BYTES_MAX) {
      throw resourceExhausted(
        `${doing}: ${size} bytes are more than the ${DOCUMENT_BYTES_MAX} that a document may have`,
      );
    }
    const kinds = isManifestType(mediaType) ? ['manifests', 'blobs'] : ['blobs'];
    const fetchAt = async (ask: Asker, place: Place): Promise<Buffer> => {
      for (const kind of kinds) {
        const path = `${reference.repository}/${kind}/${digest}`;
        const answer = await ask({ method: 'GET', path, doing, headers: { accept: acceptOf(mediaType) } });
        if (answer.status === 404 && kind !== kinds.at(-1)) continue;
        if (answer.status !== 200) throw statusError(place, answer);
        return proved(place, answer.body, { digest, size });
      }
      throw new Error('unreachable');
    };
    return this.#overHosts({ reference, capability: 'pull', doing, signal }, (ask, place) =>
      withRetries(CONTENT_RETRIES, () => fetchAt(ask, place), signal),
    );
  }

  /**
   * Brings a blob into a file, on another thread: resumed from the file's end, tried again after failures and at the
   * next mirror, in parallel ranges when it is large and slow, proved against digest and size. The descriptor's URLs are
   * asked before all hosts. It does not sync the file. Two calls for one file must not overlap: the lock on the ingest
   * sees to it, and makes one download of a digest that is asked for twice.
   * Calls of any number may run at once; the limits on connections are here.
   */
  async fetch(
    reference: Reference,
    descriptor: Descriptor,
    target: FetchTarget,
    { signal, onProgress }: TransferOptions,
  ): Promise<Fetched> {
    const digest = checkDigest(descriptor.digest);
    const { repository } = reference;
    if (descriptor.size < 0n || descriptor.size > Number.MAX_SAFE_INTEGER) {
      throw invalidArgument(`blob ${digest}: no blob has ${descriptor.size} bytes`);
    }
    const doing = `fetch ${repository}@${digest}`;
    const endpoints = await this.#hostsFor({ reference, capability: 'pull', doing, signal });
    const kinds = isManifestType(descriptor.mediaType) ? ['manifests', 'blobs'] : ['blobs'];
    const scopes = [pullScope(repository)];
    const accept = acceptOf(descriptor.mediaType);
    const registrySources = endpoints.flatMap((endpoint) =>
      kinds.map((kind) => ({ endpoint, scopes, accept, url: urlAt(endpoint, `${repository}/${kind}/${digest}`) })),
    );
    const sources = [...urlSources(descriptor, accept), ...registrySources];
    const { thread, limits } = this.#parts;
    const totalBytes = descriptor.size;
    await thread.run(
      'download',
      { sources, path: target.path, digest, sizeBytes: Number(totalBytes), doing, limits },
      this.#context(this.#authorize(reference), signal, (offset) =>
        onProgress?.({ offsetBytes: BigInt(offset), totalBytes }),
      ),
    );
    return { digest, sizeBytes: totalBytes };
  }

  /**
   * Sends a blob or, if the media type is that of a manifest or index, a manifest. What the registry has is not sent.
   * @param source undefined: it is not here; NOT_FOUND unless the registry has it
   */
  async push(
    reference: Reference,
    descriptor: Descriptor,
    source: PushSource | undefined,
    options: PushOptions,
  ): Promise<PushOutcome> {
    checkDigest(descriptor.digest);
    const { repository } = reference;
    const doing = `push ${repository}@${descriptor.digest}`;
    // Only one host can be written to: the first that may be.
    const [endpoint] = await this.#hostsFor({ reference, capability: 'push', doing, signal: options.signal });
    if (endpoint === undefined) throw new Error('unreachable');
    const ask = this.#asker(reference, endpoint, options.signal);
    return isManifestType(descriptor.mediaType)
      ? this.#pushManifest({ reference, descriptor, source, options, endpoint, ask })
      : this.#pushBlob({ reference, descriptor, source, options, endpoint, ask });
  }

  /**
   * Descriptors of manifests whose subject is this digest, of one artifact type if given. Empty when there are none.
   * Registries without the referrers API are asked for the tag that stands in for it.
   */
  async referrers(
    reference: Reference,
    digest: string,
    { signal, artifactType }: { readonly signal: AbortSignal; readonly artifactType?: string },
  ): Promise<Descriptor[]> {
    const doing = `referrers of ${reference.repository}@${checkDigest(digest)}`;
    return this.#overHosts({ reference, capability: 'resolve', doing, signal }, (ask, place) =>
      referrersAt({ ask, place, doing, repository: reference.repository, digest, artifactType }),
    );
  }

  async #resolveAt(
    ask: Asker,
    place: Place,
    { path, doing, digest }: { path: string; doing: string; digest: string | undefined },
  ): Promise<Descriptor | RegistryError> {
    const call = { path, doing, headers: { accept: ACCEPT } };
    const head = await ask({ ...call, method: 'HEAD' });
    if (head.status === 200) {
      const told = descriptorOf(head, digest);
      if (told !== undefined) return told;
    } else if (![400, 405, 501].includes(head.status)) {
      return statusError(place, head);
    }
    const answer = await ask({ ...call, method: 'GET' });
    if (answer.status !== 200) return statusError(place, answer);
    const body = Buffer.from(answer.body);
    const actual = digest === undefined ? sha256(body) : hashAs(digest, body);
    if (digest !== undefined && actual !== digest) throw contentError(place, `its bytes have the digest ${actual}`);
    return { mediaType: mediaTypeOf(answer.headers['content-type'], body), digest: actual, size: BigInt(body.length) };
  }

  async #pushManifest({ reference, descriptor, source, options, endpoint, ask }: Push): Promise<PushOutcome> {
    const { repository, tag } = reference;
    const { digest, mediaType } = descriptor;
    const object = options.byDigest === true || tag === undefined ? digest : tag;
    const doing = `push ${repository}${object === digest ? '@' : ':'}${object}`;
    const place = { host: endpoint.host, doing };
    const path = `${repository}/manifests/${object}`;
    const body = source && proved(place, await readFile(source.path), descriptor);
    const head = await ask({ method: 'HEAD', path, doing, headers: { accept: acceptOf(mediaType) }, canPush: true });
    const known = head.headers['docker-content-digest'] ?? (object === digest ? digest : '');
    if (head.status === 200 && known === digest) return 'exists';
    if (body === undefined) throw isNowhere(place);
    const answer = await ask({
      method: 'PUT',
      path,
      doing,
      headers: { 'content-type': mediaType },
      body,
      canPush: true,
    });
    if (answer.status !== 201 && answer.status !== 200) throw statusError(place, answer);
    const stored = answer.headers['docker-content-digest'] ?? digest;
    if (stored !== digest) throw contentError(place, `it stored the digest ${stored}`);
    if (answer.headers['oci-subject'] === undefined) {
      await addReferrer({ ask, place, doing, repository, manifest: body, descriptor });
    }
    return 'uploaded';
  }

  async #pushBlob({ reference, descriptor, source, options, endpoint, ask }: Push): Promise<PushOutcome> {
    const { repository } = reference;
    const { digest, size: totalBytes } = descriptor;
    const doing = `push ${repository}@${digest}`;
    const head = await ask({ method: 'HEAD', path: `${repository}/blobs/${digest}`, doing, canPush: true });
    if (head.status === 200) return 'exists';
    const place = { host: endpoint.host, doing };
    if (head.status === 401 || head.status === 403) throw statusError(place, head);
    if (source === undefined) throw isNowhere(place);
    const { mountFrom = [], signal, onProgress } = options;
    const { thread, limits } = this.#parts;
    const sizeBytes = Number(totalBytes);
    return thread.run(
      'upload',
      { endpoint, repository, digest, sizeBytes, path: source.path, mountFrom, doing, limits },
      this.#context(this.#authorize(reference), signal, (offset) =>
        onProgress?.({ offsetBytes: BigInt(offset), totalBytes }),
      ),
    );
  }

  /** The answer of the first host that gives one. @throws the failure of the last host, with those before it */
  async #overHosts<T>(purpose: Purpose, body: (ask: Asker, place: Place) => Promise<T>): Promise<T> {
    const { reference, doing, signal } = purpose;
    const endpoints = await this.#hostsFor(purpose);
    const failures: RegistryError[] = [];
    for (const [index, endpoint] of endpoints.entries()) {
      const isLast = index === endpoints.length - 1;
      const ask = this.#asker(reference, endpoint, signal);
      const limited: Asker = (call) => ask(isLast ? call : { attemptsMax: MIRROR_ATTEMPTS_MAX, ...call });
      try {
        return await body(limited, { host: endpoint.host, doing });
      } catch (error) {
        if (!(error instanceof RegistryError)) throw error;
        failures.push(error);
      }
    }
    throw together(failures);
  }

  async #hostsFor({ reference, capability, doing, signal }: Purpose): Promise<readonly Endpoint[]> {
    const { host, text } = reference;
    let endpoints = this.#endpoints.get(host);
    if (endpoints === undefined) {
      endpoints = this.#configured(host, signal);
      this.#endpoints.set(host, endpoints);
      endpoints.catch(() => this.#endpoints.delete(host));
    }
    const able = (await endpoints).filter(({ capabilities }) => capabilities.includes(capability));
    if (able.length > 0) return able;
    throw failureAt(
      { host, doing },
      'failed precondition',
      `hosts.toml names no host for "${text}" that may ${capability}`,
    );
  }

  async #configured(host: string, signal: AbortSignal): Promise<readonly Endpoint[]> {
    const { hostsDirectory, defaultScheme, headers = {} } = this.#parts;
    const endpoints = endpointsOf(host, { hostsDirectory, defaultScheme });
    return Promise.all(
      endpoints.map(async (endpoint) => {
        const settled = await this.#settled(endpoint, signal);
        return { ...settled, headers: { ...lowerCased(headers), ...settled.headers } };
      }),
    );
  }

  /** A host on loopback is asked over http when it does not speak https. */
  async #settled({ mayBePlain, ...endpoint }: HostEndpoint, signal: AbortSignal): Promise<Endpoint> {
    if (!mayBePlain) return endpoint;
    try {
      const call = { endpoint, method: 'GET', url: urlAt(endpoint, ''), doing: 'ping', bytesMax: 1 << 16 } as const;
      await this.#parts.thread.run(
        'ask',
        { ...call, attemptsMax: 1 },
        this.#context(async () => undefined, signal),
      );
    } catch (error) {
      signal.throwIfAborted();
      // Any other failure shows again, with better words, where something is asked for.
      if (error instanceof RegistryError && error.reason === 'no tls') {
        return { ...endpoint, url: endpoint.url.replace(/^https:/, 'http:') };
      }
    }
    return endpoint;
  }

  #asker(reference: Reference, endpoint: Endpoint, signal: AbortSignal): Asker {
    const authorize = this.#authorize(reference);
    return ({ path, query, canPush = false, ...call }) => {
      const scope = canPush ? pushScope(reference.repository) : pullScope(reference.repository);
      const url = urlAt(endpoint, path, query);
      const question = { ...call, endpoint, url, scopes: [scope], bytesMax: DOCUMENT_BYTES_MAX };
      return this.#parts.thread.run('ask', question, this.#context(authorize, signal));
    };
  }

  #context(
    authorize: Authorize,
    signal: AbortSignal,
    onProgress: EngineContext['onProgress'] = () => {},
  ): EngineContext {
    return { authorize, signal, onProgress, watch: this.#parts.watch };
  }

  #authorize({ text }: Reference): Authorize {
    let authorizer = this.#authorizers.get(text);
    if (authorizer === undefined) {
      const { thread, credentials } = this.#parts;
      authorizer = new Authorizer({
        reference: text,
        credentials,
        ask: (question, authorize, signal) => thread.run('ask', question, this.#context(authorize, signal)),
      });
      this.#authorizers.set(text, authorizer);
    }
    return (request, signal) => authorizer.authorize(request, signal);
  }
}

/** What hosts are asked for. */
interface Purpose {
  readonly reference: Reference;
  readonly capability: Capability;
  readonly doing: string;
  readonly signal: AbortSignal;
}

interface Push {
  readonly reference: Reference;
  readonly descriptor: Descriptor;
  readonly source: PushSource | undefined;
  readonly options: PushOptions;
  readonly endpoint: Endpoint;
  readonly ask: Asker;
}

function isNowhere(place: Place): RegistryError {
  return failureAt(place, 'not found', 'it is neither here nor there: pull all platforms first, or push one');
}

function pullScope(repository: string): string {
  return `repository:${repository}:pull`;
}

function lowerCased(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}
