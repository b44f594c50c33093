// SPDX-License-Identifier: GPL-2.0-only
/*
 * turn_stack.c - what stands on the VM's stack when a turn is stopped: frames of the engine, and
 * nothing that belongs to this process alone.
 *
 * Every word of the stack is looked up in /proc/self/maps at thousands of polls, with host
 * functions, clocks, modules, collections and the C library called in between. A word may lie in
 * the program itself (linked at fixed addresses), in the engine's place, or in the heap's; a word
 * that lies in the C library, the vDSO, the host's stack, its heap or thread-local storage is a
 * failure, also where it stands in a slot that nobody will read again.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "kselftest_harness.h"

#include "../vm/js/engine.h"
#include "support.h"

#define MAPPINGS_MAX 512

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
	while (maps && fgets(line, sizeof(line), maps) && world->mapping_count < MAPPINGS_MAX) {
		struct mapping *mapping = &world->mappings[world->mapping_count];
		unsigned long long start, end;
		char name[256] = "";

		if (sscanf(line, "%llx-%llx %*s %*s %*s %*s %255s", &start, &end, name) < 2)
			continue;
		/*
		 * What lies below 0x500000000000 does so in every process: the program, which is not
		 * position independent, malloc's first arena behind it, the engine's place, ASan's
		 * shadow. (In the first arena, the VM's own 32-bit numbers look like addresses; who
		 * leaves one of the latter behind leaves some of the C library, too.)
		 */
		if (start < 0x500000000000)
			continue;
		mapping->start = start;
		mapping->end = end;
		snprintf(mapping->name, sizeof(mapping->name), "%.63s", name);
		world->mapping_count++;
	}
	if (maps)
		fclose(maps);
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
	for (size_t i = 0; i < bytes / 8; i++) {
		world->words++;
		for (unsigned m = 0; m < world->mapping_count; m++) {
			const struct mapping *mapping = &world->mappings[m];

			if (stack[i] < mapping->start || stack[i] >= mapping->end)
				continue;
			if (!world->foreign++)
				snprintf(world->first, sizeof(world->first),
					 "word %zu of %zu: %#llx in %llx-%llx %s", i, bytes / 8,
					 (unsigned long long)stack[i],
					 (unsigned long long)mapping->start,
					 (unsigned long long)mapping->end, mapping->name);
		}
	}
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

	self->world = calloc(1, sizeof(*self->world));
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

/* ---- How the program is built ---- */

/* In .dynsym of this program, which is linked from the same objects as thaw. */
static bool imports(const char *symbol)
{
	extern ElfW(Dyn) _DYNAMIC[];
	const ElfW(Sym) *symbols = NULL;
	const char *strings = NULL;
	size_t string_bytes = 0;

	for (const ElfW(Dyn) *entry = _DYNAMIC; entry->d_tag != DT_NULL; entry++) {
		if (entry->d_tag == DT_SYMTAB)
			symbols = (const void *)entry->d_un.d_ptr;
		else if (entry->d_tag == DT_STRTAB)
			strings = (const void *)entry->d_un.d_ptr;
		else if (entry->d_tag == DT_STRSZ)
			string_bytes = entry->d_un.d_val;
	}
	/* The string table follows the symbols in every linker's layout. */
	for (const ElfW(Sym) *at = symbols; (const char *)at < strings; at++)
		if (at->st_name < string_bytes && !strcmp(strings + at->st_name, symbol))
			return true;
	return false;
}

TEST(built_without_what_differs_from_process_to_process)
{
	uint64_t features = 0;

	/* Linked at a fixed address, with a build-id that says which build it is. */
	EXPECT_LT((uintptr_t)&js_engine_create, 0x10000000);
	EXPECT_NE(NULL, js_build_id());
	/* No canary anywhere: it would be another one in the next process. */
	EXPECT_FALSE(imports("__stack_chk_fail"));
	EXPECT_TRUE(imports("fclose")); /* the look-up works */
					/* No shadow stack: it could not be brought back. */
#if defined(__x86_64__)
	if (!syscall(SYS_arch_prctl, 0x5005, &features)) /* ARCH_SHSTK_STATUS, 6.6 */
		EXPECT_EQ(0, features & 1);
#else
	if (!prctl(74, &features, 0, 0, 0)) /* PR_GET_SHADOW_STACK_STATUS, 6.13 */
		EXPECT_EQ(0, features & 1);
#endif
}

TEST_HARNESS_MAIN
