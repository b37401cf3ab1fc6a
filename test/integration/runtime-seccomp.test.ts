// Seccomp on gantry's library: actions, conditions, and an agent that answers for a container.

import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Seccomp } from '../../runtime-native/spec';
import { parseSpec } from '../../runtime-native/spec';
import { waitFor } from '../setup/command';
import { describeUnless } from '../setup/needs';
import { type SpecChange, useRuntime } from '../suites/runtime-bench';
import { missingForContainers } from '../suites/runtime-bundle';
import { runtimeLibrary } from '../suites/runtime-library';

const SIGSYS = 128 + 31;
/** Takes one listener, writes down what came with it, and refuses each mkdir with EXDEV (18). */
const AGENT = `
import array, fcntl, socket, struct, sys, threading
def answer(listener):
    while True:
        request = bytearray(80)
        try: fcntl.ioctl(listener, 0xc0502100, request)
        except OSError: return
        cookie = struct.unpack_from('<Q', request)[0]
        fcntl.ioctl(listener, 0xc0182101, bytearray(struct.pack('<QqiI', cookie, 0, -18, 0)))
server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
server.bind(sys.argv[1])
server.listen(1)
open(sys.argv[2] + '.ready', 'w').close()
while True:
    connection, _ = server.accept()
    data, control, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(4))
    listener = array.array('i', control[0][2])[0]
    with open(sys.argv[2], 'wb') as file: file.write(data)
    threading.Thread(target=answer, args=(listener,), daemon=True).start()
`;

describeUnless(missingForContainers())('seccomp', () => {
  const runtime = useRuntime();
  const filtered =
    (profile: object): SpecChange =>
    (spec) => {
      spec.linux.seccomp = { defaultAction: 'SCMP_ACT_ALLOW', ...profile } as never;
    };
  const run = (script: string, profile: object) =>
    runtimeLibrary(runtime.root).run(runtime.specOf(['sh', '-c', script], filtered(profile)));

  test.each([
    ['SCMP_ACT_KILL_PROCESS', SIGSYS],
    ['SCMP_ACT_KILL_THREAD', SIGSYS],
    ['SCMP_ACT_KILL', SIGSYS],
    ['SCMP_ACT_TRAP', SIGSYS],
    ['SCMP_ACT_LOG', 0],
    ['SCMP_ACT_ALLOW', 0],
    ['SCMP_ACT_ERRNO', 1],
    ['SCMP_ACT_TRACE', 1],
  ])('%s ends a program that calls with %d', async (action, code) => {
    const result = await run('mkdir /tmp/d', { syscalls: [{ names: ['mkdir', 'mkdirat'], action }] });

    expect(result).toMatchObject({ error: undefined, code });
  });

  test.each([
    ['SCMP_CMP_EQ', { value: 0o711 }, '711'],
    ['SCMP_CMP_NE', { value: 0o700 }, '711 755'],
    ['SCMP_CMP_LT', { value: 0o711 }, '700'],
    ['SCMP_CMP_LE', { value: 0o711 }, '700 711'],
    ['SCMP_CMP_GT', { value: 0o711 }, '755'],
    ['SCMP_CMP_GE', { value: 0o711 }, '711 755'],
    ['SCMP_CMP_MASKED_EQ', { value: 0o77, valueTwo: 0o11 }, '711'],
  ])('%s refuses the modes that it says', async (op, values, refused) => {
    const args = [{ index: 1, op, ...values }];
    const script = 'touch /tmp/f; for m in 700 711 755; do chmod $m /tmp/f 2> /dev/null || echo $m; done';
    const result = await run(script, { syscalls: [{ names: ['chmod'], action: 'SCMP_ACT_ERRNO', args }] });

    expect(result.stdout.trim().split('\n').join(' ')).toBe(refused);
  });

  test('numbers of 64 bits keep all their digits', () => {
    const text =
      '{"linux":{"seccomp":{"syscalls":[{"args":[{"index":0,"value":18446744073709551615,"valueTwo":7}]}]}}}';
    const spec = parseSpec(text) as { linux: { seccomp: Seccomp } };

    expect(spec.linux.seccomp.syscalls?.[0]?.args?.[0]).toMatchObject({ value: '18446744073709551615', valueTwo: 7 });
  });

  describe('an agent', () => {
    const start = async () => {
      const socket = join(runtime.bundle.path, 'agent.sock');
      const file = join(runtime.bundle.path, 'agent.json');
      const script = join(runtime.bundle.path, 'agent.py');
      writeFileSync(script, AGENT);
      const agent = spawn('/usr/bin/python3', [script, socket, file], { stdio: 'ignore' });
      await waitFor('the agent', () => existsSync(`${file}.ready`));
      const stop = () => agent.kill('SIGKILL');
      const state = async (status: string) => {
        const isTold = () => {
          const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
          return text.includes(`"status":"${status}"`) && text;
        };
        return JSON.parse(await waitFor(`the state ${status}`, isTold)) as Record<string, unknown>;
      };
      return { socket, stop, state };
    };
    const notifying = (listenerPath: string) => ({
      listenerPath,
      listenerMetadata: 'what the agent knows',
      flags: ['SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV'],
      syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_NOTIFY' }],
    });

    test('answers for the container and for a process that is added', async () => {
      const agent = await start();
      try {
        const output = runtime.newOutput();
        const options = runtime.optionsFor(['sh', '-c', 'mkdir /tmp/d; sleep 1000'], filtered(notifying(agent.socket)));
        const container = await runtime.create({ ...options, io: output.io });
        const created = await agent.state('creating');
        await container.start();
        await waitFor('the refusal', () => output.read().stderr !== '');
        const added = await runtime.exec(container, ['mkdir', '/tmp/e']);
        const running = await agent.state('running');

        expect(created).toMatchObject({
          fds: ['seccompFd'],
          pid: container.pid,
          metadata: 'what the agent knows',
          state: { id: container.id, status: 'creating', pid: container.pid, bundle: runtime.bundle.path },
        });
        expect(output.read().stderr).toMatch(/cross-device/i);
        expect(added).toMatchObject({ code: 1 });
        expect(added.stderr).toMatch(/cross-device/i);
        expect(running).toMatchObject({ state: { status: 'running', pid: container.pid } });
        expect(running['pid']).not.toBe(container.pid);
      } finally {
        agent.stop();
      }
    });

    test('that is not there ends create', async () => {
      const { error } = await run('true', notifying('/no/such/socket'));

      expect(error).toContain('linux.seccomp.listenerPath: cannot hand over the listener at /no/such/socket: ');
    });
  });
});
