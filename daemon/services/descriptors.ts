// The .proto files as descriptors (google/protobuf/descriptor.proto), one for each file and under the name by which others
// import it, so that a client can build the API from them as from protoc's output. protobufjs has a conversion of its own,
// but that makes one file of a package, without imports and with maps that other implementations refuse.

import { join, relative } from 'node:path';
import protobuf from 'protobufjs';
import { FileDescriptorProto } from 'protobufjs/ext/descriptor';

/** Numbers of FieldDescriptorProto.Type. */
const TYPES = [
  '',
  'double',
  'float',
  'int64',
  'uint64',
  'int32',
  'fixed64',
  'fixed32',
  'bool',
  'string',
  'group',
].concat(['message', 'bytes', 'uint32', 'enum', 'sfixed32', 'sfixed64', 'sint32', 'sint64']);
/** FieldDescriptorProto.Label. */
const OPTIONAL = 1;
const REPEATED = 3;
/** Those of google/protobuf that protobufjs brings along. */
const WELL_KNOWN = ['any', 'duration', 'empty', 'field_mask', 'struct', 'timestamp', 'wrappers'];

type Definition = protobuf.Type | protobuf.Enum | protobuf.Service;

interface FieldDescriptor {
  readonly name: string;
  readonly number: number;
  readonly label: number;
  readonly type: number;
  readonly typeName?: string;
  readonly oneofIndex?: number;
  readonly proto3Optional?: boolean;
}

interface MessageDescriptor {
  readonly name: string;
  readonly field: FieldDescriptor[];
  readonly nestedType?: MessageDescriptor[];
  readonly enumType?: object[];
  readonly oneofDecl?: object[];
  readonly options?: object;
}

/** Encoded descriptors of `files`, which are paths below `directory`, and of all that they import. */
export function loadDescriptors(directory: string, files: readonly string[]): Buffer[] {
  const root = new protobuf.Root();
  root.resolvePath = (_origin, target) => (protobuf.common.get(target) === null ? join(directory, target) : target);
  root.loadSync([...files], { keepCase: true });
  root.resolveAll();
  const found = new Map<string, Definition[]>();
  for (const definition of definitionsIn(root)) {
    const name = fileOf(definition, directory);
    found.set(name, [...(found.get(name) ?? []), definition]);
  }
  return [...found].map(([name, definitions]) => toFile(name, definitions, directory));
}

/** Messages, enums and services that are not inside of a message. */
function definitionsIn(space: protobuf.NamespaceBase): Definition[] {
  return space.nestedArray.flatMap((object) => {
    if (isDefinition(object)) return [object];
    return object instanceof protobuf.Namespace ? definitionsIn(object) : [];
  });
}

function isDefinition(object: protobuf.ReflectionObject): object is Definition {
  return object instanceof protobuf.Type || object instanceof protobuf.Enum || object instanceof protobuf.Service;
}

/** The name for imports of the file that has the object. */
function fileOf(object: protobuf.ReflectionObject, directory: string): string {
  if (object.parent instanceof protobuf.Type) return fileOf(object.parent, directory);
  if (object.filename !== null && object.filename !== undefined) return relative(directory, object.filename);
  const name = WELL_KNOWN.map((base) => `google/protobuf/${base}.proto`).find((candidate) => {
    const common = protobuf.common.get(candidate) as {
      nested: { google: { nested: { protobuf: { nested: object } } } };
    };
    return Object.hasOwn(common.nested.google.nested.protobuf.nested, object.name);
  });
  if (name === undefined) throw new Error(`${object.fullName} is in no file`);
  return name;
}

function toFile(name: string, definitions: readonly Definition[], directory: string): Buffer {
  const needed = new Set(definitions.flatMap(referencesOf).map((object) => fileOf(object, directory)));
  needed.delete(name);
  const descriptor = {
    name,
    package: definitions[0]?.parent?.fullName.slice(1) ?? '',
    dependency: [...needed].sort(),
    messageType: definitions.filter((object) => object instanceof protobuf.Type).map(toMessage),
    enumType: definitions.filter((object) => object instanceof protobuf.Enum).map(toEnum),
    service: definitions.filter((object) => object instanceof protobuf.Service).map(toService),
    syntax: 'proto3',
  };
  return Buffer.from(FileDescriptorProto.encode(descriptor).finish());
}

function referencesOf(object: protobuf.ReflectionObject): protobuf.ReflectionObject[] {
  if (object instanceof protobuf.Service) {
    return object.methodsArray.flatMap((method) => [inputOf(method), outputOf(method)]);
  }
  if (!(object instanceof protobuf.Type)) return [];
  const fields = object.fieldsArray.map(({ resolvedType }) => resolvedType).filter((type) => type !== null);
  return [...fields, ...object.nestedArray.flatMap(referencesOf)];
}

function toMessage(type: protobuf.Type): MessageDescriptor {
  // Those that stand for the keyword "optional" come last, as protoc has them.
  const oneofs = [...type.oneofsArray].sort((a, b) => Number(isSynthetic(a)) - Number(isSynthetic(b)));
  const nested = type.nestedArray;
  const maps = type.fieldsArray.map(asMap).filter((field) => field !== undefined);
  return {
    name: type.name,
    field: type.fieldsArray.map((field) => toField(field, oneofs)),
    nestedType: [...maps.map(toMapEntry), ...nested.filter((object) => object instanceof protobuf.Type).map(toMessage)],
    enumType: nested.filter((object) => object instanceof protobuf.Enum).map(toEnum),
    oneofDecl: oneofs.map(({ name }) => ({ name })),
  };
}

function toField(field: protobuf.Field, oneofs: readonly protobuf.OneOf[]): FieldDescriptor {
  const { name, id: number } = field;
  if (asMap(field) !== undefined) {
    const typeName = `${field.parent?.fullName}.${entryName(field)}`;
    return { name, number, label: REPEATED, type: TYPES.indexOf('message'), typeName };
  }
  const oneof = field.partOf;
  return {
    name,
    number,
    label: field.repeated ? REPEATED : OPTIONAL,
    ...typeOf(field),
    ...(oneof === null ? {} : { oneofIndex: oneofs.indexOf(oneof), proto3Optional: isSynthetic(oneof) }),
  };
}

/** A list of fields may have maps in it, although its type does not say so. */
function asMap(field: protobuf.FieldBase): protobuf.MapField | undefined {
  return field instanceof protobuf.MapField ? field : undefined;
}

function typeOf({ type, resolvedType }: protobuf.FieldBase): Pick<FieldDescriptor, 'type' | 'typeName'> {
  if (resolvedType === null) return { type: TYPES.indexOf(type) };
  const kind = resolvedType instanceof protobuf.Enum ? 'enum' : 'message';
  return { type: TYPES.indexOf(kind), typeName: resolvedType.fullName };
}

function toMapEntry(field: protobuf.MapField): MessageDescriptor {
  const key = { name: 'key', number: 1, label: OPTIONAL, type: TYPES.indexOf(field.keyType) };
  const value = { name: 'value', number: 2, label: OPTIONAL, ...typeOf(field) };
  return { name: entryName(field), field: [key, value], options: { mapEntry: true } };
}

/** The name that protoc gives and that others insist on: node_labels has NodeLabelsEntry. */
function entryName({ name }: protobuf.FieldBase): string {
  return `${name.replace(/(?:^|_)([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())}Entry`;
}

function isSynthetic({ fieldsArray }: protobuf.OneOf): boolean {
  return fieldsArray[0]?.options?.['proto3_optional'] === true;
}

function toEnum({ name, values }: protobuf.Enum): object {
  const value = Object.entries(values).map(([label, number]) => ({ name: label, number }));
  const hasAlias = new Set(Object.values(values)).size < value.length;
  return { name, value, ...(hasAlias ? { options: { allowAlias: true } } : {}) };
}

function toService({ name, methodsArray }: protobuf.Service): object {
  const method = methodsArray.map((method) => ({
    name: method.name,
    inputType: inputOf(method).fullName,
    outputType: outputOf(method).fullName,
    clientStreaming: method.requestStream === true,
    serverStreaming: method.responseStream === true,
  }));
  return { name, method };
}

function inputOf(method: protobuf.Method): protobuf.Type {
  return resolved(method, method.resolvedRequestType);
}

function outputOf(method: protobuf.Method): protobuf.Type {
  return resolved(method, method.resolvedResponseType);
}

function resolved(method: protobuf.Method, type: protobuf.Type | null): protobuf.Type {
  if (type === null) throw new Error(`${method.fullName} is not resolved`);
  return type;
}
