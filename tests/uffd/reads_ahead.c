// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is read before anybody asks for it (fault_ahead.c) stands in nobody's way and harms nobody: a fault is
 * answered while all of it is held up; closing and SIGKILL in the middle of it leave the image as it was; what is
 * damaged, cannot be read, or may not be read past the page cache is no other page's fault; and what was written is
 * a generation's, what only came is not. The thread that reads ahead is held by the test where it has read.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "image/image.h"
#include "reads_held.h"
#include "support.h"
#include "thaw.h"

#define PAGE 4096u
#define PAGES 4096u /* 16 MiB: twice of what may be under way */
#define CLUSTER 16u
#define THREADS 4u

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
static int touch(const volatile uint64_t *address, uint64_t *value)
{
	int outcome = sigsetjmp(after_fault, 1);

	if (!outcome)
		*value = *address;
	return outcome;
}

static uint64_t word_of(uint64_t page)
{
	return page * 0x9e3779b97f4a7c15ull | 1;
}

FIXTURE(ahead)
{
	char *directory, *path;
	struct thaw *heap;
	struct thaw_error error;
};
FIXTURE_VARIANT(ahead)
{
	const char *reader, *tracker;
	bool direct;
};
FIXTURE_VARIANT_ADD(ahead, io_uring){.reader = "io_uring", .tracker = ""};
FIXTURE_VARIANT_ADD(ahead, threads){.reader = "threads", .tracker = ""};
FIXTURE_VARIANT_ADD(ahead, wp_sync){.reader = "threads", .tracker = "wp-sync"};
FIXTURE_VARIANT_ADD(ahead, mprotect){.reader = "threads", .tracker = "mprotect"};
FIXTURE_VARIANT_ADD(ahead, direct_io_uring){.reader = "io_uring", .tracker = "", .direct = true};
FIXTURE_VARIANT_ADD(ahead, direct_threads){.reader = "threads", .tracker = "", .direct = true};

static int open_heap(struct thaw **heap, const char *path, unsigned flags, struct thaw_error *error)
{
	struct thaw_options options = {
		.image = path, .flags = flags, .max_bytes = 64u << 20, .engine = "test"};

	return thaw_open(&options, heap, error);
}

static volatile uint64_t *word_at(const struct thaw *heap, uint64_t page)
{
	return (volatile uint64_t *)((char *)thaw_base(heap) + page * PAGE);
}

static bool can_read_past_the_cache(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* An image in which each `step`th page is stored. */
static void make_image(struct __test_metadata *_metadata, FIXTURE_DATA(ahead) * self, unsigned step)
{
	ASSERT_EQ(0, open_heap(&self->heap, self->path, THAW_CREATE, &self->error))
	TH_LOG("%s", self->error.text);
	ASSERT_EQ(0, thaw_resize(self->heap, PAGES * PAGE));
	for (uint64_t page = 0; page < PAGES; page += step)
		*word_at(self->heap, page) = word_of(page);
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_EXIT, "s", 2, NULL));
	thaw_close(self->heap);
	self->heap = NULL;
}

FIXTURE_SETUP(ahead)
{
	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
	struct thaw_status status;

	setenv("THAW_READER", variant->reader, 1);
	setenv("THAW_TRACKER", variant->tracker, 1);
	self->directory = support_directory();
	self->path = support_format("%s/heap.thaw", self->directory);
	if (open_heap(&self->heap, self->path, THAW_CREATE, &self->error))
		SKIP(return, "%s", self->error.text);
	thaw_status(self->heap, &status);
	thaw_close(self->heap);
	self->heap = NULL;
	if (strcmp(status.delivery, "userfaultfd") && strcmp(status.delivery, "user-mode"))
		SKIP(return, "pages come by %s", status.delivery);
	if (variant->direct && !can_read_past_the_cache(self->path))
		SKIP(return, "no O_DIRECT here");
	unlink(self->path);
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	held.direct = variant->direct;
}
FIXTURE_TEARDOWN(ahead)
{
	gate_open();
	thaw_close(self->heap);
	free(self->path);
	support_remove(self->directory);
}

/* Opened with prefetch, which has read its first pages, has many more under way, and goes no further. */
static void open_held(struct __test_metadata *_metadata, FIXTURE_DATA(ahead) * self)
{
	gate_close();
	ASSERT_EQ(0, open_heap(&self->heap, self->path, THAW_PREFETCH, &self->error))
	TH_LOG("%s", self->error.text);
	ASSERT_TRUE(gate_await());
}

static bool all_are_right(const struct thaw *heap)
{
	for (uint64_t page = 0; page < PAGES; page++)
		if (*word_at(heap, page) != word_of(page))
			return false;
	return true;
}

struct toucher {
	pthread_t thread;
	pthread_barrier_t *start;
	const struct thaw *heap;
	unsigned number, wrong;
};

/* From the last cluster to the first: no stream, whose faults wait for what is read ahead of it. */
static void *touch_clusters(void *arg)
{
	struct toucher *toucher = arg;

	for (uint64_t cluster = PAGES / CLUSTER; cluster--;) {
		/* Two by two the same page, in the same cluster. */
		uint64_t page = cluster * CLUSTER + 5 * (toucher->number / 2) + cluster % 7;

		pthread_barrier_wait(toucher->start);
		toucher->wrong += *word_at(toucher->heap, page) != word_of(page);
	}
	return NULL;
}

static unsigned touch_by_threads(const struct thaw *heap)
{
	struct toucher touchers[THREADS];
	pthread_barrier_t start;
	unsigned wrong = 0;

	pthread_barrier_init(&start, NULL, THREADS);
	for (unsigned i = 0; i < THREADS; i++) {
		touchers[i] = (struct toucher){.start = &start, .heap = heap, .number = i};
		if (pthread_create(&touchers[i].thread, NULL, touch_clusters, &touchers[i]))
			support_die("a thread");
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(touchers[i].thread, NULL);
		wrong += touchers[i].wrong;
	}
	pthread_barrier_destroy(&start);
	return wrong;
}

TEST_F(ahead, faults_are_answered_while_all_prefetch_is_held)
{
	struct thaw_result result;
	struct thaw_status status;

	make_image(_metadata, self, 1);
	open_held(_metadata, self);
	EXPECT_EQ(0, touch_by_threads(self->heap));
	*word_at(self->heap, 17) = word_of(17); /* the same again */
	*word_at(self->heap, 3000) = 1;
	gate_open();
	EXPECT_EQ(variant->direct, atomic_load(&held.direct_reads) > 0);
	do
		thaw_status(self->heap, &status);
	while (status.pages_restored < PAGES);
	/* What was written belongs to the next generation, before its page came and after; nothing else does. */
	*word_at(self->heap, 18) = 2;
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_TIMER, "s", 2, &result));
	if (strcmp(variant->tracker,
		   "mprotect")) { /* there neighbours may count as written, too: their contents are as they were */
		EXPECT_EQ(2, result.generation.pages_stored);
	}
	*word_at(self->heap, 3000) = word_of(3000);
	*word_at(self->heap, 18) = word_of(18);
	EXPECT_TRUE(all_are_right(self->heap));
}

TEST_F(ahead, threads_in_one_cluster_with_nothing_ahead)
{
	make_image(_metadata, self, 1);
	ASSERT_EQ(0, open_heap(&self->heap, self->path, 0, &self->error));
	EXPECT_EQ(0, touch_by_threads(self->heap));
	EXPECT_TRUE(all_are_right(self->heap));
}

static long memory_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

static long resident_pages(void)
{
	long size, resident = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	if (!file || fscanf(file, "%ld %ld", &size, &resident) != 2)
		support_die("/proc/self/statm");
	fclose(file);
	return resident;
}

/* A stream has the memory for what is read ahead of it once, and not anew for each window; some time after, it is given back. */
TEST_F(ahead, memory_to_read_into_is_had_once_and_given_back)
{
	struct thaw_status status;
	long faults, before;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	SKIP(return, "the sanitizer has memory of its own for each page");
#endif
	make_image(_metadata, self, 1);
	ASSERT_EQ(0, open_heap(&self->heap, self->path, 0, &self->error));
	before = resident_pages();
	faults = memory_faults();
	EXPECT_TRUE(all_are_right(self->heap));
	faults = memory_faults() - faults;
	thaw_status(self->heap, &status);
	/* Besides those of the heap, less than one for each page. */
	EXPECT_GT((long)status.faults + PAGES * 3 / 4, faults);
	while (resident_pages() > before + (long)PAGES + 256)
		support_sleep(0.001);
}

/* How nice the thread of that name is; -100: there is none. */
static int niceness_of(const char *name)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;
	int niceness = -100;

	while (tasks && (task = readdir(tasks))) {
		char path[300], own[32] = "";
		FILE *file;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", task->d_name);
		file = fopen(path, "re");
		if (file && fgets(own, sizeof(own), file) && !strncmp(own, name, strlen(name)))
			niceness = getpriority(PRIO_PROCESS, (id_t)atoi(task->d_name));
		if (file)
			fclose(file);
	}
	if (tasks)
		closedir(tasks);
	return niceness;
}

/* What nobody may ever ask for takes no processor from the program, but answers do not wait for one. */
TEST_F(ahead, prefetch_of_everything_steps_back)
{
	int own = getpriority(PRIO_PROCESS, 0);

	make_image(_metadata, self, 1);
	open_held(_metadata, self);
	EXPECT_EQ(own < 10 ? own + 10 : 19, niceness_of("thaw-ahead"));
	EXPECT_EQ(own, niceness_of("thaw-faults"));
	gate_open();
	EXPECT_TRUE(all_are_right(self->heap));
	EXPECT_EQ(own, getpriority(PRIO_PROCESS, 0));
}

static void *go_on_at_join(void *unused)
{
	(void)unused;
	while (!atomic_load(&held.joining))
		support_sleep(0.0002);
	gate_open();
	return NULL;
}

TEST_F(ahead, closing_in_the_middle_waits_for_it)
{
	unsigned files;
	pthread_t thread;

	make_image(_metadata, self, 1);
	files = support_files("/proc/self/fd");
	open_held(_metadata, self);
	ASSERT_EQ(0, pthread_create(&thread, NULL, go_on_at_join, NULL));
	thaw_close(self->heap);
	self->heap = NULL;
	pthread_join(thread, NULL);
	EXPECT_EQ(files, support_files("/proc/self/fd"));
	ASSERT_EQ(0, open_heap(&self->heap, self->path, 0, &self->error));
	EXPECT_TRUE(all_are_right(self->heap));
}

TEST_F(ahead, sigkill_in_the_middle_changes_nothing)
{
	int status, ready[2];
	pid_t child;
	char byte;

	make_image(_metadata, self, 1);
	ASSERT_EQ(0, pipe2(ready, O_CLOEXEC));
	child = fork();
	if (!child) {
		open_held(_metadata, self);
		*word_at(self->heap, 5) = 1;
		if (write(ready[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	kill(child, SIGKILL);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	ASSERT_EQ(0, open_heap(&self->heap, self->path, THAW_PREFETCH, &self->error))
	TH_LOG("%s", self->error.text);
	EXPECT_TRUE(all_are_right(self->heap));
}

/* ---- what cannot be read */

static uint64_t offset_of(struct __test_metadata *_metadata, const char *path, uint64_t page)
{
	struct image_options options = {.path = path, .read_only = true};
	struct extent extents[IMAGE_LEAF_PAGES];
	struct thaw_error error, fallback;
	struct image *image;

	EXPECT_EQ(0, image_open(&options, &image, &fallback, &error));
	EXPECT_EQ(0, image_lookup(image, page - page % IMAGE_LEAF_PAGES, extents, &error));
	image_close(image);
	return extents[page % IMAGE_LEAF_PAGES].offset;
}

TEST_F(ahead, damage_in_what_is_read_together_is_of_one_page)
{
	struct thaw_status status;
	uint64_t value;

	make_image(_metadata, self, 1);
	support_flip(self->path, offset_of(_metadata, self->path, 500) + 17, 0x10);
	ASSERT_EQ(0, open_heap(&self->heap, self->path, THAW_PREFETCH, &self->error));
	do
		thaw_status(self->heap, &status);
	while (status.pages_restored + status.pages_poisoned < PAGES);
	EXPECT_EQ(1, status.pages_poisoned);
	for (uint64_t page = 0; page < PAGES; page++) {
		int outcome = touch(word_at(self->heap, page), &value);

		ASSERT_EQ(page == 500, outcome) TH_LOG("page %u", (unsigned)page);
		if (page == 500) {
			EXPECT_NE(NULL, strstr(line, "checksum")) TH_LOG("%s", line);
		} else {
			ASSERT_EQ(word_of(page), value);
		}
	}
}

TEST_F(ahead, one_read_that_fails_ahead_costs_no_page)
{
	struct thaw_status status;

	make_image(_metadata, self, 1);
	held.nothing_is_cached = true;
	atomic_store(&held.fail_ahead, 3);
	ASSERT_EQ(0, open_heap(&self->heap, self->path, THAW_PREFETCH, &self->error));
	do
		thaw_status(self->heap, &status);
	while (status.pages_restored + status.pages_poisoned < PAGES);
	EXPECT_GE(0, atomic_load(&held.fail_ahead));
	EXPECT_EQ(0, status.pages_poisoned);
	EXPECT_TRUE(all_are_right(self->heap));
}

TEST_F(ahead, a_disk_that_is_gone_is_a_fault_for_each_page)
{
	unsigned explained = 0, right = 0;
	uint64_t value;

	make_image(_metadata, self, 1);
	held.nothing_is_cached = true;
	open_held(_metadata, self);
	atomic_store(&held.fail_all, true);
	gate_open();
	for (uint64_t page = 0; page < PAGES; page++) {
		int outcome = touch(word_at(self->heap, page), &value);

		explained += outcome == 1;
		right += !outcome && value == word_of(page);
	}
	EXPECT_EQ(PAGES, explained + right);
	EXPECT_LT(0, explained);
}

struct single {
	pthread_t thread;
	const struct thaw *heap;
	uint64_t page, value;
	int outcome;
};

static void *touch_one(void *arg)
{
	struct single *single = arg;

	single->outcome = touch(word_at(single->heap, single->page), &single->value);
	return NULL;
}

/* The file system refuses to read past the page cache when two such reads are under way: both are read otherwise. */
TEST_F(ahead, refused_direct_reads_are_read_otherwise)
{
	struct single singles[2];

	if (!variant->direct)
		SKIP(return, "for direct reads");
	make_image(_metadata, self, CLUSTER); /* so that each is a read of one page */
	atomic_store(&held.refuse, 2);
	ASSERT_EQ(0, open_heap(&self->heap, self->path, 0, &self->error));
	for (unsigned i = 0; i < 2; i++) {
		singles[i] = (struct single){.heap = self->heap, .page = (200 - 100 * i) * CLUSTER};
		ASSERT_EQ(0, pthread_create(&singles[i].thread, NULL, touch_one, &singles[i]));
	}
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(singles[i].thread, NULL);
		EXPECT_EQ(0, singles[i].outcome) TH_LOG("%s", line);
		EXPECT_EQ(word_of(singles[i].page), singles[i].value);
	}
	EXPECT_EQ(0, atomic_load(&held.refuse));
	for (uint64_t page = 0; page < PAGES; page += CLUSTER)
		ASSERT_EQ(word_of(page), *word_at(self->heap, page));
	EXPECT_EQ(2, atomic_load(&held.direct_reads));
}

TEST_HARNESS_MAIN
