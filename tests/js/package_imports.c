// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which file an import means, as node's documentation has it: "exports" and "imports" with conditions and patterns, a
 * package's own name; and what is said, with node's name for it, where there is none. Where node is, the same program
 * is run by it, too, and has to say the same.
 */
#define _GNU_SOURCE

#include "kselftest_harness.h"

#include "support.h"

FIXTURE(packages)
{
	char *directory;
	struct program program;
};

/* With the directories that it needs. */
static void put(const char *path, const char *text)
{
	char *copy = strdup(path);

	for (char *slash = strchr(copy, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		if (mkdir(copy, 0755) && errno != EEXIST)
			support_die(copy);
		*slash = '/';
	}
	support_write(path, text);
	free(copy);
}

/* A module that exports the name of its file. */
static void put_named(const char *path)
{
	char *text = support_format("export default '%s'\n", path);

	put(path, text);
	free(text);
}

FIXTURE_SETUP(packages)
{
	static const char *const modules[] = {"src/internal/deep.js",
					      "src/own.js",
					      "src/other.js",
					      "node_modules/rich/import.js",
					      "node_modules/rich/sync.js",
					      "node_modules/rich/default.js",
					      "node_modules/rich/lib/x.js",
					      "node_modules/rich/lib/y/z.js",
					      "node_modules/rich/lib/special/s.js",
					      "node_modules/rich/private.js",
					      "node_modules/rich/second.js",
					      "node_modules/old/lib/main.js",
					      "node_modules/old/sub.js",
					      "node_modules/bare/index.js",
					      "node_modules/@s/scoped/a.js",
					      "node_modules/events/index.js"};

	self->directory = support_directory();
	ASSERT_EQ(0, chdir(self->directory));
	for (unsigned i = 0; i < sizeof(modules) / sizeof(modules[0]); i++)
		put_named(modules[i]);
	put("package.json",
	    "{ \"name\": \"app\", \"type\": \"module\","
	    "  \"exports\": { \".\": \"./src/own.js\", \"./other\": \"./src/other.js\" },"
	    "  \"imports\": { \"#deep\": \"./src/internal/deep.js\", \"#in/*\": \"./src/internal/*.js\","
	    "    \"#rich\": \"rich\", \"#x\": \"rich/lib/x\", \"#cond\": { \"require\": \"./no.cjs\", \"default\": \"./src/own.js\" },"
	    "    \"#null\": null, \"#out\": \"../out.js\", \"#list\": [\"../bad.js\", \"./src/own.js\"] } }");
	put("node_modules/rich/package.json",
	    "{ \"name\": \"rich\", \"type\": \"module\", \"exports\": {"
	    "  \".\": { \"types\": \"./t.d.ts\", \"require\": \"./no.cjs\", \"import\": \"./import.js\", \"default\": \"./default.js\" },"
	    "  \"./sync\": { \"module-sync\": \"./sync.js\", \"import\": \"./import.js\" },"
	    "  \"./nested\": { \"import\": { \"browser\": \"./no.js\" }, \"default\": \"./default.js\" },"
	    "  \"./lib/*\": \"./lib/*.js\", \"./lib/private/*\": null, \"./lib/special/*\": \"./lib/special/s.js\","
	    "  \"./ext/*.js\": \"./lib/*.js\", \"./twice/*\": \"./lib/*/../*.js\","
	    "  \"./list\": [\"bad\", { \"require\": \"./no.cjs\" }, \"./second.js\"],"
	    "  \"./bad\": \"./../../src/own.js\", \"./gone\": \"./gone.js\" } }");
	put("node_modules/old/package.json",
	    "{ \"main\": \"./lib/main.js\", \"type\": \"module\" }");
	put("node_modules/bare/package.json", "{ \"type\": \"module\" }");
	put("node_modules/events/package.json", "{ \"type\": \"module\" }");
	put("node_modules/broken/package.json", "{ \"exports\": ");
	put("node_modules/thaws/package.json",
	    "{ \"type\": \"module\", \"exports\": { \"thaw\": \"./thaw.js\", \"default\": \"./default.js\" } }");
	put_named("node_modules/thaws/thaw.js");
	put("node_modules/@s/scoped/package.json",
	    "{ \"type\": \"module\", \"exports\": { \"./a\": \"./a.js\" } }");
}
FIXTURE_TEARDOWN(packages)
{
	program_free(&self->program);
	support_remove(self->directory);
}

/* A program that imports each of these, and says what came of it. */
static void put_app(const char *const names[])
{
	char *text = strdup("for (const name of [");

	for (unsigned i = 0; names[i]; i++) {
		char *more = support_format("%s'%s', ", text, names[i]);

		free(text);
		text = more;
	}
	char *all = support_format(
		"%s])\n  await import(name).then(m => console.log(name, m.default), e => console.log(name, e.code))\n",
		text);

	put("app.js", all);
	free(all);
	free(text);
}

TEST_F(packages, the_files_are_those_that_node_takes)
{
	static const char *const names[] = {"#deep",
					    "#in/deep",
					    "#rich",
					    "#x",
					    "#cond",
					    "#null",
					    "#out",
					    "#none",
					    "#list",
					    "#",
					    "app",
					    "app/other",
					    "app/none",
					    "app/src/own.js",
					    "rich",

					    "rich/lib/x",
					    "rich/lib/y/z",
					    "rich/lib/private/p",
					    "rich/lib/special/any",
					    "rich/ext/x.js",
					    "rich/ext/.js",
					    "rich/twice/x",
					    "rich/list",
					    "rich/bad",
					    "rich/gone",
					    "rich/private.js",
					    "rich/lib/",
					    "rich/lib/../private",
					    "rich/nested",
					    "old",
					    "old/sub.js",
					    "old/none.js",
					    "bare",
					    "@s/scoped/a",
					    "@s/scoped",
					    "@s",
					    "@s/scoped/b",
					    "absent",
					    "absent/x",
					    "broken",
					    ".hidden",
					    NULL};
	char *ours;

	put_app(names);
	ASSERT_EQ(0, program_run(&self->program, NULL, THAW("run", "app.js")));
	EXPECT_EQ(0, strncmp(self->program.output, "#deep src/internal/deep.js\n", 27))
	{
		TH_LOG("%s", self->program.output);
	}
	ours = strdup(self->program.output);
	program_free(&self->program);
	const char *node[] = {"node", "app.js", NULL};

	if (program_run(&self->program, NULL, node))
		SKIP(return, "no node to compare with");
	EXPECT_STREQ(self->program.output, ours);
	free(ours);
}

TEST_F(packages, what_is_different_here)
{
	static const char *const names[] = {"thaws",   "rich/sync",   "events", "fs",
					    "node:fs", "fs/promises", NULL};

	put_app(names);
	ASSERT_EQ(0, program_run(&self->program, NULL, THAW("run", "app.js")));
	EXPECT_STREQ("thaws node_modules/thaws/thaw.js\n"
		     "rich/sync node_modules/rich/sync.js\n"
		     "events node_modules/events/index.js\n"
		     "fs ERR_UNKNOWN_BUILTIN_MODULE\n"
		     "node:fs ERR_UNKNOWN_BUILTIN_MODULE\n"
		     "fs/promises ERR_UNKNOWN_BUILTIN_MODULE\n",
		     self->program.output);
}

/* Run it; stderr has to have each of these words in it. */
#define EXPECT_SAYS(source, ...)                                                                   \
	do {                                                                                       \
		static const char *const words[] = {__VA_ARGS__};                                  \
		put("app.js", source);                                                             \
		program_free(&self->program);                                                      \
		EXPECT_EQ(1, program_run(&self->program, NULL, THAW("run", "--fresh", "app.js"))); \
		for (unsigned word = 0; word < sizeof(words) / sizeof(words[0]); word++) {         \
			EXPECT_NE(NULL, strstr(self->program.errors, words[word]))                 \
			{                                                                          \
				TH_LOG("no '%s' in: %s", words[word], self->program.errors);       \
			}                                                                          \
		}                                                                                  \
	} while (0)

TEST_F(packages, what_cannot_be_imported_says_what_to_do)
{
	EXPECT_SAYS("import 'rich/none'\n", "\"exports\"", "node_modules/rich/package.json",
		    "'./none'", "ERR_PACKAGE_PATH_NOT_EXPORTED", "app.js");
	EXPECT_SAYS("import '#none'\n", "\"imports\"", "/package.json", "'#none'", "app.js");
	EXPECT_SAYS("import 'node:fs'\n", "node:fs", "app.js", "thaw exec node");
	EXPECT_SAYS("import 'path'\n", "'path'", "app.js", "thaw exec node");
	put("lib/a.js", "export default 1\n");
	put("lib/b.ts", "export default 1\n");
	EXPECT_SAYS("import './lib/a'\n", "whole name", "a.js");
	EXPECT_SAYS("import './lib/b.js'\n", "whole name", "b.ts");
	EXPECT_SAYS("import './lib/c'\n", "cannot find module './lib/c'", "app.js");
}

TEST_F(packages, commonjs_says_what_to_do)
{
	static const char *const sources[] = {
		"const fs = require('fs')\n",
		"/* export it */\n// import\nmodule.exports = 1\n",
		"'use strict'\nexports.a = 1\nimport('x')\n",
	};

	for (unsigned i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
		EXPECT_SAYS(sources[i], "app.js is CommonJS", "thaw exec node", "esbuild");
		put("node_modules/common/index.js", sources[i]);
		EXPECT_SAYS("import 'common'\n", "node_modules/common/index.js is CommonJS",
			    "thaw exec node", "esbuild");
	}
	put("x.cjs", "1\n");
	EXPECT_SAYS("import './x.cjs'\n", "x.cjs is CommonJS");
}

TEST_F(packages, what_only_looks_like_commonjs_runs)
{
	static const char *const sources[] = {
		"const require = (x) => x\nconsole.log(require('ran'))\n",
		"function require(x) { return x }\nconsole.log(require('ran'))\n",
		"if (typeof module === 'object') module.exports = 1\nconsole.log('ran')\n",
		"const o = { exports: {} }; o.exports.a = 1; console.log('ran')\n",
		"export const exports = {}; exports.a = 1; console.log('ran')\n",
		"// require('x')\nconsole.log('ran')\n",
	};

	for (unsigned i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
		put("app.js", sources[i]);
		program_free(&self->program);
		EXPECT_EQ(0, program_run(&self->program, NULL, THAW("run", "--fresh", "app.js")))
		{
			TH_LOG("%u: %s", i, self->program.errors);
		}
		EXPECT_STREQ("ran\n", self->program.output);
	}
}

TEST_HARNESS_MAIN
