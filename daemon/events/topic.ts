// The rule of event topics.

import { invalidArgument, messageOf } from '../../proto/errors';
import { checkIdentifier } from '../../proto/ids';

/** @throws INVALID_ARGUMENT unless the topic is "/" and components that are identifiers, joined with "/". */
export function checkTopic(topic: string): string {
  const refuse = (why: string) => invalidArgument(`envelope topic "${topic}": ${why}`);
  if (topic === '') throw refuse('must not be empty');
  if (!topic.startsWith('/')) throw refuse("must start with '/'");
  if (topic.length === 1) throw refuse('must have at least one component');
  for (const component of topic.slice(1).split('/')) {
    try {
      checkIdentifier(component);
    } catch (error) {
      throw refuse(`failed validation on component "${component}": ${messageOf(error)}`);
    }
  }
  return topic;
}
