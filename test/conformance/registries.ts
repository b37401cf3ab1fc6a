// Registries that cases pull from and push to, Debian's docker-registry on loopback: one over plain HTTP, one with TLS, one
// with a user; and hosts.toml files that lead to them from names that no resolver knows.

import fs from 'node:fs';
import path from 'node:path';
import { Authority } from '../integration/registry/certificates';
import { RegistryServer } from '../integration/registry/server';
import { multiLayout } from '../integration/transfer/layout';
import { temporaryDirectory } from '../setup/daemons';

/** Name of the image for two platforms in the file `$MULTI`. */
export const MULTI = 'test/multi:latest';
/** Nothing listens there: the port is none that the kernel gives away. */
const DEAD = 'http://127.0.0.1:1';

export class CaseRegistries implements AsyncDisposable {
  /** Placeholders of cases: addresses of the registries, the folder for `--hosts-dir`, and the file of an image. */
  readonly files: Record<string, string>;
  readonly #stack: AsyncDisposableStack;

  private constructor(files: Record<string, string>, stack: AsyncDisposableStack) {
    this.files = files;
    this.#stack = stack;
  }

  static async start(): Promise<CaseRegistries> {
    await using stack = new AsyncDisposableStack();
    const directory = temporaryDirectory('registries');
    stack.defer(() => fs.rmSync(directory, { recursive: true, force: true }));
    const authority = await Authority.create(path.join(directory, 'authority'));
    const start = async (name: string, options: Parameters<typeof RegistryServer.start>[1]) => {
      const server = await RegistryServer.start(path.join(directory, name), options);
      stack.defer(() => server.kill());
      return server.host;
    };
    const plain = await start('plain', {});
    const secure = await start('secure', { tls: authority });
    const guarded = await start('guarded', { users: { me: 'secret' } });
    const hosts = path.join(directory, 'hosts');
    writeHosts(hosts, {
      'plain.test': `server = "http://${plain}"\n`,
      'mirrored.test': `server = "${DEAD}"\n[host."http://${plain}"]\ncapabilities = ["pull", "resolve"]\n`,
      // The mirror that comes first is not there; the second may not resolve names.
      'second.test': `server = "http://${plain}"\n[host."${DEAD}"]\n[host."https://${secure}"]\ncapabilities = ["pull"]\nskip_verify = true\n`,
      'trusted.test': `server = "https://${secure}"\nca = "${authority.certificate}"\n`,
      'unverified.test': `server = "https://${secure}"\nskip_verify = true\n`,
      'untrusted.test': `server = "https://${secure}"\n`,
      'dead.test': `server = "${DEAD}"\n`,
    });
    const multi = path.join(directory, 'multi.tar');
    const layers = (name: string) => [[['platform', name] as const], [['second', `${name} again`] as const]];
    const { tar } = await multiLayout(MULTI, { amd64: layers('amd64'), arm64: layers('arm64') });
    fs.writeFileSync(multi, tar);
    const files = { REGISTRY: plain, SECURE: secure, GUARDED: guarded, HOSTS: hosts, MULTI: multi };
    return new CaseRegistries(files, stack.move());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

function writeHosts(directory: string, hosts: Readonly<Record<string, string>>): void {
  for (const [host, text] of Object.entries(hosts)) {
    fs.mkdirSync(path.join(directory, host), { recursive: true });
    fs.writeFileSync(path.join(directory, host, 'hosts.toml'), text);
  }
}
