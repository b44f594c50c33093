// SPDX-License-Identifier: MIT
/*
 * store lazy|whole THAW PLACE SCRIPT DIRECTORY [KEY] - how long a program takes to go on from an object store on a machine that has
 * nothing of it: ms until its first line, with --image PLACE, or after all of it was pulled. SCRIPT says a line when it is restored.
 * DIRECTORY is emptied first, and is HOME.
 *
 * store rate THAW PLACE SCRIPT DIRECTORY PROGRAMS SECONDS - so many programs at once, each with a place of its own below PLACE and
 * --durable remote, make one generation after the other (SCRIPT): how many a second become durable in the store, and what
 * each costs in requests and bytes. Samples for interleave.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define PROGRAMS_MOST 64

static void empty(const char *directory)
{
	char command[1024];

	snprintf(command, sizeof(command), "rm -rf '%s' && mkdir -p '%s'", directory, directory);
	if (system(command))
		die(command);
	setenv("HOME", directory, 1);
	unsetenv("XDG_CACHE_HOME");
}

/* `out`: its stdout, or its stderr. */
static pid_t start(const char *const *words, int of, FILE **out)
{
	int channel[2];
	pid_t child;

	if (pipe2(channel, O_CLOEXEC))
		die("pipe");
	child = fork();
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(channel[1], of);
		if (of == 2)
			dup2(open("/dev/null", O_WRONLY), 1);
		execvp(words[0], (char *const *)words);
		_exit(127);
	}
	close(channel[1]);
	*out = fdopen(channel[0], "r");
	if (child < 0 || !*out)
		die("a process");
	return child;
}

static void until_first(const char *mode, const char *thaw, const char *place, const char *script,
			const char *directory)
{
	char image[1024], line[256];
	double began = now_us();
	FILE *said;
	pid_t child;
	int status;

	snprintf(image, sizeof(image), "%s/pulled.thaw", directory);
	if (!strcmp(mode, "whole")) {
		child = start((const char *const[]){thaw, "pull", "-q", place, image, NULL}, 1,
			      &said);
		if (waitpid(child, &status, 0) != child || status)
			die("thaw pull has failed");
		fclose(said);
	}
	/* A script that is not JavaScript is Python's. */
	child = start((const char *const[]){thaw, strstr(script, ".js") ? "run" : "exec", "-q",
					    "--every", "0", "--image",
					    !strcmp(mode, "whole") ? image : place,
					    strstr(script, ".js") ? script : "python3",
					    strstr(script, ".js") ? NULL : script, NULL},
		      1, &said);
	if (!fgets(line, sizeof(line), said))
		die("it said nothing");
	printf("-\t-\t%.1f\tms\n", (now_us() - began) / 1e3);
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
}

/* Of the object that --json ends with. */
static double member(const char *json, const char *object, const char *key)
{
	const char *at = strstr(json, object);
	char name[64];

	snprintf(name, sizeof(name), "\"%s\":", key);
	at = at ? strstr(at, name) : NULL;
	return at ? strtod(at + strlen(name), NULL) : 0;
}

static void rate(const char *thaw, const char *place, const char *script, const char *directory,
		 int programs, double seconds)
{
	double records = 0, requests = 0, bytes = 0, stored = 0;
	pid_t children[PROGRAMS_MOST];
	FILE *said[PROGRAMS_MOST];
	static char json[65536];

	for (int i = 0; i < programs; i++) {
		char image[1024], own[1024];

		snprintf(image, sizeof(image), "%s/%d.thaw", directory, i);
		snprintf(own, sizeof(own), "%s/%d-%d", place, (int)getpid(), i);
		children[i] = start((const char *const[]){thaw, "run", "--json", "-q", "--every",
							  "0", "--image", image, "--replicate", own,
							  "--durable", "remote", script, NULL},
				    2, &said[i]);
	}
	usleep((useconds_t)(seconds * 1e6));
	for (int i = 0; i < programs; i++)
		kill(children[i], SIGTERM);
	for (int i = 0; i < programs; i++) {
		size_t got = fread(json, 1, sizeof(json) - 1, said[i]);
		int status;

		json[got] = '\0';
		waitpid(children[i], &status, 0);
		records += member(json, "\"replica\"", "records");
		requests += member(json, "\"replica\"", "requests");
		bytes += member(json, "\"replica\"", "bytesSent");
		stored += member(json, "{", "checkpointBytes");
	}
	if (!records)
		die("nothing was stored");
	printf("-\t-\t%.1f\tgenerations/s\n", records / seconds);
	printf("requests a generation\t-\t%.2f\tof them\n", requests / records);
	printf("bytes a generation\t-\t%.1f\tKiB\n", bytes / records / 1024);
	printf("bytes in the image\t-\t%.1f\tKiB\n", stored / records / 1024);
}

int main(int argc, char **argv)
{
	if (argc < 6)
		die("store lazy|whole|rate THAW PLACE SCRIPT DIRECTORY [PROGRAMS SECONDS]");
	empty(argv[5]);
	if (!strcmp(argv[1], "rate") && argc == 8 && atoi(argv[6]) <= PROGRAMS_MOST)
		rate(argv[2], argv[3], argv[4], argv[5], atoi(argv[6]), atof(argv[7]));
	else
		until_first(argv[1], argv[2], argv[3], argv[4], argv[5]);
	return 0;
}
