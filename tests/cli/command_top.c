// SPDX-License-Identifier: GPL-2.0-only
/*
 * command_top.c - thaw top finds the running programs, and what it shows is what their images' logs
 * say: also where a program is killed, its image removed or renamed, or the process may not be
 * looked into. Its screen is tested by top_terminal.c.
 *
 * Other programs may run on the machine: only those of the test are named, or looked at.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/file.h>
#include <sys/mman.h>

#include "support.h"
#include "thaw.h"

#define PROGRAMS 3u
#define NONE UINT64_MAX

/* Three generations, of which the last stays the newest. */
static const char three_text[] = "import { checkpoint } from 'thaw'\n"
				 "globalThis.data = []\n"
				 "for (let n = 1; n <= 3; n++) {\n"
				 "	data.push(new Array(10000).fill(n))\n"
				 "	await checkpoint()\n"
				 "}\n"
				 "console.log('three')\n"
				 "await new Promise(resolve => setTimeout(resolve, 3600e3))\n";

/* With --every, a generation each time. */
static const char busy_text[] =
	"import { on } from 'thaw'\n"
	"const data = new Array(100000).fill(0)\n"
	"let n = 0\n"
	"on('restore', e => console.log('restored'))\n"
	"on('checkpoint', e => { if (e.generation === 2) console.log('two') })\n"
	"setInterval(() => {\n"
	"	for (let i = 0; i < data.length; i += 997) data[i] = n\n"
	"	n++\n"
	"}, 5)\n";

FIXTURE(top)
{
	char *directory, *three, *busy;
	char *images[PROGRAMS], *pids[PROGRAMS];
	struct program programs[PROGRAMS];
	struct program top;
};
FIXTURE_SETUP(top)
{
	self->directory = support_directory();
	self->three = support_format("%s/three.js", self->directory);
	self->busy = support_format("%s/busy.js", self->directory);
	support_write(self->three, three_text);
	support_write(self->busy, busy_text);
	for (unsigned i = 0; i < PROGRAMS; i++)
		self->images[i] = support_format("%s/image-%u.thaw", self->directory, i);
}
FIXTURE_TEARDOWN(top)
{
	for (unsigned i = 0; i < PROGRAMS; i++) {
		if (self->programs[i].pid)
			program_kill(&self->programs[i]);
		program_free(&self->programs[i]);
		free(self->images[i]);
		free(self->pids[i]);
	}
	if (self->top.pid)
		program_kill(&self->top);
	program_free(&self->top);
	free(self->three);
	free(self->busy);
	support_remove(self->directory);
}

/* ---- Programs ---- */

static bool begin(FIXTURE_DATA(top) * self, unsigned which, const char *every, const char *script,
		  const char *says)
{
	struct program *program = &self->programs[which];

	*program = program_start(THAW("run", "-q", "--every", every, "--retain", "2000", "--image",
				      self->images[which], script));
	self->pids[which] = support_format("%d", program->pid);
	return program_wait_for(program, says, 60);
}

static void end(FIXTURE_DATA(top) * self, unsigned which)
{
	program_kill(&self->programs[which]);
	program_free(&self->programs[which]);
	self->programs[which].pid = 0;
	free(self->pids[which]);
	self->pids[which] = NULL;
}

#define BEGIN(which, every, script, says)                                                   \
	ASSERT_TRUE(begin(self, which, every, script, says))                                \
	{                                                                                   \
		TH_LOG("%s%s", self->programs[which].output, self->programs[which].errors); \
	}

/* thaw top, to its end. */
#define TOP(wanted, ...)                                                                   \
	do {                                                                               \
		program_free(&self->top);                                                  \
		ASSERT_EQ(wanted, program_run(&self->top, NULL, THAW("top", __VA_ARGS__))) \
		{                                                                          \
			TH_LOG("%s%s", self->top.output, self->top.errors);                \
		}                                                                          \
		self->top.pid = 0;                                                         \
	} while (0)

/* ---- JSON ---- */

/* The object of a process, terminated; the caller frees it. Empty: there is none. */
static char *row_of(const char *json, pid_t pid)
{
	char *key = support_format("{\"pid\":%d,", pid);
	const char *at = strstr(json, key);
	char *row = support_format("%.*s", at ? (int)strcspn(at, "}") : 0, at ? at : "");

	free(key);
	return row;
}

static const char *value_at(const char *json, const char *key)
{
	char *quoted = support_format("\"%s\":", key);
	const char *at = strstr(json, quoted);

	at = at ? at + strlen(quoted) : NULL;
	free(quoted);
	return at;
}

/* NONE: it is null. */
static uint64_t number(const char *json, const char *key)
{
	const char *at = value_at(json, key);

	if (!at)
		support_die(key);
	return strncmp(at, "null", 4) ? strtoull(at, NULL, 10) : NONE;
}

static double real(const char *json, const char *key)
{
	const char *at = value_at(json, key);

	if (!at || !strncmp(at, "null", 4))
		support_die(key);
	return strtod(at, NULL);
}

static bool text_is(const char *json, const char *key, const char *text)
{
	char *quoted = text ? support_format("\"%s\"", text) : support_format("null");
	const char *at = value_at(json, key);
	bool is = at && !strncmp(at, quoted, strlen(quoted));

	free(quoted);
	return is;
}

#define EXPECT_TEXT(row, key, text) EXPECT_TRUE(text_is(row, key, text)) TH_LOG("%s", row)

/* What the log of an image says of its newest generation, and the sums of those in (from, to]. */
struct sums {
	struct thaw_generation newest;
	double pages, bytes, pause_ns;
};

static struct sums log_sums(const char *path, uint64_t from, uint64_t to)
{
	const struct thaw_generation *list;
	struct thaw_image *image;
	struct sums sums = {0};
	unsigned count;

	if (thaw_image_open(path, &image, NULL))
		support_die(path);
	count = thaw_image_log(image, &list);
	for (unsigned i = 0; i < count; i++) {
		sums.newest = list[i];
		if (list[i].number <= from || list[i].number > to)
			continue;
		sums.pages += (double)list[i].pages_written;
		sums.bytes += (double)list[i].bytes_written;
		sums.pause_ns += (double)list[i].pause_ns;
	}
	thaw_image_close(image);
	return sums;
}

/* ---- What it shows ---- */

TEST_F(top, shows_what_the_log_says)
{
	struct thaw_generation newest;
	char *row;

	BEGIN(0, "0", self->three, "three\n");
	TOP(0, "--once", "--json", "-d", "0.2", self->images[0]);
	row = row_of(self->top.output, self->programs[0].pid);
	newest = log_sums(self->images[0], 0, 0).newest;
	EXPECT_LE(200000000, number(self->top.output, "intervalNs"));
	EXPECT_EQ(newest.number, number(row, "generation"));
	EXPECT_EQ(newest.time_ns, number(row, "generationTimeNs"));
	EXPECT_EQ(newest.heap_bytes, number(row, "heapBytes"));
	EXPECT_EQ(newest.pause_ns, number(row, "pauseNs"));
	EXPECT_EQ(NONE, number(row, "pauseMeanNs")); /* none was made meanwhile */
	EXPECT_EQ(0, number(row, "generations"));
	EXPECT_EQ(0, real(row, "dirtyPagesPerSecond"));
	EXPECT_EQ(0, real(row, "checkpointBytesPerSecond"));
	EXPECT_EQ(getuid(), number(row, "uid"));
	EXPECT_LT(1u << 20, number(row, "residentBytes"));
	EXPECT_NE(NONE, number(row, "faults"));
	EXPECT_TEXT(row, "image", self->images[0]);
	EXPECT_TEXT(row, "imageState", "named");
	EXPECT_TEXT(row, "imageError", NULL);
	EXPECT_NE(NULL, strstr(row, "/three.js\",")); /* the command */
	free(row);
	/* One document, one program. */
	EXPECT_EQ(self->top.output + strlen(self->top.output) - 1, strchr(self->top.output, '\n'));
	TOP(0, "--once", "--json", "-d", "0.1", self->pids[0]);
	EXPECT_NE(NULL, strstr(self->top.output, self->images[0]));
}

/* Every figure of every document, however fast the program and this were. */
TEST_F(top, rates_are_those_of_the_generations_of_each_interval)
{
	uint64_t first = 0, before = 0, made = 0;
	const char *tracker = getenv("THAW_TRACKER"); /* which scripts/kernels forces */
	bool on_module = tracker && !strcmp(tracker, "kmod");
	double dirtied = 0;
	char *rest, *line;

	BEGIN(0, "10ms", self->busy, "two\n");
	TOP(0, "--json", "-d", "0.2", "-n", "5", self->images[0]);
	rest = self->top.output;
	for (unsigned n = 0; n < 5; n++) {
		double seconds;
		struct sums sums, all;
		char *row;

		line = strsep(&rest, "\n");
		ASSERT_NE(NULL, line);
		ASSERT_LT(0, strlen(line));
		row = row_of(line, self->programs[0].pid);
		ASSERT_LT(0, strlen(row)) TH_LOG("%s", line);
		if (!n)
			first = before = number(row, "generation") - number(row, "generations");
		EXPECT_EQ(before + number(row, "generations"), number(row, "generation"));
		seconds = (double)number(line, "intervalNs") * 1e-9;
		sums = log_sums(self->images[0], before, number(row, "generation"));
		all = log_sums(self->images[0], first, number(row, "generation"));
		before = number(row, "generation");
		made += number(row, "generations");
		EXPECT_TEXT(row, "dirtyFrom", on_module ? "module" : "generations");
		if (on_module) { /* which counts at other moments */
			dirtied += real(row, "dirtyPagesPerSecond");
			EXPECT_NE(NULL, strstr(line, "\"module\":true"));
			EXPECT_LT(0, number(row, "heapResidentBytes"));
			EXPECT_GE(number(row, "heapBytes"), number(row, "heapResidentBytes"));
			EXPECT_NE(NONE, number(row, "faultsServedByModule"));
			EXPECT_NE(NONE, number(row, "faultsPassedByModule"));
		} else {
			EXPECT_GT(0.002, real(row, "dirtyPagesPerSecond") - sums.pages / seconds);
			EXPECT_LT(-0.002, real(row, "dirtyPagesPerSecond") - sums.pages / seconds);
			EXPECT_EQ(NONE, number(row, "heapResidentBytes"));
		}
		EXPECT_GT(0.002, real(row, "checkpointBytesPerSecond") - sums.bytes / seconds);
		EXPECT_LT(-0.002, real(row, "checkpointBytesPerSecond") - sums.bytes / seconds);
		if (made) {
			EXPECT_EQ((uint64_t)(all.pause_ns / (double)made),
				  number(row, "pauseMeanNs"));
		}
		EXPECT_GT(0.002,
			  real(row, "faultsPerSecond") - (double)number(row, "faults") / seconds);
		free(row);
	}
	EXPECT_LT(0, made);
	EXPECT_EQ(on_module, dirtied > 0);
	EXPECT_STREQ("", rest);
}

static const char *const by_number[] = {"generation", "heap", "resident", "age"};

TEST_F(top, sorts_by_any_column)
{
	static const char *const columns[] = {
		"pid",		 "user",       "generation",
		"age",		 "heap",       "resident",
		"heap-resident", "dirty",      "faults",
		"served",	 "passed",     "pause",
		"mean",		 "checkpoint", "block-io",
		"swap-in",	 "thrashing",  "write-protect-copy",
		"image",	 "replica",    "command",
	};
	const char *one, *other;

	BEGIN(0, "0", self->three, "three\n");
	BEGIN(1, "10ms", self->busy, "two\n");
	for (unsigned i = 0; i < sizeof(columns) / sizeof(columns[0]); i++)
		TOP(0, "--once", "-d", "0.1", "--sort", columns[i], self->pids[0], self->pids[1]);
	/* The path: as it is read; numbers: the largest first. */
	TOP(0, "--once", "-d", "0.1", "--sort", "image", self->pids[0], self->pids[1]);
	one = strstr(self->top.output, self->images[0]);
	other = strstr(self->top.output, self->images[1]);
	ASSERT_NE(NULL, one);
	ASSERT_NE(NULL, other);
	EXPECT_LT(one, other);
	TOP(0, "--once", "-d", "0.1", "--sort", "pid", self->pids[0], self->pids[1]);
	EXPECT_EQ(self->programs[0].pid < self->programs[1].pid,
		  strstr(self->top.output, self->images[0]) <
			  strstr(self->top.output, self->images[1]));
	/* The image of the one that makes generations all the time is read after the other's. */
	for (unsigned i = 0; i < 4; i++) {
		static const char *const keys[] = {"generation", "heapBytes", "residentBytes",
						   "generationTimeNs"};
		char *rows[2];
		bool first;

		TOP(0, "--once", "--json", "-d", "0.1", "--sort", by_number[i], self->pids[0],
		    self->pids[1]);
		rows[0] = row_of(self->top.output, self->programs[0].pid);
		rows[1] = row_of(self->top.output, self->programs[1].pid);
		first = strstr(self->top.output, rows[0]) < strstr(self->top.output, rows[1]);
		/* The oldest first: the smallest time. */
		EXPECT_EQ(first, i < 3 ? number(rows[0], keys[i]) > number(rows[1], keys[i])
				       : number(rows[0], keys[i]) < number(rows[1], keys[i]))
		TH_LOG("%s: %s", by_number[i], self->top.output);
		free(rows[0]);
		free(rows[1]);
	}
}

/*
 * Watched all the time: killed, and a zombie until it is waited for; then its image has another
 * process.
 */
TEST_F(top, a_program_is_killed_and_continued)
{
	char *key;

	BEGIN(0, "10ms", self->busy, "two\n");
	self->top = program_start(THAW("top", "--json", "-d", "0.1", self->images[0]));
	key = support_format("\"pid\":%d,", self->programs[0].pid);
	ASSERT_TRUE(program_wait_for(&self->top, key, 60)) TH_LOG("%s", self->top.errors);
	free(key);
	kill(self->programs[0].pid, SIGKILL);
	ASSERT_TRUE(program_wait_for(&self->top, "\"programs\":[]", 60));
	end(self, 0);
	self->programs[0] = program_start(
		THAW("run", "-q", "--every", "10ms", "--image", self->images[0], self->busy));
	key = support_format("\"pid\":%d,", self->programs[0].pid);
	EXPECT_TRUE(program_wait_for(&self->top, key, 60)) TH_LOG("%s", self->top.output);
	free(key);
	/* Nobody waits for its reader. */
	close(self->top.out);
	self->top.out = open("/dev/null", O_RDONLY | O_CLOEXEC);
	EXPECT_EQ(128 + SIGPIPE, program_finish(&self->top, 60));
	self->top.pid = 0;
}

TEST_F(top, an_image_is_renamed_replaced_and_removed)
{
	char *other = support_format("%s/other.thaw", self->directory), *row;

	BEGIN(0, "0", self->three, "three\n");
	ASSERT_EQ(0, rename(self->images[0], other));
	support_write(self->images[0], "not an image");
	TOP(0, "--once", "--json", "-d", "0.1", self->pids[0]);
	row = row_of(self->top.output, self->programs[0].pid);
	EXPECT_TEXT(row, "image", other);
	EXPECT_TEXT(row, "imageState", "named");
	free(row);
	/* It is not the image of that name. */
	TOP(0, "--once", "--json", "-d", "0.1", self->images[0]);
	EXPECT_NE(NULL, strstr(self->top.output, "\"programs\":[]"));
	/* Removed while it is watched: the last name is still known; its log, too. */
	self->top = program_start(THAW("top", "--json", "-d", "0.1", self->pids[0]));
	ASSERT_TRUE(program_wait_for(&self->top, "\"imageState\":\"named\"", 60));
	unlink(other);
	ASSERT_TRUE(program_wait_for(&self->top, "\"imageState\":\"removed\"", 60));
	row = strrchr(self->top.output, '{');
	EXPECT_TEXT(row, "image", other);
	EXPECT_EQ(3, number(row, "generation"));
	program_kill(&self->top);
	TOP(0, "--once", "-d", "0.1", self->pids[0]);
	EXPECT_NE(NULL, strstr(self->top.output, " (removed)"));
	free(other);
}

/* Its program goes on, and knows nothing of it yet. */
TEST_F(top, an_image_is_damaged)
{
	char *row;

	BEGIN(0, "0", self->three, "three\n");
	for (unsigned page = 0; page < 2; page++) /* both slots of the header */
		support_flip(self->images[0], page * 4096 + 100, 1);
	TOP(0, "--once", "--json", "-d", "0.1", self->images[0]);
	row = row_of(self->top.output, self->programs[0].pid);
	EXPECT_EQ(NONE, number(row, "generation"));
	EXPECT_FALSE(text_is(row, "imageError", NULL));
	EXPECT_NE(NONE, number(row, "faults"));
	free(row);
	TOP(0, "--once", "-d", "0.1", self->images[0]);
	EXPECT_NE(NULL, strstr(self->top.output, ".thaw: ")) TH_LOG("%s", self->top.output);
}

/* What the kernel counts only for some, and only if it is told to: there, or why not. */
TEST_F(top, delays_are_there_or_it_says_why)
{
	bool known;
	char *row;

	BEGIN(0, "10ms", self->busy, "two\n");
	TOP(0, "--once", "--json", "-d", "0.1", self->pids[0]);
	row = row_of(self->top.output, self->programs[0].pid);
	known = text_is(self->top.output, "noDelays", NULL);
	EXPECT_EQ(known, number(row, "blockIoDelayNs") != NONE);
	EXPECT_EQ(known, number(row, "swapInDelayNs") != NONE);
	free(row);
	TOP(0, "--once", "-d", "0.1", self->pids[0]);
	EXPECT_EQ(known, !strstr(self->top.output, "\nno delays: ")) TH_LOG("%s", self->top.output);
}

/* Names that would do something to a terminal; a table is for people, JSON for programs. */
TEST_F(top, names_are_escaped)
{
	char *image = support_format("%s/\033[2J\xff\xc3\xa9\n\".thaw", self->directory);

	free(self->images[0]);
	self->images[0] = image;
	BEGIN(0, "0", self->three, "three\n");
	TOP(0, "--once", "-d", "0.1", self->pids[0]);
	EXPECT_EQ(NULL, strchr(self->top.output, '\033'));
	EXPECT_NE(NULL, strstr(self->top.output, "/\\x1b[2J\\xff\xc3\xa9\\n\".thaw"))
	TH_LOG("%s", self->top.output);
	TOP(0, "--once", "--json", "-d", "0.1", self->pids[0]);
	EXPECT_NE(NULL, strstr(self->top.output, "/\\u001b[2J\\ufffd\xc3\xa9\\n\\\".thaw"))
	TH_LOG("%s", self->top.output);
}

/* ---- Which processes ---- */

static struct thaw *heap_open(const char *path)
{
	struct thaw_options options = {
		.image = path, .flags = THAW_CREATE, .max_bytes = 1u << 20, .engine = "test"};
	struct thaw *heap;

	return thaw_open(&options, &heap, NULL) ? NULL : heap;
}

/* Any program of libthaw is one; one that has two images open is two, and has no generation yet. */
TEST_F(top, a_process_has_two_images)
{
	struct thaw *heaps[2] = {heap_open(self->images[0]), heap_open(self->images[1])};
	struct thaw_result result;
	char *pid = support_format("%d", getpid()), *row, *other;

	if (!heaps[0] || !heaps[1])
		SKIP(return, "no heap can be opened here");
	ASSERT_EQ(0, thaw_resize(heaps[1], 64 << 10));
	ASSERT_EQ(0, thaw_checkpoint(heaps[1], THAW_REASON_REQUEST, NULL, 0, &result));
	TOP(0, "--once", "--json", "-d", "0.1", "--sort", "image", pid);
	row = row_of(self->top.output, getpid());
	other = row_of(strstr(self->top.output, row) + 1, getpid());
	EXPECT_TEXT(row, "image", self->images[0]);
	EXPECT_EQ(NONE, number(row, "generation"));
	EXPECT_EQ(0, number(row, "generations"));
	EXPECT_TEXT(other, "image", self->images[1]);
	EXPECT_EQ(1, number(other, "generation"));
	EXPECT_EQ(64 << 10, number(other, "heapBytes"));
	free(row);
	free(other);
	TOP(0, "--once", "--json", "-d", "0.1", self->images[1]);
	row = row_of(self->top.output, getpid());
	EXPECT_TEXT(row, "image", self->images[1]);
	free(row);
	free(pid);
	thaw_close(heaps[0]);
	thaw_close(heaps[1]);
}

/* A child of fork() holds the image's lock, too: it is a program only once nobody else is. */
TEST_F(top, a_child_is_left_with_the_image)
{
	volatile pid_t *pids =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t parent = support_fork(), child;
	char *row, *other;

	if (!parent) {
		if (!heap_open(self->images[0]))
			_exit(1);
		child = fork();
		if (!child) {
			for (;;)
				pause();
		}
		pids[0] = child;
		for (;;)
			pause();
	}
	for (double until = support_deadline(30); !pids[0] && support_seconds() < until;)
		support_sleep(0.01);
	if (!pids[0] && waitpid(parent, NULL, WNOHANG) == parent)
		SKIP(return, "no heap can be opened here");
	child = pids[0];
	ASSERT_LT(0, child);
	TOP(0, "--once", "--json", "-d", "0.1", self->images[0]);
	row = row_of(self->top.output, parent);
	other = row_of(self->top.output, child);
	EXPECT_NE('\0', *row) TH_LOG("%s", self->top.output);
	EXPECT_EQ('\0', *other) TH_LOG("%s", self->top.output);
	free(row);
	free(other);
	/* While it is watched, and afterwards. */
	self->top = program_start(THAW("top", "--json", "-d", "0.1", self->images[0]));
	ASSERT_TRUE(program_wait_for(&self->top, "\n", 60));
	kill(parent, SIGKILL);
	waitpid(parent, NULL, 0);
	row = support_format("{\"pid\":%d,", child);
	EXPECT_TRUE(program_wait_for(&self->top, row, 60)) TH_LOG("%s", self->top.output);
	program_kill(&self->top);
	TOP(0, "--once", "--json", "-d", "0.1", self->images[0]);
	EXPECT_NE(NULL, strstr(self->top.output, row)) TH_LOG("%s", self->top.output);
	free(row);
	kill(child, SIGKILL);
	munmap((void *)pids, 4096);
}

/*
 * What mere readers can lock does not hide the writer, and makes no program of a reader
 * (uffd/image/lock.c).
 */
static void expect_only_the_writer(struct __test_metadata *_metadata, FIXTURE_DATA(top) * self)
{
	char *row, *other;

	self->programs[0] = program_start(
		THAW("run", "-q", "--every", "10ms", "--image", self->images[0], self->busy));
	ASSERT_TRUE(program_wait_for(&self->programs[0], "restored\n", 60));
	TOP(0, "--once", "--json", "-d", "0.1", self->images[0]);
	row = row_of(self->top.output, self->programs[0].pid);
	other = row_of(self->top.output, getpid());
	EXPECT_NE('\0', *row) TH_LOG("%s", self->top.output);
	EXPECT_EQ('\0', *other) TH_LOG("%s", self->top.output);
	free(row);
	free(other);
	end(self, 0);
}

TEST_F(top, readers_lock_the_image)
{
	struct flock all = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	int fd;

	BEGIN(0, "10ms", self->busy, "two\n");
	end(self, 0);
	fd = open(self->images[0], O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, flock(fd, LOCK_EX));
	expect_only_the_writer(_metadata, self);
	ASSERT_EQ(0, flock(fd, LOCK_UN));
	ASSERT_EQ(0, fcntl(fd, F_OFD_SETLK, &all));
	expect_only_the_writer(_metadata, self);
	close(fd);
}

/* Of a process of another user: what everybody may know. */
TEST_F(top, a_process_may_not_be_looked_into)
{
	char *row;

	if (getuid() || geteuid() || access(CONFINE_BINARY, X_OK))
		SKIP(return, "only root has something to hide from others");
	BEGIN(0, "0", self->three, "three\n");
	program_free(&self->top);
	ASSERT_EQ(0, program_run(&self->top, NULL,
				 (const char *[]){CONFINE_BINARY, "--user", THAW_BINARY, "top",
						  "--once", "--json", "-d", "0.1", self->pids[0],
						  NULL}))
	TH_LOG("%s%s", self->top.output, self->top.errors);
	EXPECT_EQ(1, number(self->top.output, "closed"));
	row = row_of(self->top.output, self->programs[0].pid);
	EXPECT_TEXT(row, "image", NULL);
	EXPECT_TEXT(row, "imageState", NULL);
	EXPECT_EQ(NONE, number(row, "generation"));
	EXPECT_EQ(0, number(row, "uid"));
	EXPECT_NE(NONE, number(row, "residentBytes"));
	EXPECT_NE(NONE, number(row, "faults"));
	free(row);
	program_free(&self->top);
	ASSERT_EQ(0, program_run(&self->top, NULL,
				 (const char *[]){CONFINE_BINARY, "--user", THAW_BINARY, "top",
						  "--once", "-d", "0.1", self->pids[0], NULL}));
	EXPECT_NE(NULL, strstr(self->top.output, "1 program cannot be looked into: run as root\n"));
	self->top.pid = 0;
}

TEST_F(top, there_are_none)
{
	TOP(0, "--once", "--json", "-d", "0.1", "1");
	EXPECT_NE(NULL, strstr(self->top.output, "\"programs\":[]}\n"));
	TOP(0, "-d", "0.1", "1"); /* no terminal: once */
	EXPECT_NE(NULL, strstr(self->top.output, " 0 programs,"));
	TOP(0, "-d", "100ms", "-n", "2", "1");
	EXPECT_NE(NULL, strstr(strstr(self->top.output, "thaw top") + 1, "thaw top"));
}

/*
 * Whoever reads the JSON finds each of its keys in thaw-top(1), and whoever reads the table each of its
 * titles.
 */
TEST_F(top, the_manual_page_has_every_word)
{
	static char manual[200000];
	FILE *file = fopen(THAW_SOURCE "/vm/cli/manual/top.mdoc", "re");
	char *rest, *word;
	unsigned keys = 0, titles = 0;

	if (!file)
		SKIP(return, "the sources are not on this machine");
	manual[fread(manual, 1, sizeof(manual) - 1, file)] = '\0';
	fclose(file);
	BEGIN(0, "0", self->three, "three\n");
	TOP(0, "--once", "--json", "-d", "0.1", self->images[0]);
	for (rest = self->top.output; (rest = strstr(rest, "\":")); rest++) {
		char *key;

		*rest = '\0';
		key = strrchr(self->top.output, '"') + 1;
		EXPECT_NE(NULL, strstr(manual, key)) TH_LOG("%s", key);
		*rest = '"';
		keys++;
	}
	EXPECT_LE(30, keys);
	TOP(0, "--once", "-d", "0.1", self->images[0]);
	rest = strstr(self->top.output, "    PID ");
	ASSERT_NE(NULL, rest);
	rest[strcspn(rest, "\n")] = '\0';
	while ((word = strsep(&rest, " "))) {
		EXPECT_NE(NULL, strstr(manual, word)) TH_LOG("%s", word);
		titles += *word != '\0';
	}
	EXPECT_LE(17, titles);
}

#define REFUSED(code, words, ...)                                \
	do {                                                     \
		TOP(code, __VA_ARGS__);                          \
		EXPECT_NE(NULL, strstr(self->top.errors, words)) \
		TH_LOG("%s", self->top.errors);                  \
		EXPECT_STREQ("", self->top.output);              \
	} while (0)

TEST_F(top, what_is_wrong_is_refused)
{
	REFUSED(9, "no column 'dirt' (did you mean dirty?)", "--sort", "dirt");
	REFUSED(9, "there are: pid, user, ", "--sort", "banana");
	REFUSED(9, "from 0.1 s up, not '0.05'", "-d", "0.05");
	REFUSED(9, "not 'soon'", "--interval", "soon");
	REFUSED(9, "not '-1'", "-d", "-1");
	REFUSED(9, "not '1x'", "-d", "1x");
	REFUSED(9, "not 'nan'", "-d", "nan");
	REFUSED(9, "--count wants a number from 1 up", "-n", "0");
	REFUSED(9, "exclude each other", "--once", "-n", "2");
	REFUSED(9, "unknown option --onec (did you mean --once?)", "--onec");
	REFUSED(66, "image-2.thaw: No such file or directory", self->images[2]);
}

TEST_HARNESS_MAIN
