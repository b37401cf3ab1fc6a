// Makes a filter shorter that does the same. libseccomp compares call by call; calls with the same answer stand mostly
// side by side, so that a search among ranges of numbers needs a quarter of the instructions. The kernel translates a
// filter in every launch and runs it in every call (seccomp(2), linux/filter.h).

const LOAD_ABSOLUTE = 0x20;
const JUMP_ALWAYS = 0x05;
const JUMP_EQUAL = 0x15;
const JUMP_GREATER = 0x25;
const JUMP_GREATER_EQUAL = 0x35;
const JUMP_SET = 0x45;
const RETURN = 0x06;
const NUMBER_OFFSET = 0;
const ARCHITECTURE_OFFSET = 4;
const INSTRUCTION_SIZE = 8;
const WORDS = 2 ** 32;
/** A test of bits is followed as long as it cuts the numbers into no more ranges than this. */
const BIT_RANGES_MAX = 16;
/** What a conditional jump can skip, less what may be put in between. */
const REACH = 250;

interface Instruction {
  readonly code: number;
  readonly ifTrue: number;
  readonly ifFalse: number;
  readonly value: number;
}

/** Where a filter goes for a number: to its answer, or to the instruction that looks at arguments. */
interface Leaf {
  readonly answer?: number;
  readonly at?: number;
}

interface Range {
  readonly start: number;
  readonly leaf: Leaf;
}

/** Behind the last instruction. */
const END: Instruction = { code: -1, ifTrue: 0, ifFalse: 0, value: 0 };

class Unsupported extends Error {}

/**
 * @param program - struct sock_filter after struct sock_filter
 * @returns an equivalent program; the same when it does something that is not understood, or is short already
 */
export function shrinkFilter(program: Buffer): Buffer {
  const instructions = decode(program);
  try {
    const shorter = encode(rebuild(instructions));
    return shorter.length < program.length ? shorter : program;
  } catch (error) {
    if (error instanceof Unsupported) return program;
    throw error;
  }
}

function rebuild(program: readonly Instruction[]): Instruction[] {
  const values = new Set(program.map(({ value }) => value));
  const starts = rangeStarts(program);
  // Architectures that the filter compares with; one that it does not know stands for all others.
  const architectures = new Set<number>();
  const rangesOf = (architecture: number) =>
    merged(starts.map((start) => ({ start, leaf: follow(program, architecture, start, architectures) })));
  let unknown = 0;
  while (values.has(unknown)) unknown += 1;
  const elsewhere = rangesOf(unknown);

  const output = new BackwardOutput(program);
  let position = output.search(elsewhere);
  // The set grows while it is walked when a comparison stands behind another.
  for (const value of architectures) {
    position = output.branch(JUMP_EQUAL, value, output.search(rangesOf(value)), position);
  }
  output.before(position, { code: LOAD_ABSOLUTE, ifTrue: 0, ifFalse: 0, value: ARCHITECTURE_OFFSET });
  return output.program();
}

/** Numbers between two of these are the same to every comparison. */
function rangeStarts(program: readonly Instruction[]): number[] {
  const starts = new Set([0]);
  for (const { code, value } of program) {
    if (code === JUMP_EQUAL || code === JUMP_GREATER_EQUAL) starts.add(value);
    if (code === JUMP_EQUAL || code === JUMP_GREATER) starts.add(value + 1);
    if (code === JUMP_SET && cutsFewRanges(value)) {
      for (let start = 0; start < WORDS; start += lowestBit(value)) starts.add(start);
    }
  }
  return [...starts].filter((start) => start < WORDS).sort((left, right) => left - right);
}

const lowestBit = (value: number) => (value & -value) >>> 0 || WORDS;
const cutsFewRanges = (bits: number) => WORDS / lowestBit(bits) <= BIT_RANGES_MAX;

/**
 * Runs the filter as far as it depends on nothing but architecture and number.
 * @param architectures - gets those that it compares with
 */
function follow(
  program: readonly Instruction[],
  architecture: number,
  number: number,
  architectures: Set<number>,
): Leaf {
  let loaded: number | undefined;
  let isNumber = false;
  for (let at = 0; ; at++) {
    const instruction = program[at] ?? END;
    const { code, value } = instruction;
    if (code === RETURN) return { answer: value };
    if (code === LOAD_ABSOLUTE) {
      if (value > ARCHITECTURE_OFFSET) return { at };
      isNumber = value === NUMBER_OFFSET;
      loaded = isNumber ? number : architecture;
    } else {
      if (code !== JUMP_ALWAYS && !isNumber) architectures.add(value);
      at += skipped(instruction, loaded, isNumber);
    }
  }
}

/** How many instructions a jump skips. */
function skipped({ code, ifTrue, ifFalse, value }: Instruction, loaded: number | undefined, isNumber: boolean): number {
  if (code === JUMP_ALWAYS) return value;
  if (loaded === undefined) throw new Unsupported();
  if (code === JUMP_EQUAL) return loaded === value ? ifTrue : ifFalse;
  if (!isNumber) throw new Unsupported();
  if (code === JUMP_GREATER) return loaded > value ? ifTrue : ifFalse;
  if (code === JUMP_GREATER_EQUAL) return loaded >= value ? ifTrue : ifFalse;
  if (code === JUMP_SET && cutsFewRanges(value)) return (loaded & value) !== 0 ? ifTrue : ifFalse;
  throw new Unsupported();
}

function merged(ranges: readonly Range[]): Range[] {
  return ranges.filter(({ leaf }, index) => {
    const before = ranges[index - 1]?.leaf;
    return before === undefined || before.answer !== leaf.answer || before.at !== leaf.at;
  });
}

/** A program written from its end, so that the places of all jumps are known: jumps lead forward only. */
class BackwardOutput {
  private readonly source: readonly Instruction[];
  private readonly reversed: Instruction[] = [];
  /** Positions in `reversed` of copied instructions and of answers. */
  private readonly copies = new Map<number, number>();
  private readonly answers = new Map<number, number>();

  constructor(source: readonly Instruction[]) {
    this.source = source;
  }

  program(): Instruction[] {
    return [...this.reversed].reverse();
  }

  /** Loads the number and searches its range. @returns the position */
  search(ranges: readonly Range[]): number {
    const [only] = ranges;
    if (ranges.length === 1 && only !== undefined) return this.leaf(only.leaf);
    const load = { code: LOAD_ABSOLUTE, ifTrue: 0, ifFalse: 0, value: NUMBER_OFFSET };
    return this.before(this.among(ranges), load);
  }

  branch(code: number, value: number, yes: number, no: number): number {
    const [near, other] = [this.near(yes), this.near(no)];
    return this.push({ code, ifTrue: this.distance(near), ifFalse: this.distance(other), value });
  }

  /** An instruction that falls through to a position. */
  before(position: number, instruction: Instruction): number {
    if (this.distance(position) > 0) {
      this.push({ code: JUMP_ALWAYS, ifTrue: 0, ifFalse: 0, value: this.distance(position) });
    }
    return this.push(instruction);
  }

  private among(ranges: readonly Range[]): number {
    const middle = Math.ceil(ranges.length / 2);
    const pivot = ranges[middle];
    if (pivot === undefined) return this.leaf(ranges[0]?.leaf ?? {});
    const high = this.among(ranges.slice(middle));
    return this.branch(JUMP_GREATER_EQUAL, pivot.start, high, this.among(ranges.slice(0, middle)));
  }

  private leaf({ answer, at }: Leaf): number {
    return answer === undefined ? this.copy(at ?? this.source.length) : this.answer(answer);
  }

  private answer(value: number): number {
    const known = this.answers.get(value);
    if (known !== undefined && this.distance(known) <= REACH) return known;
    const position = this.push({ code: RETURN, ifTrue: 0, ifFalse: 0, value });
    this.answers.set(value, position);
    return position;
  }

  /** Instructions of the source from one on, as they are. */
  private copy(at: number): number {
    const known = this.copies.get(at);
    if (known !== undefined) return known;
    const instruction = this.source[at];
    if (instruction === undefined) throw new Unsupported();
    const position = this.copyOf(instruction, at + 1);
    this.copies.set(at, position);
    return position;
  }

  private copyOf(instruction: Instruction, next: number): number {
    const { code, ifTrue, ifFalse, value } = instruction;
    if (code === RETURN) return this.answer(value);
    if (code === JUMP_ALWAYS) return this.copy(next + value);
    if ([JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_EQUAL, JUMP_SET].includes(code)) {
      return this.branch(code, value, this.copy(next + ifTrue), this.copy(next + ifFalse));
    }
    return this.before(this.copy(next), instruction);
  }

  /** A position that a conditional jump reaches from here. */
  private near(position: number): number {
    if (this.distance(position) <= REACH) return position;
    const target = this.reversed[position];
    if (target?.code === RETURN) return this.push(target);
    return this.push({ code: JUMP_ALWAYS, ifTrue: 0, ifFalse: 0, value: this.distance(position) });
  }

  /** Instructions that a jump at the next position skips. */
  private distance(position: number): number {
    return this.reversed.length - position - 1;
  }

  private push(instruction: Instruction): number {
    return this.reversed.push(instruction) - 1;
  }
}

function decode(program: Buffer): Instruction[] {
  return Array.from({ length: program.length / INSTRUCTION_SIZE }, (_, index) => {
    const at = index * INSTRUCTION_SIZE;
    return {
      code: program.readUInt16LE(at),
      ifTrue: program.readUInt8(at + 2),
      ifFalse: program.readUInt8(at + 3),
      value: program.readUInt32LE(at + 4),
    };
  });
}

function encode(instructions: readonly Instruction[]): Buffer {
  const program = Buffer.alloc(instructions.length * INSTRUCTION_SIZE);
  instructions.forEach(({ code, ifTrue, ifFalse, value }, index) => {
    const at = index * INSTRUCTION_SIZE;
    program.writeUInt16LE(code, at);
    program.writeUInt8(ifTrue, at + 2);
    program.writeUInt8(ifFalse, at + 3);
    program.writeUInt32LE(value, at + 4);
  });
  return program;
}
