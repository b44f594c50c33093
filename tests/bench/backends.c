// SPDX-License-Identifier: MIT
/*
 * backends - what the backends of each kind cost (uffd/probe.h), compared with the best of them in the same run:
 *
 *	delivery, reader, backing   a missing page arrives; and how long a start takes to the first one
 *	tracker                     the first write to a page after a collection, the collection, and what it finds
 *
 * A process chooses its backends from the environment and keeps to them, so every measurement is a process of its own: this
 * program again, which prints numbers. Rounds of all of them one after the other, in turns that rotate; a ratio is the
 * median of those of the rounds, in brackets the smallest and largest, and "of fastest" that of the fastest rounds, which
 * other programs disturbed least. The page cache is warm. RUNS=N says how many rounds; names (random, sequential,
 * start-256, start-1024, writes) choose what is measured. Needs 1.3 GiB below TMPDIR.
 *
 * CPU time is the whole process's, its threads' included: it is steadier than the time that passes on a machine that
 * others use as well. Poison has nothing to measure.
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

#define RUNS_DEFAULT 7
#define HEAP ((size_t)256 << 20)
#define LARGE_HEAP ((size_t)1 << 30)
#define BACKENDS_MOST 10u
#define SECTIONS_MOST 6u
#define METRICS_MOST 5u
#define NUMBERS_MOST (SECTIONS_MOST * METRICS_MOST)
#define EXIT_LACKING 4 /* the backend is not available, and the line printed says why */

static double cpu_us(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* ---- In a process of its own: one measurement with the backends of the environment ---- */

static _Noreturn void lacking(const struct thaw_error *error)
{
	if (error->code != THAW_EKERNEL)
		die(error->text);
	puts(error->text);
	exit(EXIT_LACKING);
}

static struct thaw *open_image(const char *image, size_t bytes)
{
	struct thaw_options options = {.image = image, .max_bytes = bytes, .engine = "bench"};
	struct thaw_error error;
	struct thaw *heap;

	if (thaw_open(&options, &heap, &error))
		lacking(&error);
	return heap;
}

static unsigned word_at(size_t at)
{
	return (unsigned)(at / sizeof(unsigned)) * 2654435761u;
}

static void touch(const char *base, size_t at)
{
	if (*(const volatile unsigned *)(base + at) != word_at(at))
		die("a page arrived with other contents");
}

/* From before the open to the last touch, for eager has paid by then. */
static void measure_arrival(const char *image, const unsigned *order, unsigned count, size_t unit)
{
	double start = now_us(), cpu = cpu_us();
	struct thaw *heap = open_image(image, HEAP);

	for (unsigned i = 0; i < count; i++)
		touch(thaw_base(heap), (order ? order[i] : i) * unit);
	printf("%g %g\n", (now_us() - start) / count, (cpu_us() - cpu) / count);
	thaw_close(heap);
}

static void measure_random(const char *image)
{
	unsigned count = HEAP / PAGE_CLUSTER_BYTES, *order = shuffled(count);

	measure_arrival(image, order, count, PAGE_CLUSTER_BYTES);
	free(order);
}

static void measure_sequential(const char *image)
{
	size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);

	measure_arrival(image, NULL, (unsigned)(HEAP / page_bytes), page_bytes);
}

static void measure_start(const char *image)
{
	double start = now_us(), cpu = cpu_us();
	struct thaw *heap = open_image(image, LARGE_HEAP);

	touch(thaw_base(heap), thaw_size(heap) / 2);
	printf("%g %g\n", (now_us() - start) * 1e-3, (cpu_us() - cpu) * 1e-3);
	thaw_close(heap);
}

/* A tracked region without an image: nothing but the writes and their collection is measured. */
struct tracked {
	struct region region;
	struct tracker tracker;
	struct fault_service *service;
	struct watched watched;
	struct bitmap pages;
	char *copy; /* room for all of it, as for what a pause copies */
};

static void track(struct tracked *tracked)
{
	struct fault_options options = {.region = &tracked->region, .tracker = &tracked->tracker};
	struct region *region = &tracked->region;
	struct thaw_error error;

	if (region_create(region, NULL, HEAP, 0, false, &error))
		lacking(&error);
	tracked->watched = (struct watched){.region = region, .tracker = &tracked->tracker};
	tracked->copy = malloc(HEAP);
	if (region_register(region, 0, &error) ||
	    tracker_create(&tracked->tracker, region, &error) ||
	    (fault_service_needed(region) &&
	     fault_service_start(&tracked->service, &options, &error)))
		die(error.text);
	tracked->watched.service = tracked->service;
	if (!tracked->copy || segfault_watch(&tracked->watched) || region_resize(region, HEAP) ||
	    bitmap_init(&tracked->pages, HEAP / region->page_bytes))
		die("cannot make a tracked region");
	memset(tracked->copy, 1, HEAP);
	memset(region->base, 1, HEAP); /* every page is there */
	if (tracker_collect(&tracked->tracker, &tracked->pages))
		die("cannot collect");
}

static void copy_pages(struct tracked *tracked)
{
	const struct region *region = &tracked->region;
	char *to = tracked->copy;

	for (uint64_t page = 0; (page = bitmap_next(&tracked->pages, page)) != UINT64_MAX; page++) {
		memcpy(to, region->alias + page * region->page_bytes, region->page_bytes);
		to += region->page_bytes;
	}
}

/* The first writes since a collection, to `count` pages, and the next collection. */
static void write_and_collect(struct tracked *tracked, const unsigned *order, unsigned count)
{
	struct region *region = &tracked->region;
	double start = now_us(), cpu = cpu_us(), written, collected;

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
	copy_pages(tracked);
	for (unsigned i = 0; i < count; i++)
		if (!bitmap_test(&tracked->pages, order ? order[i] : i))
			die("a written page was not found");
	printf("%g %g %g %g %llu\n", written / count, cpu / count, collected * 1e-3,
	       (now_us() - start) * 1e-3, (unsigned long long)bitmap_count(&tracked->pages));
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

/* ---- What is measured ---- */

struct backend {
	const char *name, *delivery, *tracker, *backing, *reader; /* NULL: the best there is */
};

static const struct backend deliveries[] = {
	{"userfaultfd", "userfaultfd", NULL, "anonymous", "io_uring"},
	{"  threads", "userfaultfd", NULL, "anonymous", "threads"},
	{"user-mode", "user-mode", NULL, "anonymous", "io_uring"},
	{"  threads", "user-mode", NULL, "anonymous", "threads"},
	{"sigsegv", "sigsegv", NULL, NULL, "io_uring"},
	{"  threads", "sigsegv", NULL, NULL, "threads"},
	{"eager", "eager", NULL, NULL, "io_uring"},
	{"  threads", "eager", NULL, NULL, "threads"},
};
static const struct backend trackers[] = {
	{"wp-async", NULL, "wp-async", "anonymous", NULL},
	{"wp-sync", NULL, "wp-sync", "anonymous", NULL},
	{"mprotect", NULL, "mprotect", "anonymous", NULL},
	{"  sigsegv's memfd", "sigsegv", "mprotect", NULL, NULL},
};
#define COUNT(array) (unsigned)(sizeof(array) / sizeof((array)[0]))
_Static_assert(COUNT(deliveries) <= BACKENDS_MOST && COUNT(trackers) <= BACKENDS_MOST,
	       "room for each");

struct metric {
	const char *name;
	bool full; /* with ratios and spread; else only its median */
};

struct experiment {
	const char *name;
	void (*measure)(const char *image);
	size_t heap_bytes; /* of the image it needs; 0: none */
	const struct backend *backends;
	unsigned backend_count;
	const char *sections[SECTIONS_MOST + 1]; /* each with all of the metrics */
	struct metric metrics[METRICS_MOST + 1];
};

static const struct experiment experiments[] = {
	{"random",
	 measure_random,
	 HEAP,
	 deliveries,
	 COUNT(deliveries),
	 {"256 MiB arrive, touched in random order, a page of each cluster of 64 KiB"},
	 {{"us a cluster", true}, {"CPU us", false}}},
	{"sequential",
	 measure_sequential,
	 HEAP,
	 deliveries,
	 COUNT(deliveries),
	 {"256 MiB arrive, touched page by page"},
	 {{"us a page", true}, {"CPU us", false}}},
	{"start-256",
	 measure_start,
	 HEAP,
	 deliveries,
	 COUNT(deliveries),
	 {"From thaw_open() to the first page, 256 MiB"},
	 {{"ms", true}, {"CPU ms", false}}},
	{"start-1024",
	 measure_start,
	 LARGE_HEAP,
	 deliveries,
	 COUNT(deliveries),
	 {"From thaw_open() to the first page, 1 GiB"},
	 {{"ms", true}, {"CPU ms", false}}},
	{"writes",
	 measure_writes,
	 0,
	 trackers,
	 COUNT(trackers),
	 {"100 first writes to random pages of 256 MiB", "4,000 first writes",
	  "10,000 first writes", "20,000 first writes", "40,000 first writes",
	  "first writes to all pages in order"},
	 {{"us a write", true},
	  {"CPU us", false},
	  {"collect, ms", true},
	  {"and copy", false},
	  {"pages found", false}}},
};

static unsigned count_sections(const struct experiment *experiment)
{
	unsigned count = 0;

	while (experiment->sections[count])
		count++;
	return count;
}

static unsigned count_metrics(const struct experiment *experiment)
{
	unsigned count = 0;

	while (experiment->metrics[count].name)
		count++;
	return count;
}

/* ---- Rounds ---- */

struct results {
	char lacking[sizeof(((struct thaw_error *)0)->text)]; /* why there are none */
	double numbers[NUMBERS_MOST][RUNS_MOST];
};

static char directory[4096];

static void name_image(char *path, size_t room, size_t heap_bytes)
{
	snprintf(path, room, "%s/%zu.thaw", directory, heap_bytes >> 20);
}

static void clean(void)
{
	char path[4200];

	name_image(path, sizeof(path), HEAP);
	unlink(path);
	name_image(path, sizeof(path), LARGE_HEAP);
	unlink(path);
	rmdir(directory);
}

static void make_image(size_t bytes)
{
	char path[4200];
	struct thaw_options options = {
		.image = path, .flags = THAW_CREATE, .max_bytes = bytes, .engine = "bench"};
	struct thaw_result result;
	struct thaw_error error;
	struct thaw *heap;

	name_image(path, sizeof(path), bytes);
	if (thaw_open(&options, &heap, &error))
		die(error.text);
	if (thaw_resize(heap, bytes))
		die("no memory for a heap");
	for (size_t at = 0; at < bytes; at += sizeof(unsigned))
		*(unsigned *)((char *)thaw_base(heap) + at) = word_at(at);
	if (thaw_checkpoint(heap, THAW_REASON_EXIT, "s", 2, &result))
		die(result.error.text);
	thaw_close(heap);
}

static void warm_up(size_t heap_bytes)
{
	static char buffer[1 << 20];
	char path[4200];
	int fd;

	name_image(path, sizeof(path), heap_bytes);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die("cannot read an image");
	while (read(fd, buffer, sizeof(buffer)) > 0)
		;
	close(fd);
}

static void force(const char *variable, const char *word)
{
	if (word)
		setenv(variable, word, 1);
	else
		unsetenv(variable);
}

static _Noreturn void run_child(const struct experiment *experiment, const struct backend *backend,
				int out)
{
	char path[4200];

	force("THAW_DELIVERY", backend->delivery);
	force("THAW_TRACKER", backend->tracker);
	force("THAW_BACKING", backend->backing);
	force("THAW_READER", backend->reader);
	name_image(path, sizeof(path), experiment->heap_bytes);
	dup2(out, STDOUT_FILENO);
	execl("/proc/self/exe", "backends", "measure", experiment->name, path, NULL);
	_exit(127);
}

static void run_once(const struct experiment *experiment, const struct backend *backend,
		     unsigned run, struct results *results)
{
	unsigned count = count_sections(experiment) * count_metrics(experiment);
	unsigned got = 0;
	int channel[2], status;
	FILE *numbers;
	pid_t child;

	fflush(stdout);
	child = pipe2(channel, O_CLOEXEC) ? -1 : fork();
	if (!child)
		run_child(experiment, backend, channel[1]);
	if (child < 0 || !(numbers = fdopen(channel[0], "r")))
		die("cannot start a process");
	close(channel[1]);
	while (got < count && fscanf(numbers, "%lf", &results->numbers[got][run]) == 1)
		got++;
	if (got < count && fgets(results->lacking, sizeof(results->lacking), numbers))
		results->lacking[strcspn(results->lacking, "\n")] = '\0';
	fclose(numbers);
	if (waitpid(child, &status, 0) != child || !WIFEXITED(status))
		die("a measurement was killed");
	/* What is here in one round is here in all of them. */
	if (WEXITSTATUS(status) ? WEXITSTATUS(status) != EXIT_LACKING || run : got < count)
		die("a measurement failed");
}

static void run_round(const struct experiment *experiment, unsigned run, struct results *results)
{
	if (experiment->heap_bytes)
		warm_up(experiment->heap_bytes);
	for (unsigned i = 0; i < experiment->backend_count; i++) {
		unsigned backend = (i + run) % experiment->backend_count;

		if (!*results[backend].lacking)
			run_once(experiment, &experiment->backends[backend], run,
				 &results[backend]);
	}
}

/* ---- Tables ---- */

static int digits(double number)
{
	return number < 10 ? 2 : number < 100 ? 1 : 0;
}

static void print_spread(struct spread spread, const char *unit, int width)
{
	char text[64];

	snprintf(text, sizeof(text), "(%.*f-%.*f)", digits(spread.least), spread.least,
		 digits(spread.most), spread.most);
	printf("%9.*f%s %-*s", digits(spread.median), spread.median, unit, width, text);
}

static void print_number(const struct metric *metric, const double *values, const double *best,
			 unsigned runs)
{
	struct spread spread = spread_of(values, runs);
	double ratios[RUNS_MOST], least;

	if (!metric->full) {
		printf("%12.*f", digits(spread.median), spread.median);
		return;
	}
	for (unsigned run = 0; run < runs; run++)
		ratios[run] = values[run] / best[run];
	print_spread(spread, "", 12);
	print_spread(spread_of(ratios, runs), "x", 12);
	least = spread.least / spread_of(best, runs).least;
	printf("%8.*fx", digits(least), least);
}

static void print_section(const struct experiment *experiment, unsigned section,
			  struct results *results, unsigned runs)
{
	unsigned metrics = count_metrics(experiment), best = 0;

	while (best < experiment->backend_count - 1 && *results[best].lacking)
		best++;
	printf("\n%s\n%-20s", experiment->sections[section], "");
	for (unsigned i = 0; i < metrics; i++)
		if (experiment->metrics[i].full)
			printf("%13s %-10s%18s%14s", experiment->metrics[i].name, "(min-max)",
			       "to the best", "of fastest");
		else
			printf("%12s", experiment->metrics[i].name);
	putchar('\n');
	for (unsigned backend = 0; backend < experiment->backend_count; backend++) {
		printf("%-20s", experiment->backends[backend].name);
		if (*results[backend].lacking)
			printf("  %s", results[backend].lacking);
		for (unsigned i = 0; i < metrics && !*results[backend].lacking; i++)
			print_number(&experiment->metrics[i],
				     results[backend].numbers[section * metrics + i],
				     results[best].numbers[section * metrics + i], runs);
		putchar('\n');
	}
}

static bool chosen(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], name))
			return true;
	return argc < 2;
}

static void run_experiments(unsigned runs, int argc, char **argv)
{
	static struct results results[COUNT(experiments)][BACKENDS_MOST];

	for (unsigned run = 0; run < runs; run++)
		for (unsigned i = 0; i < COUNT(experiments); i++)
			if (chosen(experiments[i].name, argc, argv))
				run_round(&experiments[i], run, results[i]);
	printf("%u rounds, interleaved: medians; ratios to the best backend that is available\n",
	       runs);
	for (unsigned i = 0; i < COUNT(experiments); i++)
		for (unsigned section = 0; section < count_sections(&experiments[i]); section++)
			if (chosen(experiments[i].name, argc, argv))
				print_section(&experiments[i], section, results[i], runs);
}

static bool image_needed(size_t heap_bytes, int argc, char **argv)
{
	for (unsigned i = 0; i < COUNT(experiments); i++)
		if (experiments[i].heap_bytes == heap_bytes &&
		    chosen(experiments[i].name, argc, argv))
			return true;
	return false;
}

int main(int argc, char **argv)
{
	const char *parent = getenv("TMPDIR"), *wanted = getenv("RUNS");
	unsigned runs = wanted ? (unsigned)atoi(wanted) : RUNS_DEFAULT, known = 0;

	if (argc == 4 && !strcmp(argv[1], "measure")) {
		for (unsigned i = 0; i < COUNT(experiments); i++)
			if (!strcmp(experiments[i].name, argv[2]))
				experiments[i].measure(argv[3]);
		return 0;
	}
	for (unsigned i = 0; i < COUNT(experiments); i++)
		known += chosen(experiments[i].name, argc, argv);
	if (!known || runs < 1 || runs > RUNS_MOST) {
		fprintf(stderr,
			"usage: backends [random] [sequential] [start-256] [start-1024] [writes]\n");
		return 2;
	}
	snprintf(directory, sizeof(directory), "%s/thaw-bench-XXXXXX", parent ? parent : "/tmp");
	if (!mkdtemp(directory))
		die("mkdtemp");
	atexit(clean);
	if (image_needed(HEAP, argc, argv))
		make_image(HEAP);
	if (image_needed(LARGE_HEAP, argc, argv))
		make_image(LARGE_HEAP);
	run_experiments(runs, argc, argv);
	return 0;
}
