// SPDX-License-Identifier: MIT
/*
 * first_result RUNS PROGRAM ARG... [-- PROGRAM ARG...]... - from the start of a process to the
 * first line it prints: each command in turn, RUNS times over. Prints, for each command, the
 * median, minimum and maximum in ms.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define MOST 16

static double once(char **command)
{
	double start, first = 0;
	char buffer[65536];
	int channel[2], status;
	pid_t child;

	if (pipe(channel))
		exit(1);
	start = now_us();
	child = fork();
	if (!child) {
		dup2(channel[1], 1);
		close(channel[0]);
		close(channel[1]);
		execvp(command[0], command);
		_exit(127);
	}
	close(channel[1]);
	while (read(channel[0], buffer, sizeof(buffer)) > 0)
		if (!first)
			first = (now_us() - start) * 1e-3;
	close(channel[0]);
	waitpid(child, &status, 0);
	if (!first || status) {
		fprintf(stderr, "first_result: %s: status %d, %s\n", command[0], status,
			first ? "answered" : "no answer");
		exit(1);
	}
	return first;
}

int main(int argc, char **argv)
{
	static double times[MOST][RUNS_MOST];
	char **commands[MOST];
	int count = 0, runs = argc > 2 ? atoi(argv[1]) : 0;

	if (runs < 1 || runs > (int)RUNS_MOST) {
		fprintf(stderr, "usage: first_result RUNS PROGRAM ARG... [-- PROGRAM ARG...]...\n");
		return 2;
	}
	for (int i = 2; i < argc && count < MOST; count++) {
		commands[count] = &argv[i];
		while (i < argc && strcmp(argv[i], "--"))
			i++;
		if (i < argc)
			argv[i++] = NULL;
	}
	for (int i = 0; i < count; i++)
		once(commands[i]); /* the page cache is warm from here on */
	for (int run = 0; run < runs; run++)
		for (int i = 0; i < count; i++)
			times[i][run] = once(commands[i]);
	for (int i = 0; i < count; i++) {
		qsort(times[i], (size_t)runs, sizeof(double), compare);
		printf("%.2f %.2f %.2f\n", times[i][runs / 2], times[i][0], times[i][runs - 1]);
	}
	return 0;
}
