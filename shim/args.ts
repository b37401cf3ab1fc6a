// The command line that containerd gives a shim: Go style flags with one or two dashes, then an action.

import { failedPrecondition, invalidArgument } from '../proto/errors';

export interface ShimArgs {
  /** What to do: start a server, clean up after one, (without a word) be the server, or fork servers for gantryd. */
  readonly action: 'start' | 'delete' | 'serve' | 'zygote' | 'info' | 'version';
  readonly namespace: string;
  readonly id: string;
  /** The daemon's gRPC socket; part of the hash that names the shim's own socket. */
  readonly address: string;
  readonly publishBinary: string;
  readonly bundle: string;
  /** Where the server listens. Absent: the listening socket is fd 3. */
  readonly socket: string;
  readonly debug: boolean;
}

const STRINGS = ['namespace', 'id', 'address', 'publish-binary', 'bundle', 'socket', 'debug-socket'];
const ACTIONS = ['start', 'delete', 'serve', 'zygote'] as const;
const BOOLEANS = ['debug', 'info', 'v', 'version'];

/** @throws INVALID_ARGUMENT for what containerd would not send, FAILED_PRECONDITION without a namespace. */
export function parseArgs(argv: readonly string[]): ShimArgs {
  const { strings, booleans, words } = splitFlags(argv);
  const args: ShimArgs = {
    action: actionOf(booleans, words),
    namespace: strings.get('namespace') ?? '',
    id: strings.get('id') ?? '',
    address: strings.get('address') ?? '',
    publishBinary: strings.get('publish-binary') ?? '',
    bundle: strings.get('bundle') ?? '',
    socket: strings.get('socket') ?? '',
    debug: booleans.has('debug'),
  };
  if (['start', 'delete', 'serve'].includes(args.action)) {
    if (args.namespace === '') throw failedPrecondition('shim namespace cannot be empty');
    if (args.id === '') throw invalidArgument('shim id cannot be empty');
  }
  return args;
}

function splitFlags(argv: readonly string[]): { strings: Map<string, string>; booleans: Set<string>; words: string[] } {
  const strings = new Map<string, string>();
  const booleans = new Set<string>();
  const words: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const flag = /^--?([^=]+)(?:=(.*))?$/s.exec(argv[i]!);
    if (flag === null) {
      words.push(argv[i]!);
      continue;
    }
    const name = flag[1]!;
    if (BOOLEANS.includes(name)) {
      if (flag[2] !== 'false') booleans.add(name);
    } else if (STRINGS.includes(name)) {
      const value = flag[2] ?? argv[++i];
      if (value === undefined) throw invalidArgument(`flag needs an argument: -${name}`);
      strings.set(name, value);
    } else {
      throw invalidArgument(`flag provided but not defined: -${name}`);
    }
  }
  return { strings, booleans, words };
}

function actionOf(booleans: ReadonlySet<string>, words: readonly string[]): ShimArgs['action'] {
  if (booleans.has('v') || booleans.has('version')) return 'version';
  if (booleans.has('info')) return 'info';
  const [word = 'serve'] = words;
  const action = ACTIONS.find((name) => name === word);
  if (words.length > 1 || action === undefined) throw invalidArgument(`unknown action "${words.join(' ')}"`);
  return action;
}
