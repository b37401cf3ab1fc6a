// Build step: reads proto/api/**/*.proto and writes proto/generated/<package>.ts, one file per protobuf package, with
// the interfaces, the tables for codec.ts and the service definitions. Run by `make`; never imported.

import { globSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import protobuf from 'protobufjs';

const API = join(import.meta.dirname, 'api');
const OUT = join(import.meta.dirname, 'generated');
/** Packages whose types nothing uses yet: they are served as .proto files only. */
const SKIPPED = new Set(['runtime.v1', 'nri.pkg.api.v1alpha1', 'runtimeoptions.v1', 'grpc.reflection.v1', 'grpc.reflection.v1alpha']);
const SCALARS: Record<string, string> = {
  string: 'string',
  bytes: 'Buffer',
  bool: 'boolean',
  int32: 'number',
  uint32: 'number',
  int64: 'bigint',
  uint64: 'bigint',
  double: 'number',
};

interface Package {
  readonly name: string;
  readonly types: protobuf.Type[];
  readonly enums: protobuf.Enum[];
  readonly services: protobuf.Service[];
}

function main(): void {
  const root = new protobuf.Root();
  root.resolvePath = (_origin, target) => (target.startsWith('/') || protobuf.common.get(target) ? target : join(API, target));
  root.loadSync(globSync('**/*.proto', { cwd: API }).sort().map((file) => join(API, file)), { keepCase: false });
  root.resolveAll();
  rmSync(OUT, { recursive: true, force: true });
  mkdirSync(OUT, { recursive: true });
  for (const pkg of collect(root)) {
    if (!SKIPPED.has(pkg.name)) writeFileSync(join(OUT, `${pkg.name}.ts`), render(pkg));
  }
}

function collect(root: protobuf.Root): Package[] {
  const packages = new Map<string, Package>();
  const of = (object: protobuf.ReflectionObject): Package => {
    const name = packageOf(object);
    let found = packages.get(name);
    if (found === undefined) {
      found = { name, types: [], enums: [], services: [] };
      packages.set(name, found);
    }
    return found;
  };
  const walk = (space: protobuf.NamespaceBase): void => {
    for (const object of space.nestedArray) {
      if (object instanceof protobuf.Type) of(object).types.push(object);
      if (object instanceof protobuf.Enum) of(object).enums.push(object);
      if (object instanceof protobuf.Service) of(object).services.push(object);
      if (object instanceof protobuf.Namespace) walk(object);
    }
  };
  walk(root);
  return [...packages.values()];
}

function packageOf(object: protobuf.ReflectionObject): string {
  let parent = object.parent;
  while (parent instanceof protobuf.Type) parent = parent.parent;
  return fullName(parent as protobuf.ReflectionObject);
}

function fullName(object: protobuf.ReflectionObject): string {
  return object.fullName.replace(/^\./, '');
}

/** Outer.Inner becomes OuterInner. */
function localName(object: protobuf.ReflectionObject): string {
  return fullName(object).slice(packageOf(object).length + 1).replaceAll('.', '');
}

function render(pkg: Package): string {
  const imports = new Set<string>();
  const reference = (type: protobuf.ReflectionObject): string => {
    const other = packageOf(type);
    if (other === pkg.name) return localName(type);
    imports.add(other);
    return `${alias(other)}.${localName(type)}`;
  };
  const body = [
    ...pkg.enums.map(renderEnum),
    ...pkg.types.map((type) => renderType(type, reference)),
    ...pkg.services.map((service) => renderService(service, reference)),
  ];
  const head = [
    `// Generated from the .proto files of package ${pkg.name} by proto/generate.ts.`,
    `import { ${pkg.types.length > 0 ? 'type MessageType, message, ' : ''}${pkg.services.length > 0 ? 'method' : ''} } from '../codec';`,
    ...[...imports].sort().map((name) => `import * as ${alias(name)} from './${name}';`),
  ];
  return `${head.join('\n')}\n\n${body.join('\n\n')}\n`;
}

function alias(pkg: string): string {
  return pkg.replaceAll('.', '_');
}

function renderEnum(type: protobuf.Enum): string {
  const rows = Object.entries(type.values).map(([name, number]) => `  ${name}: ${number},`);
  return `export const ${localName(type)} = {\n${rows.join('\n')}\n} as const;`;
}

function renderType(type: protobuf.Type, reference: (type: protobuf.ReflectionObject) => string): string {
  const name = localName(type);
  const properties: string[] = [];
  const rows: string[] = [];
  for (const field of type.fieldsArray) {
    const resolved = field.resolvedType;
    const isMessage = resolved instanceof protobuf.Type;
    const scalar = resolved instanceof protobuf.Enum ? 'number' : SCALARS[field.type];
    if (!isMessage && scalar === undefined) throw new Error(`${name}.${field.name}: type ${field.type} is not supported`);
    const valueType = isMessage ? reference(resolved) : (scalar as string);
    const label = labelOf(field);
    properties.push(`  ${camel(field.name)}: ${propertyType(valueType, label, isMessage)};`);
    const tableType = isMessage ? `() => ${valueType}` : `'${resolved instanceof protobuf.Enum ? 'enum' : field.type}'`;
    rows.push(`  [${field.id}, '${camel(field.name)}', ${tableType}${label === 'singular' ? '' : `, '${label}'`}],`);
  }
  const shape = properties.length > 0 ? `{\n${properties.join('\n')}\n}` : '{}';
  const table = rows.length > 0 ? `[\n${rows.join('\n')}\n]` : '[]';
  return `export interface ${name} ${shape}\n\nexport const ${name}: MessageType<${name}> = message('${fullName(type)}', ${table});`;
}

/** protobufjs keeps the case of its built-in well-known types. */
function camel(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function labelOf(field: protobuf.Field): 'singular' | 'optional' | 'repeated' | 'map' {
  if (field instanceof protobuf.MapField) {
    if (field.keyType !== 'string') throw new Error(`${field.fullName}: only string keys are supported`);
    return 'map';
  }
  if (field.repeated) return 'repeated';
  return field.partOf !== null && field.partOf !== undefined ? 'optional' : 'singular';
}

function propertyType(valueType: string, label: string, isMessage: boolean): string {
  if (label === 'map') return `Record<string, ${valueType}>`;
  if (label === 'repeated') return `${valueType}[]`;
  return label === 'optional' || isMessage ? `${valueType} | undefined` : valueType;
}

function renderService(service: protobuf.Service, reference: (type: protobuf.ReflectionObject) => string): string {
  const rows = service.methodsArray.map((item) => {
    const [request, response] = [item.resolvedRequestType, item.resolvedResponseType];
    if (request === null || response === null) throw new Error(`${item.fullName}: unresolved type`);
    const kind = item.requestStream ? (item.responseStream ? 'bidi' : 'client') : item.responseStream ? 'server' : 'unary';
    const key = item.name.charAt(0).toLowerCase() + item.name.slice(1);
    const path = `/${fullName(service)}/${item.name}`;
    return `  ${key}: method('${path}', '${kind}', ${reference(request)}, ${reference(response)}),`;
  });
  return `export const ${localName(service)}Service = {\n${rows.join('\n')}\n} as const;`;
}

main();
