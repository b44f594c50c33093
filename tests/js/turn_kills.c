// SPDX-License-Identifier: GPL-2.0-only
/*
 * A chain of 500 lives of one computation (tests/programs/rounds.js), each ended by SIGKILL after
 * some tens of milliseconds, wherever it was. Its digest then is that of a run that nobody
 * disturbed: once as a single turn that never ends, so that nothing but generations in the middle
 * of a turn bring it forward; once cut into many turns, so that both kinds take turns.
 *
 * Where the disk is slow or the machine busy, lives become longer until every third of them leaves
 * a generation, and after CHAIN_SECONDS there are as many kills as there were.
 *
 * THAW_TEST_SEED repeats a chain's moments, THAW_TEST_KILLS makes it longer or shorter.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

#define KILLS 500
#define CHAIN_SECONDS 150
#define PROGRAMS THAW_SOURCE "/tests/programs/"

FIXTURE(chain)
{
	char *directory, *image, *other;
	unsigned seed;
	int kills;
	int resumed;	       /* lives that began in the middle of a turn */
	int mid_turn, between; /* lives that left a newer generation, by its kind */
	long long generation;  /* the newest */
	bool newest_is_mid_turn;
	double patience; /* with lives that leave no generation: what their length is multiplied by */
};
FIXTURE_VARIANT(chain)
{
	const char *program, *every;
	bool one_turn;
};
FIXTURE_VARIANT_ADD(chain, inside_one_turn){
	.program = PROGRAMS "turn_of_cpu.js", .every = "5ms", .one_turn = true};
FIXTURE_VARIANT_ADD(chain, across_turns){.program = PROGRAMS "turns_mixed.js", .every = "10ms"};

static unsigned number_from(const char *name, unsigned otherwise)
{
	const char *text = getenv(name);

	return text ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

FIXTURE_SETUP(chain)
{
	char *path;

	self->directory = support_directory();
	self->image = support_format("%s/chain.thaw", self->directory);
	self->other = support_format("%s/undisturbed.thaw", self->directory);
	path = support_format("%s/data", self->directory);
	support_write(path, "what the program reads, again and again\n");
	free(path);
	/* Not the key of whoever runs this. */
	path = support_format("%s/key", self->directory);
	setenv("THAW_KEY", path, 1);
	free(path);
	unsetenv("STOP");
	unsetenv("LIMIT");
	self->seed = number_from("THAW_TEST_SEED", (unsigned)time(NULL));
	self->kills = (int)number_from("THAW_TEST_KILLS", KILLS);
	self->patience = 1;
	srandom(self->seed);
	TH_LOG("THAW_TEST_SEED=%u", self->seed);
}
FIXTURE_TEARDOWN(chain)
{
	free(self->other);
	free(self->image);
	support_remove(self->directory);
}

/* What the image holds after a kill: its newest generation, and what kind that is. */
static void look_at_image(FIXTURE_DATA(chain) * self)
{
	struct program program;
	const char *newest;
	long long generation;

	if (access(self->image, F_OK))
		return; /* killed before it could make one */
	program_run(&program, NULL, THAW("log", "--json", self->image));
	newest = memrchr(program.output, '{', program.output_bytes);
	if (newest && sscanf(newest, "{\"generation\":%lld", &generation) == 1 &&
	    generation > self->generation) {
		self->generation = generation;
		self->newest_is_mid_turn = strstr(newest, "\"kind\":\"mid-turn\"");
		self->mid_turn += self->newest_is_mid_turn;
		self->between += !self->newest_is_mid_turn;
		self->patience = self->patience > 1.2 ? self->patience / 1.2 : 1;
	} else {
		self->patience *= 1.1;
	}
	program_free(&program);
}

/*
 * How long this one lives, in seconds: 10 to 80 ms; now and then next to nothing, or long enough
 * for what a restored heap is slow at (20,000 frames on pages that are all in the image). Before
 * there is any generation longer and longer, for disks that are slow to take the first.
 */
static double lifetime(const FIXTURE_DATA(chain) * self, int number)
{
	switch (random() % 20) {
	case 0:
		return (double)(random() % 3) / 1000;
	case 1:
		return self->patience * (double)(80 + random() % 200) / 1000;
	default:
		return self->patience *
		       (10 + (double)(random() % 70000) / 1000 +
			(self->generation ? 0 : 20 * number)) /
		       1000;
	}
}

TEST_F_TIMEOUT(chain, ends_where_an_undisturbed_run_ends, 400)
{
	const char *const *command = THAW("run", "--every", variant->every, "--image", self->image,
					  variant->program, self->directory);
	const char *const *last = THAW("run", "--stats", "--json", "--image", self->image,
				       variant->program, self->directory);
	double began = support_seconds(), chained, undisturbed;
	struct program program, reference;
	const char *restores;
	char *limit;
	long long rounds;
	int kills = 0;

	for (int number = 0; number < self->kills && support_seconds() - began < CHAIN_SECONDS;
	     number++) {
		self->resumed += self->newest_is_mid_turn;
		program = program_start(command);
		support_sleep(lifetime(self, number));
		program_kill(&program);
		/* No result, for it never ends; and no complaint. */
		ASSERT_EQ(0, program.output_bytes + program.errors_bytes)
		{
			TH_LOG("life %d: %s%s", number, program.output, program.errors);
		}
		program_free(&program);
		look_at_image(self);
		ASSERT_TRUE(self->generation || number < 30)
		{
			TH_LOG("%d lives, up to %.0f ms long, and no generation", number,
			       self->patience * 20 * number);
		}
		kills++;
	}
	chained = support_seconds() - began;

	self->resumed += self->newest_is_mid_turn;
	setenv("STOP", "1", 1);
	program = program_start(last);
	ASSERT_EQ(0, program_finish(&program, 60))
	{
		TH_LOG("the last life: %s%s", program.output, program.errors);
	}
	unsetenv("STOP");
	/* Nothing but its numbers, among them that of the lives that have this one's state in common. */
	EXPECT_EQ(0, strncmp(program.errors, "{", 1)) TH_LOG("%s", program.errors);
	restores = strstr(program.errors, "\"restores\":");
	ASSERT_NE(NULL, restores);
	EXPECT_EQ(self->mid_turn + self->between, atoi(restores + strlen("\"restores\":")));
	ASSERT_EQ(1, sscanf(program.output, "result %lld ", &rounds))
	{
		TH_LOG("the last life said: %s", program.output);
	}

	began = support_seconds();
	limit = support_format("%lld", rounds);
	setenv("LIMIT", limit, 1);
	reference = program_start(THAW("run", "--every", "0", "--image", self->other,
				       variant->program, self->directory));
	ASSERT_EQ(0, program_finish(&reference, 100))
	{
		TH_LOG("undisturbed: %s%s", reference.output, reference.errors);
	}
	unsetenv("LIMIT");
	undisturbed = support_seconds() - began;

	TH_LOG("%d kills in %.1f s; %lld rounds, %.1f s undisturbed", kills, chained, rounds,
	       undisturbed);
	TH_LOG("generation %lld; %d lives resumed in the middle of a turn; "
	       "%d lives left a generation of that kind, %d one between turns",
	       self->generation, self->resumed, self->mid_turn, self->between);
	EXPECT_STREQ(reference.output, program.output);
	EXPECT_STREQ("", reference.errors);
	EXPECT_GT(self->mid_turn + self->between, kills / 10);
	if (variant->one_turn)
		EXPECT_GT(self->resumed, kills / 10);
	free(limit);
	program_free(&program);
	program_free(&reference);
}

TEST_HARNESS_MAIN
