/* SPDX-License-Identifier: MIT */
/*
 * fault_kmod.c - see fault_kmod.h. The module brings a page on the thread that touched it, if it
 * knows where in the image the page is (its extent). So the service tells extents: of what is asked
 * for, then of a neighbourhood of it, in steps between which it answers requests. What the module
 * cannot bring, the service reads and installs (fault_pages.c).
 *
 * Runs on the fault service's thread, but for the counters. An extent may be out of date, since a
 * commit can move a page: then the module finds another checksum and asks, and never shows wrong
 * contents.
 *
 * Must never: take a damaged part of the index for a failure before a page of it is touched; tell
 * much where little is touched: an extent takes 40 bytes of the kernel, and its part of the index
 * 70 here.
 */
#define _GNU_SOURCE
#include "fault_kmod.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "install.h"
#include "kmod.h"
#include "sys.h"

/* Told at once: 32 leaves of the index, 16 KiB, one chunk of the module's. */
#define STEP_PAGES 512u
/*
 * The neighbourhood: 2 MiB of pages of 4 KiB, and twice as much after each so many requests, up to
 * 16 MiB.
 */
#define NEAR_REQUESTS 8u
#define NEAR_DOUBLINGS 3u
/*
 * A heap with no more pages (256 MiB of 4 KiB) is told as a whole, once anything was asked for: 7
 * MiB in all.
 */
#define WHOLE_PAGES 65536u
#define REQUESTS 32u /* read from the kernel at once */

struct fault_kmod {
	struct bitmap told;	      /* leaves of the index */
	bool cannot_read;	      /* the module cannot read this image: nothing is told */
	unsigned asked;		      /* requests that were answered with extents */
	uint64_t near_next, near_end; /* pages of the neighbourhood that is being told */
	uint64_t rest_next;	      /* likewise of the whole heap */
	/* By the module, when it last said; the caller's of fault_kmod_counters(). */
	struct fault_counters counted;
	struct thaw_kmod_extent extents[STEP_PAGES];
};

int fault_kmod_start(struct fault_service *service)
{
	struct fault_kmod *kmod = calloc(1, sizeof(*kmod));

	if (!kmod)
		return -ENOMEM;
	if (bitmap_init(&kmod->told, service->restored_pages / IMAGE_LEAF_PAGES + 1)) {
		free(kmod);
		return -ENOMEM;
	}
	service->kmod = kmod;
	return 0;
}

void fault_kmod_stop(struct fault_service *service)
{
	if (!service->kmod)
		return;
	bitmap_free(&service->kmod->told);
	free(service->kmod);
	service->kmod = NULL;
}

/* ---- telling ---- */

/*
 * The first `count` extents are those of the pages from `first` on. 0, or -ENOMEM: the module has
 * no room for them.
 */
static int tell(struct fault_service *service, uint64_t first, uint64_t count)
{
	struct fault_kmod *kmod = service->kmod;
	uint64_t done = 0;

	while (done < count) {
		struct thaw_kmod_extents extents = {
			.first = first + done,
			.count = count - done,
			.extents = (uintptr_t)&kmod->extents[done],
		};
		int result = sys_ioctl_once(service->region->device, THAW_KMOD_EXTENTS, &extents);

		if (result == -ENOMEM)
			return result;
		if (result >= 0 && extents.done != extents.count)
			result = -EIO;
		if (result != -EINTR)
			service_check(service, result, "tell the module where pages are");
		done += extents.done;
	}
	return 0;
}

static void extent_for_module(struct thaw_kmod_extent *to, const struct extent *from)
{
	*to = (struct thaw_kmod_extent){.encoding = THAW_KMOD_ZERO};
	if (!extent_is_stored(from))
		return; /* what was never stored is zero, too */
	to->encoding = extent_is_whole(from) ? THAW_KMOD_RAW : THAW_KMOD_OTHER;
	if (!extent_is_whole(from))
		return;
	to->offset = from->offset;
	to->checksum[0] = from->checksum.low64;
	to->checksum[1] = from->checksum.high64;
}

static uint64_t leaf_pages(const struct fault_service *service, uint64_t leaf)
{
	uint64_t first = leaf * IMAGE_LEAF_PAGES, left = service->restored_pages - first;

	return left < IMAGE_LEAF_PAGES ? left : IMAGE_LEAF_PAGES;
}

/*
 * Tells of one leaf, again if need be. false: the index is damaged there, or the module has no
 * room.
 */
static bool tell_leaf(struct fault_service *service, uint64_t leaf)
{
	struct extent extents[IMAGE_LEAF_PAGES];
	uint64_t count = leaf_pages(service, leaf);

	if (image_lookup(service->options.image, leaf * IMAGE_LEAF_PAGES, extents, NULL))
		return false;
	for (uint64_t i = 0; i < count; i++)
		extent_for_module(&service->kmod->extents[i], &extents[i]);
	bitmap_set(&service->kmod->told, leaf);
	return !tell(service, leaf * IMAGE_LEAF_PAGES, count);
}

/*
 * Tells of at most STEP_PAGES pages, those of whose leaves nothing was told before. A leaf that is
 * damaged is passed over, and so is what the module has no room for: who touches a page of it asks.
 */
static void tell_pages(struct fault_service *service, uint64_t first, uint64_t end)
{
	struct fault_kmod *kmod = service->kmod;
	struct extent extents[IMAGE_LEAF_PAGES];
	uint64_t leaf = first / IMAGE_LEAF_PAGES, from = leaf * IMAGE_LEAF_PAGES, count = 0;

	for (; leaf * IMAGE_LEAF_PAGES < end; leaf++) {
		uint64_t page = leaf * IMAGE_LEAF_PAGES;
		bool skip = bitmap_test(&kmod->told, leaf);

		if (!skip) {
			bitmap_set(&kmod->told, leaf);
			skip = image_lookup(service->options.image, page, extents, NULL);
		}
		if (count && (skip || count + IMAGE_LEAF_PAGES > STEP_PAGES)) {
			(void)tell(service, from, count);
			count = 0;
		}
		if (skip)
			continue;
		from = count ? from : page;
		for (uint64_t i = 0; i < leaf_pages(service, leaf); i++)
			extent_for_module(&kmod->extents[count++], &extents[i]);
	}
	if (count)
		(void)tell(service, from, count);
}

bool fault_kmod_tell_near(struct fault_service *service)
{
	struct fault_kmod *kmod = service->kmod;
	uint64_t first = kmod->near_next, end = first + STEP_PAGES;

	if (kmod->cannot_read || first >= kmod->near_end)
		return false;
	kmod->near_next = end < kmod->near_end ? end : kmod->near_end;
	tell_pages(service, first, kmod->near_next);
	return kmod->near_next < kmod->near_end;
}

bool fault_kmod_tell_rest(struct fault_service *service)
{
	struct fault_kmod *kmod = service->kmod;
	uint64_t first, end;

	if (kmod->cannot_read || !kmod->asked || service->restored_pages > WHOLE_PAGES ||
	    kmod->rest_next >= service->restored_pages)
		return false;
	/* What was never stored is left out: it may be most of the heap. */
	first = image_next(service->options.image, kmod->rest_next);
	if (first >= service->restored_pages) {
		kmod->rest_next = service->restored_pages;
		return false;
	}
	end = (first / STEP_PAGES + 1) * STEP_PAGES;
	kmod->rest_next = end < service->restored_pages ? end : service->restored_pages;
	tell_pages(service, first, kmod->rest_next);
	return true;
}

/* From now on, while nobody asks, the module is told what is around this page. */
static void tell_near_next(struct fault_service *service, uint64_t page, uint64_t pages)
{
	struct fault_kmod *kmod = service->kmod;

	kmod->near_next = page - page % pages;
	kmod->near_end = kmod->near_next + pages;
	if (kmod->near_end > service->restored_pages)
		kmod->near_end = service->restored_pages;
}

/* ---- requests ---- */

/* The module does not know where the page is. false: it cannot be told. */
static bool answer_with_extents(struct fault_service *service, uint64_t page)
{
	struct fault_kmod *kmod = service->kmod;
	unsigned doublings = kmod->asked / NEAR_REQUESTS;

	if (kmod->cannot_read || !tell_leaf(service, page / IMAGE_LEAF_PAGES))
		return false;
	kmod->asked++;
	tell_near_next(service, page,
		       (uint64_t)STEP_PAGES
			       << (doublings < NEAR_DOUBLINGS ? doublings : NEAR_DOUBLINGS));
	return true;
}

static bool page_is_packed(struct fault_service *service, uint64_t page)
{
	uint64_t leaf = page - page % IMAGE_LEAF_PAGES;
	struct extent extents[IMAGE_LEAF_PAGES];

	return !image_lookup(service->options.image, leaf, extents, NULL) &&
	       extent_is_packed(&extents[page - leaf]);
}

static void serve(struct fault_service *service, const struct thaw_kmod_request *request)
{
	struct fault_kmod *kmod = service->kmod;
	uint64_t page = request->page;

	if (page >= service->restored_pages)
		return; /* of those none is asked for */
	/* It was brought, or poisoned, since it was asked for. */
	if (bitmap_test(&service->arrived, page)) {
		service_check(service, install_wake(service->region, page, 1), "wake a fault");
		return;
	}
	switch (request->why) {
	case THAW_KMOD_NO_EXTENT:
		if (answer_with_extents(service, page))
			return; /* the module counts it when it has brought the page */
		break;
	case THAW_KMOD_CANNOT_DECODE: /* a packed page; or it can read nothing at all */
		kmod->cannot_read |= !page_is_packed(service, page);
		break;
	case THAW_KMOD_WRONG_CHECKSUM: { /* if it was moved, others were, too */
		uint64_t leaf = page / STEP_PAGES * (STEP_PAGES / IMAGE_LEAF_PAGES);

		bitmap_clear_range(&kmod->told, leaf, STEP_PAGES / IMAGE_LEAF_PAGES);
		tell_near_next(service, page, STEP_PAGES);
		break;
	}
	default:
		break;
	}
	count_up(&service->faults, 1);
	if (service->options.recorder)
		service_note_access(service, page);
	service_bring(service, page);
}

void fault_kmod_serve(struct fault_service *service)
{
	struct thaw_kmod_request requests[REQUESTS];
	ssize_t got;

	service->faults_wait = false;
	do {
		got = read(service->region->device, requests, sizeof(requests));
		if (got < 0 && errno != EAGAIN && errno != EINTR)
			service_check(service, -errno, "read requests of the module");
		for (ssize_t i = 0; i < got / (ssize_t)sizeof(requests[0]); i++)
			serve(service, &requests[i]);
	} while (got == sizeof(requests) || (got < 0 && errno == EINTR));
}

/* ---- bringing ahead ---- */

/* How many of these pages the module could not bring. */
static uint64_t bring(struct fault_service *service, uint64_t first, uint64_t count)
{
	uint64_t skipped = 0;

	while (count) {
		struct thaw_kmod_pages pages = {.first = first, .count = count};
		int result = sys_ioctl_once(service->region->device, THAW_KMOD_PREFETCH, &pages);

		skipped += pages.skipped;
		if (pages.done > count || (result < 0 && result != -EINTR) ||
		    (result >= 0 && pages.done < count))
			return skipped + count; /* whatever it is: the service tries */
		first += pages.done;
		count -= pages.done;
	}
	return skipped;
}

/* Pages that follow each other and are stored, and where their bytes are. */
struct stored_run {
	uint64_t first, count, offset, bytes;
};

/*
 * The first run in [*page, end), which moves behind it. false: there is none, or the index is
 * damaged (*page < end). `packed` becomes true if there are pages that the module cannot decode.
 */
static bool next_run(struct fault_service *service, uint64_t *page, uint64_t end,
		     struct stored_run *run, bool *packed)
{
	uint32_t page_bytes = service->region->page_bytes;
	struct extent extents[IMAGE_LEAF_PAGES];
	uint64_t leaf = UINT64_MAX;

	*run = (struct stored_run){0};
	for (; *page < end; ++*page) {
		const struct extent *extent = &extents[*page % IMAGE_LEAF_PAGES];

		if (*page / IMAGE_LEAF_PAGES != leaf) {
			leaf = *page / IMAGE_LEAF_PAGES;
			if (image_lookup(service->options.image, leaf * IMAGE_LEAF_PAGES, extents,
					 NULL))
				break;
		}
		*packed |= extent_is_packed(extent);
		if (!extent_is_whole(extent) ||
		    (run->count && extent->offset != run->offset + run->bytes)) {
			if (run->count)
				break;
			continue;
		}
		if (!run->count)
			*run = (struct stored_run){.first = *page, .offset = extent->offset};
		run->count++;
		run->bytes += page_bytes;
	}
	return run->count;
}

/*
 * The module reads one run after the other; the kernel is told of all of them first, so that a disk
 * has more than one read at a time. What is zero is left absent, which costs no memory.
 */
bool fault_kmod_prefetch(struct fault_service *service, uint64_t cluster, unsigned clusters)
{
	uint64_t first = cluster * service->cluster_pages, page = first;
	uint64_t end = first + (uint64_t)clusters * service->cluster_pages, skipped = 0;
	struct stored_run run;
	bool packed = false;

	if (service->kmod->cannot_read)
		return false;
	if (end > service->restored_pages)
		end = service->restored_pages;
	tell_pages(service, first, end);
	while (next_run(service, &page, end, &run, &packed))
		(void)posix_fadvise(image_fd(service->options.image), (off_t)run.offset,
				    (off_t)run.bytes, POSIX_FADV_WILLNEED);
	if (page < end)
		return false;
	for (page = first; next_run(service, &page, end, &run, &packed);)
		skipped += bring(service, run.first, run.count);
	return !skipped && !packed;
}

uint64_t fault_kmod_absent(struct fault_service *service, uint64_t first, uint64_t count)
{
	struct fault_kmod *kmod = service->kmod;

	/* From here on the module does not bring them any more ... */
	for (uint64_t done = 0; done < count;) {
		uint64_t part = count - done < STEP_PAGES ? count - done : STEP_PAGES;

		for (uint64_t i = 0; i < part; i++)
			kmod->extents[i] = (struct thaw_kmod_extent){.encoding = THAW_KMOD_OTHER};
		if (tell(service, first + done, part))
			break;
		done += part;
	}
	/* ... so that these are those which it had not brought before. */
	if (bring(service, first, count) == count)
		return count;
	return bring(service, first, 1);
}

/* ---- counters ---- */

void fault_kmod_counters(const struct fault_service *service, struct fault_counters *counters)
{
	struct fault_kmod *kmod = service->kmod;
	struct thaw_kmod_counters now;

	if (!sys_ioctl(service->region->device, THAW_KMOD_COUNTERS, &now))
		kmod->counted = (struct fault_counters){
			.faults = now.faults_served,
			.pages_restored = now.pages_restored,
			.restore_bytes = now.bytes_read,
		};
	counters->faults += kmod->counted.faults;
	/* The service's are among them. */
	if (counters->pages_restored < kmod->counted.pages_restored)
		counters->pages_restored = kmod->counted.pages_restored;
	counters->restore_bytes += kmod->counted.restore_bytes;
}
