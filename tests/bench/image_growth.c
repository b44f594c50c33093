// SPDX-License-Identifier: MIT
/*
 * image_growth - samples for interleave of a program that checkpoints for ever: 100,000 checkpoints of 100 random dirty pages
 * on a heap of 256 MiB, 8 generations retained. How long the file becomes (target: at most twice what
 * is retained, plus 64 MiB), and what a checkpoint costs at the beginning and at the end (target: at
 * most 1.2 apart). Then how fast that file is verified and compacted, against hashing and copying
 * the same bytes in the same run.
 *
 * In memory (/dev/shm) where there is enough of it, since 200,000 syncs of a disk would take hours
 * and measure the disk. CHECKPOINTS=N makes it shorter, TMPDIR chooses another place.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "../by_path.h"
#include "bench.h"
#include "thaw.h"

#define PAGE 4096u
#define HEAP (256u << 20)
#define PAGES (HEAP / PAGE)
#define DIRTY 100u
#define WINDOW 200u /* checkpoints whose median is the cost at some point */
#define RUNS 5

static char directory[128], image[160], copy[160];
static unsigned random_state = 1;

static double seconds(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double median(const double *values, unsigned count)
{
	double sorted[WINDOW];

	memcpy(sorted, values, count * sizeof(*sorted));
	qsort(sorted, count, sizeof(*sorted), compare);
	return sorted[count / 2];
}

static void dirty_some(struct thaw *heap, unsigned pages)
{
	for (unsigned i = 0; i < pages; i++) {
		random_state = random_state * 1664525u + 1013904223u;
		((unsigned *)thaw_base(heap))[(size_t)((random_state >> 4) % PAGES) * (PAGE / 4)] +=
			1 + i;
	}
}

static void tell_size(const char *what, unsigned long checkpoints, uint64_t bytes)
{
	printf("image growth\t%s after %lu checkpoints\t%.1f\tMiB\n", what, checkpoints,
	       (double)bytes / 1048576);
}

static void print_space(unsigned long checkpoints)
{
	struct thaw_image_info info;
	struct thaw_error error;

	if (path_info(image, true, &info, &error))
		die(error.text);
	tell_size("retained", checkpoints, info.retained_bytes);
	tell_size("file", checkpoints, info.file_bytes);
	tell_size("file on disk", checkpoints, info.allocated_bytes);
	tell_size("bound of the file", checkpoints, 2 * info.retained_bytes + 67108864);
}

static void grow(unsigned long checkpoints)
{
	struct thaw_options options = {
		.image = image, .flags = THAW_CREATE, .max_bytes = HEAP, .engine = "bench"};
	double *wall = calloc(checkpoints + 1, sizeof(*wall));
	double *cpu = calloc(checkpoints + 1, sizeof(*cpu));
	struct thaw_result result;
	struct thaw_error error;
	struct thaw *heap;

	if (!wall || !cpu || thaw_open(&options, &heap, &error) || thaw_resize(heap, HEAP))
		die(error.text);
	for (unsigned i = 0; i < HEAP / 4; i++)
		((unsigned *)thaw_base(heap))[i] = i * 2654435761u;
	if (thaw_checkpoint(heap, THAW_REASON_REQUEST, "s", 2, &result))
		die(result.error.text);
	for (unsigned long i = 1; i <= checkpoints; i++) {
		double from = seconds(CLOCK_MONOTONIC);
		double cpu_from = seconds(CLOCK_PROCESS_CPUTIME_ID);

		dirty_some(heap, DIRTY);
		if (thaw_checkpoint(heap, THAW_REASON_TIMER, "s", 2, &result))
			die(result.error.text);
		wall[i] = seconds(CLOCK_MONOTONIC) - from;
		cpu[i] = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_from;
		if (i == 10 || i == 1000 || i == 10000 || i == checkpoints)
			print_space(i);
	}
	for (unsigned long at = 10; at <= checkpoints; at = at == 10 ? checkpoints : at + 1) {
		unsigned long from = at == 10 ? 10 : checkpoints - WINDOW + 1;

		printf("a checkpoint of a growing image\tafter %lu\t%.3f\tms\n", at,
		       median(wall + from, WINDOW) * 1e3);
		printf("a checkpoint of a growing image\tafter %lu, processor time\t%.3f\tms\n", at,
		       median(cpu + from, WINDOW) * 1e3);
	}
	thaw_close(heap);
	free(wall);
	free(cpu);
}

/* Every byte of the file: only read, hashed, or written to a copy. */
static uint64_t read_all(XXH3_state_t *hash, int to)
{
	static char buffer[1 << 20];
	int fd = open(image, O_RDONLY);
	uint64_t bytes = 0;
	ssize_t got;

	if (fd < 0)
		die("cannot read the image");
	while ((got = read(fd, buffer, sizeof(buffer))) > 0) {
		bytes += (uint64_t)got;
		if (hash)
			XXH3_128bits_update(hash, buffer, (size_t)got);
		if (to >= 0 && write(to, buffer, (size_t)got) != got)
			die("cannot write a copy");
	}
	close(fd);
	return bytes;
}

static uint64_t verify(void)
{
	struct thaw_verify_summary summary;
	struct thaw_error error;

	if (thaw_image_verify(image, NULL, &summary, &error))
		die(error.text);
	return summary.bytes;
}

static uint64_t read_and_hash(void)
{
	XXH3_state_t *state = XXH3_createState();
	uint64_t bytes;

	if (!state)
		die("no memory");
	XXH3_128bits_reset(state);
	bytes = read_all(state, -1);
	XXH3_freeState(state);
	return bytes;
}

static uint64_t read_only(void)
{
	return read_all(NULL, -1);
}

static uint64_t copy_synced(void)
{
	int to = open(copy, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	uint64_t bytes = read_all(NULL, to);

	if (to < 0 || fsync(to) || close(to))
		die("cannot write a copy");
	return bytes;
}

/* The copy that the job before has made. */
static uint64_t compact(void)
{
	struct thaw_copy_summary summary;
	struct thaw_error error;

	if (thaw_image_compact(copy, 0, NULL, &summary, &error))
		die(error.text);
	return summary.bytes_after;
}

static void speeds(void)
{
	static const struct {
		const char *name;
		uint64_t (*run)(void);
	} jobs[] = {
		{"verify", verify},   {"read and XXH3-128", read_and_hash},
		{"read", read_only},  {"read, write, sync", copy_synced},
		{"compact", compact},
	};

	for (int run = -1; run < RUNS; run++)
		for (unsigned job = 0; job < 5; job++) {
			double from = seconds(CLOCK_MONOTONIC);
			uint64_t bytes = jobs[job].run();

			if (run >= 0)
				printf("work on a whole image\t%s\t%.1f\tMB/s\n", jobs[job].name,
				       (double)bytes * 1e-6 / (seconds(CLOCK_MONOTONIC) - from));
		}
}

int main(void)
{
	const char *in = getenv("TMPDIR"), *wanted = getenv("CHECKPOINTS");
	unsigned long checkpoints = wanted ? strtoul(wanted, NULL, 10) : 100000;

	if (checkpoints < 2 * WINDOW)
		die("CHECKPOINTS must be at least 400");
	snprintf(directory, sizeof(directory), "%s/thaw-bench-XXXXXX",
		 in			    ? in
		 : access("/dev/shm", W_OK) ? "/tmp"
					    : "/dev/shm");
	if (!mkdtemp(directory))
		die("mkdtemp");
	snprintf(image, sizeof(image), "%s/heap.thaw", directory);
	snprintf(copy, sizeof(copy), "%s/copy.thaw", directory);
	grow(checkpoints);
	speeds();
	unlink(image);
	unlink(copy);
	rmdir(directory);
	return 0;
}
