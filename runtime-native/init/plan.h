/*
 * The binary form of a launch plan, as encode.ts writes it: a header, the operations, then their texts. Texts are
 * NUL-terminated and named by their offset in the plan; offset 0 means none. A unit test compares the codes and flags
 * here with codes.ts.
 */
#ifndef GANTRY_INIT_PLAN_H
#define GANTRY_INIT_PLAN_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

#define PLAN_MAGIC 0x4c504e47u
#define PLAN_TEXTS 4

struct plan {
	u32 magic, size, count;
	u16 inherited, flags;
};

struct operation {
	u32 code, flags;
	u64 a, b, c;
	u32 text[PLAN_TEXTS];
};

/* Descriptors that the launcher hands over. Slots of the plan start at FIRST_INHERITED_FD. */
enum { CONTROL_FD = 3, PLAN_FD = 4, FIRST_INHERITED_FD = 5 };

enum operation_code {
	OP_WRITE_FILE = 1,
	OP_UNSHARE = 2,
	OP_JOIN_PATH = 3,
	OP_JOIN_SLOT = 4,
	OP_KEYRING = 5,
	OP_LOOPBACK = 6,
	OP_PROPAGATION = 7,
	OP_PROCFS = 8,
	OP_SYSCTL = 9,
	OP_OPEN_TREE = 10,
	OP_ROOT = 11,
	OP_ENTER_ROOT = 12,
	OP_MOUNT = 13,
	OP_ATTACH = 14,
	OP_REMOUNT = 15,
	OP_DEVICE = 16,
	OP_SYMLINK = 17,
	OP_MAKE_DIRECTORY = 18,
	OP_MASK = 19,
	OP_READONLY = 20,
	OP_HOSTNAME = 21,
	OP_DOMAINNAME = 22,
	OP_RLIMIT = 23,
	OP_TERMINAL = 24,
	OP_SYNC = 25,
	OP_NO_NEW_PRIVILEGES = 26,
	OP_SECCOMP = 27,
	OP_BOUNDING = 28,
	OP_USER = 29,
	OP_CAPABILITIES = 30,
	OP_UMASK = 31,
	OP_CHANGE_DIRECTORY = 32,
	OP_STDIO_OWNER = 33,
	OP_FIND_EXECUTABLE = 34,
	OP_HOME = 35,
	OP_CLOSE_FILES = 36,
	OP_EXECUTE = 37,
	OP_PERSONALITY = 38,
	OP_IO_PRIORITY = 39,
	OP_LSM_LABEL = 40,
	OP_AMBIENT = 41,
	OP_CURRENT_ROOT = 42,
	OP_SCHEDULER = 43,
	OP_CPU_AFFINITY = 44,
	OP_MEMORY_POLICY = 45,
	OP_BECOME_ROOT = 46,
	OP_TIME_OFFSETS = 47,
	OP_RESPAWN = 48,
	OP_AWAIT_START = 50,
	OP_KEEP_FILES = 51,
	OP_FILE_LABEL = 52,
};

enum operation_flag {
	/* OP_MOUNT */
	MOUNT_MODE_OF_TARGET = 1,
	MOUNT_ORDINARY_DIRECTORY = 2,
	MOUNT_COPY_UP = 4,
	/* OP_OPEN_TREE, OP_ATTACH, OP_REMOUNT */
	TREE_RECURSIVE = 8,
	/* OP_SYMLINK */
	LINK_REPLACE = 16,
	/* OP_ENTER_ROOT */
	ROOT_MOVE = 32,
	/* OP_ROOT, OP_ENTER_ROOT: the mount namespace is another's and stays as it is. */
	ROOT_AS_IT_IS = 2048,
	/* OP_TERMINAL */
	TERMINAL_CONSOLE = 64,
	/* OP_EXECUTE: a failure goes to stderr, not to the launcher. */
	EXECUTE_REPORT_STDERR = 128,
	/* any: go on when it fails */
	OPTIONAL = 256,
	/* OP_MOUNT, OP_ATTACH: the target may lie in a procfs. */
	TARGET_ON_PROC = 512,
	/* OP_CHANGE_DIRECTORY */
	DIRECTORY_FIRST_ATTEMPT = 1024,
	/* OP_SECCOMP */
	SECCOMP_LISTENS = 4096,
};

enum plan_flag { PLAN_OWN_USER_NAMESPACE = 1 };

enum message_kind { MESSAGE_FAILURE = 1, MESSAGE_SYNC = 2, MESSAGE_TERMINAL = 3, MESSAGE_RESPAWN = 4, MESSAGE_LISTENER = 5 };

/* Which step of an operation failed, for the words of the error. */
enum failure_stage {
	STAGE_OPERATION = 0,
	STAGE_TARGET = 1,
	STAGE_ATTRIBUTES = 2,
	STAGE_NOT_ORDINARY = 3,
	STAGE_COPY = 4,
	STAGE_STAT = 5,
	STAGE_NOT_FOUND = 6,
	STAGE_PERMISSION = 7,
	STAGE_RELATIVE = 8,
	STAGE_ACCESS = 9,
	STAGE_OUTSIDE = 10,
	STAGE_NOT_DEVICE = 11,
	STAGE_ON_PROC = 12,
};

#define MESSAGE_TEXT 496

struct message {
	u32 kind, operation, error, stage;
	char text[MESSAGE_TEXT];
};

#endif
