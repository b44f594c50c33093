/* SPDX-License-Identifier: MIT */
/*
 * segfault.c - see segfault.h. A touch of the restored part that has not arrived is handed to the fault service, and the
 * handler waits for it; a write to a page that is watched is noted here and let happen, and so is one to a page that a
 * capture still needs, once that has it. Then the instruction is tried again.
 *
 * Runs on whichever thread touched the region, at that very instruction, with every signal blocked. So it may take the
 * tracker's lock, which nobody holds while touching a region. Must never touch a region itself, nor allocate.
 *
 * The handler is installed when the first heap needs it, and stays; what it does not serve goes on to the handler
 * that was there before. A program that installs its own later calls thaw_handle_fault() in it.
 */
#define _GNU_SOURCE
#include "segfault.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#define TABLE_HEAPS 64u

/* The open heaps: one table after the other, as many as there were ever needed, which stay. */
struct table {
	_Atomic(const struct watched *) heaps[TABLE_HEAPS];
	_Atomic(struct table *) next;
};

static struct table open_heaps;
static pthread_once_t handler_once = PTHREAD_ONCE_INIT;
static struct sigaction before;

static const struct watched *owner_of(const void *address)
{
	for (struct table *table = &open_heaps; table; table = atomic_load(&table->next))
		for (unsigned i = 0; i < TABLE_HEAPS; i++) {
			const struct watched *watched = atomic_load(&table->heaps[i]);

			if (watched && region_contains(watched->region, address))
				return watched;
		}
	return NULL;
}

const struct region *segfault_region(const void *address)
{
	const struct watched *watched = owner_of(address);

	return watched ? watched->region : NULL;
}

static _Noreturn void cannot_protect(const struct watched *watched, int code)
{
	struct thaw_error error;

	error_set(&error, code, "cannot change the protection of the heap's pages: %s%s",
		  thaw_strerror(code), code == -ENOMEM ? " (see vm.max_map_count)" : "");
	if (watched->fatal)
		watched->fatal(watched->fatal_arg, &error);
	abort();
}

/*
 * A write that was allowed already, perhaps by another thread just now. If nothing has been since the same was found last on
 * this thread, the fault is about something else, and would come for ever.
 */
static bool try_again(const struct watched *watched)
{
	static __thread uint64_t seen __attribute__((tls_model("initial-exec")));
	uint64_t changes = 1 + atomic_load(&watched->tracker->changes) +
			   (watched->preserver ? atomic_load(&watched->preserver->changes) : 0);
	bool again = seen == changes;

	seen = changes;
	return !again;
}

bool segfault_handle(const void *address)
{
	const struct watched *watched = owner_of(address);
	const struct region *region;
	uint64_t page;
	int code;

	if (!watched)
		return false;
	region = watched->region;
	page = region_page(region, address);
	if (page >= region_bytes(region) / region->page_bytes)
		return false;
	if (region->backends.tracker == TRACKER_MPROTECT)
		code = tracker_mprotect_note(watched->tracker, page);
	else if (watched->preserver && watched->preserver->shields)
		code = preserver_open(watched->preserver, page);
	else
		return false;
	if (code == -ENOENT) /* has not arrived, or never will */
		return watched->service && fault_service_fetch(watched->service, page);
	if (code < 0)
		cannot_protect(watched, code);
	return !code || try_again(watched);
}

bool segfault_explain(const void *address, char *line, size_t line_bytes)
{
	const struct watched *watched = owner_of(address);

	return watched && watched->service &&
	       fault_service_explain(watched->service, region_page(watched->region, address), line,
				     line_bytes);
}

static void on_segfault(int number, siginfo_t *info, void *context)
{
	int saved = errno;
	/* Raised by the kernel, for an address. */
	bool served = info->si_code > 0 && segfault_handle(info->si_addr);

	errno = saved;
	if (served)
		return;
	if (before.sa_flags & SA_SIGINFO) {
		before.sa_sigaction(number, info, context);
	} else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
		before.sa_handler(number);
	} else {
		/* As if there were no handler: the fault is raised again, and ends the process. */
		signal(number, SIG_DFL);
		if (info->si_code <= 0)
			raise(number);
	}
}

static void handler_install(void)
{
	struct sigaction action = {.sa_sigaction = on_segfault,
				   .sa_flags = SA_SIGINFO | SA_ONSTACK};

	/*
	 * A handler of the program must not run in the middle of this one: it may access a region.
	 */
	sigfillset(&action.sa_mask);
	/* Cannot fail: the signal is one that can be caught. */
	sigaction(SIGSEGV, NULL, &before);
	sigaction(SIGSEGV, &action, NULL);
}

/* The next one, which is made if there is none. NULL: no memory. */
static struct table *table_after(struct table *table)
{
	struct table *next = atomic_load(&table->next), *made;

	if (next)
		return next;
	made = calloc(1, sizeof(*made));
	if (!made || atomic_compare_exchange_strong(&table->next, &next, made))
		return made;
	free(made); /* another thread was faster */
	return next;
}

int segfault_watch(const struct watched *watched)
{
	if (watched->region->backends.tracker == TRACKER_MPROTECT ||
	    (watched->preserver && watched->preserver->shields))
		pthread_once(&handler_once, handler_install);
	for (struct table *table = &open_heaps; table; table = table_after(table))
		for (unsigned i = 0; i < TABLE_HEAPS; i++) {
			const struct watched *none = NULL;

			if (atomic_compare_exchange_strong(&table->heaps[i], &none, watched))
				return 0;
		}
	return -ENOMEM;
}

void segfault_unwatch(const struct watched *watched)
{
	for (struct table *table = &open_heaps; table; table = atomic_load(&table->next))
		for (unsigned i = 0; i < TABLE_HEAPS; i++) {
			const struct watched *expected = watched;

			atomic_compare_exchange_strong(&table->heaps[i], &expected, NULL);
		}
}
