// SPDX-License-Identifier: MIT
/*
 * page_arrival - what one page costs to arrive: random and sequential first touches of a restored
 * heap, on a memfd behind SIGSEGV and on anonymous memory with UFFDIO_COPY, which io_uring or
 * threads read for, against mmap(MAP_PRIVATE) of a file of the same size. The page cache is warm or,
 * for reads, cold; interleaved; median of several runs, with minimum and maximum. Ratios are of
 * medians, but to io_uring: the median of each run's own ratio, with minimum and maximum.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "thaw.h"

#define PAGE 4096u
#define HEAP (256u << 20)
#define PAGES (HEAP / PAGE)
#define RANDOM_TOUCHES 1024u /* a quarter of the clusters */
#define RUNS 7

enum { WAY_SIGSEGV, WAY_ANONYMOUS, WAY_THREADS, WAY_MMAP, WAYS };
enum { ORDER_RANDOM, ORDER_SEQUENTIAL, ORDERS };
enum { ACCESS_READ, ACCESS_WRITE, ACCESS_COLD, ACCESSES };

static double touch(char *base, int order, int access, double *middle)
{
	static double each[PAGES];
	unsigned count = order == ORDER_RANDOM ? RANDOM_TOUCHES : PAGES;
	unsigned page = 12345;
	double start = now_us();

	for (unsigned i = 0; i < count; i++) {
		double before = now_us();

		page = order == ORDER_RANDOM ? (page * 1664525u + 1013904223u) % PAGES : i;
		if (access == ACCESS_WRITE)
			((volatile char *)base)[page * PAGE + 8]++;
		else
			(void)((volatile char *)base)[page * PAGE + 8];
		each[i] = now_us() - before;
	}
	start = now_us() - start;
	qsort(each, count, sizeof(double), compare);
	*middle = each[count / 2];
	return start / count;
}

/* Out of the page cache: what is on the disk already, which both files are. */
static void forget(const char *path)
{
	int fd = open(path, O_RDONLY);

	if (fd < 0 || fsync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
		die("cannot drop the page cache of a file");
	close(fd);
}

static double measure(int way, int order, int access, const char *image, const char *raw,
		      double *middle)
{
	double cost;

	if (access == ACCESS_COLD)
		forget(way == WAY_MMAP ? raw : image);
	if (way == WAY_MMAP) {
		int fd = open(raw, O_RDONLY);
		char *base = mmap(NULL, HEAP, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

		if (base == MAP_FAILED)
			die("mmap");
		cost = touch(base, order, access, middle);
		munmap(base, HEAP);
		close(fd);
		return cost;
	}
	struct thaw_options options = {.image = image, .max_bytes = HEAP, .engine = "bench"};
	struct thaw_error error;
	struct thaw *heap;

	setenv("THAW_BACKING", way == WAY_SIGSEGV ? "memfd" : "anonymous", 1);
	setenv("THAW_READER", way == WAY_THREADS ? "threads" : "io_uring", 1);
	if (thaw_open(&options, &heap, &error))
		die(error.text);
	cost = touch(thaw_base(heap), order, access, middle);
	thaw_close(heap);
	return cost;
}

static void report(const char *order, const char *access, const char *const *ways,
		   double costs[WAYS][RUNS], double middles[WAYS][RUNS])
{
	double ratios[RUNS];

	for (int run = 0; run < RUNS; run++)
		ratios[run] = costs[WAY_THREADS][run] / costs[WAY_ANONYMOUS][run];
	qsort(ratios, RUNS, sizeof(double), compare);
	for (int way = 0; way < WAYS; way++) {
		qsort(costs[way], RUNS, sizeof(double), compare);
		qsort(middles[way], RUNS, sizeof(double), compare);
	}
	for (int way = 0; way < WAYS; way++) {
		printf("%-11s %-6s %-18s %8.2f (%5.2f-%6.2f) %11.1f us %7.2fx", order, access,
		       ways[way], costs[way][RUNS / 2], costs[way][0], costs[way][RUNS - 1],
		       middles[way][RUNS / 2], costs[way][RUNS / 2] / costs[WAY_MMAP][RUNS / 2]);
		if (way == WAY_THREADS)
			printf(" %6.2fx (%.2f-%.2f)", ratios[RUNS / 2], ratios[0],
			       ratios[RUNS - 1]);
		putchar('\n');
	}
}

int main(void)
{
	static const char *const ways[] = {"sigsegv, memfd", "anonymous + COPY", "  with threads",
					   "mmap(MAP_PRIVATE)"};
	static const char *const accesses[] = {"read", "write", "cold"};
	static const char *const orders[] = {"random", "sequential"};
	static double costs[ORDERS][ACCESSES][WAYS][RUNS], middles[ORDERS][ACCESSES][WAYS][RUNS];
	char directory[] = "/tmp/thaw-bench-XXXXXX", image[64], raw[64];
	struct thaw_options options = {
		.image = image, .flags = THAW_CREATE, .max_bytes = HEAP, .engine = "bench"};
	struct thaw_error error;
	struct thaw *heap;
	int fd;

	if (!mkdtemp(directory))
		die("mkdtemp");
	snprintf(image, sizeof(image), "%s/heap.thaw", directory);
	snprintf(raw, sizeof(raw), "%s/raw", directory);
	if (thaw_open(&options, &heap, &error) || thaw_resize(heap, HEAP))
		die(error.text);
	for (unsigned i = 0; i < HEAP / 4; i++)
		((unsigned *)thaw_base(heap))[i] = i * 2654435761u;
	fd = open(raw, O_CREAT | O_WRONLY, 0600);
	if (thaw_checkpoint(heap, THAW_REASON_EXIT, "s", 2, NULL) ||
	    write(fd, thaw_base(heap), HEAP) != HEAP)
		die("cannot write the images");
	close(fd);
	thaw_close(heap);

	for (int run = 0; run < RUNS; run++)
		for (int order = 0; order < ORDERS; order++)
			for (int access = 0; access < ACCESSES; access++)
				for (int way = 0; way < WAYS; way++)
					costs[order][access][way][run] =
						measure(way, order, access, image, raw,
							&middles[order][access][way][run]);

	printf("one page arrives: %u MiB heap, %u random or %u sequential first touches, warm or cold, %d runs\n\n",
	       HEAP >> 20, RANDOM_TOUCHES, PAGES, RUNS);
	printf("%-11s %-6s %-18s %22s %14s %8s %18s\n", "order", "access", "way",
	       "us/page (min-max)", "one touch p50", "to mmap", "to io_uring");
	for (int order = 0; order < ORDERS; order++)
		for (int access = 0; access < ACCESSES; access++)
			report(orders[order], accesses[access], ways, costs[order][access],
			       middles[order][access]);
	unlink(image);
	unlink(raw);
	rmdir(directory);
	return 0;
}
