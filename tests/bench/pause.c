// SPDX-License-Identifier: MIT
/*
 * pause WAY FILE MIB DIRTY... - how long a checkpoint stops a program with so many MiB of memory, of which so many random
 * pages (or "all") are written before each checkpoint, and after how long it is durable. Prints samples for interleave.
 * "100/1": 100 random pages of 1 % of the memory, in a program that has run for some seconds for each GiB, with ten such
 * checkpoints a second.
 *
 *	thaw	libthaw; the pause is what the owner sees, from before thaw_checkpoint_stopped() to after the capture
 *	fork	fork(); the child writes the written pages, which it was told, and syncs them. Nothing is said of the copies
 *		that the parent makes afterwards, 2 to 4 us for each page that it writes until the child ends
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "thaw.h"

#define PAGE 4096u
#define REPEATS 5
#define SETTLED_US_PER_GIB 6e6

struct program {
	char *base;
	size_t bytes;
	struct thaw *heap; /* NULL: fork() */
	int fd;
	const unsigned *written;
};

static void fill(char *base, size_t bytes)
{
	for (size_t i = 0; i < bytes / 8; i++)
		((uint64_t *)base)[i] = (i + 1) * 0x9e3779b97f4a7c15u;
}

static void start(struct program *program, const char *way, const char *path, size_t bytes)
{
	struct thaw_options options = {.image = path,
				       .flags = THAW_CREATE | THAW_TOUCHES,
				       .max_bytes = bytes,
				       .engine = "bench"};
	struct thaw_result result;
	struct thaw_error error;

	unlink(path);
	program->bytes = bytes;
	if (!strcmp(way, "fork")) {
		program->base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		program->fd = open(path, O_CREAT | O_RDWR, 0600);
		if (program->base == MAP_FAILED || program->fd < 0)
			die(path);
		fill(program->base, bytes);
		return;
	}
	if (thaw_open(&options, &program->heap, &error) || thaw_resize(program->heap, bytes))
		die(error.text);
	program->base = thaw_base(program->heap);
	fill(program->base, bytes);
	if (thaw_checkpoint(program->heap, THAW_REASON_REQUEST, "s", 2, &result))
		die(result.error.text);
}

static void write_pages(const struct program *program, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		++*(uint64_t *)(program->base + (size_t)program->written[i] * PAGE + 64);
}

static void by_thaw(struct program *program, double *pause, double *durable)
{
	double begin = now_us(), stop;
	struct thaw_result result;

	if (thaw_checkpoint_begin(program->heap, THAW_REASON_REQUEST))
		die("thaw_checkpoint_begin");
	if (thaw_checkpoint_wait(program->heap) != THAW_READY)
		die("the checkpoint did not get ready");
	stop = now_us();
	thaw_checkpoint_stopped(program->heap);
	if (thaw_checkpoint_capture(program->heap, THAW_KIND_PORTABLE, "s", 2))
		die("thaw_checkpoint_capture");
	*pause = now_us() - stop;
	thaw_checkpoint_wait(program->heap);
	thaw_checkpoint_poll(program->heap, &result);
	*durable = now_us() - begin;
	if (result.code)
		die(result.error.text);
}

static void by_fork(struct program *program, unsigned count, double *pause, double *durable)
{
	double begin = now_us();
	pid_t child = fork();
	int status;

	if (!child) {
		for (unsigned i = 0; i < count; i++) {
			size_t at = (size_t)program->written[i] * PAGE;

			if (pwrite(program->fd, program->base + at, PAGE, (off_t)at) != PAGE)
				_exit(1);
		}
		_exit(fdatasync(program->fd) ? 1 : 0);
	}
	*pause = now_us() - begin;
	if (child < 0 || waitpid(child, &status, 0) != child || status)
		die("the child of fork()");
	*durable = now_us() - begin;
}

static void one(struct program *program, unsigned count, double *pause, double *durable)
{
	if (program->heap)
		by_thaw(program, pause, durable);
	else
		by_fork(program, count, pause, durable);
}

/* The pages of one row. */
static unsigned *choose(const struct program *program, const char *dirty, unsigned *count)
{
	unsigned pages = (unsigned)(program->bytes / PAGE);
	const char *part = strchr(dirty, '/');

	*count = !strcmp(dirty, "all") ? pages : (unsigned)atoi(dirty);
	return some_of(part ? pages / 100 * (unsigned)atoi(part + 1) : pages, *count);
}

/* What is not written gets cold. */
static void settle(struct program *program, const char *dirty)
{
	double end = now_us() + SETTLED_US_PER_GIB * (double)program->bytes / (1 << 30);
	double pause, durable;
	unsigned count;

	while (program->heap && now_us() < end) {
		unsigned *written = choose(program, dirty, &count);

		program->written = written;
		write_pages(program, count);
		one(program, count, &pause, &durable);
		free(written);
		usleep(100000);
	}
}

int main(int argc, char **argv)
{
	struct program program = {0};
	double pause, durable;
	bool settled = false;
	char row[64];

	if (argc < 5)
		die("usage: pause thaw|fork FILE MIB DIRTY...");
	start(&program, argv[1], argv[2], (size_t)atoi(argv[3]) << 20);
	for (int repeat = -1; repeat < REPEATS; repeat++)
		for (int i = 4; i < argc; i++) {
			unsigned count, *written;

			if (strchr(argv[i], '/') && !settled)
				settle(&program, argv[i]);
			settled = settled || strchr(argv[i], '/');
			program.written = written = choose(&program, argv[i], &count);
			write_pages(&program, count);
			one(&program, count, &pause, &durable);
			free(written);
			if (repeat < 0)
				continue;
			snprintf(row, sizeof(row), "%s MiB, %s pages", argv[3], argv[i]);
			if (strchr(argv[i], '/'))
				snprintf(row, sizeof(row), "%s MiB, %u pages of %s %%", argv[3],
					 count, strchr(argv[i], '/') + 1);
			printf("pause\t%s\t%.4f\tms\n", row, pause * 1e-3);
			printf("durable after\t%s\t%.4f\tms\n", row, durable * 1e-3);
		}
	fflush(stdout);
	unlink(argv[2]);
	_exit(0);
}
