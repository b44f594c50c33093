// SPDX-License-Identifier: MIT
/*
 * backends WHAT IMAGE - what a backend costs (uffd/probe.h), one measurement with those that the environment forces
 * (THAW_DELIVERY, THAW_READER, THAW_BACKING, THAW_TRACKER). Prints samples for interleave:
 *
 *	random, sequential   256 MiB arrive (walk make-thaw), touched in that order
 *	start                from thaw_open() to the first page
 *	writes               the first write to a page after a collection, the collection, and what it finds; IMAGE "-"
 *
 * CPU time is the whole process's, its threads' included: it is steadier than the time that passes on a machine that
 * others use as well. A backend that this kernel or these privileges lack fails, and says so. Poison has nothing to measure.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "fault.h"
#include "page.h"
#include "segfault.h"
#include "thaw.h"
#include "tracker.h"

#define BENCH_PAGE 4096u /* of what walk makes */
#define HEAP ((size_t)256 << 20)
#define LARGE_HEAP ((size_t)16 << 30)

static double cpu_us(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static struct thaw *open_image(const char *image)
{
	struct thaw_options options = {.image = image, .max_bytes = LARGE_HEAP, .engine = "bench"};
	struct thaw_error error;
	struct thaw *heap;

	if (thaw_open(&options, &heap, &error))
		die(error.text);
	return heap;
}

static void touch(const char *base, size_t at)
{
	if (*(const volatile uint64_t *)(base + at) != page_word(at / BENCH_PAGE))
		die("a page arrived with other contents");
}

static void tell(const char *what, double us, double cpu, const char *unit)
{
	printf("-\t%s\t%g\t%s\n", what, us, unit);
	printf("processor time of backends\t%s\t%g\t%s\n", what, cpu, unit);
}

/* From before the open to the last touch, for eager has paid by then. */
static void measure_arrival(const char *image, const unsigned *order, unsigned count, size_t unit,
			    const char *what)
{
	double start = now_us(), cpu = cpu_us();
	struct thaw *heap = open_image(image);

	for (unsigned i = 0; i < count; i++)
		touch(thaw_base(heap), (order ? order[i] : i) * unit);
	tell(what, (now_us() - start) / count, (cpu_us() - cpu) / count, "us");
	thaw_close(heap);
}

static void measure_random(const char *image)
{
	unsigned count = HEAP / PAGE_CLUSTER_BYTES, *order = shuffled(count);

	measure_arrival(image, order, count, PAGE_CLUSTER_BYTES, "64 KiB arrive, in random order");
	free(order);
}

static void measure_sequential(const char *image)
{
	size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);

	measure_arrival(image, NULL, (unsigned)(HEAP / page_bytes), page_bytes,
			"a page arrives, in order");
}

static void measure_start(const char *image)
{
	double start = now_us(), cpu = cpu_us();
	struct thaw *heap = open_image(image);

	touch(thaw_base(heap), thaw_size(heap) / 2);
	tell("thaw_open() to the first page", now_us() - start, cpu_us() - cpu, "us");
	thaw_close(heap);
}

/* A tracked region without an image: nothing but the writes and their collection is measured. */
struct tracked {
	struct region region;
	struct tracker tracker;
	struct fault_service *service;
	struct watched watched;
	struct bitmap pages;
};

static void track(struct tracked *tracked)
{
	struct fault_options options = {.region = &tracked->region, .tracker = &tracked->tracker};
	struct region *region = &tracked->region;
	struct thaw_error error;

	if (region_create(region, NULL, HEAP, 0, false, &error))
		die(error.text);
	tracked->watched = (struct watched){.region = region, .tracker = &tracked->tracker};
	if (region_register(region, 0, &error) ||
	    tracker_create(&tracked->tracker, region, &error) ||
	    (fault_service_needed(region) &&
	     fault_service_start(&tracked->service, &options, &error)))
		die(error.text);
	tracked->watched.service = tracked->service;
	if (segfault_watch(&tracked->watched) || region_resize(region, HEAP) ||
	    bitmap_init(&tracked->pages, HEAP / region->page_bytes))
		die("cannot make a tracked region");
	memset(region->base, 1, HEAP); /* every page is there */
	if (tracker_collect(&tracked->tracker, &tracked->pages))
		die("cannot collect");
}

/* The first writes since a collection, to `count` pages, and the next collection. */
static void write_and_collect(struct tracked *tracked, const unsigned *order, unsigned count)
{
	struct region *region = &tracked->region;
	double start = now_us(), cpu = cpu_us(), written, collected;
	char row[64];

	for (unsigned i = 0; i < count; i++)
		((volatile char *)
			 region->base)[(order ? order[i] : (size_t)i) * region->page_bytes]++;
	written = now_us() - start;
	cpu = cpu_us() - cpu;
	bitmap_clear_all(&tracked->pages);
	start = now_us();
	if (tracker_collect(&tracked->tracker, &tracked->pages))
		die("cannot collect");
	collected = now_us() - start;
	for (unsigned i = 0; i < count; i++)
		if (!bitmap_test(&tracked->pages, order ? order[i] : i))
			die("a written page was not found");
	snprintf(row, sizeof(row), "a first write of %u%s", count,
		 order ? " random ones" : ", in order");
	tell(row, written / count, cpu / count, "us");
	printf("finding written pages\t%u%s\t%g\tms\n", count, order ? "" : ", in order",
	       collected * 1e-3);
	printf("written pages found\t%u%s\t%llu\t\n", count, order ? "" : ", in order",
	       (unsigned long long)bitmap_count(&tracked->pages));
}

static const unsigned random_writes[] = {100, 4000, 10000, 20000, 40000};

static void measure_writes(const char *image)
{
	static struct tracked tracked;
	unsigned *order, pages;

	(void)image;
	track(&tracked);
	pages = (unsigned)(HEAP / tracked.region.page_bytes);
	order = shuffled(pages);
	for (size_t i = 0; i < sizeof(random_writes) / sizeof(random_writes[0]); i++)
		write_and_collect(&tracked, order,
				  random_writes[i] < pages ? random_writes[i] : pages);
	write_and_collect(&tracked, NULL, pages);
	exit(0); /* gives back all of it */
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*measure)(const char *image);
	} measurements[] = {{"random", measure_random},
			    {"sequential", measure_sequential},
			    {"start", measure_start},
			    {"writes", measure_writes}};

	for (size_t i = 0; argc == 3 && i < sizeof(measurements) / sizeof(measurements[0]); i++)
		if (!strcmp(measurements[i].name, argv[1]))
			return measurements[i].measure(argv[2]), 0;
	die("usage: backends random|sequential|start|writes IMAGE");
}
