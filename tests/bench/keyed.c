// SPDX-License-Identifier: MIT
/*
 * keyed plain|keyed|encrypted IMAGE [MIB] - what it costs that an image is authenticated (THAW_KEYED), or encrypted: a heap of random bytes is
 * stored, restored in order, a sixteenth of the pages at random, and streamed in, each in a process of its own. Prints
 * samples for interleave, of the time and of what all threads ran.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "thaw.h"

#ifdef THAW_ENCRYPTED

enum measured { STORED, IN_ORDER, AT_RANDOM, STREAMED, COLD, MEASURED };
static const char *const names[] = {"stored", "restored in order", "at random", "streamed in",
				    "at random, not in the page cache"};

static size_t pages = (256u << 20) / 4096;

struct sample {
	double wall_us, cpu_us; /* for a page that was stored or restored */
};

static int give_key(void *arg, bool make, uint8_t key[THAW_KEY_BYTES], struct thaw_error *error)
{
	(void)arg, (void)make, (void)error;
	memset(key, 7, THAW_KEY_BYTES);
	return 0;
}

static double cpu_us(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static struct thaw *open_heap(const char *image, unsigned keyed, unsigned flags)
{
	const struct thaw_options options = {.image = image,
					     .flags = flags | keyed,
					     .max_bytes = pages * 4096,
					     .engine = "bench"};
	struct thaw_error error;
	struct thaw *heap;

	thaw_use_key(&(struct thaw_key_source){.get = give_key});
	if (thaw_open(&options, &heap, &error))
		die(error.text);
	return heap;
}

static struct sample store(const char *image, unsigned keyed)
{
	struct thaw *heap = open_heap(image, keyed, THAW_CREATE);
	uint64_t *words, random = 88172645463325252u;
	struct thaw_result result;
	double wall, cpu;

	if (thaw_resize(heap, pages * 4096))
		die("it does not grow");
	words = thaw_base(heap);
	for (size_t i = 0; i < pages * 512; i++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		words[i] = random;
	}
	wall = now_us();
	cpu = cpu_us();
	if (thaw_checkpoint(heap, THAW_REASON_REQUEST, "", 1, &result))
		die(result.error.text);
	return (struct sample){(now_us() - wall) / (double)pages, (cpu_us() - cpu) / (double)pages};
}

/* The kernel forgets what it has of the file. */
static void evict(const char *image)
{
	int fd = open(image, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
		die("evict");
	close(fd);
}

static struct sample restore(const char *image, unsigned keyed, enum measured how)
{
	double wall = now_us(), cpu = cpu_us();
	struct thaw *heap = open_heap(image, keyed, how == STREAMED ? THAW_PREFETCH : 0);
	size_t count = how == AT_RANDOM ? pages / 16 : how == COLD ? pages / 128 : pages;
	const volatile char *base = thaw_base(heap);
	uint64_t random = 99;
	struct thaw_status status;
	double restored;

	for (size_t i = 0; i < count; i++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		(void)base[(how == AT_RANDOM || how == COLD ? (random >> 33) % pages : i) * 4096];
	}
	thaw_status(heap, &status);
	restored = (double)status.pages_restored;
	return (struct sample){(now_us() - wall) / restored, (cpu_us() - cpu) / restored};
}

/* In a process of its own. */
static struct sample measure(const char *image, unsigned keyed, enum measured what)
{
	struct sample sample;
	int out[2], status;
	pid_t child;

	if (pipe(out))
		die("pipe");
	child = fork();
	if (child < 0)
		die("fork");
	if (!child) {
		if (what == COLD)
			evict(image);
		sample = what == STORED ? store(image, keyed) : restore(image, keyed, what);
		_exit(write(out[1], &sample, sizeof(sample)) != sizeof(sample));
	}
	close(out[1]);
	if (read(out[0], &sample, sizeof(sample)) != sizeof(sample) ||
	    waitpid(child, &status, 0) != child || status)
		die("a measurement failed");
	close(out[0]);
	return sample;
}

int main(int argc, char **argv)
{
	unsigned keyed = argc < 3			 ? 0
			 : !strcmp(argv[1], "keyed")	 ? THAW_KEYED
			 : !strcmp(argv[1], "encrypted") ? THAW_ENCRYPTED
							 : 0;

	if (argc < 3 || (!keyed && strcmp(argv[1], "plain")))
		die("usage: keyed plain|keyed|encrypted IMAGE [MIB]");
	if (argc > 3)
		pages = (size_t)atoi(argv[3]) * 256;
	unlink(argv[2]);
	for (enum measured what = STORED; what < MEASURED; what++) {
		struct sample sample = measure(argv[2], keyed, what);

		printf("an image that is authenticated\t%s\t%.3f\tus a page\n", names[what],
		       sample.wall_us);
		printf("the same, processors\t%s\t%.3f\tus a page\n", names[what], sample.cpu_us);
	}
	unlink(argv[2]);
	return 0;
}

#else /* a version before that one, which is measured beside it */

int main(void)
{
	die("this version does not encrypt");
}

#endif
