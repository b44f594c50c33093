// SPDX-License-Identifier: MIT
/*
 * module_state.c - which variables of a module may hold what nobody could make again (heap_modules.h).
 *
 * The rule is simple enough to be told in thaw(1): a module has no state if each of its top-level variables is a function
 * or a class, a constant that is no object (or a regular expression), or has no value; and no function has variables that
 * are neither constants of that kind nor the module's own. Owns nothing; outside of the VM, which it enters; runs nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heap_modules.h"
#include "js/engine/classes.h"
#include "js/engine/heap_layout.h"
#include "upgrade_heap.h"

#define DEPTH_MAX 8u
#define STEPS_MAX 10000000u /* what takes more to look at counts as state */

struct look {
	struct js_engine *engine;
	u32 steps;
	u32 module, function;
	FILE *to;
	bool any;
};

static unsigned class_of(const struct js_engine *engine, u32 object)
{
	return vm_load16(engine, object + OBJ_CLASS);
}

static bool is_of_module(struct look *look, u32 cell)
{
	u32 count = heap_variable_count(look->engine, look->function);

	for (u32 i = 0; i < count && look->steps++ < STEPS_MAX; i++)
		if (heap_variable(look->engine, look->function, i).cell == cell)
			return true;
	return false;
}

static bool is_constant(struct look *look, u64 value, bool constant, unsigned depth);

/* A function, and what it has captured that are no variables of its module. */
static bool captures_constants(struct look *look, u32 function, unsigned depth)
{
	u32 count = heap_variable_count(look->engine, function);

	for (u32 i = 0; i < count; i++) {
		struct variable variable = heap_variable(look->engine, function, i);

		if (!variable.cell || is_of_module(look, variable.cell))
			continue;
		if (depth == DEPTH_MAX || look->steps++ >= STEPS_MAX ||
		    !is_constant(look, heap_cell_value(look->engine, variable.cell),
				 variable.constant, depth + 1))
			return false;
	}
	return true;
}

static bool object_is_constant(struct look *look, u32 object, bool constant, unsigned depth)
{
	switch (class_of(look->engine, object)) {
	case CLASS_FUNCTION:
	case CLASS_GENERATOR_FUNCTION:
	case CLASS_ASYNC_FUNCTION:
	case CLASS_ASYNC_GENERATOR_FUNCTION:
		return captures_constants(look, object, depth);
	case CLASS_C_FUNCTION:
	case CLASS_NAMESPACE:
		return true;
	case CLASS_REGEXP:
		return constant;
	default:
		return false;
	}
}

static bool is_constant(struct look *look, u64 value, bool constant, unsigned depth)
{
	if (value_has_tag(value, BOX_UNDEFINED) || value_has_tag(value, BOX_UNINITIALIZED))
		return true;
	if (value_has_tag(value, BOX_OBJECT))
		return object_is_constant(look, (u32)value, constant, depth);
	return constant;
}

/* "cache (Map)" */
static void tell(struct look *look, const char *name, u64 value)
{
	struct js_engine *engine = look->engine;
	char *class_name;
	u32 atom;

	fprintf(look->to, "%s%s", look->any ? ", " : "", name);
	look->any = true;
	if (!value_has_tag(value, BOX_OBJECT))
		return;
	atom = VM(engine, JS_GetClassName, engine->runtime, class_of(engine, (u32)value));
	class_name = heap_atom_text(engine, atom);
	VM(engine, JS_FreeAtom, engine->context, atom);
	if (class_name)
		fprintf(look->to, " (%s)", class_name);
	free(class_name);
}

static void run_look(void *arg)
{
	struct look *look = arg;
	struct js_engine *engine = look->engine;
	u32 count;

	look->function = heap_module_function(engine, look->module);
	count = look->function ? heap_variable_count(engine, look->function) : 0;
	for (u32 i = 0; i < count; i++) {
		struct variable variable = heap_variable(engine, look->function, i);
		char *name;

		if (variable.kind != CLOSURE_MODULE_DECLARATION || !variable.cell)
			continue;
		name = heap_atom_text(engine, variable.name);
		if (name && !is_constant(look, heap_cell_value(engine, variable.cell),
					 variable.constant || !strcmp(name, "*default*"), 0))
			tell(look, strcmp(name, "*default*") ? name : "default",
			     heap_cell_value(engine, variable.cell));
		free(name);
	}
}

int heap_module_state(struct js_engine *engine, uint32_t module, char **text)
{
	struct look look = {.engine = engine, .module = module};
	size_t bytes;

	*text = NULL;
	look.to = open_memstream(text, &bytes);
	if (!look.to)
		return -ENOMEM;
	engine_enter(engine, run_look, &look);
	if (fclose(look.to))
		look.any = false;
	if (look.any)
		return 0;
	free(*text);
	*text = NULL;
	return 0;
}
