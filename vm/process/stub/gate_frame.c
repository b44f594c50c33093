// SPDX-License-Identifier: MIT
/*
 * gate_frame.c - who unwinds a stack finds the way out of the gate.
 *
 * A thread that is cancelled while it waits in a call there is unwound from the gate's page, which belongs to no library:
 * without this the unwinder would take it for the stack's end, and destructors would not run. libgcc_s does the unwinding
 * for pthread_cancel(3), whatever else is in the program, and is loaded by it.
 */
#include <dlfcn.h>
#include <stdint.h>

#include "process/stub/stub.h"

#define DWARF_RSP 7
#define DWARF_RETURN_ADDRESS 16

/* As in .eh_frame: one entry for all three bytes. The stack has nothing but the return address on it. */
static const struct __attribute__((packed)) {
	struct __attribute__((packed)) {
		uint32_t length, id;
		uint8_t version;
		char augmentation
			[3]; /* "zR": how addresses are encoded comes in the next block of bytes */
		uint8_t code_alignment, data_alignment, return_address, augmentation_bytes,
			encoding;
		uint8_t instructions[11];
	} common;
	struct __attribute__((packed)) {
		uint32_t length, common;
		uint64_t start, bytes;
		uint8_t augmentation_bytes;
		uint8_t instructions[7];
	} entry;
	uint32_t end;
} frame __attribute__((aligned(8))) = {
	.common = {.length = sizeof(frame.common) - 4,
		   .version = 1,
		   .augmentation = "zR",
		   .code_alignment = 1,
		   .data_alignment = 0x78, /* -8 */
		   .return_address = DWARF_RETURN_ADDRESS,
		   .augmentation_bytes = 1,
		   .encoding = 0, /* as they are */
		   /* The frame's address is rsp + 8, and the return address is 8 below it. */
		   .instructions = {0x0c, DWARF_RSP, 8, 0x80 | DWARF_RETURN_ADDRESS, 1}},
	.entry = {.length = sizeof(frame.entry) - 4,
		  .common = sizeof(frame.common) + 4,
		  .start = GATE_ADDRESS,
		  .bytes = 3},
};

void stub_show_gate(void)
{
	static bool shown;
	void (*show)(const void *);
	void *library;

	if (__atomic_load_n(&shown, __ATOMIC_SEQ_CST) || !stub_active())
		return;
	library = dlopen("libgcc_s.so.1", RTLD_NOW);
	show = library ? (__typeof__(show))dlsym(library, "__register_frame") : NULL;
	if (show && !__atomic_exchange_n(&shown, true, __ATOMIC_SEQ_CST))
		show(&frame);
}
