// SPDX-License-Identifier: GPL-2.0-only
/*
 * turn_stopping.c - generations in the middle of a turn: when one is taken, who may continue it,
 * what happens instead, and what a program sees of it all.
 *
 * (That the computation itself goes on unharmed is turn_kills.c's and turn_constructs.c's matter,
 * what stands on the stack turn_stack.c's.)
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "kselftest_harness.h"

#include "by_path.h"
#include "../../vm/js/state/blob.h"
#include "../../vm/policy/runtime.h"
#include "support.h"

/* One turn without end, that says now and then how far it is. `n` is checked by its own digest. */
static const char endless[] = "import { env } from 'thaw'\n"
			      "let n = 0, digest = 0\n"
			      "console.log('started')\n"
			      "for (;;) {\n"
			      "	digest = (digest * 31 + n++) | 0\n"
			      "	if (n % 100000 === 0) {\n"
			      "		console.log('n', n, digest)\n"
			      "		if (env.STOP) break\n"
			      "	}\n"
			      "}\n"
			      "let check = 0\n"
			      "for (let i = 0; i < n; i++) check = (check * 31 + i) | 0\n"
			      "console.log(check === digest ? 'right' : 'wrong', n)\n";

/*
 * Between turns, then in one that never ends. Three times, for the turn that loads the program may
 * last longer than the interval on a slow machine, and the first one is in the middle of it then.
 */
static const char later_endless[] = "import { checkpoint } from 'thaw'\n"
				    "let n = 0\n"
				    "for (let i = 0; i < 3; i++) await checkpoint()\n"
				    "setTimeout(() => {\n"
				    "	console.log('loop', n)\n"
				    "	for (;;) if (++n % 1000000 === 0) console.log('n', n)\n"
				    "}, 1)\n";

FIXTURE(stopping)
{
	char *directory, *script, *image, *key;
	struct program program;
};
FIXTURE_SETUP(stopping)
{
	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
	self->image = support_format("%s/app.thaw", self->directory);
	self->key = support_format("%s/key", self->directory);
	setenv("THAW_KEY", self->key, 1); /* a path: made on first use */
}
FIXTURE_TEARDOWN(stopping)
{
	program_free(&self->program);
	free(self->script);
	free(self->image);
	free(self->key);
	support_remove(self->directory);
}

/* The image's generations. The caller frees them. */
static int generations(const char *image, struct thaw_generation **list)
{
	struct thaw_error error;
	int count = path_log(image, list, &error);

	if (count < 0)
		support_die(error.text);
	return count;
}

static unsigned count_of_kind(const char *image, uint32_t kind)
{
	struct thaw_generation *list;
	int count = generations(image, &list);
	unsigned found = 0;

	for (int i = 0; i < count; i++)
		found += list[i].kind == kind;
	free(list);
	return found;
}

static struct thaw_generation newest(const char *image)
{
	struct thaw_generation *list, last = {0};
	int count = generations(image, &list);

	if (count)
		last = list[count - 1];
	free(list);
	return last;
}

/* The listed one before the newest: of those that were made soon one after another not all are listed. */
static uint64_t number_before_newest(const char *image)
{
	struct thaw_generation *list;
	int count = generations(image, &list);
	uint64_t number = count > 1 ? list[count - 2].number : 0;

	free(list);
	return number;
}

/* 0: none yet, or no image. */
static uint64_t newest_number(const char *image)
{
	return access(image, F_OK) ? 0 : newest(image).number;
}

static struct thaw_generation newest_of_kind(const char *image, uint32_t kind)
{
	struct thaw_generation *list, last = {0};
	int count = generations(image, &list);

	for (int i = 0; i < count; i++)
		if (list[i].kind == kind)
			last = list[i];
	free(list);
	return last;
}

/*
 * Wait until the image's newest generation is above `number` and of that kind, and listen to the
 * program meanwhile: a full pipe would stop it.
 */
static bool wait_for_generation(struct program *program, const char *image, uint64_t number,
				uint32_t kind, double seconds)
{
	double end = support_deadline(seconds);

	do {
		struct thaw_generation last = {0};

		if (!access(image, F_OK) && support_size(image))
			last = newest(image);
		if (last.number > number && last.kind == kind)
			return true;
		program_wait_for(program, NULL, 0.01);
	} while (support_seconds() < end);
	return false;
}

/*
 * Wait until it was stopped in what it is doing now: the next generation may have been captured
 * before this call, the one after it was begun when that was durable.
 */
static bool wait_until_stopped(struct program *program, const char *image)
{
	return wait_for_generation(program, image, newest_number(image) + 1, THAW_KIND_BOUND, 60);
}

/* A reader sees what is listed: of a program that was killed, something may wait in the log of its image. */
static void kill_and_settle(struct __test_metadata *_metadata, FIXTURE_DATA(stopping) * self)
{
	struct thaw_error error;

	program_kill(&self->program);
	program_free(&self->program);
	ASSERT_EQ(0, thaw_image_settle(self->image, &error)) TH_LOG("%s", error.text);
}

/* A program that was killed in the middle of a turn, with one generation between turns before. */
static void leave_in_a_turn(struct __test_metadata *_metadata, FIXTURE_DATA(stopping) * self)
{
	support_write(self->script, later_endless);
	self->program = program_start(THAW("run", "--every", "10ms", self->script));
	ASSERT_TRUE(wait_for_generation(&self->program, self->image, 20, THAW_KIND_BOUND, 60));
	kill_and_settle(_metadata, self);
}

/* The last number behind `word` in what was said. */
static long long last_number(const char *text, const char *word)
{
	long long number = -1;

	for (const char *at = text; (at = strstr(at, word)); at++)
		if (strchr(at, '\n'))
			number = atoll(at + strlen(word));
	return number;
}

/* ---- Taking them ---- */

TEST_F(stopping, a_killed_loop_goes_on)
{
	long long before;

	support_write(self->script, endless);
	self->program = program_start(THAW("run", "--every", "20ms", self->script));
	ASSERT_TRUE(wait_for_generation(&self->program, self->image, 3, THAW_KIND_BOUND, 60));
	before = last_number(self->program.output, "n ");
	ASSERT_TRUE(wait_until_stopped(&self->program, self->image));
	program_kill(&self->program);
	program_free(&self->program);

	setenv("STOP", "1", 1);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("run", "-v", self->script)));
	EXPECT_NE(NULL, strstr(self->program.errors, "in the middle of a turn"))
	TH_LOG("%s", self->program.errors);
	EXPECT_NE(NULL, strstr(self->program.output, "right")) TH_LOG("%s", self->program.output);
	EXPECT_EQ(NULL, strstr(self->program.output, "started"));
	EXPECT_GE(last_number(self->program.output, "right "), before);
}

/* Short turns are left to end: what is between turns, any build can continue. */
TEST_F(stopping, short_turns_are_not_stopped)
{
	unsigned stopped = 1;
	char *text;

	/* A slow machine has less to do in a turn. */
	text = support_format(
		"let n = 0\n"
		"setInterval(() => { for (let i = 0; i < %u; i++) n += i; console.log('n', n) }, 1)\n",
		200000 / test_patience());
	support_write(self->script, text);
	free(text);
	/*
	 * Half a second, which a turn of some 6 ms does not last on a busy machine either: unless
	 * it is off the CPU for so long.
	 */
	for (int attempt = 0; attempt < 3 && stopped; attempt++) {
		program_free(&self->program);
		unlink(self->image);
		self->program = program_start(THAW("run", "--every", "500ms", self->script));
		ASSERT_TRUE(wait_for_generation(&self->program, self->image, 4, THAW_KIND_PORTABLE,
						30));
		program_kill(&self->program);
		stopped = count_of_kind(self->image, THAW_KIND_BOUND);
	}
	EXPECT_EQ(0, stopped);
}

/* ... however long a series of the others is. */
TEST_F(stopping, one_generation_between_turns_stays)
{
	struct thaw_generation between;

	support_write(self->script, later_endless);
	self->program =
		program_start(THAW("run", "--every", "10ms", "--retain", "3", self->script));
	ASSERT_TRUE(wait_for_generation(&self->program, self->image, 20, THAW_KIND_BOUND, 60));
	program_kill(&self->program);
	between = newest_of_kind(self->image, THAW_KIND_PORTABLE);
	EXPECT_GT(between.number, 0);
	EXPECT_LT(between.number, newest(self->image).number - 10);
	EXPECT_EQ(3, count_of_kind(self->image, THAW_KIND_BOUND));
}

TEST_F(stopping, sigusr2_does_not_wait_for_the_end_of_a_turn)
{
	support_write(self->script, endless);
	self->program = program_start(THAW("run", "--every", "0", self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "n 1000000", 60));
	EXPECT_EQ(0, newest(self->image).number);
	kill(self->program.pid, SIGUSR2);
	ASSERT_TRUE(wait_for_generation(&self->program, self->image, 0, THAW_KIND_BOUND, 60));
	program_kill(&self->program);
	program_free(&self->program);
	setenv("STOP", "1", 1);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("run", self->script)));
	EXPECT_NE(NULL, strstr(self->program.output, "right"));
}

/* systemd, docker and a person at a keyboard do not wait for a loop of an hour. */
TEST_F(stopping, sigterm_ends_a_turn_that_lasts)
{
	support_write(self->script, endless);
	self->program = program_start(THAW("run", "--every", "0", self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "n 1000000", 60));
	kill(self->program.pid, SIGTERM);
	EXPECT_EQ(143, program_finish(&self->program, 60));
	EXPECT_STREQ("", self->program.errors);
	EXPECT_EQ(THAW_KIND_BOUND, newest(self->image).kind);
	EXPECT_EQ(THAW_REASON_SIGNAL, newest(self->image).reason);
	program_free(&self->program);
	setenv("STOP", "1", 1);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("run", self->script)));
	EXPECT_NE(NULL, strstr(self->program.output, "right"));
	EXPECT_GT(last_number(self->program.output, "right "), 1000000);
}

TEST_F(stopping, sigterm_lets_a_short_turn_end)
{
	support_write(
		self->script,
		"console.log('started')\n"
		"setInterval(() => { const end = Date.now() + 20; while (Date.now() < end); }, 1)\n");
	/* Whoever is off the CPU for a tenth of a second at the wrong moment has a long turn. */
	for (int attempt = 0; attempt < 20; attempt++) {
		program_free(&self->program);
		unlink(self->image);
		self->program = program_start(THAW("run", self->script));
		ASSERT_TRUE(program_wait_for(&self->program, "started", 60));
		support_sleep(0.2);
		kill(self->program.pid, SIGTERM);
		ASSERT_EQ(143, program_finish(&self->program, 60));
		if (newest(self->image).kind == THAW_KIND_PORTABLE)
			return;
	}
	EXPECT_EQ(THAW_KIND_PORTABLE, newest(self->image).kind);
}

/* ---- Who may continue them ---- */

/* A copy of thaw that is another build: one bit of its build-id differs. */
static char *other_build(const char *directory)
{
	char *path = support_format("%s/thaw-other", directory), *bytes;
	char *copy = support_format("cp %s %s", THAW_BINARY, path);
	uint64_t size;
	FILE *file;
	char *at = NULL;

	if (system(copy))
		support_die(copy);
	free(copy);
	size = support_size(path);
	bytes = malloc(size);
	file = fopen(path, "re");
	if (!bytes || !file || fread(bytes, 1, size, file) != size)
		support_die(path);
	fclose(file);
	/* namesz 4, descsz 20, NT_GNU_BUILD_ID, "GNU" */
	at = memmem(bytes, size, "\4\0\0\0\24\0\0\0\3\0\0\0GNU", 16);
	if (!at)
		support_die("no build-id");
	support_flip(path, (uint64_t)(at + 16 - bytes), 1);
	free(bytes);
	return path;
}

TEST_F(stopping, another_build_goes_back_to_between_turns)
{
	char *other = other_build(self->directory), *at, *line;
	struct thaw_generation between, last;

	leave_in_a_turn(_metadata, self);
	between = newest_of_kind(self->image, THAW_KIND_PORTABLE);
	last = newest(self->image);

	/* Asked for by number, it is that or nothing. */
	at = support_format("%llu", (unsigned long long)last.number);
	EXPECT_EQ(EXIT_IMAGE_FOREIGN,
		  program_run(&self->program, NULL,
			      (const char *const[]){other, "run", "--at", at, self->script, NULL}));
	EXPECT_NE(NULL, strstr(self->program.errors, "only the build that wrote it"))
	TH_LOG("%s", self->program.errors);
	free(at);
	program_free(&self->program);
	EXPECT_EQ(last.number, newest(self->image).number);

	/* Who only asks something gets no answer from an older generation, and gives up nothing. */
	EXPECT_EQ(EXIT_IMAGE_FOREIGN,
		  program_run(&self->program, NULL,
			      (const char *const[]){other, "-i", self->image, "-p", "1", NULL}));
	EXPECT_NE(NULL, strstr(self->program.errors, "only the build that wrote it"));
	program_free(&self->program);
	EXPECT_EQ(last.number, newest(self->image).number);

	self->program = program_start((const char *const[]){other, "run", self->script, NULL});
	ASSERT_TRUE(program_wait_for(&self->program, "loop 0", 60))
	{
		TH_LOG("%s", self->program.errors);
	}
	program_kill(&self->program);
	line = support_format("going on from generation %llu,", (unsigned long long)between.number);
	EXPECT_NE(NULL, strstr(self->program.errors, line)) TH_LOG("%s", self->program.errors);
	EXPECT_EQ(strchr(self->program.errors, '\n'), strrchr(self->program.errors, '\n'));
	free(line);
	free(other);
}

/* Where there is nothing to go back to, nothing is thrown away. */
TEST_F(stopping, another_build_refuses_what_it_cannot_continue)
{
	char *other = other_build(self->directory);
	uint64_t last;

	support_write(self->script, endless);
	self->program = program_start(THAW("run", "--every", "10ms", self->script));
	ASSERT_TRUE(wait_for_generation(&self->program, self->image, 3, THAW_KIND_BOUND, 60));
	kill_and_settle(_metadata, self);
	last = newest(self->image).number;
	EXPECT_EQ(EXIT_IMAGE_FOREIGN,
		  program_run(&self->program, NULL,
			      (const char *const[]){other, "run", self->script, NULL}));
	EXPECT_NE(NULL, strstr(self->program.errors, "--fresh"))
	TH_LOG("%s", self->program.errors);
	EXPECT_EQ(last, newest(self->image).number);
	free(other);
}

/* The engine's place, and the heap's. (This test is another build as well; addresses come first.) */
TEST_F(stopping, a_taken_address_goes_back_to_between_turns)
{
	void *const places[] = {JS_PLACE_ADDRESS, JS_HEAP_ADDRESS};
	struct runtime_options options = {.image = self->image, .script = self->script};
	struct runtime *runtime;
	struct thaw_error error;
	void *there;

	leave_in_a_turn(_metadata, self);
	for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		there = mmap(places[i], 4096, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		ASSERT_EQ(places[i], there);
		options.generation = newest(self->image).number;
		EXPECT_EQ(THAW_EENGINE, runtime_open(&options, &runtime, &error));
		EXPECT_NE(NULL, strstr(error.text, "addresses")) TH_LOG("%s", error.text);
		options.generation = 0;
		ASSERT_EQ(0, runtime_open(&options, &runtime, &error)) TH_LOG("%s", error.text);
		EXPECT_EQ(newest_of_kind(self->image, THAW_KIND_PORTABLE).number,
			  thaw_opened(runtime_heap(runtime))->number);
		runtime_close(runtime);
		munmap(there, 4096);
	}
}

/* Cloned, written anew, or made the newest again: it is the same stack over the same heap. */
TEST_F(stopping, a_copy_goes_on_in_its_turn)
{
	char *copy = support_format("%s/copy.thaw", self->directory), *number;

	leave_in_a_turn(_metadata, self);
	number = support_format("%llu", (unsigned long long)number_before_newest(self->image));
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("clone", self->image, copy)));
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("compact", copy)));
	program_free(&self->program);
	for (int i = 0; i < 2; i++) {
		self->program = program_start(
			THAW("run", "-v", "--every", "0", "--image", copy, self->script));
		ASSERT_TRUE(program_wait_for(&self->program, "n ", 60))
		{
			TH_LOG("%s", self->program.errors);
		}
		program_kill(&self->program);
		EXPECT_NE(NULL, strstr(self->program.errors, "in the middle of a turn"))
		TH_LOG("%s", self->program.errors);
		EXPECT_EQ(NULL, strstr(self->program.output, "loop"));
		program_free(&self->program);
		EXPECT_EQ(0, program_run(&self->program, NULL, THAW("rollback", copy, number)));
		program_free(&self->program);
	}
	free(number);
	free(copy);
}

TEST_F(stopping, a_stranger_is_not_continued_but_trusted)
{
	leave_in_a_turn(_metadata, self);

	setenv("THAW_KEY", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 1);
	self->program = program_start(THAW("run", "--every", "0", self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "loop 0", 60));
	program_kill(&self->program);
	EXPECT_NE(NULL, strstr(self->program.errors, "not made with your key"))
	TH_LOG("%s", self->program.errors);
	program_free(&self->program);

	self->program = program_start(THAW("run", "--trust", "-v", self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "n ", 60));
	program_kill(&self->program);
	EXPECT_EQ(NULL, strstr(self->program.output, "loop"));
	EXPECT_NE(NULL, strstr(self->program.errors, "in the middle of a turn"));
	program_free(&self->program);

	/* Nobody's key: the same refusal, and it says what is missing. */
	setenv("THAW_KEY", "/nonexistent/key", 1);
	self->program = program_start(THAW("run", "--every", "0", self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "loop 0", 60));
	program_kill(&self->program);
	EXPECT_NE(NULL, strstr(self->program.errors, "/nonexistent/key"))
	TH_LOG("%s", self->program.errors);
}

/* Every byte of the blob is under the MAC: also what a fix of all the image's checksums changes. */
TEST_F(stopping, a_forged_stack_is_not_continued)
{
	struct thaw_options options = {
		.image = self->image,
		.max_bytes = JS_HEAP_MAX_BYTES,
		.guard_bytes = JS_HEAP_GUARD_BYTES,
		.engine = js_engine_identity,
	};
	struct thaw_error error;
	uint64_t number;
	size_t bytes, places[4];

	leave_in_a_turn(_metadata, self);
	number = newest(self->image).number;

	for (unsigned i = 0; i < 4; i++) {
		struct thaw *heap;
		uint8_t *state;

		options.generation = number;
		ASSERT_EQ(0, thaw_open(&options, &heap, &error)) TH_LOG("%s", error.text);
		state = (uint8_t *)thaw_state(heap, &bytes);
		state = memcpy(malloc(bytes), state, bytes);
		places[0] = 8;		 /* the shadow stack's pointer */
		places[1] = bytes - 33;	 /* the last byte of the stack */
		places[2] = bytes - 200; /* a return address, or near one */
		places[3] = bytes - 1;	 /* the MAC */
		state[places[i]] ^= i ? 1 : 16;
		ASSERT_EQ(0, thaw_checkpoint_begin(heap, THAW_REASON_REQUEST));
		ASSERT_EQ(THAW_READY, thaw_checkpoint_wait(heap));
		ASSERT_EQ(0, thaw_checkpoint_capture(heap, THAW_KIND_BOUND, state, bytes));
		ASSERT_EQ(THAW_DONE, thaw_checkpoint_wait(heap));
		thaw_checkpoint_poll(heap, NULL);
		thaw_close(heap);
		free(state);
		self->program = program_start(THAW("run", "--every", "0", self->script));
		ASSERT_TRUE(program_wait_for(&self->program, "loop 0", 60))
		{
			TH_LOG("place %u: %s%s", i, self->program.output, self->program.errors);
		}
		program_kill(&self->program);
		EXPECT_NE(NULL, strstr(self->program.errors, "not made with your key"))
		TH_LOG("%s", self->program.errors);
		program_free(&self->program);
	}
}

/* Without a key no generation in the middle of a turn is taken: said once, and the program runs. */
TEST_F(stopping, without_a_key_turns_are_left_alone)
{
	long long counted;
	char *more;

	setenv("THAW_KEY", "neither a key nor a path", 1);
	support_write(self->script, later_endless);
	self->program = program_start(THAW("run", "--every", "10ms", self->script));
	ASSERT_TRUE(program_wait_for_complaint(&self->program, "THAW_KEY", 60));
	counted = last_number(self->program.output, "n ");
	more = support_format("n %lld\n", (counted < 0 ? 0 : counted) + 5000000);
	ASSERT_TRUE(program_wait_for(&self->program, more, 60));
	free(more);
	program_kill(&self->program);
	EXPECT_EQ(0, count_of_kind(self->image, THAW_KIND_BOUND));
	/* It may be said again, a second later and so on: nothing else is. */
	for (char *line = self->program.errors, *end; (end = strchr(line, '\n')); line = end + 1) {
		EXPECT_EQ(0, strncmp(line, "thaw: THAW_KEY", 14))
		{
			TH_LOG("%s", line);
		}
	}
}

/* ---- What a program sees ---- */

/* What a program can see gets into its heap, and so into its image: not the key. */
TEST_F(stopping, the_key_is_no_part_of_the_environment)
{
	EXPECT_EQ(0, program_run(&self->program, NULL,
				 THAW("-e",
				      "const { env } = await import('thaw')\n"
				      "console.log(env.THAW_KEY, 'THAW_KEY' in env,\n"
				      "	Object.keys(env).includes('THAW_KEY'), 'PATH' in env)")));
	EXPECT_STREQ("undefined false false true\n", self->program.output);
}

/* What the rest of the turn begins in the new process is neither begun again nor answered early. */
TEST_F(stopping, a_continued_turn_owns_what_it_begins)
{
	char *file = support_format("%s/appended", self->directory), *text;
	FILE *appended;

	support_write(
		self->script,
		"import { appendFile, checkpoint, env, args, on } from 'thaw'\n"
		"on('restore', e => console.log('restored', e.restores))\n"
		"const before = await checkpoint()\n"
		"console.log('before', before.restored === true)\n"
		"setTimeout(() => {\n"
		"	const early = checkpoint()\n"
		"	early.then(r => console.log('early', r.restored === true))\n"
		"	console.log('loop')\n"
		"	while (!env.STOP) for (let i = 0; i < 100000; i++);\n"
		"	console.log('stopped')\n"
		"	checkpoint().then(r => console.log('late', r.restored === true, r.generation > 0))\n"
		"	appendFile(args[0], 'once\\n').then(() => console.log('appended'), e => console.log(e.code))\n"
		"	for (let i = 0; i < 3000000; i++);\n"
		"	console.log('end of turn')\n"
		"}, 1)\n");
	self->program = program_start(THAW("run", "--every", "20ms", self->script, file));
	ASSERT_TRUE(program_wait_for(&self->program, "loop", 60));
	ASSERT_TRUE(wait_until_stopped(&self->program, self->image));
	program_kill(&self->program);
	EXPECT_NE(NULL, strstr(self->program.output, "before false"));
	program_free(&self->program);

	setenv("STOP", "1", 1);
	EXPECT_EQ(0, program_run(&self->program, NULL,
				 THAW("run", "--every", "20ms", self->script, file)));
	text = self->program.output;
	EXPECT_EQ(0, strncmp(text, "stopped\nend of turn\n", 20)) TH_LOG("%s", text);
	EXPECT_NE(NULL, strstr(text, "restored 1\n")) TH_LOG("%s", text);
	EXPECT_NE(NULL, strstr(text, "early true\n")) TH_LOG("%s", text);
	EXPECT_NE(NULL, strstr(text, "late false true\n")) TH_LOG("%s", text);
	EXPECT_NE(NULL, strstr(text, "appended\n")) TH_LOG("%s", text);
	appended = fopen(file, "re");
	ASSERT_NE(NULL, appended);
	text = calloc(1, 64);
	EXPECT_EQ(5, fread(text, 1, 63, appended)) TH_LOG("%s", text);
	fclose(appended);
	free(text);
	free(file);
}

/* What became durable inside a turn is told at its end: once, the newest. */
TEST_F(stopping, a_long_turn_is_told_at_its_end)
{
	/* 600 ms are enough, unless the disk is slow. */
	for (int length = 600; length <= 600 * 4 * 4 * 4 && newest_number(self->image) <= 5;
	     length *= 4) {
		char *text = support_format(
			"import { checkpoint, on, exit } from 'thaw'\n"
			"let told = 0\n"
			"on('checkpoint', e => { told++; console.log('told', e.generation) })\n"
			"setTimeout(() => {\n"
			"	checkpoint().then(r => { console.log('resolved', r.generation > 0, told); setTimeout(exit, 1) })\n"
			"	const end = Date.now() + %d\n"
			"	while (Date.now() < end);\n"
			"	console.log('end', told)\n"
			"}, 1)\n",
			length);

		support_write(self->script, text);
		free(text);
		unlink(self->image);
		program_free(&self->program);
		EXPECT_EQ(0, program_run(&self->program, NULL,
					 THAW("run", "--every", "20ms", self->script)));
		EXPECT_NE(NULL, strstr(self->program.output, "end 0\n"))
		TH_LOG("%s", self->program.output);
		EXPECT_NE(NULL, strstr(self->program.output, "resolved true"))
		TH_LOG("%s", self->program.output);
	}
	EXPECT_GT(newest_number(self->image), 5);
}

static const char rejecting[] =
	"import { env } from 'thaw'\n"
	"setTimeout(() => {\n"
	"	const handled = Promise.reject(new Error('handled later'))\n"
	"	Promise.reject(new Error('from the life before'))\n"
	"	console.log('loop')\n"
	"	while (!env.STOP) for (let i = 0; i < 100000; i++);\n"
	"	handled.catch(() => {})\n"
	"	console.log('end')\n"
	"}, 1)\n"
	"setTimeout(() => console.log('never'), 1000)\n";

/* A rejection of the first half that gets no handler in the second ends the program as ever. */
TEST_F(stopping, rejections_before_the_kill_count)
{
	support_write(self->script, rejecting);
	self->program = program_start(THAW("run", "--every", "20ms", self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "loop", 60));
	ASSERT_TRUE(wait_until_stopped(&self->program, self->image));
	program_kill(&self->program);
	program_free(&self->program);
	setenv("STOP", "1", 1);
	EXPECT_EQ(1, program_run(&self->program, NULL, THAW("run", self->script)));
	EXPECT_NE(NULL, strstr(self->program.errors, "from the life before"))
	TH_LOG("%s", self->program.errors);
	EXPECT_EQ(NULL, strstr(self->program.errors, "handled later"));
	EXPECT_STREQ("end\n", self->program.output);
}

TEST_F(stopping, exit_and_exceptions_after_the_kill)
{
	static const struct {
		const char *last, *output, *errors;
		int code;
	} ends[] = {
		{"exit(7)", "", "", 7},
		{"throw new TypeError('thrown after the kill')", "", "TypeError: thrown after", 1},
		{"(function f() { f() })()", "", "RangeError", 1},
		/* Uncaught, so that four GiB are not written into an image at the end. */
		{"const a = []; for (;;) a.push(new Float64Array(1 << 24).fill(1))", "",
		 "InternalError: out of memory", 1},
	};

	for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		if (strstr(ends[i].last, "fill") && support_free_memory() < 5ull << 30) {
			TH_LOG("not '%s': this machine has too little memory free", ends[i].last);
			continue;
		}
		char *text = support_format("import { env, exit } from 'thaw'\n"
					    "console.log('loop')\n"
					    "while (!env.STOP) for (let i = 0; i < 100000; i++);\n"
					    "%s\n",
					    ends[i].last);

		support_write(self->script, text);
		free(text);
		unsetenv("STOP");
		self->program = program_start(THAW("run", "--every", "20ms", self->script));
		ASSERT_TRUE(program_wait_for(&self->program, "loop", 60));
		ASSERT_TRUE(wait_until_stopped(&self->program, self->image));
		program_kill(&self->program);
		program_free(&self->program);
		setenv("STOP", "1", 1);
		EXPECT_EQ(ends[i].code,
			  program_run(&self->program, NULL,
				      THAW("run", "-q", "--every", "0", self->script)));
		EXPECT_NE(NULL, strstr(self->program.output, ends[i].output))
		TH_LOG("%s: %s%s", ends[i].last, self->program.output, self->program.errors);
		EXPECT_NE(NULL, strstr(self->program.errors, ends[i].errors))
		TH_LOG("%s: %s", ends[i].last, self->program.errors);
		program_free(&self->program);
		unlink(self->image);
	}
}

TEST_HARNESS_MAIN
