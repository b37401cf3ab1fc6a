import { constants } from 'node:os';
import { describeFailure, errnoText, STAGES } from '../../../runtime-native/failure';
import type { Operation } from '../../../runtime-native/plan/operations';

const { ENOENT, EACCES, ENOTDIR, EPERM, EINVAL, EEXIST, EBUSY, ELOOP, ERANGE, ENOMEM, ENOEXEC, ENAMETOOLONG, EROFS } =
  constants.errno;
const FIND: Operation = { op: 'findExecutable', name: 'x', path: '/bin' };
const MOUNT: Operation = { op: 'mount', type: 'proc', source: 'p', target: '/t', options: [], attributes: [] };

const describeIt = (operation: Operation, error: number, stage: number = STAGES.OPERATION, inInit = true) =>
  describeFailure({ operation, error, stage, text: '/bin/x' }, inInit, () => true);

describe('describeFailure()', () => {
  test.each<[Operation, number, number, string]>([
    [FIND, ENOENT, STAGES.STAT, 'exec: "x": stat x: no such file or directory'],
    [FIND, ENOENT, STAGES.NOT_FOUND, 'exec: "x": executable file not found in $PATH'],
    [FIND, EACCES, STAGES.PERMISSION, 'exec: "x": permission denied'],
    [FIND, EACCES, STAGES.ACCESS, 'exec /bin/x: permission denied'],
    [
      { op: 'capabilities', effective: [], permitted: [], inheritable: [] },
      EPERM,
      STAGES.OPERATION,
      'unable to apply caps: operation not permitted',
    ],
    [
      { op: 'changeDirectory', path: '/d', firstAttempt: true },
      ENOENT,
      STAGES.OPERATION,
      'chdir to cwd ("/d") set in config.json failed: no such file or directory',
    ],
    [
      { op: 'lsmLabel', path: 'self/attr/apparmor/exec', label: 'exec p' },
      ENOENT,
      STAGES.OPERATION,
      'error during container init: unable to apply apparmor profile: apparmor failed to apply profile: write /proc/self/attr/apparmor/exec: no such file or directory: profile "p" is not loaded',
    ],
    [
      { op: 'lsmLabel', path: 'self/attr/exec', label: 'l' },
      EINVAL,
      STAGES.OPERATION,
      "error during container init: can't set process label: write /proc/self/attr/exec: invalid argument",
    ],
    [
      MOUNT,
      ENOTDIR,
      STAGES.NOT_ORDINARY,
      'error during container init: error mounting "p" to rootfs at "/t": filesystem "proc" must be mounted on ordinary directory',
    ],
    [
      MOUNT,
      EPERM,
      STAGES.ON_PROC,
      'error during container init: error mounting "p" to rootfs at "/t": "/t" cannot be mounted because it is inside /proc',
    ],
    [
      { op: 'rlimit', type: 7, soft: '1', hard: '1' },
      EPERM,
      STAGES.OPERATION,
      'error during container init: error setting rlimits for ready process: error setting rlimit type 7: operation not permitted',
    ],
  ])('%j %i at %i', (operation, error, stage, words) => {
    expect(describeIt(operation, error, stage)).toBe(words);
  });

  test.each<[Operation, number, string, string]>([
    [{ ...MOUNT, options: ['context=l'] }, EINVAL, 'apparmor', 'selinux is disabled or not supported'],
    [{ ...MOUNT, options: ['context=l'] }, EINVAL, 'selinux', 'mount p:/t: invalid argument'],
    [{ op: 'lsmLabel', path: 'self/attr/exec', label: 'l' }, EINVAL, '', 'selinux is disabled or not supported'],
    [
      { op: 'lsmLabel', path: 'self/attr/apparmor/exec', label: 'exec p' },
      EINVAL,
      '',
      'apparmor is disabled or not supported',
    ],
    [
      { op: 'lsmLabel', path: 'self/attr/apparmor/exec', label: 'exec p' },
      ENOENT,
      'apparmor',
      'profile "p" is not loaded',
    ],
  ])('%j %i with %p says what is wrong with the label', (operation, error, module, words) => {
    const text = describeFailure({ operation, error, stage: 0, text: '' }, true, (name) => name === module);

    expect(text.endsWith(words)).toBe(true);
  });

  test('does not speak of the init of the container for an exec', () => {
    expect(describeIt({ op: 'terminal', rows: 0, columns: 0, console: false }, EINVAL, STAGES.OPERATION, false)).toBe(
      'error setting up the terminal: invalid argument',
    );
  });
});

test('errnoText() has the words of the C library, not those of libuv', () => {
  expect([EEXIST, EBUSY, ELOOP, ERANGE, ENOMEM, ENOEXEC, ENAMETOOLONG, EROFS].map(errnoText)).toEqual([
    'file exists',
    'device or resource busy',
    'too many levels of symbolic links',
    'numerical result out of range',
    'cannot allocate memory',
    'exec format error',
    'file name too long',
    'read-only file system',
  ]);
});
