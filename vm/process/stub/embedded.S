/* SPDX-License-Identifier: MIT */
/* The stub (a shared object) and the restorer (an executable), as the build has made them. */
	.section .rodata
	.global process_stub
	.global process_stub_bytes
	.global process_restorer
	.global process_restorer_bytes
	.balign 16
process_stub:
#ifdef __x86_64__
	.incbin STUB_PATH
#endif
stub_end:
	.byte 0
	.balign 16
process_restorer:
#ifdef __x86_64__
	.incbin RESTORER_PATH
#endif
restorer_end:
	.byte 0
	.balign 8
process_stub_bytes:
	.quad stub_end - process_stub
process_restorer_bytes:
	.quad restorer_end - process_restorer

	.section .note.GNU-stack, "", @progbits
