// SPDX-License-Identifier: MIT
/*
 * exec THAW DIRECTORY - what `thaw exec` costs, with Node.js as its program, each table in one run, interleaved (make
 * bench-exec; RUNS=11, SIZES="30 300 5000" in MiB of live objects):
 *
 *	from process start to the first tick, restored after a SIGKILL, and of the program that makes its data anew
 *	the run time of programs that compute, with captures at several intervals, to that without thaw
 *	the pause of a capture by resident size and written pages
 *
 * With real-time priority where that is allowed: other programs of the machine then take no part of it. Orphans are its
 * own children, so that the numbers of killed processes are free at once, whatever process 1 does.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define SETTLES_S 2 /* collecting garbage, and compiling, after the data was made */

static const char *thaw, *directory;
static unsigned runs = 11;

struct child {
	pid_t pid;
	int out;
	double started;
};

static struct child start(const char *const *arguments)
{
	struct child child;
	int out[2];

	if (pipe2(out, O_CLOEXEC))
		die("pipe");
	child.started = now_us();
	child.pid = fork();
	if (!child.pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out[1], 1);
		execvp(arguments[0], (char *const *)arguments);
		_exit(127);
	}
	close(out[1]);
	child.out = out[0];
	return child;
}

/* Until a line begins with `word`: when, in us since its start. */
static double wait_for(struct child *child, const char *word)
{
	static char text[1 << 16];
	size_t have = 0;
	ssize_t got;

	while ((got = read(child->out, text + have, sizeof(text) - 1 - have)) > 0) {
		char *line = text, *end;

		have += (size_t)got;
		text[have] = '\0';
		for (; (end = strchr(line, '\n')); line = end + 1)
			if (!strncmp(line, word, strlen(word)))
				return now_us() - child->started;
		have -= (size_t)(line - text);
		memmove(text, line, have + 1);
	}
	fprintf(stderr, "exec: it ended without saying %s\n", word);
	exit(1);
}

static void reap_orphans(void)
{
	while (waitpid(-1, NULL, 0) > 0)
		;
}

static void end(struct child *child)
{
	kill(child->pid, SIGKILL);
	close(child->out);
	waitpid(child->pid, NULL, 0);
	reap_orphans();
}

/* The processor time of all of it, in us. */
static double run(const char *const *arguments)
{
	struct child child = start(arguments);
	char buffer[4096];
	struct rusage used;
	int status;

	while (read(child.out, buffer, sizeof(buffer)) > 0)
		;
	close(child.out);
	wait4(child.pid, &status, 0, &used);
	if (status) {
		fprintf(stderr, "exec: %s %s ended with status %#x\n", arguments[0], arguments[1],
			(unsigned)status);
		exit(1);
	}
	return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 +
	       (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

static char *path(const char *format, const char *name)
{
	char *text;

	if (asprintf(&text, format, directory, name) < 0)
		die("no memory");
	return text;
}

/* ---- From process start to the first tick */

#define SIZES_MOST 8

static void first_ticks(const char *sizes)
{
	static double restored[SIZES_MOST][RUNS_MOST], anew[SIZES_MOST][RUNS_MOST];
	char *list = strdup(sizes), *size[SIZES_MOST];
	char *script = path("%s/%s", "exec_heap.js");
	unsigned count = 0;

	for (char *word = strtok(list, " "); word && count < SIZES_MOST; word = strtok(NULL, " "))
		size[count++] = word;
	printf("\nFrom process start to the first tick, after SIGKILL (%u runs, interleaved)\n\n",
	       runs);
	for (unsigned i = 0; i < count; i++) {
		char *where = path("%s/%s.thaw", size[i]);
		const char *const first[] = {
			thaw,	   "exec",  "--every", "0",
			"--image", where,   "node",    "--max-old-space-size=16000",
			script,	   size[i], NULL};
		struct child child = start(first);

		wait_for(&child, "tick");
		sleep(SETTLES_S);
		run((const char *const[]){thaw, "checkpoint", where, NULL});
		end(&child);
		free(where);
	}
	for (unsigned number = 0; number < runs; number++)
		for (unsigned i = 0; i < count; i++) {
			char *where = path("%s/%s.thaw", size[i]);
			const char *const again[] = {
				thaw,	   "exec",  "--every", "0",
				"--image", where,   "node",    "--max-old-space-size=16000",
				script,	   size[i], NULL};
			const char *const plain[] = {"node", "--max-old-space-size=16000", script,
						     size[i], NULL};
			struct child child = start(again);

			restored[i][number] = wait_for(&child, "tick") / 1e3;
			end(&child);
			if (number < 3) {
				child = start(plain);
				anew[i][number] = wait_for(&child, "tick") / 1e3;
				end(&child);
			}
			free(where);
		}
	printf("| MiB of objects | restored, ms | to the smallest | node makes it anew, ms (3 runs) |\n|---|---|---|---|\n");
	for (unsigned i = 0; i < count; i++) {
		struct spread a = spread_of(restored[i], runs),
			      b = spread_of(anew[i], runs < 3 ? runs : 3);

		printf("| %s | %.1f (%.1f-%.1f) | %.2f | %.0f (%.0f-%.0f) |\n", size[i], a.median,
		       a.least, a.most, a.median / spread_of(restored[0], runs).median, b.median,
		       b.least, b.most);
	}
	free(script);
	free(list);
}

/* ---- Overhead */

struct cost {
	double wall, processor;
};

static struct cost timed(const char *kind, const char *every)
{
	char *script = path("%s/%s", "exec_work.js"), *image = path("%s/%s", "work.thaw");
	const char *const plain[] = {"node", script, kind, NULL};
	const char *const under[] = {thaw,	"exec", "-q",	"--fresh", "--every", every,
				     "--image", image,	"node", script,	   kind,      NULL};
	struct cost cost;
	double began;

	unlink(image);
	began = now_us();
	cost.processor = run(every ? under : plain);
	cost.wall = now_us() - began;
	free(script);
	free(image);
	return cost;
}

static void print_ratios(const char *kind, const char *of, double ratios[3][RUNS_MOST],
			 unsigned rounds)
{
	printf("| %s | %s |", kind, of);
	for (unsigned i = 0; i < 3; i++) {
		struct spread spread = spread_of(ratios[i], rounds);

		printf(" %.2f (%.2f-%.2f) |", spread.median, spread.least, spread.most);
	}
	printf("\n");
	fflush(stdout);
}

static void overhead(void)
{
	static const char *const kinds[] = {"cpu", "memory"}, *const intervals[] = {"0", "1s",
										    "100ms"};
	unsigned rounds = runs < 7 ? runs : 7;

	printf("\nRun time, and processor time of all processors, to those without thaw (%u rounds, interleaved)\n\n"
	       "| program | | no captures | every 1s | every 100ms |\n|---|---|---|---|---|\n",
	       rounds);
	for (unsigned k = 0; k < 2; k++) {
		double walls[3][RUNS_MOST], processors[3][RUNS_MOST];

		for (unsigned number = 0; number < rounds; number++) {
			struct cost plain = timed(kinds[k], NULL);

			for (unsigned i = 0; i < 3; i++) {
				struct cost cost = timed(kinds[k], intervals[i]);

				walls[i][number] = cost.wall / plain.wall;
				processors[i][number] = cost.processor / plain.processor;
			}
		}
		print_ratios(kinds[k], "time", walls, rounds);
		print_ratios("", "processor", processors, rounds);
	}
}

/* ---- Pauses */

/* The newest generation's pause, in ms. */
static double pause_of(const char *image)
{
	double pause = -1, newest = 0;
	size_t room = 0;
	char *command, *line = NULL, *at;
	FILE *log;

	if (asprintf(&command, "%s log --json '%s'", thaw, image) < 0 ||
	    !(log = popen(command, "r")))
		die("thaw log");
	if (getdelim(&line, &room, '\0', log) < 0)
		die("thaw log says nothing");
	for (at = line; (at = strstr(at, "\"generation\":")); at++) {
		double number = strtod(at + strlen("\"generation\":"), NULL);
		char *pauses = strstr(at, "\"pauseNs\":");

		if (number > newest && pauses) {
			newest = number;
			pause = strtod(pauses + strlen("\"pauseNs\":"), NULL) / 1e6;
		}
	}
	pclose(log);
	free(line);
	free(command);
	return pause;
}

static void pauses(void)
{
	static const char *const cases[][2] = {{"100", "200"},	 {"300", "200"},  {"1000", "200"},
					       {"1000", "2600"}, {"5000", "200"}, {"300", "0"},
					       {"5000", "0"}};
	char *script = path("%s/%s", "exec_heap.js"), *image = path("%s/%s", "pause.thaw");

	printf("\nThe pause of a capture: node with one buffer, of which so many pages are written a second, or with objects (%u captures, one a second)\n\n"
	       "| MiB | written | pause, ms |\n|---|---|---|\n",
	       runs);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *const arguments[] = {
			thaw,	   "exec",	"-q",
			"--every", "0",		"--image",
			image,	   "node",	"--max-old-space-size=16000",
			script,	   cases[i][0], cases[i][1],
			NULL};
		double values[RUNS_MOST];
		struct child child;
		struct spread spread;

		unlink(image);
		child = start(arguments);
		wait_for(&child, "tick");
		sleep(SETTLES_S);
		for (unsigned number = 0; number < runs + 1; number++) {
			if (number)
				sleep(1);
			run((const char *const[]){thaw, "checkpoint", image, NULL});
			values[number ? number - 1 : 0] = pause_of(image);
		}
		end(&child);
		spread = spread_of(values, runs);
		printf("| %s | %s%s | %.2f (%.2f-%.2f) |\n", cases[i][0],
		       atoi(cases[i][1]) ? cases[i][1] : "objects",
		       atoi(cases[i][1]) ? " pages" : "", spread.median, spread.least, spread.most);
		fflush(stdout);
	}
	unlink(image);
	free(script);
	free(image);
}

int main(int argc, char **argv)
{
	const char *wish = getenv("RUNS"), *sizes = getenv("SIZES");

	if (argc != 3) {
		fprintf(stderr, "usage: exec THAW DIRECTORY\n");
		return 2;
	}
	thaw = argv[1];
	directory = argv[2];
	runs = wish ? (unsigned)atoi(wish) : runs;
	if (runs < 1 || runs >= RUNS_MOST)
		die("RUNS is from 1 to 100");
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 5}))
		printf("Without real-time priority: whatever else runs is in these numbers.\n");
	first_ticks(sizes ? sizes : "30 300 5000");
	overhead();
	pauses();
	return 0;
}
