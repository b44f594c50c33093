// SPDX-License-Identifier: MIT
/*
 * record.c - finds a store's newest record, and reads what records refer to. What is read is checked by the checksums that the
 * manifest has.
 */
#include "store/record.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/failure.h"
#include "store/group.h"

#define IN_LEVELS (1u << STORE_IN_RECORD | 1u << STORE_IN_DATA)

static bool checksum_is(const void *bytes, size_t count, const uint64_t checksum[2])
{
	uint64_t found[2];

	store_checksum(bytes, count, found);
	return !memcmp(found, checksum, sizeof(found));
}

/* ---- Records */

static size_t tail_bytes(const struct store_record *record)
{
	return record->bytes < STORE_TAIL_BYTES ? record->bytes : STORE_TAIL_BYTES;
}

/* What was got of the end of a record: its manifest. */
static int tail_decode(const struct s3_request *got, uint64_t number, struct store_record *record,
		       struct thaw_error *error)
{
	struct disk_manifest disk;
	int code;

	if (got->got < sizeof(disk))
		return failure(error, THAW_EFOREIGN, "%s is no record of an image's store",
			       got->key);
	memcpy(&disk, (const char *)got->into + got->got - sizeof(disk), sizeof(disk));
	code = manifest_decode(&disk, record, error);
	if (!code && (record->number != number || record->bytes != got->object_bytes)) {
		*record = (struct store_record){0};
		code = failure(error, THAW_EDAMAGED, "%s is another record, or not all of it",
			       got->key);
	}
	return code;
}

int record_get(struct s3 *s3, uint64_t number, uint64_t deadline_ns, struct store_record *record,
	       void **tail, struct thaw_error *error)
{
	char name[STORE_NAME_BYTES];
	struct s3_request request = {.verb = S3_GET,
				     .flags = S3_LAST | S3_AT_MOST | S3_URGENT,
				     .key = name,
				     .deadline_ns = deadline_ns,
				     .length = STORE_TAIL_BYTES};
	int code;

	*record = (struct store_record){0};
	*tail = request.into = malloc(STORE_TAIL_BYTES);
	if (!request.into)
		return failure(error, -ENOMEM, "no memory for a record of the store");
	store_record_name(number, name);
	code = s3_do(s3, &request, error);
	if (!code)
		code = tail_decode(&request, number, record, error);
	s3_release(&request);
	if (code) {
		free(*tail);
		*tail = NULL;
	}
	return code;
}

/* The number of the newest one; 0: there is none. */
static int newest_number(struct s3 *s3, uint64_t deadline_ns, uint64_t *number,
			 struct thaw_error *error)
{
	struct s3_request request = {.verb = S3_LIST,
				     .flags = S3_URGENT,
				     .key = "log/",
				     .deadline_ns = deadline_ns,
				     .at_most = 1};
	struct store_object object;
	int code = s3_do(s3, &request, error);

	*number = 0;
	if (!code && request.object_count) {
		if (store_object_parse(request.objects[0].key, &object))
			*number = object.record;
		else
			code = failure(error, THAW_EFOREIGN, "%s is no record of an image's store",
				       request.objects[0].key);
	}
	s3_release(&request);
	return code;
}

int record_newest(struct s3 *s3, uint64_t deadline_ns, struct store_record *record, void **tail,
		  struct thaw_error *error)
{
	uint64_t number, before = 0;
	int code;

	/* One that is deleted between the two requests is not the newest any more. */
	for (;;) {
		*record = (struct store_record){0};
		*tail = NULL;
		code = newest_number(s3, deadline_ns, &number, error);
		if (code || !number)
			return code;
		code = record_get(s3, number, deadline_ns, record, tail, error);
		/* A store that has records is not empty, whatever it says of them. */
		if (code == -ENOENT && number == before)
			return failure(error, THAW_EDAMAGED,
				       "the store lists a record that it has not");
		if (code != -ENOENT)
			return code;
		before = number;
	}
}

struct visit {
	int (*visit)(void *arg, const struct store_record *record);
	void *arg;
};

/* The manifests of listed records, some at once; in their order. */
#define AT_ONCE 16u

static int visit_some(struct s3 *s3, const struct s3_object *objects, unsigned count,
		      uint64_t deadline_ns, const struct visit *visit, struct thaw_error *error)
{
	struct s3_request requests[AT_ONCE];
	struct disk_manifest into[AT_ONCE];
	struct group group;
	int code = 0;

	group_open(&group);
	for (unsigned i = 0; i < count; i++) {
		requests[i] = (struct s3_request){.verb = S3_GET,
						  .flags = S3_LAST | S3_AT_MOST,
						  .key = objects[i].key,
						  .deadline_ns = deadline_ns,
						  .length = sizeof(into[i]),
						  .into = &into[i]};
		group_start(&group, s3, &requests[i]);
	}
	group_close(&group);
	for (unsigned i = 0; i < count; i++) {
		struct store_object object;
		struct store_record record;

		if (!code && requests[i].code && requests[i].code != -ENOENT) {
			code = requests[i].code;
			if (error)
				*error = requests[i].error;
		}
		if (!code && !requests[i].code) {
			if (!store_object_parse(objects[i].key, &object))
				code = failure(error, THAW_EFOREIGN,
					       "%s is no record of an image's store",
					       objects[i].key);
			else
				code = tail_decode(&requests[i], object.record, &record, error);
			if (!code)
				code = visit->visit(visit->arg, &record);
		}
		s3_release(&requests[i]);
	}
	return code;
}

int record_each(struct s3 *s3, size_t most, uint64_t deadline_ns,
		int (*visit)(void *arg, const struct store_record *record), void *arg,
		struct thaw_error *error)
{
	struct s3_request list = {
		.verb = S3_LIST, .key = "log/", .deadline_ns = deadline_ns, .at_most = most};
	const struct visit visitor = {visit, arg};
	int code = s3_do(s3, &list, error);

	for (size_t i = 0; i < list.object_count && !code; i += AT_ONCE)
		code = visit_some(s3, list.objects + i,
				  list.object_count - i < AT_ONCE
					  ? (unsigned)(list.object_count - i)
					  : AT_ONCE,
				  deadline_ns, &visitor, error);
	s3_release(&list);
	return code;
}

/*
 * ---- Levels: the parts of an index, got at the same time, and each in pieces: a fresh connection sends little in its first
 * round trips
 */

#define PIECES 28u
#define PIECE_BYTES (13u << 10)

struct part {
	struct s3_request request[PIECES];
	unsigned pieces;
	char name[STORE_NAME_BYTES];
	void *bytes;	   /* of malloc's, or */
	const void *there; /* in the tail */
	size_t count;	   /* 0: there is no such level */
	const uint64_t *checksum;
};

static int part_start(struct part *part, struct group *group, struct s3 *s3,
		      const struct store_object *object, uint64_t offset, uint64_t deadline_ns)
{
	size_t piece = (part->count + PIECES - 1) / PIECES;

	part->bytes = malloc(part->count);
	if (!part->bytes)
		return -ENOMEM;
	store_object_name(object, part->name);
	if (piece < PIECE_BYTES)
		piece = PIECE_BYTES;
	for (size_t at = 0; at < part->count; at += piece) {
		struct s3_request *request = &part->request[part->pieces++];

		*request = (struct s3_request){.verb = S3_GET,
					       .flags = S3_URGENT,
					       .key = part->name,
					       .deadline_ns = deadline_ns,
					       .offset = offset + at,
					       .length = part->count - at < piece ? part->count - at
										  : piece,
					       .into = (char *)part->bytes + at};
		group_start(group, s3, request);
	}
	return 0;
}

static int part_decode(struct part *part, const struct store_record *record,
		       struct store_level *level, struct thaw_error *error)
{
	const void *bytes = part->there ? part->there : part->bytes;
	int code;

	if (!part->count)
		return 0;
	for (unsigned i = 0; i < part->pieces; i++) {
		if (!part->request[i].code)
			continue;
		if (error)
			*error = part->request[i].error;
		return part->request[i].code;
	}
	if (!checksum_is(bytes, part->count, part->checksum))
		return failure(error, THAW_EDAMAGED,
			       "the index of record %" PRIu64 " is damaged: a checksum",
			       record->number);
	code = level_decode(bytes, part->count, STORE_FILE_BLOCKS_MOST, IN_LEVELS, level, error);
	/* What it was longer by once. */
	if (!code)
		level_cut(level, (record->file_bytes + STORE_BLOCK - 1) / STORE_BLOCK);
	return code;
}

static void part_free(struct part *part)
{
	for (unsigned i = 0; i < part->pieces; i++)
		s3_release(&part->request[i]);
	free(part->bytes);
}

/* All three, as far as there are so many: started, or found in the tail. */
static int parts_start(struct part parts[3], struct group *group, struct s3 *s3,
		       const struct store_record *record, const void *tail, uint64_t deadline_ns)
{
	struct store_object own = {.record = record->number, .kind = STORE_IN_RECORD};
	const struct store_reference *references[] = {NULL, &record->level1, &record->level2};
	uint64_t tail_offset = record->bytes - tail_bytes(record);
	int code = 0;

	parts[0].count = record->level_bytes;
	parts[0].checksum = record->level_checksum;
	if (tail && record->level_offset >= tail_offset)
		parts[0].there = (const char *)tail + (record->level_offset - tail_offset);
	else if (parts[0].count)
		code = part_start(&parts[0], group, s3, &own, record->level_offset, deadline_ns);
	for (unsigned i = 1; i < 3 && !code; i++) {
		if (!references[i]->object.record)
			continue;
		parts[i].count = references[i]->object.bytes;
		parts[i].checksum = references[i]->checksum;
		code = part_start(&parts[i], group, s3, &references[i]->object, 0, deadline_ns);
	}
	return code;
}

int record_index(struct s3 *s3, const struct store_record *record, const void *tail,
		 uint64_t deadline_ns, struct store_index *index, struct thaw_error *error)
{
	struct part parts[3] = {0};
	struct group group;
	int code;

	*index = (struct store_index){0};
	if (!record->number)
		return 0;
	group_open(&group);
	code = parts_start(parts, &group, s3, record, tail, deadline_ns);
	group_close(&group);
	if (code)
		failure(error, code, "no memory for the index of the store");
	for (unsigned i = 0; i < 3; i++) {
		if (!code)
			code = part_decode(&parts[i], record, &index->level[i], error);
		part_free(&parts[i]);
	}
	return code;
}

/* ---- Hot objects */

bool hot_current(const struct store_level *index, uint64_t hot_record, uint64_t block)
{
	size_t at = level_find(index, block);
	const struct store_run *run = &index->runs[at];

	if (at == index->run_count || run->first > block || run->frame == STORE_NOWHERE)
		return false;
	return index->objects[index->frames[run->frame].object].record <= hot_record;
}
