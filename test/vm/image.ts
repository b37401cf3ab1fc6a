// What the virtual machine starts from: a small Debian made from Debian's packages, its kernel for clouds, an initial RAM
// disk with the few drivers that the kernel needs to find its disks, and the project's dependencies. Made once, kept in
// .cache/.

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { cached, PROJECT_ROOT } from '../setup/cache';
import { mustRun } from '../setup/command';
import { debianMirror, ensurePackages } from '../setup/packages';

export interface VmImage {
  /** Bare ext4 filesystems. */
  readonly disk: string;
  readonly modules: string;
  readonly kernel: string;
  readonly initrd: string;
}

/** Fixed, so that the kernel does not change with the machine: Debian 12 has Linux 6.1. */
const SUITE = 'bookworm';
const HOST_PACKAGES = ['qemu-system-x86', 'mmdebstrap', 'e2fsprogs', 'busybox-static'];
const GUEST_PACKAGES = [
  ...['apparmor', 'busybox-static', 'dbus', 'kmod', 'libseccomp2', 'libstdc++6', 'systemd'],
  ...['attr', 'crun', 'iproute2', 'keyutils', 'procps', 'python3', 'runc', 'selinux-policy-default', 'uidmap'],
];
/** What the policy does not allow is written to the kernel's messages, and done. */
const SELINUX_CONFIG = 'SELINUX=permissive\\nSELINUXTYPE=default\\n';
const KERNEL_PACKAGE = 'linux-image-cloud-amd64';
const DRIVERS = ['virtio_pci', 'virtio_blk'];
const DISK_SIZE = '3G';
const MODULES_SIZE = '1G';
const BUILD_TOOLS = [
  'typescript',
  '@typescript',
  '@biomejs',
  'esbuild',
  '@esbuild',
  'knip',
  '@swc',
  '@types',
  `node-linux-${process.arch}/include`,
];
const HASH_LENGTH = 12;
const BUILD_TIMEOUT_MS = 900_000;
const INITRD_SCRIPT = path.join(PROJECT_ROOT, 'test/vm/initrd.sh');

/** Needs root and Debian's mirror when it is not in the cache. */
export async function vmImage(): Promise<VmImage> {
  await ensurePackages(HOST_PACKAGES);
  const directory = await cached(`vm/${recipeHash()}`, build);
  return {
    disk: path.join(directory, 'disk'),
    kernel: path.join(directory, 'kernel'),
    initrd: path.join(directory, 'initrd'),
    modules: await modulesDisk(),
  };
}

/** node_modules without tools that only build and check. They change seldom, and are too many files to copy each time. */
async function modulesDisk(): Promise<string> {
  const hash = createHash('sha256').update(fs.readFileSync(path.join(PROJECT_ROOT, 'package-lock.json')));
  const name = `modules-${hash.digest('hex').slice(0, HASH_LENGTH)}`;
  return cached(`vm/${name}`, async (scratch) => {
    const folder = path.dirname(scratch);
    for (const old of fs.readdirSync(folder).filter((file) => file.startsWith('modules-') && !file.startsWith(name))) {
      fs.rmSync(path.join(folder, old), { recursive: true });
    }
    const tree = `${scratch}.d`;
    fs.rmSync(tree, { recursive: true, force: true });
    await mustRun(['cp', '-al', path.join(PROJECT_ROOT, 'node_modules'), tree]);
    for (const tool of BUILD_TOOLS) fs.rmSync(path.join(tree, tool), { recursive: true, force: true });
    await makeDisk(scratch, tree, MODULES_SIZE);
    fs.rmSync(tree, { recursive: true });
  });
}

/** Another recipe is another image. */
function recipeHash(): string {
  const recipe = JSON.stringify([SUITE, GUEST_PACKAGES, SELINUX_CONFIG, KERNEL_PACKAGE, DRIVERS, DISK_SIZE]);
  return createHash('sha256').update(recipe).update(fs.readFileSync(INITRD_SCRIPT)).digest('hex').slice(0, HASH_LENGTH);
}

async function build(scratch: string): Promise<void> {
  console.log('building the image of the virtual machine');
  const root = path.join(scratch, 'root');
  fs.mkdirSync(scratch, { recursive: true });
  const { uri } = await debianMirror();
  // The kernel is unpacked, not installed: nothing is to make an initial RAM disk for it but makeInitrd().
  const fetchKernel = `set -e; cd "$1/tmp"
    package=$(chroot "$1" apt-cache depends ${KERNEL_PACKAGE} | sed -n 's/.*Depends: //p')
    chroot "$1" sh -c "cd /tmp && apt-get -qq download $package"
    dpkg -x "$package"_*.deb kernel && rm "$package"_*.deb
    mkdir -p "$1/usr/lib/modules" && mv kernel/lib/modules/* "$1/usr/lib/modules/" && mv kernel/boot/vmlinuz-* "$1/boot/"
    rm -r kernel && chroot "$1" /sbin/depmod "\${package#linux-image-}"`;
  await mustRun(
    [
      'mmdebstrap',
      '--quiet',
      '--mode=root',
      '--variant=minbase',
      `--include=${GUEST_PACKAGES.join(',')}`,
      '--components=main',
      '--aptopt=APT::Sandbox::User "root"',
      '--dpkgopt=force-unsafe-io',
      ...['doc', 'man', 'locale'].map((name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`),
      `--customize-hook=${fetchKernel}`,
      '--customize-hook=mkdir "$1/gantry"',
      `--customize-hook=printf '${SELINUX_CONFIG}' >"$1/etc/selinux/config"`,
      SUITE,
      root,
      uri,
    ],
    { timeoutMs: BUILD_TIMEOUT_MS },
  );
  const boot = path.join(root, 'boot');
  const kernel = fs.readdirSync(boot).find((name) => name.startsWith('vmlinuz-')) ?? '';
  fs.renameSync(path.join(boot, kernel), path.join(scratch, 'kernel'));
  await makeInitrd(scratch, kernel.replace('vmlinuz-', ''));
  await makeDisk(path.join(scratch, 'disk'), root, DISK_SIZE);
  fs.rmSync(root, { recursive: true });
}

/** @param size - in words of truncate(1) */
export async function makeDisk(disk: string, tree: string, size: string): Promise<void> {
  fs.rmSync(disk, { force: true });
  await mustRun(['truncate', '-s', size, disk]);
  const options = ['-O', '^has_journal', '-E', 'lazy_itable_init=1,root_owner=0:0', '-m', '0'];
  await mustRun(['mke2fs', '-q', '-F', '-t', 'ext4', ...options, '-d', tree, disk], { timeoutMs: BUILD_TIMEOUT_MS });
}

async function makeInitrd(scratch: string, version: string): Promise<void> {
  const tree = path.join(scratch, 'initrd.d');
  for (const name of ['bin', 'dev', 'modules', 'root']) fs.mkdirSync(path.join(tree, name), { recursive: true });
  fs.copyFileSync(path.join(scratch, 'root/bin/busybox'), path.join(tree, 'bin/busybox'));
  fs.copyFileSync(INITRD_SCRIPT, path.join(tree, 'init'));
  fs.chmodSync(path.join(tree, 'init'), 0o755);
  // Lines "insmod /lib/modules/...", each after those that it needs.
  const command = [
    'chroot',
    path.join(scratch, 'root'),
    '/sbin/modprobe',
    '-a',
    '-S',
    version,
    '--show-depends',
    ...DRIVERS,
  ];
  const files = (await mustRun(command)).split('\n').flatMap((line) => /^insmod (\S+)/.exec(line)?.[1] ?? []);
  const modules = [...new Set(files)];
  for (const file of modules) {
    fs.copyFileSync(path.join(scratch, 'root', file), path.join(tree, 'modules', path.basename(file)));
  }
  fs.writeFileSync(path.join(tree, 'modules/list'), modules.map((file) => `${path.basename(file)}\n`).join(''));
  await mustRun([
    'sh',
    '-c',
    'cd "$1" && find . | busybox cpio -o -H newc | gzip -1 >"$2"',
    'sh',
    tree,
    `${scratch}/initrd`,
  ]);
  fs.rmSync(tree, { recursive: true });
}
