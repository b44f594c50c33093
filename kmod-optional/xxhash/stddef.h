/* SPDX-License-Identifier: GPL-2.0-only */
/* For xxhash.h of libxxhash only. */
#include <linux/stddef.h>
#include <linux/types.h>
