// SPDX-License-Identifier: GPL-2.0-only
/*
 * effect_ids.c - what thaw.effectId() gives to a program: after a kill the same id for the same effect, so that who gets it
 * twice can tell, which without the id he could not; and another one for each effect, also in what goes on from an older
 * generation, from a clone or a copy of the image, or begins anew. The program is JavaScript of thaw run, and Python and
 * Node.js under thaw exec. THAW_KILLS says how many kills, where the quick number is not enough.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "../../vm/policy/key.h"
#include "support.h"
#include "thaw.h"

static const char run_text[] =
	"import { effectId } from 'thaw'\n"
	"let n = 0\n"
	"setInterval(() => {\n"
	"	for (let i = 0; i < 5; i++) console.log(`effect ${++n} ${effectId()}.`)\n"
	"}, 2)\n";
static const char python_text[] = "import sys, time\n"
				  "sys.path.insert(0, '" THAW_SOURCE
				  "/vm/process/modules/python')\n"
				  "import thaw\n"
				  "n = 0\n"
				  "while True:\n"
				  "    n += 1\n"
				  "    print('effect %d %s.' % (n, thaw.effect_id()), flush=True)\n"
				  "    time.sleep(0.002)\n";
static const char node_text[] =
	"const { effectId } = require('./thaw')\n"
	"let n = 0\n"
	"setInterval(() => require('fs').writeSync(1, `effect ${++n} ${effectId()}.\\n`), 2)\n";

struct effect {
	long number;
	char id[80];
};
struct sink { /* all that has arrived */
	struct effect *effects;
	size_t count, room;
};

/* Whole lines of the program. Returns the highest number. */
static long take(struct sink *sink, const char *text)
{
	long highest = 0;

	for (const char *line = text; (line = strstr(line, "effect ")); line++) {
		struct effect effect;

		if (sscanf(line, "effect %ld %79[0-9a-f-].", &effect.number, effect.id) != 2 ||
		    !strchr(line, '\n'))
			continue;
		if (sink->count == sink->room) {
			sink->room = sink->room ? 2 * sink->room : 1024;
			sink->effects = realloc(sink->effects, sink->room * sizeof(*sink->effects));
		}
		sink->effects[sink->count++] = effect;
		highest = effect.number > highest ? effect.number : highest;
	}
	return highest;
}

static int by_number(const void *a, const void *b)
{
	const struct effect *left = a, *right = b;

	return left->number != right->number ? (left->number > right->number ? 1 : -1)
					     : strcmp(left->id, right->id);
}

static int by_id(const void *a, const void *b)
{
	return strcmp(((const struct effect *)a)->id, ((const struct effect *)b)->id);
}

/* Of effects that arrived again, how many could not be told from new ones: by their ids; and by nothing. */
static size_t unrecognized(struct sink *sink, size_t *again)
{
	size_t count = 0;

	*again = 0;
	qsort(sink->effects, sink->count, sizeof(*sink->effects), by_number);
	for (size_t i = 1; i < sink->count; i++) {
		const struct effect *before = &sink->effects[i - 1], *now = &sink->effects[i];

		if (before->number != now->number)
			continue;
		++*again;
		count += strcmp(before->id, now->id) != 0;
	}
	return count;
}

/* Effects that never arrived, although later ones did. They are sorted by number. */
static size_t missing(const struct sink *sink)
{
	size_t count = 0;
	long last = 0;

	for (size_t i = 0; i < sink->count; i++) {
		count += sink->effects[i].number > last + 1;
		last = sink->effects[i].number;
	}
	return count;
}

/* Effects that have an id which another has, too. */
static size_t mistaken(struct sink *sink)
{
	size_t count = 0;

	qsort(sink->effects, sink->count, sizeof(*sink->effects), by_id);
	for (size_t i = 1; i < sink->count; i++)
		count += !strcmp(sink->effects[i - 1].id, sink->effects[i].id) &&
			 sink->effects[i - 1].number != sink->effects[i].number;
	return count;
}

FIXTURE(effects)
{
	char *directory, *script, *image;
	struct sink sink;
};
FIXTURE_VARIANT(effects)
{
	const char *command, *interpreter, *text, *name;
	int kills;
	bool commit;
};
FIXTURE_VARIANT_ADD(effects, thaw_run){"run", NULL, run_text, "a.js", 10};
FIXTURE_VARIANT_ADD(effects, python){"exec", "/usr/bin/python3", python_text, "a.py", 4};
FIXTURE_VARIANT_ADD(effects, node){"exec", "node", node_text, "a.js", 3};
/* Each leaves once its cause is durable; what was on its way into the pipe comes again. */
FIXTURE_VARIANT_ADD(effects, python_committed){"exec", "/usr/bin/python3", python_text, "a.py",
					       3,      .commit = true};
FIXTURE_VARIANT_ADD(effects, node_committed){"exec", "node", node_text, "a.js", 3, .commit = true};

static void install_module(const char *directory)
{
	char *command = support_format(
		"mkdir %s/thaw && cp %s/vm/process/modules/node/index.js %.*s/vm/process/modules/node/thaw.node %s/thaw",
		directory, THAW_SOURCE, (int)(strlen(THAW_BINARY) - strlen("/thaw")), THAW_BINARY,
		directory);

	if (system(command))
		support_die(command);
	free(command);
}

FIXTURE_SETUP(effects)
{
	char *found = variant->interpreter
			      ? support_format("command -v %s > /dev/null", variant->interpreter)
			      : NULL;

	srandom((unsigned)time(NULL));
	key_serve_images(); /* images of thaw exec are looked at, too */
	self->directory = support_directory();
	self->script = support_format("%s/%s", self->directory, variant->name);
	self->image = support_format("%s/a.thaw", self->directory);
	support_write(self->script, variant->text);
	if (found && system(found))
		SKIP(return, "there is no %s here", variant->interpreter);
	install_module(self->directory);
}

FIXTURE_TEARDOWN(effects)
{
	support_remove(self->directory);
}

static struct program start(const FIXTURE_VARIANT(effects) * variant, const char *script,
			    const char *image, const char *option, const char *value)
{
	const char *arguments[16] = {THAW_BINARY, variant->command, "-q", "--every",
				     "20ms",	  "--image",	    image};
	unsigned count = 7;

	if (variant->commit) {
		arguments[count++] = "--commit";
		arguments[count++] = "output";
	}
	if (option)
		arguments[count++] = option;
	if (value)
		arguments[count++] = value;
	if (variant->interpreter)
		arguments[count++] = variant->interpreter;
	arguments[count] = script;
	return program_start(arguments);
}

#define START(image, option, value) start(variant, self->script, (image), (option), (value))

/* The newest generation that is listed; 0: none. */
static uint64_t newest_of(const char *path)
{
	const struct thaw_generation *list;
	struct thaw_image *image;
	unsigned count;
	uint64_t newest;

	if (thaw_image_open(path, &image, NULL))
		return 0;
	count = thaw_image_log(image, &list);
	newest = count ? list[count - 1].number : 0;
	thaw_image_close(image);
	return newest;
}

static size_t lines_of(const char *text)
{
	size_t count = 0;

	for (; (text = strchr(text, '\n')); text++)
		count++;
	return count;
}

/* Until some generations are durable, and THAW_EFFECTS have arrived, then for a moment. Returns the highest number that arrived. */
static long live(struct __test_metadata *_metadata, FIXTURE_DATA(effects) * self,
		 struct program program, const char *image)
{
	size_t wanted = getenv("THAW_EFFECTS") ? (size_t)atol(getenv("THAW_EFFECTS")) : 0;
	double end = support_deadline(60);
	uint64_t newest = newest_of(image), now = newest;
	long highest;

	ASSERT_TRUE(program_wait_for(&program, "effect ", 60))
	TH_LOG("%s", program.errors);
	while (support_seconds() < end &&
	       ((now = newest_of(image)) < newest + 2 || lines_of(program.output) < wanted))
		program_wait_for(&program, NULL, 0.005);
	EXPECT_LE(newest + 2, now);
	program_wait_for(&program, NULL, (double)(random() % 40) / 1000);
	program_kill(&program);
	highest = take(&self->sink, program.output);
	program_free(&program);
	return highest;
}

TEST_F_TIMEOUT(effects, that_arrive_again_are_recognized, 280)
{
	int kills = getenv("THAW_KILLS") ? atoi(getenv("THAW_KILLS")) : variant->kills;
	size_t again = 0, unknown;
	long highest = 0;

	/* Some more, until a kill has fallen between an effect and the generation that has it. */
	for (int i = 0; i < kills || (!again && i < 100); i++) {
		long reached = live(_metadata, self, START(self->image, NULL, NULL), self->image);

		highest = reached > highest ? reached : highest;
		unknown = unrecognized(&self->sink, &again);
	}
	TH_LOG("%ld effects, %zu of them again; %zu were not recognized by their ids", highest,
	       again, unknown);
	EXPECT_LT(0, again); /* so many would be there twice without ids */
	EXPECT_EQ(0, unknown);
	EXPECT_EQ(0, missing(&self->sink));
	EXPECT_EQ(0, mistaken(&self->sink));
}

/* What that process has as ids none before it had. */
static void expect_others(struct __test_metadata *_metadata, FIXTURE_DATA(effects) * self,
			  struct program program, const char *image, const char *what)
{
	size_t before = self->sink.count, common = 0;

	live(_metadata, self, program, image);
	EXPECT_LT(before, self->sink.count);
	for (size_t i = before; i < self->sink.count; i++)
		for (size_t j = 0; j < before; j++)
			common += !strcmp(self->sink.effects[i].id, self->sink.effects[j].id);
	EXPECT_EQ(0, common)
	TH_LOG("%s has %zu ids that others have", what, common);
}

static void command(const char *format, const char *image, const char *more)
{
	char *line = support_format(format, THAW_BINARY, image, more);

	if (system(line))
		support_die(line);
	free(line);
}

TEST_F_TIMEOUT(effects, of_another_line_have_other_ids, 280)
{
	char *other = support_format("%s/b.thaw", self->directory);
	char *copy = support_format("%s/c.thaw", self->directory);

	if (variant->commit)
		SKIP(return, "what was on its way in the copied generation is the same effect");
	live(_metadata, self, START(self->image, NULL, NULL), self->image);
	command("%s tag %s %s 1>&2", self->image, "point");
	command("%s clone %s %s 1>&2", self->image, other);
	command("true %s; cp %s %s", self->image, copy);
	expect_others(_metadata, self, START(other, NULL, NULL), other, "a clone");
	expect_others(_metadata, self, START(copy, NULL, NULL), copy, "a copy");
	/* The line goes on, and the copies were none of its business. */
	live(_metadata, self, START(self->image, NULL, NULL), self->image);
	expect_others(_metadata, self, START(self->image, "--at", "point"), self->image,
		      "an older generation");
	command("%s rollback %s %s 1>&2", self->image, "point");
	expect_others(_metadata, self, START(self->image, NULL, NULL), self->image, "a rollback");
	command("%s rollback %s %s 1>&2", self->image, "point");
	expect_others(_metadata, self, START(self->image, NULL, NULL), self->image,
		      "another rollback to the same");
	expect_others(_metadata, self, START(self->image, "--fresh", NULL), self->image,
		      "a fresh start");
}

/* It goes back, and is killed before it has made anything durable: the same is done again. */
TEST_F_TIMEOUT(effects, of_a_line_that_had_no_generation_are_the_same, 100)
{
	struct program program;
	char first[80], second[80];

	if (variant->commit)
		SKIP(return, "so many generations are made that the first is not kept");
	live(_metadata, self, START(self->image, NULL, NULL), self->image);
	command("%s rollback %s %s 1>&2", self->image, "1");
	program = START(self->image, "--every", "0");
	ASSERT_TRUE(program_wait_for(&program, ".\n", 60));
	program_kill(&program);
	ASSERT_EQ(1, sscanf(strstr(program.output, "effect "), "effect %*d %79s", first));
	program = START(self->image, "--every", "0");
	ASSERT_TRUE(program_wait_for(&program, ".\n", 60));
	program_kill(&program);
	ASSERT_EQ(1, sscanf(strstr(program.output, "effect "), "effect %*d %79s", second));
	EXPECT_STREQ(first, second);
}

TEST_HARNESS_MAIN
