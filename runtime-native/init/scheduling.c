/* Processors, memory nodes and disks: how the kernel shares them with the process. */
#include "init.h"

#define IOPRIO_WHO_PROCESS 1
#define BITS_PER_BYTE 8

OPERATION(op_io_priority)
{
	return SYS3(ioprio_set, IOPRIO_WHO_PROCESS, 0, op->a);
}

OPERATION(op_scheduler)
{
	return SYS3(sched_setattr, 0, text_of(op, 0), 0);
}

OPERATION(op_cpu_affinity)
{
	long result = SYS3(sched_setaffinity, 0, op->a, text_of(op, 0));

	return result < 0 ? result : 0;
}

/* The kernel takes one bit less than it is told. */
OPERATION(op_memory_policy)
{
	return SYS3(set_mempolicy, op->b, text_of(op, 0), op->a * BITS_PER_BYTE + 1);
}
