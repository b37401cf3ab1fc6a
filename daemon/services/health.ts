// grpc.health.v1.Health: the server serves as soon as it answers.

import { notFound } from '../../proto/errors';
import { HealthCheckResponseServingStatus, HealthService } from '../../proto/generated/grpc.health.v1';
import { defineService, type Service } from '../grpc/handler';

const SERVING = { status: HealthCheckResponseServingStatus.SERVING };

/** `names` are the full names of the services that can be asked for; the empty name is the whole server. */
export function healthService(names: () => readonly string[]): Service {
  const check = (service: string) => {
    if (service !== '' && !names().includes(service)) throw notFound(`service "${service}"`);
    return SERVING;
  };
  return defineService(HealthService, {
    check: (request) => check(request.service),
    list: () => ({ statuses: Object.fromEntries(['', ...names()].map((name) => [name, SERVING])) }),
    async *watch(request, context) {
      const known = request.service === '' || names().includes(request.service);
      yield known ? SERVING : { status: HealthCheckResponseServingStatus.SERVICE_UNKNOWN };
      await new Promise<void>((resolve) => {
        if (context.signal.aborted) resolve();
        context.signal.addEventListener('abort', () => resolve(), { once: true });
      });
    },
  });
}
