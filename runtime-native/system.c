/* Thin system call wrappers for native.ts. Each returns a result or -errno and none waits, except where it says so. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static int result_of(long result)
{
	return result < 0 ? -errno : (int)result;
}

/* Whether the kernel knows flags of seccomp(2), which it looks at before it looks for the filter. */
int gantry_knows_filter_flags(unsigned int flags)
{
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, NULL) < 0 && errno == EFAULT;
}

/* A pair of SOCK_SEQPACKET sockets: one message is one send. */
int gantry_socketpair(int32_t *fds)
{
	return result_of(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds));
}

/* Waits up to timeout_ms for a message; its size, 0 at the end, -EAGAIN when none came. *fd is a descriptor sent along or -1. */
int gantry_receive(int socket, void *buffer, int64_t size, int32_t *fd, int timeout_ms)
{
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec vector = {buffer, (size_t)size};
	struct msghdr header = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct pollfd poller = {.fd = socket, .events = POLLIN};
	ssize_t received;
	int ready;

	*fd = -1;
	do
		ready = poll(&poller, 1, timeout_ms);
	while (ready < 0 && errno == EINTR);
	if (ready <= 0)
		return ready < 0 ? -errno : -EAGAIN;
	do
		received = recvmsg(socket, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (received < 0 && errno == EINTR);
	if (received < 0)
		return errno == ECONNRESET ? 0 : -errno;
	struct cmsghdr *first = CMSG_FIRSTHDR(&header);
	if (first && first->cmsg_level == SOL_SOCKET && first->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(first), sizeof(int));
	return (int)received;
}

/* A directory by descriptor: socket paths are limited to 107 bytes. */
static int socket_at(int type, int directory, const char *name, struct sockaddr_un *address)
{
	int size;

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	size = snprintf(address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d/%s", directory, name);
	if (size < 0 || (size_t)size >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	return result_of(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
}

static int with_socket(int fd, int result)
{
	int error = -errno;

	if (result == 0)
		return fd;
	close(fd);
	return error;
}

/* A listening SOCK_SEQPACKET socket, which only its owner may use: the file takes the mode that the socket has before. */
int gantry_listen_at(int directory, const char *name)
{
	struct sockaddr_un address;
	int fd = socket_at(SOCK_SEQPACKET, directory, name, &address);

	if (fd < 0)
		return fd;
	return with_socket(fd, fchmod(fd, 0600) || bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 1));
}

/* A connected socket; with stream of that type, else SOCK_SEQPACKET. */
int gantry_connect_at(int directory, const char *name, int stream)
{
	struct sockaddr_un address;
	int fd = socket_at(stream ? SOCK_STREAM : SOCK_SEQPACKET, directory, name, &address);

	if (fd < 0)
		return fd;
	return with_socket(fd, connect(fd, (struct sockaddr *)&address, sizeof(address)));
}

/* Sends text with a descriptor. */
int gantry_send_fd(int socket, int fd, const char *text)
{
	char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec vector = {(void *)text, strlen(text)};
	struct msghdr header = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *first = CMSG_FIRSTHDR(&header);

	first->cmsg_level = SOL_SOCKET;
	first->cmsg_type = SCM_RIGHTS;
	first->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(first), &fd, sizeof(int));
	return result_of(sendmsg(socket, &header, MSG_NOSIGNAL));
}

/* A copy of a descriptor of another process. */
int gantry_descriptor_of(int pidfd, int number)
{
	return result_of(syscall(SYS_pidfd_getfd, pidfd, number, 0));
}

/* An exclusive lock of the open file, without waiting: -EAGAIN when somebody else has it. */
int gantry_lock(int fd)
{
	return result_of(flock(fd, LOCK_EX | LOCK_NB));
}

int gantry_send_byte(int socket)
{
	return result_of(send(socket, "g", 1, MSG_NOSIGNAL));
}

/* Reaps the child if it has exited: 1 and its status as waitid gives it, 0 while it runs. With wait, waits. */
int gantry_reap(int pid, int32_t *code, int32_t *status, int wait)
{
	siginfo_t info = {0};
	int result;

	do
		result = waitid(P_PID, (id_t)pid, &info, WEXITED | __WALL | (wait ? 0 : WNOHANG));
	while (result < 0 && errno == EINTR);
	if (result < 0)
		return -errno;
	*code = info.si_code;
	*status = info.si_status;
	return info.si_pid != 0;
}

/* The pid of some child that has exited, without reaping it; 0 when there is none. */
int gantry_peek_exited(void)
{
	siginfo_t info = {0};

	if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0)
		return errno == ECHILD ? 0 : -errno;
	return info.si_pid;
}

int gantry_become_subreaper(void)
{
	return result_of(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
}

int gantry_pidfd_open(int pid)
{
	return result_of(syscall(SYS_pidfd_open, pid, 0));
}

int gantry_pidfd_signal(int pidfd, int signal)
{
	return result_of(syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0));
}

int gantry_mkfifo(const char *path, int mode)
{
	return result_of(mkfifo(path, (mode_t)mode));
}

int gantry_pipe(int32_t *fds)
{
	return result_of(pipe2(fds, O_CLOEXEC));
}

int gantry_set_blocking(int fd, int blocking)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	return result_of(fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK));
}

/* Bytes in a pipe that nobody has read yet. */
int gantry_unread_bytes(int fd)
{
	int count = 0;

	if (ioctl(fd, FIONREAD, &count) < 0)
		return -errno;
	return count;
}

int gantry_set_window_size(int fd, int rows, int columns)
{
	struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};

	return result_of(ioctl(fd, TIOCSWINSZ, &size));
}

/* Rows and columns of a terminal. */
int gantry_window_size(int fd, int32_t *rows_columns)
{
	struct winsize size;

	if (ioctl(fd, TIOCGWINSZ, &size) < 0)
		return -errno;
	rows_columns[0] = size.ws_row;
	rows_columns[1] = size.ws_col;
	return 0;
}

/* Passes every byte through as it is (cfmakeraw(3)), or with settings, which raw has filled, back to those. */
int gantry_terminal_mode(int fd, void *settings, int raw)
{
	struct termios changed;

	if (!raw)
		return result_of(tcsetattr(fd, TCSADRAIN, settings));
	if (tcgetattr(fd, settings) < 0)
		return -errno;
	memcpy(&changed, settings, sizeof(changed));
	cfmakeraw(&changed);
	return result_of(tcsetattr(fd, TCSADRAIN, &changed));
}

int gantry_peer_credentials(int fd, int32_t *credentials)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return -errno;
	credentials[0] = peer.pid;
	credentials[1] = (int32_t)peer.uid;
	credentials[2] = (int32_t)peer.gid;
	return 0;
}

/*
 * Attaches a device program to a cgroup v2 directory (BPF_F_ALLOW_MULTI: all programs must allow). The kernel keeps the
 * program for as long as the group lives.
 */
int gantry_attach_device_filter(int directory, const void *program, int count)
{
	union bpf_attr load = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
		.insns = (uintptr_t)program,
		.insn_cnt = (uint32_t)count,
		.license = (uintptr_t) "Apache",
	};
	union bpf_attr attach = {.target_fd = (uint32_t)directory, .attach_type = BPF_CGROUP_DEVICE};
	long fd = syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load)), result;

	if (fd < 0)
		return -errno;
	attach.attach_bpf_fd = (uint32_t)fd;
	attach.attach_flags = BPF_F_ALLOW_MULTI;
	result = result_of(syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof(attach)));
	close((int)fd);
	return (int)result;
}
