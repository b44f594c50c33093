// SPDX-License-Identifier: MIT
/*
 * stack.c - maps the VM's stacks, switches to them and back (see stack.h for the drawing).
 *
 * Owns: the mappings. Called by engine.c on the owner's thread; vm_stack_is_guard() and
 * vm_stack_leave() also from its signal handler. Must never put an address on a VM's stack that
 * means nothing in the next process.
 */
#define _GNU_SOURCE
#include "stack.h"

#include <errno.h>
#include <sys/mman.h>

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

/* A canary is random in every process, and a frame that was saved would not find its own again. */
#if defined(__SSP__) || defined(__SSP_STRONG__) || defined(__SSP_ALL__)
#error "vm/ is built with -fno-stack-protector: its frames go into images"
#endif
/* A switch of stacks trips over a shadow stack (x86 CET, bit 2), which no image could bring back. */
#if defined(__CET__) && (__CET__ & 2)
#error "vm/ is built with -fcf-protection=none: its frames go into images"
#endif
#if defined(__PIE__) || defined(__PIC__)
#error "vm/ is linked at fixed addresses (-fno-pie): return addresses go into images"
#endif

/*
 * stack_enter(host_sp, top, function, arg)	host -> VM: a call of function(arg) with the stack
 *						pointer at `top`. The host's goes to *host_sp, and is
 *						looked up there when the function returns, which may be
 *						in another process.
 * stack_leave(vm_sp, host_sp, function, arg)	VM -> host: a call of function(arg) with the stack
 *						pointer at `host_sp`. All registers that a call preserves
 *						are on the VM's stack, whose pointer is in *vm_sp.
 * stack_resume(host_sp, vm_sp, result)		host -> VM: what stack_leave's callee returns to.
 *
 * The address `host_sp` stays in a register that the VM's frames preserve: it must be the same in
 * the next process.
 */
void stack_enter(void **host_sp, void *top, void (*function)(void *arg), void *arg);
uint64_t stack_leave(void **vm_sp, void *host_sp, uint64_t (*function)(void *arg), void *arg);
void stack_resume(void **host_sp, void *vm_sp, uint64_t result);

#if defined(__x86_64__)
#define PUSH_PRESERVED                                     \
	"	push %rbp\n	push %rbx\n	push %r12\n	push %r13\n" \
	"	push %r14\n	push %r15\n"
#define POP_PRESERVED                                  \
	"	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n" \
	"	pop %rbx\n	pop %rbp\n"
/* What the host left in registers that no call preserves: a push for alignment might store it. */
#define FORGET_OTHERS                                         \
	"	xor %ecx, %ecx\n	xor %edx, %edx\n	xor %esi, %esi\n" \
	"	xor %edi, %edi\n	xor %r8d, %r8d\n	xor %r9d, %r9d\n" \
	"	xor %r10d, %r10d\n	xor %r11d, %r11d\n"
__asm__(".text\n"
	".p2align 4\n"
	".globl stack_enter\n"
	".type stack_enter,@function\n"
	"stack_enter:\n" PUSH_PRESERVED "	mov %rsp, (%rdi)\n"
	"	mov %rsi, %rsp\n"
	"	mov %rdi, %rbx\n"
	"	xor %ebp, %ebp\n" /* the end of a backtrace; and what the host had in the others */
	"	xor %r12d, %r12d\n	xor %r13d, %r13d\n"
	"	xor %r14d, %r14d\n	xor %r15d, %r15d\n"
	"	mov %rcx, %rdi\n"
	"	call *%rdx\n"
	"	mov (%rbx), %rsp\n" POP_PRESERVED "	ret\n"
	".size stack_enter, .-stack_enter\n"

	".p2align 4\n"
	".globl stack_leave\n"
	".type stack_leave,@function\n"
	"stack_leave:\n" PUSH_PRESERVED "	mov %rsp, (%rdi)\n"
	"	mov %rsi, %rsp\n"
	"	and $-16, %rsp\n"
	"	mov %rdi, %rbx\n"
	"	mov %rcx, %rdi\n"
	"	call *%rdx\n"
	"	mov (%rbx), %rsp\n" FORGET_OTHERS POP_PRESERVED "	ret\n"
	".size stack_leave, .-stack_leave\n"

	".p2align 4\n"
	".globl stack_resume\n"
	".type stack_resume,@function\n"
	"stack_resume:\n" PUSH_PRESERVED "	mov %rsp, (%rdi)\n"
	"	mov %rsi, %rsp\n"
	"	mov %rdx, %rax\n" FORGET_OTHERS POP_PRESERVED "	ret\n"
	".size stack_resume, .-stack_resume\n");
#elif defined(__aarch64__)
#define PUSH_PRESERVED                                         \
	"	sub sp, sp, #160\n"                                  \
	"	stp x29, x30, [sp]\n	stp x19, x20, [sp, #16]\n"      \
	"	stp x21, x22, [sp, #32]\n	stp x23, x24, [sp, #48]\n" \
	"	stp x25, x26, [sp, #64]\n	stp x27, x28, [sp, #80]\n" \
	"	stp d8, d9, [sp, #96]\n	stp d10, d11, [sp, #112]\n"  \
	"	stp d12, d13, [sp, #128]\n	stp d14, d15, [sp, #144]\n"
#define POP_PRESERVED                                            \
	"	ldp x29, x30, [sp]\n	ldp x19, x20, [sp, #16]\n"        \
	"	ldp x21, x22, [sp, #32]\n	ldp x23, x24, [sp, #48]\n"   \
	"	ldp x25, x26, [sp, #64]\n	ldp x27, x28, [sp, #80]\n"   \
	"	ldp d8, d9, [sp, #96]\n	ldp d10, d11, [sp, #112]\n"    \
	"	ldp d12, d13, [sp, #128]\n	ldp d14, d15, [sp, #144]\n" \
	"	add sp, sp, #160\n"
__asm__(".text\n"
	".p2align 4\n"
	".globl stack_enter\n"
	".type stack_enter,%function\n"
	"stack_enter:\n" PUSH_PRESERVED "	mov x9, sp\n"
	"	str x9, [x0]\n"
	"	mov sp, x1\n"
	"	mov x19, x0\n"
	"	mov x29, xzr\n" /* the end of a backtrace */
	"	mov x0, x3\n"
	"	blr x2\n"
	"	ldr x9, [x19]\n"
	"	mov sp, x9\n" POP_PRESERVED "	ret\n"
	".size stack_enter, .-stack_enter\n"

	".p2align 4\n"
	".globl stack_leave\n"
	".type stack_leave,%function\n"
	"stack_leave:\n" PUSH_PRESERVED "	mov x9, sp\n"
	"	str x9, [x0]\n"
	"	mov sp, x1\n"
	"	mov x19, x0\n"
	"	mov x0, x3\n"
	"	blr x2\n"
	"	ldr x9, [x19]\n"
	"	mov sp, x9\n" POP_PRESERVED "	ret\n"
	".size stack_leave, .-stack_leave\n"

	".p2align 4\n"
	".globl stack_resume\n"
	".type stack_resume,%function\n"
	"stack_resume:\n" PUSH_PRESERVED "	mov x9, sp\n"
	"	str x9, [x0]\n"
	"	mov sp, x1\n"
	"	mov x0, x2\n" POP_PRESERVED "	ret\n"
	".size stack_resume, .-stack_resume\n");
#else
#error "vm/js/stack.c: no stack switch for this architecture yet (it takes three dozen instructions)"
#endif

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
	if (mapping) /* the last thing: `stack` itself may lie in `extra` */
		munmap(mapping, VM_STACK_GUARD + VM_STACK_BYTES + extra);
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

/* ASan keeps its own book of which stack is in use. */
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

void vm_stack_run_nested(struct vm_stack *stack, void (*function)(void *arg), void *arg)
{
	void *const host_sp = stack->host_sp, *const vm_sp = stack->vm_sp;
	void *fake = NULL;
	uintptr_t from = (uintptr_t)(stack->depth ? stack->vm_sp : stack->top);

	stack->function = function;
	stack->arg = arg;
	stack->depth++;
	leaving(&fake, stack_bottom(stack), VM_STACK_BYTES);
	stack_enter(&stack->host_sp, (void *)(from & ~(uintptr_t)15), run_first, stack);
	arrived(fake, NULL, NULL);
	stack->depth--;
	stack->host_sp = host_sp;
	stack->vm_sp = vm_sp;
}

/*
 * Landings go without the signal mask: saving it is a system call per entry, and only a trap raised
 * by a signal has to restore it.
 */
bool vm_stack_run(struct vm_stack *stack, struct vm_landing *landing, void (*function)(void *arg),
		  void *arg)
{
	if (sigsetjmp(landing->jump, 0)) {
		arrived(NULL, NULL, NULL);
		return false;
	}
	vm_stack_run_nested(stack, function, arg);
	return true;
}

bool vm_stack_resume(struct vm_stack *stack, struct vm_landing *landing, uint64_t result)
{
	void *fake = NULL;

	if (sigsetjmp(landing->jump, 0)) {
		arrived(NULL, NULL, NULL);
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

void vm_stack_leave(struct vm_stack *stack, struct vm_landing *landing)
{
	leaving(NULL, stack->host_bottom, stack->host_bytes);
	siglongjmp(landing->jump, 1);
}
