/* SPDX-License-Identifier: MIT */
/*
 * snapshot_format.h - the format of a snapshot as bytes: a heap and its state, whole, or as what changed since another one.
 * Used by snapshot_*.c only.
 *
 * Little endian, no padding; a big-endian host is refused at compile time. A page has 4096 bytes, whatever the kernel's.
 *
 *	  0   8  magic 8f 54 56 4d 0d 0a 1a 0a
 *	  8   4  version
 *	 12   4  kind: 0 whole, 1 delta
 *	 16  64  engine: only the same one goes on from it; padded with zeros
 *	 80  16  id
 *	 96  16  id of what a delta is based on; of a whole one 0
 *	112   8  bytes of the heap, whole pages
 *	120   8  bytes of the state
 *	128   4  runs: how many
 *	132   4  frames: how many
 *	136   8  XXH3-64 of bytes 0 to 135, the runs and the table of frames
 *	144      runs of pages: first (4), how many (4); in order, with pages that are not listed between them
 *		 the table: of each frame its length (4), how it is to be read (4), its XXH3-64 (8)
 *		 the frames of zstd, each complete in itself, one behind the other up to the end
 *
 * The first frame is the state, there also if it is empty. Each other one is of SNAPSHOT_FRAME_PAGES listed pages, the last
 * one of the rest. In a whole snapshot pages that are not listed are zero. In a delta they are as in the base, and zero
 * behind its end. How a delta's frame is read: 0, with what the base has in the same places (zeros behind its end) as prefix
 * (ZSTD_CCtx_refPrefix), that of the state the base's state; 1, it is that exclusive-or the pages. So few bytes that change in their
 * places cost few bytes and no search, and what has moved is found.
 *
 * The id is the XXH3-128, in canonical form, of engine, bytes of the heap, bytes of the state, state, and a sum modulo
 * 2^128 (low half first) over all pages that are not zero: XXH3-128 of the number of the page (8) and of the XXH3-128 (low
 * half first) of its contents. So it says what is in it, not how it was compressed, and follows from that of the base by
 * the pages that differ. Nothing is authenticated: who can write the bytes can write a program.
 */
#ifndef VM_EMBED_SNAPSHOT_FORMAT_H
#define VM_EMBED_SNAPSHOT_FORMAT_H

#include <assert.h>
#include <stdint.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little endian");

/* Like PNG's: not ASCII at its start, and damaged by whatever translates line ends. */
#define SNAPSHOT_MAGIC "\x8fTVM\r\n\x1a\n"
#define SNAPSHOT_VERSION 0xd0000002u /* a development format */
#define SNAPSHOT_PAGE 4096u
#define SNAPSHOT_FRAME_PAGES 256u
#define SNAPSHOT_FRAME_BYTES (SNAPSHOT_FRAME_PAGES * SNAPSHOT_PAGE)
#define SNAPSHOT_UNIT 65536u /* of the size of a heap */
#define SNAPSHOT_STATE_MOST (64u << 20)

enum { SNAPSHOT_WHOLE, SNAPSHOT_DELTA };
enum { SNAPSHOT_PREFIX, SNAPSHOT_XOR };

struct disk_snapshot {
	char magic[8];
	uint32_t version, kind;
	char engine[64];
	uint8_t id[16], base[16];
	uint64_t heap_bytes, state_bytes;
	uint32_t runs, frames;
	uint64_t checksum;
};
static_assert(sizeof(struct disk_snapshot) == 144, "snapshot");

struct disk_snapshot_run {
	uint32_t first, pages;
};
struct disk_snapshot_frame {
	uint32_t bytes, how;
	uint64_t checksum;
};

#endif
