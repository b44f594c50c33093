// SPDX-License-Identifier: GPL-2.0-only
/*
 * program_kills.c - unmodified programs go on after SIGKILL at random moments. Each prints 'started' once in its life, and
 * then lines with a number, of which every one is the same in every run (tests/programs/exec): whatever was printed after
 * the newest generation is printed again, no number is ever skipped, and none says anything else.
 *
 * THAW_KILLS=200 of each instead of a few (make crash-exec).
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

#define LINES_MOST 200000

struct answers { /* what each number is followed by; malloc'ed */
	char **texts;
	long count;
};

/* Adds the whole lines of one life. The first number that it had, 0: none; -1, having said why: something is wrong. */
static long read_life(struct answers *answers, const char *output, long seen, long *last,
		      unsigned *starts)
{
	long first = 0, before = 0;

	for (const char *line = output, *end; (end = strchr(line, '\n')); line = end + 1) {
		char *after, *text;
		long number = strtol(line, &after, 10);

		if (!strncmp(line, "started\n", 8)) {
			++*starts;
			before = 0;
			continue;
		}
		if (after == line || number < 1 || number > LINES_MOST) {
			printf("# not a line of it: %.*s\n", (int)(end - line), line);
			return -1;
		}
		/* Once more from an earlier generation, or the next. */
		if (before ? number != before + 1 : number > seen + 1) {
			printf("# %ld after %ld (%ld in all)\n", number, before, seen);
			return -1;
		}
		before = number;
		first = first ? first : number;
		text = strndup(after, (size_t)(end - after));
		if (answers->count > number && answers->texts[number] &&
		    strcmp(answers->texts[number], text)) {
			printf("# %ld is followed by %s, and once was by %s\n", number, text,
			       answers->texts[number]);
			return -1;
		}
		if (number >= answers->count) {
			answers->texts =
				realloc(answers->texts, (size_t)(number + 1) * sizeof(char *));
			while (answers->count <= number)
				answers->texts[answers->count++] = NULL;
		}
		free(answers->texts[number]);
		answers->texts[number] = text;
		*last = number > *last ? number : *last;
	}
	return first;
}

FIXTURE(kills)
{
	char *directory, *image;
	struct answers answers;
};
FIXTURE_VARIANT(kills)
{
	const char *program, *script;
	const char *every;
	int kills;   /* here */
	int at_most; /* ms from one to the next, once it is going on */
};
FIXTURE_VARIANT_ADD(kills, node){
	.program = "node", .script = "node.js", .every = "100ms", .kills = 6, .at_most = 600};
FIXTURE_VARIANT_ADD(kills, node_workers){
	.program = "node", .script = "workers.js", .every = "100ms", .kills = 6, .at_most = 600};
FIXTURE_VARIANT_ADD(kills, python){
	.program = "python3", .script = "python.py", .every = "50ms", .kills = 6, .at_most = 400};
FIXTURE_VARIANT_ADD(kills, lua){
	.program = "lua5.4", .script = "lua.lua", .every = "20ms", .kills = 6, .at_most = 200};

FIXTURE_SETUP(kills)
{
	self->directory = support_directory();
	self->image = support_format("%s/program.thaw", self->directory);
}
FIXTURE_TEARDOWN(kills)
{
	for (long i = 0; i < self->answers.count; i++)
		free(self->answers.texts[i]);
	free(self->answers.texts);
	free(self->image);
	support_remove(self->directory);
}

/* Is it there, as a program of this machine? */
static bool have(const char *name)
{
	struct program program;
	int code = program_run(&program, NULL, (const char *const[]){name, "--version", NULL});

	program_free(&program);
	if (code == 1) /* Lua */
		code = program_run(&program, NULL, (const char *const[]){name, "-v", NULL});
	return !code;
}

/* Waits until so many more generations are durable than it has told of up to now. */
static bool generations_later(struct program *program, unsigned count)
{
	static const char word[] = "thaw: generation ";
	size_t from = strlen(program->errors);
	siginfo_t ended = {0};
	double end = support_deadline(60);

	while (support_seconds() < end && !ended.si_pid) {
		unsigned found = 0;

		waitid(P_PID, (id_t)program->pid, &ended, WEXITED | WNOHANG | WNOWAIT);

		program_wait_for_complaint(program, "\f", 0); /* takes what there is */
		for (const char *at = program->errors + from; (at = strstr(at, word)); at++)
			found++;
		if (found >= count)
			return true;
		support_sleep(0.01);
	}
	return false;
}

TEST_F_TIMEOUT(kills, it_goes_on_where_it_was, 1200)
{
	int kills = getenv("THAW_KILLS") ? atoi(getenv("THAW_KILLS")) : variant->kills;
	char *script = support_format("%s/tests/programs/exec/%s", THAW_SOURCE, variant->script);
	unsigned seed = (unsigned)time(NULL), starts = 0;
	long last = 0, before, first;
	struct program program;
	char *until;

	if (!have(variant->program))
		SKIP(return, "there is no %s here", variant->program);
	TH_LOG("seed %u", seed);
	srandom(seed);
	for (int number = 0; number <= kills; number++) {
		program = program_start(THAW("exec", "-v", "--every", variant->every, "--image",
					     self->image, variant->program, script));
		/* Until it has got on and that is durable; then for a while. */
		ASSERT_TRUE((number || program_wait_for(&program, "started\n", 60)) &&
			    generations_later(&program, number ? 1 : 2))
		{
			program_kill(&program);
			TH_LOG("life %d: %.2000s%.2000s", number, program.output, program.errors);
		}
		program_wait_for(&program, NULL, (double)(random() % variant->at_most) / 1000);
		program_kill(&program);
		before = last;
		first = read_life(&self->answers, program.output, last, &last, &starts);
		ASSERT_GE(first, 0)
		{
			TH_LOG("life %d: %.2000s", number, program.errors);
		}
		ASSERT_EQ(starts, 1)
		{
			TH_LOG("life %d: it was started anew: %.2000s", number, program.errors);
		}
		ASSERT_TRUE(number || last || before == last);
		program_free(&program);
	}
	/* The same as in a run that nobody disturbs. */
	until = support_format("%ld", last);
	program_run(&program, NULL, (const char *const[]){variant->program, script, until, NULL});
	ASSERT_GE(read_life(&self->answers, program.output, last, &last, &starts), 0);
	ASSERT_EQ(atol(until), last);
	TH_LOG("%s: %d kills, %ld lines", variant->script, kills, last);
	ASSERT_GT(last, kills);
	program_free(&program);
	free(until);
	free(script);
}

TEST_HARNESS_MAIN
