// One host of a shim per case, and the calls that most cases make.

import { join } from 'node:path';
import { TaskService } from '../../../proto/generated/containerd.task.v2';
import { Fifo, Host, makeSpec, OUR_SHIM, type Task } from './harness';
import { isCrun, type Subject } from './subjects';

export class TaskBench {
  /** That of the case that runs. */
  host!: Host;
  readonly isOurs: boolean;
  readonly #subject: Subject;
  #counter = 0;

  constructor(subject: Subject) {
    this.#subject = subject;
    this.isOurs = subject.program === OUR_SHIM;
  }

  async start(rootfs: string): Promise<void> {
    this.host = await Host.open(this.#subject.program, rootfs, this.#subject.runtime);
  }

  /** What the subject's runtime says. */
  says(runc: RegExp, crun: RegExp): string {
    return expect.stringMatching(isCrun(this.#subject) ? crun : runc) as string;
  }

  readonly open = async (args: readonly string[], change?: Parameters<typeof makeSpec>[1]): Promise<Task> => {
    const id = `t${this.#counter++}`;
    return await this.host.start(id, this.host.makeBundle(id, makeSpec(args, change)));
  };

  readonly fifo = (name: string, mode: 'read' | 'write') => new Fifo(join(this.host.directory, name), mode);
  readonly state = (task: Task, execId = '') => task.call(TaskService.state, { execId });
  readonly wait = (task: Task, execId = '') => task.call(TaskService.wait, { execId });
  readonly remove = (task: Task, execId = '') => task.call(TaskService.delete, { execId });
}
