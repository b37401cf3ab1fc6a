/* The program of the container: where it is, its home directory, and the exec. */
#include "init.h"

#define ARGUMENTS_PROTECTION 3  /* PROT_READ | PROT_WRITE */
#define ARGUMENTS_FLAGS 0x22    /* MAP_PRIVATE | MAP_ANONYMOUS */
#define X_OK_MODE 1
#define AT_EACCESS_FLAG 0x200
#define PASSWD_BUFFER 8192

static char program[PATH_SIZE];
static char home[PATH_SIZE + 8];

/* Go's findExecutable, whose words clients know: any execute bit will do. */
static long find_file(const char *path)
{
	struct statx st;
	long result = SYS5(statx, AT_FDCWD, path, 0, STATX_BASIC_STATS, &st);

	if (result < 0) {
		stage = STAGE_STAT;
		return result;
	}
	if (IS(&st, S_IFDIR) || !(st.stx_mode & 0111)) {
		stage = STAGE_PERMISSION;
		return -EACCES;
	}
	return 0;
}

/* A mount with noexec, or a mode that leaves out this user, shows itself here and not only at exec. */
static long check_access(void)
{
	long result = SYS4(faccessat2, AT_FDCWD, program, X_OK_MODE, AT_EACCESS_FLAG);

	if (!result)
		return 0;
	stage = STAGE_ACCESS;
	stage_text = program;
	return result;
}

static const char *next_directory(const char *path, char *directory)
{
	u64 size = 0;

	while (*path && *path != ':') {
		if (size < PATH_SIZE - 1)
			directory[size++] = *path;
		path++;
	}
	directory[size] = 0;
	return *path ? path + 1 : 0;
}

OPERATION(op_find_executable)
{
	const char *name = text_of(op, 0), *path = text_of(op, 1), *limit = program + PATH_SIZE;
	char directory[PATH_SIZE], *end = program;
	long result;

	for (const char *at = name; *at; at++)
		if (*at == '/') {
			append(&end, limit, name);
			result = find_file(program);
			return result ? result : check_access();
		}
	while (path && *path && *name) {
		path = next_directory(path, directory);
		end = program;
		if (directory[0]) {
			append(&end, limit, directory);
			append(&end, limit, "/");
		}
		append(&end, limit, name);
		if (find_file(program))
			continue;
		if (program[0] != '/') {
			stage = STAGE_RELATIVE;
			return -ENOENT;
		}
		return check_access();
	}
	stage = STAGE_NOT_FOUND;
	return -ENOENT;
}

/* Follows the lines of a passwd file from buffer to buffer. */
struct passwd {
	u64 wanted, uid;
	int field, has_uid, bad;
	char *end;
};

static int end_of_line(struct passwd *state)
{
	int found = state->field >= 5 && state->has_uid && !state->bad && state->uid == state->wanted;

	state->field = 0;
	state->uid = 0;
	state->has_uid = 0;
	state->bad = 0;
	if (!found)
		state->end = home + 5;
	return found;
}

static void take(struct passwd *state, char byte)
{
	if (byte == ':') {
		state->field++;
	} else if (state->field == 2) {
		state->has_uid = 1;
		if (byte < '0' || byte > '9' || state->uid > 0xffffffffu)
			state->bad = 1;
		else
			state->uid = state->uid * 10 + (u64)(byte - '0');
	} else if (state->field == 5 && state->end < home + sizeof(home) - 1) {
		*state->end++ = byte;
	}
}

/* The home of the user in the image's /etc/passwd; "/" when there is none. */
OPERATION(op_home)
{
	char buffer[PASSWD_BUFFER];
	struct passwd state = {.wanted = op->a};
	struct statx st;
	int fd = open_in_root("/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY, 0), found = 0;
	long size;

	memcpy(home, "HOME=", 5);
	state.end = home + 5;
	if (fd >= 0 && !stat_of(fd, &st) && IS(&st, S_IFREG)) {
		while (!found && (size = SYS3(read, fd, buffer, sizeof(buffer))) > 0)
			for (long i = 0; !found && i < size; i++)
				if (buffer[i] == '\n')
					found = end_of_line(&state);
				else
					take(&state, buffer[i]);
		if (!found)
			found = end_of_line(&state);
	}
	if (!found)
		*state.end++ = '/';
	*state.end = 0;
	close_fd(fd);
	return 0;
}

static const char *words_of(long error)
{
	switch (error) {
	case -ENOEXEC:
		return "exec format error";
	case -ENOENT:
		return "no such file or directory";
	case -EACCES:
		return "permission denied";
	case -E2BIG:
		return "argument list too long";
	case -ETXTBSY:
		return "text file busy";
	case -ENOMEM:
		return "cannot allocate memory";
	case -ELOOP:
		return "too many levels of symbolic links";
	case -EPERM:
		return "operation not permitted";
	default:
		return "cannot execute";
	}
}

static void report(long error)
{
	char line[PATH_SIZE + 64], *end = line;
	const char *limit = line + sizeof(line);

	append(&end, limit, "exec ");
	append(&end, limit, program);
	append(&end, limit, ": ");
	append(&end, limit, words_of(error));
	append(&end, limit, "\n");
	SYS3(write, 2, line, end - line);
}

static const char **pointers(const char **to, const char *texts, u64 count)
{
	while (count--) {
		*to++ = texts;
		texts += length(texts) + 1;
	}
	return to;
}

OPERATION(op_execute)
{
	const char **arguments, **environment, **end;
	long result = SYS6(mmap, 0, (op->a + op->b + 3) * sizeof(char *), ARGUMENTS_PROTECTION, ARGUMENTS_FLAGS, -1, 0);

	if (result < 0 && result > -4096)
		return result;
	arguments = (const char **)result;
	end = pointers(arguments, text_of(op, 0), op->a);
	*end++ = 0;
	environment = end;
	end = pointers(end, text_of(op, 1), op->b);
	if (home[0])
		*end++ = home;
	*end = 0;
	result = SYS3(execve, program, arguments, environment);
	stage_text = program;
	if (!(op->flags & EXECUTE_REPORT_STDERR))
		return result;
	report(result);
	SYS1(exit_group, 1);
	return result;
}
