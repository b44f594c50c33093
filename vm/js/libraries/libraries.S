/* SPDX-License-Identifier: MIT */
/* The bundled libraries, byte for byte (libraries.mk). Assembled from the repository's top. */
	.macro embed name
	.global library_\name\()_start
	.global library_\name\()_end
	.balign 16
library_\name\()_start:
	.incbin "build/js/libraries/\name\().js"
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
