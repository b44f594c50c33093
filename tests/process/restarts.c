// SPDX-License-Identifier: GPL-2.0-only
/*
 * restarts.c - a program whose process is killed again and again goes on under the same supervisor (--restart): all of its
 * lives print into one stream, and print what an undisturbed run prints.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "kills.h"

#define KILLS 8

FIXTURE(restarts)
{
	char *directory, *image, *script;
	struct program program;
	struct lives lives;
};
FIXTURE_VARIANT(restarts)
{
	struct victim victim;
	const char *when;
};
FIXTURE_VARIANT_ADD(restarts, node_always){
	.victim = {"node", "node.js", NULL, "100ms", 300, NULL},
	.when = "always",
};
FIXTURE_VARIANT_ADD(restarts, python_on_failure){
	.victim = {"python3", "python.py", NULL, "50ms", 300, NULL},
	.when = "on-failure",
};
FIXTURE_SETUP(restarts)
{
	self->directory = support_directory();
	self->image = support_format("%s/program.thaw", self->directory);
	self->script =
		support_format("%s/tests/programs/exec/%s", THAW_SOURCE, variant->victim.script);
}
FIXTURE_TEARDOWN(restarts)
{
	program_free(&self->program);
	lives_free(&self->lives);
	free(self->script);
	free(self->image);
	support_remove(self->directory);
}

/* So many lives have been restored. False: it ended, or that takes too long. */
static bool restored(struct program *program, int count)
{
	double end = support_deadline(120);
	siginfo_t ended = {0};

	while (support_seconds() < end && !ended.si_pid) {
		int found = 0;

		program_wait_for(program, NULL, 0);
		for (const char *at = program->errors;
		     (at = strstr(at, "thaw: restored generation ")); at++)
			found++;
		if (found >= count)
			return true;
		waitid(P_PID, (id_t)program->pid, &ended, WEXITED | WNOHANG | WNOWAIT);
		support_sleep(0.01);
	}
	return false;
}

/* Each life's lines: a new one begins where the numbers do not go on. How many; 0: something is wrong with them. */
static int lives_read(struct lives *lives, char *output)
{
	char *life = output;
	long before = 0;
	int count = 1;

	for (char *line = output, *end; (end = strchr(line, '\n')); line = end + 1) {
		long number = strtol(line, NULL, 10);

		if (before && number != before + 1) {
			char kept = *line;

			*line = '\0';
			if (!kills_read(lives, life))
				return 0;
			*line = kept;
			life = line;
			count++;
		}
		before = number;
	}
	return kills_read(lives, life) ? count : 0;
}

TEST_F_TIMEOUT(restarts, of_what_is_killed_lose_nothing, 7200)
{
	pid_t guest;
	int lives;

	if (!kills_have(variant->victim.program))
		SKIP(return, "there is no %s here", variant->victim.program);
	srandom(kills_seed());
	self->program = program_start(THAW("exec", "-v", "--restart", variant->when, "--every",
					   variant->victim.every, "--image", self->image,
					   variant->victim.program, self->script));
	/* What starts it may be a script, whose children would count as killed. */
	ASSERT_TRUE(program_wait_for(&self->program, "started\n", 60) &&
		    kills_generations_later(&self->program, 1))
	TH_LOG("%s", self->program.errors);
	for (int i = 0; i < KILLS; i++) {
		ASSERT_TRUE(kills_generations_later(&self->program, 1))
		TH_LOG("kill %d: %s", i, self->program.errors);
		program_wait_for(&self->program, NULL,
				 (double)(random() % variant->victim.at_most) / 1000);
		guest = support_child(self->program.pid);
		ASSERT_LT(0, guest)
		TH_LOG("kill %d: %s", i, self->program.errors);
		kill(guest, SIGKILL);
		ASSERT_TRUE(restored(&self->program, i + 1))
		TH_LOG("kill %d: %s", i, self->program.errors);
	}
	ASSERT_TRUE(kills_generations_later(&self->program, 1))
	TH_LOG("%s", self->program.errors);
	program_kill(&self->program);
	lives = lives_read(&self->lives, self->program.output);
	EXPECT_NE(0, lives);
	EXPECT_GE(KILLS + 1, lives);
	EXPECT_EQ(1, self->lives.starts);
	EXPECT_TRUE(kills_compare(&variant->victim, &self->lives));
}

TEST_HARNESS_MAIN
