// The commands by name, in the order in which help shows them. Each is loaded when it is wanted, which keeps the others
// and what they need out of a call.

import type { Command } from './context';

export const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  checkpoint: async () => (await import('./commands/checkpoint.js')).checkpoint,
  create: async () => (await import('./commands/create.js')).create,
  delete: async () => (await import('./commands/delete.js')).delete_,
  events: async () => (await import('./commands/events.js')).events,
  exec: async () => (await import('./commands/exec.js')).exec,
  explain: async () => (await import('./commands/explain.js')).explain,
  features: async () => (await import('./commands/features.js')).features,
  kill: async () => (await import('./commands/kill.js')).kill,
  list: async () => (await import('./commands/list.js')).list,
  pause: async () => (await import('./commands/pause.js')).pause,
  ps: async () => (await import('./commands/ps.js')).ps,
  restore: async () => (await import('./commands/restore.js')).restore,
  resume: async () => (await import('./commands/pause.js')).resume,
  run: async () => (await import('./commands/run.js')).run,
  spec: async () => (await import('./commands/spec.js')).spec,
  start: async () => (await import('./commands/start.js')).start,
  state: async () => (await import('./commands/state.js')).state,
  update: async () => (await import('./commands/update.js')).update,
};
