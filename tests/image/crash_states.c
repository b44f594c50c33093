// SPDX-License-Identifier: GPL-2.0-only
/*
 * crash_states.c - whatever a power cut leaves of an image, the newest generation that was reported
 * durable, or a newer one that is whole, is there, with all the others that it lists, and verify
 * has nothing to say.
 *
 * The disk that may lose power is in crash/disk.c, the program that writes on it in
 * crash/scenario*.c, what has to hold in crash/check.c. Each scenario runs in a process of its own, so that
 * whatever goes wrong in it is one scenario's. It is a directory of its own because it is a program of
 * several files; this one is a test like all others, and the long tier:
 *
 *	crash_states --states N [--seed S] [--jobs N] [--resume FILE]	many states; FILE keeps the place
 *	crash_states --seed S --scenario N [--state N]			one scenario, or one state
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <limits.h>
#include <sys/mman.h>

#include "crash/crash.h"
#include "support.h"

#define SEED 20261121u
#define JOBS_MAX 64u
#ifdef __SANITIZE_ADDRESS__
#define STATES 1500u
#else
#define STATES 10000u
#endif

static const char *program = "build/tests/crash_states";

struct job {	   /* a scenario that is running or waits for those before it */
	pid_t pid; /* 0: it has ended */
	struct tally *tally;
};

struct run {
	struct scenario_options options;
	uint64_t states; /* wanted */
	unsigned jobs;
	const char *resume; /* a file, or NULL */
	double tell;	    /* seconds between lines of progress; 0: none */
	bool stop;	    /* at the first violation */
	uint64_t next;	    /* the first scenario that is not counted yet */
	struct tally total;
};

static void tally_add(struct tally *total, const struct tally *tally)
{
	const uint64_t *from = (const uint64_t *)tally;
	uint64_t *to = (uint64_t *)total;

	for (size_t i = 0; i < sizeof(*total) / sizeof(uint64_t); i++)
		to[i] += from[i];
}

static void tally_print(const char *line_start, const struct tally *tally)
{
	fprintf(stderr,
		"%s%lu states of %lu scenarios, %lu of them with a key, %lu encrypted with %lu changes of keys (%lu at syncs, %lu elsewhere, %lu without a name); "
		"%lu came twice; %lu are wrong\n",
		line_start, tally->states, tally->scenarios, tally->keyed, tally->encrypted,
		tally->key_changes, tally->at_sync, tally->elsewhere, tally->nameless,
		tally->repeated, tally->violations);
	fprintf(stderr, "%sleft was", line_start);
	for (unsigned i = 0; i < LEAVES_KINDS; i++)
		fprintf(stderr, "%s %s: %lu", i ? "," : "", leaves_names[i], tally->by_kind[i]);
	fprintf(stderr,
		"\n%sof %lu commits (%lu in a log, which was listed %lu times alone and found %lu times), %lu that failed, %lu given up, %lu names, %lu rollbacks, "
		"%lu compactions, %lu "
		"findings made sure of, %lu notes, %lu long files (%lu compacted), %lu holes, %lu truncations, "
		"%lu kills, %lu power cuts that went on, %lu restarts, %lu creations\n",
		line_start, tally->commits, tally->logged, tally->folded, tally->log_replayed,
		tally->failed_commits, tally->aborted, tally->named, tally->rolled_back,
		tally->compacted, tally->settled, tally->notes, tally->long_files, tally->relocated,
		tally->punches, tally->truncates, tally->kills, tally->cuts, tally->reopened,
		tally->creations);
}

/* ---- The place where a long run stands */

static void place_write(const struct run *run)
{
	const uint64_t *numbers = (const uint64_t *)&run->total;
	char *temporary = support_format("%s.tmp", run->resume);
	FILE *file = fopen(temporary, "w");

	if (!file)
		support_die(temporary);
	fprintf(file, "seed %lu next %lu\n", run->options.seed, run->next);
	for (size_t i = 0; i < sizeof(run->total) / sizeof(uint64_t); i++)
		fprintf(file, "%lu\n", numbers[i]);
	if (fclose(file) || rename(temporary, run->resume))
		support_die(run->resume);
	free(temporary);
}

/* False: there is none. */
static bool place_read(struct run *run)
{
	uint64_t *numbers = (uint64_t *)&run->total;
	FILE *file = fopen(run->resume, "r");
	bool whole;

	if (!file)
		return false;
	whole = fscanf(file, "seed %lu next %lu", &run->options.seed, &run->next) == 2;
	for (size_t i = 0; whole && i < sizeof(run->total) / sizeof(uint64_t); i++)
		whole = fscanf(file, "%lu", &numbers[i]) == 1;
	fclose(file);
	if (!whole) {
		fprintf(stderr, "# %s is not the place of a run: remove it\n", run->resume);
		exit(2);
	}
	return true;
}

/* ---- Running */

static pid_t job_start(const struct run *run, uint64_t number, struct tally *tally)
{
	pid_t child = fork();

	memset(tally, 0, child ? 0 : sizeof(*tally));
	if (child < 0)
		support_die("fork");
	if (!child) {
		struct scenario_options options = run->options;

		options.number = number;
		scenario_run(&options, tally);
		_exit(0);
	}
	return child;
}

static void job_ended(const struct run *run, uint64_t number, int status, struct tally *tally)
{
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return;
	tally->violations++;
	if (!run->options.quiet)
		fprintf(stderr,
			"# WRONG: seed %lu, scenario %lu ended with status %#x\n"
			"#   again: %s --seed %lu --scenario %lu\n",
			run->options.seed, number, (unsigned)status, program, run->options.seed,
			number);
}

/* Scenarios are counted in their order, so that a run that was interrupted goes on exactly there. */
static void run_all(struct run *run)
{
	struct job jobs[JOBS_MAX] = {0}; /* by number modulo JOBS_MAX */
	struct tally *tallies = mmap(NULL, JOBS_MAX * sizeof(*tallies), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t started = run->next;
	double told = support_seconds(), saved = told;
	unsigned running = 0;

	if (tallies == MAP_FAILED)
		support_die("mmap");
	for (;;) {
		bool enough = run->total.states >= run->states ||
			      (run->stop && run->total.violations);
		int status;
		pid_t pid;

		while (!enough && running < run->jobs && started < run->next + JOBS_MAX) {
			struct job *job = &jobs[started % JOBS_MAX];

			job->tally = &tallies[started % JOBS_MAX];
			job->pid = job_start(run, started++, job->tally);
			running++;
		}
		if (!running)
			break;
		pid = waitpid(-1, &status, 0);
		for (uint64_t number = run->next; number < started; number++) {
			struct job *job = &jobs[number % JOBS_MAX];

			if (job->pid != pid)
				continue;
			job->pid = 0;
			running--;
			job_ended(run, number, status, job->tally);
		}
		for (; run->next < started && !jobs[run->next % JOBS_MAX].pid; run->next++)
			tally_add(&run->total, jobs[run->next % JOBS_MAX].tally);
		if (run->tell && support_seconds() - told > run->tell) {
			told = support_seconds();
			fprintf(stderr, "# seed %lu: %lu of %lu states, %lu scenarios, %lu wrong\n",
				run->options.seed, run->total.states, run->states,
				run->total.scenarios, run->total.violations);
		}
		if (run->resume && (support_seconds() - saved > 2 || !running)) {
			saved = support_seconds();
			place_write(run);
		}
	}
	if (run->resume)
		place_write(run);
	munmap(tallies, JOBS_MAX * sizeof(*tallies));
}

TEST(every_state_that_a_power_cut_leaves_is_right)
{
	struct run run = {.options = {.seed = SEED, .keep = "build/crash", .program = program},
			  .states = STATES,
			  .jobs = 2};
	double began = support_seconds();

	run_all(&run);
	tally_print("# ", &run.total);
	TH_LOG("seed %u: %lu states in %.1f s", SEED, run.total.states, support_seconds() - began);
	EXPECT_EQ(0, run.total.violations);
	EXPECT_LE(STATES, run.total.states);
	/* Each kind of remains, and what the scenarios are about, came up. */
	for (unsigned i = 0; i < LEAVES_KINDS; i++)
		EXPECT_LT(STATES / 200, run.total.by_kind[i]);
	EXPECT_LT(10, run.total.nameless);
	EXPECT_LT(5, run.total.keyed);
	EXPECT_LT(5, run.total.encrypted);
	EXPECT_LT(2, run.total.key_changes);
	EXPECT_LT(0, run.total.torn);
	EXPECT_LT(10, run.total.kills);
	EXPECT_LT(10, run.total.cuts);
	EXPECT_LT(10, run.total.failed_commits);
	EXPECT_LT(5, run.total.notes);
	EXPECT_LT(5, run.total.named);
	EXPECT_LT(5, run.total.rolled_back);
	EXPECT_LT(5, run.total.compacted);
	EXPECT_LT(5, run.total.settled);
	if (STATES < 10000)
		return; /* these take longer to come up */
	EXPECT_LT(3, run.total.truncates);
	EXPECT_LT(0, run.total.punches);
	EXPECT_LT(0, run.total.relocated);
}

/* A simulator that finds nothing must be able to find something. */
static void expect_found(struct __test_metadata *_metadata, enum lie lie, uint64_t within)
{
	struct run run = {.options = {.seed = SEED, .lie = lie, .quiet = true},
			  .states = within,
			  .jobs = 2,
			  .stop = true};

	run_all(&run);
	TH_LOG("%lu wrong after %lu states", run.total.violations, run.total.states);
	EXPECT_LT(0, run.total.violations);
}

TEST(a_barrier_that_is_none_is_found)
{
	expect_found(_metadata, LIE_NO_BARRIER, 500);
}

TEST(a_header_before_what_it_names_is_found)
{
	expect_found(_metadata, LIE_SLOT_FIRST, 500);
}

TEST(a_commit_point_that_is_none_is_found)
{
	expect_found(_metadata, LIE_NO_COMMIT_POINT, 500);
}

TEST(a_length_that_is_not_synced_is_found)
{
	expect_found(_metadata, LIE_LENGTH, 500);
}

TEST(a_directory_that_is_not_synced_is_found)
{
	expect_found(_metadata, LIE_NO_DIRECTORY_SYNC, 500);
}

TEST(a_write_that_is_lost_is_found)
{
	expect_found(_metadata, LIE_LOST_WRITE, 5000);
}

TEST(blocks_used_again_one_commit_too_early_are_found)
{
	expect_found(_metadata, LIE_EARLY_REUSE, 5000);
}

TEST(blocks_of_a_commit_in_doubt_used_again_are_found)
{
	expect_found(_metadata, LIE_DOUBT_FORGOTTEN, 5000);
}

TEST(what_is_found_and_acknowledged_as_it_is_is_found)
{
	expect_found(_metadata, LIE_UNSETTLED, 5000);
}

TEST(log_that_is_not_synced_is_found)
{
	expect_found(_metadata, LIE_LOG_UNSYNCED, 5000);
}

TEST(log_that_goes_on_behind_what_is_in_doubt_is_found)
{
	expect_found(_metadata, LIE_LOG_DOUBT, 20000);
}

/* ---- The long tier */

static uint64_t number_after(char **argument)
{
	char *end;
	uint64_t number;

	if (!argument[1]) {
		fprintf(stderr, "# %s: a number is missing\n", *argument);
		exit(2);
	}
	number = strtoull(argument[1], &end, 10);
	if (*end || !*argument[1]) {
		fprintf(stderr, "# %s %s: not a number\n", argument[0], argument[1]);
		exit(2);
	}
	return number;
}

static int long_tier(char **argv)
{
	struct run run = {.options = {.seed = SEED, .keep = "build/crash", .program = program},
			  .states = 1000000,
			  .jobs = (unsigned)sysconf(_SC_NPROCESSORS_ONLN),
			  .tell = 10};
	bool one = false;
	double began = support_seconds();

	for (char **argument = argv + 1; *argument; argument += 2) {
		uint64_t number = strcmp(*argument, "--resume") ? number_after(argument) : 0;

		if (!strcmp(*argument, "--seed"))
			run.options.seed = number;
		else if (!strcmp(*argument, "--states"))
			run.states = number;
		else if (!strcmp(*argument, "--jobs"))
			run.jobs = (unsigned)number;
		else if (!strcmp(*argument, "--lie"))
			run.options.lie = (enum lie)number;
		else if (!strcmp(*argument, "--state"))
			run.options.only = number;
		else if (!strcmp(*argument, "--scenario"))
			one = true, run.options.number = number;
		else if (!strcmp(*argument, "--resume"))
			run.resume = argument[1];
		else
			fprintf(stderr, "# %s: not known\n", *argument), exit(2);
	}
	if (one) {
		scenario_run(&run.options, &run.total);
		tally_print("# ", &run.total);
		return run.total.violations != 0;
	}
	if (run.jobs < 1 || run.jobs > JOBS_MAX)
		run.jobs = 2;
	if (run.resume && place_read(&run))
		fprintf(stderr, "# goes on at scenario %lu, after %lu states (%s)\n", run.next,
			run.total.states, run.resume);
	fprintf(stderr, "# seed %lu: %lu states\n", run.options.seed, run.states);
	run_all(&run);
	tally_print("# ", &run.total);
	fprintf(stderr, "# %.1f s\n", support_seconds() - began);
	return run.total.violations != 0;
}

int main(int argc, char **argv)
{
	program = argv[0];
	if (argc > 1 && !strncmp(argv[1], "--", 2))
		return long_tier(argv);
	return test_harness_run(argc, argv);
}
