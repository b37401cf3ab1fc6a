// gantry events: what happens in all namespaces, as it happens.

import type { Command } from 'commander';
import type { MessageType } from '../../proto/codec';
import * as events from '../../proto/generated/containerd.events';
import * as images from '../../proto/generated/containerd.services.images.v1';
import type { Any } from '../../proto/generated/google.protobuf';
import { printable } from '../failure';
import { formatOf, isoTime, type ListOptions, line, toJson } from '../output';
import type { Session } from '../session';
import { action, formatOption } from './shared';

export function registerEvents(program: Command): void {
  const events = program.command('events [filters...]').alias('event');
  formatOption(events.description('print events of all namespaces until interrupted; as JSON one object a line'))
    .addHelpText(
      'after',
      `
A filter selects by namespace, topic or event field; several filters are alternatives.

Examples:
  gantry events
  gantry events 'namespace==moby,topic~=|^/tasks/|'
  gantry events --format json 'topic==/tasks/exit,event.container_id==web'`,
    )
    .action(action(follow));
}

async function follow(session: Session, options: ListOptions, filters: string[]): Promise<void> {
  const format = formatOf(options);
  const controller = new AbortController();
  const stop = (): void => controller.abort();
  process.once('SIGINT', stop).once('SIGTERM', stop);
  try {
    for await (const envelope of session.connection.events.subscribe(
      { filters },
      { patient: true, signal: controller.signal },
    )) {
      const { timestamp, namespace, topic, event } = envelope;
      const payload = event === undefined ? undefined : decode(event);
      if (format === 'json') line(toJson({ timestamp, namespace, topic, type: event?.typeUrl, event: payload }));
      else line(printable(`${isoTime(timestamp)} ${namespace} ${topic} ${toJson(payload)}`));
    }
  } catch (error) {
    if (!controller.signal.aborted) throw error;
  }
}

/** The payload as its message, or as bytes when the type is unknown here. */
function decode(event: Any): unknown {
  const type = typeOf(event.typeUrl);
  return type === undefined ? { value: event.value } : type.decode(event.value);
}

function typeOf(typeUrl: string): MessageType<unknown> | undefined {
  const name = typeUrl.slice(typeUrl.lastIndexOf('.') + 1);
  for (const module of [events, images] as Record<string, unknown>[]) {
    const type = module[name] as MessageType<unknown> | undefined;
    if (type?.name === typeUrl) return type;
  }
  return undefined;
}
