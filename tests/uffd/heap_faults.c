// SPDX-License-Identifier: GPL-2.0-only
/*
 * heap_faults.c - a heap whose allocations, opens and reads fail, one at a time, in whatever thread:
 * opening it or a checkpoint says so and succeeds the next time; a page that could not be got ends in a
 * fault that is explained, never in a wrong page; the service of faults goes on; and what was reported
 * durable is there afterwards. Writes and syncs: checkpoint_failure.c, and image_faults.c.
 *
 * Each run is a process of its own: two heaps one after the other, the second restored from the first
 * one's image. Memory is given back in full unless a fault ended the process.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <limits.h>
#include <sys/mman.h>

#include "faults.h"
#include "support.h"
#include "thaw.h"

#define PAGE 4096u
#define HEAP (256u << 10)
#define PAGES (HEAP / PAGE)

enum {			   /* how a child ends; 0: well */
       END_EXPLAINED = 50, /* by a fault that the library explains */
       END_WRONG = 1,
};

/* What the child tells while it runs, for it may not end well. */
static struct report {
	uint64_t durable, attempted; /* rounds */
	int fired;
	long calls[FAULT_KINDS];
	char wrong[600];
} * report;
static struct thaw *heap;

__attribute__((format(printf, 1, 2))) static _Noreturn void child_wrong(const char *format, ...)
{
	va_list arguments;

	counting = false;
	va_start(arguments, format);
	vsnprintf(report->wrong, sizeof(report->wrong), format, arguments);
	va_end(arguments);
	_exit(END_WRONG);
}

static void report_write(void)
{
	report->fired = fired;
	for (int kind = 0; kind < FAULT_KINDS; kind++)
		report->calls[kind] = calls[kind];
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
	char line[600];

	(void)context;
	if (signal == SIGSEGV && thaw_handle_fault(info->si_addr))
		return;
	report_write();
	if (!fired || !thaw_explain_fault(info->si_addr, line, sizeof(line)) || !strstr(line, path))
		_exit(END_WRONG);
	_exit(END_EXPLAINED);
}

static void on_fatal(void *arg, const struct thaw_error *error)
{
	(void)arg;
	report_write();
	child_wrong("the fault service ends: %s", error->text);
}

static void error_check(const char *doing, int code, const struct thaw_error *error,
			int fired_before)
{
	if (fired == fired_before)
		child_wrong("%s fails without a fault: %s", doing, error->text);
	if (code > 0 || code != error->code || !error->text[0] || strchr(error->text, '\n'))
		child_wrong("%s fails with %d, and its error is %d: %s", doing, code, error->code,
			    error->text);
}

static void heap_open(void)
{
	struct thaw_options options = {.image = path,
				       .flags = THAW_CREATE,
				       .max_bytes = 1u << 20,
				       .engine = "test",
				       .fatal = on_fatal};

	for (int tries = 0;; tries++) {
		struct thaw_error error = {0};
		int fired_before = fired, code = thaw_open(&options, &heap, &error);

		if (!code)
			return;
		error_check("thaw_open", code, &error, fired_before);
		if (tries > 2)
			child_wrong("it does not open any more: %s", error.text);
	}
}

/* Round r writes every third page, from page r % 3 on. */
static uint64_t page_wanted(unsigned page, uint64_t round)
{
	while (round && round % 3 != page % 3)
		round--;
	return round;
}

static void heap_write(uint64_t round)
{
	for (unsigned page = round % 3; page < PAGES; page += 3)
		((volatile uint64_t *)thaw_base(heap))[page * PAGE / 8] = round;
	for (int tries = 0;; tries++) {
		struct thaw_result result = {0};
		int fired_before = fired, code;

		report->attempted = round;
		code = thaw_checkpoint(heap, THAW_REASON_TIMER, &round, sizeof(round), &result);
		if (!code)
			break;
		error_check("thaw_checkpoint", code, &result.error, fired_before);
		if (tries > 2)
			child_wrong("checkpoints fail for ever: %s", result.error.text);
	}
	report->durable = round;
}

static void heap_check(uint64_t round)
{
	for (unsigned page = 0; page < PAGES; page++) {
		uint64_t is = ((volatile uint64_t *)thaw_base(heap))[page * PAGE / 8];

		if (is != page_wanted(page, round))
			child_wrong("page %u is of round %lu, not %lu", page, is,
				    page_wanted(page, round));
	}
}

static _Noreturn void child_main(void)
{
	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	const struct thaw_capability *list;

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	thaw_capabilities(&list); /* once per process, and kept */
	counting = tracking = true;
	heap_open();
	if (thaw_resize(heap, HEAP))
		child_wrong("it cannot grow");
	for (uint64_t round = 1; round <= 3; round++)
		heap_write(round);
	thaw_close(heap);
	heap_open();
	if (thaw_size(heap) != HEAP)
		child_wrong("it is restored with %zu bytes", thaw_size(heap));
	heap_check(3);
	heap_write(4);
	heap_check(4);
	thaw_close(heap);
	counting = tracking = false;
	report_write();
	if (outstanding || strangers)
		child_wrong("%ld pieces of memory are not given back, %ld twice", (long)outstanding,
			    (long)strangers);
	_exit(0);
}

FIXTURE(faults)
{
	int unused;
};
FIXTURE_VARIANT(faults)
{
	const char *without, *reader, *inject, *delivery, *tracker;
};
FIXTURE_VARIANT_ADD(faults, by_default){0};
FIXTURE_VARIANT_ADD(faults, without_poison){.without = "poison"};
/* As if the page cache had nothing of the image, so that the threads have something to do. */
FIXTURE_VARIANT_ADD(faults, with_threads){.reader = "threads", .inject = "cached:EAGAIN:0:0"};

FIXTURE_VARIANT_ADD(faults, mprotect){.tracker = "mprotect"};
FIXTURE_VARIANT_ADD(faults, sigsegv){.delivery = "sigsegv"};
FIXTURE_VARIANT_ADD(faults, eager){.delivery = "eager"};

FIXTURE_SETUP(faults)
{
	setenv("THAW_WITHOUT", variant->without ? variant->without : "", 1);
	setenv("THAW_DELIVERY", variant->delivery ? variant->delivery : "", 1);
	setenv("THAW_TRACKER", variant->tracker ? variant->tracker : "", 1);
	setenv("THAW_READER", variant->reader ? variant->reader : "", 1);
	setenv("THAW_INJECT", variant->inject ? variant->inject : "", 1);
	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	ASSERT_NE(MAP_FAILED, report);
	ASSERT_TRUE(directory_make());
}
FIXTURE_TEARDOWN(faults)
{
	EXPECT_TRUE(directory_remove()) TH_LOG("%s: %s", directory, strerror(errno));
}

/* What the child has left, with nothing failing any more. NULL: as it was reported, or one round newer. */
static const char *left_check(void)
{
	static char wrong[600];
	struct thaw_options options = {.image = path, .max_bytes = 1u << 20, .engine = "test"};
	struct thaw_error error;
	uint64_t round = 0;
	size_t bytes;

	if (!report->durable && access(path, F_OK))
		return NULL;
	if (thaw_image_verify(path, NULL, NULL, &error) || thaw_open(&options, &heap, &error)) {
		snprintf(wrong, sizeof(wrong), "%s", error.text);
		return wrong;
	}
	if (thaw_state(heap, &bytes))
		memcpy(&round, thaw_state(heap, &bytes), sizeof(round));
	wrong[0] = '\0';
	if (round < report->durable || round > report->attempted)
		snprintf(wrong, sizeof(wrong), "round %lu is there, %lu was durable", round,
			 report->durable);
	for (unsigned page = 0; round && page < PAGES && !wrong[0]; page++)
		if (((uint64_t *)thaw_base(heap))[page * PAGE / 8] != page_wanted(page, round))
			snprintf(wrong, sizeof(wrong), "page %u of round %lu is another", page,
				 round);
	thaw_close(heap);
	return wrong[0] ? wrong : NULL;
}

static void every(struct __test_metadata *_metadata, struct fault wanted, long least)
{
	long runs = 0, explained = 0;

	for (wanted.at = 0;; wanted.at++, runs++) {
		const char *wrong;
		int status;
		pid_t child;

		memset(report, 0, sizeof(*report));
		unlink(path);
		fault = wanted;
		child = fork();
		if (!child)
			child_main();
		ASSERT_EQ(child, waitpid(child, &status, 0));
		fault.kind = FAULT_NONE;
		ASSERT_TRUE(WIFEXITED(status) &&
			    (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == END_EXPLAINED))
		TH_LOG("call %ld: status %#x: %s", wanted.at, status, report->wrong);
		explained += WEXITSTATUS(status) == END_EXPLAINED;
		wrong = left_check();
		ASSERT_EQ(NULL, wrong) TH_LOG("call %ld: %s", wanted.at, wrong);
		/* Threads do not make the same calls each time: the last ones may be missed by a few. */
		if (!report->fired)
			break;
	}
	TH_LOG("%ld calls failed, %ld of them ended in an explained fault", runs, explained);
	ASSERT_LE(least, runs);
}

TEST_F(faults, every_allocation)
{
	every(_metadata, (struct fault){FAULT_ALLOCATION, .count = 1, .error = ENOMEM}, 30);
}

TEST_F(faults, every_open)
{
	every(_metadata, (struct fault){FAULT_OPEN, .count = 1, .error = EMFILE}, 3);
}

TEST_F(faults, every_read)
{
	every(_metadata, (struct fault){FAULT_READ, .count = 1, .error = EIO}, 20);
}

TEST_F(faults, every_sync)
{
	every(_metadata, (struct fault){FAULT_SYNC, .count = 1, .error = EIO}, 8);
}

TEST_HARNESS_MAIN
