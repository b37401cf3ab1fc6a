// pull and push: the daemon speaks to the registry; this client names it, gives credentials when it is asked for them, and
// shows how it goes.

import { packAny, unpackAny } from '../../proto/any';
import type { Input } from '../../proto/codec';
import {
  AuthRequest,
  AuthResponse,
  AuthType,
  ImageStore,
  OCIRegistry,
  type Progress,
} from '../../proto/generated/containerd.types.transfer';
import type { Any } from '../../proto/generated/google.protobuf';
import type { Duplex } from '../client';
import type { Session } from '../session';
import type { Reporter } from '../transfer/report';
import { openStream } from '../transfer/streams';
import { place, transfer } from '../transfer/transfer';
import type { OciPlatform } from './documents';
import { withLease } from './lease';

export interface Login {
  readonly username: string;
  readonly secret: string;
}

export interface Remote {
  /** Complete name at the registry. */
  readonly reference: string;
  /** None: the daemon's own, if it has any. */
  readonly login?: Login | undefined;
  readonly hostsDirectory?: string | undefined;
  readonly plainHttp: boolean;
  readonly headers: Readonly<Record<string, string>>;
}

export interface PullOptions {
  readonly remote: Remote;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** None: all of them. */
  readonly platforms: readonly OciPlatform[];
  /** Where the platforms are unpacked to; undefined leaves the layers packed. */
  readonly snapshotter: string | undefined;
  readonly reporter: Reporter;
}

export interface PushOptions {
  readonly remote: Remote;
  readonly name: string;
  /** None: the whole image. */
  readonly platforms: readonly OciPlatform[];
  readonly reporter: Reporter;
}

/** Returns the digest of the image's target. */
export async function pull(session: Session, options: PullOptions): Promise<string> {
  const { remote, name, labels, platforms, snapshotter, reporter } = options;
  const unpacks = snapshotter === undefined ? [] : platforms.map((platform) => ({ platform, snapshotter }));
  const destination = place(ImageStore, { name, labels, platforms: [...platforms], allMetadata: true, unpacks });
  let digest = '';
  const onProgress = (entry: Progress) => {
    if (entry.event === 'saved') digest = entry.desc?.digest ?? '';
    reporter.tell(entry);
  };
  await withLease(session, (lease) =>
    withRegistry(session, { remote, lease }, (registry) =>
      transfer(session, { source: place(OCIRegistry, registry), destination, lease, onProgress }),
    ),
  );
  return digest;
}

export async function push(session: Session, { remote, name, platforms, reporter }: PushOptions): Promise<void> {
  const source = place(ImageStore, { name, platforms: [...platforms] });
  const onProgress = (entry: Progress) => reporter.tell(entry);
  await withLease(session, (lease) =>
    withRegistry(session, { remote, lease }, (registry) =>
      transfer(session, { source, destination: place(OCIRegistry, registry), lease, onProgress }),
    ),
  );
}

/** Runs `body` with what the daemon is told of a registry, and answers the registry's questions meanwhile. */
export async function withRegistry(
  session: Session,
  { remote, lease }: { readonly remote: Remote; readonly lease?: string },
  body: (registry: Input<OCIRegistry>) => Promise<void>,
): Promise<void> {
  const { reference, login, hostsDirectory = '', plainHttp, headers } = remote;
  const resolver = { hostDir: hostsDirectory, defaultScheme: plainHttp ? 'http' : '', headers: { ...headers } };
  if (login === undefined) return body({ reference, resolver });
  const stream = await openStream(session, 'credentials', lease);
  void answerQuestions(stream.call, reference, login);
  try {
    await body({ reference, resolver: { ...resolver, authStream: stream.id } });
  } finally {
    stream.call.cancel();
  }
}

/** Gives the login to the registry of the image alone, not to mirrors of it. Never rejects: the stream ends with the call. */
async function answerQuestions(call: Duplex<Any, Any>, reference: string, login: Login): Promise<void> {
  try {
    for (let next = await call.receive(); next !== undefined; next = await call.receive()) {
      const { host } = unpackAny(AuthRequest, next);
      const answer = isRegistryOf(host, reference)
        ? { authType: AuthType.CREDENTIALS, ...login }
        : { authType: AuthType.NONE };
      await call.send(packAny(AuthResponse, answer));
    }
  } catch {
    // What went wrong is the transfer's to tell.
  }
}

function isRegistryOf(host: string, reference: string): boolean {
  const wanted = reference.slice(0, reference.indexOf('/'));
  return host === wanted || (wanted === 'docker.io' && host.endsWith('.docker.io'));
}
