// SPDX-License-Identifier: GPL-2.0-only
/*
 * builtins_stopped.c - functions of the engine that never come to a loop edge or call of the program's: generations are taken
 * inside of them, they go on in another process, and who asks for the end does not wait for theirs.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

/* Each of them is in one call for longer than a life lasts, and none is where the engine polls by itself. */
static const struct {
	const char *name;
	unsigned n;
	const char *before, *call, *digest;
} computations[] = {
	{"reverse", 600000,
	 "const a = { length: N }; for (let i = 0; i < N; i++) a[i] = i * 7919 % N",
	 "Array.prototype.reverse.call(a)", "a[i]"},
	{"join", 600000, "let a = Array.from({ length: N }, (_, i) => i * 7919 % N)",
	 "a = a.join()", "a.charCodeAt(i)"},
	{"sort", 500000, "const a = new Float64Array(N).map((_, i) => i * 7919 % N)", "a.sort()",
	 "a[i]"},
	{"stringify", 100000,
	 "let a = Array.from({ length: N }, (_, i) => ({ i, l: [i, 's' + i, i / 3] }))",
	 "a = JSON.stringify(a)", "a.charCodeAt(i * 7)"},
	{"digits", 80000, "let a = 3n ** BigInt(N)", "a = a.toString()", "a.charCodeAt(i % 38000)"},
};

FIXTURE(builtin)
{
	char *directory, *script, *image;
	char *printed; /* by a life that came to the end before it was killed; NULL: none did */
	struct program program;
};
FIXTURE_SETUP(builtin)
{
	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
	self->image = support_format("%s/app.thaw", self->directory);
	support_own_key(self->directory);
}
FIXTURE_TEARDOWN(builtin)
{
	program_free(&self->program);
	free(self->script);
	free(self->image);
	free(self->printed);
	support_remove(self->directory);
}

static char *program_of(unsigned which)
{
	return support_format(
		"const N = %u; %s\n"
		"console.log('begun'); %s; console.log('made')\n"
		"let hash = 0; for (let i = 0; i < N; i++) hash = (hash * 31 + %s) | 0\n"
		"console.log('hash', hash)\n",
		computations[which].n, computations[which].before, computations[which].call,
		computations[which].digest);
}

/* The newest generation of an image, as `thaw log --json` has it: its number; 0: none. */
static long long newest(const char *image, bool *mid_turn)
{
	struct program program;
	const char *line;
	long long number = 0;

	if (access(image, F_OK))
		return 0;
	program_run(&program, NULL, THAW("log", "--json", image));
	line = memrchr(program.output, '{', program.output_bytes);
	if (line && sscanf(line, "{\"generation\":%lld", &number) != 1)
		number = 0;
	*mid_turn = line && strstr(line, "\"kind\":\"mid-turn\"");
	program_free(&program);
	return number;
}

#define LIVES 3

/* Lives that are killed, each right behind a generation, and one that comes to the end. How many were inside of the call. */
static unsigned live(FIXTURE_DATA(builtin) * self)
{
	long long before = 0, now = 0;
	unsigned inside = 0;

	for (unsigned life = 0; life <= LIVES; life++) {
		double end = support_deadline(20);
		bool mid_turn = false;

		program_free(&self->program);
		self->program = program_start(
			THAW("run", "--every", "0", "--image", self->image, self->script));
		/* The first life has no generation before the call; the last one is left alone. */
		program_wait_for(&self->program, life ? "made" : "begun",
				 life == LIVES ? 60
				 : life	       ? 0.03
					       : 60);
		kill(self->program.pid, life < LIVES ? SIGUSR2 : 0);
		while (life < LIVES && now <= before && support_seconds() < end &&
		       !program_wait_for(&self->program, "hash", 0.005))
			now = newest(self->image, &mid_turn);
		if (life == LIVES || strstr(self->program.output, "hash"))
			break;
		program_kill(&self->program);
		if (strstr(self->program.output, "hash")) {
			free(self->printed);
			self->printed = strdup(self->program.output);
		}
		inside += mid_turn && !strstr(self->program.output, "made");
		before = now;
	}
	return inside;
}

TEST_F_TIMEOUT(builtin, goes_on_where_it_was_killed, 300)
{
	unsigned inside = 0;

	for (unsigned i = 0; i < sizeof(computations) / sizeof(computations[0]); i++) {
		char *text = program_of(i), *undisturbed;
		const char *printed;

		support_write(self->script, text);
		free(text);
		program_free(&self->program);
		EXPECT_EQ(0, program_run(&self->program, NULL,
					 THAW("run", "--every", "0", "--image", self->image,
					      self->script)));
		undisturbed = strstr(self->program.output, "hash");
		ASSERT_NE(NULL, undisturbed) TH_LOG("%s", self->program.errors);
		undisturbed = strdup(undisturbed);
		unlink(self->image);
		inside += live(self);
		EXPECT_EQ(0, program_finish(&self->program, 60));
		printed = strstr(self->program.errors, "nothing is left to do") && self->printed
				  ? self->printed
				  : self->program.output;
		EXPECT_NE(NULL, strstr(printed, undisturbed))
		TH_LOG("%s: %s, not %s %s", computations[i].name, self->program.output, undisturbed,
		       self->program.errors);
		free(undisturbed);
		free(self->printed);
		self->printed = NULL;
		unlink(self->image);
	}
	TH_LOG("%u of %zu lives ended inside of the call", inside,
	       LIVES * sizeof(computations) / sizeof(computations[0]));
	EXPECT_GT(inside, 0);
}

/* For hours, without a loop edge. */
static const char endless[] = "console.log('begun')\n"
			      "Array.prototype.reverse.call({ length: 2 ** 53 - 1 })\n";

TEST_F(builtin, sigterm_is_a_generation_and_the_end)
{
	bool mid_turn = false;

	support_write(self->script, endless);
	self->program =
		program_start(THAW("run", "--every", "0", "--image", self->image, self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "begun", 60));
	kill(self->program.pid, SIGTERM);
	EXPECT_EQ(143, program_finish(&self->program, 60));
	EXPECT_STREQ("", self->program.errors);
	EXPECT_GT(newest(self->image, &mid_turn), 0);
	EXPECT_TRUE(mid_turn);
	program_free(&self->program);
	/* It goes on there, and ends likewise. */
	self->program = program_start(
		THAW("run", "-v", "--every", "0", "--image", self->image, self->script));
	support_sleep(0.1);
	kill(self->program.pid, SIGTERM);
	EXPECT_EQ(143, program_finish(&self->program, 60));
	EXPECT_EQ(NULL, strstr(self->program.output, "begun"));
}

TEST_F(builtin, generations_are_taken_on_request)
{
	bool mid_turn = false;
	double end;

	support_write(self->script, endless);
	self->program =
		program_start(THAW("run", "--every", "0", "--image", self->image, self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "begun", 60));
	kill(self->program.pid, SIGUSR2);
	end = support_deadline(60);
	while (!newest(self->image, &mid_turn) && support_seconds() < end)
		support_sleep(0.02);
	EXPECT_TRUE(mid_turn);
	program_kill(&self->program);
}

/* Nothing to go on with is lost where there is no image. */
TEST_F(builtin, sigterm_ends_what_leaves_nothing)
{
	self->program = program_start(THAW(
		"-e",
		"console.log('begun'); Array.prototype.reverse.call({ length: 2 ** 53 - 1 })"));
	ASSERT_TRUE(program_wait_for(&self->program, "begun", 60));
	kill(self->program.pid, SIGTERM);
	EXPECT_EQ(143, program_finish(&self->program, 60));
	EXPECT_STREQ("", self->program.errors);
}

TEST_HARNESS_MAIN
