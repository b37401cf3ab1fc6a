// The Task API of a shim, over ttrpc, with real containers.

import { rmSync } from 'node:fs';
import { describeUnless } from '../../setup/needs';
import { makeRootfs } from './harness';
import { makeCrun, type Subject } from './subjects';
import { TaskBench } from './task-bench';
import { taskExec } from './task-exec';
import { taskLife } from './task-life';
import { taskRefusals } from './task-refusals';
import { taskStreams } from './task-streams';

/** Every case on every subject; to be called once in a file. */
export function taskApiSuite(subjects: readonly Subject[]): void {
  let rootfs: string;
  let removeCrun: () => void;

  beforeAll(() => {
    rootfs = makeRootfs();
    removeCrun = makeCrun();
  });

  afterAll(() => {
    rmSync(rootfs, { recursive: true, force: true });
    removeCrun();
  });

  for (const subject of subjects) {
    describeUnless(subject.missing)(`Task API of ${subject.name}`, () => {
      const bench = new TaskBench(subject);
      beforeEach(() => bench.start(rootfs));
      afterEach(() => bench.host.close());

      taskLife(bench);
      taskStreams(bench);
      taskExec(bench);
      taskRefusals(bench);
    });
  }
}
