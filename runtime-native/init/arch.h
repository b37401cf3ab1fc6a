/* What differs between processors: how to call the kernel, and the first instructions of the program. */
#ifndef GANTRY_INIT_ARCH_H
#define GANTRY_INIT_ARCH_H

#if defined(__x86_64__)

static inline long syscall6(long number, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

#define ENTRY_POINT                                                                                                    \
	__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tand $-16, %rsp\n\tcall init_main\n\tud2\n")

#elif defined(__aarch64__)

static inline long syscall6(long number, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
}

#define ENTRY_POINT __asm__(".globl _start\n_start:\n\tmov x29, #0\n\tmov x30, #0\n\tbl init_main\n\tbrk #1\n")

#else
#error "init has no system call stub for this processor"
#endif

#define SYS0(n) syscall6(__NR_##n, 0, 0, 0, 0, 0, 0)
#define SYS1(n, a) syscall6(__NR_##n, (long)(a), 0, 0, 0, 0, 0)
#define SYS2(n, a, b) syscall6(__NR_##n, (long)(a), (long)(b), 0, 0, 0, 0)
#define SYS3(n, a, b, c) syscall6(__NR_##n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define SYS4(n, a, b, c, d) syscall6(__NR_##n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define SYS5(n, a, b, c, d, e) syscall6(__NR_##n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define SYS6(n, a, b, c, d, e, f) syscall6(__NR_##n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

#endif
