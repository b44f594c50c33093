// SPDX-License-Identifier: MIT
/*
 * walk - memory comes back from a file, and a program works on it; prints "done". interleave measures from the exec on.
 *
 *	walk WAY PATTERN FILE		see `ways` and `patterns`; every page that is touched is compared
 *	walk make-raw FILE BYTES	the file for all but Thaw
 *	walk make-thaw FILE BYTES	its image
 *	walk record PATTERN FILE	a generation whose working set is that pattern
 *	walk hold PATTERN FILE GO ANSWER	all of it in memory, and once there is a file GO, the work; "done" to ANSWER
 *	walk forget FILE		out of the page cache
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"
#include "thaw.h"

#define PAGE 4096u
#define CHUNK ((size_t)1 << 20) /* files are a multiple of it */
#define IN_FLIGHT 8u
#define LOOKUPS 2000u
#define SETTLES_US 2200000 /* a working set is what was touched in the first 2 s */

enum way { MMAP, MMAP_RANDOM, MMAP_POPULATE, READ, DIRECT, THAW_NONE, THAW_SET, THAW_ALL, WAYS };
static const char *const ways[] = {"mmap",   "mmap-random", "mmap-populate", "read",
				   "direct", "none",	    "working-set",   "all"};

enum pattern { FIRST, RANDOM_1, RANDOM_10, ORDER, WRITTEN, LOOK_UP, PATTERNS };
static const char *const patterns[] = {"first", "random1", "random10",
				       "order", "written", "lookups"};

static unsigned index_of(const char *word, const char *const *words, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (!strcmp(word, words[i]))
			return i;
	die(word);
}

/* No page is like another one, and none can be compressed. */
static void fill(char *memory, uint64_t first_page, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += 8)
		*(uint64_t *)(memory + at) =
			page_word(first_page + at / PAGE) * (1 + at % PAGE / 8 * 2);
}

static void check(uint64_t word, uint64_t page)
{
	if (word != page_word(page))
		die("a page arrived with other contents");
}

static void touch(char *base, uint64_t page, bool write)
{
	volatile uint64_t *words = (volatile uint64_t *)(base + page * PAGE);

	check(words[0], page);
	if (write)
		words[1]++;
}

static void work(char *base, size_t bytes, enum pattern pattern)
{
	unsigned pages = (unsigned)(bytes / PAGE), count = pages, *order;

	if (pattern == FIRST) {
		touch(base, pages / 2, false);
		return;
	}
	if (pattern == ORDER || pattern == WRITTEN) {
		for (unsigned i = 0; i < pages; i++)
			touch(base, i, pattern == WRITTEN);
		return;
	}
	count = pattern == RANDOM_1 ? pages / 100 : pattern == RANDOM_10 ? pages / 10 : LOOKUPS;
	order = some_of(pages, count);
	for (unsigned i = 0; i < count; i++)
		touch(base, order[i], false);
	free(order);
}

static size_t size_of(int fd)
{
	struct stat status;

	if (fd < 0 || fstat(fd, &status))
		die("cannot open the file");
	return (size_t)status.st_size;
}

static char *anonymous(size_t bytes)
{
	char *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (base == MAP_FAILED)
		die("no memory");
	return base;
}

static void by_mmap(enum way way, enum pattern pattern, const char *path)
{
	int fd = open(path, O_RDONLY), flags = MAP_PRIVATE;
	size_t bytes = size_of(fd);
	char *base;

	if (way == MMAP_POPULATE)
		flags |= MAP_POPULATE;
	base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (base == MAP_FAILED || (way == MMAP_RANDOM && madvise(base, bytes, MADV_RANDOM)))
		die("mmap");
	work(base, bytes, pattern);
}

static char *read_all(const char *path, size_t *bytes)
{
	int fd = open(path, O_RDONLY);
	char *base;

	*bytes = size_of(fd);
	base = anonymous(*bytes);
	for (size_t at = 0; at < *bytes;) {
		ssize_t got = read(fd, base + at, *bytes - at);

		if (got <= 0)
			die("read");
		at += (size_t)got;
	}
	close(fd);
	return base;
}

static void by_read(enum pattern pattern, const char *path)
{
	size_t bytes;
	char *base = read_all(path, &bytes);

	work(base, bytes, pattern);
}

/* For who restores whole processes (the script criu). It is dumped while it waits. */
static void hold(enum pattern pattern, const char *path, const char *go, const char *answer)
{
	size_t bytes;
	char *base = read_all(path, &bytes);
	int fd;

	puts("ready");
	fflush(stdout);
	while (access(go, F_OK))
		usleep(100);
	work(base, bytes, pattern);
	fd = open(answer, O_WRONLY);
	if (fd < 0 || write(fd, "done\n", 5) != 5)
		die("cannot answer");
	for (;;)
		pause();
}

static void read_chunk(struct io_uring *ring, int fd, char *buffer, size_t at)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	io_uring_prep_read(sqe, fd, buffer, CHUNK, at);
	io_uring_sqe_set_data(sqe, buffer);
	if (io_uring_submit(ring) != 1)
		die("io_uring_submit");
}

/* What the disk gives: all of it in order past the page cache, several reads in flight, into buffers that are not kept. */
static void by_direct(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECT);
	size_t bytes = size_of(fd), at = 0, left = bytes;
	char *buffers = anonymous(CHUNK * IN_FLIGHT);
	struct io_uring_cqe *cqe;
	struct io_uring ring;

	if (io_uring_queue_init(IN_FLIGHT, &ring, 0))
		die("io_uring_queue_init");
	for (; at < bytes && at < CHUNK * IN_FLIGHT; at += CHUNK)
		read_chunk(&ring, fd, buffers + at, at);
	for (; left; left -= CHUNK) {
		char *buffer;

		if (io_uring_wait_cqe(&ring, &cqe) || cqe->res != (int)CHUNK)
			die("cannot read the file");
		buffer = io_uring_cqe_get_data(cqe);
		io_uring_cqe_seen(&ring, cqe);
		if (at < bytes) {
			read_chunk(&ring, fd, buffer, at);
			at += CHUNK;
		}
	}
}

static struct thaw *open_heap(const char *path, unsigned flags, size_t bytes)
{
	struct thaw_options options = {
		.image = path, .flags = flags, .max_bytes = bytes, .engine = "bench"};
	struct thaw_error error;
	struct thaw *heap;

	if (thaw_open(&options, &heap, &error))
		die(error.text);
	return heap;
}

static void by_thaw(enum way way, enum pattern pattern, const char *path)
{
	unsigned flags = way == THAW_SET   ? THAW_PREFETCH_WORKING_SET
			 : way == THAW_ALL ? THAW_PREFETCH_WORKING_SET | THAW_PREFETCH
					   : 0;
	struct thaw *heap = open_heap(path, flags, (size_t)16 << 30);

	work(thaw_base(heap), thaw_size(heap), pattern);
}

static void make_raw(const char *path, size_t bytes)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
	char *buffer = anonymous(CHUNK);

	for (size_t at = 0; at < bytes; at += CHUNK) {
		fill(buffer, at / PAGE, CHUNK);
		if (pwrite(fd, buffer, CHUNK, (off_t)at) != (ssize_t)CHUNK)
			die("cannot write the file");
	}
	if (fsync(fd) || close(fd))
		die("cannot write the file");
}

static void commit(struct thaw *heap)
{
	struct thaw_result result;

	if (thaw_checkpoint(heap, THAW_REASON_REQUEST, "s", 2, &result))
		die(result.error.text);
	thaw_close(heap);
}

static void make_thaw(const char *path, size_t bytes)
{
	struct thaw *heap = open_heap(path, THAW_CREATE, bytes);

	if (thaw_resize(heap, bytes))
		die("thaw_resize");
	fill(thaw_base(heap), 0, bytes);
	commit(heap);
}

static void record(enum pattern pattern, const char *path)
{
	struct thaw *heap = open_heap(path, 0, (size_t)16 << 30);
	char *base = thaw_base(heap);

	work(base, thaw_size(heap), pattern);
	usleep(SETTLES_US);
	((uint64_t *)(base + thaw_size(heap) / 2))[1]++;
	commit(heap);
}

static void forget(const char *path)
{
	int fd = open(path, O_RDONLY);

	if (fd < 0 || fsync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
		die("cannot drop a file's page cache");
}

int main(int argc, char **argv)
{
	unsigned way, pattern;

	if (argc == 3 && !strcmp(argv[1], "forget"))
		return forget(argv[2]), 0;
	if (argc == 6 && !strcmp(argv[1], "hold"))
		hold(index_of(argv[2], patterns, PATTERNS), argv[3], argv[4], argv[5]);
	if (argc != 4)
		die("usage: walk WAY PATTERN FILE, or see walk.c");
	if (!strcmp(argv[1], "make-raw"))
		return make_raw(argv[2], strtoull(argv[3], NULL, 0)), 0;
	if (!strcmp(argv[1], "make-thaw"))
		return make_thaw(argv[2], strtoull(argv[3], NULL, 0)), 0;
	pattern = index_of(argv[2], patterns, PATTERNS);
	if (!strcmp(argv[1], "record"))
		return record(pattern, argv[3]), 0;
	way = index_of(argv[1], ways, WAYS);
	if (way <= MMAP_POPULATE)
		by_mmap(way, pattern, argv[3]);
	else if (way == READ)
		by_read(pattern, argv[3]);
	else if (way == DIRECT)
		by_direct(argv[3]);
	else
		by_thaw(way, pattern, argv[3]);
	puts("done");
	fflush(stdout);
	_exit(0); /* giving the memory back is not part of it */
}
