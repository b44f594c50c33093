// SPDX-License-Identifier: GPL-2.0-only
/*
 * Interfaces of the web as their specifications have them (structuredClone, DOMException, crypto),
 * and err.stack as V8 has it. programs/web_interfaces.js says what it finds, and at its end what is right.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "expected_text.h"

static const char path[] = "tests/programs/web_interfaces.js";

TEST(interfaces_are_as_specified)
{
	char *directory = support_directory(), *image = support_format("%s/app.thaw", directory);
	char *expected = expected_text(path), *said, *rest;
	struct program program;

	EXPECT_EQ(1, program_run(&program, NULL, THAW("run", "-q", "--image", image, path)));
	rest = strstr(program.output, "\nprinted:\n");
	ASSERT_NE(NULL, rest)
	{
		TH_LOG("%s", program.errors);
	}
	rest += strlen("\nprinted:\n");
	said = program.output;
	EXPECT_LINES(expected, said);
	EXPECT_EQ(rest, said);

	EXPECT_EQ(rest, strstr(rest, "Captured: shown\n    at <anonymous> (/"));
	EXPECT_NE(NULL, strstr(rest, "\nBare [Error]: shown\n    at Bare (/"));
	EXPECT_NE(NULL, strstr(rest, "\nFooError [TypeError]: shown\n    at FooError (/"));
	EXPECT_NE(NULL, strstr(rest, "\nError: once\n    at <anonymous> (/"));
	EXPECT_NE(NULL, strstr(rest, "\nError: a\n\nb\n    at <anonymous> (/"));
	EXPECT_NE(NULL,
		  strstr(rest, "\nDOMException [NotFoundError]: gone\n    at <anonymous> (/"));
	EXPECT_NE(NULL,
		  strstr(rest, "[\n  DOMException [NotFoundError]: gone\n      at <anonymous> (/"));
	EXPECT_EQ(NULL, strstr(rest, "thaw:"));
	EXPECT_NE(
		NULL,
		strstr(program.errors,
		       "^\n\nUncaught DOMException [NotFoundError]: gone\n    at <anonymous> (/"));
	program_free(&program);
	free(expected);
	free(image);
	support_remove(directory);
}

/* Memory that two SharedArrayBuffers have in common lives as long as one of them, in the next process too. */
TEST(shared_memory_survives)
{
	char *directory = support_directory(), *script = support_format("%s/app.js", directory);
	struct program program;

	support_write(
		script,
		"import { checkpoint, gc } from 'thaw'\n"
		"let first = new SharedArrayBuffer(65536, { maxByteLength: 131072 }), plain = new SharedArrayBuffer(8)\n"
		"const copies = structuredClone([first, first, plain, new Uint8Array(first)])\n"
		"let left = structuredClone(plain)\n"
		"const bytes = new Uint8Array(copies[0]), small = new Uint8Array(left)\n"
		"bytes[65535] = 7; small[7] = 9\n"
		"const round = async () => { gc(); await checkpoint(); return Array.from({ length: 2000 }, () => new ArrayBuffer(64).slice(0)).length }\n"
		"await round()\n"
		"const { restored } = await checkpoint()\n"
		"if (!restored) { console.log('ready'); for (;;); }\n"
		"first.grow(100000)\n"
		"console.log(bytes.length, copies[0] === copies[1], new Uint8Array(first)[65535], copies[3][65535], new Uint8Array(plain)[7])\n"
		"new Uint8Array(first)[99999] = 5; first = plain = undefined; copies.length = 0\n"
		"await round(); await round()\n"
		"console.log(bytes[99999], small[7], bytes[65535])\n"
		"let churn = 0; for (let i = 0; i < 5000; i++) churn += structuredClone(new SharedArrayBuffer(4096, { maxByteLength: 8192 })).byteLength\n"
		"console.log(churn)\n");
	program = program_start(THAW("run", "-q", "--every", "0", script));
	EXPECT_TRUE(program_wait_for(&program, "ready\n", 60));
	program_kill(&program);
	program_free(&program);
	EXPECT_EQ(0, program_run(&program, NULL, THAW("run", "-q", "--every", "0", script)));
	EXPECT_STREQ("100000 true 7 7 9\n5 9 7\n20480000\n", program.output)
	{
		TH_LOG("%s", program.errors);
	}
	program_free(&program);
	free(script);
	support_remove(directory);
}

TEST_HARNESS_MAIN
