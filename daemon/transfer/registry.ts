// A registry as a client names it (containerd.types.transfer.OCIRegistry): reference, hosts, headers, and credentials that
// the client is asked for over a stream.

import { packAny, unpackAny } from '../../proto/any';
import { invalidArgument } from '../../proto/errors';
import {
  AuthRequest,
  AuthResponse,
  AuthType,
  HTTPDebug,
  type OCIRegistry,
  type RegistryResolver,
} from '../../proto/generated/containerd.types.transfer';
import type { ImageDescriptor } from '../images/documents';
import { parseReference } from '../registry/reference';
import type { Registry } from '../registry/registry';
import type { Credentials, CredentialsSource, Descriptor, Reference, RegistryOptions } from '../registry/types';
import type { Stream } from '../streaming/stream';
import type { Streams } from '../streaming/streams';
import { type HttpLog, loggedHttp, StreamedHttpLog } from './http-log';
import type { TransferParts } from './parts';

/** Disposed of when nothing more is asked of it. */
export interface RemoteImage extends AsyncDisposable {
  readonly reference: Reference;
  readonly client: Registry;
  /** As progress names it. */
  readonly title: string;
}

/** @throws INVALID_ARGUMENT for a bad reference or scheme, NOT_FOUND for a stream that is not open */
export function openRemote(
  { registries, streams, log }: Pick<TransferParts, 'registries' | 'streams' | 'log'>,
  source: OCIRegistry,
  { owner }: { readonly owner: { readonly namespace: string } },
): RemoteImage {
  const reference = parseReference(source.reference);
  const { httpDebug = HTTPDebug.DISABLED, logsStream = '' } = source.resolver ?? {};
  const options = registryOptions(streams, owner.namespace, source.resolver);
  registries.prepare();
  const title = `OCI Registry (${reference.text})`;
  if (httpDebug === HTTPDebug.DISABLED) {
    return { reference, client: registries.open(options), title, [Symbol.asyncDispose]: async () => {} };
  }
  const http: HttpLog =
    logsStream === '' ? loggedHttp(log, reference.text) : new StreamedHttpLog(streams.get(owner.namespace, logsStream));
  const watch = {
    requests: httpDebug !== HTTPDebug.TRACE,
    connections: httpDebug !== HTTPDebug.DEBUG,
    tell: (text: string) => http.write(text),
  };
  const client = registries.open({ ...options, watch });
  return { reference, client, title, [Symbol.asyncDispose]: () => http[Symbol.asyncDispose]() };
}

/** What a client says about hosts. @throws INVALID_ARGUMENT for a bad scheme, NOT_FOUND for a stream that is not open */
export function registryOptions(
  streams: Streams,
  namespace: string,
  resolver: RegistryResolver | undefined,
): RegistryOptions {
  if (resolver === undefined) return {};
  const { authStream } = resolver;
  const credentials = authStream === '' ? {} : { credentials: credentialsOver(streams.get(namespace, authStream)) };
  return { ...optionsOf(resolver), ...credentials };
}

/** A descriptor of an image as the registry client has it. */
export function remoteDescriptor({ mediaType, digest, size, urls }: ImageDescriptor): Descriptor {
  return { mediaType, digest, size: BigInt(size), ...(urls && { urls }) };
}

function optionsOf({ headers, hostDir, defaultScheme }: RegistryResolver) {
  if (!['', 'http', 'https'].includes(defaultScheme)) {
    throw invalidArgument(`default scheme "${defaultScheme}" is neither http nor https`);
  }
  return {
    headers,
    ...(hostDir === '' ? {} : { hostsDirectory: hostDir }),
    ...(defaultScheme === '' ? {} : { defaultScheme: defaultScheme as 'http' | 'https' }),
  };
}

/** One question at a time: answers carry no mark of their question. */
function credentialsOver(stream: Stream): CredentialsSource {
  let last: Promise<unknown> = Promise.resolve();
  return (request) => {
    const answer = last.then(async () => {
      const { host, reference, challenges } = request;
      await stream.send(packAny(AuthRequest, { host, reference, wwwauthenticate: [...challenges] }));
      const message = await stream.receive();
      return message === undefined ? undefined : credentialsOf(unpackAny(AuthResponse, message));
    });
    last = answer.catch(() => {});
    return answer;
  };
}

function credentialsOf({ authType, username, secret }: AuthResponse): Credentials | undefined {
  switch (authType) {
    case AuthType.CREDENTIALS:
      return { kind: 'password', username, secret };
    case AuthType.REFRESH:
      return { kind: 'identity-token', token: secret };
    case AuthType.HEADER:
      return { kind: 'header', value: secret };
    default:
      return undefined;
  }
}
