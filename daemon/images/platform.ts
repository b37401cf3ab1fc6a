// Platforms of images: one form for each, which of them run where, and in which order they are preferred (image-spec,
// image-index.md; variants as containerd has them).

import { hostPlatform } from '../plugins';

/** As image documents hold it. */
export interface ImagePlatform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
  readonly 'os.version'?: string;
  readonly 'os.features'?: readonly string[];
}

/** A platform as the API has it; fields may be empty. */
interface WirePlatform {
  readonly os: string;
  readonly architecture: string;
  readonly variant: string;
}

const ARCHITECTURES: Readonly<Record<string, string>> = {
  x86_64: 'amd64',
  'x86-64': 'amd64',
  i386: '386',
  aarch64: 'arm64',
};
const OLDEST_ARM = 5;
const NEWEST_ARM_VARIANT = 'v8';

/** The machine's own. */
export function machinePlatform(): ImagePlatform {
  return normalize(hostPlatform());
}

/** One spelling for what has several: x86_64 is amd64, arm64/v8 is arm64, arm is arm/v7. */
export function normalize({ os, architecture, variant }: ImagePlatform | WirePlatform): ImagePlatform {
  const [name, older] = splitArm(architecture.toLowerCase());
  const given = (variant ?? '').toLowerCase() || older;
  const shape = { os: os.toLowerCase() || 'linux', architecture: name };
  const kept = canonicalVariant(name, given);
  return kept === '' ? shape : { ...shape, variant: kept };
}

/** armhf and armel are names of variants. */
function splitArm(architecture: string): [string, string] {
  if (architecture === 'armhf') return ['arm', 'v7'];
  if (architecture === 'armel') return ['arm', 'v6'];
  return [ARCHITECTURES[architecture] ?? architecture, ''];
}

function canonicalVariant(architecture: string, variant: string): string {
  const numbered = /^\d/.test(variant) ? `v${variant}` : variant;
  if (architecture === 'amd64' && numbered === 'v1') return '';
  if (architecture === 'arm64' && (numbered === 'v8' || numbered === 'v8.0')) return '';
  if (architecture === 'arm' && numbered === '') return 'v7';
  return numbered;
}

/** Chooses among platforms. */
export interface PlatformChoice {
  matches(platform: ImagePlatform): boolean;
  /** Smaller is preferred. */
  rank(platform: ImagePlatform): number;
}

/** Just these platforms, the first preferred. */
export function exactly(platforms: readonly (ImagePlatform | WirePlatform)[]): PlatformChoice {
  const keys = platforms.map((platform) => keyOf(normalize(platform)));
  const rank = (platform: ImagePlatform) => {
    const index = keys.indexOf(keyOf(normalize(platform)));
    return index < 0 ? Number.POSITIVE_INFINITY : index;
  };
  return { rank, matches: (platform) => rank(platform) < Number.POSITIVE_INFINITY };
}

/** What runs on a machine of this platform, the best first: arm/v7 takes arm/v6 as well, amd64 takes 386. */
export function runningOn(platform: ImagePlatform | WirePlatform): PlatformChoice {
  return exactly(compatible(normalize(platform)));
}

export const anyPlatform: PlatformChoice = { matches: () => true, rank: () => 0 };

export function platformText(platform: ImagePlatform | WirePlatform): string {
  return keyOf(normalize(platform));
}

function compatible(platform: ImagePlatform): ImagePlatform[] {
  const { os, architecture, variant } = platform;
  const version = Number(/^v(\d+)$/.exec(variant ?? '')?.[1] ?? 0);
  const down = (name: string, from: number, to: number): ImagePlatform[] =>
    Array.from({ length: Math.max(0, from - to + 1) }, (_, index) => ({
      os,
      architecture: name,
      variant: `v${from - index}`,
    }));
  switch (architecture) {
    case 'amd64':
      return [platform, ...down('amd64', version - 1, 1), { os, architecture: '386' }];
    case 'arm':
      return [platform, ...down('arm', version - 1, OLDEST_ARM)];
    case 'arm64':
      return [
        platform,
        ...olderArm64(platform),
        ...compatible({ os, architecture: 'arm', variant: NEWEST_ARM_VARIANT }),
      ];
    default:
      return [platform];
  }
}

/** v9.x runs what v8.(x+5) runs (Arm Architecture Reference Manual, A-profile). */
function olderArm64({ os, variant }: ImagePlatform): ImagePlatform[] {
  const [, major = '8', minor = '0'] = /^v(\d+)(?:\.(\d+))?$/.exec(variant ?? '') ?? [];
  const older: ImagePlatform[] = [];
  const add = (version: string) => older.push({ os, architecture: 'arm64', variant: version });
  let below = Number(minor);
  if (major === '9') {
    for (let step = below - 1; step >= 0; step -= 1) add(step === 0 ? 'v9' : `v9.${step}`);
    below += 6;
  }
  for (let step = below - 1; step >= 0; step -= 1) add(`v8.${step}`);
  return older;
}

function keyOf({ os, architecture, variant }: ImagePlatform): string {
  return [os, architecture, variant].filter((part) => part !== undefined && part !== '').join('/');
}
