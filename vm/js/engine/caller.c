// SPDX-License-Identifier: MIT
/*
 * caller.c - which file's code has called a host function: who registers a timer or a listener, so that an upgrade that
 * replaces a module can end what the module has registered.
 *
 * Reads the frames of the VM by their layout (heap_layout.h). Called in host functions; owner's thread; cheap, since every
 * timer asks.
 */
#include <string.h>

#include "classes.h"
#include "heap_layout.h"
#include "state.h"

/* The atom of the file of the function that runs in a frame; 0: it is no function of JavaScript. */
static u32 file_of(const struct js_engine *engine, u32 frame)
{
	u64 function = vm_load64(engine, frame + FRAME_FUNCTION);

	if (!value_has_tag(function, TAG_OBJECT) ||
	    !class_has_bytecode(vm_load16(engine, (u32)function + OBJ_CLASS)))
		return 0;
	return vm_load32(engine, vm_load32(engine, (u32)function + FUNC_BYTECODE) + BC_FILE);
}

static bool is_ours(const struct js_engine *engine, u32 atom)
{
	u32 string =
		vm_load32(engine, vm_load32(engine, engine->runtime + RT_ATOM_ARRAY) + 4 * atom);

	return !memcmp(vm_at(engine, string + STR_TEXT), "thaw:", 5);
}

struct question {
	struct js_engine *engine;
	js_value answer;
};

static void run_caller(void *arg)
{
	struct question *question = arg;
	struct js_engine *engine = question->engine;
	u32 frame = vm_load32(engine, engine->runtime + RT_STACK_FRAME), file = 0;

	for (; frame && (!file || is_ours(engine, file));
	     frame = vm_load32(engine, frame + FRAME_PREVIOUS))
		file = file_of(engine, frame);
	question->answer =
		value_box(engine, file && !is_ours(engine, file)
					  ? VM(engine, JS_AtomToString, engine->context, file)
					  : VALUE_UNDEFINED);
}

js_value js_caller(struct js_engine *engine)
{
	struct question question = {.engine = engine};

	return engine_enter(engine, run_caller, &question) ? question.answer : 0;
}
