/* SPDX-License-Identifier: GPL-2.0-only */
/* For xxhash.h of libxxhash only, which wants static_assert(). */
#include <linux/build_bug.h>
