// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lazy restore of a JavaScript heap touches only what it must: with a heap of 1 GiB, what is
 * resident after the first result stays under 2 % of the heap. And a restored program never reads
 * its files again.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

static const char builder_text[] =
	"import { on, exit, stats } from 'thaw'\n"
	"import { word } from './word.js'\n"
	"const table = []\n"
	"for (let i = 0; i < 4700000; i++) { if (i % 65536 === 0) table.push([]); table.at(-1).push({ id: i, name: 'record ' + i, tags: ['a', i % 7], next: null }) }\n"
	"on('restore', () => { console.log(word, table[17][1234].name); setInterval(() => {}, 1000) })\n";

static long status_kib(pid_t pid, const char *field)
{
	char *path = support_format("/proc/%d/status", (int)pid), text[8192], *at;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = read(fd, text, sizeof(text) - 1);

	free(path);
	close(fd);
	if (got < 0)
		return -1;
	text[got] = '\0';
	at = strstr(text, field);
	return at ? atol(at + strlen(field)) : -1;
}

FIXTURE(restore)
{
	char *directory, *script, *image;
};
FIXTURE_VARIANT(restore)
{
	const char *backing;
};
FIXTURE_VARIANT_ADD(restore, memfd){.backing = "memfd"};
FIXTURE_VARIANT_ADD(restore, kmod){.backing = "kmod"};
FIXTURE_VARIANT_ADD(restore, anonymous){.backing = "anonymous"};
FIXTURE_SETUP(restore)
{
	char *word, *lacking;

	setenv("THAW_BACKING", variant->backing, 1);
	self->directory = support_directory();
	lacking = support_kernel_lacks(self->directory);
	if (lacking) {
		support_remove(self->directory);
		SKIP(return, "%s", lacking);
	}
	self->script = support_format("%s/table.js", self->directory);
	self->image = support_format("%s/table.thaw", self->directory);
	word = support_format("%s/word.js", self->directory);
	support_write(self->script, builder_text);
	support_write(word, "export const word = 'thawed'\n");
	free(word);
}
FIXTURE_TEARDOWN(restore)
{
	free(self->image);
	free(self->script);
	support_remove(self->directory);
}

TEST_F_TIMEOUT(restore, touches_under_two_percent, 400)
{
	struct program program;
	long heap_kib, resident_kib;
	char *word = support_format("%s/word.js", self->directory);

	program = program_start(THAW("run", "--every", "0", self->script));
	ASSERT_EQ(0, program_finish(&program, 300))
	{
		TH_LOG("%s", program.errors);
	}
	program_free(&program);
	heap_kib = (long)(support_size(self->image) >> 10);
	TH_LOG("heap of %ld MiB", heap_kib >> 10);
	ASSERT_GT(heap_kib, 1 << 20);
	/* The sources are in the heap. */
	unlink(word);
	unlink(self->script);

	program = program_start(THAW("run", "--every", "0", self->script));
	ASSERT_TRUE(program_wait_for(&program, "\n", 60))
	{
		TH_LOG("%s", program.errors);
	}
	EXPECT_STREQ("thawed record 1115346\n", program.output);
	if (strstr(program.errors, "were loaded first")) {
		program_kill(&program);
		SKIP(goto out, "not lazy here: %.*s", (int)strcspn(program.errors, "\n"),
		     program.errors);
	}
	/* All of it: the heap, the index, the buffers, the program itself. */
	resident_kib = status_kib(program.pid, "VmRSS:");
	TH_LOG("%ld KiB resident, of them %ld anonymous, %ld shared memory", resident_kib,
	       status_kib(program.pid, "RssAnon:"), status_kib(program.pid, "RssShmem:"));
	EXPECT_GT(resident_kib, 0);
	EXPECT_LT(resident_kib, heap_kib / 50);
	program_kill(&program);
out:
	program_free(&program);
	free(word);
}

TEST_HARNESS_MAIN
