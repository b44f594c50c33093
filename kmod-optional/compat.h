/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * compat.h - all that differs between the kernels this module is built for, 6.1 to 6.12. The rest
 * of the code is written for the newest of them.
 */
#ifndef THAW_COMPAT_H
#define THAW_COMPAT_H

#include <linux/err.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/version.h>

/* NULL where there is none; since 6.4 that is an error pointer. */
static inline struct folio *thaw_folio_find(struct address_space *mapping, pgoff_t index)
{
	struct folio *folio = filemap_get_folio(mapping, index);

	return IS_ERR(folio) ? NULL : folio;
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}
#endif

/* Before 6.4 a fault always holds mmap_lock; then, the VMA's own lock, if that can be had. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
static inline void release_fault_lock(struct vm_fault *vmf)
{
	mmap_read_unlock(vmf->vma->vm_mm);
}
#endif

#endif
