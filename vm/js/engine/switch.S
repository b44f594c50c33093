/* SPDX-License-Identifier: MIT */
/*
 * switch.S - the instructions that change stacks. stack.c declares them and says what they mean.
 *
 *	stack_enter(host_sp, top, function, arg)	host -> VM
 *	stack_leave(vm_sp, host_sp, function, arg)	VM -> host -> VM
 *	stack_resume(host_sp, vm_sp, result)		host -> VM, where stack_leave was called
 *	stack_interrupted				VM -> VM, where a signal found it (vm_stack_interrupt)
 *
 * Registers that a call preserves are pushed on the stack that is left. So while the host runs, the VM's stack
 * has everything; and its frames find the host's stack pointer where `host_sp` points to, which is
 * the one thing of the caller's that stays in a register of theirs: it must be the same address in
 * the next process.
 */

#if defined(__x86_64__)

/* Six: the stack pointer, 8 below a multiple of 16 when a function begins, is that again. */
.macro push_preserved
	push	%rbp
	push	%rbx
	push	%r12
	push	%r13
	push	%r14
	push	%r15
.endm
.macro pop_preserved
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbx
	pop	%rbp
.endm

/* Clear the host's values in registers: a frame of the VM would store them. */
.macro forget_preserved
	xor	%ebp, %ebp		/* also the end of a backtrace by frame pointers */
	xor	%r12d, %r12d
	xor	%r13d, %r13d
	xor	%r14d, %r14d
	xor	%r15d, %r15d
.endm
/* These too: a push that only aligns the stack might store any of them, and stack_interrupted stores all. */
.macro forget_others
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	.irp	number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	pxor	%xmm\number, %xmm\number
	.endr
.endm

	.text
	.p2align 4
	.globl	stack_enter
	.type	stack_enter, @function
stack_enter:
	.cfi_startproc
	.cfi_undefined %rip		/* debuggers end the backtrace here */
	push_preserved
	mov	%rsp, (%rdi)
	mov	%rsi, %rsp
	mov	%rdi, %rbx
	mov	%rcx, %r12
	mov	%rdx, %rax		/* of the program: may be stored */
	forget_others
	mov	%r12, %rdi
	forget_preserved
	call	*%rax
	mov	(%rbx), %rsp		/* of the last caller that entered or resumed */
	pop_preserved
	ret
	.cfi_endproc
	.size	stack_enter, . - stack_enter

	.p2align 4
	.globl	stack_leave
	.type	stack_leave, @function
stack_leave:
	.cfi_startproc
	.cfi_undefined %rip
	push_preserved
	mov	%rsp, (%rdi)
	mov	%rsi, %rsp
	and	$-16, %rsp
	mov	%rdi, %rbx
	mov	%rcx, %rdi
	call	*%rdx
	mov	(%rbx), %rsp
	forget_others
	pop_preserved
	ret
	.cfi_endproc
	.size	stack_leave, . - stack_leave

	.p2align 4
	.globl	stack_resume
	.type	stack_resume, @function
stack_resume:
	.cfi_startproc
	.cfi_undefined %rip
	push_preserved
	mov	%rsp, (%rdi)
	mov	%rsi, %rsp
	mov	%rdx, %rax
	forget_others
	pop_preserved
	ret
	.cfi_endproc
	.size	stack_resume, . - stack_resume

/*
 * Jumped to from any instruction, with all registers as they were there, but for the stack pointer: it is below the red
 * zone, and points to a function, its argument, and where to go on.
 */
	.p2align 4
	.globl	stack_interrupted
	.type	stack_interrupted, @function
stack_interrupted:
	.cfi_startproc
	.cfi_undefined %rip
	pushfq
	cld
	push	%rax
	push	%rcx
	push	%rdx
	push	%rsi
	push	%rdi
	push	%r8
	push	%r9
	push	%r10
	push	%r11
	push_preserved
	mov	%rsp, %rbp
	sub	$256, %rsp
	and	$-16, %rsp
	.irp	number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movaps	%xmm\number, 16*\number(%rsp)
	.endr
	mov	16*8(%rbp), %rax	/* above 15 registers and the flags */
	mov	17*8(%rbp), %rdi
	call	*%rax
	.irp	number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movaps	16*\number(%rsp), %xmm\number
	.endr
	mov	%rbp, %rsp
	pop_preserved
	pop	%r11
	pop	%r10
	pop	%r9
	pop	%r8
	pop	%rdi
	pop	%rsi
	pop	%rdx
	pop	%rcx
	pop	%rax
	popfq
	lea	16(%rsp), %rsp
	ret	$128
	.cfi_endproc
	.size	stack_interrupted, . - stack_interrupted

#elif defined(__aarch64__)

/* A call preserves the lower halves of v8 to v15, and nothing of what SVE adds to them. */
.macro push_preserved
	sub	sp, sp, #160
	stp	x29, x30, [sp]
	stp	x19, x20, [sp, #16]
	stp	x21, x22, [sp, #32]
	stp	x23, x24, [sp, #48]
	stp	x25, x26, [sp, #64]
	stp	x27, x28, [sp, #80]
	stp	d8, d9, [sp, #96]
	stp	d10, d11, [sp, #112]
	stp	d12, d13, [sp, #128]
	stp	d14, d15, [sp, #144]
.endm
.macro pop_preserved
	ldp	x29, x30, [sp]
	ldp	x19, x20, [sp, #16]
	ldp	x21, x22, [sp, #32]
	ldp	x23, x24, [sp, #48]
	ldp	x25, x26, [sp, #64]
	ldp	x27, x28, [sp, #80]
	ldp	d8, d9, [sp, #96]
	ldp	d10, d11, [sp, #112]
	ldp	d12, d13, [sp, #128]
	ldp	d14, d15, [sp, #144]
	add	sp, sp, #160
.endm
/* Clear the host's values in registers: a frame of the VM would store them. */
.macro forget_preserved
	mov	x29, xzr		/* also the end of a backtrace by frame pointers */
	mov	x20, xzr
	mov	x21, xzr
	mov	x22, xzr
	mov	x23, xzr
	mov	x24, xzr
	mov	x25, xzr
	mov	x26, xzr
	mov	x27, xzr
	mov	x28, xzr
	movi	d8, #0
	movi	d9, #0
	movi	d10, #0
	movi	d11, #0
	movi	d12, #0
	movi	d13, #0
	movi	d14, #0
	movi	d15, #0
.endm
/* Not even here: x0 has the result. */
.macro forget_others
	mov	x1, xzr
	mov	x2, xzr
	mov	x3, xzr
	mov	x4, xzr
	mov	x5, xzr
	mov	x6, xzr
	mov	x7, xzr
	mov	x8, xzr
	mov	x9, xzr
	mov	x10, xzr
	mov	x11, xzr
	mov	x12, xzr
	mov	x13, xzr
	mov	x14, xzr
	mov	x15, xzr
	mov	x16, xzr
	mov	x17, xzr
	mov	x18, xzr
.endm

	.text
	.p2align 4
	.globl	stack_enter
	.type	stack_enter, %function
stack_enter:
	.cfi_startproc
	.cfi_undefined x30		/* debuggers end the backtrace here */
	push_preserved
	mov	x9, sp
	str	x9, [x0]
	mov	sp, x1
	mov	x19, x0
	forget_preserved
	mov	x0, x3
	blr	x2
	ldr	x9, [x19]		/* of the last caller that entered or resumed */
	mov	sp, x9
	pop_preserved
	ret
	.cfi_endproc
	.size	stack_enter, . - stack_enter

	.p2align 4
	.globl	stack_leave
	.type	stack_leave, %function
stack_leave:
	.cfi_startproc
	.cfi_undefined x30
	push_preserved
	mov	x9, sp
	str	x9, [x0]
	mov	sp, x1
	mov	x19, x0
	mov	x0, x3
	blr	x2
	ldr	x9, [x19]
	mov	sp, x9
	forget_others
	pop_preserved
	ret
	.cfi_endproc
	.size	stack_leave, . - stack_leave

	.p2align 4
	.globl	stack_resume
	.type	stack_resume, %function
stack_resume:
	.cfi_startproc
	.cfi_undefined x30
	push_preserved
	mov	x9, sp
	str	x9, [x0]
	mov	sp, x1
	mov	x0, x2
	forget_others
	pop_preserved
	ret
	.cfi_endproc
	.size	stack_resume, . - stack_resume

#else
#error "vm/js/engine/switch.S: no stack switch for this architecture yet (it takes three dozen instructions)"
#endif

	.section .note.GNU-stack, "", %progbits
