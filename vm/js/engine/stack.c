// SPDX-License-Identifier: MIT
/*
 * stack.c - maps the VM's stacks, switches to them and back (see stack.h for the drawing).
 *
 * Owns the mappings. Called by engine.c on the owner's thread; vm_stack_is_guard() and
 * vm_stack_leave() also from its signal handler. Must never put an address on a VM's stack that is
 * not valid in the next process, too.
 */
#define _GNU_SOURCE
#include "stack.h"

#include <errno.h>
#include <sys/mman.h>
#include <ucontext.h>

#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define STACK_ASAN 1
#else
#define STACK_ASAN 0
#endif

/*
 * Canaries are random in every process: a frame that was saved would fail the check in the next
 * one.
 */
#if defined(__SSP__) || defined(__SSP_STRONG__) || defined(__SSP_ALL__)
#error "vm/ is built with -fno-stack-protector: its frames go into images"
#endif
/* A shadow stack (x86 CET, bit 2) forbids to switch stacks, and an image could not restore it. */
#if defined(__CET__) && (__CET__ & 2)
#error "vm/ is built with -fcf-protection=none: its frames go into images"
#endif
/* The same for arm64 GCS; and a signed return address is valid only with the key of its process. */
#if defined(__ARM_FEATURE_GCS_DEFAULT) || defined(__ARM_FEATURE_PAC_DEFAULT)
#error "vm/ is built with -mbranch-protection=none: its frames go into images"
#endif
#if defined(__PIE__)
#error "vm/ is linked at fixed addresses (-fno-pie): return addresses go into images"
#endif

/*
 * In switch.S:
 *
 * stack_enter(host_sp, top, function, arg)	host -> VM: a call of function(arg) with the stack
 *						pointer at `top`. The host's goes to *host_sp, and is
 *						looked up there when the function returns, which may be
 *						in another process.
 * stack_leave(vm_sp, host_sp, function, arg)	VM -> host: a call of function(arg) with the stack
 *						pointer at `host_sp`. All registers that a call preserves
 *						are on the VM's stack, whose pointer is in *vm_sp.
 * stack_resume(host_sp, vm_sp, result)		host -> VM: what stack_leave's callee returns to.
 *
 * stack_interrupted				VM -> VM: see vm_stack_interrupt().
 *
 * The address `host_sp` stays in a register that the VM's frames preserve: it must be the same in
 * the next process.
 */
void stack_enter(void **host_sp, void *top, void (*function)(void *arg), void *arg);
uint64_t stack_leave(void **vm_sp, void *host_sp, uint64_t (*function)(void *arg), void *arg);
void stack_resume(void **host_sp, void *vm_sp, uint64_t result);
void stack_interrupted(void);

/* ---- The mapping ---- */

static uint8_t *stack_bottom(const struct vm_stack *stack)
{
	return stack->top - VM_STACK_BYTES;
}

int vm_stack_open(struct vm_stack *stack, void *address, size_t extra)
{
	const size_t bytes = VM_STACK_GUARD + VM_STACK_BYTES + extra;
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK;
	uint8_t *mapping =
		mmap(address, bytes, PROT_NONE, flags | (address ? MAP_FIXED_NOREPLACE : 0), -1, 0);

	if (mapping == MAP_FAILED)
		return -errno;
	if (address && mapping != address) { /* a kernel before 4.17 takes it as a hint */
		munmap(mapping, bytes);
		return -EEXIST;
	}
	*stack = (struct vm_stack){
		.mapping = mapping,
		.top = mapping + VM_STACK_GUARD + VM_STACK_BYTES,
	};
	if (mprotect(stack_bottom(stack), VM_STACK_BYTES + extra, PROT_READ | PROT_WRITE) < 0) {
		int error = -errno;

		vm_stack_close(stack, extra);
		return error;
	}
	return 0;
}

void vm_stack_close(struct vm_stack *stack, size_t extra)
{
	uint8_t *mapping = stack->mapping;

	stack->mapping = NULL;
	if (mapping) /* last, since `stack` itself may be inside of `extra` */
		munmap(mapping, VM_STACK_GUARD + VM_STACK_BYTES + extra);
}

#define KEPT (1u << 20)
#define LOOKED_AT 16 /* pages below that; a frame may leave out some of them */

void vm_stack_give_back(const struct vm_stack *stack)
{
	const size_t page = 4096;
	uint8_t *kept = stack->top - KEPT;
	unsigned char there[LOOKED_AT] = {0};
	bool deep = false;

	if (stack->depth || mincore(kept - LOOKED_AT * page, LOOKED_AT * page, there) < 0)
		return;
	for (unsigned i = 0; i < LOOKED_AT; i++)
		deep |= there[i] & 1;
	if (deep)
		madvise(stack_bottom(stack), VM_STACK_BYTES - KEPT, MADV_DONTNEED);
}

bool vm_stack_is_guard(const struct vm_stack *stack, const void *address)
{
	return (uintptr_t)address - (uintptr_t)stack->mapping < VM_STACK_GUARD;
}

void *vm_stack_used(const struct vm_stack *stack, size_t bytes)
{
#if STACK_ASAN
	__asan_unpoison_memory_region(stack->top - bytes, bytes);
#endif
	return stack->top - bytes;
}

/* ---- Between the stacks ---- */

/* ASan must know which stack is in use. */
static inline void leaving(void **fake, const void *bottom, size_t bytes)
{
#if STACK_ASAN
	__sanitizer_start_switch_fiber(fake, bottom, bytes);
#else
	(void)fake, (void)bottom, (void)bytes;
#endif
}

static inline void arrived(void *fake, const void **bottom, size_t *bytes)
{
#if STACK_ASAN
	__sanitizer_finish_switch_fiber(fake, bottom, bytes);
#else
	(void)fake, (void)bottom, (void)bytes;
#endif
}

/* The first frame on the VM's stack. */
static void run_first(void *arg)
{
	struct vm_stack *stack = arg;

	arrived(NULL, &stack->host_bottom, &stack->host_bytes);
	stack->function(stack->arg);
	leaving(NULL, stack->host_bottom, stack->host_bytes);
}

static void enter_first(struct vm_stack *stack, void (*function)(void *arg), void *arg)
{
	void *fake = NULL;
	uintptr_t from = (uintptr_t)(stack->depth ? stack->vm_sp : stack->top);

	stack->function = function;
	stack->arg = arg;
	stack->depth++;
	leaving(&fake, stack_bottom(stack), VM_STACK_BYTES);
	stack_enter(&stack->host_sp, (void *)(from & ~(uintptr_t)15), run_first, stack);
	arrived(fake, NULL, NULL);
}

/*
 * A landing does not save the signal mask: that would be a system call for each entry, and only a
 * trap that a signal raised has to restore it.
 */
bool vm_stack_run(struct vm_stack *stack, struct vm_landing *landing, void (*function)(void *arg),
		  void *arg)
{
	void *const host_sp = stack->host_sp, *const vm_sp = stack->vm_sp;
	const unsigned depth = stack->depth;
	volatile bool landed = false;

	if (sigsetjmp(landing->jump, 0)) {
		arrived(NULL, NULL, NULL);
		landed = true;
	} else {
		enter_first(stack, function, arg);
	}
	stack->depth = depth;
	stack->host_sp = host_sp;
	stack->vm_sp = vm_sp;
	return !landed;
}

bool vm_stack_resume(struct vm_stack *stack, struct vm_landing *landing, uint64_t result)
{
	void *fake = NULL;

	if (sigsetjmp(landing->jump, 0)) {
		arrived(NULL, NULL, NULL);
		stack->depth = 0;
		return false;
	}
	stack->depth = 1;
	leaving(&fake, stack_bottom(stack), VM_STACK_BYTES);
	stack_resume(&stack->host_sp, stack->vm_sp, result);
	arrived(fake, NULL, NULL);
	stack->depth = 0;
	stack->host_sp = stack->vm_sp = NULL;
	return true;
}

struct outing {
	struct vm_stack *stack;
	uint64_t (*function)(void *arg);
	void *arg;
};

static uint64_t run_outside(void *arg)
{
	const struct outing *outing = arg;
	struct vm_stack *stack = outing->stack;
	uint64_t result;

	arrived(NULL, NULL, NULL);
	result = outing->function(outing->arg);
	leaving(NULL, stack_bottom(stack), VM_STACK_BYTES);
	return result;
}

uint64_t vm_stack_call_host(struct vm_stack *stack, uint64_t (*function)(void *arg), void *arg)
{
	struct outing outing = {stack, function, arg};
	void *fake = NULL;
	uint64_t result;

	leaving(&fake, stack->host_bottom, stack->host_bytes);
	result = stack_leave(&stack->vm_sp, stack->host_sp, run_outside, &outing);
	arrived(fake, &stack->host_bottom, &stack->host_bytes);
	return result;
}

#if VM_STACK_INTERRUPTS
#define RED_ZONE 128	    /* below its pointer, what a function that calls none keeps there */
#define INTERRUPT_ROOM 4096 /* for the registers, and for what calls the host */

/* The generated code, all of it in one section: the linker names its ends. */
extern const char __start_engine_text[] __attribute__((visibility("hidden")));
extern const char __stop_engine_text[] __attribute__((visibility("hidden")));

bool vm_stack_interrupt(const struct vm_stack *stack, void *context, void (*function)(void *arg),
			void *arg)
{
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
	uintptr_t at = (uintptr_t)registers[REG_RIP], sp = (uintptr_t)registers[REG_RSP];
	uintptr_t *pushed = (uintptr_t *)(sp - RED_ZONE);

	if (at - (uintptr_t)__start_engine_text >=
		    (uintptr_t)__stop_engine_text - (uintptr_t)__start_engine_text ||
	    sp > (uintptr_t)stack->top || sp < (uintptr_t)stack_bottom(stack) + INTERRUPT_ROOM)
		return false;
	*--pushed = at;
	*--pushed = (uintptr_t)arg;
	*--pushed = (uintptr_t)function;
	registers[REG_RSP] = (greg_t)(uintptr_t)pushed;
	registers[REG_RIP] = (greg_t)(uintptr_t)stack_interrupted;
	return true;
}
#else
bool vm_stack_interrupt(const struct vm_stack *stack, void *context, void (*function)(void *arg),
			void *arg)
{
	(void)stack, (void)context, (void)function, (void)arg;
	return false;
}
#endif

void vm_stack_leave(struct vm_stack *stack, struct vm_landing *landing)
{
	leaving(NULL, stack->host_bottom, stack->host_bytes);
	siglongjmp(landing->jump, 1);
}
