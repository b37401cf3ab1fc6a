// Credentials from docker's config.json: kept in the file, by a credential helper for one host, or by the store for all
// (docker-credential-NAME programs, which are found on the PATH).

import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { failedPrecondition, isErrno, messageOf } from '../../../proto/errors';
import { printable } from '../http/failure';
import type { Credentials, CredentialsSource } from '../types';

const FILE_BYTES_MAX = 16 << 20;
const HELPER_TIMEOUT_MS = 30_000;
const HELPER_OUTPUT_MAX = 1 << 20;
/** What a helper gives as user name when the secret is a refresh token. */
const TOKEN_USER = '<token>';
/** The key that docker keeps its own registry under. */
const DOCKER_KEYS = ['https://index.docker.io/v1/', 'index.docker.io', 'registry-1.docker.io'];
const DOCKER_HOSTS = ['docker.io', ...DOCKER_KEYS];

/** The file is read anew for every question. Without the file there are no credentials. */
export function dockerCredentials(path: string): CredentialsSource {
  return async ({ host }, signal) => {
    const config = await readConfig(path);
    const keys = keysOf(host);
    const helpers = tableOf(config['credHelpers']);
    const helper = firstOf(helpers, keys) ?? config['credsStore'];
    if (typeof helper === 'string' && helper !== '') {
      const found = await askHelper(path, helper, keys, signal);
      if (found !== undefined) return found;
    }
    return credentialsIn(path, tableOf(firstOf(tableOf(config['auths']), keys)));
  };
}

async function readConfig(path: string): Promise<Record<string, unknown>> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return {};
    throw failedPrecondition(`credentials ${path}: ${messageOf(error)}`, { cause: error });
  }
  if (text.length > FILE_BYTES_MAX) throw failedPrecondition(`credentials ${path}: the file is too large`);
  try {
    return tableOf(JSON.parse(text));
  } catch {
    // What the parser says may show a part of the file, and so a secret.
    throw failedPrecondition(`credentials ${path}: the file is not JSON`);
  }
}

/** The names that a host may be under, those written out first. */
function keysOf(host: string): string[] {
  if (DOCKER_HOSTS.includes(host)) return [...DOCKER_KEYS, 'docker.io'];
  return [host, `https://${host}`, `http://${host}`];
}

/** The entry under one of the names, or under one of them with a path or a slash after it. */
function firstOf(table: Readonly<Record<string, unknown>>, keys: readonly string[]): unknown {
  for (const key of keys) if (Object.hasOwn(table, key)) return table[key];
  const names = Object.keys(table).filter((name) => /^(https?:\/\/)?[^/]+\/(v[12]\/?)?$/.test(name));
  const name = names.find((candidate) => keys.includes(candidate.replace(/^https?:\/\//, '').replace(/\/.*$/, '')));
  return name === undefined ? undefined : table[name];
}

function credentialsIn(path: string, entry: Readonly<Record<string, unknown>>): Credentials | undefined {
  const { auth, username, password, identitytoken: token, registrytoken } = entry;
  if (typeof token === 'string' && token !== '') return { kind: 'identity-token', token };
  if (typeof registrytoken === 'string' && registrytoken !== '') {
    return { kind: 'header', value: `Bearer ${registrytoken}` };
  }
  if (typeof auth === 'string' && auth !== '') {
    const pair = Buffer.from(auth, 'base64').toString('utf8').replace(/\0+$/, '');
    const colon = pair.indexOf(':');
    if (colon < 1) throw failedPrecondition(`credentials ${path}: an "auth" is not base64 of USER:PASSWORD`);
    return { kind: 'password', username: pair.slice(0, colon), secret: pair.slice(colon + 1) };
  }
  if (typeof username !== 'string' || typeof password !== 'string' || username === '') return undefined;
  return { kind: 'password', username, secret: password };
}

/** The first of the names that the helper knows. @throws FAILED_PRECONDITION when it fails otherwise */
async function askHelper(
  path: string,
  helper: string,
  keys: readonly string[],
  signal: AbortSignal,
): Promise<Credentials | undefined> {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(helper)) {
    throw failedPrecondition(`credentials ${path}: "${printable(helper)}" is no name of a credential helper`);
  }
  for (const key of keys) {
    const { exitCode, output } = await runHelper(`docker-credential-${helper}`, key, signal);
    if (exitCode === 0) return credentialsOf(helper, output);
    if (!/not found/i.test(output)) {
      const words = printable(output);
      throw failedPrecondition(
        `credential helper ${helper}: exit status ${exitCode}${words === '' ? '' : `: ${words}`}`,
      );
    }
  }
  return undefined;
}

function credentialsOf(helper: string, output: string): Credentials | undefined {
  let answer: Record<string, unknown>;
  try {
    answer = tableOf(JSON.parse(output));
  } catch {
    throw failedPrecondition(`credential helper ${helper}: its answer is not JSON`);
  }
  const { Username: username, Secret: secret } = answer;
  if (typeof username !== 'string' || typeof secret !== 'string' || secret === '') return undefined;
  return username === TOKEN_USER ? { kind: 'identity-token', token: secret } : { kind: 'password', username, secret };
}

function runHelper(program: string, key: string, signal: AbortSignal): Promise<{ exitCode: number; output: string }> {
  return new Promise((resolve, reject) => {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(HELPER_TIMEOUT_MS)]);
    const child = spawn(program, ['get'], {
      stdio: ['pipe', 'pipe', 'ignore'],
      cwd: '/',
      env: process.env,
      signal: limit,
    });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (output.length > HELPER_OUTPUT_MAX) child.kill('SIGKILL');
    });
    child.on('error', (error) => {
      if (signal.aborted) reject(signal.reason);
      else reject(failedPrecondition(`credential helper ${program}: ${helperProblem(error)}`, { cause: error }));
    });
    child.on('close', (code) => resolve({ exitCode: code ?? 1, output }));
    // It may end without reading.
    child.stdin.on('error', () => {});
    child.stdin.end(key);
  });
}

function helperProblem(error: Error): string {
  if (isErrno(error, 'ENOENT')) return 'there is no such program on the PATH';
  return isErrno(error, 'ABORT_ERR') ? `no answer in ${HELPER_TIMEOUT_MS / 1000} s` : messageOf(error);
}

function tableOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}
