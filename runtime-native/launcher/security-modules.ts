// Which security modules of the kernel are at work on this host; asked only to explain a failure.

import { existsSync, readFileSync } from 'node:fs';

export type SecurityModule = 'apparmor' | 'selinux';

const APPARMOR_ENABLED = '/sys/module/apparmor/parameters/enabled';
const SELINUX_ENFORCE = '/sys/fs/selinux/enforce';

export function hasSecurityModule(name: SecurityModule): boolean {
  if (name === 'selinux') return existsSync(SELINUX_ENFORCE);
  return existsSync(APPARMOR_ENABLED) && readFileSync(APPARMOR_ENABLED, 'latin1').startsWith('Y');
}
