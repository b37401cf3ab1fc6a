// A certificate authority for one test, made with openssl.

import fs from 'node:fs';
import path from 'node:path';
import { mustRun } from '../../setup/command';

export class Authority {
  /** File, PEM. */
  readonly certificate: string;
  readonly #directory: string;
  readonly #key: string;

  private constructor(directory: string) {
    this.#directory = directory;
    this.certificate = path.join(directory, 'ca.crt');
    this.#key = path.join(directory, 'ca.key');
  }

  static async create(directory: string): Promise<Authority> {
    fs.mkdirSync(directory, { recursive: true });
    const authority = new Authority(directory);
    const subject = ['-subj', `/CN=${path.basename(directory)}`, '-addext', 'basicConstraints=critical,CA:TRUE'];
    const files = ['-keyout', authority.#key, '-out', authority.certificate];
    await mustRun(['openssl', 'req', '-x509', ...KEY, '-days', '2', ...subject, ...files]);
    return authority;
  }

  /** @param names such as `DNS:localhost` */
  async issue(name: string, names: readonly string[], days = 2): Promise<{ certificate: string; key: string }> {
    const file = (extension: string) => path.join(this.#directory, `${name}.${extension}`);
    const [key, certificate] = [file('key'), file('crt')];
    await mustRun(['openssl', 'req', ...KEY, '-subj', `/CN=${name}`, '-keyout', key, '-out', file('csr')]);
    fs.writeFileSync(file('ext'), names.length === 0 ? '' : `subjectAltName=${names.join(',')}\n`);
    const signing = ['-CA', this.certificate, '-CAkey', this.#key, '-CAcreateserial', '-days', String(days)];
    await mustRun([
      'openssl',
      'x509',
      '-req',
      '-in',
      file('csr'),
      ...signing,
      '-extfile',
      file('ext'),
      '-out',
      certificate,
    ]);
    return { certificate, key };
  }
}

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
