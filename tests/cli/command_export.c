// SPDX-License-Identifier: GPL-2.0-only
/*
 * command_export.c - thaw export: the JSON is what the program's variables hold, the snapshot is one that
 * DevTools loads, and whatever is wrong with an image is said and leaves no file behind.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"
#include "thaw.h"

#define CHECKER THAW_SOURCE "/tests/programs/check_snapshot.mjs"

FIXTURE(export)
{
	char *directory, *script, *image, *output;
	struct program program, running;
};
FIXTURE_SETUP(export)
{
	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
	self->image = support_format("%s/app.thaw", self->directory);
	self->output = support_format("%s/out", self->directory);
}
FIXTURE_TEARDOWN(export)
{
	program_free(&self->program);
	program_free(&self->running);
	free(self->script);
	free(self->image);
	free(self->output);
	support_remove(self->directory);
}

/* Until it says "ready"; it keeps running. */
static bool start(struct program *program, const char *script, const char *code, const char *every)
{
	support_write(script, code);
	*program = program_start(THAW("run", "--quiet", "--every", every, script));
	return program_wait_for(program, "ready", 30);
}

/* The same, and a last generation when it is ready. */
static bool run(struct program *program, const char *script, const char *code)
{
	if (!start(program, script, code, "0"))
		return false;
	kill(program->pid, SIGTERM);
	return program_finish(program, 30) == 143;
}

/* Exported, with the options before the image; what it wrote is in program->output. */
#define EXPORT(...)                                                             \
	({                                                                      \
		program_free(&self->program);                                   \
		program_run(&self->program, NULL, THAW("export", __VA_ARGS__)); \
	})

/* The name of the script, which is in the output, by APP. */
static char *expected(const char *script, const char *text)
{
	const char *at = strstr(text, "APP");
	char *result = at ? support_format("%.*s%s%s", (int)(at - text), text, script, at + 3)
			  : strdup(text);

	return result;
}

static const char small_program[] =
	"let count = 3;\n"
	"const list = [1, 'two', null];\n"
	"class Point { #p = 1; constructor() { this.x = 0.5; } get y() { throw 1; } }\n"
	"globalThis.point = new Point();\n"
	"globalThis.map = new Map([['k', { v: 1 }], [list, undefined]]);\n"
	"point.self = { point, list };\n"
	"globalThis.$odd = -0;\n"
	"globalThis.long = 'x'.repeat(10) + '\\n\"';\n"
	"setInterval(function tick() { return count; }, 1e6);\n"
	"console.log('ready');\n";

static const char small_json[] =
	"  \"generation\": 1,\n"
	"  \"globals\": {\n"
	"    \"point\": {\"$type\": \"Point\",\n"
	"      \"#p\": 1,\n"
	"      \"x\": 0.5,\n"
	"      \"self\": {\n"
	"        \"point\": {\"$ref\": \"globals.point\"},\n"
	"        \"list\": [1, \"two\", null]\n"
	"      }\n"
	"    },\n"
	"    \"map\": {\"$type\": \"Map\",\n"
	"      \"entries\": [\n"
	"        [\"k\", {\n"
	"          \"v\": 1\n"
	"        }],\n"
	"        [{\"$ref\": \"globals.point.self.list\"}, {\"$type\": \"undefined\"}]\n"
	"      ]\n"
	"    },\n"
	"    \"$$odd\": {\"$type\": \"number\", \"value\": \"-0\"},\n"
	"    \"long\": \"xxxxxxxxxx\\n\\\"\"\n"
	"  },\n"
	"  \"modules\": {\n"
	"    \"APP\": {\n"
	"      \"variables\": {\n"
	"        \"count\": 3,\n"
	"        \"list\": {\"$ref\": \"globals.point.self.list\"},\n"
	"        \"Point\": {\"$type\": \"function\", \"name\": \"Point\", \"file\": ";

TEST_F(export, json_says_what_the_variables_hold)
{
	char *wanted = expected(self->script, small_json);

	ASSERT_TRUE(run(&self->running, self->script, small_program));
	ASSERT_EQ(0, EXPORT(self->image));
	EXPECT_NE(NULL, strstr(self->program.output, wanted))
	{
		TH_LOG("%s", self->program.output);
	}
	EXPECT_STREQ("", self->program.errors);
	free(wanted);
	/* To a file, the same. */
	ASSERT_EQ(0, EXPORT("-o", self->output, self->image));
	ASSERT_LT(500, support_size(self->output));
	ASSERT_STREQ("", self->program.output);
}

TEST_F(export, a_program_without_variables_has_none)
{
	ASSERT_TRUE(run(&self->running, self->script,
			"setInterval(() => {}, 1e6); console.log('ready')"));
	ASSERT_EQ(0, EXPORT(self->image));
	EXPECT_NE(NULL, strstr(self->program.output, "\"globals\": {},\n"))
	{
		TH_LOG("%s", self->program.output);
	}
	EXPECT_NE(NULL, strstr(self->program.output, "\"variables\": {}\n"));
	/* All there is: much more. */
	ASSERT_EQ(0, EXPORT("--all", "--depth", "2", self->image));
	EXPECT_NE(NULL, strstr(self->program.output, "\"structuredClone\": "));
	EXPECT_NE(NULL, strstr(self->program.output, "\"$cut\": \"depth\""));
}

TEST_F(export, what_was_cut_is_said)
{
	static const char code[] =
		"globalThis.deep = { a: { b: { c: 1 } } }; globalThis.wide = [1, 2, 3, 4, 5];\n"
		"globalThis.text = 'abcdefgh'; globalThis.u8 = new Uint8Array(9); globalThis.m = new Map([[1, 2], [3, 4], [5, 6], [7, 8]]);\n"
		"setInterval(() => {}, 1e6); console.log('ready')";

	ASSERT_TRUE(run(&self->running, self->script, code));
	ASSERT_EQ(0, EXPORT("--depth", "2", "--limit", "5", self->image));
	EXPECT_NE(NULL, strstr(self->program.output,
			       "\"b\": {\"$cut\": \"depth\", \"$type\": \"Object\"}"))
	{
		TH_LOG("%s", self->program.output);
	}
	EXPECT_NE(NULL, strstr(self->program.output, "[1, 2, 3, 4, 5]"));
	EXPECT_NE(NULL, strstr(self->program.output,
			       "{\"$type\": \"string\", \"start\": \"abcde\", \"$more\": 3}"));
	EXPECT_NE(NULL, strstr(self->program.output, "\"values\": [0, 0, 0, 0, 0], \"$more\": 4}"));
	EXPECT_NE(NULL, strstr(self->program.output, "[5, 6]\n      ],\n      \"$more\": 1\n"));
}

TEST_F(export, a_snapshot_is_what_devtools_loads)
{
	static const char code[] =
		"class Known { constructor() { this.text = 'p'.repeat(5000); this.numbers = Array.from({ length: 1000 }, (_, i) => i); } }\n"
		"globalThis.known = new Known(); globalThis.map = new Map([['k', known]]);\n"
		"globalThis.big = 2n ** 200n; globalThis.symbol = Symbol('s'); globalThis.pattern = /a+/g;\n"
		"globalThis.slice = known.text.repeat(2).slice(10, 4000);\n"
		"let captured = { c: 1 }; globalThis.closure = function shown() { return captured; };\n"
		"setInterval(() => {}, 1e6); console.log('ready')";
	const char *const check[] = {"node",
				     CHECKER,
				     self->output,
				     "globalThis.known",
				     "object",
				     "Known",
				     "72",
				     "200",
				     "globalThis.known.text",
				     "string",
				     "pppppppppppppppppppppppppppppppppppppppp",
				     "5000",
				     "5100",
				     "globalThis.known.numbers",
				     "object",
				     "Array",
				     "8000",
				     "14000",
				     "globalThis.map.1",
				     "object",
				     "Known",
				     "72",
				     "200",
				     "globalThis.big",
				     "bigint",
				     "1606938044258990275541962092341162602522",
				     "32",
				     "64",
				     "globalThis.symbol",
				     "symbol",
				     "s",
				     "24",
				     "64",
				     "globalThis.pattern",
				     "regexp",
				     "/a+/g",
				     "48",
				     "100",
				     "globalThis.slice",
				     "sliced string",
				     "pppppppppppppppppppppppppppppppppppppppp",
				     "32",
				     "64",
				     "globalThis.closure",
				     "closure",
				     "shown",
				     "48",
				     "200",
				     "globalThis.closure.captured.(value)",
				     "object",
				     "Object",
				     "48",
				     "100",
				     "globalThis.known.__proto__.constructor",
				     "closure",
				     "Known",
				     "48",
				     "300",
				     NULL};
	static const char magic[] = "{\"snapshot\":{\"meta\":{";

	ASSERT_TRUE(run(&self->running, self->script, code));
	ASSERT_EQ(0, EXPORT("--format", "heapsnapshot", "--output", self->output, self->image));
	ASSERT_STREQ("", self->program.errors);
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, check))
	{
		TH_LOG("%s", self->program.errors);
	}
	/* To a pipe, the same. */
	ASSERT_EQ(0, EXPORT("-f", "heapsnapshot", self->image));
	ASSERT_EQ(support_size(self->output), self->program.output_bytes);
	ASSERT_EQ(0, strncmp(self->program.output, magic, strlen(magic)));
}

TEST_F(export, a_snapshot_of_every_kind_of_value_is_sound)
{
	char *script = support_format("%s/tests/programs/every_value.js", THAW_SOURCE);
	const char *const check[] = {"node", CHECKER, self->output, NULL};

	self->running = program_start(
		THAW("run", "--quiet", "--every", "0", "--image", self->image, script));
	ASSERT_TRUE(program_wait_for(&self->running, "traps\t", 30));
	kill(self->running.pid, SIGTERM);
	ASSERT_EQ(143, program_finish(&self->running, 30));
	ASSERT_EQ(0, EXPORT("-f", "heapsnapshot", "-o", self->output, self->image));
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, check))
	{
		TH_LOG("%s", self->program.errors);
	}
	free(script);
}

/* Generations come ten times a second, in the middle of a turn that never ends. */
TEST_F(export, a_program_that_runs_can_be_looked_at)
{
	static const char code[] =
		"function outer(parameter) { const local = { of: 'outer' }; return inner(local, parameter); }\n"
		"function inner(given) { let turns = 0; console.log('ready'); for (;;) { turns++; given.turns = turns; } }\n"
		"const unused = outer('from outside');\n";
	const char *const check[] = {"node", CHECKER, self->output, NULL};
	int code_, tries = 0;

	ASSERT_TRUE(start(&self->running, self->script, code, "100ms"));
	do { /* the first generation is still to come */
		support_sleep(0.1);
		code_ = EXPORT(self->image);
	} while (code_ && tries++ < 300);
	ASSERT_EQ(0, code_);
	EXPECT_NE(NULL, strstr(self->program.output,
			       "\"running\": [\n    {\"$type\": \"call\", \"name\": \"inner\""))
	{
		TH_LOG("%s", self->program.output);
	}
	EXPECT_NE(NULL, strstr(self->program.output, "\"of\": \"outer\""));
	EXPECT_NE(NULL, strstr(self->program.output, "\"parameter\": \"from outside\""));
	EXPECT_NE(NULL, strstr(self->program.output,
			       "\"local\": {\"$ref\": \"running[0].variables.given\"}"));
	EXPECT_STREQ("", self->program.errors);
	for (int i = 0; i < 5; i++) {
		ASSERT_EQ(0, EXPORT("-f", "heapsnapshot", "-o", self->output, self->image));
		program_free(&self->program);
		EXPECT_EQ(0, program_run(&self->program, NULL, check))
		{
			TH_LOG("%s", self->program.errors);
		}
	}
	program_kill(&self->running);
}

TEST_F(export, an_older_generation_is_as_it_was)
{
	static const char code[] =
		"import { checkpoint } from 'thaw';\n"
		"globalThis.step = 1; await checkpoint(); step = 2; await checkpoint(); step = 3;\n"
		"setInterval(() => {}, 1e6); console.log('ready')";

	ASSERT_TRUE(run(&self->running, self->script, code));
	ASSERT_EQ(0, EXPORT("--at", "1", self->image));
	EXPECT_NE(NULL, strstr(self->program.output, "\"step\": 1\n"));
	ASSERT_EQ(0, EXPORT("--at", "2", self->image));
	EXPECT_NE(NULL, strstr(self->program.output, "\"step\": 2\n"));
	ASSERT_EQ(0, EXPORT(self->image));
	EXPECT_NE(NULL, strstr(self->program.output, "\"step\": 3\n"));
	EXPECT_EQ(66, EXPORT("--at", "99", self->image));
	/* By a name, too. */
	program_free(&self->program);
	ASSERT_EQ(0, program_run(&self->program, NULL, THAW("tag", self->image, "second", "2")));
	ASSERT_EQ(0, EXPORT("--at", "second", self->image));
	EXPECT_NE(NULL, strstr(self->program.output, "\"step\": 2\n"));
}

TEST_F(export, variables_of_a_shell)
{
	static const char typed[] =
		"let letter = { l: 1 }\nconst fixed = 2\nvar old = 3\nclass Shape {}\n";

	ASSERT_EQ(0, program_run(&self->running, typed, THAW("repl", self->image)));
	ASSERT_EQ(0, EXPORT(self->image));
	EXPECT_NE(NULL, strstr(self->program.output, "\"old\": 3"))
	{
		TH_LOG("%s", self->program.output);
	}
	EXPECT_NE(NULL, strstr(self->program.output, "\"l\": 1"));
	EXPECT_NE(NULL, strstr(self->program.output, "\"fixed\": 2"));
	EXPECT_NE(NULL, strstr(self->program.output, "\"Shape\": {\"$type\": \"function\""));
}

TEST_F(export, a_weak_reference_that_was_cleared)
{
	static const char typed[] = "const target = { t: 1 }, live = new WeakRef(target)\n"
				    "const cleared = new WeakRef({ c: 2 })\n";

	ASSERT_EQ(0, program_run(&self->running, typed, THAW("repl", self->image)));
	ASSERT_EQ(0, EXPORT(self->image));
	EXPECT_NE(NULL,
		  strstr(self->program.output, "\"cleared\": {\"$type\": \"WeakRef\",\n"
					       "      \"target\": {\"$type\": \"undefined\"}\n"))
	TH_LOG("%s", self->program.output);
	EXPECT_NE(NULL, strstr(self->program.output,
			       "\"live\": {\"$type\": \"WeakRef\",\n"
			       "      \"target\": {\"$ref\": \"globals.target\"}\n"));
}

/* ---- What can be wrong */

TEST_F(export, usage_is_checked)
{
	EXPECT_EQ(9, EXPORT("--format", "xml", self->image));
	EXPECT_NE(NULL, strstr(self->program.errors, "json or heapsnapshot"));
	EXPECT_EQ(66, EXPORT(self->image));
	EXPECT_NE(NULL, strstr(self->program.errors, self->image));
}

TEST_F(export, a_damaged_image_leaves_the_file_that_was_there)
{
	struct program ls;
	uint64_t size;

	ASSERT_TRUE(run(&self->running, self->script, small_program));
	support_write(self->output, "what was there");
	size = support_size(self->image);
	for (uint64_t at = 8192; at < size; at += 4096)
		support_flip(self->image, at + 99, 0x10);
	EXPECT_EQ(65, EXPORT("-o", self->output, self->image));
	EXPECT_NE(NULL, strstr(self->program.errors, self->image));
	EXPECT_EQ(14, support_size(self->output));
	/* Nothing half written lies about. */
	ASSERT_EQ(0, program_run(&ls, NULL, (const char *const[]){"ls", self->directory, NULL}));
	EXPECT_STREQ("app.js\napp.thaw\nout\n", ls.output);
	program_free(&ls);
}

TEST_F(export, an_image_of_another_engine_is_refused)
{
	struct thaw_options options = {.image = self->image,
				       .flags = THAW_CREATE,
				       .max_bytes = 1u << 20,
				       .engine = "another"};
	struct thaw_error error;
	struct thaw *heap;
	int code = thaw_open(&options, &heap, &error);

	if (code == THAW_EKERNEL)
		SKIP(return, "this kernel cannot hold a heap");
	ASSERT_EQ(0, code);
	ASSERT_EQ(0, thaw_resize(heap, 65536));
	ASSERT_EQ(0, thaw_checkpoint(heap, THAW_REASON_REQUEST, "x", 1, NULL));
	thaw_close(heap);
	EXPECT_EQ(76, EXPORT(self->image));
	EXPECT_NE(NULL, strstr(self->program.errors, "'another'"));
}

TEST_F(export, interrupted)
{
	struct program ls;

	ASSERT_TRUE(run(&self->running, self->script, small_program));
	for (unsigned i = 0; i < 40; i++) {
		program_free(&self->program);
		self->program =
			program_start(THAW("export", "--all", "-o", self->output, self->image));
		support_sleep(0.0005 * i);
		kill(self->program.pid, i % 2 ? SIGINT : SIGTERM);
		program_finish(&self->program, 60);
		/* What was there, or all of it, and nothing beside it. */
		unlink(self->output);
		ASSERT_EQ(0, program_run(&ls, NULL,
					 (const char *const[]){"ls", self->directory, NULL}));
		ASSERT_STREQ("app.js\napp.thaw\n", ls.output);
		program_free(&ls);
	}
}

TEST_F(export, no_image_is_written_over)
{
	char copy[320], link[320];

	ASSERT_TRUE(run(&self->running, self->script, small_program));
	snprintf(copy, sizeof(copy), "%s/copy", self->directory);
	snprintf(link, sizeof(link), "%s/link", self->directory);
	EXPECT_EQ(9, EXPORT("-o", self->image, self->image));
	EXPECT_NE(NULL, strstr(self->program.errors, "is an image"));
	program_free(&self->program);
	ASSERT_EQ(0, program_run(&self->program, NULL, THAW("clone", self->image, copy)));
	ASSERT_EQ(0, symlink("copy", link));
	EXPECT_EQ(9, EXPORT("-o", link, self->image));
	/* Of this one a repair could still save something. */
	support_flip(copy, 99, 0x10);
	support_flip(copy, 4096 + 99, 0x10);
	EXPECT_EQ(9, EXPORT("-o", copy, self->image));
	EXPECT_EQ(0, EXPORT(self->image));
	program_free(&self->program);
	ASSERT_EQ(0, program_run(&self->program, NULL, THAW("verify", self->image)));
	/* Any other file is, and a link to it stays one. */
	support_write(copy, "what was there");
	EXPECT_EQ(0, EXPORT("-o", link, self->image));
	EXPECT_LT(14, support_size(copy));
}

TEST_F(export, a_file_that_cannot_be_written_is_said)
{
	ASSERT_TRUE(run(&self->running, self->script, small_program));
	EXPECT_EQ(66, EXPORT("-o", "/proc/nowhere/x.json", self->image));
	EXPECT_NE(NULL, strstr(self->program.errors, "/proc/nowhere/x.json"));
	EXPECT_EQ(74, EXPORT("-o", "/dev/full", self->image));
	EXPECT_NE(NULL, strstr(self->program.errors, "No space left"));
}

static unsigned mode_of(const char *path)
{
	struct stat status;

	return stat(path, &status) ? 0 : status.st_mode & 07777;
}

TEST_F(export, what_comes_out_of_an_image_is_its_owners_only)
{
	static const mode_t masks[] = {0, 022, 0777};

	ASSERT_TRUE(run(&self->program, self->script,
			"globalThis.secret = 1; console.log('ready')\n"
			"setInterval(() => {}, 1e6)"));
	for (unsigned i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
		mode_t before = umask(masks[i]);

		EXPECT_EQ(0, EXPORT("-o", self->output, self->image));
		EXPECT_EQ(0600, mode_of(self->output));
		/* Also where one is that everybody may read. */
		chmod(self->output, 0644);
		EXPECT_EQ(0, EXPORT("-f", "heapsnapshot", "-o", self->output, self->image));
		EXPECT_EQ(0600, mode_of(self->output));
		unlink(self->output);
		program_free(&self->program);
		EXPECT_EQ(0, program_run(&self->program, NULL,
					 THAW("map", "-o", self->output, self->image)));
		EXPECT_EQ(0600, mode_of(self->output));
		unlink(self->output);
		umask(before);
	}
}

TEST_HARNESS_MAIN
