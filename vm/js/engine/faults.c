// SPDX-License-Identifier: MIT
/*
 * faults.c - SIGSEGV and SIGBUS: a page of a heap that has to come, an access outside of the sandbox or the end of its stack, which
 * are traps, and a page that cannot be read of a damaged image. And the stacks that threads have for it.
 *
 * Owns the process's two handlers; what is not its own goes on to those that were there before. They run on the thread
 * that made the access, at that instruction.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#include "state.h"

#define EXIT_UNREADABLE 74 /* EX_IOERR: a page of the heap could not be read from its image */
#define HEAP_ADDRESSES (JS_HEAP_MAX_BYTES + JS_HEAP_GUARD_BYTES)
#define HANDLER_STACK_BYTES (64u << 10)
#define HANDLER_STACK_LEAST (16u << 10) /* registers take up to 11 KiB of it */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static __thread bool prepared; /* this thread has a stack for signals */
static pthread_key_t thread_end;
static bool has_end;
static size_t page_bytes;
static atomic_bool ends_process; /* there was an engine that does not survive */

static void write_explanation(const char *line)
{
	const struct iovec parts[] = {
		{(void *)"thaw: ", 6}, {(void *)line, strlen(line)}, {(void *)"\n", 1}};

	/* A reader of stderr that reads nothing must not keep the process from ending. */
	if (poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, 1000) <= 0 ||
	    writev(STDERR_FILENO, parts, 3) < 0)
		return;
}

/*
 * Engines by the place of their heaps, for the handler: as many tables as there were ever needed, which stay. An engine is freed
 * only while nobody touches its heap.
 */
#define PLACES 64u
struct places {
	struct {
		_Atomic uintptr_t heap; /* 0: free; 1: it is being filled */
		_Atomic(struct js_engine *) engine;
	} of[PLACES];
	_Atomic(struct places *) next;
};
static struct places places;

static struct js_engine *engine_at(const char *address)
{
	for (struct places *table = &places; table; table = atomic_load(&table->next))
		for (unsigned i = 0; i < PLACES; i++) {
			uintptr_t heap = atomic_load(&table->of[i].heap);

			if (heap > 1 && (uintptr_t)address - heap < HEAP_ADDRESSES)
				return atomic_load(&table->of[i].engine);
		}
	return NULL;
}

/* The next one, which is made if there is none. NULL: no memory. */
static struct places *places_after(struct places *table)
{
	struct places *next = atomic_load(&table->next), *made;

	if (next)
		return next;
	made = calloc(1, sizeof(*made));
	if (!made || atomic_compare_exchange_strong(&table->next, &next, made))
		return made;
	free(made); /* another thread was faster */
	return next;
}

int engine_announce(struct js_engine *engine)
{
	if (!engine->host.survives) {
		atomic_store(&ends_process, true);
		return 0;
	}
	for (struct places *table = &places; table; table = places_after(table))
		for (unsigned i = 0; i < PLACES; i++) {
			uintptr_t none = 0;

			if (!atomic_compare_exchange_strong(&table->of[i].heap, &none, 1))
				continue;
			atomic_store(&table->of[i].engine, engine);
			atomic_store(&table->of[i].heap, (uintptr_t)thaw_base(engine->heap));
			return 0;
		}
	return -ENOMEM;
}

void engine_withdraw(struct js_engine *engine)
{
	for (struct places *table = &places; table; table = atomic_load(&table->next))
		for (unsigned i = 0; i < PLACES; i++)
			if (atomic_load(&table->of[i].engine) == engine) {
				atomic_store(&table->of[i].engine, NULL);
				atomic_store(&table->of[i].heap, 0);
			}
}

/* A page that cannot be read, for which the process ends. */
static _Noreturn void end_process(const char *line)
{
	write_explanation(line);
	_exit(EXIT_UNREADABLE);
}

static void note(struct js_engine *engine, const char *reason, bool damaged)
{
	if (engine->trap[0])
		return;
	engine->damaged = damaged;
	memccpy(engine->trap, reason, '\0', sizeof(engine->trap) - 1);
}

/*
 * The host's half of an engine, or a function of the host's between them, has touched the page: it goes on with zeros, and
 * finds that the engine has trapped before anybody sees them.
 */
static bool cover(const char *address)
{
	char *page = (char *)((uintptr_t)address & ~(uintptr_t)(page_bytes - 1));

	return mmap(page, page_bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page;
}

static struct sigaction before_segv, before_bus; /* what the process had */

/* Not ours: for who was there before, else the default action, so that the core dump shows where it came from. */
static void hand_on(int number, siginfo_t *info, void *context)
{
	const struct sigaction *before = number == SIGBUS ? &before_bus : &before_segv;

	if (before->sa_flags & SA_SIGINFO)
		return before->sa_sigaction(number, info, context);
	if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN)
		return before->sa_handler(number);
	signal(number, SIG_DFL);
	if (info->si_code <= 0) /* sent by a process: returning would not raise it again */
		raise(number);
}

/* Why the engine that this thread is in has to be left; NULL: it is about something else. */
static const char *reason_to_leave(const struct js_engine *engine, const char *address)
{
	const char *base = (const char *)engine->wasm.w2c_memory.data;

	if (vm_stack_is_guard(&engine->turn_stack, address) ||
	    vm_stack_is_guard(&engine->side_stack, address))
		return wasm_rt_strerror(WASM_RT_TRAP_EXHAUSTION);
	if ((size_t)(address - base) < HEAP_ADDRESSES)
		return wasm_rt_strerror(WASM_RT_TRAP_OOB);
	return NULL;
}

/* Did it serve, or end, an access that the kernel has raised the signal for? */
static bool settled(int number, const char *address, const ucontext_t *context)
{
	struct js_engine *engine = engine_current(), *owner;
	const char *reason = NULL;
	char line[512];
	bool damaged;

	if (number == SIGSEGV && thaw_handle_fault(address))
		return true;
	owner = engine_at(address);
	damaged = thaw_explain_fault(address, line, sizeof(line));
	/* Another copy of this, with engines of its own, may be in the process: its handler is one of those before. */
	if (damaged && !owner && !atomic_load(&ends_process))
		return false;
	if (damaged && !owner)
		end_process(line);
	if (owner && (owner != engine || !owner->running)) {
		note(owner, damaged ? line : wasm_rt_strerror(WASM_RT_TRAP_OOB), damaged);
		return cover(address);
	}
	if (damaged)
		reason = line;
	else if (engine && engine->landing)
		reason = reason_to_leave(engine, address);
	if (!reason)
		return false;
	note(engine, reason, damaged);
	pthread_sigmask(SIG_SETMASK, &context->uc_sigmask, NULL);
	engine_leave(engine);
}

/* SIGSEGV and SIGBUS, on a stack of its own. SIGSEGV may be a fault for a page of the heap. */
static void on_fault(int number, siginfo_t *info, void *context)
{
	int saved = errno;

	if ((info->si_code > 0 && settled(number, info->si_addr, context)) ||
	    (number == SIGSEGV && engine_alarm(info, context)))
		errno = saved;
	else
		hand_on(number, info, context);
}

/* ---- The stack for signals: a handler cannot run on one that has just overflowed ---- */

static void end_thread(void *mapping)
{
	const stack_t none = {.ss_flags = SS_DISABLE};
	stack_t now;

	if (!sigaltstack(NULL, &now) && now.ss_sp == mapping)
		sigaltstack(&none, NULL);
	munmap(mapping, HANDLER_STACK_BYTES);
	prepared = false;
}

static void install(void)
{
	struct sigaction action = {.sa_sigaction = on_fault,
				   .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};

	/*
	 * Other handlers touch the heap, too (js_poll_soon()): they wait until this one has its
	 * page.
	 */
	sigfillset(&action.sa_mask);
	page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	has_end = !pthread_key_create(&thread_end, end_thread); /* of which a process has 1,024 */
	sigaction(SIGSEGV, &action, &before_segv);
	sigaction(SIGBUS, &action, &before_bus);
}

int js_prepare_thread(void)
{
	stack_t stack;

	if (prepared)
		return 0;
	pthread_once(&once, install);
	if (!sigaltstack(NULL, &stack) && !(stack.ss_flags & SS_DISABLE) &&
	    stack.ss_size >= HANDLER_STACK_LEAST) {
		prepared = true; /* another runtime's, which has given it to this thread */
		return 0;
	}
	stack = (stack_t){.ss_size = HANDLER_STACK_BYTES};
	stack.ss_sp = mmap(NULL, HANDLER_STACK_BYTES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stack.ss_sp == MAP_FAILED)
		return -errno;
	if (sigaltstack(&stack, NULL) < 0 ||
	    (has_end && pthread_setspecific(thread_end, stack.ss_sp))) {
		end_thread(stack.ss_sp);
		return -ENOMEM;
	}
	prepared = true;
	return 0;
}
