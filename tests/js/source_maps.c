// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where a module has a source map, stacks name the places of its sources; a map that is anything else changes nothing,
 * and neither does the map of a file that is another now.
 */
#define _GNU_SOURCE

#include "kselftest_harness.h"

#include <sodium.h>

#include "../../vm/js/source/source_map.h"
#include "support.h"

/* Two lines; the second begins with a generated column 0, and has one at 10. As a, b: 1:1 -> a 1:1, 2:1 -> a 3:5, 2:11 -> b 2:1. */
#define MAPPINGS "AAAA;AAEI,UCDJ"
#define MAP(sources) \
	"{\"version\":3,\"sources\":" sources ",\"names\":[],\"mappings\":\"" MAPPINGS "\"}"

#define SECTION(line, map) "{\"offset\":{\"line\":" line ",\"column\":0},\"map\":" map "}"

FIXTURE(maps)
{
	char *directory;
	struct program program;
};
FIXTURE_SETUP(maps)
{
	self->directory = support_directory();
	ASSERT_EQ(0, chdir(self->directory));
}
FIXTURE_TEARDOWN(maps)
{
	program_free(&self->program);
	support_remove(self->directory);
}

/* "PATH:LINE:COLUMN" of the source, or "none". */
static char *place(const char *path, const char *text, unsigned line, unsigned column)
{
	struct source_map *map = source_map_of(path, text, strlen(text));
	char *source = map ? source_map_find(map, &line, &column) : NULL;
	char *result = source ? support_format("%s:%u:%u", source, line, column) : strdup("none");

	free(source);
	source_map_free(map);
	return result;
}
#define EXPECT_PLACE(expected, path, text, line, column)       \
	do {                                                   \
		char *found = place(path, text, line, column); \
		EXPECT_STREQ(expected, found);                 \
		free(found);                                   \
	} while (0)

TEST_F(maps, a_file_beside_is_read)
{
	char *path = support_format("%s/dist/out.js", self->directory), *a, *b;
	const char *text = "one\ntwo\n//# sourceMappingURL=out.js.map\n";

	ASSERT_EQ(0, mkdir("dist", 0755));
	support_write("dist/out.js.map", MAP("[\"../src/a.ts\", \"webpack://app/b.ts\"]"));
	a = support_format("%s/src/a.ts:1:1", self->directory);
	b = support_format("%s/src/a.ts:3:5", self->directory);
	EXPECT_PLACE(a, path, text, 1, 1);
	EXPECT_PLACE(a, path, text, 1, 100);
	EXPECT_PLACE(b, path, text, 2, 1);
	EXPECT_PLACE(b, path, text, 2, 10);
	EXPECT_PLACE("webpack://app/b.ts:2:1", path, text, 2, 11);
	EXPECT_PLACE("none", path, text, 3, 1);
	EXPECT_PLACE("none", path, "//# sourceMappingURL=out.js.map\ncode()\n", 1, 1);
	EXPECT_PLACE("none", path, "//# sourceMappingURL=none.map\n", 1, 1);
	EXPECT_PLACE("none", path, "//# sourceMappingURL=https://example.org/out.js.map\n", 1, 1);
	EXPECT_PLACE("none", path, "//# sourceMappingURL=.\n", 1, 1);
	EXPECT_PLACE("none", path, "//# sourceMappingURL=", 1, 1);
	free(a);
	free(b);
	free(path);
}

/* As what is put together of files that have maps already: each counts from where it begins. */
TEST_F(maps, one_of_sections_is_made_of_others)
{
	char *path = support_format("%s/out.js", self->directory);
	const char *text = "1\n2\n3\n//# sourceMappingURL=out.js.map\n";

	support_write(
		"out.js.map",
		"{\"version\":3,\"sections\":["
		"{\"offset\":{\"line\":0,\"column\":4},\"map\":" MAP(
			"[\"http://a\", \"http://b\"]") "},"
							"{\"offset\":{\"line\":1,\"column\":20},\"map\":" MAP(
								"[\"http://c\", \"http://d\"]") "}]}");
	EXPECT_PLACE("none", path, text, 1, 4);
	EXPECT_PLACE("http://a:1:1", path, text, 1, 5);
	EXPECT_PLACE("http://a:3:5", path, text, 2, 1);
	EXPECT_PLACE("http://b:2:1", path, text, 2, 20);
	EXPECT_PLACE("http://c:1:1", path, text, 2, 21);
	EXPECT_PLACE("http://c:3:5", path, text, 3, 10);
	EXPECT_PLACE("http://d:2:1", path, text, 3, 11);
	EXPECT_PLACE("none", path, text, 4, 1);
	free(path);
}

/* Whatever a map says, it is a place or none. */
TEST_F(maps, what_is_no_map_is_none)
{
	static const char *const maps[] = {
		"",
		"[]",
		"{}",
		"nonsense",
		"{\"mappings\":\"AAAA\"}",
		"{\"sources\":[],\"mappings\":\"AAAA\"}",
		"{\"sources\":[1],\"mappings\":\"AAAA\"}",
		"{\"sources\":[\"a\\nb\"],\"mappings\":\"AAAA\"}",
		"{\"sources\":[\"a\"],\"mappings\":\"A\"}",
		"{\"sources\":[\"a\"],\"mappings\":\"AA\"}",
		"{\"sources\":[\"a\"],\"mappings\":\"AADA\"}",
		"{\"sources\":[\"a\"],\"mappings\":\"D\"}",
		"{\"sources\":[\"a\"],\"mappings\":\"ggggggggggggggggA\"}",
		"{\"sources\":[\"a\"],\"mappings\":\"A+////DAA\"}",
		"{\"sources\":[\"a\"],\"mappings\":\"\\u0000AAA\"}",
		"{\"sources\":[\"a\"],\"mappings\":\"%%%%\"}",
		"{\"sources\":\"a\",\"mappings\":\"AAAA\"}",
		"{\"sections\":{}}",
		"{\"sections\":[]}",
		"{\"sections\":[1]}",
		"{\"sections\":[{\"map\":" MAP("[\"a\"]") "}]}",
		"{\"sections\":[" SECTION("0", MAP("[\"a\"]")) "," SECTION("0",
									   MAP("[\"a\"]")) "]}",
		"{\"sections\":[" SECTION("-1", MAP("[\"a\"]")) "]}",
		"{\"sections\":[" SECTION("99999999999999999999", MAP("[\"a\"]")) "]}",
		"{\"sections\":[" SECTION("0",
					  "{\"sections\":[" SECTION("0", MAP("[\"a\"]")) "]}") "]}",
	};

	for (unsigned i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
		support_write("x.map", maps[i]);
		char *path = support_format("%s/x.js", self->directory);

		EXPECT_PLACE("none", path, "//# sourceMappingURL=x.map", 1, 1);
		free(path);
	}
}

TEST_F(maps, stacks_name_the_source)
{
	char encoded[1000];

	/* Line 2 of the module is line 3 of src/a.ts, from its column 11 on line 2 of src/b.ts. */
	support_write("lib.js", "export const f = () => {\n"
				"throw new Error('it')\n"
				"}\n//# sourceMappingURL=lib.js.map\n");
	support_write("lib.js.map", MAP("[\"src/a.ts\", \"src/b.ts\"]"));
	support_write("app.js", "import { f } from './lib.js'\n"
				"try { f() } catch (e) { console.log(e.stack) }\n"
				"setTimeout(f)\n");
	ASSERT_EQ(1, program_run(&self->program, NULL, THAW("run", "app.js")));
	EXPECT_NE(NULL, strstr(self->program.output, "src/b.ts:2:1)"))
	{
		TH_LOG("%s", self->program.output);
	}
	EXPECT_NE(NULL, strstr(self->program.output, "app.js:2:"));
	EXPECT_EQ(NULL, strstr(self->program.output, "lib.js"));
	EXPECT_NE(NULL, strstr(self->program.errors, "src/b.ts:2:1)"))
	{
		TH_LOG("%s", self->program.errors);
	}
	/* The same, inline. */
	const char *map = MAP("[\"inline/a.ts\", \"inline/b.ts\"]");

	sodium_bin2base64(encoded, sizeof(encoded), (const unsigned char *)map, strlen(map),
			  sodium_base64_VARIANT_ORIGINAL);
	char *text = support_format(
		"export const f = () => {\nthrow new Error('it')\n}\n"
		"//# sourceMappingURL=data:application/json;charset=utf-8;base64,%s\n",
		encoded);

	support_write("lib.js", text);
	free(text);
	program_free(&self->program);
	ASSERT_EQ(1, program_run(&self->program, NULL, THAW("run", "--fresh", "app.js")));
	EXPECT_NE(NULL, strstr(self->program.output, "inline/b.ts:2:1)"))
	{
		TH_LOG("%s", self->program.output);
	}
}

/* What was loaded is not what lies there now: its own places are the truth. */
TEST_F(maps, a_file_that_changed_has_none)
{
	support_write("lib.js", "export const f = () => {\nthrow new Error('it')\n}\n");
	support_write("lib.js.map", MAP("[\"src/a.ts\", \"src/b.ts\"]"));
	support_write("app.js",
		      "import { writeFile } from 'thaw'\nimport { f } from './lib.js'\n"
		      "await writeFile('lib.js', 'x\\n//# sourceMappingURL=lib.js.map\\n')\n"
		      "try { f() } catch (e) { console.log(e.stack) }\n");
	ASSERT_EQ(0, program_run(&self->program, NULL, THAW("run", "app.js")));
	EXPECT_NE(NULL, strstr(self->program.output, "lib.js:2:"))
	{
		TH_LOG("%s", self->program.output);
	}
	EXPECT_EQ(NULL, strstr(self->program.output, "src/"));
}

TEST_HARNESS_MAIN
