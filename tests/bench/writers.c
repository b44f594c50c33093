// SPDX-License-Identifier: MIT
/*
 * writers WAY FILE MIB WRITTEN... - a checkpoint of a program that goes on writing: of 1,000 pages written before it begins, and of
 * WRITTEN random ones that are written until it is captured; as many are written after it. Prints samples for interleave:
 *
 *	pause under writers	the capture (fork: the call), as its owner sees it
 *	longest stall		that, or the longest write of one page from then on, whichever took longer
 *	writes after it		of one page, the mean: what copying behind the pause costs who writes
 *
 * WAY is thaw or fork; the child of fork() writes all pages to a file, and syncs it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "thaw.h"

#define PAGE 4096u
#define REPEATS 3
#define CHUNK ((size_t)1 << 20)

static char *base;
static size_t bytes;
static struct thaw *heap; /* NULL: fork() */
static int copy;

static void start(const char *way, const char *path)
{
	struct thaw_options options = {.image = path,
				       .flags = THAW_CREATE | THAW_TOUCHES,
				       .max_bytes = bytes,
				       .engine = "bench"};
	struct thaw_result result;
	struct thaw_error error;

	unlink(path);
	if (!strcmp(way, "fork")) {
		base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			    0);
		copy = open(path, O_CREAT | O_RDWR, 0600);
		if (base == MAP_FAILED || copy < 0)
			die(path);
	} else {
		if (thaw_open(&options, &heap, &error) || thaw_resize(heap, bytes))
			die(error.text);
		base = thaw_base(heap);
	}
	for (size_t i = 0; i < bytes / 8; i++)
		((uint64_t *)base)[i] = (i + 1) * 0x9e3779b97f4a7c15u;
	if (heap && thaw_checkpoint(heap, THAW_REASON_REQUEST, "s", 2, &result))
		die(result.error.text);
}

/* Returns the longest write, and adds the time of all of them to `sum`, in us. */
static double write_pages(const unsigned *pages, unsigned count, double *sum)
{
	double longest = 0, before = now_us(), first = before;

	for (unsigned i = 0; i < count; i++) {
		double now;

		++*(volatile uint64_t *)(base + (size_t)pages[i] * PAGE + 64);
		now = now_us();
		if (now - before > longest)
			longest = now - before;
		before = now;
	}
	*sum += before - first;
	return longest;
}

static double capture(void)
{
	double stop = now_us();

	thaw_checkpoint_stopped(heap);
	if (thaw_checkpoint_capture(heap, THAW_KIND_PORTABLE, "s", 2))
		die("thaw_checkpoint_capture");
	return now_us() - stop;
}

static void wait_until_durable(void)
{
	struct thaw_result result;

	thaw_checkpoint_wait(heap);
	thaw_checkpoint_poll(heap, &result);
	if (result.code)
		die(result.error.text);
}

/* What the row before has written is no part of this one. */
static void settle(void)
{
	struct thaw_result result;

	if (heap && thaw_checkpoint(heap, THAW_REASON_REQUEST, "s", 2, &result))
		die(result.error.text);
}

static double start_child(pid_t *child)
{
	double stop = now_us();

	*child = fork();
	if (*child < 0)
		die("fork");
	if (*child)
		return now_us() - stop;
	for (size_t at = 0; at < bytes; at += CHUNK)
		if (pwrite(copy, base + at, CHUNK, (off_t)at) != (ssize_t)CHUNK)
			_exit(1);
	_exit(fdatasync(copy) ? 1 : 0);
}

static void measure(unsigned count, const char *mib)
{
	unsigned pages = (unsigned)(bytes / PAGE);
	unsigned *early = some_of(pages, 1000), *residual = some_of(pages, count),
		 *later = some_of(pages, count);
	double pause, longest, sum = 0, other = 0;
	char row[64];
	pid_t child = 0;

	settle();
	write_pages(early, 1000, &other);
	if (heap) {
		if (thaw_checkpoint_begin(heap, THAW_REASON_REQUEST) ||
		    thaw_checkpoint_wait(heap) != THAW_READY)
			die("the checkpoint did not get ready");
		write_pages(residual, count, &other);
		pause = capture();
	} else {
		write_pages(residual, count, &other);
		pause = start_child(&child);
	}
	longest = write_pages(later, count, &sum);
	if (child) {
		int status;

		if (waitpid(child, &status, 0) != child || status)
			die("the child");
	} else {
		wait_until_durable();
	}
	snprintf(row, sizeof(row), "%s MiB, %u pages", mib, count);
	printf("pause under writers\t%s\t%.4f\tms\n", row, pause * 1e-3);
	printf("longest stall\t%s\t%.4f\tms\n", row, (longest > pause ? longest : pause) * 1e-3);
	printf("writes after it\t%s\t%.4f\tus a page\n", row, sum / count);
	fflush(stdout);
	free(early);
	free(residual);
	free(later);
}

int main(int argc, char **argv)
{
	if (argc < 5)
		die("usage: writers thaw|fork FILE MIB WRITTEN...");
	bytes = (size_t)atoi(argv[3]) << 20;
	start(argv[1], argv[2]);
	for (int repeat = 0; repeat < REPEATS; repeat++)
		for (int i = 4; i < argc; i++)
			measure((unsigned)atoi(argv[i]), argv[3]);
	unlink(argv[2]);
	_exit(0);
}
