// The threat model names files and tests: they must be there.

import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const PROJECT = resolve(__dirname, '../../..');
const read = (path: string) => readFileSync(join(PROJECT, path), 'utf8');
const document = read('runtime-native/README.md').split('## Threat model')[1] ?? '';
const rows = document
  .split('\n')
  .filter((line) => line.startsWith('| '))
  .slice(1)
  .map((line) => line.split('|').map((cell) => cell.trim()));
/** By their names in the document, such as "races". */
const tests = new Map(
  [...document.matchAll(/\*([a-z ]+)\*\s+`(test\/[^`]+)`/g)].map(([, name = '', path = '']) => [name, path]),
);

test('every file of a guarantee is there', () => {
  const files = rows.flatMap(([, , , where = '']) => [...where.matchAll(/`([^`]+)`/g)].map(([, file = '']) => file));
  const paths = files.filter((file) => /[./]/.test(file) && !file.includes('*'));

  const missing = paths.filter(
    (file) => !existsSync(join(PROJECT, 'runtime-native', file)) && !existsSync(join(PROJECT, file)),
  );

  expect(paths.length).toBeGreaterThan(rows.length);
  expect(missing).toEqual([]);
});

test('every test is there, and every attack that it is said to try', () => {
  const missing: string[] = [];
  for (const [, , , , proof = ''] of rows) {
    for (const part of proof.split(';')) {
      const [names = '', cases = ''] = part.split(':');
      const files = names.split(/,| and /).map((name) => tests.get(name.trim()));
      const texts = files.map((file) =>
        file !== undefined && existsSync(join(PROJECT, file)) ? read(file) : undefined,
      );
      if (cases === '' && files[0] === undefined && isIn('attacks', part.trim())) continue;
      if (texts.includes(undefined)) missing.push(part);
      for (const attack of cases.split(',').map((each) => each.trim())) {
        if (attack !== 'all' && !texts.some((text) => text?.includes(attack))) missing.push(attack);
      }
    }
  }

  expect(rows.length).toBeGreaterThan(15);
  expect(missing).toEqual([]);
});

const isIn = (name: string, title: string) => read(tests.get(name) ?? '').includes(title);
