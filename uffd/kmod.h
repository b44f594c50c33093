/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
/*
 * kmod.h - what user space and the kernel module of kmod-optional/ say to each other through /dev/thaw. Both include it;
 * nothing is needed of the module to build anything else.
 *
 * An open /dev/thaw is one region: THAW_KMOD_CREATE gives it memory, mmap() at THAW_KMOD_MEMORY_OFFSET maps it,
 * THAW_KMOD_REGISTER tells what is in it. Until then who touches it gets SIGBUS. Pages are those of the image
 * (page_bytes, a multiple of the kernel's), numbered from the start of the region. A node of the device must be in a
 * tmpfs, as /dev is one; EOPNOTSUPP for another.
 *
 *	|  restored_bytes: pages of the image             |  fresh pages: zero at first                 | max_bytes
 *	   absent --read and compared, filled, zeroed--> arrived
 *	     `--poisoned: who touches it gets SIGBUS
 *
 * A page that is absent when it is touched is brought by the kernel, if its extent is known (THAW_KMOD_EXTENTS), is raw
 * or zero, and can be read, and its checksum is right. Otherwise the toucher waits, and a request can be read(2) from
 * the descriptor, as from a userfaultfd: the answer is one of EXTENTS, FILL, ZERO, POISON and WAKE for that page.
 *
 * The first write to a page since it was last harvested puts its number into a ring (the model is KVM's dirty ring),
 * which is mapped at offset THAW_KMOD_RING_OFFSET. What finds no room is kept in a bitmap (THAW_KMOD_OVERFLOW).
 *
 * ioctls return 0 or -1 with errno:
 *	EINVAL      an argument is out of range, unaligned, or has an unknown version, or a field that must be zero is not
 *	EBUSY       created, or registered, already
 *	ENXIO       not created, or not registered, yet
 *	EFAULT      memory of the caller cannot be read or written
 *	EINTR       a signal came; `done` says how far the call got
 *	ENOMEM, and whatever else reading a file may say
 * Where a structure has `done`, it is how many pages were done, also after an error: the call can be repeated behind them.
 */
#ifndef UFFD_KMOD_H
#define UFFD_KMOD_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define THAW_KMOD_DEVICE "/dev/thaw"
#define THAW_KMOD_VERSION 1
/*
 * Not 0: so that, at an address that is a multiple of the size of huge pages, no huge page can ever be mapped, in which
 * other pages are absent. At addresses where one could, touching what happens to be in one is SIGBUS.
 */
#define THAW_KMOD_MEMORY_OFFSET (1ull << 16)
#define THAW_KMOD_RING_OFFSET (1ull << 62)
#define THAW_KMOD_MAX_BYTES (1ull << 47)

struct thaw_kmod_create {
	__u32 version; /* THAW_KMOD_VERSION; another one is EINVAL */
	__u32 zero;
	__u64 max_bytes; /* a multiple of 64 KiB, at most THAW_KMOD_MAX_BYTES; costs nothing until it is touched */
};

struct thaw_kmod_register {
	__u32 page_bytes;     /* a power of two, from the kernel's page size to 64 KiB */
	__u32 ring_entries;   /* a power of two, 64 to 1 Mi; 0: the tunable ring-entries */
	__u64 restored_bytes; /* a multiple of page_bytes, at most max_bytes */
	/*
	 * The image, open for reading; -1: no page is read here. The region keeps a description of its own, which
	 * holds no lock. A file system through whose page cache the kernel cannot read is no error: every page is
	 * then asked for.
	 */
	__s32 image_fd;
	__u32 zero;
};

enum thaw_kmod_encoding {
	THAW_KMOD_ZERO = 0,  /* reads as zero; other fields mean nothing */
	THAW_KMOD_RAW = 1,   /* page_bytes bytes at `offset` of the image */
	THAW_KMOD_OTHER = 2, /* user space is asked for it */
};

struct thaw_kmod_extent {
	__u64 offset;
	__u32 encoding;
	__u32 zero;
	__u64 checksum[2]; /* XXH3-128 of the page, seed 0, low half first */
};

/* EXTENTS: where pages are. Replaces what was known; those of pages that have arrived are ignored. Wakes who waits for one. */
struct thaw_kmod_extents {
	__u64 first, count;
	__u64 extents; /* address of `count` struct thaw_kmod_extent */
	__u64 done;
};

/*
 * FILL, ZERO, POISON, WAKE, PREFETCH: `count` pages from `first` on, all of them restored ones.
 *   FILL      become what is at `source`, page by page; those that have arrived, or are poisoned, are left as they are
 *   ZERO      become zero; the same
 *   POISON    SIGBUS for who touches them, also where they had arrived
 *   WAKE      whoever waits for one of them tries again
 *   PREFETCH  are brought like at a touch, as far as the kernel can do that alone; `skipped` says how many it cannot,
 *             the poisoned ones among them
 * FILL, ZERO and POISON wake those who wait.
 */
struct thaw_kmod_pages {
	__u64 first, count;
	__u64 source; /* FILL: an address; else 0 */
	__u64 done;
	__u64 skipped;
};

/*
 * The ring, at THAW_KMOD_RING_OFFSET: this, and at byte 4096 the entries. `dirty` and `reset` count entries since the
 * start, modulo 2^32; those from reset to dirty, at index modulo `entries`, are written pages not harvested yet.
 *
 * To harvest: read `dirty` (acquire), take the pages of the entries, set their flags to HARVESTED, and call
 * THAW_KMOD_RESET, which watches those pages again and moves `reset` behind them. Contents must be read after that:
 * then a write is either in what is read, or makes a new entry. A page may come twice. If `overflowed` is not zero,
 * THAW_KMOD_OVERFLOW has the rest.
 */
struct thaw_kmod_ring {
	__u32 entries;
	__u32 soft_limit; /* poll() reports POLLPRI when so many entries or more wait; 3/4 of them, or what is written here */
	__u32 dirty;	  /* written by the kernel, with release */
	__u32 reset;	  /* written by the kernel */
	__u64 overflowed; /* pages in the bitmap, written by the kernel */
};

#define THAW_KMOD_DIRTY 1u     /* set by the kernel */
#define THAW_KMOD_HARVESTED 2u /* set by user space */
#define THAW_KMOD_ENTRIES_AT 4096u

struct thaw_kmod_dirty {
	__u32 flags;
	__u32 zero;
	__u64 page;
};

/*
 * RESET: watch again the pages of the harvested entries at the front of the ring, at most `most` (0: all). An entry into
 * which user space has written a page that there is not ends the call with EINVAL.
 */
struct thaw_kmod_reset {
	__u32 most;
	__u32 done; /* entries */
};

/* OVERFLOW: take pages out of the bitmap, lowest first from `first` on, and watch them again. */
struct thaw_kmod_overflow {
	__u64 first;
	__u64 pages; /* address of room for `room` numbers of 8 bytes */
	__u32 room;
	__u32 done; /* how many were taken; less than `room`: none is left from `first` on */
};

/*
 * ACCESSED: take from the log of what was touched first: one page of each cluster that the kernel brought because it was
 * touched, in that order. The log has room for 65,536 and then forgets what comes.
 */
struct thaw_kmod_accessed {
	__u64 pages; /* address of room for `room` numbers of 8 bytes */
	__u32 room;
	__u32 done;
};

struct thaw_kmod_counters {
	__u64 faults_served;  /* touches of absent pages that the kernel answered alone */
	__u64 faults_passed;  /* ... that became a request */
	__u64 pages_restored; /* pages that arrived with contents, or as zero, by whoever */
	__u64 pages_poisoned;
	__u64 bytes_read;    /* of the image, by the kernel */
	__u64 pages_dirtied; /* first writes */
	__u64 harvests;	     /* calls of RESET that watched something again */
	__u64 pages_harvested;
	__u64 overflows;      /* pages that found no room in the ring */
	__u64 read_errors;    /* reads that failed, and pages whose checksum was wrong */
	__u64 resident_pages; /* of the kernel, in memory now */
	__u64 zero[5];
};

/* What read(2) gives: as many whole requests as fit, oldest first; EAGAIN or waiting where there is none. */
struct thaw_kmod_request {
	__u64 page;
	__u32 why; /* enum thaw_kmod_why */
	__u32 thread;
};

enum thaw_kmod_why {
	THAW_KMOD_NO_EXTENT = 1, /* not known where it is */
	THAW_KMOD_CANNOT_DECODE =
		2, /* THAW_KMOD_OTHER, or no image was given or can be read here */
	THAW_KMOD_READ_FAILED = 3,
	THAW_KMOD_WRONG_CHECKSUM = 4, /* perhaps it was moved meanwhile */
};

#define THAW_KMOD_CREATE _IOW('T', 0xa0, struct thaw_kmod_create)
#define THAW_KMOD_REGISTER _IOW('T', 0xa1, struct thaw_kmod_register)
#define THAW_KMOD_EXTENTS _IOWR('T', 0xa2, struct thaw_kmod_extents)
#define THAW_KMOD_FILL _IOWR('T', 0xa3, struct thaw_kmod_pages)
#define THAW_KMOD_ZERO_PAGES _IOWR('T', 0xa4, struct thaw_kmod_pages)
#define THAW_KMOD_POISON _IOWR('T', 0xa5, struct thaw_kmod_pages)
#define THAW_KMOD_WAKE _IOWR('T', 0xa6, struct thaw_kmod_pages)
#define THAW_KMOD_PREFETCH _IOWR('T', 0xa7, struct thaw_kmod_pages)
#define THAW_KMOD_RESET _IOWR('T', 0xa8, struct thaw_kmod_reset)
#define THAW_KMOD_OVERFLOW _IOWR('T', 0xa9, struct thaw_kmod_overflow)
#define THAW_KMOD_ACCESSED _IOWR('T', 0xaa, struct thaw_kmod_accessed)
#define THAW_KMOD_COUNTERS _IOR('T', 0xab, struct thaw_kmod_counters)

#endif
