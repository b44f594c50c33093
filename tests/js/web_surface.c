// SPDX-License-Identifier: GPL-2.0-only
/*
 * The interfaces of the web that thaw run has besides the language (programs/web_surface.js says what it finds, and at its
 * end what is right), and what becomes of them when the process is killed.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <signal.h>
#include <sys/wait.h>

#include "expected_text.h"

static const char path[] = "tests/programs/web_surface.js";

TEST(it_does_what_the_standards_say)
{
	char *directory = support_directory(), *image = support_format("%s/app.thaw", directory);
	char *expected = expected_text(path), *said;
	struct program program;

	EXPECT_EQ(0, program_run(&program, "one\r\nzwei\nlast",
				 THAW("run", "-q", "--image", image, path, directory)));
	said = program.output;
	EXPECT_LINES(expected, said);
	EXPECT_STREQ("", said);
	EXPECT_STREQ("", program.errors);
	program_free(&program);
	free(expected);
	free(image);
	support_remove(directory);
}

/* All begin with the same heap, and none with the random numbers of another. Its image is its own, and small. */
TEST(starts_have_nothing_in_common)
{
	char *directory = support_directory(), *script = support_format("%s/app.js", directory),
	     *image = support_format("%s/app.thaw", directory),
	     *copy = support_format("%s/other.thaw", directory);
	struct program one, other;

	support_write(script, "console.log(Math.random(), crypto.randomUUID())\n");
	EXPECT_EQ(0, program_run(&one, NULL, THAW("run", "-q", script)));
	EXPECT_EQ(0, program_run(&other, NULL, THAW("run", "-q", "--image", copy, script)));
	EXPECT_STRNE(one.output, other.output);
	EXPECT_LT(0, support_size(image));
	EXPECT_GT(1000000, support_size(image));
	program_free(&one);
	program_free(&other);
	free(copy);
	free(image);
	free(script);
	support_remove(directory);
}

FIXTURE(killed)
{
	char *directory, *script;
};

FIXTURE_SETUP(killed)
{
	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
}

FIXTURE_TEARDOWN(killed)
{
	free(self->script);
	support_remove(self->directory);
}

/* Kill it when it says 'ready'; then the same command ends with `output`. */
static void killed_and_continued(struct __test_metadata *const _metadata, const char *script,
				 const char *output)
{
	struct program program = program_start(THAW("run", "-q", "--every", "0", script));

	EXPECT_TRUE(program_wait_for(&program, "ready\n", 60))
	{
		TH_LOG("%s", program.errors);
	}
	program_kill(&program);
	program_free(&program);
	EXPECT_EQ(0, program_run(&program, "more\n", THAW("run", "-q", "--every", "0", script)));
	EXPECT_STREQ(output, program.output)
	{
		TH_LOG("%s", program.errors);
	}
	program_free(&program);
}

/* A stream in its middle, messages under way, a key, a decoder that waits for the rest of a character. */
TEST_F(killed, what_is_under_way_goes_on)
{
	support_write(
		self->script,
		"import { checkpoint } from 'thaw'\n"
		"const { port1, port2 } = new MessageChannel(), decoder = new TextDecoder('euc-jp')\n"
		"const signal = AbortSignal.any([AbortSignal.timeout(1)]), iv = new Uint8Array(12)\n"
		"const key = await crypto.subtle.generateKey({ name: 'AES-GCM', length: 256 }, false, ['encrypt', 'decrypt'])\n"
		"const sealed = await crypto.subtle.encrypt({ name: 'AES-GCM', iv }, key, new Uint8Array([7]))\n"
		"const pack = new CompressionStream('gzip'), writer = pack.writable.getWriter()\n"
		"const unpacked = new Response_(pack.readable.pipeThrough(new DecompressionStream('gzip')).pipeThrough(new TextDecoderStream()))\n"
		"function Response_(stream) { this.text = (async () => { let all = ''; for await (const x of stream) all += x; return all })() }\n"
		"await writer.write(new TextEncoder().encode('before '))\n"
		"const begun = decoder.decode(new Uint8Array([0xa4]), { stream: true })\n"
		"port1.postMessage('sent before'); const first = crypto.randomUUID()\n"
		"const { restored } = await checkpoint()\n"
		"if (!restored) { console.log('ready'); for (;;); }\n"
		"await writer.write(new TextEncoder().encode('after')); writer.close()\n"
		"await new Promise((resolve) => { port2.onmessage = ({ data }) => { console.log(data); resolve() } })\n"
		"console.log(await unpacked.text, begun + decoder.decode(new Uint8Array([0xa2])))\n"
		"console.log(new Uint8Array(await crypto.subtle.decrypt({ name: 'AES-GCM', iv }, key, sealed))[0], key.usages.length, first !== crypto.randomUUID())\n"
		"if (!signal.aborted) await new Promise((resolve) => { signal.onabort = resolve; setTimeout(() => {}, 1e6).unref(); setTimeout(() => {}, 50) })\n"
		"console.log(signal.reason.name, new URL('x', 'http://y').href)\n");
	killed_and_continued(
		_metadata, self->script,
		"sent before\nbefore after \xe3\x81\x82\n7 2 true\nTimeoutError http://y/x\n");
}

/* A read of standard input waits again in the next process, whose input it gets; what may not happen twice is told. */
TEST_F(killed, input_is_the_next_process_s)
{
	support_write(self->script, "import { checkpoint, stdin } from 'thaw'\n"
				    "const lines = stdin.lines(), next = lines.next()\n"
				    "const { restored } = await checkpoint()\n"
				    "if (!restored) { console.log('ready'); for (;;); }\n"
				    "console.log((await next).value, (await lines.next()).done)\n");
	killed_and_continued(_metadata, self->script, "more true\n");
}

/* A signal that the program listens to is its own, in each process; one that comes again and again ends it. */
TEST_F(killed, signals_are_heard)
{
	struct program program;
	int status;

	support_write(
		self->script,
		"import { checkpoint, on, off, exit } from 'thaw'\n"
		"let count = 0; const hear = (name) => { console.log(name, ++count); if (name === 'SIGTERM') exit(7) }\n"
		"for (const name of ['SIGUSR1', 'SIGHUP', 'SIGTERM']) on(name, hear)\n"
		"await checkpoint(); console.log('ready'); setInterval(() => {}, 1e6)\n");
	program = program_start(THAW("run", "-q", "--every", "0", self->script));
	EXPECT_TRUE(program_wait_for(&program, "ready\n", 60));
	kill(program.pid, SIGUSR1);
	EXPECT_TRUE(program_wait_for(&program, "SIGUSR1 1\n", 60));
	kill(program.pid, SIGHUP);
	EXPECT_TRUE(program_wait_for(&program, "SIGHUP 2\n", 60));
	program_kill(&program);
	program_free(&program);
	program = program_start(THAW("run", "-q", "--every", "0", self->script));
	EXPECT_TRUE(program_wait_for(&program, "ready\n", 60));
	kill(program.pid, SIGUSR1);
	EXPECT_TRUE(program_wait_for(&program, "SIGUSR1 1\n", 60));
	kill(program.pid, SIGTERM);
	status = program_finish(&program, 60);
	EXPECT_EQ(7, status);
	EXPECT_NE(NULL, strstr(program.output, "SIGTERM 2\n"));
	program_free(&program);
}

/* ... also of a program that never comes back to its loop. */
TEST_F(killed, a_loop_does_not_keep_a_signal)
{
	struct program program;
	siginfo_t info;

	support_write(self->script, "import { on } from 'thaw'\n"
				    "on('SIGTERM', () => {}); console.log('ready'); for (;;);\n");
	program = program_start(THAW("run", "-q", "--every", "0", self->script));
	EXPECT_TRUE(program_wait_for(&program, "ready\n", 60));
	do {
		kill(program.pid, SIGTERM);
		program_wait_for(&program, NULL, 0.02);
		info.si_pid = 0;
	} while (!waitid(P_PID, (id_t)program.pid, &info, WEXITED | WNOHANG | WNOWAIT) &&
		 !info.si_pid);
	EXPECT_EQ(128 + SIGTERM, program_finish(&program, 60));
	program_free(&program);
}

TEST_HARNESS_MAIN
