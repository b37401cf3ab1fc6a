// Cases about blobs and ingests.

import { createHash } from 'node:crypto';
import type { Case } from '../session';
import { collected, withInput } from './steps';

// A text for each case: a blob that was removed may be found again until it is collected.
const [TEXT, TEXT2, TEXT3] = ['first', 'second', 'third'].map((word) => `the ${word} content of the test\n`) as [
  string,
  string,
  string,
];
const [DIGEST, DIGEST2, DIGEST3] = [digestOf(TEXT), digestOf(TEXT2), digestOf(TEXT3)];
const OTHER = digestOf('something else');

export const contentCases: Case[] = [
  {
    name: 'content: ingest, list, get, label, remove',
    steps: [
      collected(),
      withInput(['content', 'ingest', 'ref-a'], TEXT),
      ['content', 'ls', `digest==${DIGEST}`],
      ['content', 'ls', '-q', `digest==${DIGEST}`],
      ['content', 'get', DIGEST],
      ['content', 'label', DIGEST, 'kind=text', 'odd.key/with=value'],
      ['content', 'ls', 'labels.kind==text'],
      ['content', 'label', DIGEST, 'kind='],
      ['content', 'ls', `digest==${DIGEST}`],
      ['content', 'rm', DIGEST],
      ['content', 'ls', `digest==${DIGEST}`],
    ],
  },
  {
    name: 'content: ingest with size and digest',
    steps: [
      collected(),
      withInput(
        ['content', 'ingest', '--expected-size', String(TEXT2.length), '--expected-digest', DIGEST2, 'ref-b'],
        TEXT2,
      ),
      withInput(
        ['content', 'ingest', '--expected-size', String(TEXT2.length), '--expected-digest', DIGEST2, 'ref-b2'],
        TEXT2,
      ),
      withInput(['content', 'ingest', 'ref-b3'], TEXT2),
      ['content', 'active'],
      ['content', 'rm', DIGEST2],
    ],
  },
  {
    name: 'content: wrong size, wrong digest, bad digest',
    steps: [
      collected(),
      withInput(['content', 'ingest', '--expected-digest', OTHER, 'ref-c1'], TEXT3),
      withInput(['content', 'ingest', '--expected-size', '5', 'ref-c2'], TEXT3),
      withInput(['content', 'ingest', '--expected-digest', 'sha256:12', 'ref-c3'], TEXT3),
      withInput(['content', 'ingest', ''], TEXT3),
      ['content', 'ls', `digest==${DIGEST3}`],
      ['content', 'ls', `digest==${OTHER}`],
    ],
  },
  {
    name: 'content: missing things',
    steps: [
      ['content', 'get', OTHER],
      ['content', 'get', 'nonsense'],
      ['content', 'rm', OTHER],
      ['content', 'rm', 'nonsense'],
      ['content', 'label', OTHER, 'a=b'],
    ],
  },
  {
    name: 'content: a large blob comes back unchanged',
    steps: [
      collected(),
      withInput(['content', 'ingest', 'ref-d'], Buffer.alloc(5_000_000, 'gantry')),
      async (session) => {
        const digest = digestOf(Buffer.alloc(5_000_000, 'gantry'));
        const { stdout } = await session.run(['content', 'ls', '-q', `digest==${digest}`]);
        session.note(String(stdout.trim() === digest));
        session.note(String(digestOf(await session.quietly(['content', 'get', digest])) === digest));
        await session.run(['content', 'rm', digest]);
      },
    ],
  },
  {
    name: 'content: an empty blob',
    steps: [
      collected(),
      withInput(['content', 'ingest', 'ref-e'], ''),
      ['content', 'get', digestOf('')],
      ['content', 'rm', digestOf('')],
    ],
  },
];

function digestOf(data: string | Buffer): string {
  return `sha256:${createHash('sha256').update(data).digest('hex')}`;
}
