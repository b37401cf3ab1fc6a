// gantry plugins: ls.

import type { Command } from 'commander';
import { platformText } from '../image/platform';
import { type ListOptions, printList } from '../output';
import type { Session } from '../session';
import { action, group, listOptions } from './shared';

export function registerPlugins(program: Command): void {
  const plugins = group(program, 'plugins', ['plugin'], 'parts that the daemon is made of');
  listOptions(plugins.command('ls [filters...]').alias('list').description('list plugins and whether they loaded'))
    .addHelpText('after', '\nExample:\n  gantry plugins ls type==io.containerd.snapshotter.v1')
    .action(action(list));
}

async function list(session: Session, options: ListOptions, filters: string[]): Promise<void> {
  const { plugins } = await session.connection.introspection.plugins({ filters });
  printList(options, {
    rows: plugins,
    columns: [
      ['TYPE', ({ type }) => type],
      ['ID', ({ id }) => id],
      ['PLATFORMS', ({ platforms }) => platforms.map(platformText).join(',') || '-'],
      ['STATUS', ({ initErr }) => statusOf(initErr)],
    ],
    name: ({ type, id }) => `${type}.${id}`,
  });
}

/** As ctr has it: a plugin that was left out on purpose is skipped, not broken. */
function statusOf(error: { message: string } | undefined): string {
  if (error === undefined) return 'ok';
  return error.message.includes('skip plugin') ? 'skip' : 'error';
}
