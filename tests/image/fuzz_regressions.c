// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fuzz targets (tests/fuzz/) without a fuzzer: their first inputs, every input that once found
 * something (tests/fuzz/regressions/), and random changes of both for some seconds. Each runs in a
 * process of its own. What it finds is written to a file, to be kept among the regressions. `make fuzz`
 * searches on, with coverage.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <dirent.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "fuzz/fuzz.h"
#include "in_memory.h"

#define SECONDS 5 /* of random changes, for each target */
#define CHANGES_LEAST 50
#define INPUTS_MAX 256
#define BYTES_MAX (128u << 10)

static struct progress { /* shared with the parent, which tells what a dead child was doing */
	uint64_t seed;
	unsigned inputs, changes;
	char doing[PATH_MAX];
	size_t size; /* of the input that is used */
	uint8_t bytes[BYTES_MAX];
} * progress;

struct input {
	uint8_t *bytes;
	size_t size;
};

static struct input inputs[INPUTS_MAX];
static unsigned input_count;

static uint64_t monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void input_use(const struct fuzz_target *target, const uint8_t *bytes, size_t size)
{
	memcpy(progress->bytes, bytes, size);
	progress->size = size;
	target->one(bytes, size);
}

static void input_add(const uint8_t *bytes, size_t size)
{
	struct input *input = &inputs[input_count];

	if (input_count == INPUTS_MAX)
		fuzz_fail("more than %u inputs", INPUTS_MAX);
	input->bytes = malloc(size);
	if (!input->bytes)
		fuzz_fail("no memory");
	memcpy(input->bytes, bytes, size);
	input->size = size;
	input_count++;
}

static int is_text(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return dot && !strcmp(dot, ".txt");
}

/* The kept inputs of a target, all of them in order, each used as it is added. */
static void texts_run(const struct fuzz_target *target, uint8_t *buffer)
{
	char directory[PATH_MAX / 2];
	struct dirent **entries;
	int count;

	snprintf(directory, sizeof(directory), "%s/tests/fuzz/regressions/%s", THAW_SOURCE,
		 target->name);
	count = scandir(directory, &entries, is_text, alphasort);
	/* A target may have none; not even the directory above is there if the sources are not. */
	if (count < 0 && (errno != ENOENT || access(THAW_SOURCE "/tests/fuzz/regressions", R_OK)))
		fuzz_fail("%s: %s", directory, strerror(errno));
	for (int i = 0; i < count; i++) {
		size_t size;
		FILE *file;

		snprintf(progress->doing, sizeof(progress->doing), "%s/%s", directory,
			 entries[i]->d_name);
		file = fopen(progress->doing, "re");
		size = file ? fuzz_text_read(file, buffer, target->max_bytes) : 0;
		if (!size)
			fuzz_fail("%s: not the text of an input", progress->doing);
		fclose(file);
		input_add(buffer, size);
		input_use(target, buffer, size);
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
}

static void seeds_run(const struct fuzz_target *target, uint8_t *buffer)
{
	size_t size;

	for (unsigned i = 0; (size = target->seed(i, buffer)); i++) {
		snprintf(progress->doing, sizeof(progress->doing), "seed %u", i);
		input_add(buffer, size);
		input_use(target, buffer, size);
	}
}

/* As in a fuzzer, a change may be of what was changed before. */
static void changes_run(const struct fuzz_target *target, uint8_t *buffer)
{
	uint64_t end = monotonic_ms() + SECONDS * 1000;
	size_t size = 0;

	snprintf(progress->doing, sizeof(progress->doing), "random changes");
	while (progress->changes < CHANGES_LEAST || monotonic_ms() < end) {
		uint64_t random = progress->seed;
		const struct input *input = &inputs[fuzz_below(&random, input_count)];

		if (!size || fuzz_below(&random, 3)) {
			memcpy(buffer, input->bytes, input->size);
			size = input->size;
		}
		size = target->mutate(buffer, size, target->max_bytes, fuzz_next(&random));
		input_use(target, buffer, size);
		progress->changes++;
		progress->seed++;
	}
}

static void target_run(const struct fuzz_target *target)
{
	uint8_t *buffer = malloc(target->max_bytes);

	fuzz_limit(target);
	if (!buffer || target->max_bytes > BYTES_MAX)
		fuzz_fail("no memory");
	seeds_run(target, buffer);
	texts_run(target, buffer);
	progress->inputs = input_count;
	changes_run(target, buffer);
	exit(0); /* removes its files */
}

static uint64_t first_seed(void)
{
	const char *wanted = getenv("THAW_SEED");
	uint64_t seed;

	if (wanted)
		return strtoull(wanted, NULL, 0);
	return getrandom(&seed, sizeof(seed), 0) == sizeof(seed) ? seed : 1;
}

/* Where the input is that was used last. */
static const char *input_keep(const struct fuzz_target *target)
{
	static char path[PATH_MAX];
	const char *in = getenv("TMPDIR");
	FILE *file;

	snprintf(path, sizeof(path), "%s/thaw-fuzz-%s-%d.txt", in ? in : "/tmp", target->name,
		 (int)getpid());
	file = fopen(path, "we");
	if (!file)
		return "(it cannot be written)";
	fuzz_text_write(file, progress->bytes, progress->size);
	fclose(file);
	return path;
}

static void target_test(struct __test_metadata *_metadata, const struct fuzz_target *target)
{
	char directory[256], command[300];
	uint64_t seed = first_seed();
	int status;
	pid_t child;

	progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	ASSERT_NE(MAP_FAILED, progress);
	progress->seed = seed;
	/* What crashes does not tidy up. */
	snprintf(directory, sizeof(directory), "%s/thaw-fuzz-test-XXXXXX", in_memory());
	ASSERT_NE(NULL, mkdtemp(directory));
	setenv("THAW_FUZZ_DIRECTORY", directory, 1);
	snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	fflush(stdout);
	child = fork();
	if (!child)
		target_run(target);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, system(command));
	TH_LOG("%s: %u inputs and %u random changes of them, THAW_SEED=%#lx", target->name,
	       progress->inputs, progress->changes, seed);
	EXPECT_EQ(0, status)
	{
		TH_LOG("%s %d in %s; the input is kept in %s",
		       WIFSIGNALED(status) ? "signal" : "exit",
		       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
		       progress->doing, input_keep(target));
	}
	EXPECT_LT(0, progress->inputs);
	EXPECT_LE(CHANGES_LEAST, progress->changes);
}

TEST(image)
{
	target_test(_metadata, &fuzz_image);
}

TEST(state)
{
	target_test(_metadata, &fuzz_state);
}

TEST(process)
{
	target_test(_metadata, &fuzz_process);
}

TEST(snapshot)
{
	target_test(_metadata, &fuzz_snapshot);
}

TEST(heap)
{
	target_test(_metadata, &fuzz_heap);
}

TEST(answers_of_a_store)
{
	target_test(_metadata, &fuzz_answers);
}

TEST_HARNESS_MAIN
