// Which devices a container may use: the rules of the configuration, then what every container may do (runc's list).
// Without any rule nothing else is allowed.

import { unknown } from '../../proto/errors';
import type { DeviceRule } from '../spec';

/** What a list of rules comes to: a default, and what differs from it, with a type, numbers (-1: any) and letters. */
export interface DeviceList {
  readonly allow: boolean;
  readonly exceptions: readonly Required<DeviceRule>[];
}

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
const DENY_ALL: DeviceRule = { allow: false };
const ACCESS_ALL = 'rwm';
const ANY = -1;

/** In order, from one for all devices on: a later rule overrides an earlier one. */
export function effectiveRules(rules: readonly DeviceRule[]): DeviceRule[] {
  const all = [DENY_ALL, ...rules, ...DEFAULT_RULES];
  const kept = all.slice(all.findLastIndex((rule) => isForAll(rule)));
  // Nothing needs to be allowed twice.
  return kept.every(({ allow }) => allow) ? kept.slice(0, 1) : kept;
}

/** @throws UNKNOWN when something is taken from the middle of what a rule allows or denies: cgroup v1 cannot do that */
export function deviceList(rules: readonly DeviceRule[]): DeviceList {
  let list: DeviceList = { allow: false, exceptions: [] };
  for (const rule of effectiveRules(rules)) {
    if (isForAll(rule)) list = { allow: rule.allow, exceptions: [] };
    else for (const single of singleRules(rule)) list = { ...list, exceptions: follow(list, single) };
  }
  return list;
}

function follow({ allow, exceptions }: DeviceList, rule: Required<DeviceRule>): Required<DeviceRule>[] {
  if (rule.allow === allow) return exceptions.flatMap((exception) => without(exception, rule));
  const others = exceptions.filter((exception) => !covers(exception, rule) || !covers(rule, exception));
  const same = exceptions.filter((exception) => !others.includes(exception));
  return [...others, { ...rule, access: letters(same.map(({ access }) => access).join('') + rule.access) }];
}

/** What is left of an exception after a rule that says what the default says. */
function without(exception: Required<DeviceRule>, rule: Required<DeviceRule>): Required<DeviceRule>[] {
  const access = [...exception.access].filter((letter) => !rule.access.includes(letter)).join('');
  if (!meets(rule, exception) || access === exception.access) return [exception];
  if (covers(rule, exception)) return access === '' ? [] : [{ ...exception, access }];
  throw unknown(
    `requested [${ruleText(rule)}] rule not supported by devices cgroupv1 ` +
      `(cannot punch hole in existing wildcard rule [${ruleText(exception)}])`,
  );
}

function covers(wide: Required<DeviceRule>, narrow: Required<DeviceRule>): boolean {
  const within = (outer: number, inner: number) => outer === ANY || outer === inner;
  return wide.type === narrow.type && within(wide.major, narrow.major) && within(wide.minor, narrow.minor);
}

/** Whether there are devices that both are about. */
function meets(one: Required<DeviceRule>, other: Required<DeviceRule>): boolean {
  const common = (left: number, right: number) => left === ANY || right === ANY || left === right;
  return one.type === other.type && common(one.major, other.major) && common(one.minor, other.minor);
}

/** In full, and with one type each: to the kernel "a 1:3 r" means all devices. */
function singleRules({ allow, type, major, minor, access }: DeviceRule): Required<DeviceRule>[] {
  const numbers = { major: numberOf(major), minor: numberOf(minor) };
  const types = type === undefined || type === '' || type === 'a' ? ['b', 'c'] : [type === 'u' ? 'c' : type];
  return types.map((single) => ({ allow, type: single, ...numbers, access: letters(access || ACCESS_ALL) }));
}

function letters(access: string): string {
  if (access === ACCESS_ALL) return access;
  return [...ACCESS_ALL].filter((letter) => access.includes(letter)).join('');
}

/** "c 1:3 rwm". */
export function ruleText({ type, major, minor, access }: Required<DeviceRule>): string {
  const number = (value: number) => (value === ANY ? '*' : String(value));
  return `${type} ${number(major)}:${number(minor)} ${access}`;
}

export function isForAll({ type, major, minor, access }: DeviceRule): boolean {
  const isFull = !access || letters(access) === ACCESS_ALL;
  return (!type || type === 'a') && numberOf(major) === ANY && numberOf(minor) === ANY && isFull;
}

function numberOf(value: number | undefined): number {
  return value === undefined || value < 0 ? ANY : value;
}
