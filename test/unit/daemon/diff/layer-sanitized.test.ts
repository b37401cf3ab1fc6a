// Layers are read by C, and come from anybody: thousands of damaged ones are unpacked by a program that ends at the first
// access outside of what it owns, the first undefined operation, and anything that is not freed.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../../setup/cache';
import { mustRun } from '../../../setup/command';
import { mutate, randomOf, seedArchives } from '../../../suites/tar-mutations';

const ROUNDS = 5;
const ARCHIVES_PER_ROUND = 300;
/** Of enum failure_kind. */
const NO_FAILURE = '0';
const FORMAT_FAILURE = '4';
const LONG_MS = 300_000;
const LAYERS = join(PROJECT_ROOT, 'runtime-native/layers');
const PARTS = [
  'layer',
  'tar',
  'tar-header',
  'tar-pax',
  'tar-sparse',
  'tree',
  'unpack',
  'unpack-parent',
  'unpack-whiteout',
];

let directory: string;
let program: string;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'layer-sanitized-'));
  program = join(directory, 'layer-sanitized');
  const flags = ['-std=gnu11', '-g', '-O1', '-pthread', '-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
  const sources = [
    join(PROJECT_ROOT, 'test/suites/layer-sanitized.c'),
    ...PARTS.map((part) => join(LAYERS, `${part}.c`)),
  ];
  await mustRun(['gcc', ...flags, `-I${LAYERS}`, '-o', program, ...sources], { timeoutMs: LONG_MS });
}, LONG_MS);

afterAll(() => rmSync(directory, { recursive: true, force: true }));

test.each(Array.from({ length: ROUNDS }, (_, round) => [round]))(
  'damaged layers are refused or unpacked without a fault of memory (seed %d)',
  async (seed) => {
    const random = randomOf(seed);
    const seeds = seedArchives();
    const place = join(directory, String(seed));
    mkdirSync(place);
    const archives = Array.from({ length: ARCHIVES_PER_ROUND }, (_, number) => {
      const path = join(place, `${number}.tar`);
      const archive = seeds[number % seeds.length] as Buffer;
      // The first of each kind is whole.
      writeFileSync(path, number < seeds.length ? archive : mutate(archive, random));
      return path;
    });

    // The sanitizer of this compiler fails at times where the kernel randomizes addresses by more than 28 bits.
    const output = await mustRun(['setarch', '-R', program, place, ...archives], { timeoutMs: LONG_MS });

    const kinds = output
      .trim()
      .split('\n')
      .map((line) => line.split(' ')[1]);
    expect(kinds).toHaveLength(ARCHIVES_PER_ROUND);
    expect(new Set(kinds.slice(0, seeds.length))).toEqual(new Set([NO_FAILURE]));
    // Some get through and some do not, or the damage would be too small or too great to find anything.
    expect(kinds.slice(seeds.length)).toEqual(expect.arrayContaining([NO_FAILURE, FORMAT_FAILURE]));
    rmSync(place, { recursive: true });
  },
  LONG_MS,
);
