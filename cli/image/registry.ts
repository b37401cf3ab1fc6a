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
import { type Place, place, transfer } from '../transfer/transfer';
import type { OciPlatform } from './documents';
import { untilInterrupted } from './lease';

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
  readonly snapshotter: Promise<string> | string | undefined;
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
  const { remote, reporter } = options;
  const destination = storeOf(options);
  // Looked at when the transfer begins; until then a failure must not end this process.
  destination.catch(() => {});
  let digest = '';
  const onProgress = (entry: Progress) => {
    if (entry.event === 'saved') digest = entry.desc?.digest ?? '';
    reporter.tell(entry);
  };
  await untilInterrupted(() =>
    withRegistry(session, remote, (registry) =>
      transfer(session, { source: place(OCIRegistry, registry), destination, onProgress }),
    ),
  );
  return digest;
}

async function storeOf({ name, labels, platforms, snapshotter }: PullOptions): Promise<Place> {
  const to = await snapshotter;
  const unpacks = to === undefined ? [] : platforms.map((platform) => ({ platform, snapshotter: to }));
  return place(ImageStore, { name, labels, platforms: [...platforms], allMetadata: true, unpacks });
}

export async function push(session: Session, { remote, name, platforms, reporter }: PushOptions): Promise<void> {
  const source = place(ImageStore, { name, platforms: [...platforms] });
  const onProgress = (entry: Progress) => reporter.tell(entry);
  await untilInterrupted(() =>
    withRegistry(session, remote, (registry) =>
      transfer(session, { source, destination: place(OCIRegistry, registry), onProgress }),
    ),
  );
}

/** Runs `body` with what the daemon is told of a registry, and answers the registry's questions meanwhile. */
export async function withRegistry(
  session: Session,
  remote: Remote,
  body: (registry: Input<OCIRegistry>) => Promise<void>,
): Promise<void> {
  const { reference, login, hostsDirectory = '', plainHttp, headers } = remote;
  const resolver = { hostDir: hostsDirectory, defaultScheme: plainHttp ? 'http' : '', headers: { ...headers } };
  if (login === undefined) return body({ reference, resolver });
  const stream = await openStream(session, 'credentials');
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
