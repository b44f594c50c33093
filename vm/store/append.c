// SPDX-License-Identifier: MIT
/*
 * append.c - a record, as it is put.
 */
#include "store/append.h"

#include <stdlib.h>

void append_make(struct append *append, struct store_record *record, const void *frames,
		 size_t frame_bytes, void *level, size_t level_bytes)
{
	static uint8_t zero;
	size_t pad;

	*append = (struct append){.level = level};
	record->level_offset = frame_bytes;
	record->level_bytes = level_bytes;
	store_checksum(level, level_bytes, record->level_checksum);
	pad = ((frame_bytes + level_bytes) & 1) != (record->kind == STORE_SEAL);
	record->bytes = frame_bytes + level_bytes + pad + sizeof(append->manifest);
	manifest_encode(record, &append->manifest);
	append->pieces[0] = (struct iovec){(void *)frames, frame_bytes};
	append->pieces[1] = (struct iovec){append->level, level_bytes};
	append->pieces[2] = (struct iovec){&zero, pad};
	append->pieces[3] = (struct iovec){&append->manifest, sizeof(append->manifest)};
	store_record_name(record->number, append->name);
	store_id_print(record->epoch, append->epoch);
	append->request.verb = S3_PUT;
	append->request.flags = S3_NEW | S3_URGENT;
	append->request.key = append->name;
	append->request.pieces = append->pieces;
	append->request.piece_count = 4;
	append->request.pairs[0] = (struct s3_pair){"thaw-epoch", append->epoch};
}

void append_free(struct append *append)
{
	s3_release(&append->request);
	free(append->level);
	*append = (struct append){0};
}
