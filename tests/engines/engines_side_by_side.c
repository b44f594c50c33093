// SPDX-License-Identifier: GPL-2.0-only
/*
 * engines_side_by_side.c - an image of an engine from before is gone on with by the program of now, through the shared
 * object of that engine: and only through one that nobody else could have put there, and that is what it is called.
 * BEFORE is a program like Thaw's whose engine has another name; its object lies beside it.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "shell_line.h"

#define BEFORE ENGINES_ROOM "/thaw"
#define OBJECTS ENGINES_ROOM "/engines"

static const char script[] = "import { checkpoint } from 'thaw'\n"
			     "let n = 0\n"
			     "function count() { return ++n }\n"
			     "console.log('run', count()); globalThis.count = count\n"
			     "setTimeout(() => console.log('later', count()), 0)\n";

FIXTURE(engines)
{
	char *directory;
	struct program program;
};
FIXTURE_SETUP(engines)
{
	self->directory = support_directory();
	ASSERT_EQ(0, chdir(self->directory));
	support_write("a.js", script);
	SHELL(0,
	      "umask 022; unset THAW_ENGINES; mkdir mine; cp '%s'/*.so mine/; '%s' run --every 0 a.js",
	      OBJECTS, BEFORE);
	ASSERT_STREQ("run 1\nlater 2\n", self->program.output);
}
FIXTURE_TEARDOWN(engines)
{
	ASSERT_EQ(0, chdir("/"));
	program_free(&self->program);
	support_remove(self->directory);
}

/* Asked three times, it counts on, and each answer is from a generation of the one before. */
TEST_F(engines, an_image_from_before_goes_on)
{
	SHELL(0,
	      "export THAW_ENGINES='%s'; for i in 1 2 3; do '%s' repl -i a.thaw <<'.'\ncount()\n.\ndone",
	      OBJECTS, THAW_BINARY);
	EXPECT_STREQ("3\n4\n5\n", self->program.output);
	EXPECT_NE(NULL, strstr(self->program.errors, "going on with " OBJECTS))
	TH_LOG("%s", self->program.errors);
	/* It has stayed one of that engine, which goes on with it. */
	SHELL(0, "'%s' -p 'count()' -i a.thaw", BEFORE);
	EXPECT_STREQ("6\n", self->program.output);
	EXPECT_STREQ("", self->program.errors);
}

/* And with --quiet nothing is said. */
TEST_F(engines, what_begins_anew_is_of_the_built_in_engine)
{
	SHELL(76, "THAW_ENGINES='%s' '%s' run --fresh a.js", OBJECTS, THAW_BINARY);
	EXPECT_NE(NULL, strstr(self->program.errors, "name another image"));
	SHELL(0,
	      "export THAW_ENGINES='%s'; '%s' run -q a.js; rm a.thaw; '%s' run --every 0 a.js; '%s' inspect a.thaw",
	      OBJECTS, THAW_BINARY, THAW_BINARY, THAW_BINARY);
	EXPECT_NE(NULL, strstr(self->program.output, "engine       js-1 quickjs-wasi"));
	EXPECT_STREQ("", self->program.errors);
}

TEST_F(engines, it_is_upgraded)
{
	SHELL(0,
	      "sed -i 's/later/LATER/' a.js; THAW_ENGINES='%s' '%s' upgrade --force a.thaw && '%s' -p 'typeof count' -i a.thaw",
	      OBJECTS, THAW_BINARY, BEFORE);
	EXPECT_STREQ("function\n", strrchr(self->program.output, 'f'))
	TH_LOG("%s", self->program.output);
}

/* What its table does not have is refused, and all else works. */
TEST_F(engines, an_older_table_has_what_it_had)
{
	SHELL(0,
	      "umask 022; cp '" ENGINES_ROOM
	      "/older.so' mine/*.so; export THAW_ENGINES=$PWD/mine; '%s' repl -i a.thaw <<'.'\ncount()\n.\n",
	      THAW_BINARY);
	EXPECT_STREQ("3\n", self->program.output);
	SHELL(9, "echo >>a.js; THAW_ENGINES=$PWD/mine '%s' upgrade a.thaw", THAW_BINARY);
	EXPECT_NE(NULL, strstr(self->program.errors, "cannot replace code"))
	TH_LOG("%s", self->program.errors);
}

static void expect_refused(struct __test_metadata *_metadata, struct program *program,
			   const char *what)
{
	EXPECT_NE(NULL, strstr(program->errors, what)) TH_LOG("%s", program->errors);
	EXPECT_NE(NULL, strstr(program->errors, "a.thaw: an image of engine 'js-1 before'"));
	/* One line. */
	EXPECT_EQ(program->errors + strlen(program->errors) - 1, strchr(program->errors, '\n'))
	TH_LOG("%s", program->errors);
	EXPECT_STREQ("", program->output);
}

#define REFUSED(what, prepare)                                                            \
	do {                                                                              \
		SHELL(76, "umask 022; " prepare "; THAW_ENGINES=$PWD/mine '%s' run a.js", \
		      THAW_BINARY);                                                       \
		expect_refused(_metadata, &self->program, what);                          \
	} while (0)

TEST_F(engines, without_the_object_it_says_what_to_install)
{
	REFUSED("install the Thaw that made it", "rm mine/*");
	SHELL(76, "env -u THAW_ENGINES '%s' run a.js", THAW_BINARY);
	expect_refused(_metadata, &self->program, "/engines/");
	SHELL(76, "THAW_ENGINES=mine '%s' run a.js", THAW_BINARY);
	expect_refused(_metadata, &self->program, "absolute path");
}

TEST_F(engines, what_others_may_have_written_is_not_loaded)
{
	REFUSED("others than root", "chmod 777 mine");
	REFUSED("only root or this user", "chmod 755 mine; chmod 664 mine/*");
	REFUSED("symbolic link",
		"chmod 644 mine/*; mv mine/*.so object; ln -s $PWD/object mine/$(basename '" OBJECTS
		"'/*.so)");
	REFUSED("only root or this user", "rm mine/*; mkdir mine/$(basename '" OBJECTS "'/*.so)");
}

TEST_F(engines, what_is_no_engine_or_another_is_not_gone_on_with)
{
	REFUSED("is damaged", "truncate -s 100000 mine/*");
	REFUSED("is engine 'js-1 quickjs", "cp \"$(dirname '" THAW_BINARY
					   "')\"/engines/*.so mine/$(basename '" OBJECTS "'/*.so)");
	REFUSED("interface",
		"cp '" ENGINES_ROOM "'/other_abi.so mine/$(basename '" OBJECTS "'/*.so)");
	REFUSED("newer program",
		"cp '" ENGINES_ROOM "'/newer.so mine/$(basename '" OBJECTS "'/*.so)");
	/* It was left as it is. */
	SHELL(0, "'%s' -p 'count()' -i a.thaw", BEFORE);
	EXPECT_STREQ("3\n", self->program.output);
}

TEST_HARNESS_MAIN
