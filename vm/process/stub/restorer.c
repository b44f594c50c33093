// SPDX-License-Identifier: MIT
/*
 * restorer.c - the program that a restored guest is built in: at LOCAL_START, where no guest has anything, static,
 * without libc. Its threads are parked from birth; everything else is done by the supervisor, through calls.
 *
 *	restorer CONTROL SOCKET		numbers of descriptors
 *
 * All its memory that anything needs lies in [LOCAL_START, LOCAL_END): the stack and the vdso that the kernel gave
 * to it may go. It never ends by itself: each thread becomes one of the guest's (CALL_RESUME).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/mman.h>

#include "process/stub/executor.h"
#include "process/stub/gate.h"

#define CONTROL ((struct control *)CONTROL_ADDRESS)

/* Compilers call these by themselves. */
void *memcpy(void *to, const void *from, size_t bytes)
{
	raw_copy(to, from, bytes);
	return to;
}

void *memset(void *to, int byte, size_t bytes)
{
	void *at = to;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(byte) : "memory");
	return to;
}

static uint8_t restorer_stack[65536] __attribute__((aligned(16), used));

/* The program begins on the kernel's stack, and leaves it at once. */
__asm__(".globl _start\n"
	"_start:\n"
	"	mov %rsp, %rdi\n"
	"	lea restorer_stack+65536(%rip), %rsp\n"
	"	xor %ebp, %ebp\n"
	"	call restorer_main\n"
	"	hlt\n");

/* Parked for ever, or until a batch has CALL_RESUME. Where each thread begins. */
__attribute__((noreturn, used)) static void restorer_serve(uint64_t number)
{
	struct mailbox *mailbox = &CONTROL->mailboxes[number];

	mailbox->tid = (int32_t)raw_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
	mailbox->context = 0;
	for (;;) {
		executor_run(mailbox);
		while (__atomic_load_n(&mailbox->state, __ATOMIC_SEQ_CST) != MAILBOX_POSTED)
			raw_futex_wait(&mailbox->state, MAILBOX_PARKED);
	}
}

/* clone(2) or clone3(2), where the new thread begins on a stack without anything in it. */
static int64_t restorer_clone(int64_t call, uint64_t a, uint64_t b, uint64_t tid_address,
			      uint64_t thread_pointer, uint64_t number)
{
	register uint64_t r10 __asm__("r10") = tid_address;
	register uint64_t r8 __asm__("r8") = thread_pointer;
	register uint64_t r12 __asm__("r12") = number;
	int64_t result;

	__asm__ volatile("syscall\n"
			 "	test %%rax, %%rax\n"
			 "	jnz 1f\n"
			 "	xor %%ebp, %%ebp\n"
			 "	mov %%r12, %%rdi\n"
			 "	call restorer_serve\n"
			 "1:"
			 : "=a"(result)
			 : "a"(call), "D"(a), "S"(b), "d"(0ull), "r"(r10), "r"(r8), "r"(r12)
			 : "rcx", "r11", "memory");
	return result;
}

static int64_t restorer_thread(uint64_t flags, uint64_t stack, uint64_t tid_address,
			       uint64_t thread_pointer, uint64_t tid, uint64_t number)
{
	struct mailbox *mailbox;
	int32_t wanted = (int32_t)tid;
	int64_t result = -EINVAL;

	if (number >= CONTROL_THREADS)
		return -EINVAL;
	/* For the supervisor it is there from now on: remote_wait() returns when it has made this batch of none. */
	mailbox = &CONTROL->mailboxes[number];
	mailbox->count = 0;
	__atomic_store_n(&mailbox->state, MAILBOX_POSTED, __ATOMIC_SEQ_CST);
	stack &= ~15ull;
	if (wanted) {
		struct clone_args arguments = {.flags = flags,
					       .child_tid = tid_address,
					       .stack = stack - 4096,
					       .stack_size = 4096,
					       .tls = thread_pointer,
					       .set_tid = (uintptr_t)&wanted,
					       .set_tid_size = 1};

		result = restorer_clone(SYS_clone3, (uintptr_t)&arguments, sizeof(arguments), 0, 0,
					number);
	}
	/* The number is taken, or not ours to choose; or a filter knows no clone3(2). */
	if (raw_failed(result))
		result = restorer_clone(SYS_clone, flags, stack, tid_address, thread_pointer,
					number);
	if (raw_failed(result))
		__atomic_store_n(&mailbox->state, MAILBOX_FREE, __ATOMIC_SEQ_CST);
	return result;
}

/* rt_sigreturn(2) finds the frame by the stack pointer: behind the return address, which the handler has taken. */
__attribute__((noreturn)) static void restorer_resume(struct mailbox *mailbox, uint64_t context)
{
	__atomic_store_n(&mailbox->state, MAILBOX_FREE, __ATOMIC_SEQ_CST);
	raw_futex_wake(&mailbox->state);
	__asm__ volatile("mov %0, %%rsp\n"
			 "	mov %1, %%eax\n"
			 "	syscall\n"
			 "	hlt\n"
			 :
			 : "r"(context), "i"(SYS_rt_sigreturn)
			 : "memory");
	__builtin_unreachable();
}

int64_t executor_special(struct mailbox *mailbox, int64_t number, const uint64_t *arguments)
{
	if (number == CALL_CLONE)
		return restorer_thread(arguments[0], arguments[1], arguments[2], arguments[3],
				       arguments[4], arguments[5]);
	restorer_resume(mailbox, arguments[0]);
}

static int restorer_number(const char *text)
{
	int number = 0;

	while (*text >= '0' && *text <= '9')
		number = number * 10 + *text++ - '0';
	return number;
}

/* `start`: what the kernel gives to a program: argc, argv. */
__attribute__((noreturn, used)) static void restorer_main(uint64_t *start)
{
	char **arguments = (char **)(start + 1);
	uint64_t all = ~0ull;
	int control, socket;

	if (start[0] != 3)
		goto fail;
	control = restorer_number(arguments[1]);
	socket = restorer_number(arguments[2]);
	raw_call(SYS_rt_sigprocmask, SIG_SETMASK, (uintptr_t)&all, 0, 8, 0, 0);
	if (raw_call(SYS_mmap, CONTROL_ADDRESS, sizeof(struct control), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_FIXED_NOREPLACE, (uint64_t)control,
		     0) != (int64_t)CONTROL_ADDRESS)
		goto fail;
	if (CONTROL->magic != CONTROL_MAGIC || CONTROL->version != CONTROL_VERSION || gate_map())
		goto fail;
	raw_call(SYS_madvise, CONTROL_ADDRESS, sizeof(struct control), MADV_DONTFORK, 0, 0, 0);
	raw_call(SYS_close, (uint64_t)control, 0, 0, 0, 0, 0);
	raw_call(SYS_fcntl, (uint64_t)socket, F_SETFD, FD_CLOEXEC, 0, 0, 0);
	CONTROL->socket = socket;
	CONTROL->pid = (int32_t)raw_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
	__atomic_store_n(&CONTROL->started, 1, __ATOMIC_SEQ_CST);
	raw_futex_wake(&CONTROL->started);
	restorer_serve(0);
fail:
	for (;;)
		raw_call(SYS_exit_group, 70, 0, 0, 0, 0, 0);
}
