// SPDX-License-Identifier: GPL-2.0-only
/*
 * engines_side_by_side.c - an image of an engine from before is gone on with by the program of now, through the shared
 * object of that engine: and only through one that nobody else could have put there, and that is what it is called.
 * BEFORE is a program like Thaw's whose engine has another name; its object lies beside it.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/statvfs.h>

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

/* ... where the object itself says it. */
#define REFUSED_AS(what, prepare)                                                            \
	do {                                                                                 \
		SHELL(76, "umask 022; " prepare "; THAW_ENGINES=$PWD/mine '%s' run -q a.js", \
		      THAW_BINARY);                                                          \
		EXPECT_NE(NULL, strstr(self->program.errors, what))                          \
		TH_LOG("%s", self->program.errors);                                          \
		EXPECT_EQ(self->program.errors + strlen(self->program.errors) - 1,           \
			  strchr(self->program.errors, '\n'));                               \
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
	REFUSED("is damaged", "truncate -s 0 mine/*");
	REFUSED("is damaged",
		"cp '" OBJECTS
		"'/*.so mine/; printf x | dd of=$(echo mine/*) bs=1 seek=1500000 conv=notrunc status=none");
	REFUSED("is engine 'js-1 quickjs", "cp \"$(dirname '" THAW_BINARY
					   "')\"/engines/*.so mine/$(basename '" OBJECTS "'/*.so)");
	REFUSED("interface",
		"cp '" ENGINES_ROOM "'/other_abi.so mine/$(basename '" OBJECTS "'/*.so)");
	REFUSED("newer program",
		"cp '" ENGINES_ROOM "'/newer.so mine/$(basename '" OBJECTS "'/*.so)");
	/* Of the same name, and what it knows of images is another: as no two builds must be. */
	REFUSED_AS("version 99",
		   "cp '" ENGINES_ROOM "'/other_state.so mine/$(basename '" OBJECTS "'/*.so)");
	/* It was left as it is. */
	SHELL(0, "'%s' -p 'count()' -i a.thaw", BEFORE);
	EXPECT_STREQ("3\n", self->program.output);
}

/* Root may be tricked by who starts it, and a user by another one. */
TEST_F(engines, whose_the_object_is)
{
	struct statvfs where;

	if (geteuid())
		SKIP(return, "files of other users are made by root");
	REFUSED("only root or this user", "chown 12345 mine/*");
	REFUSED("others than root", "chown 0 mine/*; chown 12345 mine");
	if (system("setpriv --reuid 12345 --clear-groups test -x '" THAW_BINARY "' -a -r '" OBJECTS
		   "'"))
		return; /* nobody else gets there */
	/* That user itself loads it, and root's. */
	SHELL(0,
	      "chmod 711 .; chown 12345 a.thaw; chown -R 12345 mine; export HOME=$PWD THAW_ENGINES=$PWD/mine; "
	      "for owner in 12345 0; do chown $owner mine mine/*; chmod 700 .; chown 12345 .; "
	      "setpriv --reuid 12345 --clear-groups '%s' -q -i a.thaw -p 'count()'; done",
	      THAW_BINARY);
	EXPECT_STREQ("3\n4\n", self->program.output);
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) || statvfs(".", &where) ||
	    where.f_flag & ST_NOSUID)
		return; /* nothing gets more rights here */
	/* With more rights than who starts it, it does not look where that one says. */
	SHELL(76,
	      "cp '%s' raised; chown 0 . raised; chmod 755 .; chmod 4755 raised; chown 0 a.thaw; export THAW_ENGINES=$PWD/mine; "
	      "setpriv --reuid 12345 --clear-groups $PWD/raised -q -i a.thaw -p 'count()'",
	      THAW_BINARY);
	EXPECT_EQ(NULL, strstr(self->program.errors, "mine/"));
	EXPECT_NE(NULL, strstr(self->program.errors, "there is no"))
	TH_LOG("%s", self->program.errors);
}

/* ---- What is told of engines ---- */

TEST_F(engines, they_are_listed)
{
	SHELL(0, "THAW_ENGINES=$PWD/mine '%s' --version", THAW_BINARY);
	EXPECT_NE(NULL, strstr(self->program.output, "\n  js-1 before: /"))
	TH_LOG("%s", self->program.output);
	SHELL(0, "THAW_ENGINES=$PWD/mine '%s' check", THAW_BINARY);
	EXPECT_NE(NULL, strstr(self->program.output, "\njs-1 before "));
	EXPECT_NE(NULL, strstr(self->program.output, " built in "));
	EXPECT_NE(NULL, strstr(self->program.output, "its images are gone on with"));
	SHELL(0,
	      "umask 022; cd mine; cp '" ENGINES_ROOM
	      "/other_abi.so' 0000000000000000.so; echo nothing >0000000000000001.so; "
	      "cp '" OBJECTS "'/*.so 0000000000000002.so; touch other.so; "
	      "THAW_ENGINES=$PWD '%s' check --json",
	      THAW_BINARY);
	EXPECT_NE(NULL, strstr(self->program.output, "interface 2"));
	EXPECT_NE(NULL, strstr(self->program.output, "0000000000000001.so: is damaged"));
	EXPECT_NE(NULL, strstr(self->program.output, "which is looked for as " BEFORE_HASH ".so"))
	TH_LOG("%s", self->program.output);
	EXPECT_EQ(NULL, strstr(self->program.output, "other.so"));
}

/* What looks into the heap needs the engine built in, and says so; all else works. */
TEST_F(engines, what_each_command_does)
{
	static const char *const alike[] = {
		"eval -q a.thaw n",    "diff --pages a.thaw 1",	  "map a.thaw -o map.svg",
		"log a.thaw",	       "tag a.thaw name 1",	  "verify a.thaw",
		"clone a.thaw b.thaw", "compact a.thaw",	  "repair a.thaw c.thaw",
		"rollback a.thaw 1",   "run -q --fork-of b.thaw",
	};
	static const char *const refused[] = {"export a.thaw", "diff a.thaw 1",
					      "export --format heapsnapshot -o x a.thaw"};

	setenv("THAW_ENGINES", OBJECTS, 1);
	SHELL(0, "'%s' -i a.thaw -p 'globalThis.n = 7'", BEFORE);
	for (unsigned i = 0; i < sizeof(alike) / sizeof(*alike); i++) {
		SHELL(0, "'%s' %s", THAW_BINARY, alike[i]);
		EXPECT_STREQ("", self->program.errors);
	}
	for (unsigned i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
		SHELL(76, "'%s' %s", THAW_BINARY, refused[i]);
		EXPECT_NE(NULL, strstr(self->program.errors, "thaw eval"));
		EXPECT_EQ(self->program.errors + strlen(self->program.errors) - 1,
			  strchr(self->program.errors, '\n'));
	}
	SHELL(0, "'%s' inspect a.thaw", THAW_BINARY);
	EXPECT_NE(NULL, strstr(self->program.output, "js-1 before, from " OBJECTS "/"));
	/* Without the object, each of these says so in one line. */
	unsetenv("THAW_ENGINES");
	SHELL(76, "'%s' eval a.thaw n", THAW_BINARY);
	expect_refused(_metadata, &self->program, "install the Thaw that made it");
	SHELL(76, "'%s' run --fork-of a.thaw", THAW_BINARY);
	expect_refused(_metadata, &self->program, "install the Thaw that made it");
	SHELL(0, "'%s' inspect a.thaw && '%s' map a.thaw -o map.svg", THAW_BINARY, THAW_BINARY);
	EXPECT_NE(NULL, strstr(self->program.output, "with which nothing goes on here"));
}

/* In the middle of a turn only the build that made it goes on; `thaw run` falls back as for any other build. */
TEST_F(engines, in_the_middle_of_a_turn)
{
	struct program *run = &self->program;

	setenv("THAW_KEY", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 1);
	support_write("m.js", "import { checkpoint } from 'thaw'\nawait checkpoint()\n"
			      "for (let i = 0; i < 3e7; i++) if (i === 1e5) console.log('middle')\n"
			      "console.log('end')\n");
	program_free(run);
	*run = program_start((const char *const[]){BEFORE, "run", "--every", "0", "m.js", NULL});
	ASSERT_TRUE(program_wait_for(run, "middle", 60));
	kill(run->pid, SIGTERM);
	ASSERT_EQ(128 + SIGTERM, program_finish(run, 60));
	SHELL(0, "THAW_ENGINES='%s' '%s' run m.js", OBJECTS, THAW_BINARY);
	EXPECT_STREQ("middle\nend\n", self->program.output);
	EXPECT_NE(NULL, strstr(self->program.errors, "only the build that wrote it"))
	TH_LOG("%s", self->program.errors);
}

TEST_HARNESS_MAIN
