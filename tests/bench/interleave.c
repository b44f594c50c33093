// SPDX-License-Identifier: MIT
/*
 * interleave ROUNDS SAMPLES < JOBS - run competitors in turn, so that a minute in which the machine is slow is slow for
 * all of them (hyperfine runs one after the other). Appends to SAMPLES, and prints which jobs failed.
 *
 * A job is a line: COMPETITOR, BENCH, ROW, PREPARE, COMMAND, with tabs between. PREPARE is a line for the shell, not
 * measured, and may be empty; COMMAND is split at blanks and run without a shell. What it prints decides what is measured:
 *
 *	BENCH <tab> ROW <tab> VALUE <tab> UNIT	a sample that it measured itself; any number of them, "-" is the job's BENCH or ROW
 *	any other line				ms from the exec to the first of them are the sample, if the job has a BENCH
 *
 * A sample is a line: BENCH, ROW, COMPETITOR, VALUE, UNIT. A first round with WARM=1 is thrown away. A job that fails is left
 * out from then on. PRIORITY=10: with real-time priority, so that other programs take no part of it, and wait.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define JOBS_MOST 512u
#define WORDS_MOST 64u
#define SECONDS_MOST 900u /* for one run of one job */

struct job {
	char *competitor, *bench, *row, *prepare, *command;
	bool failed;
};

static struct job jobs[JOBS_MOST];
static unsigned job_count;
static FILE *samples;

static void read_jobs(void)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t length;

	while ((length = getline(&line, &room, stdin)) > 0) {
		struct job *job = &jobs[job_count];
		char *rest = strdup(line);

		if (job_count++ == JOBS_MOST || !rest)
			die("too many jobs");
		rest[strcspn(rest, "\n")] = '\0';
		job->competitor = strsep(&rest, "\t");
		job->bench = strsep(&rest, "\t");
		job->row = strsep(&rest, "\t");
		job->prepare = strsep(&rest, "\t");
		job->command = rest;
		if (!job->command)
			die("a job has five fields");
	}
	free(line);
}

static _Noreturn void execute(const struct job *job, int out)
{
	char *words[WORDS_MOST + 1], *rest = strdup(job->command), *word;
	const char *priority = getenv("PRIORITY");
	struct sched_param param = {.sched_priority = priority ? atoi(priority) : 0};
	unsigned count = 0;

	while (count < WORDS_MOST && (word = strsep(&rest, " ")))
		if (*word)
			words[count++] = word;
	words[count] = NULL;
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(out, 1);
	if (param.sched_priority && sched_setscheduler(0, SCHED_FIFO, &param))
		perror("real-time priority");
	execvp(words[0], words);
	perror(words[0]);
	_exit(127);
}

static void take_sample(const struct job *job, char *line, bool record)
{
	char *bench, *row, *value;

	bench = strsep(&line, "\t");
	row = strsep(&line, "\t");
	value = strsep(&line, "\t");
	if (!record || !value || !line)
		return;
	fprintf(samples, "%s\t%s\t%s\t%s\t%s\n", strcmp(bench, "-") ? bench : job->bench,
		strcmp(row, "-") ? row : job->row, job->competitor, value, line);
}

/* Was it a sample, or what ended a measurement? */
static bool take_line(const struct job *job, char *line, double ms, bool record, bool first)
{
	if (strchr(line, '\t')) {
		take_sample(job, line, record);
		return true;
	}
	if (!first || !strcmp(job->bench, "-"))
		return false;
	if (record)
		fprintf(samples, "%s\t%s\t%s\t%.4f\tms\n", job->bench, job->row, job->competitor,
			ms);
	return true;
}

/* As read(); -1 once that time (now_us()) has come. */
static ssize_t read_until(int fd, char *buffer, size_t room, double end)
{
	struct pollfd pollfd = {.fd = fd, .events = POLLIN};
	double left = (end - now_us()) * 1e-3;

	if (left <= 0 || poll(&pollfd, 1, (int)left) != 1)
		return -1;
	return read(fd, buffer, room);
}

/* One run of it: how many lines were samples. */
static unsigned measure(struct job *job, bool record)
{
	static char text[1 << 16];
	int channel[2], status;
	size_t have = 0;
	unsigned taken = 0;
	double started;
	ssize_t got;
	pid_t child;

	if (*job->prepare && system(job->prepare)) {
		fprintf(stderr, "interleave: failed: %s\n", job->prepare);
		return 0;
	}
	if (pipe2(channel, O_CLOEXEC))
		die("pipe");
	started = now_us();
	child = fork();
	if (!child)
		execute(job, channel[1]);
	if (child < 0)
		die("fork");
	close(channel[1]);
	while ((got = read_until(channel[0], text + have, sizeof(text) - 1 - have,
				 started + SECONDS_MOST * 1e6)) > 0) {
		double ms = (now_us() - started) * 1e-3;
		char *line = text, *end;

		have += (size_t)got;
		text[have] = '\0';
		for (; (end = strchr(line, '\n')); line = end + 1) {
			*end = '\0';
			taken += take_line(job, line, ms, record, !taken);
		}
		have -= (size_t)(line - text);
		memmove(text, line, have + 1);
	}
	close(channel[0]);
	if (got < 0)
		kill(-child, SIGKILL);
	waitpid(child, &status, 0);
	if (status)
		fprintf(stderr, "interleave: status %#x: %s\n", (unsigned)status, job->command);
	fflush(samples);
	return status ? 0 : taken;
}

int main(int argc, char **argv)
{
	const char *warm = getenv("WARM");
	int rounds = argc == 3 ? atoi(argv[1]) : 0, failed = 0;

	if (rounds < 1 || !(samples = fopen(argv[2], "ae"))) {
		fprintf(stderr, "usage: interleave ROUNDS SAMPLES < JOBS\n");
		return 2;
	}
	read_jobs();
	for (int round = warm && *warm == '1' ? -1 : 0; round < rounds; round++)
		for (unsigned i = 0; i < job_count; i++) {
			struct job *job = &jobs[(i + (unsigned)(round + 1)) % job_count];

			if (job->failed)
				continue;
			if (isatty(2))
				fprintf(stderr, "\r\033[K  round %d of %d: %s, %s, %s", round + 1,
					rounds, job->competitor, job->bench, job->row);
			job->failed = !measure(job, round >= 0);
		}
	if (isatty(2))
		fprintf(stderr, "\r\033[K");
	for (unsigned i = 0; i < job_count; i++)
		if (jobs[i].failed && ++failed)
			printf("%s\t%s\t%s\tfailed: %s\n", jobs[i].bench, jobs[i].row,
			       jobs[i].competitor, jobs[i].command);
	return fclose(samples) || failed ? 1 : 0;
}
