/* SPDX-License-Identifier: MIT */
/*
 * capabilities.c - what the user is told about this kernel: what is available, since when and why not, and the
 * backends of each kind with what they cost. Opening a heap never calls it.
 *
 * Asks everything that probe.c knows to ask. Any thread.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "probe.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Each call fills both lists again, with the same values unless descriptors had run out. */
static pthread_mutex_t lists_lock = PTHREAD_MUTEX_INITIALIZER;

/*
 * Everything is asked before anything is explained: the meaning of one answer depends on the
 * others.
 */
static void ask_all(void)
{
	for (int question = 0; question < ASK_COUNT; question++)
		probe_ask((enum question)question);
}

static bool have_uffd(void)
{
	return !probe_ask(ASK_PRIVILEGED) || !probe_ask(ASK_DEVICE) || !probe_ask(ASK_USER_MODE);
}

static void tell(struct thaw_capability *capability, bool present, const char *why_not)
{
	capability->present = present;
	snprintf(capability->detail, sizeof(capability->detail), "%s", present ? "" : why_not);
}

int thaw_capabilities(const struct thaw_capability **list)
{
	static struct thaw_capability table[] = {
		{.name = "privileged-userfaultfd", .since = "4.3"},
		{.name = "dev-userfaultfd", .since = "6.1"},
		{.name = "user-mode", .since = "5.11"},
		{.name = "pagemap-scan", .since = "6.7"},
		{.name = "memfd", .since = "3.17"},
		{.name = "io_uring", .since = "5.1"},
		{.name = "kmod", .since = "6.1"},
		{.name = "wp", .since = WP_SINCE},
		{.name = "wp-async", .since = WP_ASYNC_SINCE},
		{.name = "poison", .since = "6.6"},
		{.name = "wp-unpopulated", .since = "6.4"},
	};
	static const enum question questions[] = {ASK_PRIVILEGED,   ASK_DEVICE, ASK_USER_MODE,
						  ASK_PAGEMAP_SCAN, ASK_MEMFD,	ASK_IO_URING,
						  ASK_KMOD};
	static const uint64_t features[] = {
		UFFD_FEATURE_PAGEFAULT_FLAG_WP,
		UFFD_FEATURE_WP_ASYNC,
		UFFD_FEATURE_POISON,
		UFFD_FEATURE_WP_UNPOPULATED,
	};
	struct thaw_capability *at = table;

	_Static_assert(COUNT(questions) + COUNT(features) == COUNT(table), "one row each");
	ask_all();
	pthread_mutex_lock(&lists_lock);
	for (unsigned i = 0; i < COUNT(questions); i++, at++) {
		int answer = probe_ask(questions[i]);

		tell(at, !answer, "");
		if (answer)
			probe_explain(questions[i], answer, at->detail, sizeof(at->detail));
	}
	for (unsigned i = 0; i < COUNT(features); i++, at++)
		tell(at, probe_has_features(features[i]),
		     probe_denies(at->name) || (strstr(at->name, "wp") && probe_denies("wp"))
			     ? "THAW_WITHOUT says so"
		     : have_uffd() ? "this kernel's userfaultfd lacks it"
				   : "there is no userfaultfd");
	pthread_mutex_unlock(&lists_lock);
	*list = table;
	return (int)COUNT(table);
}

/* Kind by kind, best first, in the order of the enums of probe.h. The costs are those of tests/bench. */
enum {
	AT_DELIVERY = 0,
	AT_TRACKER = AT_DELIVERY + 5,
	AT_BACKING = AT_TRACKER + 4,
	AT_READER = AT_BACKING + 3,
	AT_POISON = AT_READER + 2,
	AT_END = AT_POISON + 2,
};
static struct thaw_backend backend_table[] = {
	{"delivery", "kmod",
	 .cost = "a missing page is brought in where it is missed, without another thread"},
	{"delivery", "userfaultfd",
	 .cost = "a missing page is brought in for everyone, system calls included"},
	{"delivery", "user-mode",
	 .cost = "the same, but what a system call is handed is touched first"},
	{"delivery", "sigsegv",
	 .cost = "the same, and a page takes about 1.7 times as long to arrive"},
	{"delivery", "eager",
	 .cost = "the whole heap is read before the program goes on: about 0.9 s for each GiB"},
	{"tracker", "kmod",
	 .cost = "a first write is noted in a list; nothing is searched for what was written"},
	{"tracker", "wp-async", .cost = "the first write to a page takes about 1 us"},
	{"tracker", "wp-sync", .cost = "the first write to a page takes about 8 us"},
	{"tracker", "mprotect",
	 .cost = "the first write to a page takes about 9 us; of many, neighbours count as written"},
	{"backing", "kmod", .cost = "for kmod; also works with swap"},
	{"backing", "anonymous", .cost = "works with swap, and nothing else need be there"},
	{"backing", "memfd", .cost = "for sigsegv: a page is filled before the program sees it"},
	{"reader", "io_uring", .cost = "many reads are under way at once"},
	{"reader", "threads",
	 .cost = "about as fast; a read that waits for the disk takes a thread"},
	{"poison", "poison",
	 .cost = "who touches a page that cannot be read gets SIGBUS, and a line that says why"},
	{"poison", "PROT_NONE", .cost = "SIGSEGV in its place, and the same line"},
};
_Static_assert(COUNT(backend_table) == AT_END, "one row for each backend");

int thaw_backends(const struct thaw_backend **list, unsigned *count, struct thaw_error *error)
{
	struct backends chosen;
	int code = probe_choose(&chosen, false, error);
	bool uffd, wp, kmod;

	ask_all();
	uffd = have_uffd();
	kmod = !probe_ask(ASK_KMOD);
	wp = uffd && probe_has_features(UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	{
		const bool present[AT_END] = {
			kmod,
			!probe_ask(ASK_PRIVILEGED) || !probe_ask(ASK_DEVICE),
			!probe_ask(ASK_USER_MODE),
			!probe_ask(ASK_MEMFD),
			true,
			kmod,
			wp && !probe_wp_async_lacks(),
			wp,
			true,
			kmod,
			true,
			!probe_ask(ASK_MEMFD),
			!probe_ask(ASK_IO_URING),
			true,
			(kmod && !probe_denies("poison")) ||
				(uffd && probe_has_features(UFFD_FEATURE_POISON)),
			true,
		};

		pthread_mutex_lock(&lists_lock);
		for (unsigned i = 0; i < AT_END; i++) {
			backend_table[i].present = present[i];
			backend_table[i].used = false;
		}
		if (!code) {
			backend_table[AT_DELIVERY + chosen.delivery].used = true;
			backend_table[AT_TRACKER + chosen.tracker].used = true;
			backend_table[AT_BACKING + chosen.backing].used = true;
			backend_table[AT_READER + chosen.reader].used = true;
			backend_table[AT_POISON + !chosen.poison].used = true;
		}
		pthread_mutex_unlock(&lists_lock);
	}
	*list = backend_table;
	*count = AT_END;
	return code;
}
