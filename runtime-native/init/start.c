/*
 * A container that outlives the process that made it: whoever can reach the socket in its state directory starts it. And
 * the files that its program is to have besides standard input and output.
 */
#include "init.h"

/* The connection takes the launcher's place: failures are told there. One that hangs up without a word starts nothing. */
OPERATION(op_await_start)
{
	int listener = slot_of(op->a);
	char go;

	for (;;) {
		long size, peer = SYS4(accept4, listener, 0, 0, O_CLOEXEC);

		if (peer == -EINTR || peer == -ECONNABORTED)
			continue;
		if (peer < 0)
			return peer;
		do
			size = SYS3(read, peer, &go, 1);
		while (size == -EINTR);
		if (size == 1) {
			close_fd(control_fd);
			close_fd(listener);
			control_fd = (int)peer;
			return 0;
		}
		close_fd((int)peer);
	}
}

/* Slots a to a + b - 1 become 3, 4, ... of the program, over files that nothing needs any more. */
OPERATION(op_keep_files)
{
	long result = SYS3(fcntl, control_fd, F_DUPFD_CLOEXEC, CONTROL_FD + op->b);

	if (result < 0)
		return result;
	control_fd = (int)result;
	for (u64 i = 0; i < op->b; i++) {
		result = SYS3(dup3, slot_of(op->a + i), CONTROL_FD + i, 0);
		if (result < 0)
			return result;
	}
	return 0;
}
