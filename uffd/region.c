/* SPDX-License-Identifier: MIT */
/*
 * region.c - reserving, mapping and registering a heap's address space (see region.h for the
 * drawing).
 *
 * Called by the owner while a heap is opened, resized and closed. Never touches a page of the
 * region.
 */
#define _GNU_SOURCE
#include "region.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "compat.h"
#include "kmod.h"
#include "page.h"
#include "process_memory.h"
#include "sys.h"

static int out_of_address_space(struct thaw_error *error, size_t bytes)
{
	int code = -errno;
	struct rlimit limit;

	if (code == -ENOMEM && !getrlimit(RLIMIT_AS, &limit) && limit.rlim_cur != RLIM_INFINITY)
		return error_set(
			error, code,
			"cannot reserve %zu MiB of address space: ulimit -v allows %llu MiB in all, raise that",
			bytes >> 20, (unsigned long long)limit.rlim_cur >> 20);
	return error_set(error, code, "cannot reserve %zu MiB of address space: %s%s", bytes >> 20,
			 thaw_strerror(code), code == -ENOMEM ? " (see vm.max_map_count)" : "");
}

static int no_device(struct thaw_error *error, int code, const char *doing)
{
	return error_set(error, errno_is_transient(code) ? code : THAW_EKERNEL,
			 "cannot %s " THAW_KMOD_DEVICE ": %s%s", doing, thaw_strerror(code),
			 code == -EMFILE ? " (see ulimit -n)" : "");
}

static int map_memory(struct region *region, bool plain, struct thaw_error *error)
{
	int flags = MAP_FIXED | MAP_NORESERVE, fd = -1;
	off_t offset = 0;

	region->alias = region->base;
	switch (region->backends.backing) {
	case BACKING_KMOD:
		fd = region->device = probe_open_kmod(region->max_bytes);
		if (fd < 0)
			return no_device(error, fd, "have a heap's memory from");
		flags |= MAP_SHARED;
		offset = THAW_KMOD_MEMORY_OFFSET;
		break;
	case BACKING_MEMFD: {
		int code;

		region->memfd = sys_memfd("thaw-heap");
		if (region->memfd < 0)
			return error_set(error, region->memfd, "cannot create the heap's memfd: %s",
					 thaw_strerror(region->memfd));
		code = sys_truncate(region->memfd, region->max_bytes);
		if (code)
			return error_set(error, code, "cannot size the heap's memfd to %zu MiB: %s",
					 region->max_bytes >> 20, thaw_strerror(code));
		region->alias = mmap(NULL, region->max_bytes, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_NORESERVE, region->memfd, 0);
		if (region->alias == MAP_FAILED) {
			region->alias = NULL;
			return out_of_address_space(error, region->max_bytes);
		}
		fd = region->memfd;
		flags |= MAP_SHARED;
		break;
	}
	case BACKING_ANONYMOUS:
		flags |= MAP_PRIVATE | MAP_ANONYMOUS;
		break;
	}
	if (mmap(region->base, region->max_bytes, PROT_NONE, flags, fd, offset) == MAP_FAILED)
		return out_of_address_space(error, region->max_bytes);
	/*
	 * Without huge pages: one counts as written as a whole, at its first write and at every one
	 * after a collection.
	 */
	(void)madvise(region->base, region->max_bytes, MADV_NOHUGEPAGE);
	/*
	 * A forked child has no fault service, so pages that had not arrived would read as zero
	 * there. It gets no mapping instead, and crashes rather than read wrong data.
	 */
	if (!plain)
		(void)madvise(region->base, region->max_bytes, MADV_DONTFORK);
	return 0;
}

/* The whole reservation at `address`, or none: existing mappings stay. */
static bool reserve_at(struct region *region, void *address, size_t bytes)
{
	void *at = mmap(address, bytes, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (at == MAP_FAILED)
		return false;
	if (at != address) {
		/* Before Linux 4.17 the flag means nothing, and the address is only a hint. */
		munmap(at, bytes);
		return false;
	}
	region->reservation = region->base = at;
	region->reservation_bytes = bytes;
	return true;
}

static int reserve_anywhere(struct region *region, size_t bytes, struct thaw_error *error)
{
	void *at;

	if (__builtin_add_overflow(bytes, REGION_ALIGNMENT, &bytes)) {
		errno = ENOMEM;
		return out_of_address_space(error, bytes - REGION_ALIGNMENT);
	}
	at = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		return out_of_address_space(error, bytes);
	region->reservation = at;
	region->reservation_bytes = bytes;
	region->base = (char *)(((uintptr_t)at + REGION_ALIGNMENT - 1) & ~(REGION_ALIGNMENT - 1));
	return 0;
}

/*
 * The kernel's page size, or with THAW_PAGE_BYTES a larger one: then everything is as on a kernel
 * with such pages, so that its images can be made here, and what that kernel refuses is refused.
 */
static int choose_page_bytes(struct region *region, struct thaw_error *error)
{
	const char *wish = secure_getenv("THAW_PAGE_BYTES");
	long kernel = sysconf(_SC_PAGESIZE);
	unsigned long bytes;
	char *end;

	if (kernel <= 0 || !page_bytes_possible((uint64_t)kernel))
		return error_set(
			error, THAW_EKERNEL,
			"this kernel's pages have %ld bytes, and an image's have %u to %u: "
			"another kernel is needed",
			kernel, PAGE_BYTES_LEAST, PAGE_BYTES_MOST);
	region->page_bytes = region->kernel_page_bytes = (uint32_t)kernel;
	if (!wish || !*wish)
		return 0;
	bytes = strtoul(wish, &end, 10);
	if (*end || !page_bytes_possible(bytes) || bytes < (unsigned long)kernel)
		return error_set(
			error, -EINVAL,
			"THAW_PAGE_BYTES=%s: use a power of two from %ld (this kernel's) to "
			"%u",
			wish, kernel, PAGE_BYTES_MOST);
	region->page_bytes = (uint32_t)bytes;
	return 0;
}

int region_create(struct region *region, void *address, size_t max_bytes, size_t guard_bytes,
		  enum region_kind kind, struct thaw_error *error)
{
	size_t bytes;
	int code;

	*region = (struct region){.uffd = -1, .memfd = -1, .device = -1, .image_fd = -1};
	region->max_bytes = max_bytes;
	region->guard_bytes = guard_bytes;
	region->backends.backing = BACKING_ANONYMOUS;
	code = choose_page_bytes(region, error);
	if (code)
		return code;
	if (kind != REGION_PLAIN)
		code = probe_choose(&region->backends, kind == REGION_FILLED, error);
	if (code)
		return code;
	if (__builtin_add_overflow(max_bytes, guard_bytes, &bytes)) {
		errno = ENOMEM;
		return out_of_address_space(error, max_bytes);
	}
	if (!address || !reserve_at(region, address, bytes)) {
		code = reserve_anywhere(region, bytes, error);
		if (code)
			return code;
	}
	code = map_memory(region, kind == REGION_PLAIN, error);
	if (code)
		region_destroy(region);
	return code;
}

int region_create_process(struct region *region, struct thaw_error *error)
{
	int code;

	*region = (struct region){.uffd = -1, .memfd = -1, .device = -1, .image_fd = -1};
	code = choose_page_bytes(region, error);
	if (!code)
		code = probe_choose_process(&region->backends, error);
	if (code)
		return code;
	/* Ranges of another process are the kernel's pages. */
	region->page_bytes = region->kernel_page_bytes;
	region->bytes = region->max_bytes = PROCESS_BYTES;
	region->process = process_memory_create(region->page_bytes);
	if (!region->process)
		return error_set(error, -ENOMEM, "no memory for the ranges of a process");
	return 0;
}

static int register_range(struct region *region, size_t from, size_t to, uint64_t mode,
			  struct thaw_error *error)
{
	struct uffdio_register registration = {
		.range = {.start = (uintptr_t)region->base + from, .len = to - from},
		.mode = mode,
	};
	int code;

	if (from == to || !mode)
		return 0;
	code = sys_ioctl(region->uffd, UFFDIO_REGISTER, &registration);
	if (code < 0)
		return error_set(error, code, "cannot register the heap with userfaultfd: %s",
				 thaw_strerror(code));
	return 0;
}

/* Eager delivery: the service writes the pages in place before anyone accesses them. */
static int make_loadable(struct region *region, struct thaw_error *error)
{
	int code = 0;

	if (region->backends.delivery == DELIVERY_EAGER && region->restored_bytes)
		code = sys_mprotect(region->base, region->restored_bytes, PROT_READ | PROT_WRITE);
	if (code)
		error_set(error, code, "cannot make %zu MiB of heap writable: %s",
			  region->restored_bytes >> 20, thaw_strerror(code));
	return code;
}

static int register_device(struct region *region, struct thaw_error *error)
{
	struct thaw_kmod_register registration = {
		.page_bytes = region->page_bytes,
		.restored_bytes = region->restored_bytes,
		.image_fd = region->image_fd,
	};
	int code = sys_ioctl(region->device, THAW_KMOD_REGISTER, &registration);

	return code < 0 ? no_device(error, code, "register the heap with") : 0;
}

int region_register(struct region *region, size_t restored_bytes, struct thaw_error *error)
{
	uint64_t features = 0, fresh_mode = 0;
	uint64_t restored_mode = UFFDIO_REGISTER_MODE_MISSING;
	int code;

	region->restored_bytes = restored_bytes;
	if (region->backends.delivery == DELIVERY_KMOD)
		return register_device(region, error);
	if (delivery_without_uffd(region->backends.delivery))
		return make_loadable(region, error);
	if (region->backends.tracker != TRACKER_MPROTECT) {
		features |= UFFD_FEATURE_PAGEFAULT_FLAG_WP;
		restored_mode |= UFFDIO_REGISTER_MODE_WP;
		fresh_mode |= UFFDIO_REGISTER_MODE_WP;
	}
	if (region->backends.tracker == TRACKER_WP_ASYNC)
		features |= UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED;
	else if (region->backends.tracker == TRACKER_WP_SYNC)
		fresh_mode |= UFFDIO_REGISTER_MODE_MISSING;
	if (region->backends.poison)
		features |= UFFD_FEATURE_POISON;
	region->uffd = probe_open_uffd(region->backends.delivery, features);
	if (region->uffd < 0) {
		code = region->uffd;
		return error_set(error, errno_is_transient(code) ? code : THAW_EKERNEL,
				 "cannot open userfaultfd: %s%s", thaw_strerror(code),
				 code == -EMFILE ? " (see ulimit -n)" : "");
	}
	code = register_range(region, 0, restored_bytes, restored_mode, error);
	if (!code)
		code = register_range(region, restored_bytes, region->max_bytes, fresh_mode, error);
	return code;
}

int region_resize(struct region *region, size_t bytes)
{
	size_t from = region->bytes;

	if (bytes < region->bytes || bytes > region->max_bytes)
		return -EINVAL;
	if (delivery_without_uffd(region->backends.delivery) && from < region->restored_bytes)
		from = region->restored_bytes; /* the tracker opens pages that have arrived */
	if (bytes == region->bytes)
		return 0;
	if (sys_injected(SYS_CALL_MMAP))
		return -ENOMEM;
	/* Under mprotect, the first write to a page has to be noted. */
	if (bytes > from &&
	    mprotect(region->base + from, bytes - from,
		     region->backends.tracker == TRACKER_MPROTECT ? PROT_READ
								  : PROT_READ | PROT_WRITE))
		return -errno;
	/* The fault service reads it on its thread. */
	__atomic_store_n(&region->bytes, bytes, __ATOMIC_RELAXED);
	return 0;
}

void region_destroy(struct region *region)
{
	if (region->uffd >= 0)
		close(region->uffd);
	process_memory_destroy(region->process);
	if (region->alias && region->alias != region->base)
		munmap(region->alias, region->max_bytes);
	if (region->reservation)
		munmap(region->reservation, region->reservation_bytes);
	if (region->memfd >= 0)
		close(region->memfd);
	if (region->device >= 0)
		close(region->device);
	*region = (struct region){.uffd = -1, .memfd = -1, .device = -1, .image_fd = -1};
}
