// How the progress of a transfer is counted and drawn.

import { duration, renderBars, shortName } from '../../../../cli/transfer/bars';
import { TransferModel } from '../../../../cli/transfer/model';

const LAYER = `layer-sha256:${'a'.repeat(64)}`;
const MIB = 1n << 20n;

function model(...entries: readonly [atMs: number, event: string, name: string, progress?: bigint, total?: bigint][]) {
  const made = new TransferModel();
  for (const [atMs, event, name, progress = 0n, total = 0n] of entries)
    made.update({ event, name, progress, total }, atMs);
  return made;
}

describe('TransferModel', () => {
  test('adds up its parts and takes the status from entries without a name', () => {
    const made = model(
      [0, 'Pulling from x', ''],
      [0, 'waiting', LAYER, 0n, 10n],
      [1, 'complete', 'config-x', 5n, 5n],
      [2, 'downloading', LAYER, 4n, 10n],
    );

    expect(made).toMatchObject({ status: 'Pulling from x', doneBytes: 9, totalBytes: 15 });
  });

  test('says how fast and how long, without what was there before', () => {
    const made = model(
      [0, 'already exists', 'layer-b', 100n * MIB, 100n * MIB],
      [0, 'waiting', LAYER, 0n, 50n * MIB],
      [0, 'downloading', LAYER, 10n * MIB, 50n * MIB],
      [2000, 'downloading', LAYER, 30n * MIB, 50n * MIB],
    );

    expect(made.rate(2000)).toBe(10 * 2 ** 20);
    expect(made.remainingSeconds(2000)).toBe(2);
  });

  test('forgets how fast it was some time ago', () => {
    const made = model([0, 'downloading', LAYER, 0n, 100n * MIB], [1000, 'downloading', LAYER, 90n * MIB, 100n * MIB]);
    for (let second = 2; second < 12; second += 1) {
      made.update({ event: 'downloading', name: LAYER, progress: 90n * MIB, total: 100n * MIB }, second * 1000);
    }

    expect(made.rate(12_000)).toBe(0);
    expect(made.remainingSeconds(12_000)).toBeUndefined();
  });

  test('never goes back', () => {
    const made = model([0, 'downloading', LAYER, 9n, 10n], [1, 'extracting', LAYER, 0n, 10n]);

    expect(made.parts).toEqual([{ name: LAYER, event: 'extracting', doneBytes: 9, totalBytes: 10 }]);
  });
});

describe('renderBars()', () => {
  test('draws a bar for each part and a line for all', () => {
    const made = model(
      [0, 'Pulling', ''],
      [0, 'downloading', LAYER, 0n, 4n * MIB],
      [1000, 'downloading', LAYER, 1n * MIB, 4n * MIB],
      [1000, 'saved', 'host/app:1'],
    );

    const lines = renderBars(made, { columns: 100, rows: 24 }, 1000);

    expect(lines).toEqual([
      `layer aaaaaaaaaaaa       downloading   [${'#'.repeat(9)}${'-'.repeat(25)}]      1.0 MiB / 4.0 MiB`,
      'host/app:1               saved',
      'Pulling  1 of 2 done  1.0 MiB / 4.0 MiB  1.0 MiB/s  3s left',
    ]);
  });

  test.each([
    [20, 3],
    [40, 5],
    [200, 4],
  ])('fits a terminal of %i columns and %i rows', (columns, rows) => {
    const made = new TransferModel();
    for (let index = 0; index < 30; index += 1) {
      const event = index < 28 ? 'complete' : 'downloading';
      made.update({ event, name: `layer-sha256:${index.toString(16).padStart(64, '0')}`, progress: 1n, total: 9n }, 0);
    }

    const lines = renderBars(made, { columns, rows }, 1);

    expect(lines.length).toBeLessThan(rows);
    expect(Math.max(...lines.map((text) => text.length))).toBeLessThan(columns);
    expect(lines.slice(0, -1).filter((text) => text.includes('complete'))).toHaveLength(Math.max(0, rows - 2 - 2));
  });

  test('lets no control characters of the daemon onto the terminal', () => {
    const lines = renderBars(model([0, 'saved', 'evil\x1b[2Jname']), { columns: 80, rows: 24 }, 0);

    expect(lines.join('')).not.toContain('\x1b');
  });
});

test('names and durations are short', () => {
  expect(shortName(LAYER)).toBe('layer aaaaaaaaaaaa');
  expect(shortName('docker.io/library/a:1')).toBe('docker.io/library/a:1');
  expect([7, 200, 7500].map(duration)).toEqual(['7s', '3m20s', '2h05m']);
});
