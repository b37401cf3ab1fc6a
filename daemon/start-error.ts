// Failures to start, each with the exit code that scripts and systemd can tell apart.

/** Exit codes of gantryd. 0 is a stop that was asked for. */
export const EXIT_CODES = {
  /** Anything not named below. */
  failure: 1,
  /** A bad flag or a bad configuration. */
  usage: 2,
  /** Root or state directory cannot be used. */
  directory: 3,
  /** Another daemon runs on the same root or state directory. */
  locked: 4,
  /** Another server listens at the address. */
  address: 5,
  /** The metadata database is damaged or from a newer gantryd. */
  database: 6,
} as const;

export type StartFailure = keyof typeof EXIT_CODES;

export class StartError extends Error {
  readonly failure: StartFailure;

  constructor(failure: StartFailure, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'StartError';
    this.failure = failure;
  }

  get exitCode(): number {
    return EXIT_CODES[this.failure];
  }
}
