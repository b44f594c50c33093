/* SPDX-License-Identifier: GPL-2.0-only */
/* For xxhash.h of libxxhash only. */
#define alignas(bytes) __aligned(bytes)
