// SPDX-License-Identifier: MIT
/*
 * kmod [writes] [touches] [javascript] - what the kernel module (kmod-optional/) is worth, against the backends that do
 * without it (uffd/probe.h):
 *
 *	writes      the first write to a page of 1 GiB that is all there, and finding 100, or 10,000, such pages
 *	touches     the first touch of a cluster of 64 KiB of a restored heap, in random order, the file in the page cache
 *	javascript  the pause of a checkpoint of a program with some 256 MiB, of which it writes 100 pages each time
 *
 * For a machine that has loaded the module, an emulated one as a rule (make bench-kmod): there, the times mean nothing, the
 * ratios may. A process chooses its backends from the environment and keeps to them, so that each is a process of its own,
 * this program again. Rounds go through all of them in turns that rotate; a ratio is the median of those of the
 * rounds, in brackets the smallest and the largest. RUNS=N says how many rounds.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "fault.h"
#include "page.h"
#include "segfault.h"
#include "thaw.h"
#include "tracker.h"
#include "../../vm/policy/runtime.h"

#define RUNS_DEFAULT 11
#define TRACKED ((size_t)1 << 30)
#define RESTORED ((size_t)128 << 20)
#define BACKENDS 3u
#define NUMBERS 4u
#define EXIT_LACKING 4 /* the backend is not available, and the line printed says why */

static char directory[4096], image[4200], script[4200], program_image[4200];

/* ---- In a process of its own, with the backends of the environment ---- */

static _Noreturn void lacking(const struct thaw_error *error)
{
	if (error->code != THAW_EKERNEL)
		die(error->text);
	puts(error->text);
	exit(EXIT_LACKING);
}

/* A region without an image, all of whose pages are there and watched. */
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

	if (region_create(region, NULL, TRACKED, 0, false, &error))
		lacking(&error);
	tracked->watched = (struct watched){.region = region, .tracker = &tracked->tracker};
	if (region_register(region, 0, &error) ||
	    tracker_create(&tracked->tracker, region, &error) ||
	    (fault_service_needed(region) &&
	     fault_service_start(&tracked->service, &options, &error)))
		die(error.text);
	tracked->watched.service = tracked->service;
	if (segfault_watch(&tracked->watched) || region_resize(region, TRACKED) ||
	    bitmap_init(&tracked->pages, TRACKED / region->page_bytes))
		die("cannot make a tracked region");
	memset(region->base, 1, TRACKED);
	if (tracker_collect(&tracked->tracker, &tracked->pages))
		die("cannot collect");
}

/* us a first write, and ms for finding them. */
static void write_and_collect(struct tracked *tracked, const unsigned *pages, unsigned count)
{
	struct region *region = &tracked->region;
	double start = now_us(), written;

	for (unsigned i = 0; i < count; i++)
		((volatile char *)region->base)[pages[i] * (size_t)region->page_bytes]++;
	written = now_us() - start;
	bitmap_clear_all(&tracked->pages);
	start = now_us();
	if (tracker_collect(&tracked->tracker, &tracked->pages))
		die("cannot collect");
	start = now_us() - start;
	for (unsigned i = 0; i < count; i++)
		if (!bitmap_test(&tracked->pages, pages[i]))
			die("a written page was not found");
	printf("%g %g ", written / count, start * 1e-3);
}

/* One round for each line that comes in. */
static void measure_writes(void)
{
	static struct tracked tracked;
	unsigned *order, count, at = 0;

	track(&tracked);
	count = (unsigned)(TRACKED / tracked.region.page_bytes);
	order = shuffled(count);
	puts("ready");
	fflush(stdout);
	while (getchar() == '\n') {
		if (at + 10100 > count)
			at = 0;
		write_and_collect(&tracked, order + at, 100);
		write_and_collect(&tracked, order + at + 100, 10000);
		putchar('\n');
		fflush(stdout);
		at += 10100;
	}
	exit(0);
}

static unsigned word_at(size_t at)
{
	return (unsigned)(at / sizeof(unsigned)) * 2654435761u;
}

static struct thaw *open_image(int flags)
{
	struct thaw_options options = {
		.image = image, .flags = flags, .max_bytes = RESTORED, .engine = "bench"};
	struct thaw_error error;
	struct thaw *heap;

	if (thaw_open(&options, &heap, &error))
		lacking(&error);
	return heap;
}

/* us a cluster. */
static void measure_touches(void)
{
	unsigned count = RESTORED / PAGE_CLUSTER_BYTES, *order = shuffled(count);
	struct thaw *heap = open_image(0);
	const char *base = thaw_base(heap);
	double start = now_us();

	for (unsigned i = 0; i < count; i++) {
		size_t at = (size_t)order[i] * PAGE_CLUSTER_BYTES;

		if (*(const volatile unsigned *)(base + at) != word_at(at))
			die("a page arrived with other contents");
	}
	printf("%g\n", (now_us() - start) / count);
	exit(0); /* gives back all of it */
}

static void make_image(void)
{
	struct thaw *heap = open_image(THAW_CREATE);
	struct thaw_result result;

	if (thaw_resize(heap, RESTORED))
		die("no memory for a heap");
	for (size_t at = 0; at < RESTORED; at += sizeof(unsigned))
		*(unsigned *)((char *)thaw_base(heap) + at) = word_at(at);
	if (thaw_checkpoint(heap, THAW_REASON_EXIT, "s", 2, &result))
		die(result.error.text);
	thaw_close(heap);
	exit(0);
}

/* The program writes the middle one of its pauses in ms, without the first one, which is of all that it has. */
static void measure_javascript(void)
{
	struct runtime_options options = {.image = program_image, .script = script};
	struct thaw_error error = {0};
	struct runtime *runtime;
	int code;

	unlink(program_image);
	code = runtime_open(&options, &runtime, &error);
	if (code)
		lacking(&error);
	code = runtime_start(runtime);
	exit(code ? code : runtime_run(runtime));
}

static void write_script(void)
{
	FILE *file = fopen(script, "w");

	if (!file ||
	    fputs("import { checkpoint } from 'thaw'\n"
		  "const pages = 65536, words = new Uint32Array(pages * 1024).fill(7), pauses = []\n"
		  "let random = 1\n"
		  "await checkpoint()\n"
		  "for (let round = 0; round < 9; round++) {\n"
		  "	for (let i = 0; i < 100; i++) {\n"
		  "		random = (Math.imul(random, 1664525) + 1013904223) >>> 0\n"
		  "		words[(random >>> 4) % pages * 1024 + 77]++\n"
		  "	}\n"
		  "	pauses.push((await checkpoint()).pauseNs / 1e6)\n"
		  "}\n"
		  "console.log(pauses.sort((a, b) => a - b)[4])\n",
		  file) < 0 ||
	    fclose(file))
		die("cannot write a program");
}

/* ---- What is measured ---- */

struct backend {
	const char *name, *delivery, *tracker, *backing, *reader; /* NULL: the best there is */
};

static const struct backend trackers[BACKENDS] = {
	{"kmod", "kmod", "kmod", "kmod", NULL},
	{"wp-async", "userfaultfd", "wp-async", "anonymous", NULL},
	{"wp-sync", "userfaultfd", "wp-sync", "anonymous", NULL},
};
static const struct backend deliveries[BACKENDS] = {
	{"kmod", "kmod", "kmod", "kmod", NULL},
	{"fault thread", "userfaultfd", NULL, "anonymous", "io_uring"},
	{"and its threads", "userfaultfd", NULL, "anonymous", "threads"},
};

struct experiment {
	const char *name, *title;
	void (*measure)(void);
	bool stays; /* the process goes on, one line for each round */
	const struct backend *backends;
	const char *numbers[NUMBERS + 1];
	unsigned runs_divided_by;
};

static const struct experiment experiments[] = {
	{"writes",
	 "1 GiB, all of it there",
	 measure_writes,
	 true,
	 trackers,
	 {"first write, 100, us", "finding 100, ms", "first write, 10,000, us",
	  "finding 10,000, ms"},
	 1},
	{"touches",
	 "First touches of 128 MiB, a random cluster of 64 KiB each",
	 measure_touches,
	 false,
	 deliveries,
	 {"us a cluster"},
	 1},
	{"javascript",
	 "A checkpoint of a JavaScript program of 256 MiB, 100 pages written",
	 measure_javascript,
	 false,
	 trackers,
	 {"pause, ms"},
	 2},
};
#define EXPERIMENTS (sizeof(experiments) / sizeof(experiments[0]))

/* ---- Rounds ---- */

struct results {
	pid_t process; /* of one that stays */
	FILE *ask, *answers;
	char lacking[sizeof(((struct thaw_error *)0)->text)]; /* why there are none */
	double numbers[NUMBERS][RUNS_MOST];
};

static void force(const char *variable, const char *word)
{
	if (word)
		setenv(variable, word, 1);
	else
		unsetenv(variable);
}

static void start(const struct experiment *experiment, const struct backend *backend,
		  struct results *results)
{
	int to[2], from[2];

	fflush(stdout);
	if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC) || (results->process = fork()) < 0)
		die("cannot start a process");
	if (!results->process) {
		force("THAW_DELIVERY", backend->delivery);
		force("THAW_TRACKER", backend->tracker);
		force("THAW_BACKING", backend->backing);
		force("THAW_READER", backend->reader);
		dup2(to[0], STDIN_FILENO);
		dup2(from[1], STDOUT_FILENO);
		execl("/proc/self/exe", "kmod", "measure", experiment->name, directory, NULL);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	results->ask = fdopen(to[1], "w");
	results->answers = fdopen(from[0], "r");
	if (!results->ask || !results->answers)
		die("no memory");
}

static int finish(struct results *results)
{
	int status;

	fclose(results->ask);
	fclose(results->answers);
	if (waitpid(results->process, &status, 0) < 0)
		die("waitpid");
	results->process = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* The next line; where there is none, or a reason instead, that is in `lacking`. */
static bool hear(struct results *results, const struct backend *backend, char *line, int room)
{
	int code;

	if (fgets(line, room, results->answers) &&
	    (strchr("0123456789", *line) || !strcmp(line, "ready\n")))
		return true;
	snprintf(results->lacking, sizeof(results->lacking), "%.*s", (int)strcspn(line, "\n"),
		 *line ? line : "it is not available here");
	code = finish(results);
	if (code != EXIT_LACKING) {
		fprintf(stderr, "kmod: %s ended with %d: %s\n", backend->name, code,
			results->lacking);
		exit(1);
	}
	return false;
}

static void run_once(const struct experiment *experiment, const struct backend *backend,
		     unsigned run, struct results *results)
{
	char line[1024] = "", *at = line;

	if (!experiment->stays)
		start(experiment, backend, results);
	else
		fputc('\n', results->ask), fflush(results->ask);
	if (!hear(results, backend, line, sizeof(line)))
		return;
	for (unsigned i = 0; experiment->numbers[i]; i++)
		results->numbers[i][run] = strtod(at, &at);
	if (!experiment->stays && finish(results))
		die("a measurement failed");
}

static void print_table(const struct experiment *experiment, const struct results *results,
			unsigned runs)
{
	printf("\n%s (%u rounds, interleaved; x: as long as with kmod)\n%-26s", experiment->title,
	       runs, "");
	for (unsigned i = 0; i < BACKENDS; i++)
		printf("%-32s", experiment->backends[i].name);
	putchar('\n');
	for (unsigned number = 0; experiment->numbers[number]; number++) {
		printf("%-26s", experiment->numbers[number]);
		for (unsigned i = 0; i < BACKENDS; i++) {
			char text[64] = "-";
			double ratios[RUNS_MOST];
			struct spread all, ratio;

			if (!*results[i].lacking) {
				for (unsigned run = 0; run < runs; run++)
					ratios[run] = results[i].numbers[number][run] /
						      results[0].numbers[number][run];
				all = spread_of(results[i].numbers[number], runs);
				ratio = spread_of(ratios, runs);
				if (*results[0].lacking || !i)
					snprintf(text, sizeof(text), "%.3g (%.3g-%.3g)", all.median,
						 all.least, all.most);
				else
					snprintf(text, sizeof(text), "%.3g = %.3gx (%.3g-%.3g)",
						 all.median, ratio.median, ratio.least, ratio.most);
			}
			printf("%-32s", text);
		}
		putchar('\n');
	}
	for (unsigned i = 0; i < BACKENDS; i++)
		if (*results[i].lacking)
			printf("%s: %s\n", experiment->backends[i].name, results[i].lacking);
	fflush(stdout);
}

static void run_experiment(const struct experiment *experiment, unsigned runs)
{
	static struct results results[BACKENDS];

	memset(results, 0, sizeof(results));
	for (unsigned i = 0; experiment->stays && i < BACKENDS; i++) {
		char line[1024] = "";

		start(experiment, &experiment->backends[i], &results[i]);
		hear(&results[i], &experiment->backends[i], line, sizeof(line));
	}
	/* The first one warms up what is translated and cached. */
	for (unsigned run = 0; run <= runs; run++)
		for (unsigned i = 0; i < BACKENDS; i++) {
			unsigned backend = (i + run) % BACKENDS;

			if (!*results[backend].lacking)
				run_once(experiment, &experiment->backends[backend],
					 run ? run - 1 : 0, &results[backend]);
		}
	for (unsigned i = 0; i < BACKENDS; i++)
		if (results[i].process)
			finish(&results[i]);
	print_table(experiment, results, runs);
}

static void name_files(void)
{
	snprintf(image, sizeof(image), "%s/heap.thaw", directory);
	snprintf(script, sizeof(script), "%s/program.mjs", directory);
	snprintf(program_image, sizeof(program_image), "%s/program.thaw", directory);
}

static void clean(void)
{
	unlink(program_image);
	unlink(image);
	unlink(script);
	rmdir(directory);
}

/* By a process of its own: this one's environment is for the measurements. */
static void prepare(void)
{
	const char *parent = getenv("TMPDIR");
	int status;

	snprintf(directory, sizeof(directory), "%s/thaw-bench-XXXXXX", parent ? parent : "/tmp");
	if (!mkdtemp(directory))
		die("mkdtemp");
	atexit(clean);
	name_files();
	write_script();
	fflush(stdout);
	if (!fork()) {
		force("THAW_DELIVERY", NULL);
		force("THAW_TRACKER", NULL);
		force("THAW_BACKING", NULL);
		execl("/proc/self/exe", "kmod", "measure", "image", directory, NULL);
		_exit(127);
	}
	if (wait(&status) < 0 || status)
		die("cannot make an image");
}

static bool chosen(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], name))
			return true;
	return argc < 2;
}

int main(int argc, char **argv)
{
	const char *wanted = getenv("RUNS");
	unsigned runs = wanted ? (unsigned)atoi(wanted) : RUNS_DEFAULT, known = 0;

	if (argc == 4 && !strcmp(argv[1], "measure")) {
		snprintf(directory, sizeof(directory), "%s", argv[3]);
		name_files();
		for (size_t i = 0; i < EXPERIMENTS; i++)
			if (!strcmp(experiments[i].name, argv[2]))
				experiments[i].measure();
		make_image();
	}
	for (size_t i = 0; i < EXPERIMENTS; i++)
		known += chosen(experiments[i].name, argc, argv);
	if (!known || runs < 2 || runs > RUNS_MOST) {
		fprintf(stderr, "usage: tests/bench/kmod [writes] [touches] [javascript]\n");
		return 2;
	}
	prepare();
	for (size_t i = 0; i < EXPERIMENTS; i++)
		if (chosen(experiments[i].name, argc, argv))
			run_experiment(&experiments[i], runs / experiments[i].runs_divided_by);
	return 0;
}
