// The reaper with real signals, in a process of its own: a test sandbox gets none.

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { needsFile, testUnless } from '../setup/needs';

const built = join(__dirname, '../../dist/runtime-native/reaper.js');

/** Children of node:child_process, orphans of a shell, and a child that was tracked before anybody asked. */
const PROGRAM = `
const { Reaper } = require(${JSON.stringify(built)});
const { spawn } = require('node:child_process');
const { readdirSync, readFileSync } = require('node:fs');
const reaper = Reaper.shared();
const ended = (child) => new Promise((resolve) => child.once('exit', (code) => resolve(code)));
const zombies = () => readdirSync('/proc').filter((pid) => /^\\d+$/.test(pid)).filter((pid) => {
  try {
    const [state, parent] = readFileSync('/proc/' + pid + '/stat', 'latin1').split(') ').at(-1).split(' ');
    return state === 'Z' && Number(parent) === process.pid;
  } catch { return false; }
});
(async () => {
  // Each shell leaves a process behind, which becomes ours and ends a little later.
  const shells = [1, 2, 3].map((code) => spawn('sh', ['-c', 'sleep 0.2 & exit ' + code]));
  const codes = await Promise.all(shells.map(ended));
  const more = [];
  for (let i = 0; i < 20; i++) more.push(await ended(spawn('sh', ['-c', 'exit ' + i])));
  const end = Date.now() + 8000;
  await new Promise((resolve) => setTimeout(resolve, 400));
  while (zombies().length > 0 && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 50));
  console.log(JSON.stringify({ codes, more: more.every((code, i) => code === i), zombies: zombies().length }));
})();
`;

testUnless(needsFile(built, 'make build'))(
  'orphans are reaped, and children of node:child_process are left to it',
  () => {
    const text = execFileSync(process.execPath, ['-e', PROGRAM], { encoding: 'utf8', timeout: 120_000 });

    expect(JSON.parse(text)).toEqual({ codes: [1, 2, 3], more: true, zombies: 0 });
  },
);
