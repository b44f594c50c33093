// SPDX-License-Identifier: MIT
/*
 * forks.c - where nobody is told of forks (without CAP_SYS_PTRACE), a child would read the pages that its restored parent
 * still misses as zeros. So all memory is kept from children at first (MADV_DONTFORK): one that is made by a system
 * call of the program's own, which nobody sees here, ends at once. Who forks by libc waits until everything is there, and
 * gives the memory back to children. vfork(2) and posix_spawn(3) copy none.
 *
 * fork(3) may be called in a signal handler: no libc here.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/mman.h>

#include "process/stub/output.h"
#include "process/stub/raw.h"
#include "process/stub/stub.h"

/* Reads `[start]-[end] ...`, line by line, whatever comes in one piece. */
struct lines {
	uint64_t numbers[2];
	unsigned at; /* of the numbers; 2: behind them */
};

static void give_back(uint64_t start, uint64_t end)
{
	if (end <= start || (start >= LOCAL_START && start < LOCAL_END))
		return;
	/* The kernel's own memory refuses it: it is none that is held. */
	raw_call(SYS_madvise, start, end - start, MADV_DOFORK, 0, 0, 0);
}

static void read_byte(struct lines *lines, char byte)
{
	uint64_t *number = &lines->numbers[lines->at < 2 ? lines->at : 0];

	if (byte == '\n') {
		*lines = (struct lines){0};
	} else if (lines->at == 2) {
		return;
	} else if (byte >= '0' && byte <= '9') {
		*number = *number << 4 | (uint64_t)(byte - '0');
	} else if (byte >= 'a' && byte <= 'f') {
		*number = *number << 4 | (uint64_t)(byte - 'a' + 10);
	} else if (++lines->at == 2) {
		give_back(lines->numbers[0], lines->numbers[1]);
	}
}

/* False: the list of mappings cannot be had (no descriptor is left). */
static bool give_all_back(void)
{
	int64_t fd = raw_call(SYS_open, (uintptr_t) "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0, 0,
			      0, 0),
		bytes;
	struct lines lines = {0};
	char text[1024];

	if (raw_failed(fd))
		return false;
	while ((bytes = raw_call(SYS_read, (uint64_t)fd, (uintptr_t)text, sizeof(text), 0, 0, 0)) >
	       0)
		for (int64_t i = 0; i < bytes; i++)
			read_byte(&lines, text[i]);
	raw_call(SYS_close, (uint64_t)fd, 0, 0, 0, 0, 0);
	return bytes == 0;
}

void stub_before_fork(void)
{
	struct control *control = CONTROL;
	uint32_t held;

	if (!stub_active())
		return;
	while ((held = __atomic_load_n(&control->held, __ATOMIC_SEQ_CST)) == HOLD_MISSING)
		raw_futex_wait(&control->held, HOLD_MISSING);
	if (held == HOLD_ARRIVED && give_all_back())
		__atomic_compare_exchange_n(&control->held, &held, HOLD_NONE, false,
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* fork(3) calls the handlers of pthread_atfork(3); this one does not. */
STUB_PUBLIC int _Fork(void)
{
	int pid;

	stub_before_fork();
	pid = stub_real()->fork();
	if (!pid)
		output_in_child();
	return pid;
}

STUB_PUBLIC int clone(int (*start)(void *), void *stack, int flags, void *argument, ...)
{
	bool vforks = (flags & (CLONE_VM | CLONE_VFORK | CLONE_FILES)) == (CLONE_VM | CLONE_VFORK);
	void *more[3];
	va_list rest;
	int pid;

	va_start(rest, argument);
	for (unsigned i = 0; i < 3; i++) /* as libc: whether they are there or not */
		more[i] = va_arg(rest, void *);
	va_end(rest);
	if (!(flags & CLONE_VM))
		stub_before_fork();
	else if (!(flags & (CLONE_FILES | CLONE_VFORK)))
		output_off(); /* who has this memory, and descriptors of its own */
	output_thread.vforked += vforks;
	pid = stub_real()->clone(start, stack, flags, argument, more[0], more[1], more[2]);
	output_thread.vforked -= vforks;
	return pid;
}

/*
 * The child has this thread's stack and thread-local storage, and is known by `vforked` while it has; the parent stands
 * still as long. The address to return to is kept in a register, as what is on the stack is the child's to overwrite.
 */
__asm__("	.text\n"
	"	.balign 16\n"
	"	.globl vfork, __vfork\n"
	"	.type vfork, @function\n"
	"	.type __vfork, @function\n"
	"vfork:\n"
	"__vfork:\n"
	"	pop %rdi\n"
	"	mov output_thread@gottpoff(%rip), %rsi\n"
	"	incl %fs:(%rsi)\n"
	"	mov $58, %eax\n" /* vfork */
	"	syscall\n"
	"	push %rdi\n"
	"	test %eax, %eax\n"
	"	jz 1f\n"
	"	decl %fs:(%rsi)\n"
	"	cmp $-4095, %rax\n"
	"	jae 2f\n"
	"1:	ret\n"
	"2:	neg %eax\n"
	"	mov %eax, %edi\n"
	"	jmp stub_vfork_failed\n"
	"	.size vfork, .-vfork\n");

__attribute__((used)) int stub_vfork_failed(int code);
int stub_vfork_failed(int code)
{
	errno = code;
	return -1;
}

/* A thread with descriptors of its own. */
STUB_PUBLIC int unshare(int flags)
{
	if (flags & CLONE_FILES && !output_thread.vforked)
		output_off();
	return stub_real()->unshare(flags);
}

/* The program's own wishes are about memory that is as it left it. */
STUB_PUBLIC int madvise(void *address, size_t bytes, int advice)
{
	if (advice == MADV_DONTFORK || advice == MADV_DOFORK)
		stub_before_fork();
	return stub_real()->madvise(address, bytes, advice);
}
