/* SPDX-License-Identifier: MIT */
/* The bundled libraries, compiled (libraries.mk). Assembled with -Wa,-I and the directory that they are in. */
	.macro embed name
	.global library_\name\()_start
	.global library_\name\()_end
	.balign 16
library_\name\()_start:
	.incbin "\name\().code"
library_\name\()_end:
	.byte 0
	.endm

	.section .rodata
	embed url
	embed idna
	embed streams
	embed encodings
	embed compression
	embed typescript

	.section .note.GNU-stack, "", @progbits
