// A client of D-Bus, as small as talking to systemd allows: one connection, calls, and signals.

import { connect, type Socket } from 'node:net';
import { unknown } from '../../proto/errors';
import { decodeMessage, encodeMessage, type Message, type Value } from './dbus-message';

export interface Call {
  readonly destination: string;
  readonly path: string;
  readonly interface: string;
  readonly member: string;
  readonly signature?: string;
  readonly body?: readonly Value[];
}

/** What the other side answers with; its name tells which. */
export class BusError extends Error {
  override readonly name: string;

  constructor(name: string, message: string) {
    super(message);
    this.name = name;
  }
}

export const BUS = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
} as const;

const CALL_TIMEOUT_MS = 30_000;
const PING_INTERVAL_MS = 10;
const LINE_END = '\r\n';
const HANDSHAKE_MAX = 16 * 1024;

interface Waiting {
  readonly resolve: (message: Message) => void;
  readonly reject: (error: Error) => void;
}

export class BusConnection {
  /** Called for each signal. */
  onSignal: (signal: Message) => void = () => {};
  private readonly socket: Socket;
  private readonly waiting = new Map<number, Waiting>();
  private received: Buffer = Buffer.alloc(0);
  private serial = 0;
  private failure: Error | undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
  }

  /**
   * Connects and proves who we are by the socket's credentials.
   * @param path - of a unix socket; a leading NUL is the abstract namespace
   * @param isBus - false for a peer without a bus in between
   * @throws UNKNOWN
   */
  static async open(path: string, isBus: boolean): Promise<BusConnection> {
    const socket = connect({ path });
    const connection = new BusConnection(socket);
    try {
      const rest = await handshake(socket);
      socket.on('data', (data: Buffer) => connection.receive(data));
      socket.on('error', (error) => connection.fail(error));
      socket.on('close', () => connection.fail(new Error('the connection was closed')));
      connection.receive(rest);
      if (isBus) await connection.call({ ...BUS, member: 'Hello' });
      else await connection.ping();
      return connection;
    } catch (error) {
      socket.destroy();
      throw unknown(`dbus: ${path}: ${(error as Error).message}`, { cause: error });
    }
  }

  /** The body of the answer. @throws BusError; Error when there is none in time or the connection breaks */
  async call(call: Call): Promise<readonly Value[]> {
    if (this.failure !== undefined) throw this.failure;
    const serial = ++this.serial;
    const bytes = encodeMessage({ kind: 'call', serial, body: [], ...call });
    let timer: NodeJS.Timeout | undefined;
    try {
      const answer = await new Promise<Message>((resolve, reject) => {
        this.waiting.set(serial, { resolve, reject });
        timer = setTimeout(() => reject(new Error(`${call.member}: no answer in time`)), CALL_TIMEOUT_MS);
        this.socket.write(bytes);
      });
      if (answer.kind === 'return') return answer.body;
      throw new BusError(answer.error ?? '', typeof answer.body[0] === 'string' ? answer.body[0] : call.member);
    } finally {
      clearTimeout(timer);
      this.waiting.delete(serial);
    }
  }

  close(): void {
    this.socket.destroy();
  }

  /** What comes together with the end of the handshake, systemd 252 leaves alone until more comes. */
  private async ping(): Promise<void> {
    const call = () => this.call({ ...BUS, interface: 'org.freedesktop.DBus.Peer', member: 'Ping' });
    const timer = setInterval(() => void call().catch(() => {}), PING_INTERVAL_MS);
    try {
      await call();
    } finally {
      clearInterval(timer);
    }
  }

  private receive(data: Buffer): void {
    this.received = Buffer.concat([this.received, data]);
    try {
      for (let next = decodeMessage(this.received); next !== undefined; next = decodeMessage(this.received)) {
        this.received = this.received.subarray(next.size);
        this.take(next.message);
      }
    } catch (error) {
      this.fail(error as Error);
      this.socket.destroy();
    }
  }

  private take(message: Message): void {
    if (message.kind === 'signal') this.onSignal(message);
    else if (message.replyTo !== undefined) this.waiting.get(message.replyTo)?.resolve(message);
  }

  private fail(error: Error): void {
    this.failure ??= error;
    for (const { reject } of this.waiting.values()) reject(this.failure);
  }
}

/** AUTH EXTERNAL. Bytes that came behind its end. */
function handshake(socket: Socket): Promise<Buffer> {
  const uid = Buffer.from(String(process.getuid?.() ?? 0)).toString('hex');
  return new Promise((resolve, reject) => {
    let text = Buffer.alloc(0);
    const end = (error?: Error) => {
      clearTimeout(timer);
      socket.removeAllListeners();
      if (error !== undefined) reject(error);
    };
    const timer = setTimeout(() => end(new Error('no answer in time')), CALL_TIMEOUT_MS);
    socket.once('connect', () => socket.write(`\0AUTH EXTERNAL ${uid}${LINE_END}`));
    socket.once('error', end);
    socket.once('close', () => end(new Error('the connection was closed')));
    socket.on('data', (data: Buffer) => {
      text = Buffer.concat([text, data]);
      const lineEnd = text.indexOf(LINE_END);
      if (lineEnd < 0 && text.length < HANDSHAKE_MAX) return;
      const line = text.toString('latin1', 0, Math.max(lineEnd, 0));
      if (!line.startsWith('OK ')) return end(new Error(`not let in: ${line}`));
      socket.write(`BEGIN${LINE_END}`);
      end();
      resolve(text.subarray(lineEnd + LINE_END.length));
    });
  });
}
