// SPDX-License-Identifier: GPL-2.0-only
/*
 * heap_log.c - a heap whose generations follow each other quickly (THAW_LOG): whenever its program is killed, the newest
 * durable one is there, whole; a command lists it; and what the log held is listed when the heap is closed.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "support.h"
#include "thaw.h"

#define BYTES (1u << 20)
#define GENERATIONS 200u

FIXTURE(logged)
{
	char *directory, *path;
	uint64_t *told; /* by the program: the number, and what is in its heap */
};
FIXTURE_SETUP(logged)
{
	char *lacks;

	self->directory = support_directory();
	lacks = support_kernel_lacks(self->directory);
	if (lacks)
		SKIP(return, "%s", lacks);
	self->path = support_format("%s/heap.thaw", self->directory);
	self->told = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->told);
}
FIXTURE_TEARDOWN(logged)
{
	munmap(self->told, 4096);
	free(self->path);
	support_remove(self->directory);
}

static struct thaw *heap_open(const char *path)
{
	const struct thaw_options options = {.image = path,
					     .flags = THAW_CREATE | THAW_LOG,
					     .max_bytes = BYTES,
					     .engine = "heap_log"};
	struct thaw_error error;
	struct thaw *heap;

	if (!thaw_open(&options, &heap, &error))
		return heap;
	fprintf(stderr, "# %s\n", error.text);
	return NULL;
}

/* Each generation has its count in every 16th page, and in its state. False: it failed. */
static bool program(const char *path, uint64_t *told, uint64_t generations, bool close)
{
	struct thaw *heap = heap_open(path);
	struct thaw_result result;

	if (!heap || thaw_resize(heap, BYTES))
		return false;
	for (uint64_t i = 0; i < generations; i++) {
		uint64_t count = told[1] + 1;

		for (size_t at = 0; at < BYTES; at += 65536)
			*(volatile uint64_t *)((char *)thaw_base(heap) + at) = count;
		if (thaw_checkpoint(heap, THAW_REASON_REQUEST, &count, sizeof(count), &result))
			return false;
		told[0] = result.generation.number;
		told[1] = count;
		told[2] += result.generation.bytes_written;
	}
	if (close)
		thaw_close(heap);
	return true;
}

static uint64_t newest_listed(const char *path, unsigned *listed)
{
	const struct thaw_generation *log;
	struct thaw_error error;
	struct thaw_image *image;
	uint64_t number = 0;

	if (thaw_image_open(path, &image, &error))
		return 0;
	*listed = thaw_image_log(image, &log);
	if (*listed)
		number = log[*listed - 1].number;
	thaw_image_close(image);
	return number;
}

/* 0: it is all there. */
static unsigned heap_compare(const char *path, const uint64_t *told)
{
	struct thaw *heap = heap_open(path);
	unsigned wrong = 0;
	const void *state;
	size_t bytes;

	if (!heap)
		return 1;
	state = thaw_state(heap, &bytes);
	wrong += thaw_opened(heap)->number != told[0];
	wrong += bytes != sizeof(uint64_t) || memcmp(state, &told[1], sizeof(uint64_t));
	for (size_t at = 0; at < BYTES; at += 65536)
		wrong += *(volatile uint64_t *)((char *)thaw_base(heap) + at) != told[1];
	thaw_close(heap);
	return wrong;
}

/* Runs it in a process that ends without closing anything. */
static int program_killed(const char *path, uint64_t *told)
{
	pid_t child = fork();
	int status;

	if (!child) {
		if (!program(path, told, GENERATIONS, false))
			_exit(2);
		kill(getpid(), SIGKILL);
	}
	waitpid(child, &status, 0);
	return WIFSIGNALED(status) ? 0 : WEXITSTATUS(status);
}

TEST_F(logged, the_newest_generation_is_there_after_a_kill)
{
	for (unsigned life = 0; life < 3; life++) {
		ASSERT_EQ(0, program_killed(self->path, self->told));
		EXPECT_EQ(0, heap_compare(self->path, self->told))
		TH_LOG("life %u: generation %llu", life, (unsigned long long)self->told[0]);
	}
}

TEST_F(logged, a_command_lists_the_newest_one)
{
	struct thaw_error error;
	unsigned listed;

	ASSERT_EQ(0, program_killed(self->path, self->told));
	EXPECT_GE(self->told[0], newest_listed(self->path, &listed));
	ASSERT_EQ(0, thaw_image_settle(self->path, &error)) TH_LOG("%s", error.text);
	EXPECT_EQ(self->told[0], newest_listed(self->path, &listed));
	EXPECT_EQ(0, heap_compare(self->path, self->told));
}

TEST_F(logged, all_is_listed_when_it_is_closed)
{
	unsigned listed;

	ASSERT_TRUE(program(self->path, self->told, GENERATIONS, true));
	EXPECT_EQ(self->told[0], newest_listed(self->path, &listed));
	EXPECT_EQ(0, heap_compare(self->path, self->told));
}

TEST_HARNESS_MAIN
