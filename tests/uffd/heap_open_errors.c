// SPDX-License-Identifier: GPL-2.0-only
/*
 * A heap that cannot be opened says so in one line and at once, whatever stands where its image
 * should be and whatever limit the process has; and a limit that can be lived with is.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <limits.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "by_path.h"
#include "support.h"
#include "thaw.h"

#define PAGE ((size_t)sysconf(_SC_PAGESIZE))
#define PAGES 1024u

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

FIXTURE(opening)
{
	char *directory, *path;
	struct thaw *heap;
	struct thaw_error error;
};
FIXTURE_VARIANT(opening)
{
	const char *tracker;
};
FIXTURE_VARIANT_ADD(opening, kmod){.tracker = "kmod"};
FIXTURE_VARIANT_ADD(opening, wp_async){.tracker = "wp-async"};
FIXTURE_VARIANT_ADD(opening, wp_sync){.tracker = "wp-sync"};

static int open_heap(struct thaw **heap, const char *path, struct thaw_error *error)
{
	struct thaw_options options = {
		.image = path, .flags = THAW_CREATE, .max_bytes = 64u << 20, .engine = "test"};
	int code;

	*heap = NULL;
	memset(error, 0, sizeof(*error));
	code = thaw_open(&options, heap, error);
	if (code)
		fprintf(stderr, "# %d: %s\n", code, error->text);
	return code;
}

FIXTURE_SETUP(opening)
{
	setenv("THAW_TRACKER", variant->tracker, 1);
	self->directory = support_directory();
	self->path = support_format("%s/heap.thaw", self->directory);
	if (open_heap(&self->heap, self->path, &self->error) == THAW_EKERNEL)
		SKIP(return, "%s", self->error.text);
	ASSERT_EQ(0, thaw_resize(self->heap, PAGES * PAGE));
	for (unsigned page = 0; page < PAGES; page++)
		((char *)thaw_base(self->heap))[page * PAGE + 17] = (char)(page % 100 + 1);
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_EXIT, "s", 2, NULL));
	thaw_close(self->heap);
	self->heap = NULL;
}
FIXTURE_TEARDOWN(opening)
{
	thaw_close(self->heap);
	free(self->path);
	support_remove(self->directory);
}

/* Refused by all who open images, in one line that names it. */
static bool refused(const char *path)
{
	struct thaw_verify_summary summary;
	struct thaw_generation *log;
	struct thaw_image_info info;
	struct thaw_error errors[4] = {0};
	struct thaw *heap;
	int codes[4] = {
		open_heap(&heap, path, &errors[0]),
		thaw_image_verify(path, NULL, &summary, &errors[1]),
		path_info(path, true, &info, &errors[2]),
		path_log(path, &log, &errors[3]),
	};
	bool good = true;

	for (int i = 0; i < 4; i++)
		good &= codes[i] < 0 && codes[i] == errors[i].code && *errors[i].text &&
			!strchr(errors[i].text, '\n') &&
			!strncmp(errors[i].text, path, strlen(path) < 20 ? strlen(path) : 20);
	thaw_close(heap);
	return good;
}

TEST_F(opening, what_is_no_regular_file_is_refused)
{
	char *fifo = support_format("%s/fifo", self->directory);
	char *loop = support_format("%s/loop", self->directory);
	char *below = support_format("%s/heap.thaw/below", self->directory);
	char *dangling = support_format("%s/dangling", self->directory);
	char *nowhere = support_format("%s/none/there", self->directory);
	char *longest = support_format("%s/%0*d", self->directory, PATH_MAX, 0);
	char *name = support_format("%s/%0300d", self->directory, 0);

	ASSERT_EQ(0, mkfifo(fifo, 0600));
	ASSERT_EQ(0, symlink(loop, loop));
	ASSERT_EQ(0, symlink(nowhere, dangling));
	EXPECT_TRUE(refused(fifo));
	EXPECT_TRUE(refused(self->directory));
	EXPECT_TRUE(refused("/dev/null"));
	EXPECT_TRUE(refused("/dev/zero"));
	EXPECT_TRUE(refused("/proc/self/status"));
	EXPECT_TRUE(refused(loop));
	EXPECT_TRUE(refused(below));
	EXPECT_TRUE(refused(dangling));
	EXPECT_TRUE(refused(nowhere));
	EXPECT_TRUE(refused(longest));
	EXPECT_TRUE(refused(name));
	EXPECT_EQ(-EINVAL, open_heap(&self->heap, "", &self->error));
	free(fifo);
	free(loop);
	free(below);
	free(dangling);
	free(nowhere);
	free(longest);
	free(name);
}

TEST_F(opening, through_a_symbolic_link)
{
	char *link = support_format("%s/link", self->directory);

	ASSERT_EQ(0, symlink(self->path, link));
	ASSERT_EQ(0, open_heap(&self->heap, link, &self->error));
	EXPECT_EQ(1, ((char *)thaw_base(self->heap))[17]);
	free(link);
}

TEST_F(opening, a_size_beyond_all_addresses_is_refused)
{
	struct thaw_options options = {
		.image = self->path, .max_bytes = -(64ul << 10), .engine = "test"};

	EXPECT_EQ(-ENOMEM, thaw_open(&options, &self->heap, &self->error));
	self->heap = NULL;
	options.max_bytes = 64u << 20;
	options.guard_bytes = -(64ul << 10);
	EXPECT_EQ(-ENOMEM, thaw_open(&options, &self->heap, &self->error));
	self->heap = NULL;
}

/* Whatever descriptor is the one too many: an error, no leak, and the next attempt works. */
TEST_F(opening, with_too_few_descriptors)
{
	struct rlimit limit, before;
	int lowest, failures = 0;

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &before));
	/* The kernel is asked once per process what it can do; the limit would be its answer. */
	ASSERT_EQ(0, open_heap(&self->heap, self->path, &self->error));
	thaw_close(self->heap);
	lowest = dup(0);
	close(lowest);
	limit = before;
	for (limit.rlim_cur = (rlim_t)lowest;; limit.rlim_cur++) {
		ASSERT_GT(lowest + 20, limit.rlim_cur);
		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
		if (!open_heap(&self->heap, self->path, &self->error))
			break;
		EXPECT_EQ(self->heap, NULL);
		EXPECT_NE('\0', self->error.text[0]);
		failures++;
		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &before));
		EXPECT_EQ(lowest, dup(0));
		close(lowest);
	}
	EXPECT_GT(failures, 2);
	setrlimit(RLIMIT_NOFILE, &before);
	EXPECT_EQ(1, ((char *)thaw_base(self->heap))[17]);
}

TEST_F(opening, with_too_little_address_space)
{
	struct rlimit limit = {128u << 20, 128u << 20};
	struct thaw_options options = {
		.image = self->path, .max_bytes = 4ul << 30, .engine = "test"};

	if (SANITIZED)
		SKIP(return, "a sanitizer's shadow memory needs the address space");
	ASSERT_EQ(0, setrlimit(RLIMIT_AS, &limit));
	EXPECT_EQ(-ENOMEM, thaw_open(&options, &self->heap, &self->error));
	self->heap = NULL;
	EXPECT_NE(NULL, strstr(self->error.text, "ulimit -v"));
}

/* Every page, with whatever it takes to get it. */
static int wrong_pages(struct thaw *heap)
{
	int wrong = 0;

	for (unsigned page = 0; page < PAGES; page++)
		wrong += ((volatile char *)thaw_base(heap))[page * PAGE + 17] !=
			 (char)(page % 100 + 1);
	return wrong;
}

/* An ordinary user, who may not lock the memory of the service's buffers, nor in the end that of a ring. */
TEST_F(opening, without_locked_memory)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {{0}};

	ASSERT_EQ(0, syscall(SYS_capget, &header, data));
	data[0].effective &= ~(1u << CAP_IPC_LOCK);
	data[0].permitted &= ~(1u << CAP_IPC_LOCK);
	data[0].inheritable &= ~(1u << CAP_IPC_LOCK);
	ASSERT_EQ(0, syscall(SYS_capset, &header, data));
	for (rlim_t bytes = 256u << 10; bytes >= 4096; bytes /= 4) {
		struct rlimit little = {bytes, bytes};
		struct thaw_status status;

		ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &little));
		ASSERT_EQ(0, open_heap(&self->heap, self->path, &self->error))
		{
			TH_LOG("%lu bytes: %s", (unsigned long)bytes, self->error.text);
		}
		EXPECT_EQ(0, wrong_pages(self->heap));
		thaw_status(self->heap, &status);
		TH_LOG("%lu bytes: %s", (unsigned long)bytes, status.reader);
		thaw_close(self->heap);
		self->heap = NULL;
	}
}

/* A file that may not grow: an error, and nothing is lost. */
TEST_F(opening, with_a_limit_on_the_size_of_files)
{
	struct rlimit limit = {support_size(self->path) + 4096, RLIM_INFINITY};
	struct thaw_result result;

	ASSERT_EQ(0, open_heap(&self->heap, self->path, &self->error));
	signal(SIGXFSZ, SIG_IGN);
	ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &limit));
	memset(thaw_base(self->heap), 5, PAGES * PAGE);
	EXPECT_EQ(-EFBIG, thaw_checkpoint(self->heap, THAW_REASON_TIMER, "t", 2, &result));
	EXPECT_NE(NULL, strstr(result.error.text, self->path));
	limit.rlim_cur = RLIM_INFINITY;
	ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &limit));
	EXPECT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_TIMER, "t", 2, &result));
	EXPECT_EQ(PAGES, result.generation.pages_stored);
}

/*
 * The program makes one page read-only: the mapping is three mappings now, and a cluster of pages
 * crosses them. The kernel refuses the cluster; each page arrives for itself.
 */
TEST_F(opening, pages_arrive_across_a_change_of_protection)
{
	struct thaw_result result;

	ASSERT_EQ(0, open_heap(&self->heap, self->path, &self->error));
	for (unsigned page = 5; page < PAGES; page += 37)
		ASSERT_EQ(0,
			  mprotect((char *)thaw_base(self->heap) + page * PAGE, PAGE, PROT_READ));
	EXPECT_EQ(0, wrong_pages(self->heap));
	for (unsigned page = 0; page < PAGES; page++)
		if (page % 37 != 5)
			((char *)thaw_base(self->heap))[page * PAGE] = 3;
	EXPECT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_TIMER, "t", 2, &result));
	EXPECT_EQ(PAGES - (PAGES - 5 + 36) / 37, result.generation.pages_stored);
}

/* Never zero: a child that touches the region after a fork dies of it. */
TEST_F(opening, a_forked_child_reads_nothing_rather_than_zeros)
{
	int status;
	pid_t child;

	ASSERT_EQ(0, open_heap(&self->heap, self->path, &self->error));
	child = fork();
	if (!child) {
		signal(SIGSEGV, SIG_DFL);
		_exit(((volatile char *)thaw_base(self->heap))[17]);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	EXPECT_EQ(0, wrong_pages(self->heap));
}

TEST_HARNESS_MAIN
