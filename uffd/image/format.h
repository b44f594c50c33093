/* SPDX-License-Identifier: MIT */
/*
 * format.h - the format of an image file: what lies where, when it is valid, in which order it is
 * written, and how it is opened. The structures below are used as they are, little endian and
 * naturally aligned; a big-endian host is refused at compile time. Included by header.c (slots),
 * record.c, index.c and walk.c (nodes) only.
 *
 * THE FILE
 *
 * The unit of allocation is a block of 4096 bytes; every offset is a byte offset; every integer is
 * little endian; checksums are explained below (CHECKSUMS). A page (4096 to 65536 bytes,
 * a power of two: the page size of the kernel on which the image was created, see page.h) takes whole
 * consecutive blocks, wherever they are free, or a part of some, if it is compressed.
 *
 *	block 0		header slot 0, perhaps a note, perhaps key slots
 *	block 1		header slot 1, perhaps a note, perhaps key slots
 *	the rest	pages, nodes, state blobs and commit records, wherever there was room
 *
 *	slot 0 --.                       .--> generation 3: root --> node --> leaf --> pages
 *	          +--> commit record ---+                    `-----------.-> leaf --> pages
 *	slot 1 ..'   (the slot with the  `--> generation 4: root --> node'--> leaf --> pages
 *	              higher sequence)                 `--> state blob
 *
 * Header slot: the first 512 bytes (one sector) of its block. A note may follow it, and key slots; the rest of
 * the block is zero and means nothing.
 *
 *	  0   8  magic 8f 54 68 61 77 0d 0a 1a
 *	  8   4  format version; d0000000 and above are development formats that no release reads
 *	 12   4  page bytes
 *	 16  16  uuid of the image, random
 *	 32  64  engine: the program that wrote the image; ends in a zero byte
 *	 96   8  sequence: number of the commit that wrote it; 0 in both slots of a new image
 *	104   8  offset of the commit record; 0 while the sequence is 0
 *	112   8  length of the commit record
 *	120  16  checksum of the commit record
 *	136  16  salt of the image's key
 *	152  16  check value of the key; salt and check value are zero in an image without one
 *	168   4  1: what is below it is enciphered (ENCIPHERED IMAGES), else 0
 *	172 324  zero
 *	496  16  checksum of bytes 0 to 495
 *
 *	A slot is valid if magic, version and checksum are right and its sequence is at most 2^55 and
 *	either 0 or of the slot's parity. Every future version keeps magic, version and checksum in these
 *	places, so that a newer image can be distinguished from a damaged one.
 *
 * Note of failures: bytes 512 to 1023 of a header block. It says how many times in a row the program
 * that continued from a generation has failed without making a newer one.
 *
 *	  0   8  magic "thawfail"
 *	  8   8  number of that generation
 *	 16   4  how many times, 1 to 2^30
 *	 20   4  zero
 *	 24   8  what failed, a number that the program defines
 *	 32 464  zero
 *	496  16  checksum of bytes 0 to 495
 *
 *	A note whose checksum is wrong counts as absent, and is not damage. It is written into the block
 *	of the slot that is not the newest valid one: a disk that tears this block tears no slot that is
 *	needed. The next commit overwrites the whole block, slot and note, and thereby removes a note that
 *	the new generation has disproved. A commit that made no generation, only names, writes the note
 *	again afterwards, beside the other slot.
 *
 * Key slots: bytes 1024 to 2367 of a header block, only in an enciphered image. The image's own key, 32 random bytes,
 * enciphered with up to 8 others, each of which opens the image.
 *
 *	  0   8  magic "thawkeys"
 *	  8   8  counts how often they were changed
 *	 16  32  salt and check value of the image's key, as in the slot
 *	 48 1280 8 of 160 bytes:
 *
 *		  0   4  kind: 0 free, 1 the user's key, 2 a key in a file, 3 a passphrase
 *		  4   4  zero
 *		  8   8  when it was added
 *		 16  16  salt of the key that opens it
 *		 32  16  of a passphrase: passes and bytes of memory of Argon2id, at most 16 and 1 GiB; else 0
 *			 (and no passphrase is tried on more than 16 GiB of memory times passes in all)
 *		 48  24  nonce, random
 *		 72  48  the image's key, enciphered, and a tag (XChaCha20-Poly1305); what is authenticated with it is
 *			 the salt of the image's key and bytes 0 to 47, and its name
 *		120  40  name, padded with zeros
 *
 *	then 16  checksum of everything before it
 *
 *	Every commit writes them into its block. Where they are damaged, those of the other block serve. They are changed
 *	by two commits in a row, after which no block has the old ones.
 *
 * Commit record: contiguous, 8-byte aligned. Each commit writes a whole new one.
 *
 *	  0   8  magic "thwrecrd"
 *	  8   8  sequence, as in the slot
 *	 16   4  number of generations, 1 to 4096
 *	 20   4  length of one of them, 160
 *	 24   4  number of names, at most 1000
 *	 28   4  length of one of them, 72
 *	 32   4  page bytes, as in the slot
 *	 36   4  zero
 *	 40   8  working set: the generation whose restore it was recorded after
 *	 48   8  offset of the working set; 0: there is none
 *	 56   8  length of the working set, at most 512 KiB
 *	 64  16  checksum of the working set
 *	 80  16  uuid, as in the slot
 *	 96  64  engine, as in the slot
 *	160  32  salt and check value, as in the slot
 *	192   8  offset of the log, whole blocks; 0: there is none
 *	200   8  length of the log, whole blocks, at most 64 MiB
 *	208      the retained generations, oldest first, numbers ascending, none above the sequence:
 *
 *		  0  96  of struct thaw_generation: number, parent, ancestor, portable, time_ns,
 *			 heap_bytes, pages_written, pages_stored, bytes_written, pause_ns,
 *			 durable_ns (8 each), reason, restores (4 each)
 *		 96   8  offset of the root node; 0: an empty heap
 *		104  16  checksum of the root node
 *		120   4  levels of the tree, 0 to 10; 0: an empty heap
 *		124   4  kind: 0 portable, 1 bound (enum thaw_kind)
 *		128   8  offset of the state blob; 0: it is empty
 *		136   8  length of the state blob, at most 320 MiB
 *		144  16  checksum of the state blob
 *
 *	then	 the names, all different, in any order: the number of a listed generation (8), and
 *		 the name, padded with zeros (64)
 *	then 16  checksum of everything before it, so that a record can be found without a slot
 *
 *	The number of a generation is the sequence of the commit that wrote it, or that of its entry in the
 *	log. Numbers ascend; commits that failed, or that made only names, leave gaps, and so does the log.
 *
 *	Its parent is the generation it was made from (0: none, a fresh start), listed or not; the parent's
 *	parent and so on are its line of descent. Its ancestor is the nearest listed generation in that
 *	line, or 0; each record states it anew. `portable` is the newest portable generation in that line,
 *	itself included: its own number if and only if it is portable, otherwise the same as its parent's
 *	`portable`, which is not above the parent's number; 0: there is none. If it is listed, it is portable.
 *
 * Node: 8-byte aligned, never crosses the end of the run of blocks it was put in; never changed
 * once written.
 *
 *	  0   4  magic "Tnod"
 *	  4   1  level; 0: leaf
 *	  5   3  zero
 *	  8   8  first page below it; a multiple of 16^(level + 1)
 *	 16   8  generation that wrote it
 *	 24      16 children of 24 bytes: offset 8 (0: nothing below), checksum 16; or
 *		 in a leaf 16 entries of 32 bytes:
 *
 *		  0   6  offset of the page in units of 16 bytes
 *		  6   2  stored length in bytes, less than a page; 0: a whole page
 *		  8   7  birth: generation that wrote the page
 *		 15   1  encoding: 0 absent (all other fields zero), 1 zero page (no offset), 2 raw, 3 LZ4 (one
 *			 block), 4 to 22 Zstandard (one frame, of level 1 to 19)
 *		 16  16  checksum of the decoded page
 *
 *	A raw page is a whole one, and begins at a block. What is encoded otherwise is packed: it begins at any 16 bytes,
 *	reaches across blocks, and is padded with zeros to 16 bytes, so that several pages share a block, also with nodes
 *	and blobs. Each is decoded by itself (extent_codec.c); a page that is not an eighth shorter so is stored raw.
 *
 * Log: generations that are durable and not listed yet. Entries, each at a block, one behind the other from the log's
 * start on; whatever follows the last one means nothing.
 *
 *	  0   8  magic "thaw-log"
 *	  8   8  number of the generation: above the one before by an even number
 *	 16   8  length of the entry, whole words
 *	 24   4  number of pages
 *	 28   4  position: how many entries are before it
 *	 32  16  seed: checksum of the commit record, as in the slot that names it
 *	 48  16  checksum of the entry before; 0 in the first
 *	 64  16  uuid, as in the slot
 *	 80 160  the generation, as in a record; no root, and 256 as offset of its state
 *	240   4  the state is here: 2 as it is, or 3 what changed of the state of the generation before
 *	244   4  its length here
 *	248   8  zero
 *	256      the state, up to whole words; then the pages, each:
 *
 *		  0   8  page
 *		  8   4  1 zeros, 2 the page as it is, 3 what changed of its contents before, or 4 absent
 *		 12   4  length here
 *		 16  16  checksum of the page; of zeros and of one that is absent 0
 *		 32      the bytes, up to whole words
 *
 *	then 16  checksum of everything before it
 *
 *	What changed is a list of runs: first word (4), how many words (4), the words (8 each).
 *	An entry is at most 256 KiB long, and in an area of more than 4 MiB at most a sixteenth of that.
 *	An entry counts if its checksum, seed and uuid are right, and its position and the checksum of the entry before
 *	are those that follow. So none of an earlier record, of another image or of a copy counts.
 *
 * Working set: 8 bytes for each cluster (64 KiB of the heap), in the order of their first access after a restore:
 * in the lower 48 bits the number of the page accessed first, in the upper 16 which sixteenths of the cluster were
 * needed, the first in the lowest bit; none set: all of them. Later records refer to the same set until a commit
 * stores another.
 *
 * CHECKSUMS
 *
 * A checksum has 128 bits and is stored low half first. Those of slots and notes are XXH3-128 with seed 0, and
 * so are all others in an image without a key. In an image with one they are MACs (checksum.c), of another key for
 * each kind: page, node, state blob, working set, record as the slot has it, record as it ends. So everything below a slot is
 * what somebody wrote who has the key: pages belong to their nodes, nodes to a root, roots and states to a record, and that
 * to this image, since it repeats uuid, salt and sequence. The slot itself is not authenticated: it names one record
 * or another that was written for this image, or none. A slot of another mark than the newest one's counts as damaged.
 * Whether an image may be without a key is for whoever opens it to say (THAW_KEYED). A clone keeps the mark.
 *
 * ENCIPHERED IMAGES
 *
 * Everything below a slot is a MAC's argument first, as above, and then enciphered with XChaCha20 under another key for each
 * kind; nothing becomes longer by it but records and entries of the log. The nonce is the MAC, which whoever refers to the
 * bytes has, and 8 bytes that he knows as well (cipher.c): of a page SipHash-2-4 of its number, birth, encoding and stored
 * length (8 bytes each), of a state the number of its generation, of a working set that generation it is of, else 0.
 * To a record and to an entry of the log nothing below the slot refers, so in front of each there is, not enciphered:
 *
 *	  0   8  magic "thwrseal" or "thawlogs"
 *	  8   8  length of what follows these 32 bytes, whole words
 *	 16  16  its MAC: of a record the one that the slot has, of an entry the one it ends with
 *
 * and the slot's length is with them. What anybody can read: slots, notes, lengths, and which blocks change when.
 *
 * A reference (slot to record, record to root, state and working set, node to child, entry to page) is
 * valid if the bytes it names lie in the file and have the checksum stored with the reference, and if
 * their own header fields (magic, level, first page, sequence) match it. A reader checks this each time it
 * reads, so everything below a valid slot is what was written.
 *
 *
 * WRITING A GENERATION (commit.c)
 *
 *	1. pages, nodes (children first), state blob, record: into free blocks, mostly sequential
 *	2. fdatasync		barrier: all that the slot will name is on the disk
 *	3. the header slot that is not the newest valid one
 *	4. fdatasync		the commit point: only now is the generation durable
 *
 * Before the first commit after an open, the valid slot is written once more, unchanged, and synced,
 * and so is the directory: the process that wrote them may have been killed before they reached the
 * disk, and a failed sync leaves them in the page cache alone (Rebello et al., USENIX ATC'20).
 *
 * A block is free if neither slot reaches it. So the generation that the other slot names stays whole
 * until the next commit has overwritten that slot, and a damaged newest slot, record or root costs one
 * generation, whatever is retained. What commit N drops (generations beyond the retained, the record
 * before) is reused after commit N + 1.
 *
 * Retained are the newest generations, as many as the writer was told to keep, those that its rules
 * of age select, and those that have a name (retention.c). The portable generation that the newest one
 * names is retained too: another build can continue from it, however old it is.
 *
 * A small generation that comes soon after another one is an entry of the log (log.c): one write of blocks that were
 * initialised when the log was made, and one fdatasync, which is the commit point. It changes what the
 * newest record lists: nothing in the tree. A later commit holds all of it and lists the newest one of the log, or a
 * newer one; its record has another checksum, so the entries are void from there on, and the next
 * ones are written over them. Those between are listed nowhere. If the write or the sync fails, the entry may or may not
 * be found; its number is not used again, and the commit after it is no entry. The first commit after an
 * open is none either.
 *
 * If 1 or 2 fails, nothing names the new blocks: they are free again and the next commit writes
 * everything anew (after a failed fdatasync the kernel may consider pages clean that never reached
 * the disk; nothing relies on them). If 3 or 4 fails, the slot may or may not be found on the disk
 * later. The generation does not count as durable, but if it is found, it must be whole: its
 * blocks stay taken until a later commit has overwritten that same slot. That commit takes a number
 * two higher, so that a number never stands for two generations.
 *
 * Free space is not stored. The first commit after an open computes it by walking the trees. Blocks
 * that stay free are punched out of the file once a commit is durable (commit.c). When the file is
 * much longer than its contents, each commit moves some pages from its end to its front, and when packed pages have
 * left many blocks behind of which little is in use, some of those (relocate.c).
 *
 *
 * OLDER VERSIONS
 *
 *	d0000007	has no packed pages; all else is the same
 *
 * They are read, and written on: the next commit writes a slot of the newest version, after which only builds that know it
 * open the image. thaw compact brings one up as a whole.
 *
 *
 * OPENING (image.c)
 *
 * Slots with their notes, the newest valid slot's record, the root of the newest generation: a fixed
 * number of small reads. If one of these is damaged, the generation before is opened instead (the next
 * in the record, then the other slot's record), and the caller is told. The next commit overwrites the
 * damaged slot, never the good one. A damaged slot beside one that was never committed to is an error,
 * not an empty heap.
 *
 * Who opens it for writing goes on to the newest generation of the log, of which so many bytes are read at most as it
 * has (log_replay.c). An entry that is torn ends it; one that whole ones follow is damage: then the
 * generation before it is opened, and the caller is told. Readers see what is listed.
 *
 * One writer: before it reads anything it takes a write lock of the open file (F_OFD_SETLK) on byte
 * 2^62 - 1, and flock(); or one of them, if only readers prevent the other (lock.c). Both are released
 * when the process dies, and not when another descriptor of the file is closed; /proc/locks names the
 * holder of the second. Readers do not lock: see store_read(), store_retains(), and pins.c, which
 * keeps the writer from reusing the blocks they read.
 *
 * A new image is made without a name, synced, and linked to its name without replacing anything, so
 * there is never half of one (newfile.c). An empty file (some file systems leave one after a crash;
 * mktemp makes them) is replaced.
 */
#ifndef UFFD_FORMAT_H
#define UFFD_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "keys.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the image format is little endian");

/* Like PNG's: not ASCII at its start, and damaged by whatever translates line ends. */
#define FORMAT_MAGIC "\x8fThaw\r\n\x1a"
/* A development format: no release uses a number with the high byte set. */
#define FORMAT_VERSION 0xd0000008u
#define FORMAT_VERSION_LEAST 0xd0000007u /* the oldest that is read, and written on as the newest */

#define FORMAT_RECORD_MAGIC 0x6472636572776874u	       /* "thwrecrd" */
#define FORMAT_NOTE_MAGIC 0x6c69616677616874u	       /* "thawfail" */
#define FORMAT_NODE_MAGIC 0x646f6e54u		       /* "Tnod" */
#define FORMAT_LOG_MAGIC 0x676f6c2d77616874u	       /* "thaw-log" */
#define FORMAT_SEALED_RECORD_MAGIC 0x6c61657372776874u /* "thwrseal" */
#define FORMAT_SEALED_LOG_MAGIC 0x73676f6c77616874u    /* "thawlogs" */
#define FORMAT_KEYS_MAGIC 0x7379656b77616874u	       /* "thawkeys" */

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
	uint8_t key_salt[16], key_check[16];
	uint32_t enciphered;
	uint8_t zero[324];
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

#define FORMAT_KEY_SLOTS 8u

/* A slot is used as it is, also in memory (keys.h). */
static_assert(sizeof(struct key_slot) == 160, "key slot");
static_assert(offsetof(struct key_slot, passes) == 32, "key slot");
static_assert(offsetof(struct key_slot, wrapped) == 72, "key slot");
static_assert(KEY_SLOTS == FORMAT_KEY_SLOTS, "key slots");

struct disk_keys {
	uint64_t magic;
	uint64_t changes;
	uint8_t key_salt[16], key_check[16];
	struct key_slot slots[FORMAT_KEY_SLOTS];
	uint64_t checksum[2];
};
static_assert(sizeof(struct disk_keys) == 1344, "keys");

/* What a header block starts with. */
struct disk_header {
	struct disk_slot slot;
	struct disk_note note;
	struct disk_keys keys;
};
static_assert(offsetof(struct disk_header, keys) == 1024, "keys");

/* In front of what is enciphered and nothing refers to. */
struct disk_sealed {
	uint64_t magic;
	uint64_t bytes; /* of what follows: whole words */
	uint64_t checksum[2];
};
static_assert(sizeof(struct disk_sealed) == 32, "sealed");

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

/* An entry of the log, at a block: then the state, the pages, and a checksum of it all. */
struct disk_log_entry {
	uint64_t magic;
	uint64_t number;
	uint64_t bytes; /* with the checksum: whole words */
	uint32_t pages;
	uint32_t position;
	uint64_t seed[2];
	uint64_t before[2];
	uint8_t uuid[16];
	struct disk_generation generation;
	uint32_t state_encoding;
	uint32_t state_bytes; /* as it is here */
	uint64_t zero;
};
static_assert(sizeof(struct disk_log_entry) == 256, "log entry");

struct disk_log_page { /* then its bytes, up to whole words */
	uint64_t page;
	uint32_t encoding;
	uint32_t bytes;
	uint64_t checksum[2];
};
static_assert(sizeof(struct disk_log_page) == 32, "log page");

enum disk_log_encoding {
	FORMAT_LOG_ZERO = 1,
	FORMAT_LOG_WHOLE = 2,
	FORMAT_LOG_PATCH = 3,
	FORMAT_LOG_ABSENT = 4,
};

struct disk_log_run { /* of a patch: then so many words */
	uint32_t at;  /* words */
	uint32_t count;
};
static_assert(sizeof(struct disk_log_run) == 8, "log run");

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
	uint8_t key_salt[16], key_check[16];
	uint64_t log_offset, log_bytes;
	struct disk_generation generation[];
};
static_assert(sizeof(struct disk_record) == 208, "record");

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
