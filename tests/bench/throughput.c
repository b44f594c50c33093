// SPDX-License-Identifier: MIT
/*
 * throughput [PROGRAM...] - what persistence costs a program that computes: the programs of
 * tests/bench/engine/, each of them one long turn, with an image and a checkpoint every so often
 * against the same binary without an image. RUNS=N repeats every measurement.
 *
 * Every run is a process of its own, over the same calls as `thaw run`. The program itself takes the
 * time (engine/measure.js), so the start is not in it, but all checkpoints meanwhile are; once it
 * has told the time it is killed, and its image removed. What is compared ran one after the other,
 * in turns that rotate: a machine that is slower for a minute is so for all of them. A ratio is the
 * median of those of the rounds, in brackets the smallest and largest.
 *
 * How long its thread was ready but had no CPU, because other programs had them, is taken off the
 * time (/proc/PID/schedstat): one neighbour on a small machine is more than what is to be measured.
 * What the thread waits for by itself, faults and locks and the disk, stays in.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "../../vm/policy/runtime.h"

#define RUNS_DEFAULT 5

static const char *const programs[] = {
	"recursion",   "objects", "floats", "permutations", "text",
	"collections", "json",	  "trees",  "hashing",
};
#define PROGRAMS (sizeof(programs) / sizeof(programs[0]))

static const struct setting {
	const char *name;
	bool image;
	uint64_t every_ns;
	double target; /* of the geometric mean */
} settings[] = {
	{"no image", false, 0, 1},
	{"every 0", true, 0, 1.02},
	{"every 1s", true, 1000000000, 1.03},
	{"every 100ms", true, 100000000, 1.05},
	{"every 10ms", true, 10000000, 1.15},
};
#define SETTINGS (sizeof(settings) / sizeof(settings[0]))

static char directory[4096], image[4200];

static _Noreturn void run_program(const char *path, const struct setting *setting, int out)
{
	struct runtime_options options = {
		.image = setting->image ? image : NULL,
		.script = path,
		.every_ns = setting->every_ns,
	};
	struct thaw_error error = {0};
	struct runtime *runtime;
	int code;

	dup2(out, STDOUT_FILENO);
	close(out);
	code = runtime_open(&options, &runtime, &error);
	if (code) {
		fprintf(stderr, "throughput: %s\n", error.text);
		_exit(runtime_exit_code(code));
	}
	code = runtime_start(runtime);
	_exit(code ? code : runtime_run(runtime));
}

static void clean(void)
{
	unlink(image);
	rmdir(directory);
}

/* How long the first thread of a process, which is the one that runs JavaScript, waited for a CPU. */
static double waited_ms(pid_t process)
{
	unsigned long long ran, waited = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", process);
	file = fopen(path, "r");
	if (!file || fscanf(file, "%llu %llu", &ran, &waited) != 2)
		waited = 0;
	if (file)
		fclose(file);
	return (double)waited * 1e-6;
}

/* A line of the program's, which are few and short; false if it said nothing more. */
static bool read_line(int fd, char *line, size_t room)
{
	size_t length = 0;

	while (length < room - 1) {
		ssize_t got = read(fd, line + length, 1);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		if (line[length++] == '\n')
			break;
	}
	line[length] = '\0';
	return true;
}

static double milliseconds(const char *program, const struct setting *setting, double *generations)
{
	char path[4200], line[128];
	double time, waited = 0;
	bool told;
	int channel[2], status;
	pid_t child;

	snprintf(path, sizeof(path), "%s/tests/bench/engine/%s.js", THAW_SOURCE, program);
	fflush(stdout);
	child = pipe2(channel, O_CLOEXEC) ? -1 : fork();
	if (!child)
		run_program(path, setting, channel[1]);
	if (child < 0) {
		perror("throughput");
		exit(1);
	}
	close(channel[1]);
	told = read_line(channel[0], line, sizeof(line)) && !strcmp(line, "begin\n");
	if (told) {
		waited = waited_ms(child);
		told = read_line(channel[0], line, sizeof(line)) &&
		       sscanf(line, "%lf %lf", &time, generations) == 2;
		waited = waited_ms(child) - waited;
	}
	/* The checkpoint at its end is no work of the program's. */
	kill(child, SIGKILL);
	close(channel[0]);
	waitpid(child, &status, 0);
	unlink(image);
	if (!told) {
		fprintf(stderr, "throughput: %s.js, %s: no result\n", program, setting->name);
		exit(1);
	}
	return waited > 0 && waited < time ? time - waited : time;
}

/* Was it asked for? Everything is if nothing was named. */
static bool chosen(const char *program, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], program))
			return true;
	return argc < 2;
}

static void print_programs(double times[PROGRAMS][SETTINGS][RUNS_MOST], unsigned runs, int argc,
			   char **argv)
{
	double logs[SETTINGS] = {0}, logs_of_fastest[SETTINGS] = {0};
	unsigned count = 0;

	for (size_t p = 0; p < PROGRAMS; p++) {
		struct spread none = spread_of(times[p][0], runs);

		if (!chosen(programs[p], argc, argv))
			continue;
		count++;
		printf("%-18s %6.0f (%.0f-%.0f)", programs[p], none.median, none.least, none.most);
		for (size_t s = 1; s < SETTINGS; s++) {
			double ratios[RUNS_MOST];
			struct spread ratio;

			for (unsigned run = 0; run < runs; run++)
				ratios[run] = times[p][s][run] / times[p][0][run];
			ratio = spread_of(ratios, runs);
			printf("%s%.3f (%.2f-%.2f)", s == 1 ? "\t" : "    ", ratio.median,
			       ratio.least, ratio.most);
			logs[s] += log(ratio.median);
			logs_of_fastest[s] += log(spread_of(times[p][s], runs).least / none.least);
		}
		putchar('\n');
	}
	printf("%-32s", "geometric mean");
	for (size_t s = 1; s < SETTINGS; s++)
		printf("%s%-17.3f", s == 1 ? "\t" : "    ", exp(logs[s] / count));
	printf("\n%-32s", "the same of the fastest runs");
	for (size_t s = 1; s < SETTINGS; s++)
		printf("%s%-17.3f", s == 1 ? "\t" : "    ", exp(logs_of_fastest[s] / count));
	printf("\n%-32s", "target");
	for (size_t s = 1; s < SETTINGS; s++) {
		bool met = exp(logs[s] / count) <= settings[s].target;

		printf("%s%.2f, %-11s", s == 1 ? "\t" : "    ", settings[s].target,
		       met ? "met" : "missed");
	}
}

int main(int argc, char **argv)
{
	static double times[PROGRAMS][SETTINGS][RUNS_MOST];
	const char *parent = getenv("TMPDIR"), *wanted = getenv("RUNS");
	unsigned runs = wanted ? (unsigned)atoi(wanted) : RUNS_DEFAULT, count = 0;
	double generations[SETTINGS] = {0};

	if (runs < 1 || runs > RUNS_MOST) {
		fprintf(stderr, "throughput: RUNS is a number from 1 to %u\n", RUNS_MOST);
		return 2;
	}
	snprintf(directory, sizeof(directory), "%s/thaw-bench-XXXXXX", parent ? parent : "/tmp");
	if (!mkdtemp(directory)) {
		perror(directory);
		return 1;
	}
	snprintf(image, sizeof(image), "%s/program.thaw", directory);
	atexit(clean);

	for (unsigned run = 0; run < runs; run++)
		for (size_t p = 0; p < PROGRAMS; p++) {
			if (!chosen(programs[p], argc, argv))
				continue;
			for (size_t i = 0; i < SETTINGS; i++) {
				size_t s = (i + run) % SETTINGS;
				double taken = 0;

				times[p][s][run] = milliseconds(programs[p], &settings[s], &taken);
				generations[s] += taken;
			}
			count++;
		}
	if (!count) {
		fprintf(stderr, "throughput: no program of that name\n");
		return 2;
	}
	printf("run time, %u runs of each, interleaved; ratios to no image: median (min-max)\n\n",
	       runs);
	printf("%-18s %-13s", "program", "ms, no image");
	for (size_t s = 1; s < SETTINGS; s++)
		printf("%s%-17s", s == 1 ? "\t" : "    ", settings[s].name);
	putchar('\n');
	print_programs(times, runs, argc, argv);
	printf("\n%-32s", "generations in a run");
	for (size_t s = 1; s < SETTINGS; s++)
		printf("%s%-17.1f", s == 1 ? "\t" : "    ", generations[s] / count);
	putchar('\n');
	return 0;
}
