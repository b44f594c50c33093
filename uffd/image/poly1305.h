/* SPDX-License-Identifier: MIT */
/* poly1305.h - Poly1305 and XChaCha20 of many pages. See poly1305.c. */
#ifndef UFFD_POLY1305_H
#define UFFD_POLY1305_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Any thread. */
void poly1305(uint8_t out[16], const void *bytes, size_t count, const uint8_t key[32]);

/* From that block (of 64 bytes) of its key stream on; `to` may be `from`. Any thread. */
void xchacha20(void *to, const void *from, size_t count, const uint8_t nonce[24], uint64_t block,
	       const uint8_t key[32]);

/* Look for what is faster, on another thread: some MiB are going to be hashed at least. */
void poly1305_soon(void);
/* The same now, whatever is to be hashed. False: there is nothing. */
bool poly1305_hurry(void);

#endif
