# A client of the API in another language: everything it knows of the wire comes from proto/api, compiled by Debian's protoc.
#
#   client.py STUBS ADDRESS NAMESPACE IMAGE_TAR
#
# Brings the blobs of an image layout into the content store, unpacks the layers, runs a container of it, waits for its end,
# removes everything, and follows the events meanwhile. Prints what it saw as one JSON document.
import hashlib
import json
import os
import sys
import tarfile
import tempfile
import threading
import time

STUBS, ADDRESS, NAMESPACE, IMAGE_TAR = sys.argv[1:5]
sys.path.insert(0, STUBS)

import grpc  # noqa: E402
from containerd.events import events_pb2  # noqa: E402
from containerd.services.containers.v1 import containers_pb2, containers_pb2_grpc  # noqa: E402
from containerd.services.content.v1 import content_pb2, content_pb2_grpc  # noqa: E402
from containerd.services.diff.v1 import diff_pb2, diff_pb2_grpc  # noqa: E402
from containerd.services.events.v1 import events_pb2 as event_service_pb2  # noqa: E402
from containerd.services.events.v1 import events_pb2_grpc  # noqa: E402
from containerd.services.images.v1 import images_pb2, images_pb2_grpc  # noqa: E402
from containerd.services.leases.v1 import leases_pb2, leases_pb2_grpc  # noqa: E402
from containerd.services.snapshots.v1 import snapshots_pb2, snapshots_pb2_grpc  # noqa: E402
from containerd.services.tasks.v1 import tasks_pb2, tasks_pb2_grpc  # noqa: E402
from containerd.services.version.v1 import version_pb2_grpc  # noqa: E402
from containerd.types import types_pb2  # noqa: E402
from google.protobuf import any_pb2, empty_pb2, field_mask_pb2, timestamp_pb2  # noqa: E402

SNAPSHOTTER = "overlayfs"
IMAGE = "test/python:latest"
PROBE = "probe"
CONTAINER = "from-python"
LEASE = "python-import"
CHUNK_BYTES = 64 * 1024
CALL_SECONDS = 30
SPEC_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
COMMAND = ["sh", "-c", "echo from the container; id -u; echo odd >&2; exit 7"]


class Client:
    def __init__(self):
        self.channel = grpc.insecure_channel("unix://" + ADDRESS)
        self.version = version_pb2_grpc.VersionStub(self.channel)
        self.content = content_pb2_grpc.ContentStub(self.channel)
        self.images = images_pb2_grpc.ImagesStub(self.channel)
        self.leases = leases_pb2_grpc.LeasesStub(self.channel)
        self.snapshots = snapshots_pb2_grpc.SnapshotsStub(self.channel)
        self.diff = diff_pb2_grpc.DiffStub(self.channel)
        self.containers = containers_pb2_grpc.ContainersStub(self.channel)
        self.tasks = tasks_pb2_grpc.TasksStub(self.channel)
        self.events = events_pb2_grpc.EventsStub(self.channel)

    def call(self, method, request, lease=None):
        return method(request, metadata=metadata(lease), timeout=CALL_SECONDS)


def metadata(lease=None):
    return [("containerd-namespace", NAMESPACE)] + ([("containerd-lease", lease)] if lease else [])


def main():
    client = Client()
    seen = {"version": client.version.Version(empty_pb2.Empty(), timeout=CALL_SECONDS).version != ""}
    topics = follow_events(client)
    client.call(client.leases.Create, leases_pb2.CreateRequest(id=LEASE))
    with tarfile.open(IMAGE_TAR) as archive:
        manifest = import_blobs(client, archive)
        seen["layers"], chain = unpack(client, archive, manifest)
    client.call(client.leases.Delete, leases_pb2.DeleteRequest(id=LEASE, sync=True))
    seen["kept"] = len([info for batch in client.call(client.content.List, content_pb2.ListContentRequest()) for info in batch.info])
    seen.update(run_container(client, chain))
    seen.update(remove_image(client))
    seen["events"] = wait_for_events(topics)
    print(json.dumps(seen))


def follow_events(client):
    """Collects [topic, detail] pairs of this namespace in a thread; returns the growing list when the stream is open."""
    topics, probes = [], []
    request = event_service_pb2.SubscribeRequest(filters=["namespace==" + NAMESPACE])
    stream = client.events.Subscribe(request, metadata=metadata())

    def read():
        try:
            for envelope in stream:
                probe = probe_of(envelope)
                if probe is not None:
                    probes.append(probe)
                elif envelope.topic != "/content/create":  # Only containerd 2.1 and later, and gantryd.
                    topics.append([envelope.topic, detail(envelope.event)])
        except grpc.RpcError:
            pass  # The channel closes at the end of the program.

    threading.Thread(target=read, daemon=True).start()
    # A lease causes no event and an image does: repeat one until it is seen.
    image = types_pb2.Descriptor(media_type="text/plain", digest="sha256:" + "0" * 64, size=1)
    while not probes:
        client.call(client.images.Create, images_pb2.CreateImageRequest(image=images_pb2.Image(name=PROBE, target=image)))
        client.call(client.images.Delete, images_pb2.DeleteImageRequest(name=PROBE))
        time.sleep(0.05)
    return topics


def probe_of(envelope):
    """The name of the image that only tells that the stream is open; None for every other event."""
    kind = {"/images/create": images_pb2.ImageCreate, "/images/delete": images_pb2.ImageDelete}.get(envelope.topic)
    name = None if kind is None else kind.FromString(envelope.event.value).name
    return name if name == PROBE else None


def detail(event):
    """What is comparable of an event: exit statuses, and keys that the program chose itself."""
    if event.type_url == "containerd.events.TaskExit":
        payload = events_pb2.TaskExit.FromString(event.value)
        return "%s/%s %d" % (payload.container_id, payload.id, payload.exit_status)
    if event.type_url == "containerd.events.ContainerCreate":
        payload = events_pb2.ContainerCreate.FromString(event.value)
        return "%s %s %s" % (payload.id, payload.image, payload.runtime.name)
    return event.type_url


def read_blob(archive, digest):
    return archive.extractfile("blobs/" + digest.replace(":", "/")).read()


def import_blobs(client, archive):
    index = json.load(archive.extractfile("index.json"))
    target = index["manifests"][0]
    manifest = json.loads(read_blob(archive, target["digest"]))
    for layer in manifest["layers"]:
        write_blob(client, layer, read_blob(archive, layer["digest"]), {})
    write_blob(client, manifest["config"], read_blob(archive, manifest["config"]["digest"]), {})
    references = {"containerd.io/gc.ref.content.config": manifest["config"]["digest"]}
    for number, layer in enumerate(manifest["layers"]):
        references["containerd.io/gc.ref.content.l.%d" % number] = layer["digest"]
    write_blob(client, target, read_blob(archive, target["digest"]), references)
    image = images_pb2.Image(name=IMAGE, labels={"made.by": "python"}, target=descriptor(target))
    client.call(client.images.Create, images_pb2.CreateImageRequest(image=image), LEASE)
    return manifest


def descriptor(document):
    return types_pb2.Descriptor(media_type=document["mediaType"], digest=document["digest"], size=document["size"])


def write_blob(client, document, data, labels):
    ref = "python-" + document["digest"]

    def requests():
        yield content_pb2.WriteContentRequest(action=content_pb2.STAT, ref=ref, total=len(data))
        for offset in range(0, len(data), CHUNK_BYTES):
            chunk = data[offset : offset + CHUNK_BYTES]
            yield content_pb2.WriteContentRequest(action=content_pb2.WRITE, ref=ref, total=len(data), offset=offset, data=chunk)
        yield content_pb2.WriteContentRequest(
            action=content_pb2.COMMIT, ref=ref, total=len(data), offset=len(data), expected=document["digest"], labels=labels
        )

    last = list(client.call(client.content.Write, requests(), LEASE))[-1]
    assert (last.digest, last.offset) == (document["digest"], len(data)), last


def unpack(client, archive, manifest):
    """Applies each layer to a snapshot of its own. Returns the number of layers and the chain id of the last."""
    config = json.loads(read_blob(archive, manifest["config"]["digest"]))
    parent = ""
    for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"]):
        chain = diff_id if parent == "" else "sha256:" + hashlib.sha256((parent + " " + diff_id).encode()).hexdigest()
        key = "extract-1-py " + chain
        prepare = snapshots_pb2.PrepareSnapshotRequest(snapshotter=SNAPSHOTTER, key=key, parent=parent)
        mounts = client.call(client.snapshots.Prepare, prepare, LEASE).mounts
        applied = client.call(client.diff.Apply, diff_pb2.ApplyRequest(diff=descriptor(layer), mounts=mounts), LEASE).applied
        assert applied.digest == diff_id, applied
        commit = snapshots_pb2.CommitSnapshotRequest(snapshotter=SNAPSHOTTER, name=chain, key=key)
        client.call(client.snapshots.Commit, commit, LEASE)
        parent = chain
    label = "containerd.io/gc.ref.snapshot." + SNAPSHOTTER
    info = content_pb2.Info(digest=manifest["config"]["digest"], labels={label: parent})
    mask = field_mask_pb2.FieldMask(paths=["labels." + label])
    client.call(client.content.Update, content_pb2.UpdateRequest(info=info, update_mask=mask))
    return len(manifest["layers"]), parent


def spec():
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
    ]
    return {
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": COMMAND, "cwd": "/", "env": ["PATH=/usr/bin:/bin"]},
        "root": {"path": "rootfs"},
        "mounts": mounts,
        "linux": {
            "cgroupsPath": "/%s/%s" % (NAMESPACE, CONTAINER),
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")],
        },
    }


def read_fifo(path):
    """Makes a fifo; returns its path and a function that returns all lines that came when the writers are gone."""
    os.mkfifo(path)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(open(path).read().split("\n")), daemon=True)
    reader.start()

    def join():
        reader.join(CALL_SECONDS)
        return lines

    return path, join


def run_container(client, chain):
    prepare = snapshots_pb2.PrepareSnapshotRequest(snapshotter=SNAPSHOTTER, key=CONTAINER, parent=chain)
    mounts = client.call(client.snapshots.Prepare, prepare).mounts
    container = containers_pb2.Container(
        id=CONTAINER,
        image=IMAGE,
        snapshotter=SNAPSHOTTER,
        snapshot_key=CONTAINER,
        runtime=containers_pb2.Container.Runtime(name="io.containerd.runc.v2"),
        spec=any_pb2.Any(type_url=SPEC_TYPE, value=json.dumps(spec()).encode()),
    )
    client.call(client.containers.Create, containers_pb2.CreateContainerRequest(container=container))
    with tempfile.TemporaryDirectory() as folder:
        read = {name: read_fifo(os.path.join(folder, name)) for name in ("stdout", "stderr")}
        create = tasks_pb2.CreateTaskRequest(container_id=CONTAINER, rootfs=mounts, **{name: path for name, (path, _) in read.items()})
        created = client.call(client.tasks.Create, create)
        waiting = client.tasks.Wait.future(
            tasks_pb2.WaitRequest(container_id=CONTAINER), metadata=metadata(), timeout=CALL_SECONDS
        )
        started = client.call(client.tasks.Start, tasks_pb2.StartRequest(container_id=CONTAINER))
        waited = waiting.result()
        state = client.call(client.tasks.Get, tasks_pb2.GetRequest(container_id=CONTAINER)).process
        deleted = client.call(client.tasks.Delete, tasks_pb2.DeleteTaskRequest(container_id=CONTAINER))
        output = {name: join() for name, (_, join) in read.items()}
    client.call(client.containers.Delete, containers_pb2.DeleteContainerRequest(id=CONTAINER))
    client.call(client.snapshots.Remove, snapshots_pb2.RemoveSnapshotRequest(snapshotter=SNAPSHOTTER, key=CONTAINER))
    return {
        "output": output,
        "same pid": created.pid == started.pid == state.pid == deleted.pid,
        "status": [waited.exit_status, state.exit_status, deleted.exit_status],
        "state": state.status,
        "same time": waited.exited_at == state.exited_at == deleted.exited_at != timestamp_pb2.Timestamp(),
    }


def remove_image(client):
    client.call(client.images.Delete, images_pb2.DeleteImageRequest(name=IMAGE, sync=True))
    blobs = [info.digest for batch in client.call(client.content.List, content_pb2.ListContentRequest()) for info in batch.info]
    snapshots = client.call(client.snapshots.List, snapshots_pb2.ListSnapshotsRequest(snapshotter=SNAPSHOTTER))
    try:
        client.call(client.images.Get, images_pb2.GetImageRequest(name=IMAGE))
        code = "OK"
    except grpc.RpcError as error:
        code = error.code().name + " " + error.details()
    return {"left": blobs + [info.name for batch in snapshots for info in batch.info], "missing image": code}


def wait_for_events(topics):
    deadline = time.monotonic() + CALL_SECONDS
    while not any(topic == "/images/delete" for topic, _ in topics) and time.monotonic() < deadline:
        time.sleep(0.02)
    # What collection removes afterwards is told by some releases only.
    return topics[: [topic for topic, _ in topics].index("/images/delete") + 1]


main()
