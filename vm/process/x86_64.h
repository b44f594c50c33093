/* SPDX-License-Identifier: MIT */
/*
 * x86_64.h - what the kernel has on x86-64 alone, so that the files that use it are compiled elsewhere, too. Nothing
 * calls them there: no program is taken for a guest (program.c).
 */
#ifndef VM_PROCESS_X86_64_H
#define VM_PROCESS_X86_64_H

#include <stddef.h>
#include <sys/syscall.h>
#include <ucontext.h>

#if defined(__x86_64__)
#include <asm/prctl.h>
#define CONTEXT_FPREGS offsetof(ucontext_t, uc_mcontext.fpregs)
#else
#define CONTEXT_FPREGS 0
#define SYS_arch_prctl (-1)
enum { ARCH_GET_FS, ARCH_GET_GS, ARCH_SET_FS, ARCH_SET_GS };
#endif

#endif
