/* SPDX-License-Identifier: MIT */
/*
 * region.h - the address space of a heap: reserved, registered with userfaultfd or the module, and
 * filled page by page.
 *
 *	base                      restored          bytes                 max_bytes          + guard_bytes
 *	|  pages of the image      |  fresh pages     |  not yet in use      |  never in use   |
 *	|  MISSING WP              |  WP (sync: MISSING)                     |                 |
 *	|  readable, writable                         |  PROT_NONE                             |
 *
 * Under mprotect tracking there is no WP: pages not written yet are read-only. With sigsegv delivery there is
 * no MISSING either: pages that have not arrived are PROT_NONE. Fresh pages are the kernel's under wp-async (a
 * page that was never write-protected counts as written); under wp-sync the fault service installs them.
 * The memory is anonymous, filled by UFFDIO_COPY, or in place with eager delivery; with sigsegv it is a memfd
 * mapped twice: pages are read and checked in the second mapping, the alias, before the first is opened.
 * With the module (kmod.h) it is a mapping of /dev/thaw, and userfaultfd has nothing to do with it.
 * With THAW_PROCESS there is none of this: the region is the memory of another process (process_memory.h).
 * A page is one of the image (page.h), perhaps several of the kernel's, which install.c handles one by one.
 */
#ifndef UFFD_REGION_H
#define UFFD_REGION_H

#include "error.h"
#include "probe.h"

struct region {
	char *base;	     /* what the program sees */
	char *alias;	     /* a second mapping of the same pages (memfd), or equal to base */
	uint32_t page_bytes; /* of the image: the unit of all that is done here (page.h) */
	uint32_t kernel_page_bytes;	      /* divides it */
	size_t bytes, max_bytes, guard_bytes; /* see the drawing */
	size_t restored_bytes;
	struct backends backends;
	int uffd, memfd;
	int device;   /* /dev/thaw, if the memory is the module's */
	int image_fd; /* of whoever opens an image, who sets it before region_register(); -1: none */
	void *reservation;
	size_t reservation_bytes;
	/* The memory of another process instead: base is NULL, alias too, pages are numbered by address. */
	struct process_memory *process;
};

#define REGION_ALIGNMENT (2ull << 20) /* so that huge pages and page tables line up */

enum region_kind {
	REGION_SERVED, /* pages come from an image */
	REGION_PLAIN,  /* there is none, so no userfaultfd at all */
	REGION_FILLED, /* parts of the image are missing: without the module (thaw_fill.h) */
};

/*
 * Reserve and map; nothing is registered and nothing accessible yet. `address`: where base should be
 * if all of it is free there, a multiple of REGION_ALIGNMENT; NULL: anywhere.
 *
 * `page_bytes` becomes what a new image gets: the kernel's, or more, as a kernel with such pages would
 * have it, if the environment says so (THAW_PAGE_BYTES). Whoever opens an image with larger ones sets
 * it before region_register().
 */
int region_create(struct region *region, void *address, size_t max_bytes, size_t guard_bytes,
		  enum region_kind kind, struct thaw_error *error);
/* The same for the memory of another process, which is not known yet. */
int region_create_process(struct region *region, struct thaw_error *error);
/*
 * Register: the first `restored_bytes` hold pages of an image, the rest is fresh. Once per
 * region.
 */
int region_register(struct region *region, size_t restored_bytes, struct thaw_error *error);
void region_destroy(struct region *region);
/* Make the first `bytes` accessible; never less than before. */
int region_resize(struct region *region, size_t bytes);

static inline bool region_contains(const struct region *region, const void *address)
{
	const char *at = address;

	return region->base && at >= region->base && at < region->base + region->max_bytes;
}
/* The size, for other threads than the owner's, which may be in region_resize(). */
static inline size_t region_bytes(const struct region *region)
{
	return __atomic_load_n(&region->bytes, __ATOMIC_RELAXED);
}
static inline uint64_t region_page(const struct region *region, const void *address)
{
	return (uint64_t)((const char *)address - region->base) / region->page_bytes;
}

#endif
