// The rule of event topics.

import { invalidArgument, messageOf } from '../../proto/errors';
import { checkIdentifier } from '../../proto/ids';

/** @throws INVALID_ARGUMENT unless the topic is "/" and components that are identifiers, joined with "/". */
export function checkTopic(topic: string): string {
  if (topic === '') throw invalidArgument('topic must not be empty');
  if (!topic.startsWith('/')) throw invalidArgument(`topic "${topic}" must start with '/'`);
  if (topic.length === 1) throw invalidArgument(`topic "${topic}" must have at least one component`);
  for (const component of topic.slice(1).split('/')) {
    try {
      checkIdentifier(component);
    } catch (error) {
      throw invalidArgument(`topic "${topic}": component "${component}": ${messageOf(error)}`);
    }
  }
  return topic;
}
