// The global options of a command line, and the connection made from them. One session per command.

import type { Command } from 'commander';
import { isNotFound } from '../proto/errors';
import { DEFAULT_NAMESPACE } from '../proto/ids';
import { Connection } from './client';
import { CommandError, EXIT, usageError } from './failure';
import { note } from './output';
import { parseDuration } from './values';

const DEFAULT_ADDRESS = '/run/gantryd/gantryd.sock';

export interface GlobalOptions {
  readonly address?: string;
  readonly namespace?: string;
  readonly timeout?: string;
  readonly debug?: boolean;
}

export interface Session {
  readonly connection: Connection;
  readonly namespace: string;
  readonly address: string;
}

export function addressOf(options: GlobalOptions): string {
  return options.address ?? process.env['GANTRY_ADDRESS'] ?? DEFAULT_ADDRESS;
}

export function namespaceOf(options: GlobalOptions): string {
  const { GANTRY_NAMESPACE, CONTAINERD_NAMESPACE } = process.env;
  return options.namespace ?? (GANTRY_NAMESPACE || CONTAINERD_NAMESPACE || DEFAULT_NAMESPACE);
}

/** Runs a body with a connection and closes it whatever happens. */
export async function withSession<T>(command: Command, body: (session: Session) => Promise<T>): Promise<T> {
  const options = command.optsWithGlobals<GlobalOptions>();
  const address = addressOf(options);
  const namespace = namespaceOf(options);
  if (namespace === '') throw usageError('the namespace must not be empty');
  const connection = new Connection({
    address,
    namespace,
    timeoutMs: options.timeout === undefined ? 0 : parseDuration(options.timeout),
    trace: options.debug === true ? traceCall : undefined,
  });
  try {
    return await body({ connection, namespace, address });
  } finally {
    connection.close();
  }
}

function traceCall(path: string, milliseconds: number, error: unknown): void {
  const method = path.slice(path.lastIndexOf('.') + 1);
  note(`gantry: ${method} ${milliseconds.toFixed(1)} ms${error === null || error === undefined ? '' : ` ${error}`}`);
}

/** Kinds of objects that are looked for in other namespaces when they are not in the chosen one. */
type Named = 'image' | 'container' | 'lease' | 'blob' | { readonly snapshotter: string };

/**
 * Runs a lookup; when the object is not there, says whether another namespace has one of that name.
 * @param names The names under which it may be known, the one that the user wrote first.
 * @throws CommandError (not found), or whatever else the lookup throws.
 */
export async function orElsewhere<T>(
  session: Session,
  what: Named,
  names: string | readonly string[],
  lookup: () => Promise<T>,
): Promise<T> {
  try {
    return await lookup();
  } catch (error) {
    if (!isNotFound(error)) throw error;
    throw await missing(session, what, typeof names === 'string' ? [names] : names, error);
  }
}

async function missing(session: Session, what: Named, names: readonly string[], cause: unknown): Promise<CommandError> {
  const elsewhere = await namespacesWith(session, what, names);
  const [first] = elsewhere;
  const subject = `${typeof what === 'string' ? what : 'snapshot'} "${names[0]}"`;
  if (first === undefined) {
    return new CommandError(`${subject} in namespace "${session.namespace}": not found`, EXIT.notFound, { cause });
  }
  const places = elsewhere.map((namespace) => `"${namespace}"`).join(', ');
  const kind = elsewhere.length === 1 ? 'namespace' : 'namespaces';
  return new CommandError(`${subject} exists in ${kind} ${places}; use -n ${first}`, EXIT.notFound, { cause });
}

async function namespacesWith(session: Session, what: Named, names: readonly string[]): Promise<string[]> {
  const { connection } = session;
  const { namespaces } = await connection.namespaces.list({}).catch(() => ({ namespaces: [] }));
  const others = namespaces.map((namespace) => namespace.name).filter((other) => other !== session.namespace);
  const has = (namespace: string, name: string): Promise<boolean> =>
    // A hint only: what cannot be looked up is not offered.
    exists(connection, what, name, namespace).catch(() => false);
  const found = await Promise.all(others.map((other) => Promise.all(names.map((name) => has(other, name)))));
  return others.filter((_, index) => found[index]?.includes(true));
}

async function exists(connection: Connection, what: Named, name: string, namespace: string): Promise<boolean> {
  const at = { namespace };
  if (what === 'image') await connection.images.get({ name }, at);
  else if (what === 'container') await connection.containers.get({ id: name }, at);
  else if (what === 'blob') await connection.content.info({ digest: name }, at);
  else if (what === 'lease') return (await connection.leases.list({ filters: [`id==${name}`] }, at)).leases.length > 0;
  else await connection.snapshots.stat({ snapshotter: what.snapshotter, key: name }, at);
  return true;
}
