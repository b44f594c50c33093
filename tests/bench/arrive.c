// SPDX-License-Identifier: MIT
/*
 * arrive - ways in which the pages of a heap can come out of a file that is in the page cache, without the program that
 * waits for them: what one page costs until it was read, and when it is written for the first time. Prints
 *
 *	arrive WAY FILE		us of processor time for each page: to be there and be read, and its first write
 *
 *	copy		pread into a buffer, checksum, UFFDIO_COPY: what the fault service does
 *	continue	pread into a buffer, checksum, written to a memfd, UFFDIO_CONTINUE (reading into a mapping of the memfd,
 *			which is a copy less, takes a third more: a fault for each page)
 *	map		MAP_PRIVATE of the file itself, nothing compared
 *	map-checked	the same, each cluster's checksums computed over the mapping before its first use
 *
 * Clusters of 64 KiB, in order. In all of them writes are tracked by userfaultfd (asynchronous write protection).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "bench.h"
#include "compat.h"

#define PAGE 4096u
#define CLUSTER (64u << 10)

#ifndef UFFDIO_CONTINUE_MODE_WP /* 6.4 */
#define UFFDIO_CONTINUE_MODE_WP ((__u64)1 << 1)
#endif

enum way { COPY, CONTINUE, MAP, MAP_CHECKED, WAYS };
static const char *const ways[] = {"copy", "continue", "map", "map-checked"};

static int uffd, file, memory_file;
static size_t bytes;
static char *base, buffer[CLUSTER];
static volatile uint64_t checksums;

static void *map(void *at, int protection, int flags, int fd)
{
	void *memory = mmap(at, bytes, protection, flags, fd, 0);

	if (memory == MAP_FAILED)
		die("mmap");
	return memory;
}

static void prepare(enum way way)
{
	struct uffdio_api api = {.api = UFFD_API,
				 .features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED};
	struct uffdio_register registered = {.mode = UFFDIO_REGISTER_MODE_WP};
	int rw = PROT_READ | PROT_WRITE;

	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		die("userfaultfd, with asynchronous write protection");
	switch (way) {
	case COPY:
		base = map(NULL, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		registered.mode |= UFFDIO_REGISTER_MODE_MISSING;
		break;
	case CONTINUE:
		memory_file = memfd_create("arrive", MFD_CLOEXEC);
		if (memory_file < 0 || ftruncate(memory_file, (off_t)bytes))
			die("memfd");
		base = map(NULL, rw, MAP_SHARED, memory_file);
		registered.mode |= UFFDIO_REGISTER_MODE_MINOR | UFFDIO_REGISTER_MODE_MISSING;
		break;
	default:
		base = map(NULL, rw, MAP_PRIVATE, file);
	}
	registered.range = (struct uffdio_range){(uintptr_t)base, bytes};
	if (ioctl(uffd, UFFDIO_REGISTER, &registered))
		die("cannot register the memory");
}

static void check(const char *cluster)
{
	for (size_t at = 0; at < CLUSTER; at += PAGE)
		checksums += XXH3_128bits(cluster + at, PAGE).low64;
}

static void read_to(char *to, size_t at)
{
	if (pread(file, to, CLUSTER, (off_t)at) != (ssize_t)CLUSTER)
		die("cannot read the file");
	check(to);
}

/* A cluster is to be there, watched for writes. */
static void arrive(enum way way, size_t at)
{
	uintptr_t to = (uintptr_t)base + at;

	if (way == COPY) {
		struct uffdio_copy copy = {.dst = to,
					   .src = (uintptr_t)buffer,
					   .len = CLUSTER,
					   .mode = UFFDIO_COPY_MODE_WP};

		read_to(buffer, at);
		if (ioctl(uffd, UFFDIO_COPY, &copy))
			die("UFFDIO_COPY");
	} else if (way == CONTINUE) {
		struct uffdio_continue mapped = {.range = {to, CLUSTER},
						 .mode = UFFDIO_CONTINUE_MODE_WP};

		read_to(buffer, at);
		if (pwrite(memory_file, buffer, CLUSTER, (off_t)at) != (ssize_t)CLUSTER)
			die("cannot write the memfd");
		if (ioctl(uffd, UFFDIO_CONTINUE, &mapped))
			die("UFFDIO_CONTINUE");
	} else if (way == MAP_CHECKED) {
		check(base + at);
	}
}

static double processor_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec * 1e-3;
}

static void touch(size_t at, bool write)
{
	volatile uint64_t *word = (volatile uint64_t *)(base + at);

	checksums += *word;
	if (write)
		(*word)++;
}

static size_t found(int pagemap, bool reset)
{
	struct page_region regions[512];
	struct pm_scan_arg scan = {.size = sizeof(scan),
				   .flags = reset ? PM_SCAN_WP_MATCHING : 0,
				   .start = (uintptr_t)base,
				   .end = (uintptr_t)base + bytes,
				   .vec = (uintptr_t)regions,
				   .vec_len = 512,
				   .category_mask = PAGE_IS_WRITTEN,
				   .return_mask = PAGE_IS_WRITTEN};
	size_t pages = 0;
	long count;

	while (scan.start < scan.end && (count = ioctl(pagemap, PAGEMAP_SCAN, &scan)) >= 0) {
		for (long i = 0; i < count; i++)
			pages += (regions[i].end - regions[i].start) / PAGE;
		scan.start = scan.walk_end;
	}
	if (scan.start < scan.end)
		die("PAGEMAP_SCAN");
	return pages;
}

int main(int argc, char **argv)
{
	unsigned way = 0;
	struct stat status;
	double begin, there, written;
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	size_t pages, before;

	while (argc == 3 && way < WAYS && strcmp(argv[1], ways[way]))
		way++;
	if (argc != 3 || way == WAYS)
		die("usage: arrive copy|continue|map|map-checked FILE");
	file = open(argv[2], O_RDONLY | O_CLOEXEC);
	if (pagemap < 0 || file < 0 || fstat(file, &status))
		die("cannot open the file");
	bytes = (size_t)status.st_size / CLUSTER * CLUSTER;
	pages = bytes / PAGE;
	prepare(way);
	if (way >= MAP) /* what is there is protected, and what is not counts as if it was */
		found(pagemap, true);
	begin = processor_us();
	for (size_t at = 0; at < bytes; at += CLUSTER) {
		arrive(way, at);
		for (size_t page = at; page < at + CLUSTER; page += PAGE)
			touch(page, false);
	}
	there = processor_us();
	before = found(pagemap, true);
	written = processor_us();
	for (size_t at = 0; at < bytes; at += PAGE)
		touch(at, true);
	written = processor_us() - written;
	if (before || found(pagemap, false) != pages)
		die("written pages are not found as they are");
	printf("ways to arrive\tto be there and be read\t%.4f\tus\n",
	       (there - begin) / (double)pages);
	printf("ways to arrive\tfirst write\t%.4f\tus\n", written / (double)pages);
	return 0;
}
