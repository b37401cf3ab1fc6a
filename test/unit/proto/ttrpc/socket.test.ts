import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { removeDeadSocket } from '../../../../proto/ttrpc/socket';

test('removeDeadSocket() removes only what nobody listens on', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'socket-'));
  const path = join(directory, 's');
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(path, resolve));

  await removeDeadSocket(path);
  expect(existsSync(path)).toBe(true);

  await new Promise((resolve) => server.close(resolve));
  writeFileSync(path, '');
  await removeDeadSocket(path);
  await removeDeadSocket(path);
  expect(existsSync(path)).toBe(false);
  rmSync(directory, { recursive: true });
});
