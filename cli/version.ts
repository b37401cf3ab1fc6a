// The version of this client. The bundle carries the package's version; sources run by a test say so.

declare const GANTRY_VERSION: string | undefined;

export const VERSION = typeof GANTRY_VERSION === 'string' ? GANTRY_VERSION : 'unbundled';
