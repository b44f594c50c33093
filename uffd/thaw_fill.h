/* SPDX-License-Identifier: MIT */
/*
 * thaw_fill.h - image files of which parts are missing, and come from elsewhere when they are first read; part of the public
 * interface (thaw.h).
 *
 *	a file of the right length, with holes     made by whoever has the rest of it
 *	thaw_fill_attach(path)                     from here on each read of the library asks for what it reads
 *	thaw_open(path) ...                        as any other
 *	thaw_fill_detach()                         nothing is missing any more
 *
 * It is the file that is attached to, whatever it is called, however often it is opened: heaps, views, handles, verification,
 * copies. Of a file that has none, nothing costs anything. The idea: a pager of a file below the one of memory, as FUSE and fscache do
 * it in the kernel.
 *
 * Threads: any. fork(2): a child must not read such a file.
 */
#ifndef THAW_FILL_H
#define THAW_FILL_H

#include "thaw.h"

#ifdef __cplusplus
extern "C" {
#endif

struct thaw_fill;

struct thaw_fill_ops {
	/*
	 * These bytes of the file are about to be read. When it returns 0, they are in the file, for pread(2) as for whoever reads past
	 * the page cache. It may be asked for what is there already, and for bytes behind the end of the file, and must answer that
	 * quickly. It may block, and is called from many threads at once (up to some hundred), among them the one that serves
	 * faults; it must not touch the memory of a heap. Or a negative code, with which the read fails: a page then is poisoned, and a
	 * thread that touches it gets SIGBUS and the reason. It is asked for again with the next read, page by page, so
	 * whoever has given up says so at once. Codes that mean another try or an end (-EINTR, -EAGAIN, -ENODATA, -EINVAL) become -EIO.
	 */
	int (*need)(void *arg, uint64_t offset, uint64_t bytes);
	/*
	 * Are all of these bytes there, or behind the end of the file? Must not block. NULL: that is not known, so that every page
	 * comes by way of another thread.
	 */
	bool (*has)(void *arg, uint64_t offset, uint64_t bytes);
	/*
	 * These bytes are about to be written, or punched out, or cut off with the end of the file. From its return on
	 * whatever comes from elsewhere must not be put there. Nothing refers to these blocks, so they need not be brought first, and
	 * what is left of a block between two writes may be anything; but a write to the first two blocks, the header, may be of a part of
	 * them. 0, or a negative code, with which the write fails.
	 */
	int (*writes)(void *arg, uint64_t offset, uint64_t bytes);
};

/*
 * Before anything of the library has the file open. `ops` stay as long as it is attached. While it is, the kernel module is not used
 * for heaps of it, reads are made by threads, and what reads a file by where it has holes (clones, thaw_image_repair()) asks
 * for all of it first. -EEXIST: the file has one already; -ENOMEM, -errno.
 */
THAW_PUBLIC int thaw_fill_attach(const char *path, const struct thaw_fill_ops *ops, void *arg,
				 struct thaw_fill **fill, struct thaw_error *error);
/*
 * When nothing is missing, or nothing of the library uses the file any more. Waits until nobody is in a call of `ops`: who is in need()
 * and blocked must be made to come back, by whoever blocks it; so it is with thaw_close() of a heap whose pages are waited for. Heaps
 * may go on. Not from a call of `ops`. NULL is allowed.
 */
THAW_PUBLIC void thaw_fill_detach(struct thaw_fill *fill);

/*
 * Where the nodes of the index lie, by which pages are found: of the newest generation, and then what others have besides, which the
 * first commit reads; each level by level from the root: whole blocks, ascending in each level. They are told before any of them is read, which asks for it as above, so whoever begins to bring all
 * that is told waits as often as the tree has levels. While a node is missing, the thread that serves faults waits for it: so they
 * come first. A non-zero return of `visit` ends it and is returned; so is -errno. What is damaged is passed over.
 */
THAW_PUBLIC int thaw_image_nodes(struct thaw_image *image,
				 int (*visit)(void *arg, uint64_t offset, uint64_t bytes),
				 void *arg, struct thaw_error *error);

#ifdef __cplusplus
}
#endif
#endif
