// Makes the image of `make demo` from what the machine has: a static busybox, else a small C program built on the spot.
// Arguments: the image file to write. Prints the command that a container of the image runs.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type LayerEntry, writeImage, writeLayerTar } from '../images/oci-image';

const BUSYBOX_PLACES = ['/bin/busybox', '/usr/bin/busybox', '/usr/local/bin/busybox'];
const GREETING = 'hello from a container, pid';
const PROGRAM = `
#include <stdio.h>
#include <unistd.h>
int main(void) { printf("${GREETING} %d\\n", (int)getpid()); return 7; }
`;

async function main(target: string): Promise<void> {
  const scratch = mkdtempSync(join(tmpdir(), 'gantry-demo-image-'));
  try {
    const busybox = BUSYBOX_PLACES.find((path) => existsSync(path) && isStatic(path));
    const command = busybox ? ['/bin/sh', '-c', `echo ${GREETING} $$; exit 7`] : ['/hello'];
    const layer = join(scratch, 'layer.tar');
    await writeLayerTar(layer, busybox ? busyboxFiles(busybox) : [helloProgram(scratch)]);
    const defaults = { Cmd: command, Env: ['PATH=/bin'], WorkingDir: '/' };
    await writeImage(target, { name: 'demo/hello:latest', layerTars: [layer], defaults });
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/** True when the ELF file names no interpreter, so that it runs in an empty root file system. */
function isStatic(path: string): boolean {
  const elf = readFileSync(path);
  const [offset, size, count] = [Number(elf.readBigUInt64LE(32)), elf.readUInt16LE(54), elf.readUInt16LE(56)];
  const PT_INTERP = 3;
  return ![...Array(count).keys()].some((index) => elf.readUInt32LE(offset + index * size) === PT_INTERP);
}

function busyboxFiles(path: string): LayerEntry[] {
  return [
    { name: 'bin/', type: 'directory', mode: 0o755 },
    { name: 'bin/busybox', mode: 0o755, content: readFileSync(path) },
    { name: 'bin/sh', type: 'symlink', linkname: 'busybox' },
  ];
}

function helloProgram(scratch: string): LayerEntry {
  writeFileSync(join(scratch, 'hello.c'), PROGRAM);
  execFileSync('gcc', ['-static', '-O2', '-o', join(scratch, 'hello'), join(scratch, 'hello.c')]);
  return { name: 'hello', mode: 0o755, content: readFileSync(join(scratch, 'hello')) };
}

void main(process.argv[2] as string);
