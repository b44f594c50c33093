// SPDX-License-Identifier: GPL-2.0-only
/*
 * fill.c - brings absent pages out of the image, in the thread that touches them.
 *
 * The image is read through its page cache, as a fault of a mapped file does it: a touch can come
 * from inside of a write(2) to the same image, whose locks a read(2) in here would want again.
 * Contents are compared with the checksum after they were copied, when nobody can change them any
 * more. Until the page has arrived nobody can map it.
 *
 * Pages of a block are brought by who holds its bit. Never waits for user space.
 */
#include <linux/bitops.h>
#include <linux/blkdev.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/highmem.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <linux/wait_bit.h>

#include "checksum.h"
#include "compat.h"
#include "fill.h"
#include "memory.h"
#include "requests.h"

/* Of the kernel, in an image page; and in one that begins in the middle of one. */
#define MOST_PARTS (THAW_BLOCK_BYTES / PAGE_SIZE)
#define MOST_SOURCES (MOST_PARTS + 1)

/* ---- The image */

struct file *thaw_image_open(int fd)
{
	struct file *given = fget(fd), *image;

	if (!given)
		return ERR_PTR(-EBADF);
	if (!(given->f_mode & FMODE_READ) || !S_ISREG(file_inode(given)->i_mode)) {
		fput(given);
		return ERR_PTR(-EINVAL);
	}
	/*
	 * A description of its own: the one given can have a lock, which must go when user space
	 * closes it.
	 */
	image = dentry_open(&given->f_path, O_RDONLY | O_LARGEFILE, current_cred());
	fput(given);
	if (IS_ERR(image))
		return image;
	/* Read exactly what is asked for, no pages behind it. */
	spin_lock(&image->f_lock);
	image->f_mode |= FMODE_RANDOM;
	spin_unlock(&image->f_lock);
	return image;
}

bool thaw_image_readable(const struct file *image)
{
	return image->f_mapping->a_ops->read_folio;
}

/* ---- Blocks */

u64 thaw_block_end(const struct thaw_region *region, u64 page)
{
	u64 pages = THAW_BLOCK_BYTES >> region->page_shift;

	return min(round_down(page, pages) + pages, region->restored_pages);
}

static unsigned long *block_word(struct thaw_region *region, struct thaw_chunk *chunk, u64 page,
				 unsigned int *bit)
{
	unsigned int block = page % THAW_CHUNK_PAGES / (THAW_BLOCK_BYTES >> region->page_shift);

	*bit = block % BITS_PER_LONG;
	return chunk->filling + BIT_WORD(block);
}

int thaw_block_lock(struct thaw_region *region, struct thaw_chunk *chunk, u64 page)
{
	unsigned int bit;
	unsigned long *word = block_word(region, chunk, page, &bit);

	return wait_on_bit_lock(word, bit, TASK_KILLABLE);
}

static bool block_trylock(struct thaw_region *region, struct thaw_chunk *chunk, u64 page)
{
	unsigned int bit;
	unsigned long *word = block_word(region, chunk, page, &bit);

	return !test_and_set_bit_lock(bit, word);
}

void thaw_block_unlock(struct thaw_region *region, struct thaw_chunk *chunk, u64 page)
{
	unsigned int bit;
	unsigned long *word = block_word(region, chunk, page, &bit);

	clear_and_wake_up_bit(bit, word);
}

/* ---- Reading */

/* What can be read in here: where it is, if the page is absent and raw. */
static bool page_is_raw(struct thaw_region *region, u64 page, struct thaw_place *place)
{
	return region->readable && !thaw_page_settled(region, page) &&
	       thaw_place_get(region, page, place) && place->encoding == THAW_KMOD_RAW;
}

static void read_ahead_range(struct thaw_region *region, u64 offset, u64 bytes)
{
	struct file *image = region->image;
	pgoff_t first = offset >> PAGE_SHIFT;
	struct file_ra_state window;

	if (!bytes)
		return;
	/* Not the file's: other threads read, too. */
	file_ra_state_init(&window, image->f_mapping);
	page_cache_sync_readahead(image->f_mapping, &window, image, first,
				  ((offset + bytes - 1) >> PAGE_SHIFT) - first + 1);
}

void thaw_fill_read_ahead(struct thaw_region *region, u64 first, u64 count)
{
	u64 offset = 0, bytes = 0, page;
	struct thaw_place place;
	struct blk_plug plug;

	blk_start_plug(&plug);
	for (page = first; page < first + count; page++) {
		if (!page_is_raw(region, page, &place))
			continue;
		if (bytes && place.offset == offset + bytes) {
			bytes += region->page_bytes;
			continue;
		}
		read_ahead_range(region, offset, bytes);
		offset = place.offset;
		bytes = region->page_bytes;
	}
	read_ahead_range(region, offset, bytes);
	blk_finish_plug(&plug);
}

static struct folio *source_find(struct file *image, pgoff_t index)
{
	struct folio *folio = thaw_folio_find(image->f_mapping, index);

	if (folio && folio_test_uptodate(folio))
		return folio;
	if (folio)
		folio_put(folio);
	return ERR_PTR(-EAGAIN);
}

/*
 * read_mapping_folio() does not let itself be killed while it waits for what is being read already,
 * as by us in thaw_fill_read_ahead(): that may never end where the file system is a server's.
 */
static struct folio *source_read(struct file *image, pgoff_t index)
{
	struct folio *folio = thaw_folio_find(image->f_mapping, index);
	int error = 0;

	if (folio) {
		if (!folio_test_uptodate(folio))
			error = folio_wait_locked_killable(folio);
		folio_put(folio);
	}
	if (error)
		return ERR_PTR(error);
	folio = read_mapping_folio(image->f_mapping, index, image);
	/* Of the file system. In here it says that whoever may wait has to try again, for ever. */
	return folio == ERR_PTR(-EAGAIN) ? ERR_PTR(-EIO) : folio;
}

/* With a reference. */
static struct folio *source_get(struct file *image, pgoff_t index, bool may_wait)
{
	struct folio *folio;

	folio = may_wait ? source_read(image, index) : source_find(image, index);
	/* Memory that fails must not be read. */
	if (!IS_ERR(folio) && PageHWPoison(folio_file_page(folio, index))) {
		folio_put(folio);
		return ERR_PTR(-EIO);
	}
	return folio;
}

static void sources_put(struct folio **sources, unsigned int count)
{
	while (count--)
		folio_put(sources[count]);
}

/* The folios of the image that have the page; how many, or an error. */
static int sources_get(struct thaw_region *region, u64 offset, struct folio **sources,
		       bool may_wait)
{
	u64 last = offset + region->page_bytes - 1;
	pgoff_t index = offset >> PAGE_SHIFT;
	unsigned int count = 0;

	/* Behind the end a page cache has zeros. */
	if (last >= i_size_read(region->image->f_mapping->host))
		return -ENODATA;
	for (; index <= last >> PAGE_SHIFT; index++) {
		struct folio *folio = source_get(region->image, index, may_wait);

		if (IS_ERR(folio)) {
			sources_put(sources, count);
			return PTR_ERR(folio);
		}
		sources[count++] = folio;
	}
	return count;
}

static void copy_from_folio(char *to, struct folio *folio, u64 offset, size_t bytes)
{
	char *from = kmap_local_folio(folio, offset_in_folio(folio, offset));

	memcpy(to, from, bytes);
	kunmap_local(from);
}

/*
 * A page of the kernel gets what is at `offset` of the image, in the first of `sources`, and
 * perhaps in the second.
 */
static void copy_part(struct page *page, struct folio **sources, u64 offset)
{
	size_t bytes = PAGE_SIZE - offset_in_page(offset);
	char *to = kmap_local_page(page);

	copy_from_folio(to, sources[0], offset, bytes);
	if (bytes < PAGE_SIZE)
		copy_from_folio(to + bytes, sources[1], offset + bytes, PAGE_SIZE - bytes);
	flush_dcache_page(page);
	kunmap_local(to);
}

static void parts_put(struct page **parts, unsigned int count)
{
	while (count--)
		put_page(parts[count]);
}

/* Copies a page out of the image into the memory, and compares it there. */
static int copy_and_compare(struct thaw_region *region, u64 page, const struct thaw_place *place,
			    struct folio **sources)
{
	pgoff_t index = thaw_page_index(region, page);
	unsigned int count = thaw_page_parts(region), i;
	struct page *parts[MOST_PARTS];
	int error = 0;

	for (i = 0; i < count; i++) {
		parts[i] = thaw_memory_lock_page(region, index + i);
		if (IS_ERR(parts[i])) {
			error = PTR_ERR(parts[i]);
			break;
		}
		copy_part(parts[i], sources + i, place->offset + i * PAGE_SIZE);
		set_page_dirty(parts[i]);
		unlock_page(parts[i]);
	}
	if (!error && !thaw_checksum_right(parts, count, place->checksum))
		error = -EBADMSG;
	parts_put(parts, i);
	if (error)
		thaw_memory_discard(region, page);
	return error;
}

/* 0, or what went wrong. */
static int read_page(struct thaw_region *region, u64 page, const struct thaw_place *place,
		     bool may_wait)
{
	struct folio *sources[MOST_SOURCES];
	int count = sources_get(region, place->offset, sources, may_wait);
	int error;

	if (count < 0)
		return count;
	error = copy_and_compare(region, page, place, sources);
	sources_put(sources, count);
	if (!error || error == -EBADMSG)
		atomic64_add(region->page_bytes, &region->bytes_read);
	return error;
}

/* ---- Pages */

static int absent_because(struct thaw_absence *absence, enum thaw_kmod_why why)
{
	absence->why = why;
	return -ENODATA;
}

static int read_failed(struct thaw_region *region, u64 page, int error,
		       struct thaw_absence *absence)
{
	atomic64_inc(&region->read_errors);
	thaw_event(region, THAW_EVENT_READ_ERROR, page, error);
	if (error == -EBADMSG)
		return absent_because(absence, THAW_KMOD_WRONG_CHECKSUM);
	return absent_because(absence, THAW_KMOD_READ_FAILED);
}

int thaw_fill_page(struct thaw_region *region, struct thaw_chunk *chunk, u64 page, bool may_wait,
		   struct thaw_absence *absence)
{
	int error;

	if (thaw_page_settled(region, page))
		return 0;
	if (!thaw_place_get(region, page, &absence->place))
		return absent_because(absence, THAW_KMOD_NO_EXTENT);
	if (absence->place.encoding == THAW_KMOD_RAW && region->readable) {
		error = read_page(region, page, &absence->place, may_wait);
		if (error == -EAGAIN || error == -ENOMEM)
			return error;
		if (error && fatal_signal_pending(current))
			return -EINTR;
		if (error)
			return read_failed(region, page, error, absence);
	} else if (absence->place.encoding != THAW_KMOD_ZERO) {
		return absent_because(absence, THAW_KMOD_CANNOT_DECODE);
	}
	/* An absent page that is in nobody's hands is zero already. */
	thaw_page_arrive(region, chunk, page);
	return 0;
}

static void accessed_push(struct thaw_region *region, u64 page)
{
	struct thaw_accessed *accessed = &region->accessed;

	spin_lock(&accessed->lock);
	if (accessed->count < accessed->room)
		accessed->pages[(accessed->first + accessed->count++) % accessed->room] = page;
	spin_unlock(&accessed->lock);
}

static bool accessed_pop(struct thaw_accessed *accessed, u64 *page)
{
	bool found;

	spin_lock(&accessed->lock);
	found = accessed->count;
	if (found) {
		*page = accessed->pages[accessed->first];
		accessed->first = (accessed->first + 1) % accessed->room;
		accessed->count--;
	}
	spin_unlock(&accessed->lock);
	return found;
}

/* What cannot be told is forgotten: it is a hint. */
int thaw_fill_accessed(struct thaw_region *region, struct thaw_kmod_accessed *accessed)
{
	u64 __user *to = u64_to_user_ptr(accessed->pages);
	u64 page;

	for (; accessed->done < accessed->room; accessed->done++) {
		if (!accessed_pop(&region->accessed, &page))
			break;
		if (put_user(page, to + accessed->done))
			return -EFAULT;
		cond_resched();
	}
	return 0;
}

/* The pages of a block that nobody waits for. Errors are for those who touch them. */
static void fill_around(struct thaw_region *region, struct thaw_chunk *chunk, u64 first, u64 end,
			bool may_wait)
{
	struct thaw_absence absence;
	u64 page;
	int error;

	for (page = first; page < end; page++) {
		error = thaw_fill_page(region, chunk, page, may_wait, &absence);
		if (error == -EINTR || error == -ENOMEM)
			break;
	}
}

/* The first page of the cluster of a page, and the first behind it. */
static void cluster_of(struct thaw_region *region, u64 page, u64 *first, u64 *end)
{
	u64 pages = READ_ONCE(thaw_tunables.cluster_bytes) >> region->page_shift;

	*first = round_down(page, pages);
	*end = min(*first + pages, region->restored_pages);
}

/* The other blocks of a cluster: as far as nobody else has them. */
static void fill_other_blocks(struct thaw_region *region, u64 touched, u64 first, u64 end,
			      bool may_wait)
{
	u64 page, next;

	for (page = first; page < end && !fatal_signal_pending(current); page = next) {
		struct thaw_chunk *chunk = thaw_chunk_find(region, page);

		next = thaw_block_end(region, page);
		/* No chunk, no place known. */
		if (!chunk || (touched >= page && touched < next) ||
		    !block_trylock(region, chunk, page))
			continue;
		fill_around(region, chunk, page, next, may_wait);
		thaw_block_unlock(region, chunk, page);
	}
	thaw_requests_wake(region, first, end - first);
}

int thaw_fill_touched(struct thaw_region *region, u64 page, bool may_wait,
		      struct thaw_absence *absence)
{
	struct thaw_chunk *chunk = thaw_chunk_make(region, page);
	u64 block = round_down(page, THAW_BLOCK_BYTES >> region->page_shift);
	u64 end = thaw_block_end(region, page), cluster, cluster_end;
	bool was_settled;
	int error;

	if (!chunk)
		return -ENOMEM;
	memset(absence, 0, sizeof(*absence));
	cluster_of(region, page, &cluster, &cluster_end);
	if (may_wait)
		thaw_fill_read_ahead(region, cluster, cluster_end - cluster);
	if (!may_wait && !block_trylock(region, chunk, page))
		return -EAGAIN;
	if (may_wait && thaw_block_lock(region, chunk, page))
		return -EINTR;
	was_settled = thaw_page_settled(region, page);
	error = thaw_fill_page(region, chunk, page, may_wait, absence);
	if (!error && !was_settled)
		fill_around(region, chunk, block, end, may_wait);
	thaw_block_unlock(region, chunk, page);
	if (error)
		return error;

	atomic64_inc(&region->faults_served);
	if (was_settled)
		return 0;
	accessed_push(region, page);
	thaw_requests_wake(region, block, end - block);
	if (cluster_end - cluster > end - block)
		fill_other_blocks(region, page, cluster, cluster_end, may_wait);
	return 0;
}
