// SPDX-License-Identifier: GPL-2.0-only
/*
 * s3_memory.c - each allocation of the S3 client fails once: a request ends with -ENOMEM or succeeds, all memory is given back, and the next
 * one is as if nothing had been. (Calls are replaced by ld's --wrap, see tests/tests.mk; libcurl's own stay.)
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <errno.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "store/s3.h"
#include "store_server.h"

static atomic_long allocations, outstanding;
static _Atomic long fails_at; /* -1: none */
static atomic_bool counts;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *pointer, size_t bytes);
void *__real_reallocarray(void *pointer, size_t count, size_t bytes);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t bytes);
int __real_vasprintf(char **text, const char *format, va_list arguments);
ssize_t __real___getdelim(char **line, size_t *room, int end, FILE *file);
void __real_free(void *pointer);

static bool fails(void)
{
	return counts && allocations++ == fails_at;
}

static void *got(void *pointer)
{
	outstanding += counts && pointer;
	return pointer;
}

void *__wrap_malloc(size_t bytes)
{
	return fails() ? NULL : got(__real_malloc(bytes));
}

void *__wrap_calloc(size_t count, size_t bytes)
{
	return fails() ? NULL : got(__real_calloc(count, bytes));
}

void *__wrap_realloc(void *pointer, size_t bytes)
{
	if (fails())
		return NULL;
	return pointer ? __real_realloc(pointer, bytes) : got(__real_realloc(NULL, bytes));
}

void *__wrap_reallocarray(void *pointer, size_t count, size_t bytes)
{
	void *array = fails() ? NULL : __real_reallocarray(pointer, count, bytes);

	return pointer ? array : got(array);
}

char *__wrap_strdup(const char *text)
{
	return fails() ? NULL : got(__real_strdup(text));
}

char *__wrap_strndup(const char *text, size_t bytes)
{
	return fails() ? NULL : got(__real_strndup(text, bytes));
}

int __wrap_vasprintf(char **text, const char *format, va_list arguments)
{
	int bytes;

	if (fails())
		return -1;
	bytes = __real_vasprintf(text, format, arguments);
	if (bytes >= 0)
		got(*text);
	return bytes;
}

int __wrap_asprintf(char **text, const char *format, ...)
{
	va_list arguments;
	int bytes;

	va_start(arguments, format);
	bytes = __wrap_vasprintf(text, format, arguments);
	va_end(arguments);
	return bytes;
}

/* Of getline(3). */
ssize_t __wrap___getdelim(char **line, size_t *room, int end, FILE *file)
{
	char *before = *line;
	bool failing = fails();
	ssize_t bytes = failing ? -1 : __real___getdelim(line, room, end, file);

	if (failing)
		errno = ENOMEM;
	if (!before)
		got(*line);
	return bytes;
}

void __wrap_free(void *pointer)
{
	outstanding -= counts && pointer;
	__real_free(pointer);
}

/* ---- */

/* Each kind of request. How many ended with -ENOMEM; -1: with something else. */
static int use(const char *place, uint64_t deadline_ns)
{
	const struct s3_settings settings = {.back_off_ns = 100000};
	struct s3_request head = {.verb = S3_HEAD, .key = "a/1", .deadline_ns = deadline_ns};
	struct s3_request list = {.verb = S3_LIST, .key = "a/", .deadline_ns = deadline_ns};
	const char *const keys[] = {"a/1", "a/2"};
	int codes[8] = {0}, failed = 0;
	struct thaw_error error = {0};
	void *bytes = NULL;
	struct s3 *s3;
	size_t count;

	codes[0] = s3_open(place, &settings, &s3, &error);
	if (!codes[0]) {
		codes[1] = s3_put(s3, keys[0], "one", 3, 0, deadline_ns, &error);
		codes[2] = s3_put(s3, keys[1], "two", 3, S3_NEW, deadline_ns, &error);
		codes[3] = s3_get(s3, keys[0], 10, deadline_ns, &bytes, &count, &error);
		if (!codes[3] && (count != 3 || memcmp(bytes, "one", 3)))
			codes[3] = codes[1] ? 0 : -EIO;
		codes[4] = s3_do(s3, &list, &error);
		codes[5] = s3_do(s3, &head, &error);
		codes[6] = s3_get(s3, "none", 10, deadline_ns, &(void *){NULL}, &count, &error);
		if (codes[6] == -ENOENT)
			codes[6] = 0;
		codes[7] = s3_delete(s3, keys, 2, deadline_ns, &error);
		free(bytes);
		s3_release(&list);
		s3_release(&head);
		s3_close(s3);
	}
	for (unsigned i = 0; i < 8; i++) {
		failed += codes[i] == -ENOMEM;
		/* What could not be put is not there, and is there if it could not be deleted. */
		if (codes[i] && codes[i] != -ENOMEM && codes[i] != -ENOENT && codes[i] != -EEXIST) {
			printf("# %u: %d %s\n", i, codes[i], error.text);
			return -1;
		}
	}
	return failed;
}

TEST(every_allocation_fails_once)
{
	uint64_t deadline_ns = clock_monotonic_ns() + 100000000000ull * test_patience_now();
	struct store_server server;
	int failed = 0;
	long at = 0;

	unsetenv("THAW_TEST_STORE");
	store_server_begin(&server);
	fails_at = -1;
	ASSERT_EQ(0, use(server.place, deadline_ns));
	for (; allocations >= at; at++) {
		fails_at = at;
		allocations = outstanding = 0;
		counts = true;
		failed = use(server.place, deadline_ns);
		counts = false;
		ASSERT_LE(0, failed);
		ASSERT_EQ(0, outstanding)
		{
			printf("# after the failure of allocation %ld\n", at);
		}
	}
	EXPECT_EQ(0, failed);
	EXPECT_LT(40, at);
	store_server_end(&server);
}

TEST_HARNESS_MAIN
