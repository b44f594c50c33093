// SPDX-License-Identifier: GPL-2.0-only
/*
 * A page that cannot be served is never zero and never hangs its reader: it raises SIGBUS where
 * the kernel can poison pages, SIGSEGV where it cannot, and the library tells which image,
 * generation, page and why. Its neighbours arrive unharmed.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>

#include "by_path.h"
#include "image/image.h"
#include "support.h"
#include "thaw.h"

#define KERNEL_PAGE 4096u
#define PAGES 1024u

static _Thread_local sigjmp_buf after_fault;
static _Thread_local char line[600];

static void on_fault(int signal, siginfo_t *info, void *context)
{
	if (signal == SIGSEGV && thaw_handle_fault(info->si_addr))
		return;
	siglongjmp(after_fault, thaw_explain_fault(info->si_addr, line, sizeof(line)) ? 1 : 2);
}

static void catch_faults(void)
{
	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
}

/* 0: read; 1: a signal, explained; 2: one that is not explained. */
static int touch(const volatile char *address, char *value)
{
	int outcome = sigsetjmp(after_fault, 1);

	if (!outcome)
		*value = *address;
	return outcome;
}

FIXTURE(damaged)
{
	char *directory, *path;
	struct thaw *heap;
	struct thaw_error error;
	uint64_t offset; /* of page 500 in the file */
	size_t page_bytes;
};
FIXTURE_VARIANT(damaged)
{
	const char *backing;
	bool prefetch;
	const char *reader, *inject, *delivery, *tracker, *without;
	const char *page_bytes; /* of the kernel that made the image; NULL: this one */
};
FIXTURE_VARIANT_ADD(damaged, anonymous){.backing = "anonymous"};
FIXTURE_VARIANT_ADD(damaged, anonymous_prefetch){.backing = "anonymous", .prefetch = true};
/* Threads; the page cache has the image, or seems to have nothing of it. */
FIXTURE_VARIANT_ADD(damaged, sigsegv_threads){
	.delivery = "sigsegv", .reader = "threads", .inject = "cached:EAGAIN:0:0"};
FIXTURE_VARIANT_ADD(damaged, anonymous_threads){
	.backing = "anonymous", .reader = "threads", .inject = "cached:EAGAIN:0:0"};
FIXTURE_VARIANT_ADD(damaged, anonymous_threads_cached){.backing = "anonymous", .reader = "threads"};
FIXTURE_VARIANT_ADD(damaged, anonymous_threads_prefetch){
	.backing = "anonymous", .prefetch = true, .reader = "threads"};
FIXTURE_VARIANT_ADD(damaged, anonymous_without_poison){.backing = "anonymous", .without = "poison"};
/* What prefetch finds damaged, before the heap is open even, stays so. */
FIXTURE_VARIANT_ADD(damaged, without_poison_prefetch){
	.backing = "anonymous", .prefetch = true, .without = "poison"};
FIXTURE_VARIANT_ADD(damaged, wp_sync_without_poison_prefetch){
	.backing = "anonymous", .tracker = "wp-sync", .prefetch = true, .without = "poison"};
FIXTURE_VARIANT_ADD(damaged, mprotect){.backing = "anonymous", .tracker = "mprotect"};
FIXTURE_VARIANT_ADD(damaged, mprotect_without_poison){
	.backing = "anonymous", .tracker = "mprotect", .without = "poison"};
FIXTURE_VARIANT_ADD(damaged, sigsegv){.delivery = "sigsegv"};
FIXTURE_VARIANT_ADD(damaged, sigsegv_prefetch){.delivery = "sigsegv", .prefetch = true};
FIXTURE_VARIANT_ADD(damaged, kmod){.delivery = "kmod"};
FIXTURE_VARIANT_ADD(damaged, kmod_prefetch){.delivery = "kmod", .prefetch = true};
FIXTURE_VARIANT_ADD(damaged, kmod_threads){
	.delivery = "kmod", .reader = "threads", .inject = "cached:EAGAIN:0:0"};
FIXTURE_VARIANT_ADD(damaged, kmod_without_poison){.delivery = "kmod", .without = "poison"};
FIXTURE_VARIANT_ADD(damaged, kmod_pages_of_64_kib){.delivery = "kmod", .page_bytes = "65536"};
FIXTURE_VARIANT_ADD(damaged, eager){.delivery = "eager"};
FIXTURE_VARIANT_ADD(damaged, pages_of_16_kib){.backing = "anonymous", .page_bytes = "16384"};
FIXTURE_VARIANT_ADD(damaged, pages_of_64_kib){.backing = "anonymous", .page_bytes = "65536"};
FIXTURE_VARIANT_ADD(damaged, sigsegv_pages_of_64_kib){.delivery = "sigsegv", .page_bytes = "65536"};

static int open_heap(struct thaw **heap, const char *path, unsigned flags, struct thaw_error *error)
{
	struct thaw_options options = {
		.image = path, .flags = flags, .max_bytes = 64u << 20, .engine = "test"};

	return thaw_open(&options, heap, error);
}

FIXTURE_SETUP(damaged)
{
	struct image_options options = {.read_only = true};
	struct extent extents[IMAGE_LEAF_PAGES];
	struct thaw_image_info info;
	struct image *image;
	struct thaw_error fallback;

	setenv("THAW_BACKING", variant->backing ? variant->backing : "", 1);
	setenv("THAW_DELIVERY", variant->delivery ? variant->delivery : "", 1);
	setenv("THAW_TRACKER", variant->tracker ? variant->tracker : "", 1);
	if (variant->without)
		setenv("THAW_WITHOUT", variant->without, 1);
	setenv("THAW_READER", variant->reader ? variant->reader : "", 1);
	setenv("THAW_INJECT", variant->inject ? variant->inject : "", 1);
	if (variant->page_bytes)
		setenv("THAW_PAGE_BYTES", variant->page_bytes, 1);
	catch_faults();
	self->directory = support_directory();
	self->path = support_format("%s/heap.thaw", self->directory);
	if (open_heap(&self->heap, self->path, THAW_CREATE, &self->error) == THAW_EKERNEL)
		SKIP(return, "%s", self->error.text);
	unsetenv("THAW_PAGE_BYTES");
	ASSERT_EQ(0, path_info(self->path, false, &info, &self->error));
	self->page_bytes = info.page_bytes;
	ASSERT_EQ(0, thaw_resize(self->heap, PAGES * self->page_bytes));
	for (unsigned page = 0; page < PAGES; page++)
		((char *)thaw_base(self->heap))[page * self->page_bytes + 17] =
			(char)(page % 100 + 1);
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_EXIT, "s", 2, NULL));
	thaw_close(self->heap);
	self->heap = NULL;
	options.path = self->path;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &self->error));
	ASSERT_EQ(0, image_lookup(image, 496, extents, &self->error));
	self->offset = extents[4].offset;
	image_close(image);
}
FIXTURE_TEARDOWN(damaged)
{
	thaw_close(self->heap);
	free(self->path);
	support_remove(self->directory);
}

static int reopen(struct thaw **heap, const char *path, bool prefetch, struct thaw_error *error)
{
	int code = open_heap(heap, path, prefetch ? THAW_PREFETCH : 0, error);

	if (!code && prefetch)
		support_sleep(0.2);
	return code;
}

TEST_F(damaged, a_flipped_bit_is_a_fault_that_says_why)
{
	char value = 0;
	char *base;

	support_flip(self->path, self->offset + 17, 0x10);
	ASSERT_EQ(0, reopen(&self->heap, self->path, variant->prefetch, &self->error));
	base = thaw_base(self->heap);
	ASSERT_EQ(1, touch(base + 500 * self->page_bytes + 17, &value));
	TH_LOG("%s", line);
	EXPECT_NE(NULL, strstr(line, self->path));
	EXPECT_NE(NULL, strstr(line, "generation 1"));
	EXPECT_NE(NULL, strstr(line, "page 500"));
	EXPECT_NE(NULL, strstr(line, "checksum"));
	for (unsigned page = 0; page < PAGES; page++) {
		if (page == 500)
			continue;
		ASSERT_EQ(0, touch(base + page * self->page_bytes + 17, &value));
		ASSERT_EQ((char)(page % 100 + 1), value);
	}
	/* And it stays so, all of it. */
	for (size_t at = 0; at < self->page_bytes; at += KERNEL_PAGE)
		EXPECT_EQ(1, touch(base + 500 * self->page_bytes + at, &value));
}

TEST_F(damaged, a_truncated_file_is_a_fault_and_never_zero)
{
	struct thaw_status status;
	unsigned poisoned = 0;
	char value;

	ASSERT_EQ(0, reopen(&self->heap, self->path, false, &self->error));
	thaw_status(self->heap, &status);
	if (!strcmp(status.delivery, "eager"))
		SKIP(return, "all of it has been read");
	ASSERT_EQ(0, truncate(self->path, (off_t)self->offset));
	for (unsigned page = 0; page < PAGES; page++) {
		int outcome =
			touch((char *)thaw_base(self->heap) + page * self->page_bytes + 17, &value);

		if (outcome)
			poisoned++;
		else
			ASSERT_EQ((char)(page % 100 + 1), value);
		ASSERT_NE(2, outcome);
	}
	TH_LOG("%u pages poisoned; %s", poisoned, line);
	EXPECT_GT(poisoned, 0);
}

struct toucher {
	pthread_t thread;
	pthread_barrier_t *start;
	const char *base;
	size_t page_bytes;
	unsigned explained;
};

static void *touch_all(void *arg)
{
	struct toucher *toucher = arg;
	char value;

	for (unsigned page = 0; page < PAGES; page += 64) {
		pthread_barrier_wait(toucher->start);
		toucher->explained += touch(toucher->base + page * toucher->page_bytes, &value) ==
				      1;
	}
	return NULL;
}

/* Some of the faults are told to the library when it has answered others on the same page. */
TEST_F(damaged, threads_that_touch_one_page_at_once_all_hear_of_it)
{
	enum { THREADS = 8 };
	struct toucher touchers[THREADS];
	struct thaw_status status;
	pthread_barrier_t start;

	ASSERT_EQ(0, reopen(&self->heap, self->path, false, &self->error));
	thaw_status(self->heap, &status);
	if (!strcmp(status.delivery, "eager"))
		SKIP(return, "all of it has been read");
	/* Without the index, too: of no page anything is read. */
	ASSERT_EQ(0, truncate(self->path, 8192));
	pthread_barrier_init(&start, NULL, THREADS);
	for (int i = 0; i < THREADS; i++) {
		touchers[i] = (struct toucher){.start = &start,
					       .base = thaw_base(self->heap),
					       .page_bytes = self->page_bytes};
		ASSERT_EQ(0, pthread_create(&touchers[i].thread, NULL, touch_all, &touchers[i]));
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(touchers[i].thread, NULL);
		EXPECT_EQ(PAGES / 64, touchers[i].explained);
	}
	pthread_barrier_destroy(&start);
}

TEST_F(damaged, a_system_call_gets_an_error_not_garbage)
{
	struct thaw_status status;
	char value;
	int channel[2];

	support_flip(self->path, self->offset + 17, 0x10);
	ASSERT_EQ(0, reopen(&self->heap, self->path, variant->prefetch, &self->error));
	ASSERT_EQ(0, pipe(channel));
	EXPECT_EQ(-1,
		  write(channel[1], (char *)thaw_base(self->heap) + 500 * self->page_bytes, 64));
	/* Elsewhere, what has not arrived is not there for the kernel, either. */
	thaw_status(self->heap, &status);
	if (strcmp(status.delivery, "userfaultfd") && strcmp(status.delivery, "kmod"))
		EXPECT_EQ(0, touch((char *)thaw_base(self->heap) + 501 * self->page_bytes, &value));
	EXPECT_EQ(64,
		  write(channel[1], (char *)thaw_base(self->heap) + 501 * self->page_bytes, 64));
	EXPECT_EQ(1, touch((char *)thaw_base(self->heap) + 500 * self->page_bytes, &value));
}

/*
 * The kernel's mark of a poisoned page looks like a written page: a checkpoint that believed it
 * would die of reading it. The page stays what it is in the image: damaged, and never zero.
 */
TEST_F(damaged, a_checkpoint_passes_over_it)
{
	struct thaw_result result;
	char value = 0;

	support_flip(self->path, self->offset + 17, 0x10);
	ASSERT_EQ(0, reopen(&self->heap, self->path, variant->prefetch, &self->error));
	((char *)thaw_base(self->heap))[501 * self->page_bytes] =
		9; /* its neighbour brings it along */
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_TIMER, "t", 2, &result));
	EXPECT_EQ(1, result.generation.pages_stored);
	EXPECT_EQ(1, touch((char *)thaw_base(self->heap) + 500 * self->page_bytes, &value));
	thaw_close(self->heap);
	self->heap = NULL;
	ASSERT_EQ(0, reopen(&self->heap, self->path, variant->prefetch, &self->error));
	EXPECT_EQ(2, thaw_opened(self->heap)->number);
	EXPECT_EQ(1, touch((char *)thaw_base(self->heap) + 500 * self->page_bytes, &value));
	EXPECT_EQ(0, touch((char *)thaw_base(self->heap) + 501 * self->page_bytes, &value));
	EXPECT_EQ(9, value);
}

static _Noreturn void on_fatal(void *arg, const struct thaw_error *error)
{
	fprintf(stderr, "# fatal: %s\n", error->text);
	_exit(strstr(error->text, "page 500") ? 74 : 1);
}

/* Nothing is left to do: not even the protection of the page can be changed. */
TEST_F(damaged, a_page_that_cannot_be_poisoned_ends_the_process)
{
	struct thaw_status how;
	int status;
	pid_t child;

	ASSERT_EQ(0, reopen(&self->heap, self->path, false, &self->error));
	thaw_status(self->heap, &how);
	if (!strcmp(how.tracker, "mprotect"))
		SKIP(return, "where writes are tracked by mprotect, too, no page can be installed");
	thaw_close(self->heap);
	self->heap = NULL;
	support_flip(self->path, self->offset + 17, 0x10);
	child = fork();
	if (!child) {
		setenv("THAW_WITHOUT", "poison", 1);
		setenv("THAW_INJECT", "mprotect:ENOMEM:0:0", 1);
		execl("/proc/self/exe", "restore_damaged", "--touch", self->path,
		      support_format("%zu", 500 * self->page_bytes), NULL);
		_exit(2);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(74, WEXITSTATUS(status));
}

/* What the child of the test above runs: a fresh process, since capabilities are probed once. */
static int touch_at(const char *path, size_t offset)
{
	struct thaw_options options = {
		.image = path, .max_bytes = 64u << 20, .engine = "test", .fatal = on_fatal};
	struct thaw_error error;
	struct thaw *heap;

	if (thaw_open(&options, &heap, &error))
		return 3;
	return ((volatile char *)thaw_base(heap))[offset];
}

enum { READ_ALL = 20, READ_SOME, READ_NOTHING, READ_WRONG };

/* Those reads fail, in a fresh process: opening says so, or some pages are faults that say so; or it is none of these. */
static int read_failing(const char *path, const char *injected, const char *reads, bool prefetch)
{
	char *inject = support_format("%s,read:EIO:%s", injected ? injected : "", reads);
	pid_t child = fork();
	int status = 0;

	if (!child) {
		setenv("THAW_INJECT", inject, 1);
		execl("/proc/self/exe", "restore_damaged", prefetch ? "--prefetch" : "--read", path,
		      NULL);
		_exit(2);
	}
	free(inject);
	return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* So many reads in a row that make no difference: all are behind the last, or were made once more. */
#define NO_DIFFERENCE 40u

/* Each read fails once; and what can be read is right. */
TEST_F(damaged, a_read_that_fails_is_a_fault_that_says_so)
{
	/* Where a process takes long to start, each seventh. */
	const unsigned stride = test_patience() > 1 ? 7 : 1;
	unsigned some = 0, all = 0; /* the latter in a row */
	int status;

	if (variant->delivery && !strcmp(variant->delivery, "kmod"))
		SKIP(return, "the kernel reads the pages, and no test makes that fail");
	if (self->page_bytes > 16384)
		SKIP(return, "a read is as long as with smaller pages, and there are many");
	/*
	 * The first ones are the header's, of which there are two. Prefetch looks for what is stored, and where that
	 * fails reads the node once more: so one that made no difference need not be behind the last.
	 */
	for (unsigned skip = 0; all < (some ? 8 : NO_DIFFERENCE); skip += stride) {
		char *read = support_format("%u", skip);

		status = read_failing(self->path, variant->inject, read, variant->prefetch);
		free(read);
		ASSERT_TRUE(status >= READ_ALL && status < READ_WRONG)
		{
			TH_LOG("read %u fails: exit %d", skip, status);
		}
		some += status == READ_SOME;
		all = status == READ_ALL ? all + 1 : 0;
	}
	/* A read is of 256 KiB at most. What prefetch or another thread reads ahead is read again when it is asked for. */
	if (variant->delivery && strcmp(variant->delivery, "user-mode")) {
		EXPECT_GE((some + 1) * stride, PAGES * self->page_bytes / (256 << 10));
	} else if (stride == 1 && !variant->prefetch) {
		/* Of each seventh, none need be one that is made only once. */
		EXPECT_LE(1, some);
	}
}

/* As of a disk that is gone: all reads, from the first on that opening does not need. */
TEST_F(damaged, reads_that_fail_for_good_are_faults_that_say_so)
{
	int status = READ_NOTHING;
	unsigned skip;

	if (variant->delivery && !strcmp(variant->delivery, "kmod"))
		SKIP(return, "the kernel reads the pages, and no test makes that fail");
	if (variant->delivery && !strcmp(variant->delivery, "eager"))
		SKIP(return, "opening needs all reads");
	for (skip = 0; status == READ_NOTHING; skip++) {
		char *reads = support_format("%u:0", skip);

		status = read_failing(self->path, variant->inject, reads, variant->prefetch);
		free(reads);
	}
	TH_LOG("from read %u on", skip - 1);
	EXPECT_LT(1, skip);
	EXPECT_EQ(READ_SOME, status);
}

static int read_all(const char *path, unsigned flags)
{
	struct thaw_error error;
	struct thaw *heap;
	unsigned poisoned = 0;
	char value = 0;

	catch_faults();
	if (open_heap(&heap, path, flags, &error))
		return strstr(error.text, "Input/output error") ? READ_NOTHING : READ_WRONG;
	for (unsigned page = 0; page < PAGES; page++) {
		int outcome = touch((char *)thaw_base(heap) + page * (thaw_size(heap) / PAGES) + 17,
				    &value);

		if (outcome == 1 && strstr(line, "Input/output error"))
			poisoned++;
		else if (outcome || value != (char)(page % 100 + 1))
			return READ_WRONG;
	}
	thaw_close(heap);
	return poisoned ? READ_SOME : READ_ALL;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--read"))
		return read_all(argv[2], 0);
	if (argc == 3 && !strcmp(argv[1], "--prefetch"))
		return read_all(argv[2], THAW_PREFETCH);
	if (argc == 4 && !strcmp(argv[1], "--touch"))
		return touch_at(argv[2], strtoul(argv[3], NULL, 10));
	return test_harness_run(argc, argv);
}
