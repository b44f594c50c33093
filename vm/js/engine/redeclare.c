// SPDX-License-Identifier: MIT
/*
 * redeclare.c - a line of the shell may declare a name again that an earlier line declared: the
 * later declaration wins, as in the consoles of browsers. In the language itself it is a
 * SyntaxError, and a name whose initialiser threw could never be used again.
 *
 * A compiled script begins with a check for each name that it declares, then the definitions. This
 * file reads the names there and converts each existing variable so that its definition accepts it.
 * A variable keeps its value until the new initialiser has one, so a line that fails loses nothing.
 * Functions find variables by name, so those of earlier lines see the new value.
 *
 * Called by js_eval() on the VM's stack, between compiling and running. Must never change what no
 * script declared: undefined and NaN stay as they are.
 */
#include "heap_layout.h"
#include "state.h"

enum {			       /* instructions of quickjs-wasi 3.6.2: one byte, then the operands */
       OP_FCLOSURE = 3,	       /* u32: index of a constant */
       OP_DEFINE_VAR = 0x3d,   /* atom, u8: flags */
       OP_CHECK_DEFINE = 0x3e, /* atom, u8: flags */
       OP_DEFINE_FUNC = 0x3f,  /* atom, u8: flags */
       OP_FCLOSURE8 = 0xc5,    /* u8: index of a constant */
};
enum {				/* flags of those */
       DECLARES_LEXICAL = 0x80, /* let, const, class */
       DECLARES_FUNCTION = 0x40,
};
#define CHECK_BYTES 6u
#define NO_NAME 0u /* no property has this atom */

enum { /* JS_PROP_* of quickjs.h; the flags of a property are in heap_layout.h */
       HAS_WRITABLE = 1 << 9,
       HAS_VALUE = 1 << 13,
       HAS_ALL = HAS_VALUE | 1 << 8 | HAS_WRITABLE | 1 << 10,
};
enum { DESCRIPTOR_FLAGS = 0, DESCRIPTOR_VALUE = 8, DESCRIPTOR_BYTES = 32 };

struct declaration {
	u32 check; /* where its check is, in the code */
	u32 atom;
	u8 flags;
	bool writable; /* of a lexical one: let and class, not const */
};

struct found {
	bool exists;
	u32 flags;
	u64 value; /* owned */
};

static u8 byte_at(const struct js_engine *engine, u32 at)
{
	return *(const u8 *)vm_at(engine, at);
}

static u64 scope_of(const struct js_engine *engine, unsigned field)
{
	return vm_load64(engine, engine->context + field);
}

/* False: an exception is pending. */
static bool find(struct js_engine *engine, u64 scope, u32 atom, struct found *found)
{
	u32 descriptor = vm_push(engine, DESCRIPTOR_BYTES);
	s32 code = (s32)VM(engine, JS_GetOwnProperty, engine->context, descriptor, scope, atom);

	*found = (struct found){.exists = code > 0};
	if (found->exists) {
		found->flags = vm_load32(engine, descriptor + DESCRIPTOR_FLAGS);
		found->value = vm_load64(engine, descriptor + DESCRIPTOR_VALUE);
		if ((found->flags & PROPERTY_KIND) == PROPERTY_ACCESSOR) {
			VM(engine, JS_FreeValue, engine->context,
			   vm_load64(engine, descriptor + DESCRIPTOR_VALUE + 8));
			VM(engine, JS_FreeValue, engine->context,
			   vm_load64(engine, descriptor + DESCRIPTOR_VALUE + 16));
		}
	}
	vm_pop(engine, DESCRIPTOR_BYTES);
	return code >= 0;
}

static bool define(struct js_engine *engine, u64 scope, u32 atom, u64 value, u32 flags)
{
	return (s32)VM(engine, JS_DefineProperty, engine->context, scope, atom, value,
		       VALUE_UNDEFINED, VALUE_UNDEFINED, flags) >= 0;
}

/* let, const or class again as one of these: the variable stays, and becomes const or not. */
static bool keep_variable(struct js_engine *engine, const struct declaration *declaration)
{
	return define(engine, scope_of(engine, CX_GLOBAL_VARIABLES), declaration->atom,
		      VALUE_UNDEFINED,
		      HAS_WRITABLE | (declaration->writable ? PROPERTY_WRITABLE : 0));
}

/* var or function again as let, const or class: a new variable with its value hides the old one. */
static bool hide_property(struct js_engine *engine, const struct declaration *declaration,
			  const struct found *property)
{
	return define(engine, scope_of(engine, CX_GLOBAL_VARIABLES), declaration->atom,
		      property->value,
		      HAS_ALL | PROPERTY_ENUMERABLE | PROPERTY_CONFIGURABLE |
			      (declaration->writable ? PROPERTY_WRITABLE : 0));
}

/* let, const or class again as var or function: the variable becomes a property, with its value. */
static bool make_property(struct js_engine *engine, const struct declaration *declaration,
			  const struct found *variable)
{
	if (!(declaration->flags & DECLARES_FUNCTION) &&
	    !value_has_tag(variable->value, BOX_UNINITIALIZED) &&
	    !define(engine, scope_of(engine, CX_GLOBAL_OBJECT), declaration->atom, variable->value,
		    HAS_ALL | PROPERTY_ENUMERABLE | PROPERTY_WRITABLE))
		return false;
	return (s32)VM(engine, JS_DeleteProperty, engine->context,
		       scope_of(engine, CX_GLOBAL_VARIABLES), declaration->atom, 0) >= 0;
}

static void skip_check(struct js_engine *engine, const struct declaration *declaration)
{
	vm_store32(engine, declaration->check + 1, NO_NAME);
	VM(engine, JS_FreeAtom, engine->context, declaration->atom);
}

static bool is_of_a_script(const struct found *property)
{
	return property->exists && (property->flags & (PROPERTY_KIND | PROPERTY_CONFIGURABLE |
						       PROPERTY_WRITABLE)) == PROPERTY_WRITABLE;
}

static bool declare_again(struct js_engine *engine, const struct declaration *declaration)
{
	bool lexical = declaration->flags & DECLARES_LEXICAL, done = true;
	struct found variable, property = {0};

	if (!find(engine, scope_of(engine, CX_GLOBAL_VARIABLES), declaration->atom, &variable))
		return false;
	if (lexical && !variable.exists)
		done = find(engine, scope_of(engine, CX_GLOBAL_OBJECT), declaration->atom,
			    &property);
	if (variable.exists)
		done = lexical ? keep_variable(engine, declaration)
			       : make_property(engine, declaration, &variable);
	else if (done && is_of_a_script(&property))
		done = hide_property(engine, declaration, &property);
	if (done && lexical && (variable.exists || is_of_a_script(&property)))
		skip_check(engine, declaration);
	if (variable.exists)
		VM(engine, JS_FreeValue, engine->context, variable.value);
	if (property.exists)
		VM(engine, JS_FreeValue, engine->context, property.value);
	return done;
}

/*
 * The place of the next definition, after instructions that make functions; the end: there is none.
 */
static u32 next_definition(const struct js_engine *engine, u32 at, u32 end)
{
	while (at < end) {
		switch (byte_at(engine, at)) {
		case OP_FCLOSURE:
			at += 5;
			break;
		case OP_FCLOSURE8:
			at += 2;
			break;
		case OP_DEFINE_VAR:
		case OP_DEFINE_FUNC:
			return at;
		default:
			return end;
		}
	}
	return end;
}

bool redeclare(struct js_engine *engine, u64 script)
{
	u32 at = vm_load32(engine, (u32)script + BC_CODE);
	u32 end = at + vm_load32(engine, (u32)script + BC_CODE_BYTES), definition = at;

	if (end < at)
		return true;
	while (end - definition > CHECK_BYTES && byte_at(engine, definition) == OP_CHECK_DEFINE)
		definition += CHECK_BYTES;
	for (; byte_at(engine, at) == OP_CHECK_DEFINE; at += CHECK_BYTES) {
		struct declaration declaration = {.check = at,
						  .atom = vm_load32(engine, at + 1),
						  .flags = byte_at(engine, at + 5)};

		/* The definitions have the order of the checks. */
		definition = next_definition(engine, definition, end);
		if (end - definition <= CHECK_BYTES ||
		    vm_load32(engine, definition + 1) != declaration.atom)
			return true; /* unknown code: leave it to the engine */
		declaration.writable = byte_at(engine, definition + 5) & PROPERTY_WRITABLE;
		definition += CHECK_BYTES;
		if (!declare_again(engine, &declaration))
			return false;
	}
	return true;
}
