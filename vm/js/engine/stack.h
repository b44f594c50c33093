/* SPDX-License-Identifier: MIT */
/*
 * stack.h - the stacks a VM runs on, and the ways between them and the host's.
 *
 *	host's stack          |  VM's stack
 *	                      |
 *	vm_stack_run() -------+-> function(arg)          enter
 *	                      |     ...
 *	   function(arg) <----+-- vm_stack_call_host()    a host function: never on the VM's stack
 *	              \-------+-> ...
 *	   ... <--------------+-- return                  leave
 *
 *	vm_stack_resume() ----+-> as if the host function had just returned
 *
 * While a host function runs, everything the VM's code will need again is in memory: the bytes from
 * `vm_sp` to `top` are its frames and all registers that a call preserves. A copy of them, put at the
 * same address in another process of the same build, goes on with vm_stack_resume(). For that to be
 * true, three things hold by construction:
 *  1. The host's stack pointer is never on the VM's stack: it is in `host_sp`, renewed at every entry.
 *  2. Frames of the host's functions (C library, vDSO, signal handlers) never stand on it: the engine
 *     calls out through vm_stack_call_host() only, handlers run on a stack of their own (SA_ONSTACK).
 *  3. What does stand on it has neither canaries nor a shadow stack nor signed return addresses, and
 *     the program is linked at fixed addresses: stack.c refuses to be compiled otherwise.
 *
 * How each address that is this process's own is kept out, also of slots that nobody reads again:
 *  - the host's stack: by 1, and switch.S clears what registers the VM's code could push
 *  - the vDSO, the C library and its buffers, malloc()'s blocks: by 2. Of the C library the generated
 *    code itself calls memcpy(), memmove(), memset(), nearbyint() and isnan(): they keep no frame,
 *    call nobody, and never poll. Nor does the dynamic linker come by, all is bound at the start (-z now).
 *  - thread-local storage: the VM's code uses none, the trampolines read words at a constant distance
 *    from the thread's register and never its address
 *  - canaries: by 3
 * tests/turn_stack.c looks for them.
 *
 * The floating point control words are the process's defaults on both sides and are not switched.
 */
#ifndef VM_JS_STACK_H
#define VM_JS_STACK_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VM_STACK_BYTES (256ull << 20) /* address space; only what is touched costs memory */
#define VM_STACK_GUARD (1ull << 20)   /* more than any one frame, so that none steps over it */

struct vm_stack {
	uint8_t *mapping; /* guard first, then the stack */
	uint8_t *top;	  /* one past its last byte */
	void *host_sp;	  /* where the host goes on when the VM's code returns or calls out */
	void *vm_sp;	/* where the VM goes on when the host function returns; valid during one */
	unsigned depth; /* entries that have not returned */

	/* The first frame's work, and what only ASan wants to know. */
	void (*function)(void *arg);
	void *arg;
	const void *host_bottom;
	size_t host_bytes;
};

/*
 * Map a stack, and `extra` bytes right behind it, at `address` (NULL: anywhere). 0 or -errno;
 * -EEXIST: something else is there.
 */
int vm_stack_open(struct vm_stack *stack, void *address, size_t extra);
void vm_stack_close(struct vm_stack *stack, size_t extra);
bool vm_stack_is_guard(const struct vm_stack *stack, const void *address);

/*
 * Call function(arg) on `stack`; nested in a host function that was called from it, below what is
 * there. False if vm_stack_leave() ended it.
 */
struct vm_landing {
	sigjmp_buf jump;
};
bool vm_stack_run(struct vm_stack *stack, struct vm_landing *landing, void (*function)(void *arg),
		  void *arg);
/* The same without a landing: whoever leaves goes further out. */
void vm_stack_run_nested(struct vm_stack *stack, void (*function)(void *arg), void *arg);
/* On `stack`: call function(arg) on the host's. */
uint64_t vm_stack_call_host(struct vm_stack *stack, uint64_t (*function)(void *arg), void *arg);
/* Go on with the frames that were put at [vm_sp, top): the host function returns `result` to them. */
bool vm_stack_resume(struct vm_stack *stack, struct vm_landing *landing, uint64_t result);
/*
 * `bytes` of the stack, up to its top, for reading or writing as plain memory: ASan's red zones
 * between the variables of frames are frames' business.
 */
void *vm_stack_used(const struct vm_stack *stack, size_t bytes);
/* Give up everything up to the landing. Any stack, also from a signal handler. */
_Noreturn void vm_stack_leave(struct vm_stack *stack, struct vm_landing *landing);

#endif
