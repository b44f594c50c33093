/* SPDX-License-Identifier: MIT */
/*
 * thaw_image.h - images without a heap; part of the public interface, which thaw.h includes. Whoever opens one reads its
 * generations, their pages and what differs between two of them, in any image, also one in use; other functions name, go
 * back, verify, copy, compact and repair.
 *
 * Threads and errors as in thaw.h.
 */
#ifndef THAW_IMAGE_H
#define THAW_IMAGE_H

#include "thaw.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Looking at an image without a heap: any image, also one in use; nothing is written ---- */

struct thaw_image_info {
	uint32_t format;	  /* format version */
	uint32_t page_bytes;	  /* unit of storage: that of the kernel it was made on */
	uint8_t uuid[16];	  /* made when the image was created */
	char engine[64];	  /* who wrote it */
	uint64_t file_bytes;	  /* size of the file */
	uint64_t allocated_bytes; /* what the file system holds for it (st_blocks) */
	uint64_t live_bytes;	  /* reachable from the newest generation */
	uint64_t retained_bytes;  /* reachable from any retained generation */
	uint64_t free_bytes;	  /* in the file, reachable from none */
	uint64_t holder;	  /* pid of the process that holds the lock; 0: none */
	unsigned generations;	  /* retained ones */
	/*
	 * The working set: what was accessed first after that generation was restored, in clusters
	 * of 64 KiB.
	 */
	uint64_t working_set_clusters, working_set_generation;
	/*
	 * Fragmentation. Of the newest generation: how many pages are stored, and in how many
	 * pieces of the file they are when read in the heap's order. Of the free blocks: how many
	 * bytes, in how many pieces, and how many in pieces under 64 KiB.
	 */
	uint64_t newest_pages, newest_pieces;
	uint64_t unused_bytes, unused_pieces, unused_small_bytes;
	/* Of these pages: how many bytes they take; how many are compressed, and of those by Zstandard (else LZ4). */
	uint64_t newest_page_bytes, newest_compressed, newest_zstd;
	struct thaw_error
		fallback; /* the newest header slot or record was damaged: why; code 0: was not */
	bool keyed;	  /* its contents are authenticated (THAW_KEYED) */
	bool encrypted;	  /* ... and enciphered (THAW_ENCRYPTED) */
};

/*
 * An image, opened once: all questions to it are answered from one commit, whatever happens to the
 * file's name or is committed meanwhile. All generations it lists are kept from being overwritten
 * while it is open, up to a bound: a program that writes very much meanwhile continues, and what is
 * lost then is reported as THAW_ENOGEN. Any thread may ask, several at a time. THAW_EFOREIGN,
 * THAW_EFORMAT, THAW_EDAMAGED, -errno.
 */
struct thaw_image;
THAW_PUBLIC int thaw_image_open(const char *path, struct thaw_image **image,
				struct thaw_error *error);
/*
 * The same for the image of an open heap, whatever its name refers to now. -EROFS: it has none.
 * Owner thread.
 */
THAW_PUBLIC int thaw_image_of(const struct thaw *heap, struct thaw_image **image,
			      struct thaw_error *error);
/* Views of it may stay open. NULL is allowed. */
THAW_PUBLIC void thaw_image_close(struct thaw_image *image);

/* The retained generations, oldest first, owned by the image. Returns how many. */
THAW_PUBLIC unsigned thaw_image_log(const struct thaw_image *image,
				    const struct thaw_generation **generations);
/* The names in it, owned by the image. Returns how many. */
THAW_PUBLIC unsigned thaw_image_names(const struct thaw_image *image,
				      const struct thaw_name **names);
/* The generation of that number or name. THAW_ENOGEN: there is none. */
THAW_PUBLIC int thaw_image_find(const struct thaw_image *image, const char *word,
				uint64_t *generation, struct thaw_error *error);
/*
 * `deep` walks the indexes of all retained generations for the counts that need it: live, retained,
 * free, and how scattered (else they are 0). The file's sizes and its holder are those of this moment.
 */
THAW_PUBLIC int thaw_image_info(const struct thaw_image *image, bool deep,
				struct thaw_image_info *info, struct thaw_error *error);

/*
 * The contents of one generation of an image, to be read as data. Every byte that is read was checked
 * against the image's checksums; pages that were never stored are zero. Nothing is read in advance, and
 * what has been read is kept only up to a bound (256 MiB, or a quarter of the machine's memory). One
 * thread at a time per view.
 */
struct thaw_view;
/*
 * `generation` 0: the newest that is whole. THAW_ENOGEN: the image does not list it, or holds none. The
 * caller closes the view.
 */
THAW_PUBLIC int thaw_view_open(struct thaw_image *image, uint64_t generation,
			       struct thaw_view **view, struct thaw_error *error);
/* The generation that it shows. Owned by the view. */
THAW_PUBLIC const struct thaw_generation *thaw_view_generation(const struct thaw_view *view);
/* Its state blob; NULL and 0: it has none. Owned by the view. */
THAW_PUBLIC const void *thaw_view_state(const struct thaw_view *view, size_t *bytes);
/*
 * Copy bytes of the heap, any range inside thaw_generation.heap_bytes (else -ERANGE). THAW_EDAMAGED: the
 * error names the page and where it lies; THAW_ENOGEN: the program that writes the image has dropped the
 * generation since. After an error the rest of the heap can still be read.
 */
THAW_PUBLIC int thaw_view_read(struct thaw_view *view, uint64_t offset, void *buffer, size_t bytes,
			       struct thaw_error *error);
/* NULL is allowed. */
THAW_PUBLIC void thaw_view_close(struct thaw_view *view);

enum thaw_page_kind {
	THAW_PAGE_ABSENT, /* never stored: zero */
	THAW_PAGE_ZERO,	  /* was stored, and is zero now: takes no bytes */
	THAW_PAGE_STORED,
	THAW_PAGE_LOST, /* the part of the index for it is damaged, or cannot be read */
};
#define THAW_RANK_NONE UINT32_MAX

struct thaw_page_run { /* pages that follow each other, in the heap and in the file */
	uint64_t first, pages;
	enum thaw_page_kind kind;
	uint32_t rank;	 /* of their cluster in the working set, from 0; or THAW_RANK_NONE */
	uint64_t birth;	 /* the generation that wrote them; 0: absent or lost */
	uint64_t offset; /* in the file, of the first; 0: not stored */
	uint64_t bytes;	 /* of the file that they take there */
	bool compressed; /* else each takes as many as it has */
};
/*
 * The pages that the heap of a generation (0: the newest whole one) consists of: all from the first
 * to the last, in order, in runs as long as possible. No page is read: the cost is that of the
 * index. A non-zero return of `visit` ends it and is returned. THAW_EDAMAGED or -errno: some pages
 * were lost, all others were reported; THAW_ENOGEN: no such generation, or it was dropped
 * meanwhile.
 */
THAW_PUBLIC int thaw_image_pages(struct thaw_image *image, uint64_t generation,
				 int (*visit)(void *arg, const struct thaw_page_run *run),
				 void *arg, struct thaw_error *error);

enum thaw_change_kind {
	THAW_CHANGE_APPEARED, /* were zero, or beyond the end of the heap */
	THAW_CHANGE_VANISHED, /* are zero, or beyond the end of the heap */
	THAW_CHANGE_CHANGED,
	THAW_CHANGE_LOST, /* the part of an index for it is damaged, or cannot be read */
};
struct thaw_page_change {
	uint64_t first, pages;
	enum thaw_change_kind kind;
};
/*
 * The pages in which the heap of generation `to` differs from that of `from` (0: the newest whole
 * one), in order, in runs as long as possible. Pages are compared by their checksums. The cost is
 * that of what was stored between the two, not of all pages. Return values as above.
 */
THAW_PUBLIC int thaw_image_diff(struct thaw_image *image, uint64_t from, uint64_t to,
				int (*visit)(void *arg, const struct thaw_page_change *change),
				void *arg, struct thaw_error *error);

struct thaw_damage {		    /* one thing that is wrong */
	uint64_t generation;	    /* the newest one that reaches it; 0: the header */
	uint64_t first_page, pages; /* which pages it covers; pages 0: not about pages */
	uint64_t offset, bytes;	    /* where in the file */
	char what[200];
};
struct thaw_verify_ops {
	/*
	 * Bytes checked so far, and an estimate of the whole. Return non-zero to stop with
	 * -ECANCELED.
	 */
	int (*progress)(void *arg, uint64_t done, uint64_t total);
	void (*damage)(void *arg, const struct thaw_damage *damage);
	void *arg;
};
struct thaw_verify_summary {
	uint64_t generations, pages, nodes, bytes, damages;
};
/*
 * Read and check every byte that any retained generation reaches. 0: all is well; THAW_EDAMAGED:
 * `damage` was called for each finding; other codes: the image could not be opened at all.
 */
THAW_PUBLIC int thaw_image_verify(const char *path, const struct thaw_verify_ops *ops,
				  struct thaw_verify_summary *summary, struct thaw_error *error);

/* ---- Changing an image without a heap: THAW_EINUSE while a program has it open ---- */

/*
 * A program that makes small generations often has them made durable in the image's log (thaw_checkpoint_begin());
 * at least once a second it lists the newest of them, and so does its end. If it was killed, this does: so that all
 * that is listed from then on is all that is durable. A program that goes on from the image needs no such call.
 * 0 too if a program has it open, or there is nothing in the log. -EACCES, -EROFS and the like: then generations that are
 * newer than the listed ones wait for the program. THAW_EDAMAGED: the log is damaged; the program is told, too.
 */
THAW_PUBLIC int thaw_image_settle(const char *path, struct thaw_error *error);

#define THAW_TAG_MOVE 0x1u /* take the name from the generation that has it */
/*
 * Name a generation (0: the newest), or remove the name. Durable when it returns. -EEXIST: another
 * one has it; -ENOSPC: too many names; -EINVAL: not a valid name; THAW_ENOGEN: no such generation,
 * or no such name.
 */
THAW_PUBLIC int thaw_image_tag(const char *path, const char *name, uint64_t generation,
			       unsigned flags, struct thaw_error *error);
THAW_PUBLIC int thaw_image_untag(const char *path, const char *name, struct thaw_error *error);
/*
 * Make a new generation with the contents of an old one: `made`. Nothing is dropped by it. Costs what
 * its state blob does, not its heap.
 */
THAW_PUBLIC int thaw_image_rollback(const char *path, uint64_t generation,
				    struct thaw_generation *made, struct thaw_error *error);

/* ---- Whole images: copying, compacting, repairing one ---- */

/* What repair found out about one generation. */
struct thaw_salvage {
	struct thaw_generation generation;
	const struct thaw_name *names; /* those it has; valid until the callback returns */
	unsigned name_count;
	bool kept;
	struct thaw_damage cause; /* if it was not kept: the first thing that is wrong with it */
};
struct thaw_copy_ops {
	/*
	 * Bytes read or copied so far, and an estimate of the whole. Return non-zero to stop with
	 * -ECANCELED: nothing has changed then.
	 */
	int (*progress)(void *arg, uint64_t done, uint64_t total);
	/* Repair only: of each generation that it looked for, oldest first. */
	void (*generation)(void *arg, const struct thaw_salvage *salvage);
	void *arg;
};
struct thaw_copy_summary {
	uint64_t generations,
		newest; /* how many the new file lists; the number of the last of them */
	uint64_t names;
	uint64_t generations_lost,
		names_lost;    /* that the old one listed, and the new one does not */
	uint64_t pages;	       /* copied one by one, each once; thaw_image_clone copies none so */
	uint64_t bytes_before; /* size of the old file, of which parts may be holes */
	uint64_t bytes_after;  /* size of the new one */
	bool reflink;	       /* they share their blocks on the disk: the copy took none */
	bool working_set_lost; /* repair: the order of first touches could not be read */
};

/*
 * Make an independent image, with a uuid of its own, that lists the same generations and names. With a
 * `generation`, it is then rolled back to that one (thaw_image_rollback): 0: the newest stays the newest.
 * By reflink where the file system can, else by copying what is not a hole: so what is free in the file
 * is copied along. The image may be in use: generations that are dropped while it is copied may be left
 * out, but there is always one.
 *
 * The new file has mode 0600 and appears under its name when it is whole and durable. -EEXIST: there is
 * a file of that name; THAW_ENOGEN: no such generation, or none at all; THAW_EDAMAGED: header, records or
 * roots are damaged (of all other bytes, damage is copied as it is); -EAGAIN: the program that writes
 * the image was faster than this; -ECANCELED. On failure there is no new file, and nothing else changed.
 * Any thread; `ops`, `summary` and `error` may be NULL.
 */
THAW_PUBLIC int thaw_image_clone(const char *path, const char *new_path, uint64_t generation,
				 const struct thaw_copy_ops *ops, struct thaw_copy_summary *summary,
				 struct thaw_error *error);

/* Pages are stored so from now on (THAW_COMPRESS_NONE ...); what is encrypted gets a new key by that. Else as they were. */
#define THAW_COMPACT_COMPRESS(compress) (0x8000u | (unsigned)(compress) << 16)
#define THAW_COMPACT_NEWEST 0x1u /* drop all but the newest and the portable one that it names */
/*
 * Rewrite an image without anything that is free in it: first the pages of the newest generation, in the
 * order in which they were touched after the last restore, as far as that is known, then its other pages
 * in order, then what only older ones have. Every byte is checked. Generations keep their numbers and
 * names (with THAW_COMPACT_NEWEST, those that stay), the image its uuid, the file its owner and mode.
 *
 * The new file takes the place of the old one when it is whole and durable, at once: whoever reads the
 * old one goes on reading it. THAW_EINUSE: a program has it open; THAW_EDAMAGED: there is something to
 * repair first; -EMLINK: the file has several names; -EAGAIN: another file has its name by now. On failure
 * the old file is as it was (but for one of syncing the directory: then it is not certain which of them the
 * next start of the machine finds; both are whole). Memory: 8 bytes for each 4 KiB of the file, at most 128
 * for each 16 pages, and 18 MiB.
 */
THAW_PUBLIC int thaw_image_compact(const char *path, unsigned flags,
				   const struct thaw_copy_ops *ops,
				   struct thaw_copy_summary *summary, struct thaw_error *error);

/* In an enciphered image: a clear one is made so, one that is gets a key of its own, new. */
#define THAW_COMPACT_ENCRYPT 0x2u
#define THAW_COMPACT_DECRYPT 0x4u /* in the clear ... */
#define THAW_COMPACT_KEYED 0x8u	  /* ... but authenticated with the user's key (THAW_KEYED) */

/* ---- The keys that open an enciphered image (THAW_ENCRYPTED) ---- */

#define THAW_KEY_SLOTS 8u
enum thaw_key_kind {
	THAW_KEY_NONE,
	THAW_KEY_USER,	     /* the user's, see thaw_use_key() */
	THAW_KEY_FILE,	     /* another of 32 bytes */
	THAW_KEY_PASSPHRASE, /* by Argon2id */
};
struct thaw_key_slot {
	enum thaw_key_kind kind; /* THAW_KEY_NONE: it is free */
	uint64_t time_ns;	 /* when it was added */
	uint64_t passes, memory; /* of a passphrase: what one attempt costs, in bytes */
	char name[40];
};
/* Needs no key. 0, also if the image is not enciphered: then all are free. As thaw_image_open() otherwise. */
THAW_PUBLIC int thaw_image_keys(const char *path, struct thaw_key_slot slots[THAW_KEY_SLOTS],
				struct thaw_error *error);
struct thaw_key_secret {
	enum thaw_key_kind kind;
	const void *bytes; /* THAW_KEY_BYTES, but for a passphrase */
	size_t count;
	const char *name; /* anything of at most 39 bytes, which anybody can read; or NULL */
};
/*
 * From then on that opens the image, too: the number of its slot, 0 to 7. For whoever has one that opens it, of an image
 * that holds a generation and that nobody has open. -ENOSPC: there are as many as there can be.
 */
THAW_PUBLIC int thaw_image_key_add(const char *path, const struct thaw_key_secret *secret,
				   struct thaw_error *error);
/*
 * That does not open it any more, and the image says nothing of it: once this has returned, neither block of its header does,
 * on the disk. Whoever had a copy of the file, or the image's own key, is not locked out: THAW_COMPACT_ENCRYPT does that.
 * -EINVAL: it is free, or the last one.
 */
THAW_PUBLIC int thaw_image_key_remove(const char *path, unsigned slot, struct thaw_error *error);

/*
 * Copy every generation of a damaged image that is whole, densely as thaw_image_compact does, to a new
 * one of the same uuid: those that the newest header slot leads to, else the other one, else the newest
 * commit record that is found in the file, if one of them leads to a whole generation. The old file is
 * only read; it may be in use. 0: the new image is whole, whatever was lost (see `summary`);
 * THAW_EDAMAGED: nothing could be salvaged, and there is no new file; -EEXIST, -ECANCELED as above.
 */
THAW_PUBLIC int thaw_image_repair(const char *path, const char *new_path,
				  const struct thaw_copy_ops *ops,
				  struct thaw_copy_summary *summary, struct thaw_error *error);

#ifdef __cplusplus
}
#endif

#endif
