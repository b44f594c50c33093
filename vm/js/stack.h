/* SPDX-License-Identifier: MIT */
/*
 * stack.h - the stack a VM runs on, and the way onto it and off it.
 *
 * Each engine owns one, at the same address in every process that opens as many engines before
 * it: an address in a frame means the same in the next process of the same build, which is what
 * lets a later process carry on in the middle of a turn.
 */
#ifndef VM_JS_STACK_H
#define VM_JS_STACK_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Far from ASan's allocator (0x600000000000) and from its shadow. */
#define VM_STACK_BASE 0x200000000000ull
#define VM_STACK_SPACING (1ull << 30)
#define VM_STACK_SLOTS 64
#define VM_STACK_BYTES (256ull << 20) /* address space; only what is touched costs memory */
#define VM_STACK_GUARD (1ull << 20)   /* more than any one frame, so that none steps over it */

struct vm_stack {
	uint8_t *mapping; /* guard first, then the stack */
	bool fixed; /* at its slot's address: false only where something else was there before */
};

int vm_stack_open(struct vm_stack *stack); /* 0 or -errno */
void vm_stack_close(struct vm_stack *stack);
bool vm_stack_is_guard(const struct vm_stack *stack, const void *address);

/*
 * Call function(arg) on `stack`. If `jump` is reached by vm_stack_leave() meanwhile, returns
 * false.
 */
struct vm_landing {
	sigjmp_buf jump;
	const void *host_bottom; /* the stack it came from; only ASan wants to know */
	size_t host_bytes;
	struct vm_stack *stack;
	void (*function)(void *arg);
	void *arg;
};
bool vm_stack_run(struct vm_stack *stack, struct vm_landing *landing, void (*function)(void *arg),
		  void *arg);
_Noreturn void vm_stack_leave(struct vm_landing *landing);

#endif
