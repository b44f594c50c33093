// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a program frees is given back: the memory of the process, and the bytes of the generations to come; what it keeps
 * is right, through kills, also when it makes and frees much all the time. And an allocator whose structures are
 * damaged harms nobody but the program.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "../../vm/js/engine/state.h"
#include "../../vm/js/engine/heap_layout.h"
#include "support.h"

FIXTURE(freed)
{
	char *directory, *script, *image;
};
FIXTURE_VARIANT(freed)
{
	const char *delivery, *tracker;
};
FIXTURE_VARIANT_ADD(freed, userfaultfd){"", ""};
FIXTURE_VARIANT_ADD(freed, wp_sync){"userfaultfd", "wp-sync"};
FIXTURE_VARIANT_ADD(freed, mprotect){"userfaultfd", "mprotect"};
FIXTURE_VARIANT_ADD(freed, user_mode){"user-mode", "wp-async"};
FIXTURE_VARIANT_ADD(freed, sigsegv){"sigsegv", "mprotect"};
FIXTURE_VARIANT_ADD(freed, eager){"eager", "mprotect"};
FIXTURE_VARIANT_ADD(freed, kmod){"kmod", "kmod"};

FIXTURE_SETUP(freed)
{
	struct thaw_options options = {
		.max_bytes = 1u << 20, .flags = THAW_CREATE, .engine = "test"};
	struct thaw_error error;
	struct thaw *heap;
	char *probe;

	setenv("THAW_DELIVERY", variant->delivery, 1);
	setenv("THAW_TRACKER", variant->tracker, 1);
	self->directory = support_directory();
	self->script = support_format("%s/program.js", self->directory);
	self->image = support_format("%s/program.thaw", self->directory);
	probe = support_format("%s/probe", self->directory);
	options.image = probe;
	if (thaw_open(&options, &heap, &error)) {
		free(probe);
		SKIP(return, "%s", error.text);
	}
	thaw_close(heap);
	free(probe);
}
FIXTURE_TEARDOWN(freed)
{
	free(self->script);
	free(self->image);
	support_remove(self->directory);
}

/* MiB of anonymous and shared memory that a process has. */
static unsigned long resident(pid_t pid)
{
	char *path = support_format("/proc/%d/status", (int)pid), line[256];
	FILE *file = fopen(path, "re");
	unsigned long kib = 0, more;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "RssAnon: %lu", &more) == 1 ||
		    sscanf(line, "RssShmem: %lu", &more) == 1)
			kib += more;
	if (file)
		fclose(file);
	free(path);
	return kib >> 10;
}

#define STEPS(program, text) \
	ASSERT_TRUE(program_wait_for(&(program), text, 60)) TH_LOG("%s", (program).errors)

/* A number of a generation in the log of an image. */
static unsigned long long logged(const char *image, unsigned generation, const char *field)
{
	struct program log = program_start(THAW("log", "--json", image));
	char *number = support_format("\"generation\":%u,", generation),
	     *name = support_format("\"%s\":", field);
	unsigned long long value = 0;
	const char *at;

	program_finish_by(&log, support_deadline(30));
	at = strstr(log.output, number);
	at = at ? strstr(at, name) : NULL;
	if (at)
		value = strtoull(at + strlen(name), NULL, 10);
	free(number);
	free(name);
	program_free(&log);
	return value;
}

/* Two thirds of 60 MiB or so, which lie in one piece, and beside what stays. */
static const char frees_much[] =
	"import { on, checkpoint } from 'thaw'\n"
	"let objects = []\n"
	"for (let i = 0; i < 240000; i++) objects.push({ index: i, name: 'object ' + i, values: [i, i + 1] })\n"
	"const right = () => {\n"
	"	for (let i = 0; i < objects.length; i++)\n"
	"		if (objects[i].index !== i || objects[i].name !== 'object ' + i || objects[i].values[1] !== i + 1) return false\n"
	"	return true\n"
	"}\n"
	"on('restore', () => console.log('restored', objects.length, right()))\n"
	"await checkpoint(); console.log('made')\n"
	"await new Promise(go => setTimeout(go, 300))\n"
	"objects.length = 80000\n"
	"await new Promise(go => setTimeout(go, 1))\n"
	"await checkpoint(); console.log('freed')\n"
	"await new Promise(go => setTimeout(go, 300))\n"
	"for (let i = 80000; i < 160000; i++) objects.push({ index: i, name: 'object ' + i, values: [i, i + 1] })\n"
	"await checkpoint(); console.log('more', right())\n"
	"setInterval(() => {}, 1000)\n";

TEST_F_TIMEOUT(freed, takes_neither_memory_nor_bytes, 120)
{
	struct program program;
	unsigned long made, freed;

	support_write(self->script, frees_much);
	program = program_start(THAW("run", "--every", "0", self->script));
	STEPS(program, "made");
	made = resident(program.pid);
	STEPS(program, "freed");
	freed = resident(program.pid);
	STEPS(program, "more true");
	program_kill(&program);
	program_free(&program);
	if (strcmp(variant->delivery, "kmod") && strcmp(variant->delivery, "sigsegv"))
		EXPECT_LT(freed, made * 6 / 10);
	/* Else it would be what was freed and written for that, 30 MiB. */
	EXPECT_LT(logged(self->image, 2, "bytesWritten"),
		  logged(self->image, 1, "bytesWritten") / 6);
	EXPECT_LT(0, logged(self->image, 2, "bytesWritten"));

	program = program_start(THAW("run", "--every", "0", self->script));
	STEPS(program, "restored 160000 true");
	program_kill(&program);
	program_free(&program);
	program = program_start(THAW("run", "--every", "0", "--at", "2", self->script));
	STEPS(program, "restored 80000 true");
	STEPS(program, "more true");
	program_kill(&program);
	program_free(&program);
}

/* Makes and frees trees of some MiB in a few turns, and compares what is left with what it should be. */
static const char churns[] =
	"import { on } from 'thaw'\n"
	"let kept = new Map(), round = 0\n"
	"const make = n => Array.from({ length: 60000 }, (_, i) => ({ n, i, text: 'text ' + n + ' ' + i, pair: [n, i] }))\n"
	"const sum = n => n * 60000 + 60000 * 59999 / 2\n"
	"const check = () => {\n"
	"	for (const [n, list] of kept) {\n"
	"		let s = 0\n"
	"		for (const o of list) { if (o.text !== 'text ' + o.n + ' ' + o.i || o.pair[1] !== o.i) throw new Error('text'); s += o.n + o.i }\n"
	"		if (s !== sum(n)) throw new Error(`sum of ${n}`)\n"
	"	}\n"
	"}\n"
	"on('restore', () => { check(); console.log('restored', round) })\n"
	"setInterval(() => {\n"
	"	round++\n"
	"	kept.set(round, make(round))\n"
	"	if (round % 4 === 0) kept.clear()\n"
	"	check()\n"
	"	console.log('round', round)\n"
	"}, 1)\n";

TEST_F_TIMEOUT(freed, and_made_again_through_kills, 120)
{
	unsigned restored = 0;

	srandom((unsigned)time(NULL));
	support_write(self->script, churns);
	for (unsigned life = 0; life < 5; life++) {
		struct program program =
			program_start(THAW("run", "--every", "50ms", self->script));

		STEPS(program, "round ");
		program_wait_for(&program, NULL, (double)(random() % 500) / 1000);
		program_kill(&program);
		restored += strstr(program.output, "restored ") != NULL;
		ASSERT_EQ(NULL, strstr(program.errors, "Error")) TH_LOG("%s", program.errors);
		program_free(&program);
	}
	EXPECT_LT(0, restored);
}

/* ---- Damaged structures */

FIXTURE(allocator)
{
	struct thaw *heap;
	struct js_engine *engine;
};
FIXTURE_SETUP(allocator)
{
	struct thaw_options options = {.max_bytes = 256u << 20,
				       .guard_bytes = (8ull << 30) - (256u << 20),
				       .engine = js_engine_identity};
	static const char code[] =
		"globalThis.kept = []; globalThis.half = [];"
		"for (let i = 0; i < 200000; i++) (i % 5000 < 2500 ? half : kept).push({ i, text: 'text ' + i });"
		"half = undefined";
	struct js_host host = {0};
	struct thaw_error error;
	js_value result;

	ASSERT_EQ(0, thaw_open(&options, &self->heap, &error)) TH_LOG("%s", error.text);
	ASSERT_EQ(0, js_engine_create(self->heap, &host, &self->engine, &error));
	result = js_eval(self->engine, code, strlen(code), "test.js", JS_EVAL_SCRIPT);
	ASSERT_NE(0, result);
	js_free(self->engine, result);
}
FIXTURE_TEARDOWN(allocator)
{
	js_engine_free(self->engine);
	thaw_close(self->heap);
}

static u32 *word(struct js_engine *engine, u32 address)
{
	return vm_at(engine, address);
}

static u32 some_tree(struct js_engine *engine)
{
	for (u32 tree = ALLOC_TREE_FIRST; tree < ALLOC_TREES; tree++)
		if (*word(engine, AT_ALLOCATOR + ALLOC_TREE + 4 * tree))
			return *word(engine, AT_ALLOCATOR + ALLOC_TREE + 4 * tree);
	return 0;
}

TEST_F(allocator, gives_back_what_is_free)
{
	u32 chunk = some_tree(self->engine);
	u32 bytes = *word(self->engine, chunk + CHUNK_HEAD) & ~CHUNK_FLAGS;
	u32 page = (chunk + CHUNK_BYTES + 4095) & ~4095u;
	static const char code[] =
		"let wrong = 0; kept.forEach((o, at) => { const i = Math.floor(at / 2500) * 5000 + 2500 + at % 2500;"
		"if (o.i !== i || o.text !== 'text ' + i) wrong++ }); wrong + kept.length";
	js_value result;

	ASSERT_LT(0, chunk);
	ASSERT_LE(page + 4096, chunk + bytes);
	*word(self->engine, page + 64) = 7;
	self->engine->free_seen = 0;
	js_give_back(self->engine);
	EXPECT_EQ(0, *word(self->engine, page + 64));
	EXPECT_EQ(bytes, *word(self->engine, chunk + CHUNK_HEAD) & ~CHUNK_FLAGS);
	EXPECT_EQ(bytes, *word(self->engine, chunk + bytes)); /* the next one's word about it */
	result = js_eval(self->engine, code, strlen(code), "test.js", JS_EVAL_SCRIPT);
	EXPECT_EQ(100000, js_to_number(self->engine, result));
	js_free(self->engine, result);
}

/* Returns, and quickly: the test has a time limit. */
TEST_F(allocator, survives_wild_structures)
{
	u32 size = (u32)js_heap_bytes(self->engine), seed = 1;
	u32 chunk = some_tree(self->engine),
	    wild[] = {1, 8, 4096, size - 8, size, 0xfffffff8, 0x80000000};
	u32 fields[] = {CHUNK_HEAD, CHUNK_NEXT, CHUNK_CHILDREN, CHUNK_CHILDREN + 4};

	ASSERT_LT(0, chunk);
	for (unsigned field = 0; field < 4; field++)
		for (unsigned i = 0; i <= sizeof(wild) / sizeof(wild[0]); i++) {
			u32 *at = word(self->engine, chunk + fields[field]), before = *at;

			*at = i ? wild[i - 1] : chunk; /* a cycle */
			self->engine->free_seen = self->engine->release_after_ns = 0;
			js_give_back(self->engine);
			*at = before;
		}
	for (unsigned round = 0; round < 200; round++) {
		u32 offset =
			ALLOC_REST_BYTES + (seed >> 8) % (ALLOC_TREE + 4 * ALLOC_TREES) / 4 * 4;

		seed = seed * 1103515245 + 12345;
		*word(self->engine, AT_ALLOCATOR + offset) = round % 3 ? seed % size & ~7u : seed;
		seed = seed * 1103515245 + 12345;
		self->engine->free_seen = self->engine->release_after_ns = 0;
		js_give_back(self->engine);
	}
}

TEST_HARNESS_MAIN
