/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef THAW_CHECKSUM_H
#define THAW_CHECKSUM_H

#include <linux/types.h>

struct page;

/* Whether the XXH3-128 of `count` pages one after another is `checksum`, low half first. */
bool thaw_checksum_right(struct page **pages, unsigned int count, const u64 checksum[2]);

#endif
