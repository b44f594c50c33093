// SPDX-License-Identifier: GPL-2.0-only
/*
 * turn_stack.c - what stands on the VM's stack when a turn is stopped: frames of the engine, and
 * nothing that belongs to this process alone.
 *
 * Every word of the stack is looked up in /proc/self/maps at thousands of polls, with host
 * functions, clocks, modules, collections and the C library called in between. A word may lie in
 * the program itself (linked at fixed addresses), in the engine's place, or in the heap's; a word
 * that lies in the C library, the vDSO, the host's stack, what malloc() gave or thread-local storage
 * is a failure, also where it stands in a slot that nobody will read again. So is this process's
 * stack canary.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "../../vm/js/engine/engine.h"
#include "support.h"

#define MAPPINGS_MAX 512
/* Below lies what lies there in every process: the program, the engine with its heap, ASan's shadow. */
#define FOREIGN_START 0x500000000000ull

#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define SANITIZED true
#else
#define SANITIZED false
#endif

struct mapping {
	uint64_t start, end;
	char name[64];
};

struct world {
	struct js_engine *engine;
	struct mapping mappings[MAPPINGS_MAX]; /* of this process alone */
	uint64_t canary;
	unsigned mapping_count;
	unsigned stoppable, unstoppable, foreign;
	size_t words, deepest;
	char first[200]; /* the first foreign word */
};

/* Again at times: the C library maps and unmaps. */
static void read_mappings(struct world *world)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];

	world->mapping_count = 0;
	if (!maps)
		support_die("/proc/self/maps");
	while (fgets(line, sizeof(line), maps) && world->mapping_count < MAPPINGS_MAX) {
		struct mapping *mapping = &world->mappings[world->mapping_count];
		unsigned long long start, end;
		char name[256] = "";

		if (sscanf(line, "%llx-%llx %*s %*s %*s %*s %255s", &start, &end, name) < 2)
			continue;
		if (start < FOREIGN_START)
			continue;
		mapping->start = start;
		mapping->end = end;
		snprintf(mapping->name, sizeof(mapping->name), "%.63s", name);
		world->mapping_count++;
	}
	fclose(maps);
	/* No word is found foreign where there are none, or some are left out. */
	if (!world->mapping_count || world->mapping_count == MAPPINGS_MAX)
		support_die("mappings");
}

/*
 * Malloc's first arena begins close behind the program, where the VM's own 32-bit numbers look like
 * addresses of it. With no room to grow it goes on elsewhere. False: it does not.
 */
static bool move_malloc(void)
{
	static const size_t sizes[] = {24, 56, 120, 250, 500, 1000, 4000, 20000};
	const long page = sysconf(_SC_PAGESIZE);
	const uintptr_t end = ((uintptr_t)sbrk(0) + page - 1) & -page;
	void *block;

	if (mmap((void *)end, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		 -1, 0) == MAP_FAILED)
		return false;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		/* What is left of it, for good. */
		do
			block = malloc(sizes[i]);
		while (block && (uintptr_t)block < FOREIGN_START);
		if (!block)
			return false;
	}
	return true;
}

/* As the C library makes it of what the kernel gave: a null byte first, against strings. */
static uint64_t stack_canary(void)
{
	uint64_t canary;

	memcpy(&canary, (const void *)getauxval(AT_RANDOM), sizeof(canary));
	return canary & ~0xffull;
}

static void note_foreign(struct world *world, size_t word, size_t words, uint64_t value,
			 const char *name)
{
	if (!world->foreign++)
		snprintf(world->first, sizeof(world->first), "word %zu of %zu: %#llx in %s", word,
			 words, (unsigned long long)value, name);
}

static void look_at(struct world *world, const uint64_t *stack, size_t words)
{
	for (size_t i = 0; i < words; i++) {
		if (stack[i] == world->canary)
			note_foreign(world, i, words, stack[i], "the canary");
		for (unsigned m = 0; m < world->mapping_count; m++) {
			const struct mapping *mapping = &world->mappings[m];

			if (stack[i] >= mapping->start && stack[i] < mapping->end)
				note_foreign(world, i, words, stack[i], mapping->name);
		}
	}
	world->words += words;
}

static bool world_interrupt(void *arg)
{
	struct world *world = arg;
	size_t bytes;
	const uint64_t *stack;

	if (!js_turn_stoppable(world->engine)) {
		world->unstoppable++;
		return false;
	}
	if (world->stoppable++ % 64 == 0)
		read_mappings(world);
	stack = js_turn_stack(world->engine, &bytes);
	if (bytes > world->deepest)
		world->deepest = bytes;
	look_at(world, stack, bytes / 8);
	return false;
}

/* A host function that leaves deep frames of the C library, if it runs where it must not. */
static js_value host_print(struct js_engine *engine, void *arg, js_value self, unsigned count,
			   const js_value *arguments)
{
	char *text = count ? js_to_string(engine, arguments[0], NULL) : NULL, *copy = NULL;
	FILE *null = fopen("/dev/null", "we");

	(void)arg, (void)self;
	if (null) {
		fprintf(null, "%s %f %p\n", text ? text : "", 1.5, (void *)text);
		fclose(null);
	}
	if (asprintf(&copy, "%s!", text ? text : "") < 0)
		copy = NULL;
	free(text);
	text = copy;
	return js_string(engine, text ? text : "", text ? strlen(text) : 0);
}

static js_value host_call(struct js_engine *engine, void *arg, js_value self, unsigned count,
			  const js_value *arguments)
{
	(void)arg, (void)self;
	return js_call(engine, arguments[0], 0, count - 1, arguments + 1);
}

static void world_rejection(void *arg, js_value promise, js_value reason, bool handled)
{
	(void)arg, (void)promise, (void)reason, (void)handled;
}

static char *world_resolve(void *arg, const char *base, const char *specifier,
			   struct thaw_error *error)
{
	(void)arg, (void)base, (void)error;
	return strdup(specifier);
}

static char *world_load(void *arg, const char *name, size_t *bytes, struct thaw_error *error)
{
	(void)arg, (void)error;
	char *source = support_format("export const name = '%s'", name);

	*bytes = strlen(source);
	return source;
}

static const struct js_host_binding bindings[] = {
	{"test.print", host_print},
	{"test.call", host_call},
	{NULL, NULL},
};

FIXTURE(stack)
{
	struct thaw *heap;
	struct world *world;
};
FIXTURE_SETUP(stack)
{
	const struct thaw_options options = {
		.address = JS_HEAP_ADDRESS,
		.max_bytes = JS_HEAP_MAX_BYTES,
		.guard_bytes = JS_HEAP_GUARD_BYTES,
	};
	struct thaw_error error = {0};
	struct js_host host = {
		.bindings = bindings,
		.interrupt = world_interrupt,
		.rejection = world_rejection,
		.module_resolve = world_resolve,
		.module_load = world_load,
	};
	js_value global;

	if (!SANITIZED && !move_malloc())
		SKIP(return, "malloc() cannot be told from the VM's numbers");
	self->world = calloc(1, sizeof(*self->world));
	self->world->canary = stack_canary();
	host.arg = self->world;
	ASSERT_EQ(0, thaw_open(&options, &self->heap, &error)) TH_LOG("%s", error.text);
	ASSERT_EQ(0, js_engine_create(self->heap, &host, &self->world->engine, &error))
	TH_LOG("%s", error.text);
	global = js_global(self->world->engine);
	js_set(self->world->engine, global, "print",
	       js_host_function_new(self->world->engine, "test.print"));
	js_set(self->world->engine, global, "call",
	       js_host_function_new(self->world->engine, "test.call"));
	js_free(self->world->engine, global);
}
FIXTURE_TEARDOWN(stack)
{
	js_engine_free(self->world->engine);
	thaw_close(self->heap);
	free(self->world);
}

static void run(struct __test_metadata *_metadata, struct world *world, const char *code,
		unsigned flags)
{
	js_value exception, result = js_eval(world->engine, code, strlen(code), "stack.js", flags);

	ASSERT_NE(0, result)
	TH_LOG("%s", js_exception_text(world->engine, js_take_exception(world->engine)));
	js_free(world->engine, result);
	while (js_run_job(world->engine, &exception))
		ASSERT_EQ(0, exception)
	TH_LOG("%s", js_exception_text(world->engine, exception));
}

TEST_F(stack, holds_nothing_of_this_process)
{
	struct world *world = self->world;

	run(_metadata, world,
	    "let sum = 0, text = ''\n"
	    "function* numbers() { for (let i = 0; i < 400; i++) yield i }\n"
	    "class Shape { #side; constructor(side) { this.#side = side } get area() { return work(this.#side) } }\n"
	    "function work(n) { let s = 0; for (let i = 0; i < 3000 + n; i++) s = (s + i * n) | 0; return s }\n"
	    "function deep(n) { return n ? deep(n - 1) + 1 : work(5) }\n"
	    "const proxy = new Proxy({}, { get: (t, key) => work(key.length) })\n"
	    "async function later(i) { await null; sum += work(i); if (i % 7 == 0) throw new Error('x' + i) }\n"
	    "for (const i of numbers()) {\n"
	    "	text = print('line ' + i + ' ' + new Date().toString())\n"
	    "	sum += new Shape(i).area + deep(i % 300) + proxy['p' + i]\n"
	    "	sum += [5, 3, 9, 1].sort((a, b) => { work(a); return a - b })[0]\n"
	    "	text = text.replace(/[aeiou]/g, m => { work(2); return m.toUpperCase() })\n"
	    "	JSON.parse(JSON.stringify({ i, d: [i, { toJSON() { return work(3) } }] }), (k, v) => (work(1), v))\n"
	    "	try { eval('work(4); throw new TypeError(text)') } catch (e) { sum += e.stack.length } finally { work(6) }\n"
	    "	later(i).catch(e => { sum += work(e.message.length) })\n"
	    "	import('m' + i % 5).then(m => { sum += m.name.length + work(8) })\n"
	    "	Math.random(); Date.now(); performance?.now?.()\n"
	    "	if (i % 50 == 0) { let garbage = []; for (let k = 0; k < 20000; k++) garbage.push({ k }) }\n"
	    "}\n"
	    "sum",
	    JS_EVAL_SCRIPT);
	TH_LOG("%u polls, %zu words looked at, deepest stack %zu bytes; %u polls not stoppable",
	       world->stoppable, world->words, world->deepest, world->unstoppable);
	EXPECT_GT(world->stoppable, 200);
	EXPECT_GT(world->deepest, 10000);
	if (SANITIZED)
		SKIP(return, "a sanitizer's own frames stand on every stack");
	EXPECT_EQ(0, world->foreign) TH_LOG("%s", world->first);
}

/* A host function is below: its frames could not be brought back. */
TEST_F(stack, is_not_stoppable_inside_a_host_function)
{
	struct world *world = self->world;

	run(_metadata, world, "call(() => { for (let i = 0; i < 100000; i++); })", JS_EVAL_SCRIPT);
	EXPECT_EQ(0, world->stoppable);
	EXPECT_GT(world->unstoppable, 5);
	run(_metadata, world, "for (let i = 0; i < 100000; i++);", JS_EVAL_SCRIPT);
	EXPECT_GT(world->stoppable, 5);
}

/* 30,000 frames: their size is what a generation in the middle of them costs. */
TEST_F(stack, of_deep_recursion)
{
	struct world *world = self->world;

	run(_metadata, world,
	    "function deep(n) { if (n) return deep(n - 1) + 1; for (let i = 0; i < 100000; i++); return 0 }\n"
	    "if (deep(30000) !== 30000) throw new Error()",
	    JS_EVAL_SCRIPT);
	TH_LOG("30,000 frames: %zu bytes", world->deepest);
	EXPECT_GT(world->deepest, 30000 * 100);
	if (!SANITIZED)
		EXPECT_EQ(0, world->foreign) TH_LOG("%s", world->first);
}

/* A word of each kind is noticed where one stands. */
TEST_F(stack, would_be_seen_to_hold_something)
{
	extern char **environ;
	static __thread int local;
	struct world *world = self->world;
	const uint64_t foreign[] = {
		(uintptr_t)environ[0],	    (uintptr_t)&local,
		(uintptr_t)self->world,	    (uintptr_t)dlsym(RTLD_DEFAULT, "fclose"),
		getauxval(AT_SYSINFO_EHDR), world->canary,
	};
	const uint64_t good[] = {0, 12345, (uintptr_t)&js_engine_create, (uintptr_t)world->engine,
				 (uintptr_t)thaw_base(self->heap)};

	if (SANITIZED)
		SKIP(return, "a sanitizer has its own malloc and its own canaries");
	read_mappings(world);
	look_at(world, good, sizeof(good) / sizeof(good[0]));
	EXPECT_EQ(0, world->foreign) TH_LOG("%s", world->first);
	for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
		look_at(world, foreign + i, 1);
		EXPECT_EQ(i + 1, world->foreign)
		TH_LOG("word %zu: %#llx", i, (unsigned long long)foreign[i]);
	}
}

/* ---- How the program is built ---- */

/* Does the engine's object refer to that symbol? Its string table has the name then. */
static bool engine_names(const char *symbol)
{
	const char *path = THAW_SOURCE "/build/js/quickjs.o";
	size_t bytes = support_size(path);
	char *object = malloc(bytes);
	FILE *file = fopen(path, "re");
	bool found;

	if (!object || !file || fread(object, 1, bytes, file) != bytes)
		support_die(path);
	fclose(file);
	found = memmem(object, bytes, symbol, strlen(symbol) + 1); /* with its terminator */
	free(object);
	return found;
}

/* What the processor is asked for: NT_GNU_PROPERTY's GNU_PROPERTY_X86_FEATURE_1_AND; 0: nothing. */
static uint32_t processor_features(void)
{
	extern const ElfW(Ehdr) __ehdr_start;
	const ElfW(Phdr) *header =
		(const void *)((const char *)&__ehdr_start + __ehdr_start.e_phoff);
	uint32_t features = 0;

	for (int i = 0; i < __ehdr_start.e_phnum; i++, header++) {
		/* One note: its header of three words, "GNU", then (type, bytes, value) by eights. */
		const uint32_t *word = (const void *)header->p_vaddr;
		const uint32_t *end = word + header->p_memsz / 4;

		if (header->p_type != PT_GNU_PROPERTY)
			continue;
		for (word += 4; word + 2 < end; word += 2 + (word[1] + 7) / 8 * 2)
			if (word[0] == GNU_PROPERTY_X86_FEATURE_1_AND)
				features |= word[2];
	}
	return features;
}

TEST(built_without_what_differs_from_process_to_process)
{
	uint64_t features = 0;

	/* Linked at a fixed address, with a build-id that says which build it is. */
	EXPECT_LT((uintptr_t)&js_engine_create, 0x10000000);
	EXPECT_NE(NULL, js_build_id());
	/*
	 * No canary in the engine: it would be another one in the next process. (vm/js/engine/stack.c does
	 * not compile with them; libthaw may have them, it never runs on the VM's stack.)
	 */
	if (access(THAW_SOURCE "/build/js/quickjs.o", R_OK) == 0) {
		EXPECT_FALSE(engine_names("__stack_chk_fail"));
		EXPECT_TRUE(engine_names("memmove")); /* the look-up works */
	}
	/* No shadow stack, which could not be brought back: not asked for, and not there. */
	EXPECT_EQ(0, processor_features() & GNU_PROPERTY_X86_FEATURE_1_SHSTK);
#if defined(__x86_64__)
	/* arch_prctl ARCH_SHSTK_STATUS, 6.6 */
	if (!syscall(SYS_arch_prctl, 0x5005, &features))
		EXPECT_EQ(0, features & 1);
#else
	/* prctl PR_GET_SHADOW_STACK_STATUS, 6.13 */
	if (!prctl(74, &features, 0, 0, 0))
		EXPECT_EQ(0, features & 1);
#endif
}

TEST_HARNESS_MAIN
