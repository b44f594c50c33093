// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a person can do wrong, and what can be wrong with the world: each gets one clear line on
 * stderr and the exit code that was promised, and costs nothing that was durable.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/mount.h>

#include "../../vm/js/engine/engine.h"
#include "support.h"
#include "thaw.h"

/*
 * Counts up for ever; prints where it is. A heap of some size, so that there is something to
 * damage.
 */
static const char counter_text[] =
	"globalThis.ballast = Array.from({ length: 20000 }, (_, i) => ({ i, name: 'item ' + i }))\n"
	"let n = 0\n"
	"setInterval(() => { n++; ballast[n].i = -n; console.log('n', n, ballast.length) }, 5)\n";

/* Counts up for ever, and tells which generation is durable and where it was restored. */
static const char telling_text[] = "import { on } from 'thaw'\n"
				   "let n = 0\n"
				   "on('checkpoint', e => console.log('durable', e.generation))\n"
				   "on('restore', () => console.log('restored at', n))\n"
				   "setInterval(() => console.log('n', ++n), 5)\n";

FIXTURE(bad)
{
	char *directory, *script, *image;
	struct program program;
};

FIXTURE_SETUP(bad)
{
	self->directory = support_directory();
	self->script = support_format("%s/counter.js", self->directory);
	self->image = support_format("%s/counter.thaw", self->directory);
	support_write(self->script, counter_text);
}
FIXTURE_TEARDOWN(bad)
{
	program_free(&self->program);
	free(self->image);
	free(self->script);
	support_remove(self->directory);
}

/*
 * Run the counter until it has counted, and end it: with SIGTERM, so that the last generation is
 * what it printed last.
 */
static int count_some(struct program *program, const char *script, const char *expect)
{
	program_free(program);
	*program = program_start(THAW("run", "--every", "20ms", script));
	if (program_wait_for(program, expect, 60))
		program_wait_for(program, NULL, 0.15);
	kill(program->pid, SIGTERM);
	return program_finish(program, 60);
}

static long last_count(const char *output)
{
	long count = -1;

	for (const char *at = output; (at = strstr(at, "n ")); at++)
		if (strchr(at, '\n'))
			count = atol(at + 2);
	return count;
}

/* Until it has counted so much further. */
static bool count_on(struct program *program, long more)
{
	char *text = support_format("n %ld\n", last_count(program->output) + more);
	bool counted = program_wait_for(program, text, 60);

	free(text);
	return counted;
}

/* Run it from its newest generation until that has said where it is; -1: it did not. */
static long restored_at(struct program *program, const char *const arguments[])
{
	program_free(program);
	*program = program_start(arguments);
	/* The first count, so that the line before it is whole. */
	if (!program_wait_for(program, "restored at ", 60) ||
	    !program_wait_for(program, "\nn ", 60))
		return -1;
	return atol(strstr(program->output, "restored at ") + strlen("restored at "));
}

static unsigned lines(const char *text)
{
	unsigned count = 0;

	for (; *text; text++)
		count += *text == '\n';
	return count;
}

#define EXPECT_REFUSED(code, words, ...)                                               \
	do {                                                                           \
		program_free(&self->program);                                          \
		EXPECT_EQ(code, program_run(&self->program, NULL, THAW(__VA_ARGS__))); \
		EXPECT_EQ(1, lines(self->program.errors));                             \
		EXPECT_EQ(0, strncmp(self->program.errors, "thaw: ", 6));              \
		EXPECT_NE(NULL, strstr(self->program.errors, words));                  \
		EXPECT_STREQ("", self->program.output);                                \
		TH_LOG("%.300s", self->program.errors);                                \
	} while (0)

TEST_F(bad, usage)
{
	EXPECT_REFUSED(9, "--bogus", "run", "--bogus", self->script);
	EXPECT_REFUSED(9, "bogus", "bogus");
	EXPECT_REFUSED(9, "--every", "run", "--every", "soon", self->script);
	EXPECT_REFUSED(9, "--retain", "run", "--retain", "-3", self->script);
	EXPECT_REFUSED(9, "--prefetch", "run", "--prefetch", "some", self->script);
	EXPECT_REFUSED(9, "--compress", "run", "--compress", "lz5", self->script);
	EXPECT_REFUSED(9, "--compress", "run", "--compress", "zstd:0", self->script);
	EXPECT_REFUSED(9, "--compress", "run", "--compress", "zstd:20", self->script);
	EXPECT_REFUSED(9, "--compress", "run", "--compress", "zstd:3x", self->script);
	EXPECT_REFUSED(9, "--compress", "compact", "--compress", "zstd3", self->script);
	EXPECT_REFUSED(9, "", "run");
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("help", "help")));
	EXPECT_NE(NULL, strstr(self->program.output, "COMMAND|thaw|concepts"));
	EXPECT_REFUSED(9, "'extra' is one argument too many", "help", "run", "extra");
	EXPECT_REFUSED(9, "'extra' is one argument too many", "--version", "extra");
	EXPECT_REFUSED(66, "missing.js", "run", "/nonexistent/missing.js");
	EXPECT_REFUSED(66, "missing.thaw", "log", "/nonexistent/missing.thaw");
	EXPECT_REFUSED(66, "cannot open it: Is a directory", "log", "/tmp");
	EXPECT_REFUSED(66, "cannot open it: Is a directory", "inspect", "/tmp");
	EXPECT_REFUSED(66, "cannot open it: Is a directory", "verify", "/tmp");
	EXPECT_REFUSED(66, "cannot open it: Is a directory", "-i", "/tmp", "-p", "1");
	EXPECT_REFUSED(66, "cannot open it: Is a directory", "run", "-i", "/tmp", self->script);
}

TEST_F(bad, scripts)
{
	char *path = support_format("%s/syntax.js", self->directory);

	support_write(path, "let fine = 1\nlet a = ;\n");
	EXPECT_EQ(1, program_run(&self->program, NULL, THAW("run", path)));
	EXPECT_NE(NULL, strstr(self->program.errors, "SyntaxError"));
	EXPECT_NE(NULL, strstr(self->program.errors, "syntax.js:2:"));
	program_free(&self->program);
	support_write(path, "import './nowhere.js'\n");
	EXPECT_EQ(1, program_run(&self->program, NULL, THAW("run", path)));
	EXPECT_NE(NULL, strstr(self->program.errors, "nowhere.js"));
	program_free(&self->program);
	support_write(path, "function f() { throw new TypeError('boom') }\nsetTimeout(f, 1)\n");
	EXPECT_EQ(1, program_run(&self->program, NULL, THAW("run", path)));
	EXPECT_NE(NULL, strstr(self->program.errors, "TypeError: boom"));
	EXPECT_NE(NULL, strstr(self->program.errors, "at f ("));
	program_free(&self->program);
	support_write(
		path,
		"setTimeout(() => Promise.reject(new RangeError('nobody cares')), 1)\nsetTimeout(() => console.log('late'), 30000)\n");
	EXPECT_EQ(1, program_run(&self->program, NULL, THAW("run", path)));
	EXPECT_NE(NULL, strstr(self->program.errors, "RangeError: nobody cares"));
	EXPECT_STREQ("", self->program.output);
	free(path);
}

TEST_F(bad, images_that_are_none)
{
	char *foreign = support_format("%s/foreign.thaw", self->directory);
	char text[9000];

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	support_write(foreign, text);
	EXPECT_REFUSED(76, "not a Thaw image", "run", "--image", foreign, self->script);
	EXPECT_REFUSED(76, "not a Thaw image", "log", foreign);
	EXPECT_REFUSED(76, "thaw repair", "verify", foreign);
	EXPECT_REFUSED(76, "not a Thaw image", "inspect", foreign);
	EXPECT_REFUSED(76, "not a Thaw image", "verify", foreign);
	/* And it is still what it was. */
	EXPECT_EQ(sizeof(text) - 1, support_size(foreign));
	free(foreign);
}

TEST_F(bad, newer_format)
{
	ASSERT_EQ(143, count_some(&self->program, self->script, "n 5 "));
	/* The format's number is at byte 8 of either header slot. */
	support_flip(self->image, 8, 0x40);
	support_flip(self->image, 4096 + 8, 0x40);
	EXPECT_REFUSED(76, "format", "run", self->script);
	support_flip(self->image, 8, 0x40);
	support_flip(self->image, 4096 + 8, 0x40);
	EXPECT_EQ(143, count_some(&self->program, self->script, "n "));
}

/*
 * Refused, or ended at the first page that is gone; or, where only what the newest generation does
 * not need was cut off, continued as if nothing had happened. (An empty file is a new image.)
 */
TEST_F_TIMEOUT(bad, truncated_image, 120)
{
	char *copy = support_format("%s/copy.thaw", self->directory);
	unsigned refused = 0;
	uint64_t size;
	long before;

	ASSERT_EQ(143, count_some(&self->program, self->script, "n 5 "));
	before = last_count(self->program.output);
	size = support_size(self->image);
	for (uint64_t tenth = 9; tenth > 0; tenth--) {
		const char *const copying[] = {"cp", self->image, copy, NULL};
		int code;

		program_free(&self->program);
		ASSERT_EQ(0, program_run(&self->program, NULL, copying));
		ASSERT_EQ(0, truncate(copy, (off_t)(size * tenth / 10)));
		program_free(&self->program);
		self->program = program_start(THAW("run", "--image", copy, self->script));
		if (program_wait_for(&self->program, "n ", 60)) {
			program_wait_for(&self->program, NULL, 0.3);
			kill(self->program.pid, SIGTERM);
		}
		code = program_finish(&self->program, 60);
		if (code == 143) {
			const char *first = strstr(self->program.output, "n ");

			ASSERT_NE(NULL, first);
			EXPECT_LE(atol(first + 2), before + 1);
			if (atol(first + 2) != before + 1)
				EXPECT_NE(NULL, strstr(self->program.errors, "copy.thaw"));
			continue;
		}
		refused++;
		EXPECT_TRUE(code == 65 || code == 74)
		{
			TH_LOG("%lu tenths: exit %d %s", tenth, code, self->program.errors);
		}
		EXPECT_NE(NULL, strstr(self->program.errors, "copy.thaw"));
	}
	EXPECT_GE(refused, 5);
	free(copy);
}

TEST_F(bad, damaged_newest_header_falls_back)
{
	long first, before, after;
	int went_back = 0;

	/* Both slots are of generations that are not older than the first run's last. */
	ASSERT_EQ(143, count_some(&self->program, self->script, "n 20 "));
	first = last_count(self->program.output);
	ASSERT_EQ(143, count_some(&self->program, self->script, "n "));
	before = last_count(self->program.output);
	/* Either slot may be the newest: damage one, look, mend it, damage the other. */
	for (int slot = 0; slot < 2; slot++) {
		char *copy = support_format("%s/copy%d.thaw", self->directory, slot);
		const char *const copying[] = {"cp", self->image, copy, NULL};

		program_free(&self->program);
		ASSERT_EQ(0, program_run(&self->program, NULL, copying));
		support_flip(copy, (uint64_t)slot * 4096 + 60, 0xff);
		program_free(&self->program);
		self->program = program_start(THAW("run", "--image", copy, self->script));
		ASSERT_TRUE(program_wait_for(&self->program, "n ", 60))
		{
			TH_LOG("%s", self->program.errors);
		}
		program_kill(&self->program);
		after = atol(strstr(self->program.output, "n ") + 2);
		EXPECT_LE(after, before + 1);
		EXPECT_GT(after, first);
		TH_LOG("slot %d damaged: continued at %ld of %ld: %s", slot, after, before,
		       self->program.errors);
		/* The older one is told of as well. */
		EXPECT_NE(NULL, strstr(self->program.errors, "damaged"));
		went_back += after != before + 1;
		free(copy);
	}
	EXPECT_GE(1, went_back); /* the newest, where the other one is damaged */
}

TEST_F_TIMEOUT(bad, damaged_pages_never_hang_and_never_lie, 120)
{
	unsigned refused = 0, found = 0;
	uint64_t size;
	char *copy = support_format("%s/copy.thaw", self->directory);

	ASSERT_EQ(143, count_some(&self->program, self->script, "n 5 "));
	size = support_size(self->image);
	for (unsigned i = 0; i < 40; i++) {
		const char *const copying[] = {"cp", self->image, copy, NULL};
		bool counted, verified;
		int code;

		program_free(&self->program);
		ASSERT_EQ(0, program_run(&self->program, NULL, copying));
		/* A byte in every page of one fortieth of the file. */
		for (uint64_t at = 8192 + (size - 8192) / 40 * i;
		     at < 8192 + (size - 8192) / 40 * (i + 1); at += 4096)
			support_flip(copy, at, 0x20);
		/* Whether or not it is touched: unless it lies in what no generation needs. */
		program_free(&self->program);
		code = program_run(&self->program, NULL, THAW("verify", copy));
		verified = !code;
		ASSERT_TRUE(code == 65 || verified);
		EXPECT_GT(lines(self->program.output), 0);
		found += !verified;
		program_free(&self->program);
		self->program = program_start(THAW("run", "--image", copy, self->script));
		counted = program_wait_for(&self->program, "n ", 60);
		support_sleep(0.05);
		kill(self->program.pid, SIGTERM);
		code = program_finish(&self->program, 60);
		ASSERT_TRUE(code == 74 || code == 65 || code == 143)
		{
			TH_LOG("fortieth %u: exit %d: %s", i, code, self->program.errors);
		}
		if (counted && code == 143)
			EXPECT_NE(NULL, strstr(self->program.output, " 20000\n"));
		if (code != 143) {
			refused++;
			EXPECT_FALSE(verified);
			EXPECT_NE(NULL, strstr(self->program.errors, copy))
			{
				TH_LOG("fortieth %u: exit %d: %s", i, code, self->program.errors);
			}
		}
	}
	TH_LOG("%u of 40 were noticed while running, %u by verify", refused, found);
	EXPECT_GT(refused, 0);
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("verify", self->image)));
	EXPECT_EQ(0, strncmp(self->program.output, "ok", 2));
	free(copy);
}

TEST_F(bad, image_in_use)
{
	struct program holder = program_start(THAW("run", self->script));
	char *pid = support_format("process %d", (int)holder.pid);

	ASSERT_TRUE(program_wait_for(&holder, "n 3 ", 60));
	EXPECT_REFUSED(75, pid, "run", self->script);
	/* Looking is allowed. */
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("inspect", self->image)));
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("verify", self->image)));
	program_kill(&holder);
	/* The lock went with the process: at once. */
	EXPECT_EQ(143, count_some(&self->program, self->script, "n "));
	program_free(&holder);
	free(pid);
}

TEST_F(bad, kernel_lacks_something)
{
	setenv("THAW_WITHOUT", "userfaultfd", 1);
	setenv("THAW_DELIVERY", "userfaultfd", 1);
	EXPECT_REFUSED(69, "userfaultfd", "run", self->script);
	setenv("THAW_DELIVERY", "", 1);
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("check")));
	/* What needs no image needs no userfaultfd. */
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("-p", "6 * 7")));
	EXPECT_STREQ("42\n", self->program.output);
	setenv("THAW_WITHOUT", "io_uring", 1);
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("check")));
	setenv("THAW_READER", "io_uring", 1);
	EXPECT_REFUSED(69, "io_uring", "run", self->script);
	setenv("THAW_READER", "magic", 1);
	EXPECT_REFUSED(9, "THAW_READER", "run", self->script);
	setenv("THAW_READER", "", 1);
	setenv("THAW_WITHOUT", "io_uring,wp-async,poison", 1);
	EXPECT_EQ(143, count_some(&self->program, self->script, "n 20 "));
	EXPECT_EQ(143, count_some(&self->program, self->script, "n "));
	EXPECT_GT(last_count(self->program.output), 20);
	setenv("THAW_WITHOUT", "", 1);
	setenv("THAW_TRACKER", "magic", 1);
	EXPECT_REFUSED(9, "THAW_TRACKER", "run", self->script);
	setenv("THAW_TRACKER", "", 1);
	setenv("THAW_PAGE_BYTES", "bogus", 1);
	EXPECT_REFUSED(9, "THAW_PAGE_BYTES", "run", self->script);
	program_free(&self->program);
	EXPECT_EQ(9, program_run(&self->program, NULL, THAW("check")));
	EXPECT_NE(NULL, strstr(self->program.errors, "not ok: THAW_PAGE_BYTES=bogus: "));
}

TEST_F(bad, full_disk)
{
	char *disk = support_format("%s/disk", self->directory),
	     *image = support_format("%s/app.thaw", disk);
	char *ballast = support_format("%s/ballast", disk);
	static char block[1 << 16];
	static const char again[] = "checkpoints work again: generation ";
	const char *report;
	char *next;
	long count;
	int fd;

	ASSERT_EQ(0, mkdir(disk, 0700));
	if (mount("tmpfs", disk, "tmpfs", 0, "size=40m"))
		SKIP(return, "cannot mount a small tmpfs: %s", strerror(errno));
	support_write(self->script, telling_text);
	self->program =
		program_start(THAW("run", "--every", "20ms", "--image", image, self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "durable ", 60));
	fd = open(ballast, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	while (write(fd, block, sizeof(block)) > 0)
		;
	close(fd);
	/* Said once, and the program goes on. */
	ASSERT_TRUE(program_wait_for_complaint(&self->program, "No space left on device", 60));
	ASSERT_TRUE(count_on(&self->program, 50));
	report = strstr(self->program.errors, "No space left on device");
	EXPECT_EQ(NULL, strstr(report + 1, "No space left on device"));
	count = last_count(self->program.output);
	unlink(ballast);
	ASSERT_TRUE(program_wait_for_complaint(&self->program, again, 60));
	/* The one after it was begun after it. */
	next = support_format("durable %ld\n",
			      atol(strstr(self->program.errors, again) + strlen(again)) + 1);
	EXPECT_TRUE(program_wait_for(&self->program, next, 60));
	TH_LOG("%s", self->program.errors);
	program_kill(&self->program);
	/* What it did while the disk was full is in the generations after. */
	EXPECT_GE(restored_at(&self->program, THAW("run", "--image", image, self->script)), count);
	program_kill(&self->program);
	umount2(disk, MNT_DETACH);
	free(next);
	free(ballast);
	free(image);
	free(disk);
}

/*
 * A generation whose state names a host function that no build has: made from a real one by
 * changing a letter.
 */
TEST_F(bad, host_function_missing)
{
	struct thaw_options options = {
		.image = self->image,
		.max_bytes = JS_HEAP_MAX_BYTES,
		.guard_bytes = JS_HEAP_GUARD_BYTES,
		.engine = js_engine_identity,
	};
	struct thaw_error error;
	struct thaw *heap;
	size_t bytes;
	char *state, *name;

	ASSERT_EQ(143, count_some(&self->program, self->script, "n 5 "));
	ASSERT_EQ(0, thaw_open(&options, &heap, &error))
	{
		TH_LOG("%s", error.text);
	}
	state = (char *)thaw_state(heap, &bytes);
	state = memcpy(malloc(bytes), state, bytes);
	name = memmem(state, bytes, "checkpoint", 10);
	ASSERT_NE(NULL, name);
	name[0] = 'q';
	ASSERT_EQ(0, thaw_checkpoint(heap, THAW_REASON_REQUEST, state, bytes, NULL));
	thaw_close(heap);
	free(state);
	EXPECT_REFUSED(76, "qheckpoint", "run", self->script);
	/* The generation before needs nothing that is not there. */
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("log", "--json", self->image)));
}

/*
 * Whoever starts a program without descriptors 0 to 2 must not find its output inside an image: nothing
 * takes their place, whatever is opened first.
 */
static void with_closed_streams(struct __test_metadata *_metadata, FIXTURE_DATA(bad) * self)
{
	char *command = support_format("exec <&- >&- 2>&-; exec " THAW_BINARY
				       " -e 'console.log(globalThis.a = 1)' --image %s",
				       self->image);
	const char *const shell[] = {"sh", "-c", command, NULL};

	EXPECT_EQ(0, program_run(&self->program, NULL, shell));
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("verify", self->image)));
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("-p", "a", "--image", self->image)));
	EXPECT_STREQ("1\n", self->program.output);
	program_free(&self->program);
	unlink(self->image);
	free(command);
}

TEST_F(bad, closed_standard_streams)
{
	static const char *const deliveries[] = {"", "sigsegv", "eager"};

	for (unsigned i = 0; i < sizeof(deliveries) / sizeof(deliveries[0]); i++) {
		TH_LOG("%s", deliveries[i]);
		setenv("THAW_DELIVERY", deliveries[i], 1);
		with_closed_streams(_metadata, self);
	}
}

TEST_F(bad, signals_end_it)
{
	char *path = support_format("%s/spin.js", self->directory);
	struct program spin;

	support_write(path, "console.log('spinning'); for (;;) {}\n");
	spin = program_start(THAW("run", path));
	ASSERT_TRUE(program_wait_for(&spin, "spinning", 60));
	kill(spin.pid, SIGTERM);
	support_sleep(0.1);
	kill(spin.pid, SIGTERM);
	EXPECT_EQ(143, program_finish(&spin, 60));
	program_free(&spin);
	free(path);
}

TEST_F(bad, a_signal_asks_for_a_generation)
{
	long asked, durable, restored;

	support_write(self->script, telling_text);
	self->program = program_start(THAW("run", "--every", "0", self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "n 5\n", 60));
	asked = last_count(self->program.output);
	kill(self->program.pid, SIGUSR2);
	ASSERT_TRUE(program_wait_for(&self->program, "durable ", 60));
	durable = last_count(self->program.output);
	ASSERT_TRUE(count_on(&self->program, 5));
	program_kill(&self->program);

	restored = restored_at(&self->program, THAW("run", self->script));
	/* From the generation that was asked for: neither from the start nor from a later one. */
	EXPECT_GE(restored, asked);
	EXPECT_LE(restored, durable);
	kill(self->program.pid, SIGINT);
	EXPECT_EQ(130, program_finish(&self->program, 60));
}

TEST_HARNESS_MAIN
