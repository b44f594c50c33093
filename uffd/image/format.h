/* SPDX-License-Identifier: MIT */
/*
 * format.h - the image as it lies on disk, byte by byte. What the fields mean, when they are valid
 * and in which order they are written is told at the top of image.c. Only header.c (slots),
 * record.c, and index.c, walk.c (nodes) include it.
 *
 * Everything is little endian and naturally aligned; the structures are used as they are, so a
 * big-endian host is refused at compile time.
 */
#ifndef UFFD_FORMAT_H
#define UFFD_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the image format is little endian");

/* Like PNG's: not ASCII at its start, and damaged by whatever translates line ends. */
#define FORMAT_MAGIC "\x8fThaw\r\n\x1a"
/* A development format: no release uses a number with the high byte set. */
#define FORMAT_VERSION 0xd0000003u

#define FORMAT_RECORD_MAGIC 0x6472636572776874u /* "thwrecrd" */
#define FORMAT_NOTE_MAGIC 0x6c69616677616874u	/* "thawfail" */
#define FORMAT_NODE_MAGIC 0x646f6e54u		/* "Tnod" */

#define FORMAT_SLOT_BYTES 512u /* one sector: torn by no disk that writes sectors whole */
#define FORMAT_FANOUT 16u
#define FORMAT_UNIT 16u /* extent offsets are stored in this many bytes */

struct disk_slot {
	char magic[8];
	uint32_t format;
	uint32_t page_bytes;
	uint8_t uuid[16];
	char engine[64];
	uint64_t sequence;
	uint64_t record_offset, record_bytes;
	uint64_t record_checksum[2];
	uint8_t zero[360];
	uint64_t checksum[2];
};
static_assert(sizeof(struct disk_slot) == FORMAT_SLOT_BYTES, "slot");
static_assert(offsetof(struct disk_slot, sequence) == 96, "slot");
static_assert(offsetof(struct disk_slot, checksum) == 496, "slot");

struct disk_note {
	uint64_t magic;
	uint64_t generation;
	uint32_t failures;
	uint32_t unused;
	uint64_t what;
	uint8_t zero[464];
	uint64_t checksum[2];
};
static_assert(sizeof(struct disk_note) == FORMAT_SLOT_BYTES, "note");
static_assert(offsetof(struct disk_note, checksum) == 496, "note");

/* What a header block starts with. */
struct disk_header {
	struct disk_slot slot;
	struct disk_note note;
};

struct disk_generation {
	uint64_t number, parent, ancestor, portable;
	uint64_t time_ns, heap_bytes;
	uint64_t pages_written, pages_stored, bytes_written;
	uint64_t pause_ns, durable_ns;
	uint32_t reason, restores;
	uint64_t root_offset;
	uint64_t root_checksum[2];
	uint32_t root_levels;
	uint32_t kind;
	uint64_t state_offset, state_bytes;
	uint64_t state_checksum[2];
};
static_assert(sizeof(struct disk_generation) == 160, "generation");

struct disk_name {
	uint64_t generation;
	char name[64];
};
static_assert(sizeof(struct disk_name) == 72, "name");

struct disk_record { /* then the generations, the names, a checksum of it all */
	uint64_t magic;
	uint64_t sequence;
	uint32_t generations;
	uint32_t generation_bytes; /* sizeof(struct disk_generation) */
	uint32_t names;
	uint32_t name_bytes; /* sizeof(struct disk_name) */
	uint32_t page_bytes;
	uint32_t zero;
	uint64_t working_set_generation;
	uint64_t working_set_offset, working_set_bytes;
	uint64_t working_set_checksum[2];
	uint8_t uuid[16];
	char engine[64];
	struct disk_generation generation[];
};
static_assert(sizeof(struct disk_record) == 160, "record");

struct disk_node {
	uint32_t magic;
	uint8_t level; /* 0: leaf */
	uint8_t zero[3];
	uint64_t first_page;
	uint64_t generation; /* that wrote it */
};
static_assert(sizeof(struct disk_node) == 24, "node");

struct disk_entry {	      /* of a leaf: one page */
	uint64_t offset : 48; /* in FORMAT_UNIT bytes */
	uint64_t bytes : 16;  /* stored length; 0: a whole page */
	uint64_t birth : 56;  /* the generation that wrote the page */
	uint64_t encoding : 8;
	uint64_t checksum[2];
};
static_assert(sizeof(struct disk_entry) == 32, "entry");

struct disk_child { /* of an inner node; all zero: nothing stored below */
	uint64_t offset;
	uint64_t checksum[2];
};
static_assert(sizeof(struct disk_child) == 24, "child");

struct disk_leaf {
	struct disk_node node;
	struct disk_entry entries[FORMAT_FANOUT];
};
static_assert(sizeof(struct disk_leaf) == 536, "leaf");

struct disk_inner {
	struct disk_node node;
	struct disk_child children[FORMAT_FANOUT];
};
static_assert(sizeof(struct disk_inner) == 408, "inner");

union disk_any {
	struct disk_node node;
	struct disk_leaf leaf;
	struct disk_inner inner;
};

#endif
