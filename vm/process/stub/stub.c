// SPDX-License-Identifier: MIT
/*
 * stub.c - what is preloaded into a program: the handler of CONTROL_SIGNAL, which parks its thread, and the start.
 *
 * The handler runs on any thread of the guest at any instant, with all signals blocked: no libc, no errno, no
 * thread-local storage, no locks, little stack. A thread that goes on in a restored process never returns from the
 * handler: the restorer returns to the handler's frame for it. So what it has on its stack is of no use there.
 *
 * The start is a constructor of the program's, before main(): it may use libc.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <ucontext.h>
#include <unistd.h>

#include "process/stub/executor.h"
#include "process/stub/gate.h"
#include "process/stub/output.h"
#include "process/stub/stub.h"

#define KERNEL_SA_RESTORER 0x04000000u

struct stub_memory stub_memory;

/* A page that is empty in a forked child, in which there is no control block (MADV_WIPEONFORK). */
struct stub_local {
	bool active;
};
static struct stub_local *stub_local;

typedef void stub_handler_type(int number, siginfo_t *info, void *context);
static stub_handler_type *stub_next; /* libc's handler of the same signal; NULL: none yet */

struct kernel_sigaction {
	void *handler;
	uint64_t flags;
	void *restorer;
	uint64_t mask;
};

/*
 * Where the handler returns to: the very instructions by which unwinders know the frame of a signal. The nop keeps the
 * address before them, which they look up, out of any function.
 */
void stub_return(void) __attribute__((visibility("hidden")));
__asm__("	.text\n"
	"	.balign 16\n"
	"	nop\n"
	"	.globl stub_return\n"
	"	.hidden stub_return\n"
	"stub_return:\n"
	"	mov $15, %rax\n"
	"	syscall\n");

bool stub_active(void)
{
	return stub_local && stub_local->active;
}

const struct stub_real *stub_real(void)
{
	static struct stub_real real;
	static bool found;

	if (!found) {
#define FIND(name) real.name = (__typeof__(real.name))dlsym(RTLD_NEXT, #name)
		FIND(close);
		FIND(pthread_cancel);
		FIND(pthread_kill);
		FIND(pthread_sigqueue);
		FIND(pthread_setaffinity_np);
		FIND(pthread_getaffinity_np);
		FIND(pthread_getcpuclockid);
		FIND(wait4);
		FIND(waitid);
		FIND(execve);
		FIND(execvpe);
		FIND(fexecve);
		FIND(clone);
		FIND(madvise);
		FIND(write);
		FIND(writev);
		FIND(send);
		FIND(sendto);
		FIND(sendmsg);
		FIND(unshare);
#undef FIND
		real.fork = (__typeof__(real.fork))dlsym(RTLD_NEXT, "_Fork"); /* glibc 2.34 */
		__atomic_store_n(&found, true, __ATOMIC_RELEASE);
	}
	return &real;
}

/* ---- The handler */

int64_t executor_special(struct mailbox *mailbox, int64_t number, const uint64_t *arguments)
{
	(void)mailbox, (void)number, (void)arguments;
	return -ENOSYS; /* the restorer's */
}

/*
 * The call that the stop has interrupted would be made again. Would one of the program's signals have ended it, and is
 * that waiting now? Then it has: its handler runs, and -EINTR is what the call returns.
 */
static void stub_notice(struct stub_restart *restart, ucontext_t *context)
{
	uint64_t pending = 0;

	if (!restart->signals)
		return;
	raw_call(SYS_rt_sigpending, (uintptr_t)&pending, 8, 0, 0, 0, 0);
	if (pending & restart->signals) {
		context->uc_mcontext.gregs[REG_RIP] += 2; /* behind the instruction `syscall` */
		context->uc_mcontext.gregs[REG_RAX] = -EINTR;
	}
	restart->signals = 0;
}

/* A mailbox in the stop that goes on now, and its number. -1: none goes on, or all are taken. */
static int32_t stub_take_place(struct control *control, uint32_t *stop)
{
	uint64_t seen = __atomic_load_n(&control->places, __ATOMIC_SEQ_CST);

	do
		if (seen & PLACES_CLOSED || (uint32_t)seen >= CONTROL_THREADS)
			return -1; /* the supervisor sees that it does not park */
	while (!__atomic_compare_exchange_n(&control->places, &seen, seen + 1, false,
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	*stop = (uint32_t)(seen >> 32);
	return (int32_t)seen;
}

/* Parked, until this stop is over. False: there is none. */
static bool stub_park(struct control *control, void *context)
{
	uint32_t stop, parked;
	int32_t number = stub_take_place(control, &stop);
	struct mailbox *mailbox = &control->mailboxes[number];

	if (number < 0)
		return false;
	mailbox->tid = (int32_t)raw_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
	mailbox->context = (uintptr_t)context;
	mailbox->count = 0;
	__atomic_store_n(&mailbox->state, MAILBOX_PARKED, __ATOMIC_SEQ_CST);
	parked = __atomic_add_fetch(&control->parked, 1, __ATOMIC_SEQ_CST);
	if (parked >= __atomic_load_n(&control->awaited, __ATOMIC_SEQ_CST))
		raw_futex_wake(&control->parked);
	/*
	 * `released` comes before the state that wakes this thread. It waits for a change of the state it is in, so a
	 * change between the two looks is not lost.
	 */
	while ((int32_t)(__atomic_load_n(&control->released, __ATOMIC_SEQ_CST) - stop) < 0)
		if (__atomic_load_n(&mailbox->state, __ATOMIC_SEQ_CST) == MAILBOX_POSTED)
			executor_run(mailbox);
		else
			raw_futex_wait(&mailbox->state, MAILBOX_PARKED);
	stub_notice(&stub_memory.scratch[number], context);
	/* A program that has changed its user, or this, does not outlive the supervisor, either. */
	if (mailbox->tid == control->pid)
		raw_call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, 0);
	if (!__atomic_sub_fetch(&control->parked, 1, __ATOMIC_SEQ_CST))
		raw_futex_wake(&control->parked);
	/* From here on the mailbox may be another thread's: no stop begins before that. */
	__atomic_store_n(&mailbox->state, MAILBOX_LEFT, __ATOMIC_SEQ_CST);
	return true;
}

/* In another program: of the threads of the one before, who may have been parked, there is none. */
static void stub_leave_all(struct control *control)
{
	uint64_t places = __atomic_load_n(&control->places, __ATOMIC_SEQ_CST);

	__atomic_store_n(&control->parked, 0, __ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < (places & ~PLACES_CLOSED & UINT32_MAX) && i < CONTROL_THREADS; i++)
		__atomic_store_n(&control->mailboxes[i].state, MAILBOX_LEFT, __ATOMIC_SEQ_CST);
}

/* Sent by libc, in this process (pthread_cancel)? */
static bool stub_is_libcs(const siginfo_t *info)
{
	return stub_next && info->si_code == SI_TKILL &&
	       info->si_pid == (pid_t)raw_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

/* The supervisor asks again where a thread does not park: none of that is left over when it goes on. */
static bool stub_drain(siginfo_t *libcs)
{
	uint64_t set = 1ull << (CONTROL_SIGNAL - 1);
	struct timespec none = {0};
	bool found = false;
	siginfo_t info;

	while (raw_call(SYS_rt_sigtimedwait, (uintptr_t)&set, (uintptr_t)&info, (uintptr_t)&none, 8,
			0, 0) == CONTROL_SIGNAL)
		if (stub_is_libcs(&info)) {
			raw_copy(libcs, &info, sizeof(info));
			found = true;
		}
	return found;
}

static void stub_handler(int number, siginfo_t *info, void *context)
{
	bool active = stub_active(), libcs = stub_is_libcs(info);
	struct control *control = CONTROL;
	siginfo_t drained;

	/* What is drained may have been meant for a stop that has begun since: that one is looked for, too. */
	while (active && stub_park(control, context))
		if (stub_drain(&drained)) {
			info = &drained;
			libcs = true;
		}
	if (!libcs)
		return;
	/* It does not return where it cancels the thread, which should run on with the signals that it had. */
	raw_call(SYS_rt_sigprocmask, SIG_SETMASK, (uintptr_t) & ((ucontext_t *)context)->uc_sigmask,
		 0, 8, 0, 0);
	stub_next(number, info, context);
}

static int stub_set_handler(void)
{
	struct kernel_sigaction action = {.handler = (void *)stub_handler,
					  .flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK |
						   KERNEL_SA_RESTORER,
					  .restorer = (void *)stub_return,
					  .mask = ~0ull};

	return (int)raw_call(SYS_rt_sigaction, CONTROL_SIGNAL, (uintptr_t)&action, 0, 8, 0, 0);
}

void stub_take_back_signal(void)
{
	struct kernel_sigaction action = {0};

	if (!stub_active() ||
	    raw_call(SYS_rt_sigaction, CONTROL_SIGNAL, 0, (uintptr_t)&action, 8, 0, 0) ||
	    action.handler == (void *)stub_handler)
		return;
	stub_next = (stub_handler_type *)action.handler;
	stub_set_handler();
}

/* ---- The start */

#define VARIABLE "THAW_STUB="
#define PRELOAD "LD_PRELOAD="

/* The variable of ours is removed, with its text, which /proc/PID/environ shows. */
static void stub_remove(char **entry)
{
	memset(*entry, 0, strlen(*entry));
	do
		entry[0] = entry[1];
	while (*entry++);
}

/* The program's environment without us: a user's own LD_PRELOAD, which we came before, is as it was. */
static void stub_clean_environment(void)
{
	for (char **entry = environ; entry && *entry;) {
		if (!strncmp(*entry, VARIABLE, strlen(VARIABLE))) {
			stub_remove(entry);
			continue;
		}
		if (!strncmp(*entry, PRELOAD "/proc/self/fd/", strlen(PRELOAD "/proc/self/fd/"))) {
			char *value = *entry + strlen(PRELOAD), *users = strchr(value, ':');
			size_t left = users ? strlen(users + 1) : 0;

			if (!users) {
				stub_remove(entry);
				continue;
			}
			memmove(value, users + 1, left);
			memset(value + left, 0, (size_t)(users + 1 - value));
		}
		entry++;
	}
}

/* glibc's area of restartable sequences, which each thread has to register again in a new process. */
static void stub_find_rseq(void)
{
	const unsigned *bytes = dlsym(RTLD_DEFAULT, "__rseq_size");
	const ptrdiff_t *offset = dlsym(RTLD_DEFAULT, "__rseq_offset");

	if (!bytes || !offset || !*bytes)
		return;
	/* Since glibc 2.40 the size is of what the kernel fills; what is registered has at least 32 bytes. */
	stub_memory.rseq_bytes = *bytes < 32 ? 32 : *bytes;
	stub_memory.rseq_offset = *offset;
}

/* A forked child is an ordinary process. What it has of ours it closes; it is all close-on-exec in any case. */
static void stub_in_child(void)
{
	output_in_child();
	if (stub_memory.socket >= 0)
		gate_call(SYS_close, (uint64_t)stub_memory.socket, 0, 0, 0, 0, 0);
	if (stub_memory.uffd >= 0)
		gate_call(SYS_close, (uint64_t)stub_memory.uffd, 0, 0, 0, 0, 0);
	stub_memory.socket = stub_memory.uffd = -1;
}

static int stub_set_up(int socket)
{
	int result;

	stub_local = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stub_local == MAP_FAILED || madvise(stub_local, 4096, MADV_WIPEONFORK)) {
		stub_local = NULL;
		return -errno;
	}
	result = stub_set_handler();
	if (result)
		return result;
	if (fcntl(socket, F_SETFD, FD_CLOEXEC))
		return -errno;
	stub_memory.magic = CONTROL_MAGIC;
	stub_memory.version = CONTROL_VERSION;
	stub_memory.socket = socket;
	stub_memory.uffd = -1;
	stub_memory.remembered_pid = (int32_t)raw_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
	stub_find_rseq();
	stub_find_tid();
	stub_real();
	output_set_up();
	pthread_atfork(stub_before_fork, NULL, stub_in_child);
	stub_memory.local = (uintptr_t)stub_local;
	stub_local->active = true;
	return 0;
}

/* The supervisor asks for the first stop before it starts the program: it begins parked. */
static void stub_begin_parked(void)
{
	siginfo_t info = {.si_signo = CONTROL_SIGNAL, .si_code = SI_QUEUE};
	int64_t pid = raw_call(SYS_getpid, 0, 0, 0, 0, 0, 0);

	raw_call(SYS_rt_tgsigqueueinfo, (uint64_t)pid,
		 (uint64_t)raw_call(SYS_gettid, 0, 0, 0, 0, 0, 0), CONTROL_SIGNAL, (uintptr_t)&info,
		 0, 0);
}

__attribute__((constructor)) static void stub_start(void)
{
	const char *text = getenv("THAW_STUB");
	uint64_t set = 1ull << (CONTROL_SIGNAL - 1);
	int fd, socket, stub, result;
	struct control *control;
	uint32_t executed;

	if (!text || sscanf(text, "%d:%d:%d", &fd, &socket, &stub) != 3)
		return;
	stub_clean_environment();
	close(stub);
	control = mmap(CONTROL, sizeof(struct control), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
	result = control == CONTROL ? (int)gate_map() : -errno;
	if (control != CONTROL) /* to say so */
		control = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			       0);
	close(fd);
	if (control == MAP_FAILED || control->magic != CONTROL_MAGIC ||
	    control->version != CONTROL_VERSION)
		return;
	madvise(control, sizeof(struct control), MADV_DONTFORK);
	/* What a program before this one had noted of descriptors is void; the supervisor turns it on again. */
	__atomic_store_n(&control->output.token, 0, __ATOMIC_SEQ_CST);
	if (!result)
		result = stub_set_up(socket);
	executed = __atomic_load_n(&control->started, __ATOMIC_SEQ_CST);
	control->socket = socket;
	control->pid = (int32_t)raw_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
	control->stub = (uintptr_t)&stub_memory;
	control->start_error = result;
	if (result)
		snprintf(control->start_text, sizeof(control->start_text), "%s",
			 control == CONTROL ? "the handler of a signal cannot be installed"
					    : "its address is taken");
	__atomic_store_n(&control->started, result ? 2 : 1, __ATOMIC_SEQ_CST);
	raw_futex_wake(&control->started);
	if (result)
		return;
	if (!executed) {
		stub_begin_parked();
		return;
	}
	/* See execute.c: who has executed this program has blocked the signal. */
	stub_leave_all(control);
	__atomic_add_fetch(&control->executions, 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(&control->executing, 0, __ATOMIC_SEQ_CST);
	raw_call(SYS_rt_sigprocmask, SIG_UNBLOCK, (uintptr_t)&set, 0, 8, 0, 0);
	stub_wait_for_supervisor();
}
