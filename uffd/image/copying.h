/* SPDX-License-Identifier: MIT */
/*
 * copying.h - shared by clone.c, compact.c and repair.c: progress, finding out which generations
 * are whole (salvage.c), and copying generations into a new file (pack.c).
 */
#ifndef UFFD_COPYING_H
#define UFFD_COPYING_H

#include <errno.h>
#include <string.h>

#include "cipher.h"
#include "extent_codec.h"
#include "newfile.h"
#include "walk.h"

struct copying {
	const struct thaw_copy_ops *ops; /* may be NULL */
	uint64_t done, total;		 /* bytes */
	const struct extent_codec
		*codec; /* of all pages from now on; NULL: they stay as they are */
};

/* 0, or -ECANCELED. */
static inline int copying_advance(struct copying *copying, uint64_t bytes)
{
	copying->done += bytes;
	if (!copying->ops || !copying->ops->progress)
		return 0;
	return copying->ops->progress(copying->ops->arg, copying->done,
				      copying->done > copying->total ? copying->done
								     : copying->total)
		       ? -ECANCELED
		       : 0;
}

/* ---- salvage.c */

/*
 * Read and check every byte of every generation of the record: whole[i], or causes[i] says what is
 * wrong first; newer ones come first where two claim the same page without a common history. -ENOMEM, -ECANCELED.
 */
int salvage_find_whole(const struct walk_source *source, const struct record *record,
		       struct copying *copying, bool *whole, struct thaw_damage *causes);

/* ---- pack.c */

/*
 * Write all generations of the record, with its names and working set, into the new file without
 * free space between them, and seal it. `identity`: uuid, engine, page size and sequence of the
 * source. `pages`: how many were copied. THAW_EDAMAGED and -errno say where; -ENOMEM, -ECANCELED.
 */
int pack_generations(const struct walk_source *source, const struct slot *identity,
		     const struct record *record, const struct note *note, struct newfile *to,
		     struct copying *copying, uint64_t *pages, struct thaw_error *error);

/*
 * A hash of what identifies a page that was read already: its checksum and number, and what it is decoded with. The
 * number is in it since two pages in one place are a fault: both look whole until one of them is written, and its blocks are
 * freed while the other still uses them. Never 0.
 */
static inline uint64_t page_word(const struct checksum_key *key, const struct extent *extent,
				 uint64_t page)
{
	bool enciphered = cipher_is_on(key);
	uint64_t encoding = extent->encoding > EXTENT_ZSTD && !enciphered ? EXTENT_ZSTD
									  : extent->encoding;
	const uint64_t words[] = {
		extent->checksum.low64, extent->checksum.high64,       page, encoding,
		extent->bytes,		enciphered ? extent->birth : 0};
	uint64_t word = XXH3_64bits(words, sizeof(words));

	return word ? word : 1;
}

#endif
