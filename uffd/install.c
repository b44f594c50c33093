/* SPDX-License-Identifier: MIT */
/*
 * install.c - see install.h. The loop around every ioctl of a userfaultfd is the same; only the
 * argument differs. It advances by the kernel's pages; one page of the image may be several of them
 * (region.h). The module (kmod.h) takes pages of the image.
 */
#define _GNU_SOURCE
#include "install.h"

#include <errno.h>
#include <sched.h>

#include "compat.h"
#include "kmod.h"
#include "sys.h"

enum install_outcome install_classify(int result, int64_t done, uint64_t length, uint64_t *advanced)
{
	*advanced = done > 0 ? (uint64_t)done : 0;
	if (*advanced > length)
		return INSTALL_FATAL;
	if (result >= 0)
		return *advanced == length ? INSTALL_DONE : INSTALL_PARTIAL;
	/*
	 * The ioctl fails with EAGAIN both when it was interrupted half way (done > 0) and when
	 * the address space is changing.
	 */
	switch (result) {
	case -EAGAIN:
		return *advanced	 ? INSTALL_PARTIAL
		       : done == -EEXIST ? INSTALL_EXISTS
					 : INSTALL_RETRY;
	case -EEXIST:
		return INSTALL_EXISTS;
	case -ESRCH:
	case -ENOENT: /* the range is not registered (any more) */
		return INSTALL_GONE;
	default:
		return INSTALL_FATAL;
	}
}

/*
 * The same with the module, which skips by itself what exists already. A call that a signal ended
 * (also work that io_uring leaves to this thread) says how far it got.
 */
static int install_by_device(struct region *region, unsigned long request, uint64_t first,
			     uint64_t count, const char *source)
{
	while (count) {
		struct thaw_kmod_pages pages = {
			.first = first, .count = count, .source = (uintptr_t)source};
		int result = sys_ioctl_once(region->device, request, &pages);

		if (pages.done > count)
			return -EIO;
		if (result < 0 && result != -EINTR)
			return result;
		if (result >= 0 && !pages.done)
			return -EIO; /* it would never end */
		first += pages.done;
		count -= pages.done;
		if (source)
			source += pages.done * region->page_bytes;
	}
	return 0;
}

/* Under mprotect tracking the mapping is protected instead. */
static bool protects(const struct region *region)
{
	return region->backends.tracker != TRACKER_MPROTECT;
}

/* One ioctl over [start, start + length). Returns 0 or -errno; *done as the kernel wrote it. */
static int install_once(const struct region *region, enum install_operation operation,
			uint64_t start, uint64_t length, const char *source, bool protect,
			int64_t *done)
{
	struct uffdio_range range = {.start = start, .len = length};
	int result;

	switch (operation) {
	case INSTALL_COPY: {
		struct uffdio_copy copy = {
			.dst = start,
			.src = (uintptr_t)source,
			.len = length,
			.mode = protect ? UFFDIO_COPY_MODE_WP : 0,
		};

		result = sys_ioctl(region->uffd, UFFDIO_COPY, &copy);
		*done = copy.copy;
		return result;
	}
	case INSTALL_ZERO: {
		struct uffdio_zeropage zero = {.range = range};

		result = sys_ioctl(region->uffd, UFFDIO_ZEROPAGE, &zero);
		*done = zero.zeropage;
		return result;
	}
	default: {
		struct uffdio_poison poison = {.range = range};

		result = sys_ioctl(region->uffd, UFFDIO_POISON, &poison);
		*done = poison.updated;
		return result;
	}
	}
}

static int wake_range(const struct region *region, uint64_t start, uint64_t length)
{
	struct uffdio_range range = {.start = start, .len = length};

	return sys_ioctl(region->uffd, UFFDIO_WAKE, &range);
}

static int install_range(struct region *region, enum install_operation operation, uint64_t first,
			 uint64_t count, const char *source)
{
	static const unsigned long requests[] = {[INSTALL_COPY] = THAW_KMOD_FILL,
						 [INSTALL_ZERO] = THAW_KMOD_ZERO_PAGES,
						 [INSTALL_POISON] = THAW_KMOD_POISON};
	uint64_t start = (uintptr_t)region->base + first * region->page_bytes;
	uint64_t length = count * region->page_bytes, most = length;

	if (region->device >= 0)
		return install_by_device(region, requests[operation], first, count, source);
	while (length) {
		int64_t done = 0;
		uint64_t advanced, part = length < most ? length : most;
		int result = install_once(region, operation, start, part, source, protects(region),
					  &done);

		switch (install_classify(result, done, part, &advanced)) {
		case INSTALL_DONE:
		case INSTALL_PARTIAL:
			break;
		case INSTALL_EXISTS:
			/*
			 * The kernel wakes no thread for a page that existed: its waiters faulted
			 * while we installed it.
			 */
			if (!advanced) {
				advanced = region->kernel_page_bytes;
				result = wake_range(region, start, advanced);
				if (result)
					return result;
			}
			break;
		case INSTALL_RETRY:
			sched_yield();
			break;
		case INSTALL_GONE:
			/*
			 * ENOENT also when the range crosses a border of two mappings, as
			 * mprotect() by the program makes: then each page is installed alone.
			 */
			if (result == -ENOENT && part > region->kernel_page_bytes) {
				most = region->kernel_page_bytes;
				break;
			}
			return -ESRCH;
		case INSTALL_FATAL:
			return result ? result : -EIO;
		}
		start += advanced;
		length -= advanced;
		if (source)
			source += advanced;
	}
	return 0;
}

int install_some(const struct region *region, enum install_operation operation, uint64_t first,
		 uint64_t count, const char *source, bool protect, uint64_t *done)
{
	uint64_t bytes = region->page_bytes, most = count;
	int code = 0;

	for (*done = 0; *done < count && !code;) {
		uint64_t start = (first + *done) * bytes, advanced;
		uint64_t part = count - *done < most ? count - *done : most;
		int64_t put = 0;
		int result = install_once(region, operation, start, part * bytes,
					  source ? source + *done * bytes : NULL, protect, &put);

		switch (install_classify(result, put, part * bytes, &advanced)) {
		case INSTALL_DONE:
		case INSTALL_PARTIAL:
			break;
		case INSTALL_EXISTS:
			if (!advanced) {
				advanced = bytes;
				code = wake_range(region, start, bytes);
			}
			break;
		case INSTALL_RETRY:
			code = -EAGAIN;
			break;
		case INSTALL_GONE:
			if (result == -ESRCH || part == 1)
				code = result;
			most = 1;
			break;
		case INSTALL_FATAL:
			/* Registered, but not for writes. */
			if (result == -EINVAL && protect)
				protect = false;
			else
				code = result ? result : -EIO;
		}
		*done += advanced / bytes;
	}
	return code;
}

int install_probe(const struct region *region, uint64_t page)
{
	struct uffdio_continue probe = {
		.range = {.start = page * region->page_bytes, .len = region->page_bytes}};
	int result = sys_ioctl(region->uffd, UFFDIO_CONTINUE, &probe);

	return result == -ENOENT ? 0 : result == -EAGAIN || result == -ESRCH ? result : 1;
}

int install_pages(struct region *region, uint64_t first, uint64_t count, const void *source)
{
	return install_range(region, INSTALL_COPY, first, count, source);
}

int install_zero(struct region *region, uint64_t first, uint64_t count)
{
	return install_range(region, INSTALL_ZERO, first, count, NULL);
}

int install_poison(struct region *region, uint64_t first, uint64_t count)
{
	int code;

	if (region->backends.poison)
		return install_range(region, INSTALL_POISON, first, count, NULL);
	code = sys_mprotect(region->base + first * region->page_bytes, count * region->page_bytes,
			    PROT_NONE);
	return code || (region->uffd < 0 && region->device < 0)
		       ? code
		       : install_wake(region, first, count);
}

static int protect_range(struct region *region, uint64_t start, uint64_t length, bool protect)
{
	struct uffdio_writeprotect protection = {
		.range = {.start = start, .len = length},
		.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};
	int result;

	while ((result = sys_ioctl(region->uffd, UFFDIO_WRITEPROTECT, &protection)) == -EAGAIN)
		sched_yield();
	return result;
}

int install_protection(struct region *region, uint64_t first, uint64_t count, bool protect)
{
	uint64_t start = (uintptr_t)region->base + first * region->page_bytes;
	uint64_t length = count * region->page_bytes, part = region->kernel_page_bytes;
	int result = protect_range(region, start, length, protect);

	/* Before Linux 6.4, also where two mappings meet (see above): then one after the other. */
	if (result == -ENOENT && length > part)
		for (result = 0; !result && length; start += part, length -= part)
			result = protect_range(region, start, part, protect);
	return result == -ENOENT ? -ESRCH : result;
}

int install_wake(struct region *region, uint64_t first, uint64_t count)
{
	if (region->device >= 0)
		return install_by_device(region, THAW_KMOD_WAKE, first, count, NULL);
	return wake_range(region, (uintptr_t)region->base + first * region->page_bytes,
			  count * region->page_bytes);
}
