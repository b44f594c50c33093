/* SPDX-License-Identifier: MIT */
/* The JavaScript that is part of the binary, byte for byte. Assembled from the repository's top. */
	.macro embed name, path
	.global js_\name\()_start
	.global js_\name\()_end
	.balign 16
js_\name\()_start:
	.incbin "\path"
js_\name\()_end:
	.byte 0
	.endm

	.section .rodata
	embed console, vm/js/console.js
	embed prelude, vm/js/prelude.js
	embed thaw_module, vm/js/thaw.js

	.section .note.GNU-stack, "", @progbits
