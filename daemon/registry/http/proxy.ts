// Which proxy a request goes through, by HTTP_PROXY, HTTPS_PROXY and NO_PROXY as Go programs, containerd among them,
// read them.

import { BlockList, isIP } from 'node:net';

export interface ProxyEnvironment {
  readonly http: string;
  readonly https: string;
  readonly none: string;
}

/** The upper-case variables win over the lower-case ones. */
export function proxyEnvironment(env: Readonly<Record<string, string | undefined>>): ProxyEnvironment {
  const get = (name: string) => env[name] || env[name.toLowerCase()] || '';
  return { http: get('HTTP_PROXY'), https: get('HTTPS_PROXY'), none: get('NO_PROXY') };
}

/** URL of the proxy; undefined: straight to the host. Hosts on loopback are never asked for through a proxy. */
export function proxyFor(url: URL, { http, https, none }: ProxyEnvironment): string | undefined {
  const proxy = url.protocol === 'https:' ? https : http;
  if (proxy === '') return undefined;
  const host = url.hostname.replace(/^\[|\]$/g, '').toLowerCase();
  const port = url.port === '' ? (url.protocol === 'https:' ? '443' : '80') : url.port;
  if (isLoopback(host) || none.split(',').some((rule) => isExcepted(rule.trim().toLowerCase(), host, port))) {
    return undefined;
  }
  return proxy.includes('://') ? proxy : `http://${proxy}`;
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

/** A rule is `*`, an address, a CIDR block or a domain, which stands for what is below it as well; with a port or without. */
function isExcepted(rule: string, host: string, port: string): boolean {
  if (rule === '') return false;
  if (rule === '*') return true;
  if (rule.includes('/')) return isInBlock(rule, host);
  const [, name = rule, rulePort] = /^(.*?)(?::([0-9]+))?$/.exec(isIP(rule) === 6 ? `[${rule}]` : rule) ?? [];
  if (rulePort !== undefined && rulePort !== port) return false;
  const plain = name.replace(/^\[|\]$/g, '').replace(/^\*\./, '.');
  if (isIP(plain) !== 0 || isIP(host) !== 0) return plain === host;
  return plain.startsWith('.') ? host.endsWith(plain) : host === plain || host.endsWith(`.${plain}`);
}

function isInBlock(rule: string, host: string): boolean {
  const [network = '', bits = ''] = rule.split('/');
  const family = isIP(network);
  if (family === 0 || isIP(host) !== family || !/^\d{1,3}$/.test(bits)) return false;
  if (Number(bits) > (family === 4 ? 32 : 128)) return false;
  const name = family === 4 ? 'ipv4' : 'ipv6';
  const block = new BlockList();
  block.addSubnet(network, Number(bits), name);
  return block.check(host, name);
}
