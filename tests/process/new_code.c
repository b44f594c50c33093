// SPDX-License-Identifier: GPL-2.0-only
/*
 * A process that is continued runs the code in its memory; what thaw help exec shows loads new code for the old state. The
 * program of this test is the one in the manual.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

/* The example in the section, with the module where the build has it. malloc'ed. */
static char *example(void)
{
	static char manual[100000];
	FILE *file = fopen(THAW_SOURCE "/vm/cli/manual/exec.mdoc", "re");
	const char *section, *begin, *end;
	char *module;

	if (!file)
		support_die("exec.mdoc");
	manual[fread(manual, 1, sizeof(manual) - 1, file)] = '\0';
	fclose(file);
	section = strstr(manual, ".Ss New code\n");
	begin = section ? strstr(section, "const { on }") : NULL;
	end = begin ? strstr(begin, ".Ed\n") : NULL;
	module = begin ? strstr(begin, "/usr/local/lib/thaw/node") : NULL;
	if (!end || !module || module > end)
		support_die("the example in exec.mdoc");
	return support_format("%.*s./thaw%.*s", (int)(module - begin), begin,
			      (int)(end - module - (long)strlen("/usr/local/lib/thaw/node")),
			      module + strlen("/usr/local/lib/thaw/node"));
}

TEST(what_the_manual_shows_loads_new_code)
{
	char *directory = support_directory(), *program_text = example(), *command, *key;
	struct program program;

	if (system("command -v node > /dev/null"))
		SKIP(return, "there is no node here");
	ASSERT_EQ(0, chdir(directory));
	key = support_format("%s/key", directory);
	setenv("THAW_KEY", key, 1);
	command = support_format(
		"mkdir thaw && cp %s/vm/process/modules/node/index.js %.*s/vm/process/modules/node/thaw.node thaw",
		THAW_SOURCE, (int)(strlen(THAW_BINARY) - strlen("/thaw")), THAW_BINARY);
	ASSERT_EQ(0, system(command));
	support_write("server.js", program_text);
	support_write("visit.js", "module.exports = s => `old ${++s.visits} ${s.greeting}`\n");
	support_write("greeting.mjs", "export const greeting = 'hello'\n");
	program = program_start(THAW("exec", "--every", "20ms", "node", "server.js"));
	ASSERT_TRUE(program_wait_for(&program, "old 3 undefined\n", 60))
	{
		TH_LOG("%s", program.errors);
	}
	/* A generation has what it has said. */
	ASSERT_TRUE(program_wait_for(&program, "old 20 undefined\n", 60));
	program_kill(&program);
	program_free(&program);
	support_write("visit.js", "module.exports = s => `new ${++s.visits} ${s.greeting}`\n");
	program = program_start(THAW("exec", "-q", "node", "server.js"));
	ASSERT_TRUE(program_wait_for(&program, "hello\n", 60))
	{
		TH_LOG("%s%s", program.output, program.errors);
	}
	EXPECT_NE(NULL, strstr(program.output, "new "));
	EXPECT_EQ(NULL, strstr(program.output, "new 1 "));
	EXPECT_EQ(NULL, strstr(program.output, "old 1 "));
	program_kill(&program);
	program_free(&program);
	free(program_text);
	free(command);
	free(key);
	support_remove(directory);
}

TEST_HARNESS_MAIN
