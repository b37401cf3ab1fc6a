/* What the parts of init share. No libc: only the kernel's own headers. Every function returns a result or -errno. */
#ifndef GANTRY_INIT_H
#define GANTRY_INIT_H

#include <asm/unistd.h>
#include <asm/errno.h>
#include <asm/fcntl.h>
#include <linux/fcntl.h>
#include <linux/mount.h>
#include <linux/stat.h>

#include "arch.h"
#include "plan.h"

#define SLOTS 512
#define SLOTS_INHERITED 256
#define PATH_SIZE 4096

/* The container's root directory; every path of the container is resolved below it. */
extern int root_fd;
extern int slots[SLOTS];
/* Where the running operation has got to, for the report. */
extern u32 stage;
extern const char *stage_text;
/* Where messages go. */
extern int control_fd;

/* setgroups is forbidden: an operation that asks for no groups leaves them as they are. */
extern int keeps_groups;

void await_launcher(void);

const char *text_of(const struct operation *op, int index);
int slot_of(u64 index);

u64 length(const char *text);
int equal(const char *a, const char *b);
int starts_with(const char *text, const char *prefix);
/* Appends at *end, which moves; never writes past limit; always terminates. */
void append(char **end, const char *limit, const char *text);
void *memset(void *to, int value, u64 size);
void *memcpy(void *to, const void *from, u64 size);

long write_file(int dir, const char *path, const char *data, u64 size);
long stat_of(int fd, struct statx *st);
int is_device(const struct statx *st, u32 type, u32 major, u32 minor);
void close_fd(int fd);
void send_message(struct message *message, int fd);

/* resolve.c: links and ".." lead nowhere outside the root; magic links are refused. */
int open_in_root(const char *path, u64 flags, u64 resolve);
/* Opens with O_PATH and makes what is missing: directories on the way and, at the end, one of the type S_IFDIR or S_IFREG. */
int make_in_root(const char *path, u32 type, u32 mode);
/* The directory of the last component, made if missing, and the component in name (PATH_SIZE). */
int parent_in_root(const char *path, char *name);

long copy_up(int from, int to);

/* The operations, by the file that has them. */
#define OPERATION(name) long name(const struct operation *op)
OPERATION(op_unshare);
OPERATION(op_join_path);
OPERATION(op_join_slot);
OPERATION(op_become_root);
OPERATION(op_time_offsets);
OPERATION(op_respawn);
OPERATION(op_propagation);
OPERATION(op_procfs);
OPERATION(op_sysctl);
OPERATION(op_open_tree);
OPERATION(op_root);
OPERATION(op_current_root);
OPERATION(op_enter_root);
OPERATION(op_mount);
OPERATION(op_attach);
OPERATION(op_remount);
OPERATION(op_device);
OPERATION(op_symlink);
OPERATION(op_make_directory);
OPERATION(op_mask);
OPERATION(op_readonly);
OPERATION(op_keyring);
OPERATION(op_loopback);
OPERATION(op_rlimit);
OPERATION(op_io_priority);
OPERATION(op_scheduler);
OPERATION(op_cpu_affinity);
OPERATION(op_memory_policy);
OPERATION(op_terminal);
OPERATION(op_seccomp);
OPERATION(op_bounding);
OPERATION(op_user);
OPERATION(op_capabilities);
OPERATION(op_ambient);
OPERATION(op_change_directory);
OPERATION(op_stdio_owner);
OPERATION(op_lsm_label);
OPERATION(op_file_label);
OPERATION(op_find_executable);
OPERATION(op_home);
OPERATION(op_execute);
OPERATION(op_await_start);
OPERATION(op_keep_files);

#define S_IFMT 00170000
#define S_IFREG 0100000
#define S_IFDIR 0040000
#define S_IFCHR 0020000
#define S_IFBLK 0060000
#define S_IFLNK 0120000
#define S_IFIFO 0010000
#define IS(st, type) (((st)->stx_mode & S_IFMT) == (type))

#endif
