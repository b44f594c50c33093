/* SPDX-License-Identifier: MIT */
/* The boot image, byte for byte. Assembled with BOOT_HEAP, its path from the repository's top. */
	.section .rodata
	.balign 4096
	.global boot_heap_start
	.global boot_heap_bytes
boot_heap_start:
	.incbin BOOT_HEAP
boot_heap_end:
	.balign 8
boot_heap_bytes:
	.quad boot_heap_end - boot_heap_start

	.section .note.GNU-stack, "", @progbits
