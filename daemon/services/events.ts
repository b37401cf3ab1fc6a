// containerd.services.events.v1.Events

import { invalidArgument } from '../../proto/errors';
import { EventsService } from '../../proto/generated/containerd.services.events.v1';
import type { EventBus } from '../events/bus';
import { defineService, type Service } from '../grpc/handler';

export function eventsService(bus: EventBus): Service {
  return defineService(EventsService, {
    publish(request, context) {
      bus.publishAny(context.requireNamespace(), request.topic, request.event);
      return {};
    },
    forward(request) {
      if (request.envelope === undefined) throw invalidArgument('envelope is required');
      bus.forward(request.envelope);
      return {};
    },
    subscribe: (request, context) => bus.subscribe(request.filters, context.signal),
  });
}
