// SPDX-License-Identifier: GPL-2.0-only
/*
 * A long turn is stopped inside each construct of the language, with the rest of the
 * construct pending on the stack; the process is killed, and another continues in the middle of
 * the loop. What comes out in the end is what an undisturbed run says.
 * (tests/programs/turn_constructs.js holds the constructs.)
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

#define PROGRAM THAW_SOURCE "/tests/programs/turn_constructs.js"
#define KILLS 3
#define LIFE 0.15 /* seconds; a turn has more than half of one of computing */

FIXTURE(construct)
{
	char *directory, *image, *other;
};
FIXTURE_VARIANT(construct)
{
	const char *name;
};
#define CONSTRUCT(word)                      \
	FIXTURE_VARIANT_ADD(construct, word) \
	{                                    \
		.name = #word                \
	}
CONSTRUCT(module);
CONSTRUCT(nested_calls);
CONSTRUCT(try_catch);
CONSTRUCT(finally_pending);
CONSTRUCT(generator);
CONSTRUCT(generator_suspended);
CONSTRUCT(generator_delegating);
CONSTRUCT(async_function);
CONSTRUCT(async_generator);
CONSTRUCT(promise_reaction);
CONSTRUCT(timer);
CONSTRUCT(sort);
CONSTRUCT(sort_typed);
CONSTRUCT(replace);
CONSTRUCT(regexp_exec);
CONSTRUCT(json_reviver);
CONSTRUCT(json_replacer);
CONSTRUCT(json_to_json);
CONSTRUCT(proxy_get);
CONSTRUCT(proxy_construct);
CONSTRUCT(proxy_own_keys);
CONSTRUCT(getter);
CONSTRUCT(setter);
CONSTRUCT(eval_direct);
CONSTRUCT(eval_indirect);
CONSTRUCT(new_function);
CONSTRUCT(recursion);
CONSTRUCT(array_callbacks);
CONSTRUCT(map_for_each);
CONSTRUCT(destructuring);
CONSTRUCT(spread);
CONSTRUCT(class_constructor);
CONSTRUCT(class_field);
CONSTRUCT(static_block);
CONSTRUCT(tagged_template);
CONSTRUCT(to_primitive);
CONSTRUCT(labelled_loops);
CONSTRUCT(exception);

FIXTURE_SETUP(construct)
{
	self->directory = support_directory();
	self->image = support_format("%s/turn.thaw", self->directory);
	self->other = support_format("%s/undisturbed.thaw", self->directory);
	support_own_key(self->directory);
}
FIXTURE_TEARDOWN(construct)
{
	free(self->other);
	free(self->image);
	support_remove(self->directory);
}

/* Is the newest generation of the image one in the middle of a turn? */
static bool stopped_inside(const char *image)
{
	struct program program;
	const char *newest;
	bool inside;

	if (access(image, F_OK))
		return false;
	program_run(&program, NULL, THAW("log", "--json", image));
	newest = memrchr(program.output, '{', program.output_bytes);
	inside = newest && strstr(newest, "\"kind\":\"mid-turn\"");
	program_free(&program);
	return inside;
}

/*
 * Turns and lives `times` as long as usual. Returns how many kills left a generation in the middle
 * of the turn.
 */
static int kill_inside(struct __test_metadata *_metadata, FIXTURE_DATA(construct) * self,
		       const char *name, int times)
{
	char *length = support_format("%d", times);
	/* On the other processor, meanwhile. */
	struct program program,
		undisturbed = program_start(
			THAW("run", "--every", "0", "--image", self->other, PROGRAM, name, length));
	int kills = 0, inside = 0;
	bool done = false;

	while (!done) {
		program = program_start(THAW("run", "--every", "20ms", "--image", self->image,
					     PROGRAM, name, length));
		if (kills == KILLS) {
			done = true;
		} else {
			/*
			 * It says nothing before its end, unless something is wrong. A disk may
			 * need longer for the first generation.
			 */
			program_says_within(&program, "\n",
					    LIFE * times * (inside ? 1 : kills + 1));
			done = program.output_bytes || program.errors_bytes;
		}
		if (done) {
			EXPECT_EQ(0, program_finish(&program, 100));
		} else {
			program_kill(&program);
			kills++;
			inside += stopped_inside(self->image);
			program_free(&program);
		}
	}
	ASSERT_EQ(0, program_finish(&undisturbed, 100))
	{
		TH_LOG("undisturbed: %s%s", undisturbed.output, undisturbed.errors);
	}
	EXPECT_STREQ(undisturbed.output, program.output);
	EXPECT_STREQ("", undisturbed.errors);
	EXPECT_STREQ("", program.errors);
	program_free(&program);
	program_free(&undisturbed);
	free(length);
	return inside;
}

TEST_F_TIMEOUT(construct, continues_inside, 400)
{
	int inside = 0;

	/* Longer, where the disk had no generation before the turn was over. */
	for (int times = 1; !inside && times <= 27; times *= 3) {
		unlink(self->image);
		unlink(self->other);
		inside = kill_inside(_metadata, self, variant->name, times);
	}
	EXPECT_GE(inside, 1)
	{
		TH_LOG("no kill left a generation in the middle of a turn");
	}
}

TEST_HARNESS_MAIN
