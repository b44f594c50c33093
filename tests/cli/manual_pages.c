// SPDX-License-Identifier: GPL-2.0-only
/*
 * The manual: each command has a page, which mandoc and groff read without a warning, with the options and examples of
 * its --help; `thaw help COMMAND` shows it. What stands behind a `$` in a page can be typed, and answers as the page says;
 * so do the examples of each command.
 */
#define _GNU_SOURCE
#include <dirent.h>

#include "kselftest_harness.h"

#include "shell_line.h"
#include "store/store_server.h"
#include "transcript.h"

FIXTURE(manual)
{
	char *directory;
	struct program program;
};
FIXTURE_SETUP(manual)
{
	self->directory = support_directory();
	unsetenv("MANPAGER");
	setenv("MANWIDTH", "100", 1);
}
FIXTURE_TEARDOWN(manual)
{
	program_free(&self->program);
	support_remove(self->directory);
}

#define SAYS(text) \
	EXPECT_NE(NULL, strstr(self->program.output, text)) TH_LOG("%s", self->program.output)

static bool is_here(const char *command)
{
	char *line = support_format("command -v %s >/dev/null", command);
	struct program program;
	bool here = !program_run(&program, NULL, (const char *[]){"/bin/sh", "-c", line, NULL});

	program_free(&program);
	free(line);
	return here;
}

TEST_F(manual, pages_are_read_without_a_warning)
{
	SHELL(0,
	      "'%s' help --write '%s' && mkdir '%s/man3' && cd '%s/uffd' && "
	      "awk -f manual.awk thaw.h thaw_image.h thaw_process.h thaw_frozen.h thaw_mirror.h thaw_fill.h thaw.3 >'%s/man3/thaw.3' && "
	      "awk -f manual.awk ../vm/embed/thaw_vm.h ../vm/embed/thaw_vm.3 >'%s/man3/thaw_vm.3'",
	      support_thaw(), self->directory, self->directory, THAW_SOURCE, self->directory,
	      self->directory);
	EXPECT_STREQ("", self->program.output);
	if (is_here("mandoc")) {
		SHELL(0, "cd '%s' && mandoc -T lint -W warning man*/* 2>&1", self->directory);
		EXPECT_STREQ("", self->program.output);
	}
	if (is_here("groff")) {
		SHELL(0,
		      "cd '%s' && for p in man*/*; do groff -Kutf8 -mdoc -ww -z -Tutf8 $p 2>&1; done",
		      self->directory);
		EXPECT_STREQ("", self->program.output);
	}
}

/* Every command of --help has a page, and every page a command; each option of --help is in it. */
TEST_F(manual, each_command_has_a_page_with_its_options)
{
	SHELL(0, "'%s' help --write '%s'", support_thaw(), self->directory);
	SHELL(0,
	      "cd '%s/man1' && for c in $('%s' --help | sed -n '/^ *-e CODE/q; s/^  \\([a-z][a-z]*\\)  .*/\\1/p') eval; do "
	      "p=thaw-$c.1; [ -s $p ] || echo no page $p; "
	      "grep -q \"^[.]It Xr thaw..$c 1\\$\" thaw.1 || echo thaw.1 lacks $c; "
	      "for o in $('%s' $c --help 2>&1 | sed -n '/^examples:/q; s/^  .*--\\([a-z-]*\\)  *.*/\\1/p'); do "
	      "grep -qe \"Fl ..$o\\b\" $p || echo $p lacks --$o; done; done",
	      self->directory, support_thaw(), support_thaw());
	EXPECT_STREQ("", self->program.output);
}

/* By man(1), whose output is not formatted where no terminal is. Without it, what --help prints. */
TEST_F(manual, help_shows_the_page)
{
	SHELL(0, "'%s' help log", support_thaw());
	SAYS("--time");
	if (is_here("man") && is_here("groff"))
		SAYS("THAW-LOG(1)");
	SHELL(0, "'%s' help --roff concepts", support_thaw());
	SAYS(".Dt THAW 7\n");
	SHELL(0, "PATH=/nowhere '%s' help log", support_thaw());
	SAYS("usage: thaw log [options] IMAGE|PLACE\n");
	SHELL(9, "'%s' help lgo", support_thaw());
	EXPECT_STREQ("thaw: unknown command 'lgo' (did you mean log?); see thaw --help\n",
		     self->program.errors);
	SHELL(74, "'%s' help --write '%s/nowhere'", support_thaw(), self->directory);
}

/* ---- What can be typed ---- */

/* The displays of a page, without what roff needs. */
static void page_read(struct tour *tour, const char *path)
{
	FILE *page = fopen(path, "re");
	bool display = false, typed = false, here = false;
	char *line = NULL;
	size_t room = 0;

	while (page && getline(&line, &room, page) > 0) {
		char *to = line;

		line[strcspn(line, "\n")] = '\0';
		if (!strncmp(line, ".Bd", 3) || !strncmp(line, ".Ed", 3)) {
			display = line[1] == 'B';
			typed = false;
			continue;
		}
		for (const char *from = line; *from; from++) {
			if (*from == '\\' && from[1] == '&')
				from++;
			else if (*from == '\\' && from[1] == 'e')
				*to++ = *from++;
			else
				*to++ = *from;
		}
		*to = '\0';
		/* A display without a "$" is no transcript. */
		typed |= display && !strncmp(line, "$ ", 2);
		if (typed)
			tour_line(tour, line, &here);
	}
	free(line);
	if (page)
		fclose(page);
}

static char *type_all(struct tour *tour, const char *directory, struct program *program)
{
	char *script = tour_script(tour), *line;

	line = support_format(
		"cd '%s' && PATH=$PWD/bin:$PWD/build:$PATH HOME=$PWD/home TMPDIR=$PWD exec bash -c \"$0\" 2>&1",
		directory);
	program_free(program);
	program_run(program, NULL, (const char *[]){"/bin/bash", "-c", line, script, NULL});
	free(line);
	free(script);
	return tour_differs(tour, program->output);
}

TEST_F(manual, what_stands_in_the_pages_can_be_typed)
{
	unsigned typed = 0;
	DIR *pages = opendir(THAW_SOURCE "/vm/cli/manual");

	if (!pages || access("/bin/bash", X_OK) || access("/usr/bin/cc", X_OK)) {
		if (pages)
			closedir(pages);
		SKIP(return, "the sources, bash or a compiler is not here");
	}
	checkout(self->directory);
	for (struct dirent *entry; (entry = readdir(pages));) {
		char *path = support_format(THAW_SOURCE "/vm/cli/manual/%s", entry->d_name), *why;
		struct tour tour = {0};

		page_read(&tour, path);
		typed += tour.count;
		why = tour.count ? type_all(&tour, self->directory, &self->program) : NULL;
		EXPECT_EQ(NULL, why) TH_LOG("%s: %s", entry->d_name, why);
		free(why);
		tour_free(&tour);
		free(path);
	}
	closedir(pages);
	EXPECT_LE(8, typed);
}

/*
 * A directory in which every example of every command can be typed: an image with the generations and names that they
 * speak of, programs that end when the file `stop` is there, and stand-ins for commands that are elsewhere.
 */
static const char prepare[] =
	"set -e; mkdir bin home backup; for c in scp jq less redis-server python3; do\n"
	"printf '#!/bin/sh\\ncat >/dev/null\\n' >bin/$c; done; chmod 755 bin/*; touch stop train.py in.csv smoke.js\n"
	"cat >app.js <<'END'\n"
	"import { checkpoint, generation } from 'thaw'\n"
	"globalThis.state = new Map()\n"
	"if (!generation) for (let i = 0; i < 44; i++) { state.set(i, i); await checkpoint({ name: 'n' + i }) }\n"
	"END\n"
	"cat >server.js <<'END'\n"
	"setInterval(() => { if (require('fs').existsSync('stop')) process.exit(0) }, 20)\n"
	"END\n"
	"thaw run --every 0 --retain 60 app.js; thaw tag app.thaw before-migration 40\n"
	"thaw tag app.thaw before-import 40; thaw tag app.thaw good 41\n"
	"cp app.thaw there.thaw; thaw push there.thaw s3://test/app; rm there.thaw*\n"
	"set +e\n"
	"running() { rm -f stop; thaw exec --every 20ms node server.js >/dev/null 2>&1 & server=$!\n"
	"	until thaw checkpoint server.thaw 2>/dev/null; do kill -0 $server || return; done; }\n"
	"killed() { running; kill -9 $server; wait $server; touch stop; }\n"
	"echo 'globalThis.orders = new Map(); setInterval(() => {}, 1000)' >orders.js\n"
	"serving() { thaw run --every 0 orders.js >/dev/null 2>&1 & server=$!\n"
	"	until thaw ctl orders.thaw status 2>/dev/null; do kill -0 $server || return; done; }\n"
	"ended() { touch stop; [ ! -e orders.thaw ] || thaw ctl orders.thaw stop >/dev/null 2>&1; wait; }\n";

/* What an example needs besides: how it begins, what comes before it, a word in it and what stands for that here. */
static const struct {
	const char *begins, *before, *word, *instead;
} needs[] = {
	{"thaw exec --at 41", "killed", "41", "1"},
	{"thaw checkpoint", "running", NULL, NULL},
	{"thaw ctl", "serving", NULL, NULL},
	{"thaw tag app.thaw before-migration", "thaw tag -d before-migration app.thaw", NULL, NULL},
	{"thaw rollback app.thaw before-upgrade", "thaw tag app.thaw before-upgrade", NULL, NULL},
	{"thaw verify app.thaw && thaw clone", "true", "/backup", "backup"},
	{"echo 'a' | thaw repl", "echo 'a = 1' | thaw repl x.thaw", NULL, NULL},
	{"thaw key --file", "thaw compact --encrypt app.thaw", NULL, NULL},
	{"thaw key app.thaw remove",
	 "thaw compact --encrypt app.thaw; thaw key --file ./spare app.thaw add", NULL, NULL},
	{"thaw key app.thaw rotate", "thaw compact --encrypt app.thaw", NULL, NULL},
	{"THAW_IMAGE_KEY=./spare",
	 "thaw compact --encrypt app.thaw; thaw key --file ./spare app.thaw add; thaw key app.thaw remove 0",
	 NULL, NULL},
	{"thaw top --json", "true", "10", "1"},
	{"thaw push", "true", "images/app", "test/other"},
	{"thaw pull s3://images/app old.thaw", "true", "images", "test"},
	{"thaw pull", "rm app.thaw", "images", "test"},
	{"thaw run --image s3:", "true", "images", "test"},
	{"thaw check s3:", "true", "images", "test"},
};

/* Does the example need a guest, which a program with a sanitizer cannot be? */
static bool needs_guest(const char *example)
{
#ifdef __SANITIZE_ADDRESS__
	return strstr(example, "thaw exec") || strstr(example, "thaw checkpoint");
#else
	(void)example;
	return false;
#endif
}

/* As a line of the script: prints what it said, and a mark if it failed. */
static void add_example(char **script, const char *example)
{
	const char *word = NULL;
	char *line;
	size_t need = 0;

	while (need < sizeof(needs) / sizeof(*needs) &&
	       strncmp(example, needs[need].begins, strlen(needs[need].begins)) != 0)
		need++;
	if (need < sizeof(needs) / sizeof(*needs) && needs[need].word)
		word = strstr(example, needs[need].word);
	line = support_format(
		"rm -rf try; cp -r model try; cd try; PATH=$PWD/bin:$PATH HOME=$PWD/home; { %s; } >/dev/null 2>&1\n"
		"cat >line <<'EXAMPLE'\n%.*s%s%s\nEXAMPLE\n"
		". ./line >out 2>&1 </dev/null || { echo \"exit code $?\"; cat line out; }; ended; cd ..",
		need < sizeof(needs) / sizeof(*needs) ? needs[need].before : "true",
		(int)(word ? (size_t)(word - example) : strlen(example)), example,
		word ? needs[need].instead : "", word ? word + strlen(needs[need].word) : "");
	append(script, line);
	free(line);
}

/* The lines below "examples:" of a help, without what they are for. */
static unsigned add_examples(char **script, char *help)
{
	char *rest = strstr(help, "\nexamples:\n"), *line;
	unsigned count = 0;

	if (!rest)
		return 0;
	strsep(&rest, "\n");
	strsep(&rest, "\n");
	while ((line = strsep(&rest, "\n"))) {
		char *end = strlen(line) > 2 ? strstr(line + 2, "  ") : NULL;

		if (strncmp(line, "  ", 2))
			continue;
		if (end)
			*end = '\0';
		if (needs_guest(line + 2))
			continue;
		add_example(script, line + 2);
		count++;
	}
	return count;
}

TEST_F(manual, examples_of_every_command_can_be_typed)
{
	char *script = NULL, *line, *commands, *rest, *command;
	struct store_server store;
	unsigned examples = 0;

	if (access("/bin/bash", X_OK) || access("/usr/bin/cc", X_OK) || !is_here("node"))
		SKIP(return, "bash, a compiler or node is not here");
	checkout(self->directory);
	unsetenv("THAW_TEST_STORE");
	store_server_begin(&store);
	SHELL(0, "'%s' --help | sed -n '/^ *-e CODE/q; s/^  \\([a-z][a-z]*\\)  .*/\\1/p'",
	      support_thaw());
	commands = support_format("%seval\n", self->program.output);
	line = support_format(
		"mkdir model; cd model; trap 'cat ../made' EXIT; {\n%s} >../made 2>&1; trap - EXIT; cd ..",
		prepare);
	append(&script, line);
	free(line);
	rest = commands;
	while ((command = strsep(&rest, "\n")) && *command) {
		unsigned count;

		SHELL(0, "'%s' %s --help", support_thaw(), command);
		count = add_examples(&script, self->program.output);
		EXPECT_LT(0, count + needs_guest("thaw exec"))
		TH_LOG("%s has no examples", command);
		examples += count;
	}
	free(commands);
	EXPECT_LE(50, examples);
	line = support_format(
		"cd '%s' && PATH=$PWD/bin:$PWD/build:$PATH HOME=$PWD/home TMPDIR=$PWD exec bash -c \"$0\" 2>&1",
		self->directory);
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL,
				 (const char *[]){"/bin/bash", "-c", line, script, NULL}));
	EXPECT_STREQ("", self->program.output);
	store_server_end(&store);
	free(line);
	free(script);
}

TEST_HARNESS_MAIN
