// Descriptors as protoc would write them, for what the API's own files do not have; those are compared in test/python.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FileDescriptorProto } from 'protobufjs/ext/descriptor';
import { loadDescriptors } from '../../../../daemon/services/descriptors';

const MAIN = `syntax = "proto3";
package one.two;
import "google/protobuf/any.proto";
import "other.proto";
message Outer {
  optional string maybe = 1;
  oneof choice { string left = 2; Inner right = 3; }
  map<string, Inner> node_labels = 4;
  message Inner { repeated google.protobuf.Any items = 1; three.Level level = 2; }
}
service Talk { rpc Say(stream Outer) returns (Outer.Inner); }
`;
const OTHER = `syntax = "proto3";
package three;
enum Level { option allow_alias = true; LOW = 0; NONE = 0; }
`;

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'gantry-descriptors-'));
  writeFileSync(join(directory, 'main.proto'), MAIN);
  writeFileSync(join(directory, 'other.proto'), OTHER);
});

afterEach(() => rmSync(directory, { recursive: true }));

function load() {
  const files = loadDescriptors(directory, ['main.proto']).map((data) => FileDescriptorProto.decode(data));
  return Object.fromEntries(files.map((file) => [file.name, FileDescriptorProto.toObject(file)]));
}

describe('loadDescriptors()', () => {
  it('keeps files apart, each with its imports', () => {
    const files = load();

    expect(Object.keys(files).sort()).toEqual(['google/protobuf/any.proto', 'main.proto', 'other.proto']);
    expect(files['main.proto']).toMatchObject({
      package: 'one.two',
      dependency: ['google/protobuf/any.proto', 'other.proto'],
    });
  });

  it('names the entries of maps as protoc does', () => {
    const outer = load()['main.proto']?.['messageType'][0];

    expect(outer.field[3]).toMatchObject({ name: 'node_labels', label: 3, typeName: '.one.two.Outer.NodeLabelsEntry' });
    expect(outer.nestedType[0]).toMatchObject({
      name: 'NodeLabelsEntry',
      field: [
        { name: 'key', number: 1, type: 9 },
        { name: 'value', number: 2, type: 11, typeName: '.one.two.Outer.Inner' },
      ],
      options: { mapEntry: true },
    });
  });

  it('puts the oneofs of optional fields behind the written ones', () => {
    const outer = load()['main.proto']?.['messageType'][0];

    expect(outer.oneofDecl).toEqual([{ name: 'choice' }, { name: '_maybe' }]);
    expect(outer.field[0]).toMatchObject({ name: 'maybe', oneofIndex: 1, proto3Optional: true });
    expect(outer.field[1]).toMatchObject({ name: 'left', oneofIndex: 0 });
  });

  it('keeps enums with aliases, and which way a method streams', () => {
    const files = load();

    expect(files['other.proto']?.['enumType']).toEqual([
      {
        name: 'Level',
        value: [
          { name: 'LOW', number: 0 },
          { name: 'NONE', number: 0 },
        ],
        options: { allowAlias: true },
      },
    ]);
    expect(files['main.proto']?.['service'][0].method[0]).toMatchObject({
      inputType: '.one.two.Outer',
      outputType: '.one.two.Outer.Inner',
      clientStreaming: true,
      serverStreaming: false,
    });
  });
});
