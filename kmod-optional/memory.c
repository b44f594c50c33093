// SPDX-License-Identifier: GPL-2.0-only
/*
 * memory.c - the mapping of a region: faults, and first writes.
 *
 * The pages are those of a shmem file that nobody else can open, so that swap, reclaim, migration
 * and the accounting to a memory cgroup are shmem's. The mapping is of /dev/thaw all the same,
 * whose file has that mapping's f_mapping: it keeps this module loaded and the region alive.
 *
 * Whether a page may be mapped is read under its folio's lock, which is kept until the page table
 * entry is there. Who poisons a page sets its bit, and then locks the folio and removes the
 * entries. Between a look at the page cache and a look at the bit there is a full barrier on both
 * sides: one of the two sees what the other one did.
 */
#include <linux/file.h>
#include <linux/pagemap.h>
#include <linux/rcupdate.h>
#include <linux/rmap.h>
#include <linux/shmem_fs.h>

#include "compat.h"
#include "dirty_log.h"
#include "fill.h"
#include "memory.h"
#include "requests.h"

struct page *thaw_memory_lock_page(struct thaw_region *region, pgoff_t index)
{
	struct address_space *mapping = thaw_region_mapping(region);
	struct folio *folio;
	struct page *page;

	for (;;) {
		page = shmem_read_mapping_page_gfp(mapping, index, mapping_gfp_mask(mapping));
		if (IS_ERR(page))
			return page;
		folio = page_folio(page);
		folio_lock(folio);
		if (likely(folio->mapping == mapping))
			return page;
		/* It was swapped out, or migrated, before it was locked. */
		folio_unlock(folio);
		folio_put(folio);
	}
}

typedef void (*folio_work)(struct address_space *mapping, struct folio *folio);

/* For each folio of an image page that is in memory, with its lock held. */
static void work_on_folios(struct thaw_region *region, u64 page, folio_work work)
{
	struct address_space *mapping = thaw_region_mapping(region);
	pgoff_t index = thaw_page_index(region, page);
	pgoff_t end = index + thaw_page_parts(region);

	while (index < end) {
		struct folio *folio = thaw_folio_find(mapping, index);

		if (!folio) {
			index++;
			continue;
		}
		folio_lock(folio);
		if (likely(folio->mapping == mapping)) {
			work(mapping, folio);
			index = folio_next_index(folio);
		}
		folio_unlock(folio);
		folio_put(folio);
	}
}

static void folio_watch(struct address_space *mapping, struct folio *folio)
{
	/*
	 * Entries were dirty: the folio has to stay so, or its contents get lost when memory is
	 * short.
	 */
	if (folio_mkclean(folio))
		folio_mark_dirty(folio);
}

void thaw_memory_watch(struct thaw_region *region, u64 page)
{
	work_on_folios(region, page, folio_watch);
}

static void folio_unmap(struct address_space *mapping, struct folio *folio)
{
	if (folio_mapped(folio))
		unmap_mapping_range(mapping, folio_pos(folio), folio_size(folio), 1);
}

void thaw_memory_unmap(struct thaw_region *region, u64 page)
{
	work_on_folios(region, page, folio_unmap);
}

void thaw_memory_discard(struct thaw_region *region, u64 page)
{
	loff_t start = (loff_t)thaw_page_index(region, page) << PAGE_SHIFT;

	shmem_truncate_range(file_inode(region->memory), start, start + region->page_bytes - 1);
}

/* ---- Faults */

/*
 * May the lock of the fault be dropped, to wait for user space? As in userfaultfd: who exits or
 * dumps its core must not wait for another thread of its process.
 */
static bool may_drop_lock(const struct vm_fault *vmf)
{
	return vmf->flags & FAULT_FLAG_ALLOW_RETRY &&
	       !(current->flags & (PF_EXITING | PF_DUMPCORE));
}

/* Waits until user space has answered, and lets the thread touch the page again then. */
static vm_fault_t ask(struct vm_fault *vmf, struct thaw_region *region, u64 page,
		      const struct thaw_absence *absence)
{
	unsigned int flags = vmf->flags;
	struct file *file;

	if (!may_drop_lock(vmf))
		return VM_FAULT_SIGBUS;
	if (flags & FAULT_FLAG_RETRY_NOWAIT)
		return VM_FAULT_RETRY;
	/* The file keeps the region; without the lock, the mapping can go any moment. */
	file = get_file(vmf->vma->vm_file);
	release_fault_lock(vmf);
	thaw_request_wait(region, page, absence, flags);
	fput(file);
	return VM_FAULT_RETRY;
}

/* The same as bring(), but a disk has to be waited for, or another thread. */
static vm_fault_t bring_slowly(struct vm_fault *vmf, struct thaw_region *region, u64 page)
{
	struct thaw_absence absence;
	unsigned int flags = vmf->flags;
	struct file *file;
	int error;

	if (flags & FAULT_FLAG_RETRY_NOWAIT)
		return VM_FAULT_RETRY;
	if (!may_drop_lock(vmf)) {
		error = thaw_fill_touched(region, page, true, &absence);
		if (error == -ENOMEM)
			return VM_FAULT_OOM;
		return error ? VM_FAULT_SIGBUS : VM_FAULT_MAJOR;
	}

	file = get_file(vmf->vma->vm_file);
	release_fault_lock(vmf);
	error = thaw_fill_touched(region, page, true, &absence);
	if (error == -ENODATA)
		thaw_request_wait(region, page, &absence, flags);
	fput(file);
	/*
	 * Whatever happened: who touches it again finds the page, or is killed, or finds the error
	 * with the lock held.
	 */
	return VM_FAULT_RETRY | VM_FAULT_MAJOR;
}

/* Zero, or VM_FAULT_MAJOR, if the page is there now and the lock of the fault is still held. */
static vm_fault_t bring(struct vm_fault *vmf, struct thaw_region *region, u64 page)
{
	struct thaw_absence absence;

	switch (thaw_fill_touched(region, page, false, &absence)) {
	case 0:
		return 0;
	case -EAGAIN:
		return bring_slowly(vmf, region, page);
	case -ENODATA:
		return ask(vmf, region, page, &absence);
	case -ENOMEM:
		return VM_FAULT_OOM;
	default:
		return VM_FAULT_SIGBUS;
	}
}

/*
 * Could one entry map a whole huge folio here, with all image pages in it, whatever state those are
 * in? (shmem makes such folios for us only if the administrator said "always" or "force".) Not at
 * an address that is aligned as the memory of libthaw is: that is what THAW_KMOD_MEMORY_OFFSET is
 * for (thp_vma_suitable_order(), before 6.10 transhuge_vma_suitable()).
 */
static bool may_map_huge(const struct vm_area_struct *vma)
{
	return IS_ALIGNED((vma->vm_start >> PAGE_SHIFT) - vma->vm_pgoff, PMD_SIZE >> PAGE_SHIFT);
}

/*
 * A mapping can be longer than the region: mremap() does not ask, nor does an mmap() of what
 * touches a mapping of the same file, in front of it or behind, and becomes one with it.
 */
static bool is_memory(const struct thaw_region *region, pgoff_t index)
{
	return index >= THAW_FIRST_INDEX && index < thaw_memory_end(region);
}

static vm_fault_t memory_fault(struct vm_fault *vmf)
{
	struct thaw_region *region = vmf->vma->vm_private_data;
	vm_fault_t result = 0;
	struct folio *folio;
	struct page *page;
	u64 number;

	if (!thaw_region_registered(region) || !is_memory(region, vmf->pgoff))
		return VM_FAULT_SIGBUS;
	number = thaw_page_of(region, vmf->pgoff);
	if (!thaw_page_settled(region, number)) {
		result = bring(vmf, region, number);
		if (result & ~VM_FAULT_MAJOR)
			return result;
	}
	if (thaw_page_poisoned(region, number))
		return VM_FAULT_SIGBUS;

	page = thaw_memory_lock_page(region, vmf->pgoff);
	if (IS_ERR(page))
		return PTR_ERR(page) == -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
	folio = page_folio(page);
	/*
	 * It is in the page cache: who poisons it from now on waits for its lock. Pairs with
	 * thaw_pages_poison().
	 */
	smp_mb();
	if (thaw_page_poisoned(region, number) ||
	    (folio_test_large(folio) && may_map_huge(vmf->vma))) {
		folio_unlock(folio);
		folio_put(folio);
		return VM_FAULT_SIGBUS;
	}
	vmf->page = page;
	return result | VM_FAULT_LOCKED;
}

/*
 * Maps what is in memory around a page that is read. A section of RCU, which who poisons waits for
 * before the entries are removed.
 */
static vm_fault_t memory_map_pages(struct vm_fault *vmf, pgoff_t first, pgoff_t last)
{
	struct thaw_region *region = vmf->vma->vm_private_data;
	pgoff_t start = vmf->pgoff, end = vmf->pgoff;
	vm_fault_t result = 0;

	if (!thaw_region_registered(region) || may_map_huge(vmf->vma) ||
	    !is_memory(region, vmf->pgoff))
		return 0;
	first = max_t(pgoff_t, first, THAW_FIRST_INDEX);
	last = min_t(pgoff_t, last, thaw_memory_end(region) - 1);
	rcu_read_lock();
	if (thaw_page_usable(region, thaw_page_of(region, start))) {
		while (start > first && thaw_page_usable(region, thaw_page_of(region, start - 1)))
			start--;
		while (end < last && thaw_page_usable(region, thaw_page_of(region, end + 1)))
			end++;
		result = filemap_map_pages(vmf, start, end);
	}
	rcu_read_unlock();
	return result;
}

/*
 * The page is still locked when this returns, and until its entry is dirty: who watches it again,
 * and so needs that lock, cannot come between the log and the write.
 */
static vm_fault_t memory_page_mkwrite(struct vm_fault *vmf)
{
	struct thaw_region *region = vmf->vma->vm_private_data;
	u64 number = thaw_page_of(region, vmf->pgoff);
	struct folio *folio = page_folio(vmf->page);
	struct thaw_chunk *chunk;

	chunk = thaw_chunk_make(region, number);
	if (!chunk)
		return VM_FAULT_OOM;
	folio_lock(folio);
	/*
	 * The folio was not locked just now. If it has gone, or is poisoned, the fault is begun
	 * once more.
	 */
	smp_mb();
	if (folio->mapping != thaw_region_mapping(region) || thaw_page_poisoned(region, number)) {
		folio_unlock(folio);
		return VM_FAULT_NOPAGE;
	}
	thaw_log_write(region, chunk, number);
	return VM_FAULT_LOCKED;
}

static const struct vm_operations_struct memory_operations = {
	.fault = memory_fault,
	.map_pages = memory_map_pages,
	.page_mkwrite = memory_page_mkwrite,
};

int thaw_memory_mmap(struct thaw_region *region, struct vm_area_struct *vma)
{
	if (vma->vm_pgoff < THAW_FIRST_INDEX ||
	    vma->vm_pgoff + vma_pages(vma) > thaw_memory_end(region))
		return -EINVAL;
	/* No flag that keeps neighbours from merging: heaps grow by mprotect() in many steps. */
	vma->vm_private_data = region;
	vma->vm_ops = &memory_operations;
	return 0;
}
