/* SPDX-License-Identifier: MIT */
/*
 * record.h - records of a store (format.h) and what they refer to: finding the newest, reading a manifest and the levels of its
 * index. Whoever calls waits for the store: any thread, but those of the store's done()s.
 */
#ifndef VM_STORE_RECORD_H
#define VM_STORE_RECORD_H

#include "store/index.h"
#include "store/s3.h"

struct store_reference { /* record 0: to nothing */
	struct store_object object;
	uint64_t checksum[2];
};

struct store_record {	 /* a manifest, checked */
	uint64_t number; /* 0: there is no record, the store is empty */
	enum store_kind kind;
	uint64_t epoch_number;
	uint8_t epoch[STORE_EPOCH_BYTES];
	uint8_t nonce[16];
	uint64_t before[2];   /* checksum of the manifest before */
	uint64_t checksum[2]; /* of this one */
	uint64_t time_ns;
	uint8_t uuid[16];
	char engine[64];
	uint64_t generation, sequence, generation_time_ns;
	uint64_t file_bytes;
	uint32_t page_bytes;
	uint32_t flags; /* enum store_flag */
	uint64_t bytes; /* of the record object */
	uint64_t level_offset, level_bytes, level_checksum[2];
	struct store_reference level1, level2, hot;
	uint64_t pid;
	char host[64], program[64]; /* as they can be printed */
};

/* XXH3-128, as format.h has it: low half first. */
void store_checksum(const void *bytes, size_t count, uint64_t checksum[2]);

/* Of a record with this image, is it newer than that generation? A pair is newer if its sequence is, or its generation. */
bool record_newer(const struct store_record *record, uint64_t sequence, uint64_t generation);

/* Fills disk->checksum, and record->checksum with it. */
void manifest_encode(struct store_record *record, struct disk_manifest *disk);
/* THAW_EDAMAGED, THAW_EFORMAT: of another version; THAW_EFOREIGN: no manifest at all. */
int manifest_decode(const struct disk_manifest *disk, struct store_record *record,
		    struct thaw_error *error);
/* "PROGRAM on HOST (pid N), epoch E, since TIME": who wrote it. Returns `text`. */
const char *record_writer(const struct store_record *record, char *text, size_t room);

/*
 * The newest record, by one LIST and one GET; number 0: the store has none. `tail`: the last bytes of it, of malloc's, at most
 * STORE_TAIL_BYTES, for record_index(); the caller frees it. Requests end with codes of s3.h, what is read with those above.
 */
int record_newest(struct s3 *s3, uint64_t deadline_ns, struct store_record *record, void **tail,
		  struct thaw_error *error);
/* The one of that number. -ENOENT: there is none. */
int record_get(struct s3 *s3, uint64_t number, uint64_t deadline_ns, struct store_record *record,
	       void **tail, struct thaw_error *error);
/*
 * The levels that it refers to: one GET for each that is not in the tail, at the same time. `tail` may be NULL. The caller
 * frees the index (index_free), also after a failure.
 */
int record_index(struct s3 *s3, const struct store_record *record, const void *tail,
		 uint64_t deadline_ns, struct store_index *index, struct thaw_error *error);
/*
 * Each record that there is, the newest first, at most so many (0: all). What visit() returns, but 0, ends it. One that is deleted
 * meanwhile is left out.
 */
int record_each(struct s3 *s3, size_t most, uint64_t deadline_ns,
		int (*visit)(void *arg, const struct store_record *record), void *arg,
		struct thaw_error *error);
/* Has the hot object, for record `hot_record`, this block as `index`, all of it as one level, has it? */
bool hot_current(const struct store_level *index, uint64_t hot_record, uint64_t block);

/* A lease of a reader, all of readers/<id>, and what is read of one: false, it is none. */
void lease_encode(struct disk_lease *lease, uint64_t record);
bool lease_decode(const void *bytes, size_t count, uint64_t *record);

#endif
