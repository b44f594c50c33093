/* SPDX-License-Identifier: MIT */
/*
 * raw.h - system calls without libc (x86-64): no errno, no thread-local storage, no locks, no cancellation. For what
 * runs in the guest while it is parked.
 */
#ifndef VM_PROCESS_STUB_RAW_H
#define VM_PROCESS_STUB_RAW_H

#include <linux/futex.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

/* As the kernel returns it: -errno in [-4095, -1]. */
static inline int64_t raw_call(int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
			       uint64_t e, uint64_t f)
{
#ifdef __x86_64__
	register uint64_t r10 __asm__("r10") = d;
	register uint64_t r8 __asm__("r8") = e;
	register uint64_t r9 __asm__("r9") = f;
	int64_t result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
#else
	(void)number, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
	return -38; /* ENOSYS: there are no such guests there */
#endif
}

static inline int raw_failed(int64_t result)
{
	return result < 0 && result >= -4095;
}

/* The words are shared with the supervisor: not FUTEX_PRIVATE_FLAG. */
static inline void raw_futex_wait(const uint32_t *word, uint32_t seen)
{
	raw_call(SYS_futex, (uintptr_t)word, FUTEX_WAIT, seen, 0, 0, 0);
}

static inline void raw_futex_wake(const uint32_t *word)
{
	raw_call(SYS_futex, (uintptr_t)word, FUTEX_WAKE, INT32_MAX, 0, 0, 0);
}

static inline void raw_copy(void *to, const void *from, size_t bytes)
{
#ifdef __x86_64__
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
#else
	for (size_t i = 0; i < bytes; i++)
		((volatile char *)to)[i] = ((const char *)from)[i];
#endif
}

#endif
