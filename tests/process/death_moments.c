// SPDX-License-Identifier: GPL-2.0-only
/*
 * death_moments.c - a program goes on (kills.h) whenever it and its supervisor die: while it starts, while it is restored,
 * while a generation is captured; the supervisor, the process, both, in any order, stopped ones, too; and at the end of a
 * chain of a hundred generations, and from the middle of it.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "kills.h"

FIXTURE(death)
{
	char *directory, *image;
	struct lives lives;
};
FIXTURE_VARIANT(death)
{
	const char *program, *script;
	int starts; /* ms that the start takes, about, and then some */
	int part;   /* of the kills that are asked for */
};
FIXTURE_VARIANT_ADD(death, lua){.program = "lua5.4", .script = "lua.lua", .starts = 100, .part = 1};
FIXTURE_VARIANT_ADD(death, node){.program = "node", .script = "node.js", .starts = 300, .part = 2};

FIXTURE_SETUP(death)
{
	self->directory = support_directory();
	self->image = support_format("%s/program.thaw", self->directory);
	self->lives = (struct lives){0};
	if (!kills_have(variant->program))
		SKIP(return, "there is no %s here", variant->program);
	TH_LOG("seed %u", kills_seed());
}
FIXTURE_TEARDOWN(death)
{
	lives_free(&self->lives);
	free(self->image);
	support_remove(self->directory);
}

/* Kills the supervisor. False: it had ended by itself, which it does when something is refused. */
static bool die(struct program *program)
{
	kill(program->pid, SIGKILL);
	return program_finish(program, 60) == 128 + SIGKILL;
}

static void wait_ms(struct program *program, int at_most)
{
	program_wait_for(program, NULL, (double)(random() % (at_most * 1000)) / 1000000);
}

/* At its end: everything that it said is right, and it did not begin anew where it could go on. */
static bool right(struct lives *lives, struct program *program, int life)
{
	bool could = lives->generation, fine = kills_read(lives, program->output);

	fine = kills_check_generation(lives, program->errors) && fine;
	/* It may say 'started' twice, from a generation before that; but told is where its image is at a start only. */
	if (could && strstr(program->errors, "thaw: its image is ")) {
		printf("# it was started anew\n");
		fine = false;
	}
	if (!fine)
		kills_failed(life, program, "it did not go on as it should");
	program_free(program);
	return fine;
}

/* A life that gets on, and is killed somewhere behind that. */
static bool gets_on(struct lives *lives, const struct victim *victim, const char *image, int life,
		    unsigned generations)
{
	struct program program = kills_start(victim, image);
	bool fine = kills_generations_later(&program, generations);

	wait_ms(&program, victim->at_most);
	fine = die(&program) && fine;
	if (!fine)
		kills_failed(life, &program, "it did not get on");
	return right(lives, &program, life) && fine;
}

TEST_F_TIMEOUT(death, while_it_starts, 7200)
{
	struct victim victim = {variant->program, variant->script, NULL, "5ms", 20, NULL};
	int kills = kills_wanted(6) / variant->part;

	for (int life = 0; life < kills; life++) {
		struct program program = kills_start(&victim, self->image);

		wait_ms(&program, variant->starts);
		ASSERT_TRUE(die(&program))
		{
			kills_failed(life, &program, "it ended by itself");
		}
		ASSERT_TRUE(right(&self->lives, &program, life));
		if (!self->lives.generation)
			continue;
		ASSERT_TRUE(gets_on(&self->lives, &victim, self->image, life, 1));
		lives_free(&self->lives);
		ASSERT_EQ(unlink(self->image), 0);
	}
	ASSERT_TRUE(gets_on(&self->lives, &victim, self->image, kills, 2));
}

TEST_F_TIMEOUT(death, while_it_is_restored, 7200)
{
	struct victim victim = {variant->program, variant->script, NULL, "50ms", 20, NULL};
	int kills = kills_wanted(6) / variant->part;

	ASSERT_TRUE(gets_on(&self->lives, &victim, self->image, 0, 3));
	for (int life = 1; life <= kills; life++) {
		struct program program = kills_start(&victim, self->image);

		wait_ms(&program, 40);
		ASSERT_TRUE(die(&program))
		{
			kills_failed(life, &program, "it ended by itself");
		}
		ASSERT_TRUE(right(&self->lives, &program, life));
		ASSERT_TRUE(life % 5 || gets_on(&self->lives, &victim, self->image, life, 1));
	}
}

/* There is hardly a moment at which none is. */
TEST_F_TIMEOUT(death, while_a_generation_is_captured, 7200)
{
	struct victim victim = {variant->program, variant->script, NULL, "1ms", 100, NULL};
	int kills = kills_wanted(6) / variant->part;

	for (int life = 0; life <= kills; life++)
		ASSERT_TRUE(gets_on(&self->lives, &victim, self->image, life, life ? 1 : 3));
}

/* One after the other, in an order that changes, or one of them; each perhaps stopped before. */
TEST_F_TIMEOUT(death, of_the_supervisor_the_process_or_both, 7200)
{
	struct victim victim = {variant->program, variant->script, NULL, "20ms", 100, NULL};
	int kills = kills_wanted(6) / variant->part;

	for (int life = 0; life <= kills; life++) {
		struct program program = kills_start(&victim, self->image);
		bool fine = kills_generations_later(&program, life ? 1 : 3);
		pid_t dying[2] = {program.pid, support_child(program.pid)};
		int first = (int)(random() % 2), count = 1 + (int)(random() % 2);

		ASSERT_TRUE(fine && dying[1] > 0)
		{
			kills_failed(life, &program, "it did not get on");
		}
		if (random() % 2)
			kill(dying[random() % 2], SIGSTOP);
		wait_ms(&program, victim.at_most);
		for (int i = 0; i < count; i++) {
			kill(dying[(first + i) % 2], SIGKILL);
			wait_ms(&program, 2);
		}
		kill(program.pid, SIGCONT);
		ASSERT_EQ(program_finish(&program, 60), 128 + SIGKILL);
		ASSERT_TRUE(right(&self->lives, &program, life));
	}
}

TEST_F_TIMEOUT(death, of_what_was_stopped_and_continued, 7200)
{
	struct victim victim = {variant->program, variant->script, NULL, "20ms", 50, NULL};
	int kills = kills_wanted(3) / variant->part;

	for (int life = 0; life <= kills; life++) {
		struct program program = kills_start(&victim, self->image);

		for (int i = 0; i < 6; i++) {
			pid_t whom = i % 3 ? support_child(program.pid) : program.pid;

			if (whom > 0)
				kill(whom, SIGSTOP);
			wait_ms(&program, 30);
			if (whom > 0)
				kill(whom, SIGCONT);
			wait_ms(&program, 10);
		}
		ASSERT_TRUE(kills_generations_later(&program, 2))
		{
			kills_failed(life, &program, "it did not get on");
		}
		wait_ms(&program, victim.at_most);
		ASSERT_TRUE(die(&program))
		{
			kills_failed(life, &program, "it ended by itself");
		}
		ASSERT_TRUE(right(&self->lives, &program, life));
	}
}

/* A copy of the image goes on from a generation in the middle. */
static bool goes_on_at(struct lives *lives, const FIXTURE_VARIANT(death) * variant,
		       const char *image, unsigned long long generation)
{
	char *script = support_format("%s/tests/programs/exec/%s", THAW_SOURCE, variant->script);
	char *copy = support_format("%s.copy", image);
	char *at = support_format("%llu", generation);
	unsigned long long newest = lives->generation;
	struct program program;
	bool fine;

	program_run(&program, NULL, (const char *const[]){"cp", image, copy, NULL});
	program_free(&program);
	program = program_start(THAW("exec", "-v", "--every", "20ms", "--at", at, "--image", copy,
				     variant->program, script));
	fine = kills_generations_later(&program, 1);
	fine = die(&program) && fine;
	if (kills_told(program.errors, "thaw: restored generation ", false) != generation)
		fine = kills_failed(0, &program, "not from this generation");
	lives->generation = 0;
	fine = right(lives, &program, 0) && fine;
	lives->generation = newest;
	unlink(copy);
	free(script);
	free(copy);
	free(at);
	return fine;
}

TEST_F_TIMEOUT(death, after_a_hundred_generations, 7200)
{
	struct victim victim = {variant->program, variant->script, NULL, "5ms", 100, NULL};
	unsigned long long listed[6];
	struct program program;
	int life = 0, count = 0;
	const char *at;

	for (; self->lives.generation < 100; life++)
		ASSERT_TRUE(gets_on(&self->lives, &victim, self->image, life, 10));
	ASSERT_EQ(program_run(&program, NULL, THAW("verify", self->image)), 0)
	{
		TH_LOG("%s%s", program.output, program.errors);
	}
	program_free(&program);
	/* Of many that were made in a second, the newest is listed. */
	ASSERT_EQ(program_run(&program, NULL, THAW("log", "--json", self->image)), 0);
	for (at = program.output; count < 6 && (at = strstr(at, "\"generation\":")); count++)
		listed[count] = strtoull(at += strlen("\"generation\":"), NULL, 10);
	program_free(&program);
	EXPECT_LT(1, count);
	for (int i = 1; i < count; i += 2)
		ASSERT_TRUE(goes_on_at(&self->lives, variant, self->image, listed[i]));
	ASSERT_TRUE(gets_on(&self->lives, &victim, self->image, life, 1));
	TH_LOG("%d lives, %llu generations, %ld lines", life, self->lives.generation,
	       self->lives.last);
}

TEST_HARNESS_MAIN
