/* SPDX-License-Identifier: MIT */
/*
 * stack.h - the stacks that a VM runs on, and how to switch between them and the host's.
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
 */
#ifndef VM_JS_STACK_H
#define VM_JS_STACK_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * In a shared object, code lies elsewhere in each process: no stack can be continued in another one, and generations are
 * taken between turns.
 */
#ifdef __PIC__
#define VM_STACK_RELOCATES 1
#else
#define VM_STACK_RELOCATES 0
#endif

/*
 * While a host function runs, everything the VM's code will need again is in memory: the bytes from
 * `vm_sp` to `top` are its frames and all registers that a call preserves. A copy of them at the same
 * address in another process of the same build can be continued with vm_stack_resume(). Three things
 * make that true:
 *  1. The host's stack pointer is never on the VM's stack: it is in `host_sp`, set anew at every entry.
 *  2. No frame of a host function (C library, vDSO, signal handlers) is ever on it: the engine calls
 *     them only through vm_stack_call_host(), and handlers run on a stack of their own (SA_ONSTACK).
 *     Where a handler stops the VM (vm_stack_interrupt), all registers are on its stack, and it is
 *     in generated code: none of them has anything of the host's, since switch.S clears them all.
 *  3. The frames that are on it have neither canaries nor a shadow stack nor signed return addresses,
 *     and the program is linked at fixed addresses: else stack.c does not compile.
 *
 * How addresses that are valid only in this process are kept out, also of slots that nobody reads again:
 *  - the host's stack: by 1, and switch.S clears the registers that the VM's code could push
 *  - the vDSO, the C library and its buffers, blocks of malloc(): by 2. The generated code itself calls
 *    memcpy(), memmove(), memset(), nearbyint() and isnan() of the C library: these keep no frame, call
 *    no other function and never poll. The dynamic linker does not run: all is bound at start (-z now).
 *  - thread-local storage: the VM's code uses none; the trampolines read words at a constant distance
 *    from the thread's register, and never store its address
 *  - canaries: by 3
 * tests/js/turn_stack.c checks it.
 *
 * Both sides use the process's default floating point control words, which are not switched.
 */

#define VM_STACK_BYTES (256ull << 20) /* address space; only what is touched costs memory */
#define VM_STACK_GUARD (1ull << 20) /* more than the largest frame, so that none can pass over it */

/* Where a signal can stop the VM anywhere (vm_stack_interrupt); elsewhere only polls do. */
#if defined(__x86_64__)
#define VM_STACK_INTERRUPTS 1
#else
#define VM_STACK_INTERRUPTS 0
#endif

struct vm_stack {
	uint8_t *mapping; /* guard first, then the stack */
	uint8_t *top;	  /* one past its last byte */
	void *host_sp;	  /* where the host goes on when the VM's code returns or calls out */
	void *vm_sp;	/* where the VM goes on when the host function returns; valid during one */
	unsigned depth; /* entries that have not returned */

	/* What the first frame calls; and what ASan needs. */
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
/* It was deep, and nobody is on it: give the memory back. */
void vm_stack_give_back(const struct vm_stack *stack);
bool vm_stack_is_guard(const struct vm_stack *stack, const void *address);

/*
 * Call function(arg) on `stack`; inside of a host function that was called from it, below the
 * frames that are there. False: vm_stack_leave() ended it.
 */
struct vm_landing {
	sigjmp_buf jump;
};
bool vm_stack_run(struct vm_stack *stack, struct vm_landing *landing, void (*function)(void *arg),
		  void *arg);
/* On `stack`: call function(arg) on the host's. */
uint64_t vm_stack_call_host(struct vm_stack *stack, uint64_t (*function)(void *arg), void *arg);
/*
 * Go on with the frames that were put at [vm_sp, top): the host function returns `result` to them.
 */
bool vm_stack_resume(struct vm_stack *stack, struct vm_landing *landing, uint64_t result);
/*
 * The last `bytes` of the stack, up to its top, to be read or written as plain memory (with ASan:
 * without its red zones between variables).
 */
void *vm_stack_used(const struct vm_stack *stack, size_t bytes);
/*
 * For a signal handler: the code that the signal found on `stack` calls function(arg) before its next instruction, and goes
 * on as if nothing had been. `context` is what the handler was given. False: it stands where that cannot be, or this machine
 * has no such thing.
 */
bool vm_stack_interrupt(const struct vm_stack *stack, void *context, void (*function)(void *arg),
			void *arg);
/* Drop all frames up to the landing. On any stack, also from a signal handler. */
_Noreturn void vm_stack_leave(struct vm_stack *stack, struct vm_landing *landing);

#endif
