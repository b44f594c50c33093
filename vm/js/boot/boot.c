/* SPDX-License-Identifier: MIT */
/*
 * boot.c - a fresh program starts from the boot image (boot.h). Called by program.c, on the owner's thread.
 */
#include <errno.h>
#include <string.h>

#include "base/failure.h"
#include "boot.h"

int boot_engine(struct thaw *heap, const struct js_host *host, struct js_engine **engine,
		js_value *enter, struct thaw_error *error)
{
	const struct boot_header *header = (const struct boot_header *)boot_heap_start;
	const uint32_t *places = (const uint32_t *)(header + 1);
	const char *pieces;
	struct js_small small;
	int code;

	if (!boot_heap_bytes)
		return -ENOENT;
	code = thaw_resize(heap, (size_t)header->memory_pages << 16);
	if (code)
		return failure(error, code, "JavaScript engine: the heap is too small");
	pieces = boot_heap_start + boot_pieces_at(header->count);
	for (uint32_t i = 0; i < header->count; i++)
		memcpy((char *)thaw_base(heap) + (size_t)places[i] * BOOT_PIECE,
		       pieces + (size_t)i * BOOT_PIECE, BOOT_PIECE);
	small = (struct js_small){header->stack_pointer, header->memory_pages};
	*enter = header->enter;
	return js_engine_restore(heap, host, &small, engine, error);
}
