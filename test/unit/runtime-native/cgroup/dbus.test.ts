// The D-Bus client against Debian's dbus-daemon on a bus of its own, and what the daemon does not use of the types.

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BUS, BusConnection, BusError } from '../../../../runtime-native/cgroup/dbus';
import { decodeMessage, encodeMessage, type Message, type Value } from '../../../../runtime-native/cgroup/dbus-message';
import { describeUnless, needsFile } from '../../../setup/needs';

const DAEMON = '/usr/bin/dbus-daemon';

describe('encodeMessage()', () => {
  const message = (signature: string, body: readonly Value[]): Message => ({
    kind: 'signal',
    serial: 7,
    path: '/a',
    interface: 'b.c',
    member: 'D',
    signature,
    body,
  });

  test('is what decodeMessage() reads, for all types', () => {
    const body: Value[] = [
      [1, true, -2, 65535, -70000, 4_000_000_000, -(1n << 63n), (1n << 64n) - 1n, 0.5, 'text ä', '/o', 'a(sv)'],
      [
        ['Delegate', { type: 'b', value: true }],
        ['PIDs', { type: 'au', value: [1, 2] }],
        ['DeviceAllow', { type: 'a(ss)', value: [['/dev/null', 'rw']] }],
      ],
      [],
      { type: 'a{sv}', value: [['key', { type: 'ay', value: [3] }]] },
    ];
    const given = message('(ybnqiuxtdsog)a(sv)atv', body);

    const decoded = decodeMessage(encodeMessage(given));

    expect(decoded?.message).toEqual(given);
  });

  test.each(['y', 'q', 'u', 't'])('holds more of type %s than it had room for at first', (type) => {
    const values = Array.from({ length: 1000 }, (_, index) => (type === 't' ? BigInt(index) : index % 256));

    expect(decodeMessage(encodeMessage(message(`a${type}`, [values])))?.message.body).toEqual([values]);
  });

  test('aligns values and counts as the specification says', () => {
    const bytes = encodeMessage(message('yat', [5, [6n]]));
    const body = bytes.subarray(bytes.length - 16);

    expect(body.toString('hex')).toBe('0500000008000000' + '0600000000000000');
    expect(bytes.subarray(0, 8).toString('hex')).toBe('6c04000110000000');
  });

  test('decodeMessage() waits for the rest, and refuses what is none', () => {
    const bytes = encodeMessage(message('s', ['text']));

    expect(decodeMessage(bytes.subarray(0, -1))).toBeUndefined();
    expect(decodeMessage(Buffer.concat([bytes, bytes]))?.size).toBe(bytes.length);
    expect(() => decodeMessage(Buffer.alloc(16))).toThrow(RangeError);
  });
});

describeUnless(needsFile(DAEMON, 'package dbus'))('BusConnection', () => {
  let directory: string;
  let daemon: ChildProcess;
  let socket: string;
  const connections: BusConnection[] = [];
  const open = async () => {
    const connection = await BusConnection.open(socket, true);
    connections.push(connection);
    return connection;
  };

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'gantry-dbus-'));
    socket = join(directory, 'bus');
    daemon = spawn(DAEMON, ['--session', '--nofork', '--nopidfile', `--address=unix:path=${socket}`], {
      stdio: 'ignore',
    });
    while (!existsSync(socket) && daemon.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 10));
  });
  afterEach(() => {
    for (const connection of connections.splice(0)) connection.close();
  });
  afterAll(async () => {
    const ended = new Promise((resolve) => daemon.once('exit', resolve));
    daemon.kill();
    await ended;
    rmSync(directory, { recursive: true });
  });

  test('call() returns the body of the answer', async () => {
    const bus = await open();

    const [names] = await bus.call({ ...BUS, member: 'ListNames' });
    const [has] = await bus.call({ ...BUS, member: 'NameHasOwner', signature: 's', body: ['org.freedesktop.DBus'] });

    expect(names).toContain('org.freedesktop.DBus');
    expect(has).toBe(true);
  });

  test('call() throws the error that the other side answers with', async () => {
    const bus = await open();

    const error: unknown = await bus.call({ ...BUS, member: 'Nonsense' }).catch((failure: unknown) => failure);

    expect(error).toBeInstanceOf(BusError);
    expect((error as BusError).name).toBe('org.freedesktop.DBus.Error.UnknownMethod');
  });

  test('signals that match come to onSignal', async () => {
    const [listener, other] = [await open(), await open()];
    const rule = "type='signal',interface='org.freedesktop.DBus',member='NameOwnerChanged'";
    await listener.call({ ...BUS, member: 'AddMatch', signature: 's', body: [rule] });
    const seen = new Promise<Message>((resolve) => {
      listener.onSignal = (signal) => signal.body[0] === 'gantry.Test' && resolve(signal);
    });

    await other.call({ ...BUS, member: 'RequestName', signature: 'su', body: ['gantry.Test', 0] });

    expect(await seen).toMatchObject({ member: 'NameOwnerChanged', signature: 'sss' });
  });

  test('calls end when the connection does, and open() says where nobody listens', async () => {
    const bus = await open();
    const call = bus.call({ ...BUS, member: 'ListNames' });
    bus.close();

    await expect(call).rejects.toThrow('the connection was closed');
    await expect(BusConnection.open(`${socket}-none`, true)).rejects.toThrow(`dbus: ${socket}-none: connect ENOENT`);
  });
});
