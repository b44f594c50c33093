/* SPDX-License-Identifier: MIT */
/*
 * compat.h - kernel interfaces newer than the headers of Debian 12 (6.1), each with the kernel it
 * came in. Names and values are the kernel's own (include/uapi/linux/userfaultfd.h, fs.h, mman.h,
 * memfd.h).
 */
#ifndef UFFD_COMPAT_H
#define UFFD_COMPAT_H

#include <linux/ioctl.h>
#include <linux/types.h>
#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#ifndef SYS_cachestat /* 6.5; the same number everywhere */
#define SYS_cachestat 451
#endif

#ifndef UFFD_USER_MODE_ONLY /* 5.11 */
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef USERFAULTFD_IOC_NEW /* 6.1 */
#define USERFAULTFD_IOC 0xAA
#define USERFAULTFD_IOC_NEW _IO(USERFAULTFD_IOC, 0x00)
#endif

#ifndef UFFD_FEATURE_WP_UNPOPULATED /* 6.4 */
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_POISON /* 6.6 */
#define UFFD_FEATURE_POISON (1 << 14)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC /* 6.7 */
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

#ifndef UFFDIO_POISON /* 6.6 */
struct uffdio_poison {
	struct uffdio_range range;
#define UFFDIO_POISON_MODE_DONTWAKE ((__u64)1 << 0)
	__u64 mode;
	__s64 updated;
};
#define _UFFDIO_POISON 0x08
#define UFFDIO_POISON _IOWR(UFFDIO, _UFFDIO_POISON, struct uffdio_poison)
#endif

#ifndef PAGEMAP_SCAN /* 6.7 */
struct page_region {
	__u64 start;
	__u64 end;
	__u64 categories;
};
struct pm_scan_arg {
	__u64 size;
	__u64 flags;
	__u64 start;
	__u64 end;
	__u64 walk_end;
	__u64 vec;
	__u64 vec_len;
	__u64 max_pages;
	__u64 category_inverted;
	__u64 category_mask;
	__u64 category_anyof_mask;
	__u64 return_mask;
};
#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#define PM_SCAN_WP_MATCHING (1 << 0)
#define PM_SCAN_CHECK_WPASYNC (1 << 1)
#define PAGE_IS_WPALLOWED (1 << 0)
#define PAGE_IS_WRITTEN (1 << 1)
#define PAGE_IS_FILE (1 << 2)
#define PAGE_IS_PRESENT (1 << 3)
#define PAGE_IS_SWAPPED (1 << 4)
#define PAGE_IS_PFNZERO (1 << 5)
#endif

/*
 * Where the next scan goes on, after one that has answered with so many ranges. walk_end alone is not it: after more ranges
 * than the kernel gathers at a time (512), it is left from where the last gathering but one ended (do_pagemap_scan(), 6.7
 * to 6.18), and what came after would be told twice. Ranges ascend.
 */
static inline __u64 pagemap_scanned_to(const struct pm_scan_arg *scan,
				       const struct page_region *ranges, int found)
{
	return found && ranges[found - 1].end > scan->walk_end ? ranges[found - 1].end
							       : scan->walk_end;
}

#ifndef PAGE_IS_HUGE
#define PAGE_IS_HUGE (1 << 6)
#endif

#ifndef MADV_COLLAPSE /* 6.1 */
#define MADV_COLLAPSE 25
#endif

#ifndef MFD_NOEXEC_SEAL /* 6.3 */
#define MFD_NOEXEC_SEAL 0x0008u
#endif

#ifndef MAP_FIXED_NOREPLACE /* 4.17 */
#define MAP_FIXED_NOREPLACE 0x100000
#endif

#endif
