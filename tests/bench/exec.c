// SPDX-License-Identifier: MIT
/*
 * exec THAW DIRECTORY WHAT ... - what `thaw exec` costs, with Node.js as its program: samples for interleave.
 *
 *	make MIB		a server with so many MiB of objects, killed after a generation: DIRECTORY/MIB.thaw
 *	restored MIB		from its start to its first tick; anew MIB: the same of the program that makes its data
 *	work KIND EVERY		the run time of a program that computes (exec_work.js); EVERY none: without thaw
 *	pause MIB PAGES		of captures a second apart; PAGES 0: of objects, which are not written
 *
 * Orphans are its own children, so that the numbers of killed processes are free at once, whatever process 1 does.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define SETTLES_S 2 /* collecting garbage, and compiling, after the data was made */

#define CAPTURES 5

static const char *thaw, *directory;

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

static struct child start_server(const char *mib, bool under_thaw)
{
	char *script = path("%s/%s", "exec_heap.js"), *where = path("%s/%s.thaw", mib);
	const char *const under[] = {thaw,	"exec", "--every", "0",
				     "--image", where,	"node",	   "--max-old-space-size=16000",
				     script,	mib,	NULL};
	const char *const plain[] = {"node", "--max-old-space-size=16000", script, mib, NULL};
	struct child child = start(under_thaw ? under : plain);

	free(script);
	free(where);
	return child;
}

static void make(const char *mib)
{
	char *where = path("%s/%s.thaw", mib);
	struct child child = start_server(mib, true);

	wait_for(&child, "tick");
	sleep(SETTLES_S);
	run((const char *const[]){thaw, "checkpoint", where, NULL});
	end(&child);
	free(where);
}

static void first_tick(const char *mib, bool restored)
{
	struct child child = start_server(mib, restored);

	printf("thaw exec node: start to the first tick\t%s MiB of objects\t%.2f\tms\n", mib,
	       wait_for(&child, "tick") / 1e3);
	fflush(stdout);
	end(&child);
}

/* ---- Overhead */

static void work(const char *kind, const char *every)
{
	char *script = path("%s/%s", "exec_work.js"), *image = path("%s/%s", "work.thaw");
	const char *const plain[] = {"node", script, kind, NULL};
	const char *const under[] = {thaw,	"exec", "-q",	"--fresh", "--every", every,
				     "--image", image,	"node", script,	   kind,      NULL};
	double began, processor;

	unlink(image);
	began = now_us();
	processor = run(strcmp(every, "none") ? under : plain);
	printf("thaw exec node: run time\t%s\t%.0f\tms\n", kind, (now_us() - began) / 1e3);
	printf("thaw exec node: processor time\t%s\t%.0f\tms\n", kind, processor / 1e3);
	unlink(image);
	free(script);
	free(image);
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

static void pauses(const char *mib, const char *pages)
{
	char *script = path("%s/%s", "exec_heap.js"), *image = path("%s/%s", "pause.thaw");
	const char *const arguments[] = {thaw,	    "exec", "-q",
					 "--every", "0",    "--image",
					 image,	    "node", "--max-old-space-size=16000",
					 script,    mib,    pages,
					 NULL};
	struct child child;

	unlink(image);
	child = start(arguments);
	wait_for(&child, "tick");
	sleep(SETTLES_S);
	run((const char *const[]){thaw, "checkpoint", image, NULL});
	for (unsigned number = 0; number < CAPTURES; number++) {
		sleep(1);
		run((const char *const[]){thaw, "checkpoint", image, NULL});
		printf("thaw exec node: pause\t%s MiB, %s %s\t%.3f\tms\n", mib,
		       atoi(pages) ? pages : "of", atoi(pages) ? "pages" : "objects",
		       pause_of(image));
	}
	end(&child);
	unlink(image);
	free(script);
	free(image);
}

int main(int argc, char **argv)
{
	const char *what = argc > 4 ? argv[3] : "";

	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	thaw = argv[1];
	directory = argv[2];
	if (!strcmp(what, "make"))
		make(argv[4]);
	else if (!strcmp(what, "restored") || !strcmp(what, "anew"))
		first_tick(argv[4], !strcmp(what, "restored"));
	else if (!strcmp(what, "work") && argc == 6)
		work(argv[4], argv[5]);
	else if (!strcmp(what, "pause") && argc == 6)
		pauses(argv[4], argv[5]);
	else
		die("usage: exec THAW DIRECTORY make|restored|anew|work|pause ...");
	return 0;
}
