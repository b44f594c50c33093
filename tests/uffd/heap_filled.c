// SPDX-License-Identifier: GPL-2.0-only
/*
 * heap_filled.c - a heap whose image's file comes from elsewhere while it is read: pages are right however they are
 * delivered, many of them come at once, one that is there waits for none that is not, commits go on meanwhile; and what does not
 * come is told to whoever touches it.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <setjmp.h>
#include <sys/wait.h>

#include "filled.h"
#include "served_process.h"
#include "sys.h"
#include "thaw_image.h"

#define PAGE 4096u
#define PAGES 2048u
#define THREADS 12u
#define AT_ONCE 24u
#define CLUSTER 16u

FIXTURE(heap_filled)
{
	char *directory, *path;
	struct thaw *heap;
	struct filled filled;
	struct thaw_error error;
};
FIXTURE_VARIANT(heap_filled)
{
	const char *delivery, *reader;
	unsigned compress;
	bool blind; /* nothing tells what is there */
	unsigned flags;
	bool direct; /* reads go past the page cache */
};
long __real_sysconf(int name);
long __wrap_sysconf(int name);

static bool little_memory;

long __wrap_sysconf(int name)
{
	return name == _SC_PHYS_PAGES && little_memory ? 1000 : __real_sysconf(name);
}

FIXTURE_VARIANT_ADD(heap_filled, userfaultfd){.delivery = "userfaultfd"};
FIXTURE_VARIANT_ADD(heap_filled, userfaultfd_threads){.delivery = "userfaultfd",
						      .reader = "threads"};
FIXTURE_VARIANT_ADD(heap_filled, compressed){.delivery = "userfaultfd",
					     .compress = THAW_COMPRESS_LZ4};
FIXTURE_VARIANT_ADD(heap_filled, blind){.delivery = "userfaultfd", .blind = true};
FIXTURE_VARIANT_ADD(heap_filled, prefetch){.delivery = "userfaultfd", .flags = THAW_PREFETCH};
FIXTURE_VARIANT_ADD(heap_filled, direct){.delivery = "userfaultfd", .direct = true};
FIXTURE_VARIANT_ADD(heap_filled, user_mode){.delivery = "user-mode"};
FIXTURE_VARIANT_ADD(heap_filled, sigsegv){.delivery = "sigsegv"};
FIXTURE_VARIANT_ADD(heap_filled, eager){.delivery = "eager"};

static int heap_open(FIXTURE_DATA(heap_filled) * self, unsigned flags, unsigned compress)
{
	const struct thaw_options options = {.image = self->path,
					     .flags = THAW_CREATE | flags,
					     .max_bytes = PAGES * PAGE,
					     .compress = compress,
					     .engine = "filled"};

	return thaw_open(&options, &self->heap, &self->error);
}

static uint64_t word_of(unsigned page, unsigned i)
{
	return (page * 0x9e3779b97f4a7c15ull + 1) * (i % 37 + 1);
}

static uint64_t *page_at(const struct thaw *heap, unsigned page)
{
	return (uint64_t *)((char *)thaw_base(heap) + (size_t)page * PAGE);
}

static void page_write(struct thaw *heap, unsigned page, uint64_t salt)
{
	for (unsigned i = 0; i < PAGE / 8; i++)
		page_at(heap, page)[i] = word_of(page, i) ^ salt;
}

static bool page_is_right(const struct thaw *heap, unsigned page, uint64_t salt)
{
	for (unsigned i = 0; i < PAGE / 8; i++)
		if (page_at(heap, page)[i] != (word_of(page, i) ^ salt))
			return false;
	return true;
}

static void print_damage(void *arg, const struct thaw_damage *damage)
{
	(void)arg;
	fprintf(stderr, "# generation %llu at %llu: %s\n", (unsigned long long)damage->generation,
		(unsigned long long)damage->offset, damage->what);
}

FIXTURE_SETUP(heap_filled)
{
	self->directory = support_directory();
	self->path = support_format("%s/heap.thaw", self->directory);
	setenv("THAW_DELIVERY", variant->delivery, 1);
	if (variant->reader)
		setenv("THAW_READER", variant->reader, 1);
	if (heap_open(self, 0, variant->compress))
		SKIP(return, "%s", self->error.text);
	ASSERT_EQ(0, thaw_resize(self->heap, PAGES * PAGE));
	for (unsigned page = 0; page < PAGES; page++)
		page_write(self->heap, page, 0);
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_REQUEST, "state", 5, NULL));
	thaw_close(self->heap);
	self->heap = NULL;
	filled_make(&self->filled, self->path, variant->blind);
}
FIXTURE_TEARDOWN(heap_filled)
{
	thaw_close(self->heap);
	filled_end(&self->filled);
	free(self->path);
	support_remove(self->directory);
}

struct visitor {
	pthread_t thread;
	struct thaw *heap;
	unsigned first, step, wrong;
};

static void *visit(void *arg)
{
	struct visitor *visitor = arg;

	for (unsigned i = 0, page = visitor->first; i < PAGES / THREADS;
	     i++, page = (page + visitor->step) % PAGES)
		visitor->wrong += !page_is_right(visitor->heap, page, page < 64 ? 1 : 0);
	return NULL;
}

TEST_F(heap_filled, pages_are_right_while_commits_go_on)
{
	const struct thaw_verify_ops ops = {.damage = print_damage};
	struct thaw_verify_summary summary;
	struct visitor visitors[THREADS];
	struct thaw_status status;

	self->filled.delay_us = 300;
	little_memory = variant->direct;
	ASSERT_EQ(0, heap_open(self, variant->flags, variant->compress))
	TH_LOG("%s", self->error.text);
	thaw_status(self->heap, &status);
	ASSERT_STREQ("threads", status.reader);
	ASSERT_NE(0, strcmp("kmod", status.delivery));
	for (unsigned page = 0; page < 64; page++) /* before anybody else looks at them */
		page_write(self->heap, page, 1);
	for (unsigned i = 0; i < THREADS; i++) {
		visitors[i] = (struct visitor){
			.heap = self->heap, .first = i * 997 % PAGES, .step = 2 * i + 1};
		ASSERT_EQ(0, pthread_create(&visitors[i].thread, NULL, visit, &visitors[i]));
	}
	for (unsigned i = 0; i < 5; i++)
		ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_REQUEST, &i, sizeof(i), NULL));
	for (unsigned i = 0; i < THREADS; i++) {
		ASSERT_EQ(0, pthread_join(visitors[i].thread, NULL));
		ASSERT_EQ(0, visitors[i].wrong);
	}
	thaw_status(self->heap, &status);
	ASSERT_EQ(0, status.pages_poisoned);
	thaw_close(self->heap);
	self->heap = NULL;
	ASSERT_LT(0, self->filled.brought);
	self->filled.delay_us = 0;
	ASSERT_EQ(0, thaw_image_verify(self->path, &ops, &summary, &self->error))
	TH_LOG("%s", self->error.text);

	/* And as any other image, when all is there. */
	filled_complete(&self->filled);
	ASSERT_EQ(0, heap_open(self, 0, variant->compress)) TH_LOG("%s", self->error.text);
	for (unsigned page = 0; page < PAGES; page++)
		ASSERT_TRUE(page_is_right(self->heap, page, page < 64 ? 1 : 0));
}

static void *touch_one(void *arg)
{
	struct visitor *visitor = arg;

	visitor->wrong = !page_is_right(visitor->heap, visitor->first, 0);
	return NULL;
}

TEST_F(heap_filled, many_come_at_once_and_what_is_there_waits_for_none)
{
	struct visitor visitors[AT_ONCE + 4];

	if (!strcmp(variant->delivery, "eager"))
		SKIP(return, "all is there before anybody can touch it");
	if (variant->compress || variant->blind || variant->flags)
		SKIP(return, "where a page lies is not known here");
	ASSERT_EQ(0, heap_open(self, 0, 0)) TH_LOG("%s", self->error.text);
	/* All nodes are there, several to a block, and what is in the middle. */
	for (unsigned page = 0; page < PAGES; page += CLUSTER * 4)
		ASSERT_TRUE(page_is_right(self->heap, page, 0));
	filled_need(&self->filled, self->filled.blocks * FILLED_BLOCK / 2, 64 * FILLED_BLOCK);
	pthread_mutex_lock(&self->filled.lock);
	self->filled.most = 0;
	self->filled.shut = true;
	pthread_mutex_unlock(&self->filled.lock);
	for (unsigned i = 0; i < AT_ONCE + 4; i++) {
		visitors[i] = (struct visitor){.heap = self->heap, .first = (i * 4 + 3) * CLUSTER};
		ASSERT_EQ(0, pthread_create(&visitors[i].thread, NULL, touch_one, &visitors[i]));
	}
	filled_await(&self->filled, AT_ONCE);
	/* Now so many wait for what does not come before the gate is open. */
	{
		unsigned there = 0;

		for (unsigned page = PAGES / 2; page < PAGES / 2 + 32 && !there; page++) {
			const uint8_t *bytes = self->filled.bytes;

			for (uint64_t block = 0; block < self->filled.blocks && !there; block++)
				if (self->filled.there[block] &&
				    !memcmp(bytes + block * FILLED_BLOCK,
					    (uint64_t[]){word_of(page, 0), word_of(page, 1)}, 16))
					there = page;
		}
		ASSERT_NE(0, there);
		ASSERT_TRUE(page_is_right(self->heap, there, 0));
	}
	ASSERT_TRUE(self->filled.shut);
	filled_open(&self->filled);
	for (unsigned i = 0; i < AT_ONCE + 4; i++) {
		ASSERT_EQ(0, pthread_join(visitors[i].thread, NULL));
		ASSERT_EQ(0, visitors[i].wrong);
	}
}

static _Thread_local sigjmp_buf after_fault;
static _Thread_local char line[600];

static void on_fault(int signal, siginfo_t *info, void *context)
{
	(void)context;
	if (signal == SIGSEGV && thaw_handle_fault(info->si_addr))
		return;
	siglongjmp(after_fault, thaw_explain_fault(info->si_addr, line, sizeof(line)) ? 1 : 2);
}

/* 0: read; 1: a signal, explained; 2: one that is not explained. */
static int touch(const volatile uint64_t *address)
{
	int outcome = sigsetjmp(after_fault, 1);

	if (!outcome)
		(void)*address;
	return outcome;
}

TEST_F(heap_filled, what_does_not_come_is_told_to_who_touches_it)
{
	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	unsigned right = 0, told = 0;

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	/* Of a new image the pages come first, then what leads to them. */
	filled_need(&self->filled, self->filled.blocks * FILLED_BLOCK * 3 / 5,
		    self->filled.blocks * FILLED_BLOCK);
	filled_need(&self->filled, 0, self->filled.blocks * FILLED_BLOCK / 4);
	self->filled.fails_from = 0;
	self->filled.code = -ETIMEDOUT;
	ASSERT_EQ(0, heap_open(self, 0, 0)) TH_LOG("%s", self->error.text);
	for (unsigned page = 0; page < PAGES; page++) {
		int outcome = touch(page_at(self->heap, page));

		ASSERT_NE(2, outcome);
		told += outcome;
		right += !outcome && page_is_right(self->heap, page, 0);
		if (outcome)
			ASSERT_NE(NULL, strstr(line, strerror(ETIMEDOUT))) TH_LOG("%s", line);
	}
	ASSERT_EQ(PAGES, right + told);
	ASSERT_LT(PAGES / 4, right);
	ASSERT_LT(PAGES / 4, told);
}

static _Atomic bool reads_end;

static void *read_always(void *arg)
{
	struct filled *filled = arg;
	char byte;

	while (!reads_end)
		if (sys_pread(filled->fd, &byte, 1, 0))
			abort();
	return NULL;
}

TEST_F(heap_filled, a_child_does_not_wait_for_what_nobody_brings_it)
{
	struct thaw_image *image;
	pthread_t reader;
	int status;
	pid_t child;

	fflush(NULL);
	reads_end = false;
	ASSERT_EQ(0, pthread_create(&reader, NULL, read_always, &self->filled));
	for (unsigned i = 0; i < 200; i++) {
		child = fork();
		if (!child) {
			alarm(60);
			status = thaw_image_open(self->path, &image, NULL) ? 7 : 8;
			thaw_fill_detach(self->filled.fill);
			_exit(status);
		}
		ASSERT_EQ(child, waitpid(child, &status, 0));
		ASSERT_TRUE(WIFEXITED(status));
		ASSERT_EQ(7, WEXITSTATUS(status));
	}
	reads_end = true;
	ASSERT_EQ(0, pthread_join(reader, NULL));
	ASSERT_EQ(0, thaw_image_open(self->path, &image, &self->error));
	thaw_image_close(image);
}

/* ---- the memory of another process */

static void all_pages(void)
{
	CHECK(pages_are(NEAR, NEAR, 0) && page_is(NEAR, NEAR));
	for (uint64_t page = 0; page < NEAR_PAGES; page++) {
		uint64_t address = NEAR + (page * 1237 % NEAR_PAGES) * SERVED_PAGE;

		CHECK(is_stored(address) ? page_is(address, address) : page_is_zero(address));
	}
}

TEST(pages_of_another_process_come_from_elsewhere)
{
	struct image_options options = {.engine = "served", .page_bytes = 4096};
	struct thaw_error fallback;
	struct filled filled;
	struct served it;
	int status, wrong;

	if (!served_prepare(&it))
		SKIP(return, "%s", it.error.text);
	image_close(it.image);
	filled_make(&filled, it.path, false);
	filled.delay_us = 100;
	options.path = it.path;
	ASSERT_EQ(0, image_open(&options, &it.image, &fallback, &it.error));
	it.region.backends.reader = READER_THREADS; /* as thaw_open() does */
	ASSERT_EQ(0, served_start(&it, all_pages, false)) TH_LOG("%s", it.error.text);
	wrong = served_finish(&it, &status);
	ASSERT_EQ(0, wrong) TH_LOG("line %d", wrong);
	ASSERT_LT(1000, filled.brought);
	served_end(&it);
	filled_end(&filled);
}

TEST_HARNESS_MAIN
