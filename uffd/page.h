/* SPDX-License-Identifier: MIT */
/*
 * page.h - how large a page is.
 *
 * The page is a property of the image: the unit in which it stores, checks and tracks the heap. A new
 * image takes the page of the kernel that it is made on. On a kernel with smaller ones, a page of the
 * image is several of the kernel's: whatever is done to a page (it is installed, protected, collected,
 * poisoned) is done to all of them, and what the kernel says of one of its own (a fault, a write) it says
 * of the page around it. A kernel with larger ones cannot open the image: there, a page could not
 * arrive or be watched without its neighbours.
 *
 * Bounds: the least is the block in which the image's file is allocated (image/space.h); no kernel has
 * smaller pages. The most is what divides the size of every heap (thaw.h), and what kernels of arm64 and
 * ppc64 have; those with more (256 KiB) are for machines too small for a heap.
 */
#ifndef UFFD_PAGE_H
#define UFFD_PAGE_H

#include <stdbool.h>
#include <stdint.h>

#define PAGE_BYTES_LEAST 4096u
#define PAGE_BYTES_MOST 65536u

static inline bool page_bytes_possible(uint64_t bytes)
{
	return bytes >= PAGE_BYTES_LEAST && bytes <= PAGE_BYTES_MOST && !(bytes & (bytes - 1));
}

/*
 * The unit that a demand fault loads, and that the working set counts in. In bytes, not pages,
 * since bytes are what a read costs (fault.c).
 */
#define PAGE_CLUSTER_BYTES 65536u

static inline unsigned page_cluster(uint32_t page_bytes)
{
	return PAGE_CLUSTER_BYTES / page_bytes;
}

/*
 * An entry of a working set: a page, and which sixteenths of its cluster belong to the set; none stands for all of
 * them.
 */
#define SET_PAGE_BITS 48
#define SET_MASK_ALL 0xffffu

static inline uint64_t set_entry(uint64_t page, unsigned mask)
{
	return page | (uint64_t)mask << SET_PAGE_BITS;
}

static inline uint64_t set_entry_page(uint64_t entry)
{
	return entry & ((1ull << SET_PAGE_BITS) - 1);
}

static inline unsigned set_entry_mask(uint64_t entry)
{
	unsigned mask = (unsigned)(entry >> SET_PAGE_BITS);

	return mask ? mask : SET_MASK_ALL;
}

/* Of page `i` of a cluster of `pages` pages, which divides 16. */
static inline unsigned set_mask_of(unsigned i, unsigned pages)
{
	unsigned each = 16 / pages;

	return ((1u << each) - 1) << i * each;
}

static inline bool set_mask_has(unsigned mask, unsigned i, unsigned pages)
{
	return mask & set_mask_of(i, pages);
}

#endif
