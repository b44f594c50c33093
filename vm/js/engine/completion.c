/* SPDX-License-Identifier: MIT */
/*
 * completion.c - the completion value of a script with top-level await, out of the reach of what a
 * program puts into Object.prototype.
 *
 * Such a script ends by making an object, to assign the value to its property `value`, and to
 * resolve its promise with the object. As the engine compiles it, the object has a prototype: a
 * setter there takes the value, and a `then` there is called as if the object were a promise. This
 * file makes the end define the property of an object without a prototype.
 *
 * Called by js_eval() on the VM's stack, between compiling and running.
 */
#include <string.h>

#include "heap_layout.h"
#include "state.h"

enum { /* instructions of quickjs-wasi 3.6.2: one byte, then the operands */
       OP_OBJECT = 0x0b,
       OP_SPECIAL_OBJECT = 0x0c, /* u8: which */
       OP_DUP = 0x11,
       OP_RETURN_ASYNC = 0x2f,
       OP_PUT_FIELD = 0x42,    /* atom: takes the object and the value */
       OP_DEFINE_FIELD = 0x4b, /* atom: takes the value */
       OP_GET_LOC0 = 0xcb,     /* the engine keeps the completion value there */
};
enum { NULL_PROTOTYPE = 7 }; /* of OP_SPECIAL_OBJECT */
enum { ATOM_VALUE = 0x44 };  /* u32 */
#define END_BYTES 9u

static const u8 compiled[END_BYTES] = {OP_OBJECT, OP_DUP, OP_GET_LOC0, OP_PUT_FIELD,   ATOM_VALUE,
				       0,	  0,	  0,	       OP_RETURN_ASYNC};
static const u8 shielded[END_BYTES] = {
	OP_SPECIAL_OBJECT, NULL_PROTOTYPE, OP_GET_LOC0, OP_DEFINE_FIELD, ATOM_VALUE, 0, 0, 0,
	OP_RETURN_ASYNC};

void shield_completion(struct js_engine *engine, u64 script)
{
	u32 code = vm_load32(engine, (u32)script + BC_CODE);
	u32 bytes = vm_load32(engine, (u32)script + BC_CODE_BYTES);
	u8 *end;

	if (bytes < END_BYTES)
		return;
	end = vm_at(engine, code + bytes - END_BYTES);
	if (!memcmp(end, compiled, END_BYTES)) /* else its end cannot be reached: while (1); */
		memcpy(end, shielded, END_BYTES);
}
