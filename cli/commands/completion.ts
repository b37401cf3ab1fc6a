// gantry completion: scripts for shells. They call the hidden command __complete, which knows the command tree and
// asks the daemon for names; a daemon that does not answer only means that no names are offered.

import { Argument, type Command, type Option } from 'commander';
import { write } from '../output';
import { addressOf, type GlobalOptions, namespaceOf, type Session, withSession } from '../session';

const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

const TIMEOUT = '2s';

const SCRIPTS: Record<Shell, string> = {
  bash: `# bash completion for gantry: source it, or put it into /usr/share/bash-completion/completions/gantry
_gantry() {
  # Words as the user sees them: bash itself would also break them at colons, which image names and digests have.
  local line="\${COMP_LINE:0:COMP_POINT}" IFS=$' \\t' words cur
  read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  cur="\${words[\${#words[@]} - 1]}"
  IFS=$'\\n'
  COMPREPLY=($(compgen -W "$(gantry __complete -- "\${words[@]:1}" 2>/dev/null | cut -f1)" -- "$cur"))
  [ \${#COMPREPLY[@]} -eq 0 ] && compopt -o filenames && COMPREPLY=($(compgen -f -- "$cur"))
  if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then COMPREPLY=("\${COMPREPLY[@]#"\${cur%:*}:"}"); fi
}
complete -F _gantry gantry
`,
  zsh: `#compdef gantry
# zsh completion for gantry: put it as _gantry into a directory of $fpath
_gantry() {
  local -a found
  local entry
  for entry in "\${(@f)$(gantry __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    [[ -n $entry ]] && found+=("\${\${entry%%$'\\t'*}//:/\\\\:}:\${entry#*$'\\t'}")
  done
  if (( \${#found} )); then _describe 'gantry' found; else _files; fi
}
if [ "$funcstack[1]" = "_gantry" ]; then _gantry "$@"; else compdef _gantry gantry; fi
`,
  fish: `# fish completion for gantry: put it into ~/.config/fish/completions/gantry.fish
function __gantry_complete
  set -l found (gantry __complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)
  if set -q found[1]
    printf '%s\\n' $found
  else
    __fish_complete_path (commandline -ct)
  end
end
complete -c gantry -f -a '(__gantry_complete)'
`,
};

/** What an argument of this name stands for. */
const ARGUMENT_KINDS: Record<string, keyof typeof LISTS> = {
  image: 'images',
  source: 'images',
  container: 'containers',
  id: 'containers',
  ids: 'containers',
  key: 'snapshots',
  keys: 'snapshots',
  parent: 'snapshots',
  digest: 'content',
  digests: 'content',
};

const LISTS = {
  images: async ({ connection }: Session) => (await connection.images.list({})).images.map(({ name }) => name),
  containers: async ({ connection }: Session) => (await connection.containers.list({})).containers.map(({ id }) => id),
  namespaces: async ({ connection }: Session) =>
    (await connection.namespaces.list({})).namespaces.map(({ name }) => name),
  leases: async ({ connection }: Session) => (await connection.leases.list({})).leases.map(({ id }) => id),
  snapshots: async ({ connection }: Session) => {
    const names: string[] = [];
    for await (const { info } of connection.snapshots.list({ snapshotter: 'overlayfs' }))
      names.push(...info.map(({ name }) => name));
    return names;
  },
  content: async ({ connection }: Session) => {
    const digests: string[] = [];
    for await (const { info } of connection.content.list({})) digests.push(...info.map(({ digest }) => digest));
    return digests;
  },
};

export function registerCompletion(program: Command): void {
  program
    .command('completion')
    .description('print a completion script for a shell')
    .addArgument(new Argument('<shell>', 'bash, zsh or fish').choices(SHELLS))
    .addHelpText('after', '\nExample:\n  source <(gantry completion bash)')
    .action((shell: Shell) => write(SCRIPTS[shell]));
  program
    .command('__complete [words...]', { hidden: true })
    .allowUnknownOption()
    .passThroughOptions()
    .action(async (words: string[]) => {
      const candidates = await complete(program, words);
      write(candidates.map(([word, text]) => `${word}\t${text}\n`).join(''));
    });
}

type Candidate = readonly [word: string, description: string];

/** Candidates for the last word. */
async function complete(program: Command, words: readonly string[]): Promise<Candidate[]> {
  const typed = words.slice(0, -1);
  const last = words.at(-1) ?? '';
  const { command, operands, globals, pending } = walk(program, typed);
  if (pending !== undefined) {
    if (pending.argChoices !== undefined) return choices(pending.argChoices, last);
    return pending.attributeName() === 'namespace' ? named(program, globals, 'namespaces', last) : [];
  }
  if (last.startsWith('-')) return optionsOf(command).filter(([word]) => word.startsWith(last));
  const children = command.commands
    .filter((child) => !child.name().startsWith('__') && child.name().startsWith(last))
    .map((child) => [child.name(), child.description()] as const);
  if (command.commands.length > 0) return children;
  const argument = argumentAt(command, operands);
  if (argument?.argChoices !== undefined) return choices(argument.argChoices, last);
  const kind = argument && kindOf(command, argument.name());
  return kind === undefined ? [] : named(program, globals, kind, last);
}

interface Position {
  readonly command: Command;
  readonly operands: number;
  readonly globals: GlobalOptions;
  /** An option whose value comes next. */
  readonly pending: Option | undefined;
}

/** Follows the words that are complete: into commands, over options and their values. */
function walk(program: Command, words: readonly string[]): Position {
  let command = program;
  let operands = 0;
  let pending: Option | undefined;
  const globals: Record<string, string> = {};
  for (const word of words) {
    if (pending !== undefined) {
      globals[pending.attributeName()] = word;
      pending = undefined;
      continue;
    }
    if (word.startsWith('-')) {
      const [flag, value] = word.split('=', 2);
      const option = [...command.options, ...program.options].find(
        ({ short, long }) => flag === short || flag === long,
      );
      if (option?.required === true && value === undefined) pending = option;
      else if (option !== undefined && value !== undefined) globals[option.attributeName()] = value;
      continue;
    }
    const child = command.commands.find((item) => item.name() === word || item.aliases().includes(word));
    if (child !== undefined) command = child;
    else operands += 1;
  }
  return { command, operands, globals, pending };
}

function optionsOf(command: Command): Candidate[] {
  return command.options
    .flatMap(({ long, description }) => (long ? [[long, description] as const] : []))
    .concat([['--help', 'explain this command']]);
}

function choices(words: readonly string[], prefix: string): Candidate[] {
  return words.filter((word) => word.startsWith(prefix)).map((word) => [word, '']);
}

function argumentAt(command: Command, operands: number): Argument | undefined {
  const declared = command.registeredArguments;
  const argument = declared[Math.min(operands, declared.length - 1)];
  return operands < declared.length || argument?.variadic === true ? argument : undefined;
}

function kindOf(command: Command, name: string): keyof typeof LISTS | undefined {
  const parent = command.parent?.name();
  if (name === 'names' || name === 'name') return parent === 'namespaces' ? 'namespaces' : 'images';
  if (parent === 'leases') return 'leases';
  // The id of a new container is for the user to choose.
  if (name === 'id' && (command.name() === 'run' || command.name() === 'create')) return undefined;
  return ARGUMENT_KINDS[name];
}

async function named(
  program: Command,
  globals: GlobalOptions,
  kind: keyof typeof LISTS,
  prefix: string,
): Promise<Candidate[]> {
  program.setOptionValue('address', addressOf(globals));
  program.setOptionValue('namespace', namespaceOf(globals));
  program.setOptionValue('timeout', TIMEOUT);
  try {
    const names = await withSession(program, (session) => LISTS[kind](session));
    return names.filter((name) => name.startsWith(prefix)).map((name) => [name, kind] as const);
  } catch {
    // No daemon, no names: completion must not print errors into the prompt.
    return [];
  }
}
