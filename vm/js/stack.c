// SPDX-License-Identifier: MIT
/*
 * stack.c - maps the VM's stack, switches to it and back.
 *
 * Owns: the mappings. Called by engine.c on the owner's thread; vm_stack_is_guard() and
 * vm_stack_leave() also from its signal handler. Must never let a frame of the host's stay on a
 * VM stack between two calls.
 */
#define _GNU_SOURCE
#include "stack.h"

#include <errno.h>
#include <sys/mman.h>

#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/common_interface_defs.h>
#define STACK_ASAN 1
#else
#define STACK_ASAN 0
#endif

/*
 * switch_stack(top, function, arg): one call of function(arg) with the stack pointer at `top`.
 * The frame pointer carries the old stack pointer across, so debuggers and profilers can walk
 * through.
 */
void switch_stack(void *top, void (*function)(void *arg), void *arg);

#if defined(__x86_64__)
__asm__(".text\n"
	".p2align 4\n"
	".type switch_stack,@function\n"
	"switch_stack:\n"
	"	.cfi_startproc\n"
	"	push %rbp\n"
	"	.cfi_def_cfa_offset 16\n"
	"	.cfi_offset %rbp, -16\n"
	"	mov %rsp, %rbp\n"
	"	.cfi_def_cfa_register %rbp\n"
	"	mov %rdi, %rsp\n"
	"	mov %rdx, %rdi\n"
	"	call *%rsi\n"
	"	mov %rbp, %rsp\n"
	"	pop %rbp\n"
	"	.cfi_def_cfa %rsp, 8\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size switch_stack, .-switch_stack\n");
#elif defined(__aarch64__)
__asm__(".text\n"
	".p2align 4\n"
	".type switch_stack,%function\n"
	"switch_stack:\n"
	"	stp x29, x30, [sp, #-16]!\n"
	"	mov x29, sp\n"
	"	mov sp, x0\n"
	"	mov x0, x2\n"
	"	blr x1\n"
	"	mov sp, x29\n"
	"	ldp x29, x30, [sp], #16\n"
	"	ret\n"
	".size switch_stack, .-switch_stack\n");
#else
#error "vm/js/stack.c: no stack switch for this architecture yet (it takes a dozen instructions)"
#endif

static uint8_t *stack_bottom(const struct vm_stack *stack)
{
	return stack->mapping + VM_STACK_GUARD;
}

int vm_stack_open(struct vm_stack *stack)
{
	const size_t bytes = VM_STACK_GUARD + VM_STACK_BYTES;
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK;
	void *mapping = MAP_FAILED;

	for (unsigned slot = 0; slot < VM_STACK_SLOTS && mapping == MAP_FAILED; slot++) {
		void *wanted = (void *)(uintptr_t)(VM_STACK_BASE + slot * VM_STACK_SPACING);

		mapping = mmap(wanted, bytes, PROT_NONE, flags | MAP_FIXED_NOREPLACE, -1, 0);
		if (mapping != MAP_FAILED &&
		    mapping != wanted) { /* a kernel before 4.17 takes it as a hint */
			munmap(mapping, bytes);
			mapping = MAP_FAILED;
		}
	}
	stack->fixed = mapping != MAP_FAILED;
	if (mapping == MAP_FAILED) /* 39-bit address spaces, ThreadSanitizer */
		mapping = mmap(NULL, bytes, PROT_NONE, flags, -1, 0);
	if (mapping == MAP_FAILED)
		return -errno;
	stack->mapping = mapping;
	if (mprotect(stack_bottom(stack), VM_STACK_BYTES, PROT_READ | PROT_WRITE) < 0) {
		int error = -errno;

		vm_stack_close(stack);
		return error;
	}
	return 0;
}

void vm_stack_close(struct vm_stack *stack)
{
	if (stack->mapping)
		munmap(stack->mapping, VM_STACK_GUARD + VM_STACK_BYTES);
	stack->mapping = NULL;
}

bool vm_stack_is_guard(const struct vm_stack *stack, const void *address)
{
	return (uintptr_t)address - (uintptr_t)stack->mapping < VM_STACK_GUARD;
}

/* The first frame on the VM's stack. */
static void run_landing(void *arg)
{
	struct vm_landing *landing = arg;

#if STACK_ASAN
	__sanitizer_finish_switch_fiber(NULL, &landing->host_bottom, &landing->host_bytes);
#endif
	landing->function(landing->arg);
#if STACK_ASAN
	__sanitizer_start_switch_fiber(NULL, landing->host_bottom, landing->host_bytes);
#endif
}

bool vm_stack_run(struct vm_stack *stack, struct vm_landing *landing, void (*function)(void *arg),
		  void *arg)
{
	uint8_t *top = stack_bottom(stack) + VM_STACK_BYTES;
	volatile bool returned = false;
#if STACK_ASAN
	void *volatile fake_stack = NULL;
#endif

	landing->stack = stack;
	landing->function = function;
	landing->arg = arg;
	/*
	 * Without the signal mask: saving it is a system call per entry, and only a trap raised
	 * by a signal has to restore it.
	 */
	if (sigsetjmp(landing->jump, 0) == 0) {
#if STACK_ASAN
		__sanitizer_start_switch_fiber((void **)&fake_stack, stack_bottom(stack),
					       VM_STACK_BYTES);
#endif
		switch_stack(top, run_landing, landing);
		returned = true;
	}
#if STACK_ASAN
	__sanitizer_finish_switch_fiber(fake_stack, NULL, NULL);
#endif
	return returned;
}

void vm_stack_leave(struct vm_landing *landing)
{
#if STACK_ASAN
	__sanitizer_start_switch_fiber(NULL, landing->host_bottom, landing->host_bytes);
#endif
	siglongjmp(landing->jump, 1);
}
