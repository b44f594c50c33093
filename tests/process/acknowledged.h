// SPDX-License-Identifier: GPL-2.0-only
/*
 * acknowledged.h - a service (tests/load/load.h) under `thaw exec --commit output` is killed at random moments, its process,
 * its supervisor or both, while 64 connections ask it. What was not answered is asked again with the same id. Then each
 * write that was acknowledged is there with the number that its client was told, and no write counted twice.
 */
#ifndef TESTS_ACKNOWLEDGED_H
#define TESTS_ACKNOWLEDGED_H

#include "load/load.h"
#include "process/clients.h"

#define ACKNOWLEDGED_CONNECTIONS 64

struct service {
	const char *program; /* NULL: the test's own */
	const char *script;  /* of tests/programs/exec; NULL: none */
	const char *kind;    /* the first argument, before the port; NULL: none */
	const char *modules; /* behind the port; NULL: none */
	enum load_protocol protocol;
	bool redis; /* its arguments are those of redis-server, and redis-benchmark is beside our own connections */
};

struct acknowledged {
	const struct service *service;
	const char *image;
	const char *const *options; /* of thaw exec besides; NULL: none, and the last is NULL */
	/* Called before each start; NULL: nothing. */
	void (*prepare)(struct acknowledged *test);
	bool commit_output;
	unsigned port;
	struct load *load;
	struct program program, benchmark;
	int life;
	int kills[3]; /* of the supervisor, of the process, of both */
};

/* False, having said why. */
static inline bool acknowledged_failed(struct acknowledged *test, const char *what)
{
	printf("# life %d: %s %s\n", test->life, what, load_wrong(test->load));
	printf("# it told: %.3000s\n", test->program.errors ? test->program.errors : "nothing");
	return false;
}

static inline void acknowledged_start(struct acknowledged *test)
{
	const struct service *service = test->service;
	char *port = support_format("%u", test->port);
	char *script = support_format("%s/tests/programs/exec/%s", THAW_SOURCE,
				      service->script ? service->script : "");
	const char *arguments[32] = {support_thaw(), "exec"};
	unsigned count = 2;
	char own[4096] = "";

	if (readlink("/proc/self/exe", own, sizeof(own) - 1) < 0)
		support_die("readlink");
	arguments[count++] = test->commit_output ? "--commit" : "--every";
	arguments[count++] = test->commit_output ? "output" : "0";
	arguments[count++] = "--image";
	arguments[count++] = test->image;
	for (const char *const *option = test->options; option && *option; option++)
		arguments[count++] = *option;
	if (test->prepare)
		test->prepare(test);
	arguments[count++] = service->program ? service->program : own;
	if (service->script)
		arguments[count++] = script;
	if (service->kind)
		arguments[count++] = service->kind;
	if (service->redis)
		arguments[count++] = "--port";
	arguments[count++] = port;
	if (service->modules)
		arguments[count++] = service->modules;
	if (service->redis) {
		arguments[count++] = "--save";
		arguments[count++] = "";
		arguments[count++] = "--appendonly";
		arguments[count++] = "no";
	}
	program_free(&test->program);
	test->program = program_start(arguments);
	test->life++;
	if (service->redis)
		test->benchmark = program_start(
			(const char *const[]){"redis-benchmark", "-p", port, "-l", "-q", "-c", "8",
					      "-r", "100000", "-t", "set,incr,lpush", NULL});
	free(port);
	free(script);
}

/* The load goes on for so long, or until one more is acknowledged. False: it found something wrong, or its server ended. */
static inline bool acknowledged_load(struct acknowledged *test, double seconds, bool until_one)
{
	uint64_t before = load_counts(test->load)->acknowledged;
	double end = support_seconds() + seconds, left;
	siginfo_t ended = {0};
	bool got = false;

	while (!got && !ended.si_pid && (left = end - support_seconds()) > 0) {
		/* What it says is taken, so that it never waits for that. */
		program_wait_for(&test->program, NULL, 0);
		if (!load_run(test->load, left < 0.05 ? left : 0.05, until_one ? 1 : 0))
			return false;
		got = until_one && load_counts(test->load)->acknowledged > before;
		waitid(P_PID, (id_t)test->program.pid, &ended, WEXITED | WNOHANG | WNOWAIT);
	}
	return !ended.si_pid && got == until_one;
}

/* Its process, and who keeps the pages of a restored one. */
static inline void acknowledged_kill_children(pid_t supervisor)
{
	char *path = support_format("/proc/%d/task/%d/children", (int)supervisor, (int)supervisor);
	FILE *file = fopen(path, "re");
	int child;

	while (file && fscanf(file, "%d", &child) == 1)
		kill(child, SIGKILL);
	if (file)
		fclose(file);
	free(path);
}

/* The supervisor, the process or both: whichever dies first, the other one goes with it. */
static inline bool acknowledged_kill(struct acknowledged *test)
{
	unsigned whom = (unsigned)random() % 3;
	bool fine = true;
	int code;

	if (whom == 1 && support_child(test->program.pid) <= 0)
		whom = 0; /* there is none yet */
	test->kills[whom]++;
	if (whom)
		acknowledged_kill_children(test->program.pid);
	if (whom != 1)
		kill(test->program.pid, SIGKILL);
	code = program_finish(&test->program, 60);
	test->program.pid = 0;
	/* Where its process was killed before it ran, the supervisor ends with a message, perhaps before it is killed, too. */
	if (whom ? !code || code == 124 : code != 137)
		fine = acknowledged_failed(test, "it did not die of the kill");
	if (test->service->redis) {
		program_kill(&test->benchmark);
		program_free(&test->benchmark);
	}
	return fine;
}

/* All is acknowledged, and the audit is made in this life and in the next. */
static inline bool acknowledged_audit(struct acknowledged *test)
{
	double seconds = 120 * test_patience_now();

	acknowledged_start(test);
	if (!load_settle(test->load, seconds) || !load_audit(test->load, seconds))
		return acknowledged_failed(test, "the audit:");
	if (!acknowledged_kill(test))
		return false;
	acknowledged_start(test);
	return load_audit(test->load, seconds) ||
	       acknowledged_failed(test, "the audit of another life:");
}

/* The test is over: nothing of it runs any more. */
static inline void acknowledged_end(struct acknowledged *test)
{
	if (test->program.pid > 0)
		acknowledged_kill(test);
	program_free(&test->program);
	load_close(test->load);
}

static inline bool acknowledged_begin(struct acknowledged *test, unsigned seed)
{
	test->port = free_port();
	test->load = load_open(&(struct load_options){.protocol = test->service->protocol,
						      .port = test->port,
						      .connections = ACKNOWLEDGED_CONNECTIONS,
						      .seed = seed});
	return test->load;
}

/* Lives that end at any moment, at least every other one when it has acknowledged something. */
static inline bool acknowledged_live(struct acknowledged *test)
{
	acknowledged_start(test);
	if (random() % 4 && !acknowledged_load(test, 60 * test_patience_now(), true))
		return acknowledged_failed(test, "nothing was acknowledged.");
	if (!acknowledged_load(test, (double)(random() % 400) / 1000, false))
		return acknowledged_failed(test, "the load:");
	return acknowledged_kill(test);
}

/* Killed so often. False, having said why. `test` has its service, image and options. */
static inline bool acknowledged_kills(struct acknowledged *test, int kills)
{
	const struct service *service = test->service;
	unsigned seed = kills_seed();
	bool fine = acknowledged_begin(test, seed);
	const struct load_counts *counts;

	for (int i = 0; fine && i < kills; i++)
		fine = acknowledged_live(test);
	fine = fine && acknowledged_audit(test);
	counts = load_counts(test->load);
	printf("# %s: kills of the supervisor %d, the process %d, both %d; %llu acknowledged, %llu found, %llu asked again; seed %u\n",
	       service->script	  ? service->script
	       : service->program ? service->program
				  : "the line server",
	       test->kills[0], test->kills[1], test->kills[2],
	       (unsigned long long)counts->acknowledged, (unsigned long long)counts->total,
	       (unsigned long long)counts->again, seed);
	acknowledged_end(test);
	return fine;
}

static inline bool acknowledged_run(const struct service *service, const char *image, int kills)
{
	struct acknowledged test = {.service = service, .image = image, .commit_output = true};

	return acknowledged_kills(&test, kills);
}

#endif
