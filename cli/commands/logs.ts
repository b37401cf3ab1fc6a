// gantry logs: what a container that was run with -d has written.

import type { Command } from 'commander';
import { isErrno, isNotFound } from '../../proto/errors';
import { getContainer, getTask } from '../container/remove';
import { CommandError, EXIT } from '../failure';
import type { Session } from '../session';
import { followLog, printLog } from '../task/logs';
import { LOG_LABEL, logPath } from '../task/stdio';
import { parseInteger } from '../values';
import { action } from './shared';

interface LogsOptions {
  readonly follow?: boolean;
  readonly tail?: string;
}

export function registerLogs(program: Command): void {
  program
    .command('logs <container>')
    .description('print the output of a container that was run with -d')
    .option('-f, --follow', 'go on until the container ends')
    .option('--tail <lines>', 'begin with the last lines')
    .addHelpText('after', '\nExample:\n  gantry logs -f --tail 100 web')
    .action(action(logs));
}

async function logs(session: Session, options: LogsOptions, id: string): Promise<void> {
  const container = await getContainer(session, id);
  const uri = container.labels[LOG_LABEL] ?? (await getTask(session, id))?.stdout ?? '';
  if (!uri.startsWith('file://')) {
    const where = uri === '' || uri.startsWith('/') ? 'nowhere that is kept' : `to ${uri}`;
    throw new CommandError(
      `the output of container "${id}" goes ${where}; run -d without -t and -i keeps a log`,
      EXIT.notFound,
    );
  }
  const tail = options.tail === undefined ? undefined : parseInteger('--tail', options.tail);
  try {
    if (options.follow === true) await follow(session, id, { path: logPath(uri), tail });
    else await printLog(logPath(uri), { tail });
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
    throw new CommandError(`container "${id}" has not written a log yet (${logPath(uri)})`, EXIT.notFound, {
      cause: error,
    });
  }
}

async function follow(session: Session, id: string, log: { path: string; tail: number | undefined }): Promise<void> {
  const controller = new AbortController();
  const { signal } = controller;
  const stop = (): void => controller.abort();
  process.once('SIGINT', stop).once('SIGTERM', stop);
  session.connection.tasks
    .wait({ containerId: id }, { patient: true })
    .catch((error: unknown) => {
      if (!isNotFound(error)) throw error;
    })
    .then(stop, stop);
  await followLog(log.path, { tail: log.tail, signal });
}
