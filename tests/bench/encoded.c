// SPDX-License-Identifier: MIT
/*
 * encoded none|lz4|zstd:N|encrypted IMAGE PAGES MIB - what it costs that an image is compressed or encrypted. PAGES is a file whose
 * bytes become the heap, and fill it again and again up to MIB ("random": random bytes). Prints samples for interleave: the heap is stored,
 * 1,000 of its pages are changed, 64 are, it is restored in order, and pages of it are touched at random, each in a process of its own.
 *
 * encoded pages IMAGE FILE - makes such a file of what the newest generation of an image has stored, in the order of the heap.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "thaw.h"
#include "thaw_image.h"

#ifdef THAW_COMPRESS_ZSTD

#define PAGE 4096u
#define TOUCHES 2000u

static size_t pages;
static const char *image, *source;
static struct thaw_options options;

static void sample(const char *row, double value, const char *unit)
{
	char line[256];
	/* Rows of several units are in one table. */
	int bytes = snprintf(line, sizeof(line), "-\t%s%s%s\t%.3f\t\n", row, *unit ? ", " : "",
			     unit, value);

	if (write(1, line, (size_t)bytes) != bytes)
		die("write");
}

/* That of the file THAW_KEY, which has it in hexadecimal digits; without one, any. */
static int give_key(void *arg, bool make, uint8_t key[THAW_KEY_BYTES], struct thaw_error *error)
{
	FILE *file = getenv("THAW_KEY") ? fopen(getenv("THAW_KEY"), "re") : NULL;

	(void)arg, (void)make, (void)error;
	memset(key, 7, THAW_KEY_BYTES);
	for (unsigned i = 0; file && i < THAW_KEY_BYTES; i++)
		if (fscanf(file, "%2hhx", &key[i]) != 1)
			die("THAW_KEY");
	if (file)
		fclose(file);
	return 0;
}

static uint64_t next_random(void)
{
	static uint64_t random = 88172645463325252u;

	random ^= random << 13;
	random ^= random >> 7;
	random ^= random << 17;
	return random;
}

static double cpu_us(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static struct thaw *open_heap(unsigned flags)
{
	struct thaw_options opened = options;
	struct thaw_error error;
	struct thaw *heap;

	opened.flags |= flags;
	if (thaw_open(&opened, &heap, &error))
		die(error.text);
	return heap;
}

/* From page `at` of the file on. */
static void fill(char *to, size_t bytes, off_t at)
{
	int fd = !strcmp(source, "random") ? -1 : open(source, O_RDONLY | O_CLOEXEC);

	for (size_t done = 0; done < bytes;) {
		ssize_t got = fd < 0 ? 8 : pread(fd, to + done, bytes - done, at);
		uint64_t word = next_random();

		if (fd < 0)
			memcpy(to + done, &word, sizeof(word));
		if (got < 0 || (!got && !at))
			die("no pages to fill the heap with");
		at = got ? at + got : 0;
		done += (size_t)got;
	}
	if (fd >= 0)
		close(fd);
}

static void checkpoint(struct thaw *heap, const char *row)
{
	double wall = now_us(), cpu = cpu_us();
	struct thaw_result result;
	char name[64];

	if (thaw_checkpoint(heap, THAW_REASON_REQUEST, "", 1, &result))
		die(result.error.text);
	snprintf(name, sizeof(name), "%s durable", row);
	sample(name, (now_us() - wall) / 1e3, "ms");
	snprintf(name, sizeof(name), "%s, processors", row);
	sample(name, (cpu_us() - cpu) / 1e3, "ms");
	snprintf(name, sizeof(name), "%s, pause", row);
	sample(name, (double)result.generation.pause_ns / 1e6, "ms");
}

static void change(struct thaw *heap, size_t count)
{
	char *base = thaw_base(heap);

	for (size_t i = 0; i < count; i++)
		fill(base + next_random() % pages * PAGE, PAGE,
		     (off_t)(next_random() % 4096 * PAGE));
}

static void store(void)
{
	struct thaw *heap = open_heap(THAW_CREATE);
	struct stat stat;

	if (thaw_resize(heap, pages * PAGE))
		die("it does not grow");
	fill(thaw_base(heap), pages * PAGE, 0);
	checkpoint(heap, "all");
	if (lstat(image, &stat))
		die("stat");
	sample("image to heap", (double)stat.st_size / (double)(pages * PAGE), "");
	for (int i = 0; i < 3; i++) {
		change(heap, 1000);
		checkpoint(heap, "1,000 pages");
	}
	for (int i = 0; i < 5; i++) {
		change(heap, 64);
		checkpoint(heap, "64 pages");
	}
}

static void in_order(void)
{
	struct thaw *heap = open_heap(0);
	const volatile char *base = thaw_base(heap);
	double wall = now_us(), cpu = cpu_us();

	for (size_t i = 0; i < pages; i++)
		(void)base[i * PAGE];
	sample("restored in order", (now_us() - wall) / (double)pages, "us a page");
	sample("restored in order, processors", (cpu_us() - cpu) / (double)pages, "us a page");
}

/* Pages that lie together come together: so those that are touched are far from each other. */
static void at_random(void)
{
	struct thaw *heap = open_heap(0);
	const volatile char *base = thaw_base(heap);
	static double took[TOUCHES];
	size_t stride = pages / TOUCHES, step = 7919;
	double cpu;

	for (size_t i = 0; i < TOUCHES / 10; i++) /* whatever is done once */
		(void)base[i * step % TOUCHES * stride * PAGE];
	cpu = cpu_us();
	for (size_t i = TOUCHES / 10; i < TOUCHES; i++) {
		double began = now_us();

		(void)base[i * step % TOUCHES * stride * PAGE];
		took[i - TOUCHES / 10] = now_us() - began;
	}
	cpu = cpu_us() - cpu;
	qsort(took, TOUCHES - TOUCHES / 10, sizeof(*took), compare);
	sample("first touch at random, median", took[(TOUCHES - TOUCHES / 10) / 2], "us");
	sample("first touch at random, 90 of 100", took[(TOUCHES - TOUCHES / 10) * 9 / 10], "us");
	sample("first touch at random, processors", cpu / (TOUCHES - TOUCHES / 10), "us");
}

static void apart(void (*measured)(void))
{
	int status;
	pid_t child = fork();

	if (!child) {
		measured();
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || status)
		die("a measurement failed");
}

struct copied {
	struct thaw_view *view;
	int fd;
};

static int copy_run(void *arg, const struct thaw_page_run *run)
{
	struct copied *copied = arg;
	static char page[PAGE];
	struct thaw_error error;

	for (uint64_t i = 0; run->kind == THAW_PAGE_STORED && i < run->pages; i++)
		if (thaw_view_read(copied->view, (run->first + i) * PAGE, page, PAGE, &error) ||
		    write(copied->fd, page, PAGE) != PAGE)
			die("a page cannot be copied");
	return 0;
}

static void make_pages(const char *path, const char *to)
{
	struct copied copied = {.fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
	struct thaw_image *opened;
	struct thaw_error error;

	if (copied.fd < 0)
		die(to);
	if (thaw_image_open(path, &opened, &error) ||
	    thaw_view_open(opened, 0, &copied.view, &error) ||
	    thaw_image_pages(opened, 0, copy_run, &copied, &error))
		die(error.text);
}

int main(int argc, char **argv)
{
	thaw_use_key(&(struct thaw_key_source){.get = give_key});
	if (argc == 4 && !strcmp(argv[1], "pages")) {
		make_pages(argv[2], argv[3]);
		return 0;
	}
	if (argc != 5)
		die("usage: encoded none|lz4|zstd:N|encrypted IMAGE PAGES MIB, or encoded pages IMAGE FILE");
	image = argv[2];
	source = argv[3];
	pages = (size_t)atoi(argv[4]) * 256;
	options =
		(struct thaw_options){.image = image, .max_bytes = pages * PAGE, .engine = "bench"};
	if (!strcmp(argv[1], "encrypted"))
		options.flags = THAW_ENCRYPTED;
	else if (!strcmp(argv[1], "lz4"))
		options.compress = THAW_COMPRESS_LZ4;
	else if (!strncmp(argv[1], "zstd:", 5))
		options.compress = THAW_COMPRESS_ZSTD((unsigned)atoi(argv[1] + 5));
	else if (strcmp(argv[1], "none"))
		die("no such encoding");
	unlink(image);
	apart(store);
	apart(in_order);
	apart(at_random);
	unlink(image);
	return 0;
}

#else /* a version before that one, which is measured beside it */

int main(void)
{
	die("this version does not compress");
}

#endif
