// Where gantryd deliberately answers otherwise than containerd 1.6.20, 1.7.24 or 2.1, and why. Where they differ, ours can be
// like one of them only. Keep it tiny: every row is a promise broken on purpose.

export interface MeantDifference {
  readonly case: string;
  readonly reason: string;
  /** What containerd's transcript says and what ours says in its place. */
  readonly peer: string | RegExp;
  readonly gantryd: string;
}

const EVENTS_OF_OBJECTS = 'events of images, content, snapshots and namespaces';

export const MEANT_DIFFERENCES: readonly MeantDifference[] = [
  {
    case: 'namespaces: errors',
    reason: 'says how long the label was, as containerd 1.7 and later do',
    peer: 'label key and value greater than maximum size',
    gantryd: 'label key and value length (4103 bytes) greater than maximum size',
  },
  {
    case: 'plugins ls with a filter',
    reason: 'a layer may get its parent at the commit, as in containerd 2.2 and later',
    peer: /(?<=Exports:\n\| {2}root .*\n)= 0$/,
    gantryd: '| Capabilities: rebase\n= 0',
  },
  {
    case: 'snapshots (overlayfs): errors',
    reason: 'containerd 1.6 does not say the key twice',
    peer: /failed to commit snapshot \w+:/g,
    gantryd: 'failed to commit snapshot:',
  },
  {
    case: 'snapshots (native): errors',
    reason: 'one wording for all snapshotters',
    peer: 'failed to get snapshot mount',
    gantryd: 'failed to get active mount',
  },
  ...['run: mounts, devices and protected paths', 'tasks exec'].map((name) => ({
    case: name,
    reason: 'next to v1, the v2 hierarchy has no controllers: to join it would cost time and bring nothing',
    peer: /(?<=\| ):\/\$NS\/\w+/,
    gantryd: ':/',
  })),
  {
    case: 'run: the environment, ids and limits of a process',
    reason: 'runc hands on what the parent of the daemon ignored; here a process starts with no signal ignored',
    peer: /SigIgn: [0-9a-f]{16}/,
    gantryd: 'SigIgn: 0000000000000000',
  },
  {
    case: 'run --memory-limit --cpus',
    reason: 'network tunnels are not allowed to every container, as in runc 1.2 and later',
    peer: 'c 10:200 rwm, ',
    gantryd: '',
  },
  {
    case: EVENTS_OF_OBJECTS,
    reason: 'create and update are published inside the namespace they tell of, as containerd 1.7 does',
    peer: '$NS /namespaces/create',
    gantryd: '$NS-event /namespaces/create',
  },
  {
    case: EVENTS_OF_OBJECTS,
    reason: 'the update tells the labels as they are now, not only the ones of the request',
    peer: /\$NS(-event)? \/namespaces\/update \{"name":"\$NS-event","labels":\{"c":"d"\}\}/,
    gantryd: '$NS-event /namespaces/update {"name":"$NS-event","labels":{"a":"b","c":"d"}}',
  },
];

/** With clients of 1.x. */
export const MEANT_DIFFERENCES_1: readonly MeantDifference[] = [
  {
    case: EVENTS_OF_OBJECTS,
    reason:
      'a commit publishes /content/create, as containerd 2.1 and later do; ctr of that time does not know the type',
    peer: /(?<=\/namespaces\/delete.*\n)= -1$/,
    gantryd:
      '! time="TIME" level=warning msg="cannot unmarshal an event from Any" error="type with url containerd.events.ContentCreate: not found"\n= -1',
  },
];

/** With the client of 2.x. */
export const MEANT_DIFFERENCES_2: readonly MeantDifference[] = [
  {
    case: 'plugins ls with a filter',
    reason: 'a layer may get its parent at the commit, as in containerd 2.2; ids are mapped by mounts of the runtime',
    peer: 'Capabilities: remap-ids,only-remap-ids',
    gantryd: 'Capabilities: rebase',
  },
  ...['images import: bad files', 'images import --local=false: bad files'].flatMap((name) => [
    {
      case: name,
      reason: 'says what the archive lacks',
      peer: /unrecognized image format$/gm,
      gantryd:
        'unrecognized image format: neither an OCI image layout (oci-layout) nor a docker archive (manifest.json): invalid argument',
    },
    {
      case: name,
      reason: 'says that the archive is at fault',
      peer: /(failed to ingest .*: )?unexpected EOF$/gm,
      gantryd: 'archive is damaged or cut short: Unexpected end of data: invalid argument',
    },
  ]),
  {
    case: 'images import: flags of 2.x',
    reason: 'names the snapshotter that is not there',
    peer: 'unable to initialize unpacker: no unpack platforms defined',
    gantryd: 'snapshotter not loaded: none',
  },
  {
    case: 'images push: one platform of two',
    reason: 'its manifest is pushed, as with --local; a registry refuses an index without its other manifests',
    peer: /\n! ctr: manifest list\/index references[\s\S]*\n= 1$/,
    gantryd: '\n= 0',
  },
  {
    case: 'images export: to a file and to standard output, and back',
    reason: 'names the image',
    peer: 'ctr: no manifest found for platform',
    gantryd: 'ctr: image "test/multi:latest": no manifest found for platform',
  },
  {
    case: 'events of a run',
    reason: 'the options of an overlay come in the order of containerd 1.x',
    peer: '["workdir","upperdir","lowerdir","index=off"]',
    gantryd: '["index=off","workdir","upperdir","lowerdir"]',
  },
];
