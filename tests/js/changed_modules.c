// SPDX-License-Identifier: GPL-2.0-only
/*
 * A file that changed since the program in the image loaded it is named, in one line, before the program
 * goes on with what it loaded: scripts, modules, packages and JSON alike. One that was only touched, or is
 * gone, is not worth a word; and what an image says of its files is not trusted.
 */
#define _GNU_SOURCE

#include "kselftest_harness.h"

#include "../../vm/js/modules/sources.h"
#include "../../vm/js/engine/state.h"
#include "support.h"

FIXTURE(changed)
{
	char *directory;
	struct program program;
};
FIXTURE_SETUP(changed)
{
	self->directory = support_directory();
	ASSERT_EQ(0, chdir(self->directory));
	ASSERT_EQ(0, mkdir("lib", 0755));
	ASSERT_EQ(0, mkdir("node_modules", 0755));
	ASSERT_EQ(0, mkdir("node_modules/pkg", 0755));
	support_write("lib/a.js", "import data from './data.json'; export default data.a\n");
	support_write("lib/data.json", "{\"a\": 1}\n");
	support_write("node_modules/pkg/index.js", "export default 2\n");
	support_write("late.js", "export default 3\n");
	support_write(
		"app.js",
		"import a from './lib/a.js'\n"
		"import b from 'pkg'\n"
		"import { on } from 'thaw'\n"
		"console.log(a + b)\n"
		"on('restore', async () => console.log((await import('./late.js')).default))\n");
	ASSERT_EQ(0, program_run(&self->program, NULL, THAW("run", "app.js")));
	ASSERT_STREQ("3\n", self->program.output);
}
FIXTURE_TEARDOWN(changed)
{
	program_free(&self->program);
	support_remove(self->directory);
}

/* What a start says besides what the program does. */
#define COMPLAINTS(...)                                                             \
	({                                                                          \
		program_free(&self->program);                                       \
		EXPECT_EQ(0, program_run(&self->program, NULL, THAW(__VA_ARGS__))); \
		self->program.errors;                                               \
	})

/* Of another time, so that a file system with coarse times is no matter. */
static void rewrite(const char *path, const char *text)
{
	const struct timespec times[2] = {{1000000000, 0}, {1000000000, 0}};

	support_write(path, text);
	if (utimensat(AT_FDCWD, path, times, 0))
		support_die(path);
}

static unsigned lines(const char *text)
{
	unsigned count = 0;

	for (; (text = strchr(text, '\n')); text++)
		count++;
	return count;
}

TEST_F(changed, none_is_not_worth_a_word)
{
	EXPECT_STREQ("", COMPLAINTS("run", "app.js"));
	rewrite("lib/a.js", "import data from './data.json'; export default data.a\n");
	rewrite("node_modules/pkg/index.js", "export default 2\n");
	EXPECT_STREQ("", COMPLAINTS("run", "app.js"));
}

TEST_F(changed, each_kind_of_module_is_named)
{
	static const char *const files[] = {"lib/a.js", "lib/data.json",
					    "node_modules/pkg/index.js", "app.js"};

	for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		char *expected = support_format("thaw: %s changed since generation", files[i]);
		char *keep = support_format("%s.before", files[i]);

		ASSERT_EQ(0, rename(files[i], keep));
		rewrite(files[i], "something else, and longer");
		EXPECT_NE(NULL, strstr(COMPLAINTS("run", "app.js"), expected))
		{
			TH_LOG("%s: %s", files[i], self->program.errors);
		}
		EXPECT_EQ(1, lines(self->program.errors));
		EXPECT_STREQ("", COMPLAINTS("run", "-q", "app.js"));
		ASSERT_EQ(0, rename(keep, files[i]));
		free(expected);
		free(keep);
	}
	EXPECT_STREQ("", COMPLAINTS("run", "app.js"));
}

TEST_F(changed, one_that_is_as_long_is_read)
{
	rewrite("node_modules/pkg/index.js", "export default 7\n");
	EXPECT_NE(NULL, strstr(COMPLAINTS("run", "app.js"),
			       "thaw: node_modules/pkg/index.js changed since generation"));
}

TEST_F(changed, all_are_named_in_one_line)
{
	rewrite("app.js", "// another");
	rewrite("lib/a.js", "// another");
	rewrite("lib/data.json", "{\"a\": 12345}\n");
	EXPECT_NE(NULL, strstr(COMPLAINTS("run", "app.js"), "thaw: app.js, "));
	EXPECT_EQ(1, lines(self->program.errors));
	EXPECT_NE(NULL, strstr(self->program.errors, "lib/a.js"));
	EXPECT_NE(NULL, strstr(self->program.errors, "lib/data.json"));
	EXPECT_NE(NULL, strstr(self->program.errors, "--fresh"));
}

TEST_F(changed, of_many_some_are_named)
{
	FILE *file = fopen("many.js", "w");

	ASSERT_NE(NULL, file);
	for (int i = 0; i < 1000; i++) {
		char *name = support_format("m%d.js", i);

		support_write(name, "export default 1\n");
		fprintf(file, "import './m%d.js'\n", i);
		free(name);
	}
	ASSERT_EQ(0, fclose(file));
	EXPECT_STREQ("", COMPLAINTS("run", "many.js"));
	for (int i = 0; i < 1000; i += 10) {
		char *name = support_format("m%d.js", i);

		rewrite(name, "export default 12\n");
		free(name);
	}
	EXPECT_NE(NULL, strstr(COMPLAINTS("run", "many.js"), " and 95 more changed since"))
	{
		TH_LOG("%s", self->program.errors);
	}
	EXPECT_EQ(2, lines(self->program.errors)); /* and that it has finished */
}

TEST_F(changed, what_is_gone_is_not_missed)
{
	ASSERT_EQ(0, unlink("lib/a.js"));
	ASSERT_EQ(0, unlink("node_modules/pkg/index.js"));
	EXPECT_STREQ("", COMPLAINTS("run", "app.js"));
	EXPECT_NE(NULL, strstr(COMPLAINTS("run", "-v", "app.js"), "lib/a.js is not there"));
	/* Nor is what is no file opened: it might never end. */
	ASSERT_EQ(0, mkfifo("lib/a.js", 0600));
	EXPECT_STREQ("", COMPLAINTS("run", "app.js"));
}

/* By a program that had been restored, and what is loaded by the shell. */
TEST_F(changed, those_that_were_loaded_later_count_too)
{
	EXPECT_STREQ("", COMPLAINTS("run", "app.js"));
	EXPECT_STREQ("3\n", self->program.output);
	rewrite("late.js", "export default 12\n");
	EXPECT_NE(NULL, strstr(COMPLAINTS("run", "app.js"), "thaw: late.js changed"));
	EXPECT_STREQ("3\n", self->program.output);
	program_free(&self->program);
	ASSERT_EQ(0, program_run(&self->program, "await import('./lib/a.js'); 1\n",
				 THAW("repl", "shell.thaw")));
	program_free(&self->program);
	rewrite("lib/a.js", "export default 12\n");
	ASSERT_EQ(0, program_run(&self->program, "1\n", THAW("repl", "shell.thaw")));
	EXPECT_NE(NULL, strstr(self->program.errors, "lib/a.js changed since"));
}

/* A directory for each release, and a link that leads to the one in use. */
TEST_F(changed, in_a_copy_that_has_taken_their_place_too)
{
	char *first = support_format("%s/first", self->directory);
	char *second = support_format("%s/second", self->directory);

	for (int release = 0; release < 2; release++) {
		const char *directory = release ? second : first;

		ASSERT_EQ(0, mkdir(directory, 0755));
		ASSERT_EQ(0, chdir(directory));
		support_write("lib.js", "export default 1\n");
		support_write("app.js", "import n from './lib.js'; console.log(n)\n");
	}
	ASSERT_EQ(0, chdir(self->directory));
	ASSERT_EQ(0, symlink("first", "current"));
	EXPECT_STREQ("", COMPLAINTS("run", "-i", "app.thaw.now", "current/app.js"));
	ASSERT_EQ(0, unlink("current"));
	ASSERT_EQ(0, symlink("second", "current"));
	EXPECT_EQ(NULL,
		  strstr(COMPLAINTS("run", "-i", "app.thaw.now", "current/app.js"), "changed"));
	rewrite("second/lib.js", "export default 2\n");
	EXPECT_NE(NULL, strstr(COMPLAINTS("run", "-i", "app.thaw.now", "current/app.js"),
			       "thaw: lib.js changed since"))
	{
		TH_LOG("%s", self->program.errors);
	}
	free(first);
	free(second);
}

/* It is not in the heap, and what it is by the next import is what will be loaded. */
TEST_F(changed, what_did_not_compile_is_not_remembered)
{
	support_write("broken.js", "export default (");
	support_write("try.js",
		      "import { on } from 'thaw'\n"
		      "const load = () => import('./broken.js').then(m => m.default, e => e.name)\n"
		      "on('restore', async () => console.log(await load()))\n"
		      "console.log(await load())\n");
	EXPECT_STREQ("", COMPLAINTS("run", "try.js"));
	EXPECT_STREQ("SyntaxError\n", self->program.output);
	rewrite("broken.js", "export default 'mended'");
	EXPECT_STREQ("", COMPLAINTS("run", "try.js"));
	EXPECT_STREQ("mended\n", self->program.output);
}

/* ---- What a stranger's image may say ---- */

FIXTURE(list)
{
	struct thaw *heap;
	struct js_engine *engine;
};
FIXTURE_SETUP(list)
{
	const struct thaw_options options = {.max_bytes = JS_HEAP_MAX_BYTES,
					     .guard_bytes = JS_HEAP_GUARD_BYTES,
					     .engine = js_engine_identity};
	static const struct js_host_binding bindings[] = {{NULL, NULL}};
	const struct js_host host = {.bindings = bindings};
	struct thaw_error error = {0};

	ASSERT_EQ(0, thaw_open(&options, &self->heap, &error));
	ASSERT_EQ(0, js_engine_create(self->heap, &host, &self->engine, &error));
}
FIXTURE_TEARDOWN(list)
{
	js_engine_free(self->engine);
	thaw_close(self->heap);
}

static void count(void *arg, const struct js_source *source)
{
	unsigned *counted = arg;

	if (source->path[0] == '/' && source->bytes == 7)
		++*counted;
}

static void remember(struct js_engine *engine, unsigned number)
{
	char *path = support_format("/module-%u.js", number);

	js_source_remember(engine, &(struct js_source){path, 7, 8, {9}});
	free(path);
}

TEST_F(list, holds_what_it_was_given)
{
	unsigned counted = 0;
	uint32_t mark;

	EXPECT_EQ(0, js_sources(self->engine, count, &counted));
	EXPECT_EQ(0, counted);
	for (unsigned i = 0; i < 500; i++)
		remember(self->engine, i);
	remember(self->engine, 3); /* again, and as it was */
	EXPECT_EQ(0, js_sources(self->engine, count, &counted));
	EXPECT_EQ(500, counted);
	mark = sources_mark(self->engine);
	remember(self->engine, 501);
	sources_forget(self->engine, mark);
	counted = 0;
	EXPECT_EQ(0, js_sources(self->engine, count, &counted));
	EXPECT_EQ(500, counted);
}

TEST_F(list, that_cannot_be_is_refused)
{
	struct heap_note *note = vm_at(self->engine, self->engine->note), before;
	static const uint32_t numbers[] = {1,	       16,	   4096,      0x7fffffff,
					   0x80000000, 0xfffffff0, UINT32_MAX};
	const unsigned count_of = sizeof(numbers) / sizeof(numbers[0]);
	unsigned counted = 0, seed = 1;
	uint8_t *block;

	for (unsigned i = 0; i < 3; i++)
		remember(self->engine, i);
	before = *note;
	for (unsigned i = 0; i < count_of * count_of * count_of; i++) {
		note->sources = numbers[i % count_of];
		note->sources_used = numbers[i / count_of % count_of];
		note->sources_room = numbers[i / count_of / count_of];
		(void)js_sources(self->engine, count, &counted);
	}
	*note = before;
	/* Whatever stands in the block, it is read to its end at most. */
	block = vm_at(self->engine, note->sources);
	for (unsigned round = 0; round < 2000; round++) {
		unsigned at = (seed = seed * 1103515245 + 12345) >> 8;
		uint8_t was = block[at % note->sources_used];

		block[at % note->sources_used] = (uint8_t)(seed >> 16);
		(void)js_sources(self->engine, count, &counted);
		block[at % note->sources_used] = was;
	}
	counted = 0;
	EXPECT_EQ(0, js_sources(self->engine, count, &counted));
	EXPECT_EQ(3, counted);
	note->sources_used = 35;
	EXPECT_EQ(THAW_EDAMAGED, js_sources(self->engine, count, &counted));
	/* And another is begun where that is no list. */
	note->sources_room = UINT32_MAX;
	remember(self->engine, 9);
	counted = 0;
	EXPECT_EQ(0, js_sources(self->engine, count, &counted));
	EXPECT_EQ(1, counted);
}

TEST_HARNESS_MAIN
