// SPDX-License-Identifier: GPL-2.0-only
/*
 * Frozen heaps when something fails: each allocation, each mapping and each system call of a long story fails once, in
 * turn. What failed says so and has changed nothing, succeeds when it is tried again, and leaves no descriptor open.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <dirent.h>
#include <stdarg.h>
#include <sys/mman.h>

#include "support.h"
#include "sys.h"
#include "thaw_frozen.h"

#define UNIT 65536u
#define MOST (1u << 20)
#define PAGE 4096u

/* ---- The call that fails ---- */

static bool armed;
static unsigned calls, fails_at;
static bool has_failed;

static bool fails(void)
{
	if (!armed || ++calls != fails_at)
		return false;
	has_failed = true;
	return true;
}

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes)
{
	return fails() ? NULL : __real_malloc(bytes);
}

void *__real_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes)
{
	return fails() ? NULL : __real_calloc(count, bytes);
}

void *__real_realloc(void *old, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes)
{
	return fails() ? NULL : __real_realloc(old, bytes);
}

void *__real_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	errno = ENOMEM;
	return fails() ? MAP_FAILED : __real_mmap(at, bytes, protection, flags, fd, offset);
}

int __wrap_sys_injected(enum sys_call call);
int __wrap_sys_injected(enum sys_call call)
{
	static const int how[SYS_CALL_COUNT] = {
		[SYS_CALL_OPEN] = -EMFILE,   [SYS_CALL_READ] = -EIO,
		[SYS_CALL_WRITE] = -ENOSPC,  [SYS_CALL_TRUNCATE] = -ENOSPC,
		[SYS_CALL_MMAP] = -ENOMEM,   [SYS_CALL_IOCTL] = -ENOMEM,
		[SYS_CALL_ADVISE] = -ENOMEM, [SYS_CALL_MPROTECT] = -ENOMEM,
	};

	return fails() ? how[call] : 0;
}

/* ---- The story ---- */

struct story {
	struct thaw *heap;
	char *model; /* what is in the heap now */
	size_t bytes;
	struct thaw_frozen *frozen[4];
	char *models[4];
	size_t sizes[4];
	unsigned failed; /* operations that did */
};

static unsigned descriptors(void)
{
	DIR *list = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(list))
		count++;
	closedir(list);
	return count;
}

static bool is(const struct story *story)
{
	return thaw_size(story->heap) == story->bytes &&
	       !memcmp(thaw_base(story->heap), story->model, story->bytes);
}

/*
 * The operation fails if the call that fails is in it, and then succeeds. `kept`: is all as before? The library may also do
 * without what failed, as without a way to see faster what was written.
 */
#define TRY(operation, kept)                                                              \
	do {                                                                              \
		int code;                                                                 \
                                                                                          \
		armed = true;                                                             \
		code = (operation);                                                       \
		armed = false;                                                            \
		if (code) {                                                               \
			ASSERT_TRUE(has_failed) TH_LOG("%d: %s", code, error.text);       \
			ASSERT_LT(code, 0);                                               \
			ASSERT_EQ(code, error.code);                                      \
			ASSERT_NE(0, error.text[0]);                                      \
			ASSERT_TRUE(kept) TH_LOG("%s at %u", #operation, fails_at);       \
			story->failed++;                                                  \
			ASSERT_EQ(0, operation) TH_LOG("%s: %s", #operation, error.text); \
		}                                                                         \
	} while (0)

static void scribble(struct story *story, unsigned from, unsigned step, char what)
{
	for (size_t at = from * PAGE; at < story->bytes; at += step * PAGE)
		((char *)thaw_base(story->heap))[at + 7] = story->model[at + 7] = what;
}

static int open_heap(struct story *story, struct thaw_frozen *frozen, struct thaw_error *error)
{
	struct thaw_options options = {.max_bytes = MOST, .frozen = frozen};
	int code = thaw_open(&options, &story->heap, error);

	if (code)
		story->heap = NULL;
	return code;
}

static int freeze(struct story *story, unsigned i, struct thaw_error *error)
{
	int code = thaw_freeze(story->heap, "state", 6, &story->frozen[i], error);

	if (!code) {
		memcpy(story->models[i], story->model, MOST);
		story->sizes[i] = story->bytes;
	}
	return code;
}

static void now_is(struct story *story, unsigned i)
{
	memcpy(story->model, story->models[i], MOST);
	story->bytes = story->sizes[i];
}

static int resize(struct story *story, size_t bytes, struct thaw_error *error)
{
	int code = thaw_resize(story->heap, bytes);

	error->code = code;
	if (!code)
		story->bytes = bytes;
	else
		snprintf(error->text, sizeof(error->text), "resize");
	return code;
}

static int revert(struct story *story, unsigned i, struct thaw_error *error)
{
	return thaw_revert(story->heap, story->frozen[i], error);
}

static int count_change(void *arg, const struct thaw_page_change *change)
{
	*(uint64_t *)arg += change->pages;
	return 0;
}

static int differ(struct story *story, unsigned a, unsigned b, uint64_t *count,
		  struct thaw_error *error)
{
	*count = 0;
	return thaw_frozen_diff(story->frozen[a], story->frozen[b], count_change, count, error);
}

static int write_over(struct story *story, struct thaw_error *error)
{
	struct thaw_frozen *made;
	int code = thaw_frozen_begin_over(story->frozen[1], MOST, &made, error);

	for (unsigned i = 0; !code && i < 5; i++)
		code = thaw_frozen_write(made, i * 10 * PAGE + 100, "written over", 12, error);
	if (!code)
		code = thaw_frozen_end(made, "over", 5, error);
	if (code) {
		thaw_frozen_drop(made);
		return code;
	}
	story->frozen[3] = made;
	story->sizes[3] = MOST;
	memset(story->models[3], 0, MOST);
	memcpy(story->models[3], story->models[1], story->sizes[1]);
	for (unsigned i = 0; i < 5; i++)
		memcpy(story->models[3] + i * 10 * PAGE + 100, "written over", 12);
	return 0;
}

static uint64_t different(const struct story *story, unsigned a, unsigned b)
{
	uint64_t count = 0;

	for (size_t at = 0; at < MOST; at += PAGE)
		count += memcmp(story->models[a] + at, story->models[b] + at, PAGE) != 0;
	return count;
}

static void tell(struct __test_metadata *_metadata, struct story *story)
{
	struct thaw_error error = {0};
	uint64_t count = 0, sum[2];

	TRY(open_heap(story, NULL, &error), true);
	TRY(resize(story, 6 * UNIT, &error), thaw_size(story->heap) == 0);
	scribble(story, 0, 1, 'a');
	TRY(freeze(story, 0, &error), is(story));
	ASSERT_TRUE(is(story));
	scribble(story, 3, 9, 'b');
	TRY(resize(story, 8 * UNIT, &error), is(story));
	scribble(story, 100, 9, 'c');
	TRY(freeze(story, 1, &error), is(story));
	scribble(story, 5, 50, 'd');
	TRY(freeze(story, 2, &error), is(story));
	/* Back, also where it was smaller; what lies beyond is zero when it grows again. */
	scribble(story, 0, 2, 'e');
	TRY(revert(story, 1, &error), error.code == -ENOMEM || is(story));
	now_is(story, 1);
	ASSERT_TRUE(is(story));
	scribble(story, 0, 2, 'f');
	TRY(revert(story, 0, &error), error.code == -ENOMEM || is(story));
	now_is(story, 0);
	ASSERT_TRUE(is(story));
	TRY(differ(story, 1, 2, &count, &error), true);
	ASSERT_EQ(different(story, 1, 2), count);
	TRY(write_over(story, &error), true);
	TRY(thaw_frozen_sum(story->frozen[3], sum, &error), true);
	thaw_close(story->heap);
	TRY(open_heap(story, story->frozen[3], &error), true);
	now_is(story, 3);
	ASSERT_TRUE(is(story));
	for (unsigned i = 0; i < 4; i++) {
		char *read = __real_malloc(MOST);

		TRY(thaw_frozen_read(story->frozen[i], 0, read, story->sizes[i], &error), true);
		ASSERT_EQ(0, memcmp(read, story->models[i], story->sizes[i]));
		free(read);
	}
}

static void run_story(struct __test_metadata *_metadata, unsigned at, bool *again, unsigned *failed)
{
	struct story story = {.model = calloc(1, MOST)};
	unsigned before = descriptors();

	for (unsigned i = 0; i < 4; i++)
		story.models[i] = calloc(1, MOST);
	calls = 0;
	fails_at = at;
	has_failed = false;
	tell(_metadata, &story);
	thaw_close(story.heap);
	for (unsigned i = 0; i < 4; i++) {
		thaw_frozen_drop(story.frozen[i]);
		free(story.models[i]);
	}
	free(story.model);
	ASSERT_EQ(before, descriptors());
	*again = has_failed;
	*failed += story.failed;
}

FIXTURE(story){};
FIXTURE_VARIANT(story)
{
	const char *without;
};
FIXTURE_VARIANT_ADD(story, pagemap_scan){.without = ""};
FIXTURE_VARIANT_ADD(story, pagemap){.without = "pagemap-scan"};
FIXTURE_VARIANT_ADD(story, compared){.without = "pagemap-scan,pagemap"};
FIXTURE_SETUP(story)
{
	setenv("THAW_WITHOUT", variant->without, 1);
}
FIXTURE_TEARDOWN(story)
{
}

TEST_F(story, goes_on_after_each_failure)
{
	bool again = true;
	unsigned at = 0, failed = 0;

	while (again) {
		run_story(_metadata, ++at, &again, &failed);
		/* The copies of pages are many, and all alike. */
		if (at > 150)
			at += 12;
	}
	TH_LOG("%u calls, %u operations failed", calls, failed);
	ASSERT_LT(100, at);
	ASSERT_LT(50, failed);
}

TEST_HARNESS_MAIN
