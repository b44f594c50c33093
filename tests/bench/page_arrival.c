// SPDX-License-Identifier: MIT
/*
 * page_arrival - what one page costs to arrive: random and sequential first touches of a restored
 * heap, on a memfd with UFFDIO_CONTINUE and on anonymous memory with UFFDIO_COPY, against
 * mmap(MAP_PRIVATE) of a file of the same size. Warm page cache; interleaved; median of several
 * runs, with minimum and maximum.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "thaw.h"

#define PAGE 4096u
#define HEAP (256u << 20)
#define PAGES (HEAP / PAGE)
#define RANDOM_TOUCHES 1024u /* a quarter of the clusters */
#define RUNS 7

enum { WAY_MEMFD, WAY_ANONYMOUS, WAY_MMAP, WAYS };
enum { ORDER_RANDOM, ORDER_SEQUENTIAL, ORDERS };

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec * 1e-3;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void die(const char *what)
{
	fprintf(stderr, "page_arrival: %s\n", what);
	exit(1);
}

static double touch(char *base, int order, int write, double *middle)
{
	static double each[PAGES];
	unsigned count = order == ORDER_RANDOM ? RANDOM_TOUCHES : PAGES;
	unsigned page = 12345;
	double start = now_us();

	for (unsigned i = 0; i < count; i++) {
		double before = now_us();

		page = order == ORDER_RANDOM ? (page * 1664525u + 1013904223u) % PAGES : i;
		if (write)
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

static double measure(int way, int order, int write, const char *image, const char *raw,
		      double *middle)
{
	double cost;

	if (way == WAY_MMAP) {
		int fd = open(raw, O_RDONLY);
		char *base = mmap(NULL, HEAP, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

		if (base == MAP_FAILED)
			die("mmap");
		cost = touch(base, order, write, middle);
		munmap(base, HEAP);
		close(fd);
		return cost;
	}
	struct thaw_options options = {.image = image, .max_bytes = HEAP, .engine = "bench"};
	struct thaw_error error;
	struct thaw *heap;

	setenv("THAW_BACKING", way == WAY_MEMFD ? "memfd" : "anonymous", 1);
	if (thaw_open(&options, &heap, &error))
		die(error.text);
	cost = touch(thaw_base(heap), order, write, middle);
	thaw_close(heap);
	return cost;
}

int main(void)
{
	static const char *const ways[] = {"memfd + CONTINUE", "anonymous + COPY",
					   "mmap(MAP_PRIVATE)"};
	static const char *const orders[] = {"random", "sequential"};
	static double costs[ORDERS][2][WAYS][RUNS], middles[ORDERS][2][WAYS][RUNS];
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
			for (int write = 0; write < 2; write++)
				for (int way = 0; way < WAYS; way++)
					costs[order][write][way][run] =
						measure(way, order, write, image, raw,
							&middles[order][write][way][run]);

	printf("one page arrives: %u MiB heap, %u random or %u sequential first touches, warm, %d runs\n\n",
	       HEAP >> 20, RANDOM_TOUCHES, PAGES, RUNS);
	printf("%-11s %-6s %-18s %22s %14s %10s\n", "order", "access", "way", "us/page (min-max)",
	       "one touch p50", "to mmap");
	for (int order = 0; order < ORDERS; order++)
		for (int write = 0; write < 2; write++) {
			for (int way = 0; way < WAYS; way++) {
				qsort(costs[order][write][way], RUNS, sizeof(double), compare);
				qsort(middles[order][write][way], RUNS, sizeof(double), compare);
			}
			for (int way = 0; way < WAYS; way++) {
				const double *sorted = costs[order][write][way];

				printf("%-11s %-6s %-18s %8.2f (%5.2f-%6.2f) %11.1f us %9.2fx\n",
				       orders[order], write ? "write" : "read", ways[way],
				       sorted[RUNS / 2], sorted[0], sorted[RUNS - 1],
				       middles[order][write][way][RUNS / 2],
				       sorted[RUNS / 2] / costs[order][write][WAY_MMAP][RUNS / 2]);
			}
		}
	unlink(image);
	unlink(raw);
	rmdir(directory);
	return 0;
}
