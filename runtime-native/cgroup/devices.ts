// Which devices a container may use: the rules of the configuration, then what every container may do (runc's list).

import type { DeviceRule } from '../spec';

const DEFAULT_RULES: readonly DeviceRule[] = [
  { allow: true, type: 'c', access: 'm' },
  { allow: true, type: 'b', access: 'm' },
  { allow: true, type: 'c', major: 1, minor: 3, access: 'rwm' },
  { allow: true, type: 'c', major: 1, minor: 8, access: 'rwm' },
  { allow: true, type: 'c', major: 1, minor: 7, access: 'rwm' },
  { allow: true, type: 'c', major: 5, minor: 0, access: 'rwm' },
  { allow: true, type: 'c', major: 1, minor: 5, access: 'rwm' },
  { allow: true, type: 'c', major: 1, minor: 9, access: 'rwm' },
  { allow: true, type: 'c', major: 136, access: 'rwm' },
  { allow: true, type: 'c', major: 5, minor: 2, access: 'rwm' },
];

/** In order: a later rule overrides an earlier one. What lies before the last rule for all devices has no effect. */
export function effectiveRules(rules: readonly DeviceRule[]): DeviceRule[] {
  const all = [...rules, ...DEFAULT_RULES];
  const last = all.findLastIndex((rule) => isForAll(rule));
  const kept = last < 0 ? all : all.slice(last);
  // Nothing needs to be allowed twice.
  const first = kept[0];
  return first !== undefined && isForAll(first) && first.allow
    ? [first, ...kept.slice(1).filter(({ allow }) => !allow)]
    : kept;
}

/** "c 1:3 rwm"; "a" for all devices. */
export function ruleText(rule: DeviceRule): string {
  if (isForAll(rule)) return 'a';
  const number = (value: number | undefined) => (value === undefined || value < 0 ? '*' : String(value));
  return `${rule.type || 'a'} ${number(rule.major)}:${number(rule.minor)} ${rule.access || 'rwm'}`;
}

export function isForAll(rule: DeviceRule): boolean {
  const anyNumber = (value: number | undefined) => value === undefined || value < 0;
  const access = rule.access ?? '';
  const full = access === '' || ['r', 'w', 'm'].every((letter) => access.includes(letter));
  return (
    (rule.type === undefined || rule.type === '' || rule.type === 'a') &&
    anyNumber(rule.major) &&
    anyNumber(rule.minor) &&
    full
  );
}
