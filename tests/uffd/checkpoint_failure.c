// SPDX-License-Identifier: GPL-2.0-only
/*
 * A checkpoint that fails loses no written page: whatever call failed and wherever, the
 * generation before stays what it was, the program goes on, and the next checkpoint that succeeds
 * holds everything. Failures are made with THAW_INJECT (uffd/sys.h), and a full disk with a full
 * disk.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <pthread.h>
#include <sys/mount.h>

#include "by_path.h"
#include "support.h"
#include "thaw.h"

#define PAGE ((size_t)sysconf(_SC_PAGESIZE))
#define HEAP (8u << 20)

static int open_heap(struct thaw **heap, const char *path, struct thaw_error *error)
{
	struct thaw_options options = {
		.image = path, .flags = THAW_CREATE, .max_bytes = 64u << 20, .engine = "test"};

	return thaw_open(&options, heap, error);
}

/*
 * What each injected child does: three generations of a heap, each written over every third page,
 * retrying a failed checkpoint until it succeeds. Exit 0 if at least one failed and all came out
 * right, 50 if there was no heap to begin with. Read back by the parent.
 */
static int child_main(const char *path)
{
	struct thaw_error error;
	struct thaw *heap;
	int failures = 0;

	if (open_heap(&heap, path, &error)) {
		fprintf(stderr, "# %s\n", error.text);
		return error.code == -EIO || error.code == -ENOSPC || error.code == -ENOMEM ? 50
											    : 3;
	}
	if (!thaw_size(heap) && thaw_resize(heap, HEAP))
		return 50;
	for (uint64_t round = 1; round <= 3; round++) {
		struct thaw_result result;
		int tries = 0;

		for (size_t page = round; page < HEAP / PAGE; page += 3)
			*(uint64_t *)((char *)thaw_base(heap) + page * PAGE) += round;
		while (thaw_checkpoint(heap, THAW_REASON_TIMER, &round, sizeof(round), &result)) {
			struct thaw_status status;

			failures++;
			thaw_status(heap, &status);
			if (status.checkpoint_error.code != result.code || !*result.error.text)
				return 5;
			if (++tries > 40)
				return 6;
		}
		if (result.unchanged)
			return 7;
	}
	thaw_close(heap);
	return failures ? 0 : 51;
}

static int check(const char *path, struct thaw_error *error)
{
	struct thaw_verify_ops ops = {0};
	struct thaw_verify_summary summary;
	struct thaw *heap;
	int wrong = 0;

	if (thaw_image_verify(path, &ops, &summary, error) || open_heap(&heap, path, error))
		return -1;
	for (size_t page = 0; page < HEAP / PAGE; page++) {
		uint64_t expected = 0;

		for (uint64_t round = 1; round <= 3; round++)
			expected += page >= round && page % 3 == round % 3 ? round : 0;
		wrong += *(uint64_t *)((char *)thaw_base(heap) + page * PAGE) != expected;
	}
	thaw_close(heap);
	return wrong;
}

FIXTURE(failing)
{
	char *directory, *path;
	struct thaw_error error;
};
FIXTURE_SETUP(failing)
{
	self->directory = support_directory();
	self->path = support_format("%s/heap.thaw", self->directory);
}
FIXTURE_TEARDOWN(failing)
{
	free(self->path);
	support_remove(self->directory);
}

static int run_child(const char *path, const char *injection)
{
	pid_t child = fork();
	int status;

	if (!child) {
		setenv("THAW_INJECT", injection, 1);
		execl("/proc/self/exe", "checkpoint_failure", "--child", path, NULL);
		_exit(127);
	}
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST_F_TIMEOUT(failing, no_call_loses_a_page, 240)
{
	static const char *const calls[] = {"write:ENOSPC", "write:EIO", "fdatasync:EIO",
					    "mmap:ENOMEM"};
	int tried = 0, failed = 0;

	for (unsigned call = 0; call < 4; call++) {
		for (int skip = 0; skip < 60; skip++) {
			for (int count = 1; count <= 4; count += 3) {
				char *injection =
					support_format("%s:%d:%d", calls[call], skip, count);
				int code;

				unlink(self->path);
				code = run_child(self->path, injection);
				ASSERT_TRUE(code == 0 || code == 50 || code == 51)
				{
					TH_LOG("%s: exit %d", injection, code);
				}
				tried++;
				failed += code == 0;
				if (code != 50) {
					ASSERT_EQ(0, check(self->path, &self->error))
					{
						TH_LOG("%s: %s", injection, self->error.text);
					}
				}
				free(injection);
				if (code == 51) { /* past the last call of this kind */
					skip = 60;
					break;
				}
			}
		}
	}
	TH_LOG("%d runs, checkpoints failed in %d of them", tried, failed);
	EXPECT_GT(failed, 20);
}

TEST_F(failing, a_full_disk_is_survived)
{
	struct thaw_result result;
	struct thaw *heap;
	char *mountpoint = support_format("%s/disk", self->directory);
	char *path = support_format("%s/heap.thaw", mountpoint),
	     *ballast = support_format("%s/ballast", mountpoint);
	static char block[1 << 20];
	int fd;

	ASSERT_EQ(0, mkdir(mountpoint, 0700));
	if (mount("tmpfs", mountpoint, "tmpfs", 0, "size=24m"))
		SKIP(return, "cannot mount a small tmpfs: %s", strerror(errno));
	ASSERT_EQ(0, open_heap(&heap, path, &self->error));
	ASSERT_EQ(0, thaw_resize(heap, HEAP));
	memset(thaw_base(heap), 1, HEAP);
	ASSERT_EQ(0, thaw_checkpoint(heap, THAW_REASON_TIMER, "1", 2, &result));
	fd = open(ballast, O_CREAT | O_WRONLY, 0600);
	while (write(fd, block, sizeof(block)) > 0)
		;
	close(fd);
	memset(thaw_base(heap), 2, HEAP);
	EXPECT_EQ(-ENOSPC, thaw_checkpoint(heap, THAW_REASON_TIMER, "2", 2, &result));
	TH_LOG("%s", result.error.text);
	EXPECT_NE(NULL, strstr(result.error.text, path));
	EXPECT_EQ(-ENOSPC, thaw_checkpoint(heap, THAW_REASON_TIMER, "2", 2, &result));
	/* Room again: nothing was lost, and the program never stopped. */
	unlink(ballast);
	((char *)thaw_base(heap))[5] = 3;
	ASSERT_EQ(0, thaw_checkpoint(heap, THAW_REASON_TIMER, "2", 2, &result));
	thaw_close(heap);
	ASSERT_EQ(0, open_heap(&heap, path, &self->error));
	for (size_t at = 0; at < HEAP; at += 64)
		ASSERT_EQ(2, ((char *)thaw_base(heap))[at]);
	EXPECT_EQ(3, ((char *)thaw_base(heap))[5]);
	thaw_close(heap);
	umount2(mountpoint, MNT_DETACH);
	free(ballast);
	free(path);
	free(mountpoint);
}

/* Holes of one block, which are too short as long as there is a disk to grow on. */
TEST_F(failing, short_holes_are_used_on_a_full_disk)
{
	struct thaw_result result;
	struct thaw *heap;
	char *mountpoint = support_format("%s/disk", self->directory);
	char *path = support_format("%s/heap.thaw", mountpoint),
	     *ballast = support_format("%s/ballast", mountpoint);
	struct thaw_options options = {.image = path,
				       .flags = THAW_CREATE,
				       .max_bytes = 64u << 20,
				       .engine = "test",
				       .retain = 1};
	static char block[4096];
	char *base;
	int fd, code, failures = 0;

	ASSERT_EQ(0, mkdir(mountpoint, 0700));
	if (mount("tmpfs", mountpoint, "tmpfs", 0, "size=24m"))
		SKIP(return, "cannot mount a small tmpfs: %s", strerror(errno));
	ASSERT_EQ(0, thaw_open(&options, &heap, &self->error));
	ASSERT_EQ(0, thaw_resize(heap, HEAP));
	base = thaw_base(heap);
	for (size_t page = 0; page < HEAP / PAGE; page++)
		*(uint64_t *)(base + page * PAGE) = page + 1;
	ASSERT_EQ(0, thaw_checkpoint(heap, THAW_REASON_TIMER, "1", 2, &result));
	for (int round = 2; round < 4; round++) {
		for (size_t page = 0; page < HEAP / PAGE; page += 8)
			*(uint64_t *)(base + page * PAGE) += 1u << 20;
		ASSERT_EQ(0, thaw_checkpoint(heap, THAW_REASON_TIMER, "2", 2, &result));
	}
	fd = open(ballast, O_CREAT | O_WRONLY, 0600);
	while (write(fd, block, sizeof(block)) > 0)
		;
	close(fd);
	for (size_t page = 1; page < HEAP / PAGE; page += 16)
		*(uint64_t *)(base + page * PAGE) += 1u << 20;
	while ((code = thaw_checkpoint(heap, THAW_REASON_TIMER, "3", 2, &result)) && failures < 4)
		failures++;
	EXPECT_EQ(0, code) TH_LOG("%s", result.error.text);
	TH_LOG("%d failed before", failures);
	thaw_close(heap);
	ASSERT_EQ(0, open_heap(&heap, path, &self->error));
	base = thaw_base(heap);
	for (size_t page = 0; page < HEAP / PAGE; page++)
		ASSERT_EQ(page + 1 + (page % 8 ? page % 16 == 1 ? 1u << 20 : 0 : 2u << 20),
			  *(uint64_t *)(base + page * PAGE));
	thaw_close(heap);
	umount2(mountpoint, MNT_DETACH);
	free(ballast);
	free(path);
	free(mountpoint);
}

/* ---- A name that is given while its checkpoint fails */

/* The heap that the library's other threads give a name to before each lock that they take (TEST_WRAPS). */
static struct thaw *late_heap;
static pthread_mutex_t late_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned late_names;
static pthread_t owner;

int __real_pthread_mutex_lock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_lock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_lock(pthread_mutex_t *lock)
{
	static __thread bool inside;

	if (!inside && !pthread_equal(pthread_self(), owner)) {
		inside = true;
		__real_pthread_mutex_lock(&late_lock);
		if (late_heap && !thaw_checkpoint_name(late_heap, "late"))
			late_names++;
		pthread_mutex_unlock(&late_lock);
		inside = false;
	}
	return __real_pthread_mutex_lock(lock);
}

static void late_set(struct thaw *heap)
{
	__real_pthread_mutex_lock(&late_lock);
	late_heap = heap;
	pthread_mutex_unlock(&late_lock);
}

/*
 * One checkpoint that is given a name at every moment until it has failed, or is ready to be captured,
 * and then is; and one without a name. Exit 1: the first failed after it had been given its name; 0: it
 * failed before, or succeeded; more: what was wrong.
 */
static int late_main(const char *path)
{
	struct thaw_error error;
	struct thaw_result result = {0};
	struct thaw_name *names;
	uint64_t named;
	struct thaw *heap;
	bool failed;

	owner = pthread_self();
	if (open_heap(&heap, path, &error))
		return 2;
	if (!thaw_size(heap) && thaw_resize(heap, HEAP))
		return 3;
	++*(int *)thaw_base(heap);
	late_set(heap);
	if (thaw_checkpoint_begin(heap, THAW_REASON_TIMER))
		return 4;
	failed = thaw_checkpoint_wait(heap) == THAW_DONE;
	if (!failed && thaw_checkpoint_capture(heap, THAW_KIND_PORTABLE, "1", 2))
		return 5;
	thaw_checkpoint_wait(heap);
	late_set(NULL);
	thaw_checkpoint_poll(heap, &result);
	if (failed != (result.code != 0))
		return failed ? 6 : 0; /* it failed later: what is captured takes no more names */
	named = failed ? 1 : result.generation.number; /* the first child's first has it */
	if (thaw_checkpoint(heap, THAW_REASON_TIMER, "2", 2, &result))
		return failed ? 7 : 0;
	thaw_close(heap);
	if (path_names(path, &names, &error) != 1 || names->generation != named)
		return 8;
	free(names);
	return failed && late_names;
}

static int late_child(const char *path, const char *injection)
{
	pid_t child = fork();
	int status;

	if (!child) {
		setenv("THAW_INJECT", injection, 1); /* read once in a process */
		_exit(late_main(path));
	}
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST_F(failing, its_name_is_not_for_the_next_one)
{
	int failed = 0;

	for (int skip = 0; skip < 20; skip++) {
		char *injection = support_format("fdatasync:EIO:%d", skip);
		int code;

		unlink(self->path);
		ASSERT_EQ(0, late_child(self->path, ""));
		code = late_child(self->path, injection);
		ASSERT_LE(code, 1) TH_LOG("%s: exit %d", injection, code);
		failed += code;
		free(injection);
	}
	EXPECT_GT(failed, 0);
}

/* An owner that cannot capture gives the checkpoint up: it is over, and nothing is lost. */
TEST_F(failing, what_is_abandoned_is_dirty_again)
{
	struct thaw_result result;
	struct thaw_status status;
	struct thaw *heap;

	ASSERT_EQ(0, open_heap(&heap, self->path, &self->error));
	ASSERT_EQ(0, thaw_resize(heap, HEAP));
	memset(thaw_base(heap), 7, HEAP);
	EXPECT_EQ(-EINVAL, thaw_checkpoint_abandon(heap, -ENOMEM, "no memory"));
	ASSERT_EQ(0, thaw_checkpoint_begin(heap, THAW_REASON_TIMER));
	ASSERT_EQ(THAW_READY, thaw_checkpoint_wait(heap));
	EXPECT_EQ(-EINVAL, thaw_checkpoint_abandon(heap, 0, "nothing is wrong"));
	ASSERT_EQ(0, thaw_checkpoint_abandon(heap, -ENOMEM, "no memory"));
	ASSERT_EQ(THAW_DONE, thaw_checkpoint_poll(heap, &result));
	EXPECT_EQ(-ENOMEM, result.code);
	EXPECT_STREQ("no memory", result.error.text);
	thaw_status(heap, &status);
	EXPECT_EQ(1, status.checkpoints_failed);
	EXPECT_EQ(THAW_IDLE, thaw_checkpoint_poll(heap, &result));
	ASSERT_EQ(0, thaw_checkpoint(heap, THAW_REASON_TIMER, "1", 2, &result));
	EXPECT_EQ(HEAP / PAGE, result.generation.pages_stored);
	thaw_close(heap);
	ASSERT_EQ(0, open_heap(&heap, self->path, &self->error));
	for (size_t at = 0; at < HEAP; at += 64)
		ASSERT_EQ(7, ((char *)thaw_base(heap))[at]);
	thaw_close(heap);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--child"))
		return child_main(argv[2]);
	return test_harness_run(argc, argv);
}
