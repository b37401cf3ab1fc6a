# A client that knows nothing but the reflection protocol: it learns the API from the server and calls it.
#
#   reflection.py STUBS ADDRESS DESCRIPTORS
#
# STUBS has the reflection protocol compiled by Debian's protoc. Asks both versions of it for every service and what that
# needs, builds the messages from the answers, calls Version with them and compares all with DESCRIPTORS, protoc's own of
# the same files. Prints what it saw as one JSON document.
import json
import sys

STUBS, ADDRESS, DESCRIPTORS = sys.argv[1:4]

import grpc  # noqa: E402

# The stubs are in a package called grpc as well.
grpc.__path__.append(STUBS + "/grpc")
sys.path.insert(0, STUBS)

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: E402
from grpc.reflection.v1 import reflection_pb2 as v1, reflection_pb2_grpc as v1_grpc  # noqa: E402
from grpc.reflection.v1alpha import reflection_pb2 as v1alpha, reflection_pb2_grpc as v1alpha_grpc  # noqa: E402

CALL_SECONDS = 30
VERSION_SERVICE = "containerd.services.version.v1.Version"
# An event is met only inside Any.
EVENT = "containerd.events.TaskExit"


class Reflection:
    def __init__(self, protocol, stub):
        self.protocol = protocol
        self.stub = stub

    def ask(self, **questions):
        requests = [self.protocol.ServerReflectionRequest(**{name: value}) for name, value in questions.items()]
        return list(self.stub.ServerReflectionInfo(iter(requests), timeout=CALL_SECONDS))

    def services(self):
        (answer,) = self.ask(list_services="")
        return sorted(service.name for service in answer.list_services_response.service)

    def load(self, pool, symbol):
        """Adds the file of a symbol with all that it imports."""
        (answer,) = self.ask(file_containing_symbol=symbol)
        files = {}
        self.collect(answer, files)
        added = set()

        def add(name):
            if name in added:
                return
            added.add(name)
            for needed in files[name].dependency:
                add(needed)
            pool.Add(files[name])

        for name in files:
            add(name)
        return files

    def collect(self, answer, files):
        parsed = [descriptor_pb2.FileDescriptorProto.FromString(data) for data in answer.file_descriptor_response.file_descriptor_proto]
        files.update({file.name: file for file in parsed})
        for file in parsed:
            for needed in file.dependency:
                if needed not in files:
                    (more,) = self.ask(file_by_filename=needed)
                    self.collect(more, files)

    def error(self, **question):
        (answer,) = self.ask(**question)
        return answer.error_response.error_code


def main():
    with grpc.insecure_channel("unix://" + ADDRESS) as channel:
        versions = {
            "v1": Reflection(v1, v1_grpc.ServerReflectionStub(channel)),
            "v1alpha": Reflection(v1alpha, v1alpha_grpc.ServerReflectionStub(channel)),
        }
        print(json.dumps({name: look(reflection, channel) for name, reflection in versions.items()}))


def look(reflection, channel):
    services = reflection.services()
    methods = {}
    files = {}
    for service in services:
        pool = descriptor_pool.DescriptorPool()
        files.update(reflection.load(pool, service))
        methods[service] = sorted(method.name for method in pool.FindServiceByName(service).methods)
    pool = descriptor_pool.DescriptorPool()
    files.update(reflection.load(pool, EVENT))
    return {
        "methods": methods,
        "event": [field.name for field in pool.FindMessageTypeByName(EVENT).fields],
        "files": len(files),
        "unlike protoc's": unlike(files),
        "version": call_version(reflection, channel),
        "unknown": [reflection.error(file_containing_symbol="no.such.Symbol"), reflection.error(file_by_filename="no/such.proto")],
        "in one stream": len(reflection.ask(list_services="", file_containing_symbol=VERSION_SERVICE)),
    }


def unlike(files):
    with open(DESCRIPTORS, "rb") as descriptors:
        expected = {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors.read()).file}
    return sorted(name for name in files if comparable(files[name]) != comparable(expected[name]))


def comparable(file):
    """All but the order of definitions, names for JSON, options, and what is reserved or imported without need."""
    return (
        file.package,
        file.syntax,
        sorted(comparable_message(message) for message in file.message_type),
        sorted(comparable_enum(enum) for enum in file.enum_type),
        sorted((service.name, sorted(comparable_method(method) for method in service.method)) for service in file.service),
    )


def comparable_message(message):
    kept = ("name", "number", "label", "type", "type_name", "oneof_index", "proto3_optional")
    fields = sorted(tuple((name, getattr(field, name), field.HasField(name) if name == "oneof_index" else None) for name in kept) for field in message.field)
    nested = sorted(comparable_message(inner) for inner in message.nested_type)
    enums = sorted(comparable_enum(enum) for enum in message.enum_type)
    return (message.name, fields, nested, enums, [oneof.name for oneof in message.oneof_decl], message.options.map_entry)


def comparable_enum(enum):
    return (enum.name, [(value.name, value.number) for value in enum.value], enum.options.allow_alias)


def comparable_method(method):
    return (method.name, method.input_type, method.output_type, method.client_streaming, method.server_streaming)


def call_version(reflection, channel):
    pool = descriptor_pool.DescriptorPool()
    reflection.load(pool, VERSION_SERVICE)
    method = pool.FindServiceByName(VERSION_SERVICE).methods_by_name["Version"]
    factory = message_factory.MessageFactory(pool)
    request, response = factory.GetPrototype(method.input_type), factory.GetPrototype(method.output_type)
    call = channel.unary_unary(f"/{VERSION_SERVICE}/{method.name}", request.SerializeToString, response.FromString)
    return call(request(), timeout=CALL_SECONDS).version


main()
