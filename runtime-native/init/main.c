/*
 * The first program of a container process: runs the operations of a launch plan in order and ends in execve. It runs
 * from a sealed memfd, so nothing of the host can be reached through /proc/self/exe, and has no libc.
 */
#include "init.h"

#include <linux/prctl.h>

ENTRY_POINT;

#define SIGKILL_NUMBER 9
#define SIGSTOP_NUMBER 19
#define SIGNAL_MAX 64
#define SIG_SETMASK_HOW 2
#define PROT_READ_ONLY 1
#define MAP_PRIVATE_FLAG 2

int root_fd = -1;
int slots[SLOTS];
u32 stage;
const char *stage_text;
int control_fd = CONTROL_FD;
static const u8 *plan;

const char *text_of(const struct operation *op, int index)
{
	return op->text[index] ? (const char *)plan + op->text[index] : 0;
}

int slot_of(u64 index)
{
	return index < SLOTS ? slots[index] : -1;
}

static OPERATION(op_write_file)
{
	return write_file(AT_FDCWD, text_of(op, 0), text_of(op, 1), op->a);
}

static OPERATION(op_hostname)
{
	return SYS2(sethostname, text_of(op, 0), op->a);
}

static OPERATION(op_domainname)
{
	return SYS2(setdomainname, text_of(op, 0), op->a);
}

/* The launcher answers with one byte. End of file means that it has died: so do we. */
void await_launcher(void)
{
	long result;
	char go;

	do
		result = SYS3(read, control_fd, &go, 1);
	while (result == -EINTR);
	if (result != 1)
		SYS1(exit_group, 1);
}

static OPERATION(op_sync)
{
	struct message message = {.kind = MESSAGE_SYNC, .operation = (u32)op->a};

	send_message(&message, -1);
	await_launcher();
	return 0;
}

static OPERATION(op_no_new_privileges)
{
	(void)op;
	return SYS5(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static OPERATION(op_umask)
{
	SYS1(umask, op->a);
	return 0;
}

static OPERATION(op_close_files)
{
	(void)op;
	return SYS3(close_range, CONTROL_FD, ~0u, 4 /* CLOSE_RANGE_CLOEXEC */);
}

static OPERATION(op_personality)
{
	long result = SYS1(personality, op->a);

	return result < 0 ? result : 0;
}

typedef long (*operation_function)(const struct operation *op);

static const operation_function functions[] = {
	[OP_WRITE_FILE] = op_write_file,
	[OP_UNSHARE] = op_unshare,
	[OP_JOIN_PATH] = op_join_path,
	[OP_JOIN_SLOT] = op_join_slot,
	[OP_KEYRING] = op_keyring,
	[OP_LOOPBACK] = op_loopback,
	[OP_PROPAGATION] = op_propagation,
	[OP_PROCFS] = op_procfs,
	[OP_SYSCTL] = op_sysctl,
	[OP_OPEN_TREE] = op_open_tree,
	[OP_ROOT] = op_root,
	[OP_CURRENT_ROOT] = op_current_root,
	[OP_ENTER_ROOT] = op_enter_root,
	[OP_MOUNT] = op_mount,
	[OP_ATTACH] = op_attach,
	[OP_REMOUNT] = op_remount,
	[OP_DEVICE] = op_device,
	[OP_SYMLINK] = op_symlink,
	[OP_MAKE_DIRECTORY] = op_make_directory,
	[OP_MASK] = op_mask,
	[OP_READONLY] = op_readonly,
	[OP_HOSTNAME] = op_hostname,
	[OP_DOMAINNAME] = op_domainname,
	[OP_RLIMIT] = op_rlimit,
	[OP_TERMINAL] = op_terminal,
	[OP_SYNC] = op_sync,
	[OP_NO_NEW_PRIVILEGES] = op_no_new_privileges,
	[OP_SECCOMP] = op_seccomp,
	[OP_BOUNDING] = op_bounding,
	[OP_USER] = op_user,
	[OP_CAPABILITIES] = op_capabilities,
	[OP_AMBIENT] = op_ambient,
	[OP_UMASK] = op_umask,
	[OP_CHANGE_DIRECTORY] = op_change_directory,
	[OP_STDIO_OWNER] = op_stdio_owner,
	[OP_FIND_EXECUTABLE] = op_find_executable,
	[OP_HOME] = op_home,
	[OP_CLOSE_FILES] = op_close_files,
	[OP_EXECUTE] = op_execute,
	[OP_PERSONALITY] = op_personality,
	[OP_IO_PRIORITY] = op_io_priority,
	[OP_LSM_LABEL] = op_lsm_label,
	[OP_SCHEDULER] = op_scheduler,
	[OP_CPU_AFFINITY] = op_cpu_affinity,
	[OP_MEMORY_POLICY] = op_memory_policy,
	[OP_BECOME_ROOT] = op_become_root,
	[OP_TIME_OFFSETS] = op_time_offsets,
	[OP_RESPAWN] = op_respawn,
	[OP_AWAIT_START] = op_await_start,
	[OP_KEEP_FILES] = op_keep_files,
	[OP_FILE_LABEL] = op_file_label,
};

/* Ignored signals and the mask survive execve, and the launcher has blocked all. */
static void reset_signals(void)
{
	u64 action[4] = {0, 0, 0, 0}, none = 0;

	for (int signal = 1; signal <= SIGNAL_MAX; signal++)
		if (signal != SIGKILL_NUMBER && signal != SIGSTOP_NUMBER)
			SYS4(rt_sigaction, signal, action, 0, sizeof(none));
	SYS4(rt_sigprocmask, SIG_SETMASK_HOW, &none, 0, sizeof(none));
}

static const struct plan *map_plan(void)
{
	struct statx st;
	const struct plan *header;
	long address;

	if (stat_of(PLAN_FD, &st) < 0 || st.stx_size < sizeof(*header))
		return 0;
	address = SYS6(mmap, 0, st.stx_size, PROT_READ_ONLY, MAP_PRIVATE_FLAG, PLAN_FD, 0);
	if (address < 0 && address > -4096)
		return 0;
	header = (const struct plan *)address;
	if (header->magic != PLAN_MAGIC || header->size > st.stx_size || header->inherited > SLOTS_INHERITED ||
	    sizeof(*header) + header->count * sizeof(struct operation) > header->size)
		return 0;
	return header;
}

/* The code is for a launcher that has not made the plan. */
static void fail(u32 index, u32 code, long error)
{
	struct message message = {.kind = MESSAGE_FAILURE, .operation = index, .error = (u32)-error, .stage = stage | code << 16};
	char *end = message.text;

	if (stage_text)
		append(&end, message.text + MESSAGE_TEXT, stage_text);
	send_message(&message, -1);
	SYS1(exit_group, 1);
}

__attribute__((noreturn, used)) void init_main(void)
{
	const struct plan *header;
	const struct operation *operations;

	header = map_plan();
	if (!header)
		SYS1(exit_group, 1);
	/*
	 * A process of the container must not reach our descriptors through ptrace or /proc while we set up. In a user
	 * namespace of our own nobody can, and its mappings can be written only as long as we are dumpable.
	 */
	if (!(header->flags & PLAN_OWN_USER_NAMESPACE))
		SYS5(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
	reset_signals();
	SYS0(setsid);
	plan = (const u8 *)header;
	for (u32 i = 0; i < SLOTS; i++)
		slots[i] = i < header->inherited ? (int)(FIRST_INHERITED_FD + i) : -1;
	operations = (const struct operation *)(header + 1);
	for (u32 i = 0; i < header->count; i++) {
		const struct operation *op = &operations[i];
		long result = -ENOSYS;

		stage = STAGE_OPERATION;
		stage_text = 0;
		if (op->code < sizeof(functions) / sizeof(functions[0]) && functions[op->code])
			result = functions[op->code](op);
		if (result < 0 && !(op->flags & OPTIONAL))
			fail(i, op->code, result);
	}
	SYS1(exit_group, 1);
	for (;;)
		;
}
