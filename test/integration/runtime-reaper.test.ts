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
// Running, or ended and not reaped.
const children = () => readdirSync('/proc').filter((pid) => /^\\d+$/.test(pid)).filter((pid) => {
  try {
    const [, parent] = readFileSync('/proc/' + pid + '/stat', 'latin1').split(') ').at(-1).split(' ');
    return Number(parent) === process.pid;
  } catch { return false; }
});
(async () => {
  // Each shell leaves a process behind, which becomes ours and ends with its input.
  const shells = [1, 2, 3].map((code) => spawn('sh', ['-c', 'exec 3<&0; cat <&3 & exit ' + code]));
  const codes = await Promise.all(shells.map(ended));
  const more = [];
  for (let i = 0; i < 20; i++) more.push(await ended(spawn('sh', ['-c', 'exit ' + i])));
  const adopted = children().length;
  for (const { stdin } of shells) stdin.end();
  let left = adopted;
  for (const end = Date.now() + 60000; left > 0 && Date.now() < end; left = children().length)
    await new Promise((resolve) => setTimeout(resolve, 50));
  console.log(JSON.stringify({ codes, more: more.every((code, i) => code === i), adopted, left }));
})();
`;

testUnless(needsFile(built, 'make build'))(
  'orphans are reaped, and children of node:child_process are left to it',
  () => {
    const text = execFileSync(process.execPath, ['-e', PROGRAM], { encoding: 'utf8', timeout: 120_000 });

    expect(JSON.parse(text)).toEqual({ codes: [1, 2, 3], more: true, adopted: 3, left: 0 });
  },
);
