// SPDX-License-Identifier: GPL-2.0-only
/*
 * What Tab completes: commands, options, their values, images, and the generations in an image, in bash as it calls a
 * completion, and in zsh and fish where they are installed.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

FIXTURE(completion)
{
	char *directory;
	struct program program;
};
FIXTURE_SETUP(completion)
{
	char *image;

	self->directory = support_directory();
	image = support_format("%s/notes.thaw", self->directory);
	if (program_run(&self->program, "a = 1\n", THAW("repl", image)))
		support_die(self->program.errors);
	for (const char *const *name = (const char *const[]){"before", "rel:1", "rel:2", NULL};
	     *name; name++) {
		program_free(&self->program);
		if (program_run(&self->program, NULL, THAW("tag", image, *name)))
			support_die(self->program.errors);
	}
	free(image);
	image = support_format("%s/app.js", self->directory);
	support_write(image, "");
	free(image);
}
FIXTURE_TEARDOWN(completion)
{
	program_free(&self->program);
	support_remove(self->directory);
}

/*
 * What bash offers for words, which are pieces as bash takes them apart: one a line. `path` is where commands are.
 */
static const char bash_asks[] =
	"cd \"$1\" && thaw=$2 && shift 2 && source <(\"$thaw\" completion bash) || exit 9\n"
	"COMP_WORDS=(\"$thaw\" \"$@\") COMP_CWORD=$#\n"
	"_thaw && printf '%s\\n' \"${COMPREPLY[@]}\"\n";

#define OFFERS(words, ...)                                                                      \
	do {                                                                                    \
		program_free(&self->program);                                                   \
		ASSERT_EQ(0, program_run(&self->program, NULL,                                  \
					 (const char *const[]){"bash", "-c", bash_asks, "bash", \
							       self->directory, support_thaw(), \
							       __VA_ARGS__, NULL}))             \
		TH_LOG("%s", self->program.errors);                                             \
		EXPECT_STREQ(words, self->program.output);                                      \
	} while (0)
#define OFFERED(word) \
	EXPECT_NE(NULL, strstr(self->program.output, word)) TH_LOG("%s", self->program.output)
#define NOT_OFFERED(word) \
	EXPECT_EQ(NULL, strstr(self->program.output, word)) TH_LOG("%s", self->program.output)

TEST_F(completion, bash_completes_commands_and_options)
{
	OFFERS("verify\n", "ve");
	OFFERS("--prefetch\n", "run", "--pre");
	OFFERS("\n", "run", "--nothing");
	OFFERS("working-set\n", "run", "--prefetch", "w");
	OFFERS("working-set\n", "run", "--prefetch", "=", "w");
	OFFERS("none\nworking-set\nall\n", "run", "--prefetch", "=");
	OFFERS("rollback\n", "exec", "--files", "r");
	OFFERS("pause\n", "top", "--sort", "pau");
	OFFERS("bash\n", "completion", "b");
	OFFERS("concepts\n", "help", "conc");
	OFFERS("--once\n", "top", "--on");
	OFFERS("status\nstop\n", "ctl", "notes.thaw", "st");
	OFFERS("upgrade\n", "ctl", "--json", "notes.thaw", "upg");
	OFFERS("app.js\n", "ctl", "--check", "");
	/* A program's options are its own. */
	OFFERS("\n", "run", "app.js", "--ev");
	OFFERS("\n", "unknown", "--ev");
}

TEST_F(completion, bash_completes_images_and_generations)
{
	OFFERS("notes.thaw\n", "log", "n");
	OFFERS("app.js\n", "run", "");
	OFFERS("notes.thaw\n", "-i", "");
	OFFERS("before\n", "rollback", "notes.thaw", "b");
	OFFERS("before\n", "map", "notes.thaw", "--at", "b");
	OFFERS("before\n", "-i", "notes.thaw", "--at", "=", "b");
	OFFERS("notes.thaw\n", "run", "--fork-of", "");
	OFFERS("before\n", "run", "--fork-of", "notes.thaw", "--at", "b");
	OFFERS("1\n", "diff", "notes.thaw", "before", "1");
	OFFERS("before\n", "tag", "notes.thaw", "-d", "b");
	OFFERS("\n", "rollback", "nothing.thaw", "b");
	/* Bash replaces what is behind the colon. */
	OFFERS("1\n2\n", "rollback", "notes.thaw", "rel", ":");
	OFFERS("2\n", "rollback", "notes.thaw", "rel", ":", "2");
	OFFERS("rel:1\nrel:2\n", "rollback", "notes.thaw", "rel");
}

TEST_F(completion, bash_completes_the_command_that_thaw_runs)
{
	OFFERS("mkfifo\n", "exec", "--every", "1s", "mkfif");
	OFFERS("notes.thaw\n", "exec", "cat", "not");
}

TEST_F(completion, what_is_asked_is_answered_with_what_it_means)
{
	ASSERT_EQ(0, program_run(&self->program, NULL, THAW("completion", "--words", "--", "ver")));
	EXPECT_STREQ("none\nverify\tread and check every byte of an image\n", self->program.output);
	program_free(&self->program);
	EXPECT_EQ(9, program_run(&self->program, NULL, THAW("completion", "tcsh")));
}

/* $1: the directory, $2: the binary, the others: the line. */
static bool has_shell(const char *shell)
{
	struct program program;
	bool has = !program_run(&program, NULL, (const char *const[]){shell, "-c", "exit 0", NULL});

	program_free(&program);
	return has;
}

TEST_F(completion, fish_completes)
{
	char *script;

	if (!has_shell("fish"))
		SKIP(return, "fish is not installed");
	script = support_format(
		"cd %s; function thaw; %s $argv; end; %s completion fish | source; "
		"complete -C 'thaw veri'; complete -C 'thaw run --prefetch w'; complete -C 'thaw log n'; "
		"complete -C 'thaw rollback notes.thaw bef'; complete -C 'thaw map --at=b'",
		self->directory, support_thaw(), support_thaw());
	program_free(&self->program);
	ASSERT_EQ(0, program_run(&self->program, NULL,
				 (const char *const[]){"fish", "-N", "-c", script, NULL}))
	TH_LOG("%s", self->program.errors);
	OFFERED("verify\t");
	OFFERED("working-set\t");
	OFFERED("notes.thaw");
	OFFERED("before\tgeneration 1");
	NOT_OFFERED("app.js");
	free(script);
}

TEST_F(completion, zsh_reads_its_script)
{
	char *script;

	if (!has_shell("zsh"))
		SKIP(return, "zsh is not installed");
	script = support_format(
		"autoload -U compinit && compinit -D -u && source <(%s completion zsh) && "
		"print ${_comps[thaw]}",
		support_thaw());
	program_free(&self->program);
	ASSERT_EQ(0, program_run(&self->program, NULL,
				 (const char *const[]){"zsh", "-f", "-c", script, NULL}))
	TH_LOG("%s", self->program.errors);
	EXPECT_STREQ("_thaw\n", self->program.output);
	free(script);
}

TEST_HARNESS_MAIN
