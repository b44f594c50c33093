/* SPDX-License-Identifier: MIT */
/*
 * image.h - what the parts of the fuzz target of images (fuzz_image.c) share: what an input says of its own use, how its
 * checksums are made right (image_checksums.c), and everything that can be done to a file (image_use.c).
 */
#ifndef TESTS_FUZZ_IMAGE_H
#define TESTS_FUZZ_IMAGE_H

#include "image/format.h"
#include "fuzz.h"
#include "image/store.h"

#define MAX_BYTES (96u << 10)

enum {
	KEEP_CHECKSUMS = 1, /* all of them as they are */
	KEEP_CONSTANTS = 2, /* magics, versions, identities, lengths */
	KEEP_NODES = 4,	    /* the head of each node */
	DAMAGE_ONE = 8,	    /* one reference has a wrong checksum, and what is above it is right */
	KEYED = 32,	    /* it has a key, and each checksum is the MAC that belongs there */
	ENCIPHERED = 128,   /* it is encrypted, and its log void */
	LOG_TOO = 64,	    /* checksums and the chain of the log's entries are right */
	STRETCH = 16, /* the end of the file lies far behind: a writer will want to shorten it */
};

struct control {
	uint8_t keep;
	uint8_t retain; /* and, from bit 4 on, how pages are compressed */
	uint8_t open; /* which generation to write to: 0 the newest, 1 portable, 2 fresh, else the oldest */
	uint8_t pages; /* to commit, beside two; the highest bit: small ones go to a log */
	uint32_t seed;
};
#define PAGES_LOGGED 0x80u
#define CONTROL_AT 4088u
#define IMAGE_LEAST (2 * SPACE_BLOCK)
#define STRETCHED_BY (40ull << 20)
#define LOG (10 * SPACE_BLOCK)

/*
 * Makes right, in place, what control->keep does not keep as it is. Returns the offset from which on everything is to lie
 * STRETCHED_BY further behind in the file; 0: nothing is.
 */
uint64_t image_fix(uint8_t *bytes, size_t size, const struct control *control);
/* The key of all images of this process, and what an image says of it. */
const struct checksum_key *fuzz_key(struct key_mark *mark);

/* 0 if all of it can be read and is right. use_damaged() ends the process and tells of the first that was not. */
int use_verify(const char *path);
_Noreturn void use_damaged(const char *after);

void use_listing(const char *path);
void use_picture(const char *path, const struct control *control);
/* sound: it verified, and so must what is made of it. Those that return an int: 0 if all of it was done. */
void use_reader(const char *path, const struct control *control, bool sound);
void use_copies(const char *path, const struct control *control, bool sound);
int use_writer(const char *path, const struct control *control);
int use_history(const char *path, const struct control *control);
/* One generation of so many random pages; or begun and aborted. */
int use_commit(struct image *image, uint64_t *seed, unsigned pages, bool abort_it, bool log);

#endif
