/* SPDX-License-Identifier: MIT */
/*
 * gate.h - one page at a fixed address with the instructions `syscall; ret`: calls made there are ours, and output
 * commit's filter lets them pass (by their instruction pointer). It is mapped in each guest, whether it was started,
 * restored or executed, and in children that a guest has forked; none of it is in an image.
 */
#ifndef VM_PROCESS_STUB_GATE_H
#define VM_PROCESS_STUB_GATE_H

#include <stdint.h>
#include <sys/mman.h>

#include "process/stub/control.h"
#include "process/stub/raw.h"

/* As raw_call(), after gate_map(). Compiled without a red zone, into which the call would write. */
static inline int64_t gate_call(int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
				uint64_t e, uint64_t f)
{
#ifdef __x86_64__
	register uint64_t r10 __asm__("r10") = d;
	register uint64_t r8 __asm__("r8") = e;
	register uint64_t r9 __asm__("r9") = f;
	int64_t result;

	__asm__ volatile("call *%[gate]"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8),
			   "r"(r9), [gate] "r"(GATE_ADDRESS)
			 : "rcx", "r11", "memory");
	return result;
#else
	return raw_call(number, a, b, c, d, e, f);
#endif
}

/* Once in a program's life. 0, or -errno. */
static inline int64_t gate_map(void)
{
	int64_t result = raw_call(SYS_mmap, GATE_ADDRESS, GATE_BYTES, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, ~0ull, 0);
	volatile uint8_t *code = (volatile uint8_t *)GATE_ADDRESS;

	if (raw_failed(result))
		return result;
	if (result !=
	    (int64_t)GATE_ADDRESS) { /* before Linux 4.17, which takes the address as a wish */
		raw_call(SYS_munmap, (uint64_t)result, GATE_BYTES, 0, 0, 0, 0);
		return -17; /* EEXIST */
	}
	code[0] = 0x0f;
	code[1] = 0x05;
	code[2] = 0xc3;
	return raw_call(SYS_mprotect, GATE_ADDRESS, GATE_BYTES, PROT_READ | PROT_EXEC, 0, 0, 0);
}

#endif
