/* SPDX-License-Identifier: MIT */
/*
 * format.h - what a store holds: the names of its objects, what is in them, when it is valid, and in which order it is
 * written and deleted. The structures below are used as they are: little endian, naturally aligned.
 *
 * A store is one image's replica: everything below s3://BUCKET/PREFIX/. It knows nothing of the image's own format but that
 * the file consists of blocks of 4096 bytes, changes from commit to commit, and checks itself from its header down. So a
 * record says which blocks the file had at one commit, and where in the store they are. Whoever can write to the store can
 * damage it; what he cannot do without the image's key is said by the image.
 *
 * NAMES
 *
 *	log/<~n>		record n: 1, 2, 3 ..., none left out. 16 hex digits of 2^64 - 1 - n: so a list begins with the newest
 *	data/<n>-<epoch>-<k>	frames, at most 32 MiB, for record n
 *	index/<n>-<epoch>-<k>	a level of the index, for record n
 *	hot/<n>-<epoch>-<k>	blocks that a restore reads first, as they were in record n
 *	readers/<id>		somebody reads record n, and later ones, and says so each minute (a lease)
 *
 *	<n>: 16 hex digits, of the record that is the first to refer to it, if one ever does. <epoch>: 32 hex digits of the
 *	writer's epoch id. <k>: 8 hex digits, 0, 1, 2 ... <id>: 32 hex digits, random.
 *
 * All are created with If-None-Match: * and never change, but leases.
 *
 * RECORD
 *
 *	[frames] [level 0 of the index] [at most one zero byte] [manifest]. Level 0 is at most 8 KiB, so that the object's last
 *	10 KiB have it, too: one round trip of a fresh connection. A seal's length is odd, that of others even, so that a list
 *	tells them apart. The manifest is the last 1024 bytes:
 *
 *	  0   8  magic "thawstor"
 *	  8   4  version of this format
 *	 12   4  kind: 1 a generation, 2 a seal: an epoch begins
 *	 16   8  n
 *	 24   8  number of the epoch: 1, 2, 3 ...
 *	 32  16  its id, random
 *	 48  16  nonce: random, of this record
 *	 64  16  checksum of manifest n - 1; 0 in the first
 *	 80   8  CLOCK_REALTIME when it was made
 *	 88  16  uuid of the image
 *	104  64  engine of the image; ends in a zero byte
 *	168   8  number of the newest generation in it; 0: there is none
 *	176   8  sequence of the image's commit; newer: the greater pair of sequence and generation
 *	184   8  CLOCK_REALTIME of that generation
 *	192   8  length of the image file
 *	200   4  page bytes of the image
 *	204   4  flags: 1 its program has ended
 *	208   8  length of the record, all of it
 *	216   8  offset of level 0 in it
 *	224   8  length of level 0; 0: it is empty
 *	232  16  checksum of level 0
 *	248 168  level 1, level 2, hot, each:
 *
 *		  0   8  n of the object's name; 0: there is none, all else is 0
 *		  8  16  epoch of its name
 *		 24   4  k of its name
 *		 28   4  0
 *		 32   8  its length
 *		 40  16  checksum of it, all of it
 *
 *	416   8  process id of the writer
 *	424  64  its host
 *	488  64  its program
 *	552 456  zero
 *	1008 16  checksum of everything before it
 *
 * Texts end in a zero byte, and are for messages only. Checksums are XXH3-128 with seed 0, low half first.
 *
 * INDEX
 *
 * Level 2 says of every block where it is; level 1 what has changed since level 2, level 0 what has changed since level 1. What a
 * newer level says of a block counts. A block that no level has, or that the newest says is nowhere, is free in the image: zeros
 * do. A level, or none of it if it is empty:
 *
 *	  0   8  magic "thawlevl"
 *	  8   4  how many epochs		 12   4  how many objects
 *	 16   4  how many frames		 20   4  how many runs
 *	 24   8  length of what follows, when it is not compressed
 *	 32	 of Zstandard, with its checksum: columns, one after the other, of numbers (LEB128, at most 10 bytes; differences zigzag) or bytes
 *
 *	epochs	16 bytes each
 *	objects	kind: 0 record, 1 data (1 byte) | epoch (of a record 0) | n, difference | k | length (of a record: of its frames)
 *	frames	object, difference | offset, distance from the end of the frame before in that object, else from 0 |
 *		stored length | blocks - 1, and 16 if it is of Zstandard (1 byte) | XXH3-64 of what is stored (8 bytes) |
 *		of those of Zstandard: XXH3-64 of their blocks (8 bytes)
 *	runs	first block, distance from the end of the run before | blocks | frame + 1, difference; in all 0: nowhere |
 *		where in the frame (1 byte)
 *
 *	Each of these is a column: all kinds, then all epochs and so on. Objects ascend by n, kind, k and epoch, frames by object
 *	and offset, runs by block, and none are the same or overlap. A run lies in its frame, a frame in its object.
 *
 * Frame: 1 to 16 blocks, one after the other, stored as they are or as one frame of Zstandard. So what an image stores
 * compressed or enciphered does not become longer.
 *
 * Hot object: frames, a level of which all frames are in the object number 0 that is a hot one (kind 2), and 16 bytes: magic
 * "thaw-hot", and the level's length. A block in it is what the store's index has if that has it in an object whose n is not
 * above the hot object's own; else it is outdated. A store whose hot object is missing is whole.
 *
 * Lease: 128 bytes, struct disk_lease. It holds if it was stored less than 5 minutes ago.
 *
 * WRITING, DELETING: epoch.h, replicate.h and garbage.c have the rules and what follows from them.
 */
#ifndef VM_STORE_FORMAT_H
#define VM_STORE_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the store's format is little endian");

#define STORE_MAGIC 0x726f747377616874u	      /* "thawstor" */
#define STORE_LEVEL_MAGIC 0x6c76656c77616874u /* "thawlevl" */
#define STORE_HOT_MAGIC 0x746f682d77616874u   /* "thaw-hot" */
#define STORE_LEASE_MAGIC 0x6461657277616874u /* "thawread" */
#define STORE_VERSION 0xd0000001u

#define STORE_BLOCK 4096u
#define STORE_FRAME_BLOCKS 16u
#define STORE_FRAME_BYTES (STORE_FRAME_BLOCKS * STORE_BLOCK)
#define STORE_LEVEL0_BYTES (8u << 10)  /* the longest level 0 that is written */
#define STORE_TAIL_BYTES (10u << 10)   /* what is asked for at first of a record */
#define STORE_DATA_BYTES (32u << 20)   /* the longest data object */
#define STORE_HOT_BYTES (16u << 20)    /* the longest hot object */
#define STORE_RECORD_FRAMES (4u << 20) /* so many bytes of frames go into the record itself */
#define STORE_FILE_BLOCKS_MOST (1ull << 40)
#define STORE_LEASE_SECONDS 300u

#define STORE_EPOCH_BYTES 16u
#define STORE_ID_TEXT (2 * STORE_EPOCH_BYTES + 1)
#define STORE_NAME_BYTES 96u /* room for the longest name, below the prefix */

enum store_kind { STORE_GENERATION = 1, STORE_SEAL = 2 };
enum store_flag { STORE_ENDED = 1 };

struct disk_reference {
	uint64_t record;
	uint8_t epoch[STORE_EPOCH_BYTES];
	uint32_t part;
	uint32_t zero;
	uint64_t bytes;
	uint64_t checksum[2];
};
static_assert(sizeof(struct disk_reference) == 56, "reference");

struct disk_manifest {
	uint64_t magic;
	uint32_t version;
	uint32_t kind;
	uint64_t number;
	uint64_t epoch_number;
	uint8_t epoch[STORE_EPOCH_BYTES];
	uint8_t nonce[16];
	uint64_t before[2];
	uint64_t time_ns;
	uint8_t uuid[16];
	char engine[64];
	uint64_t generation;
	uint64_t sequence;
	uint64_t generation_time_ns;
	uint64_t file_bytes;
	uint32_t page_bytes;
	uint32_t flags;
	uint64_t bytes;
	uint64_t level_offset, level_bytes;
	uint64_t level_checksum[2];
	struct disk_reference level1, level2, hot;
	uint64_t pid;
	char host[64];
	char program[64];
	uint8_t zero[456];
	uint64_t checksum[2];
};
static_assert(sizeof(struct disk_manifest) == 1024, "manifest");
static_assert(offsetof(struct disk_manifest, engine) == 104, "manifest");
static_assert(offsetof(struct disk_manifest, level1) == 248, "manifest");
static_assert(offsetof(struct disk_manifest, pid) == 416, "manifest");
static_assert(offsetof(struct disk_manifest, checksum) == 1008, "manifest");

struct disk_level {
	uint64_t magic;
	uint32_t epochs, objects, frames, runs;
	uint64_t bytes;
};
static_assert(sizeof(struct disk_level) == 32, "level");

struct disk_hot_end {
	uint64_t magic;
	uint64_t level_bytes;
};
static_assert(sizeof(struct disk_hot_end) == 16, "hot end");

struct disk_lease {
	uint64_t magic;
	uint32_t version;
	uint32_t zero;
	uint64_t record; /* this one and all newer ones are needed */
	uint64_t pid;
	char host[64];
	uint8_t zeros[16];
	uint64_t checksum[2];
};
static_assert(sizeof(struct disk_lease) == 128, "lease");

#endif
