// gRPC server reflection, v1 and v1alpha, by @grpc/reflection. The .proto files are read when somebody first asks,
// because most daemons are never asked and the descriptors cost memory.

import { EventEmitter } from 'node:events';
import { existsSync, globSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Server, ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import type { PackageDefinition } from '@grpc/proto-loader';
import type { MessageType, Method } from '../../proto/codec';
import { internal } from '../../proto/errors';
import { defineService, type Service } from '../grpc/handler';

const SERVICES = ['grpc.reflection.v1.ServerReflection', 'grpc.reflection.v1alpha.ServerReflection'] as const;
const METHOD = 'ServerReflectionInfo';

/** Messages that clients meet inside Any. */
const PACKAGES = ['containerd/events/*.proto', 'containerd/runc/v1/*.proto'];

/** One version of the reflection service as the library registers it. */
interface Implementation {
  readonly definition: ServiceDefinition;
  readonly handlers: UntypedServiceImplementation;
}

/** `names` are the full names of the services to tell about. */
export function reflectionServices(names: () => readonly string[]): Service[] {
  let loaded: Map<string, Implementation> | undefined;
  const implementation = (service: string): Implementation => {
    loaded ??= load(names());
    const found = loaded.get(service);
    if (found === undefined) throw internal(`service "${service}" cannot be loaded`);
    return found;
  };
  return SERVICES.map((service) =>
    defineService(
      { info: rawMethod(`/${service}/${METHOD}`) },
      { info: (requests) => answer(implementation(service), requests) },
    ),
  );
}

/** Feeds the library's handler, which answers each message at once, and passes its answers on. */
async function* answer(implementation: Implementation, requests: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
  const method = implementation.definition[METHOD];
  const handler = implementation.handlers[METHOD] as ((stream: unknown) => void) | undefined;
  if (method === undefined || handler === undefined) throw internal(`method ${METHOD} cannot be loaded`);
  const answers: Buffer[] = [];
  const write = (message: unknown) => answers.push(method.responseSerialize(message));
  const stream = Object.assign(new EventEmitter(), { write, end: () => {} });
  handler(stream);
  for await (const request of requests) {
    stream.emit('data', method.requestDeserialize(request));
    yield* answers.splice(0);
  }
}

function load(services: readonly string[]): Map<string, Implementation> {
  // Required here and not imported above: this is what makes the service cheap until it is used.
  const { ReflectionService } = require('@grpc/reflection') as typeof import('@grpc/reflection');
  const { loadDescriptors } = require('./descriptors') as typeof import('./descriptors');
  const directory = protoDirectory();
  const files = globSync(PACKAGES.concat(services.map(packagePath)), { cwd: directory }).sort();
  // Of a package definition the library reads only the descriptors in its entries.
  const definition = { api: { fileDescriptorProtos: loadDescriptors(directory, files) } };
  const result = new Map<string, Implementation>();
  const recorder = {
    addService: (added: ServiceDefinition, handlers: UntypedServiceImplementation) => {
      const path = Object.values(added)[0]?.path ?? '';
      result.set(path.split('/')[1] ?? '', { definition: added, handlers });
    },
  };
  new ReflectionService(definition as unknown as PackageDefinition, { services: [...services] }).addToServer(
    recorder as unknown as Server,
  );
  return result;
}

/** The files of a service's package: a/b/v1/*.proto for a.b.v1.Service. */
function packagePath(service: string): string {
  return `${service.split('.').slice(0, -1).join('/')}/*.proto`;
}

/** Beside the compiled code when installed, in the project when run from sources. */
function protoDirectory(): string {
  const candidates = [
    resolve(__dirname, '..', '..', 'proto', 'api'),
    resolve(__dirname, '..', '..', '..', 'proto', 'api'),
  ];
  const found = candidates.find((directory) => existsSync(join(directory, 'containerd')));
  if (found === undefined) throw internal(`the .proto files are not installed in ${candidates[0]}`);
  return found;
}

/** A bidirectional method whose messages are passed through in their encoded form. */
function rawMethod(path: string): Method<Buffer, Buffer, 'bidi'> {
  const pass = (bytes: unknown) => bytes as Buffer;
  return {
    path,
    kind: 'bidi',
    requestStream: true,
    responseStream: true,
    requestType: undefined as unknown as MessageType<Buffer>,
    responseType: undefined as unknown as MessageType<Buffer>,
    requestSerialize: pass,
    requestDeserialize: pass,
    responseSerialize: pass,
    responseDeserialize: pass,
  };
}
