// SPDX-License-Identifier: GPL-2.0-only
/*
 * hostile_modules.c - the modules of a heap that was made to do harm, as an upgrade reads and relinks them: whatever
 * the heap's words are, what is not in the heap is not touched, and it ends.
 *
 * The heap has no image. Each case changes words in the heap of a child, which has little memory and little time.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "../../vm/js/engine/heap_layout.h"
#include "../../vm/js/engine/state.h"
#include "../../vm/js/upgrade/heap_modules.h"

static char **names; /* what "own:0" and so on are */
static unsigned name_count;

static char *world_resolve(void *arg, const char *base, const char *specifier,
			   struct thaw_error *error)
{
	unsigned own;

	(void)arg, (void)base, (void)error;
	if (sscanf(specifier, "own:%u", &own) == 1)
		return own < name_count ? strdup(names[own]) : NULL;
	return strdup(specifier);
}

static char *world_load(void *arg, const char *name, size_t *bytes, struct thaw_error *error)
{
	static const char *const sources[] = {
		"import { b, more } from '/b.js'; export { b }; export const a = () => b + more",
		"import { c } from '/c.js'; export let b = 'b' + c; export * as all from '/c.js'\n"
		"export const more = () => b++",
		"export const c = 'c'",
	};
	const char *source;

	(void)arg;
	if (name[0] != '/' || name[1] < 'a' || name[1] > 'c' || strcmp(name + 2, ".js")) {
		snprintf(error->text, sizeof(error->text), "there is no %s", name);
		return NULL;
	}
	source = sources[name[1] - 'a'];
	*bytes = strlen(source);
	return strdup(source);
}

static bool world_interrupt(void *arg)
{
	(void)arg;
	return false;
}

FIXTURE(hostile)
{
	struct thaw *heap;
	struct js_engine *engine;
	u32 modules[8]; /* the program, then /c.js, /b.js and /a.js in some order */
	unsigned count;
};

FIXTURE_SETUP(hostile)
{
	static const char program[] = "import '/a.js'";
	const struct thaw_options options = {.max_bytes = JS_HEAP_MAX_BYTES,
					     .guard_bytes = JS_HEAP_GUARD_BYTES,
					     .engine = js_engine_identity};
	const struct js_host host = {.interrupt = world_interrupt,
				     .module_resolve = world_resolve,
				     .module_load = world_load};
	struct thaw_error error = {0};
	struct heap_module *list;

	if (thaw_open(&options, &self->heap, &error) == THAW_EKERNEL)
		SKIP(return, "%s", error.text);
	ASSERT_NE(NULL, self->heap) TH_LOG("%s", error.text);
	ASSERT_EQ(0, js_engine_create(self->heap, &host, &self->engine, &error));
	ASSERT_NE(0, js_eval(self->engine, program, strlen(program), "/main.js", JS_EVAL_MODULE));
	ASSERT_EQ(0, heap_modules_read(self->engine, &list, &self->count));
	ASSERT_EQ(4u, self->count);
	for (unsigned i = 0; i < self->count; i++)
		self->modules[i] = list[i].address;
	heap_modules_free(list, self->count);
}

FIXTURE_TEARDOWN(hostile)
{
	js_engine_free(self->engine);
	thaw_close(self->heap);
}

static uint32_t find(const struct heap_module *list, unsigned count, const char *name)
{
	for (unsigned i = 0; i < count; i++)
		if (!strcmp(list[i].name, name))
			return list[i].address;
	return 0;
}

/* Link a module that imports what these import; 0: that failed. */
static uint32_t link_same(struct js_engine *engine, const char *text, const uint32_t *targets,
			  unsigned count)
{
	struct heap_module *list;
	unsigned listed;
	uint32_t linked;

	if (heap_modules_read(engine, &list, &listed))
		return 0;
	names = calloc(count + 1, sizeof(*names));
	for (name_count = 0; name_count < count; name_count++) {
		names[name_count] = (char *)"/none";
		for (unsigned i = 0; i < listed; i++)
			if (list[i].address == targets[name_count])
				names[name_count] = list[i].name;
	}
	js_eval(engine, text, strlen(text), "own", JS_EVAL_MODULE);
	heap_modules_free(list, listed);
	free(names);
	if (heap_modules_read(engine, &list, &listed))
		return 0;
	linked = find(list, listed, "own");
	heap_modules_free(list, listed);
	return linked;
}

/* All that reads and changes the modules of a heap. True: none of it has failed. */
static bool use_all(FIXTURE_DATA(hostile) * self)
{
	struct js_engine *engine = self->engine;
	struct heap_module *list;
	struct relink *relink;
	const uint32_t *targets;
	unsigned count, changed;
	uint32_t linked = 0;
	char *text;
	bool good = !heap_modules_read(engine, &list, &count);

	heap_modules_free(list, count);
	for (unsigned i = 0; i < self->count; i++) {
		heap_module_exports(engine, self->modules[i], "none");
		heap_module_variables(engine, self->modules[i]);
		heap_module_state(engine, self->modules[i], &text);
		free(text);
	}
	good &= !relink_begin(engine, self->modules, self->count, &relink);
	text = relink_text(relink, "own:", &targets, &count);
	if (text)
		linked = link_same(engine, text, targets, count);
	free(text);
	good &= linked != 0;
	relink_linked(relink, linked);
	changed = relink_apply(relink, self->modules, 1);
	relink_free(relink);
	heap_modules_drop(engine, self->modules, self->count);
	return good && !changed && !js_trapped(engine);
}

/* What becomes of it in a child: 0: nothing has failed, 1: it was refused; else how it died. */
static int outcome(FIXTURE_DATA(hostile) * self, u32 address, u32 word)
{
	const struct rlimit memory = {3ull << 30, 3ull << 30}, seconds = {30, 30};
	int status = -1;
	pid_t child = fork();

	if (!child) {
		vm_store32(self->engine, address, word);
		setrlimit(RLIMIT_DATA, &memory);
		setrlimit(RLIMIT_CPU, &seconds);
		_exit(use_all(self) ? 0 : 1);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST_F(hostile, a_heap_as_the_engine_made_it_is_read)
{
	u32 name = self->modules[0] + MODULE_NAME;

	EXPECT_EQ(0, outcome(self, name, vm_load32(self->engine, name)));
}

TEST_F(hostile, tables_that_are_not_in_the_heap_are_refused)
{
	static const u32 counts[] = {MODULE_REQUEST_COUNT, MODULE_IMPORT_COUNT,
				     MODULE_EXPORT_COUNT};
	static const u32 numbers[] = {0xffffffff, 0xfffffffe, 0x80000000, 0x10000000, 0x01000000};

	for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		for (unsigned j = 0; j < sizeof(numbers) / sizeof(numbers[0]); j++) {
			EXPECT_EQ(1, outcome(self, self->modules[1] + counts[i], numbers[j]))
			{
				TH_LOG("%u: %#x", counts[i], numbers[j]);
			}
		}
}

TEST_F(hostile, a_list_that_has_no_end_is_refused)
{
	for (unsigned i = 0; i < self->count; i++)
		for (unsigned j = 0; j <= i; j++)
			EXPECT_EQ(1, outcome(self, self->modules[i] + MODULE_LINK + LIST_NEXT,
					     self->modules[j] + MODULE_LINK));
}

/* Some of these change nothing that matters; none may do harm. */
TEST_F(hostile, no_word_of_a_module_does_harm)
{
	static const u32 words[] = {0xffffffff, 0xfffffff0, 0x00fffff8, 8};

	for (u32 offset = 0; offset < MODULE_BYTES; offset += 4)
		for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
			int how = outcome(self, self->modules[2] + offset, words[i]);

			EXPECT_EQ(true, how == 0 || how == 1)
			{
				TH_LOG("word %u is %#x: %d", offset, words[i], how);
			}
		}
}

/* The engine stops in the middle of what is read: what was read before is freed, and nothing else. */
TEST_F(hostile, names_that_are_none_are_refused)
{
	for (unsigned i = 0; i < self->count; i++)
		EXPECT_EQ(1, outcome(self, self->modules[i] + MODULE_NAME, 0x7ffffff0));
	for (unsigned i = 0; i < self->count; i++) {
		u32 imports = vm_load32(self->engine, self->modules[i] + MODULE_IMPORTS);

		if (vm_load32(self->engine, self->modules[i] + MODULE_IMPORT_COUNT))
			EXPECT_EQ(1, outcome(self, imports + IMPORT_NAME, 0x7ffffff0));
	}
}

TEST_HARNESS_MAIN
