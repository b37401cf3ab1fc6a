// The commands by name, in the order in which help shows them.

import { create } from './commands/create';
import { delete_ } from './commands/delete';
import { events } from './commands/events';
import { exec } from './commands/exec';
import { explain } from './commands/explain';
import { features } from './commands/features';
import { kill } from './commands/kill';
import { list } from './commands/list';
import { pause, resume } from './commands/pause';
import { ps } from './commands/ps';
import { run } from './commands/run';
import { spec } from './commands/spec';
import { start } from './commands/start';
import { state } from './commands/state';
import { update } from './commands/update';
import type { Command } from './context';

export const COMMANDS: Readonly<Record<string, Command>> = {
  create,
  delete: delete_,
  events,
  exec,
  explain,
  features,
  kill,
  list,
  pause,
  ps,
  resume,
  run,
  spec,
  start,
  state,
  update,
};
