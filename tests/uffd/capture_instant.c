// SPDX-License-Identifier: GPL-2.0-only
/*
 * A generation is what the heap was at the instant of its capture, whoever writes how much afterwards, on every rung: threads
 * write all the time but at that instant, when what the heap should hold is noted beside it. Also where memory for copies is
 * scarce, where checkpoints fail half way, and for system calls that are handed memory after thaw_touch().
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "in_memory.h"
#include "support.h"
#include "thaw.h"

#define HEAP ((size_t)12 << 20)
#define PAGE 4096u
#define PAGES (HEAP / PAGE)
#define WRITERS 2
#define SHARES (WRITERS + 1) /* the owner writes, too */
#define ROUNDS 4

FIXTURE(capture)
{
	char *directory, *path;
	struct thaw_error error;
	struct thaw *heap;
	/* Writers hold it while they write; the owner, alone, at the instant. */
	pthread_rwlock_t instant;
	pthread_t threads[WRITERS];
	_Atomic bool stop;
	_Atomic unsigned started;
	uint64_t now[PAGES], then[PAGES]; /* what is in each page; what was at the instant */
};
FIXTURE_VARIANT(capture)
{
	const char *tracker, *delivery, *page_bytes;
	unsigned flags;
	size_t copy_bytes;
	const char *inject;
	bool fails;
};
FIXTURE_VARIANT_ADD(capture, wp_async){.tracker = "wp-async"};
FIXTURE_VARIANT_ADD(capture, wp_async_touches){.tracker = "wp-async", .flags = THAW_TOUCHES};
FIXTURE_VARIANT_ADD(capture, wp_async_touches_bound){
	.tracker = "wp-async", .flags = THAW_TOUCHES, .copy_bytes = 1};
FIXTURE_VARIANT_ADD(capture, wp_async_touches_pages_of_16_kib){
	.tracker = "wp-async", .flags = THAW_TOUCHES, .page_bytes = "16384"};
FIXTURE_VARIANT_ADD(capture, wp_sync){.tracker = "wp-sync"};
FIXTURE_VARIANT_ADD(capture, wp_sync_bound){.tracker = "wp-sync", .copy_bytes = 1};
FIXTURE_VARIANT_ADD(capture, mprotect){.tracker = "mprotect"};
FIXTURE_VARIANT_ADD(capture, mprotect_bound){.tracker = "mprotect", .copy_bytes = 1};
FIXTURE_VARIANT_ADD(capture, mprotect_sigsegv){.tracker = "mprotect", .delivery = "sigsegv"};
FIXTURE_VARIANT_ADD(capture, kmod_touches){.tracker = "kmod", .flags = THAW_TOUCHES};
FIXTURE_VARIANT_ADD(capture, wp_async_touches_disk_full){
	.tracker = "wp-async", .flags = THAW_TOUCHES, .inject = "write:ENOSPC:8:4", .fails = true};
FIXTURE_VARIANT_ADD(capture, wp_async_touches_disk_full_bound){.tracker = "wp-async",
							       .flags = THAW_TOUCHES,
							       .copy_bytes = 1,
							       .inject = "write:ENOSPC:8:4",
							       .fails = true};
FIXTURE_VARIANT_ADD(capture, wp_async_touches_no_mappings){
	.tracker = "wp-async", .flags = THAW_TOUCHES, .inject = "mprotect:ENOMEM:8:3"};
FIXTURE_VARIANT_ADD(capture, wp_sync_disk_full){
	.tracker = "wp-sync", .inject = "write:ENOSPC:8:4", .fails = true};
FIXTURE_VARIANT_ADD(capture, mprotect_disk_full){
	.tracker = "mprotect", .inject = "write:ENOSPC:8:4", .fails = true};

static int open_heap(struct thaw **heap, const char *path, unsigned flags, size_t copy_bytes,
		     struct thaw_error *error)
{
	struct thaw_options options = {.image = path,
				       .flags = THAW_CREATE | flags,
				       .max_bytes = 2 * HEAP,
				       .retain = 3,
				       .copy_bytes = copy_bytes,
				       .engine = "test"};

	return thaw_open(&options, heap, error);
}

FIXTURE_SETUP(capture)
{
	pthread_rwlockattr_t fair;

	self->directory = support_format("%s/thaw-XXXXXX", in_memory());
	ASSERT_NE(NULL, mkdtemp(self->directory));
	self->path = support_format("%s/heap.thaw", self->directory);
	setenv("THAW_TRACKER", variant->tracker, 1);
	if (variant->delivery)
		setenv("THAW_DELIVERY", variant->delivery, 1);
	if (variant->page_bytes)
		setenv("THAW_PAGE_BYTES", variant->page_bytes, 1);
	if (variant->inject)
		setenv("THAW_INJECT", variant->inject, 1);
	pthread_rwlockattr_init(&fair);
	pthread_rwlockattr_setkind_np(&fair, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&self->instant, &fair);
	if (open_heap(&self->heap, self->path, variant->flags, variant->copy_bytes, &self->error))
		SKIP(return, "%s", self->error.text);
	ASSERT_EQ(0, thaw_resize(self->heap, HEAP));
}
FIXTURE_TEARDOWN(capture)
{
	thaw_close(self->heap);
	support_remove(self->directory);
	free(self->path);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

/* At both ends of the page, and in between: a copy that is half of one instant has two values. */
static void page_write(struct _test_data_capture *self, unsigned page, uint64_t value)
{
	uint64_t *at = (uint64_t *)((char *)thaw_base(self->heap) + (size_t)page * PAGE);

	at[0] = at[PAGE / 16] = at[PAGE / 8 - 1] = value;
	self->now[page] = value;
}

static void share_write(struct _test_data_capture *self, unsigned share, uint64_t *random,
			unsigned count)
{
	while (count--) {
		unsigned page = (unsigned)(next_random(random) % (PAGES / SHARES));

		page_write(self, page * SHARES + share, *random);
	}
}

struct writer {
	struct _test_data_capture *self;
	unsigned share;
};

static void *writer_main(void *arg)
{
	struct writer *writer = arg;
	struct _test_data_capture *self = writer->self;
	uint64_t random = writer->share + 99;

	atomic_fetch_add(&self->started, 1);
	while (!atomic_load(&self->stop)) {
		pthread_rwlock_rdlock(&self->instant);
		share_write(self, writer->share, &random, 64);
		pthread_rwlock_unlock(&self->instant);
	}
	return NULL;
}

/* One checkpoint; the owner, too, writes until it has become durable, or failed: its code. */
static int one(struct _test_data_capture *self, uint64_t *random, uint64_t *generation)
{
	struct thaw_result result = {0};
	enum thaw_phase phase;
	int code = thaw_checkpoint_begin(self->heap, THAW_REASON_REQUEST);

	if (code)
		return code;
	while ((phase = thaw_checkpoint_poll(self->heap, &result)) != THAW_DONE) {
		if (phase == THAW_READY) {
			pthread_rwlock_wrlock(&self->instant);
			thaw_checkpoint_capture(self->heap, THAW_KIND_PORTABLE, "s", 2);
			memcpy(self->then, self->now, sizeof(self->then));
			pthread_rwlock_unlock(&self->instant);
		}
		share_write(self, WRITERS, random, 200);
	}
	*generation = result.generation.number;
	return result.code;
}

/* How many pages of it are not what they were; -1: it cannot be read. */
static int differ(struct _test_data_capture *self, uint64_t generation)
{
	struct thaw_image *image = NULL;
	struct thaw_view *view = NULL;
	uint64_t words[PAGE / 8];
	int wrong = 0;

	if (thaw_image_of(self->heap, &image, &self->error))
		return -1;
	if (thaw_view_open(image, generation, &view, &self->error))
		wrong = -1;
	for (unsigned page = 0; wrong >= 0 && page < PAGES; page++) {
		if (thaw_view_read(view, (uint64_t)page * PAGE, words, PAGE, &self->error))
			wrong = -1;
		else if (words[0] != self->then[page] || words[PAGE / 16] != self->then[page] ||
			 words[PAGE / 8 - 1] != self->then[page])
			wrong++;
	}
	thaw_view_close(view);
	thaw_image_close(image);
	return wrong;
}

static void writers_start(struct _test_data_capture *self, struct writer *writers)
{
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){self, i};
		if (pthread_create(&self->threads[i], NULL, writer_main, &writers[i]))
			support_die("pthread_create");
	}
	while (atomic_load(&self->started) < WRITERS)
		sched_yield();
}

static void writers_stop(struct _test_data_capture *self)
{
	atomic_store(&self->stop, true);
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(self->threads[i], NULL);
}

/* ... while nobody writes any more: memory holds what was written last, and a start finds what was captured last. */
static int last_differ(struct _test_data_capture *self)
{
	uint64_t generation, random = 5;
	int wrong = 0;

	for (unsigned page = 0; page < PAGES; page++)
		wrong += *(uint64_t *)((char *)thaw_base(self->heap) + (size_t)page * PAGE) !=
			 self->now[page];
	if (one(self, &random, &generation))
		return -1;
	thaw_close(self->heap);
	self->heap = NULL;
	if (open_heap(&self->heap, self->path, 0, 0, &self->error))
		return -1;
	for (unsigned page = 0; page < PAGES; page++)
		wrong += *(uint64_t *)((char *)thaw_base(self->heap) + (size_t)page * PAGE) !=
			 self->then[page];
	return wrong;
}

TEST_F_TIMEOUT(capture, is_an_instant_whoever_writes, 120)
{
	unsigned made = 0, failed = 0, rounds = 0;
	struct writer writers[WRITERS];
	uint64_t random = 7;

	for (unsigned page = 0; page < PAGES; page++)
		page_write(self, page, page + 1);
	writers_start(self, writers);
	while (made < ROUNDS || (variant->fails && !failed)) {
		uint64_t generation;

		ASSERT_GT(500, rounds++);
		if (one(self, &random, &generation)) {
			ASSERT_NE(NULL, variant->inject);
			failed++;
			continue;
		}
		made++;
		ASSERT_EQ(0, differ(self, generation))
		{
			TH_LOG("generation %d: %s", (int)generation, self->error.text);
		}
	}
	writers_stop(self);
	ASSERT_EQ(0, last_differ(self));
}

/* A system call of the owner gets memory that is closed just now. */
TEST_F_TIMEOUT(capture, lets_system_calls_write_after_thaw_touch, 60)
{
	size_t bytes = 64u << 10;
	char *buffer = malloc(bytes);
	uint64_t generation = 0;
	int ends[2];

	if (variant->inject)
		SKIP(return, "without failures");
	for (unsigned page = 0; page < PAGES; page++)
		page_write(self, page, page + 1);
	memset(buffer, 'r', bytes);
	ASSERT_EQ(0, pipe(ends));
	for (int round = 0; round < 3; round++) {
		char *at = (char *)thaw_base(self->heap) + HEAP - (size_t)(round + 1) * 2 * bytes;
		struct thaw_result result;

		ASSERT_EQ((ssize_t)bytes, write(ends[1], buffer, bytes));
		ASSERT_EQ(0, thaw_checkpoint_begin(self->heap, THAW_REASON_REQUEST));
		ASSERT_EQ(THAW_READY, thaw_checkpoint_wait(self->heap));
		memcpy(self->then, self->now, sizeof(self->then));
		ASSERT_EQ(0, thaw_checkpoint_capture(self->heap, THAW_KIND_PORTABLE, "s", 2));
		ASSERT_EQ(0, thaw_touch(at, bytes, true));
		ASSERT_EQ((ssize_t)bytes, read(ends[0], at, bytes));
		ASSERT_EQ(THAW_DONE, thaw_checkpoint_wait(self->heap));
		thaw_checkpoint_poll(self->heap, &result);
		ASSERT_EQ(0, result.code);
		generation = result.generation.number;
		ASSERT_EQ(0, differ(self, generation));
		for (size_t i = 0; i < bytes; i++)
			ASSERT_EQ('r', at[i]);
		/* Everything is written again, for the next round. */
		for (unsigned page = 0; page < PAGES; page++)
			page_write(self, page, page + (unsigned)round);
	}
	close(ends[0]);
	close(ends[1]);
	free(buffer);
}

/* What is closed is not closed for a child, which has no heap; and a fault that is about something else is not taken for ours. */
TEST_F_TIMEOUT(capture, leaves_other_faults_and_children_alone, 60)
{
	struct thaw_result result;
	int status;
	pid_t child;

	if (variant->inject)
		SKIP(return, "without failures");
	for (unsigned page = 0; page < PAGES; page++)
		page_write(self, page, page + 1);
	ASSERT_EQ(0, thaw_checkpoint_begin(self->heap, THAW_REASON_REQUEST));
	ASSERT_EQ(THAW_READY, thaw_checkpoint_wait(self->heap));
	ASSERT_EQ(0, thaw_checkpoint_capture(self->heap, THAW_KIND_PORTABLE, "s", 2));
	child = fork();
	if (!child)
		_exit(7);
	page_write(self, 5, 77);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_EQ(7, WEXITSTATUS(status));
	ASSERT_EQ(THAW_DONE, thaw_checkpoint_wait(self->heap));
	thaw_checkpoint_poll(self->heap, &result);
	ASSERT_EQ(0, result.code);
	child = fork();
	if (!child) {
		struct thaw *heap;
		char *other = support_format("%s.other", self->path);

		if (open_heap(&heap, other, variant->flags, 0, &self->error) ||
		    thaw_resize(heap, HEAP))
			_exit(8);
		*(char *)thaw_base(heap) = 1;
		((void (*)(void))thaw_base(heap))(); // cannot be executed
		_exit(9);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV)
	{
		TH_LOG("status %d", status);
	}
}

TEST_HARNESS_MAIN
