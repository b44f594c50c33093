// SPDX-License-Identifier: GPL-2.0-only
/*
 * device.c - /dev/thaw: what an open file of it can do, and the module.
 *
 * An open file is a region. Here are CREATE and REGISTER, and where all other calls go. What comes
 * from user space is checked where it is used; here, that the region is as far as the call needs
 * it.
 */
#define pr_fmt(format) KBUILD_MODNAME ": " format

#include <linux/compat.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/log2.h>
#include <linux/magic.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "dirty_log.h"
#include "fill.h"
#include "memory.h"
#include "pages.h"
#include "region.h"
#include "requests.h"

#define LEAST_ENTRIES 64
#define MOST_ENTRIES SZ_1M

static ushort mode = 0600;
module_param(mode, ushort, 0444);
MODULE_PARM_DESC(mode, "access mode of /dev/thaw (default 0600)");

struct thaw_tunables thaw_tunables = {
	.cluster_bytes = SZ_64K,
	.ring_entries = SZ_64K,
};
module_param_named(cluster_bytes, thaw_tunables.cluster_bytes, uint, 0444);
MODULE_PARM_DESC(cluster_bytes, "what one fault brings: a power of two from 64 KiB to 2 MiB");
module_param_named(ring_entries, thaw_tunables.ring_entries, uint, 0444);
MODULE_PARM_DESC(ring_entries,
		 "entries of a ring of written pages: a power of two from 64 to 1048576");

/* ---- CREATE, REGISTER */

static int call_create(struct thaw_region *region, void __user *from)
{
	struct thaw_kmod_create create;
	int error;

	if (copy_from_user(&create, from, sizeof(create)))
		return -EFAULT;
	if (create.version != THAW_KMOD_VERSION || create.zero)
		return -EINVAL;
	if (!create.max_bytes || create.max_bytes > THAW_KMOD_MAX_BYTES ||
	    create.max_bytes % THAW_BLOCK_BYTES)
		return -EINVAL;
	if (region->created)
		return -EBUSY;

	region->max_bytes = create.max_bytes;
	region->owner = get_pid(task_tgid(current));
	region->uid = current_uid();
	get_task_comm(region->comm, current->group_leader);
	error = thaw_region_announce(region);
	if (error) {
		put_pid(region->owner);
		region->owner = NULL;
		return error;
	}
	/* Pairs with device_mmap(). */
	smp_store_release(&region->created, true);
	return 0;
}

static bool register_is_valid(const struct thaw_region *region,
			      const struct thaw_kmod_register *given)
{
	if (given->zero || given->image_fd < -1)
		return false;
	if (!is_power_of_2(given->page_bytes) || given->page_bytes < PAGE_SIZE ||
	    given->page_bytes > THAW_BLOCK_BYTES)
		return false;
	if (given->restored_bytes % given->page_bytes || given->restored_bytes > region->max_bytes)
		return false;
	return !given->ring_entries ||
	       (is_power_of_2(given->ring_entries) && given->ring_entries >= LEAST_ENTRIES &&
		given->ring_entries <= MOST_ENTRIES);
}

/* The log of touched pages. */
static int accessed_open(struct thaw_region *region, u64 restored_pages)
{
	struct thaw_accessed *accessed = &region->accessed;
	u32 room = min_t(u64, restored_pages, THAW_ACCESSED_ROOM);

	if (!room)
		return 0;
	accessed->pages = kvmalloc_array(room, sizeof(*accessed->pages), GFP_KERNEL_ACCOUNT);
	if (!accessed->pages)
		return -ENOMEM;
	accessed->room = room;
	return 0;
}

/* All that can fail; register_undo() takes it back. */
static int register_resources(struct thaw_region *region, const struct thaw_kmod_register *given)
{
	u32 entries = given->ring_entries ?: READ_ONCE(thaw_tunables.ring_entries);
	struct file *image;
	int error;

	if (given->image_fd >= 0) {
		image = thaw_image_open(given->image_fd);
		if (IS_ERR(image))
			return PTR_ERR(image);
		region->image = image;
		region->readable = thaw_image_readable(image);
	}
	error = accessed_open(region, given->restored_bytes / given->page_bytes);
	return error ?: thaw_log_open(region, entries);
}

static void register_undo(struct thaw_region *region)
{
	if (region->image)
		fput(region->image);
	region->image = NULL;
	region->readable = false;
	kvfree(region->accessed.pages);
	region->accessed.pages = NULL;
	region->accessed.room = 0;
}

static int call_register(struct thaw_region *region, void __user *from)
{
	struct thaw_kmod_register given;
	int error;

	if (copy_from_user(&given, from, sizeof(given)))
		return -EFAULT;
	if (!region->created)
		return -ENXIO;
	if (!register_is_valid(region, &given))
		return -EINVAL;
	if (region->registered)
		return -EBUSY;
	error = register_resources(region, &given);
	if (error) {
		register_undo(region);
		return error;
	}
	region->page_bytes = given.page_bytes;
	region->page_shift = ilog2(given.page_bytes);
	region->restored_bytes = given.restored_bytes;
	region->restored_pages = given.restored_bytes / given.page_bytes;
	/* All of it before those who fault, or list regions, find that it is so. */
	smp_store_release(&region->registered, true);
	thaw_event(region, THAW_EVENT_REGISTERED, 0, 0);
	return 0;
}

/* ---- The other calls: copy the argument in and, with what was done, out */

static int call_extents(struct thaw_region *region, void __user *from)
{
	struct thaw_kmod_extents extents;
	int error;

	if (copy_from_user(&extents, from, sizeof(extents)))
		return -EFAULT;
	extents.done = 0;
	error = thaw_pages_extents(region, &extents);
	return copy_to_user(from, &extents, sizeof(extents)) ? -EFAULT : error;
}

typedef int (*pages_call)(struct thaw_region *region, struct thaw_kmod_pages *pages);

static int call_pages(struct thaw_region *region, void __user *from, pages_call call)
{
	struct thaw_kmod_pages pages;
	int error;

	if (copy_from_user(&pages, from, sizeof(pages)))
		return -EFAULT;
	pages.done = 0;
	pages.skipped = 0;
	error = call(region, &pages);
	return copy_to_user(from, &pages, sizeof(pages)) ? -EFAULT : error;
}

static int call_reset(struct thaw_region *region, void __user *from)
{
	struct thaw_kmod_reset reset;
	int error;

	if (copy_from_user(&reset, from, sizeof(reset)))
		return -EFAULT;
	reset.done = 0;
	error = thaw_log_reset(region, &reset);
	return copy_to_user(from, &reset, sizeof(reset)) ? -EFAULT : error;
}

static int call_overflow(struct thaw_region *region, void __user *from)
{
	struct thaw_kmod_overflow overflow;
	int error;

	if (copy_from_user(&overflow, from, sizeof(overflow)))
		return -EFAULT;
	overflow.done = 0;
	error = thaw_log_overflow(region, &overflow);
	return copy_to_user(from, &overflow, sizeof(overflow)) ? -EFAULT : error;
}

static int call_accessed(struct thaw_region *region, void __user *from)
{
	struct thaw_kmod_accessed accessed;
	int error;

	if (copy_from_user(&accessed, from, sizeof(accessed)))
		return -EFAULT;
	accessed.done = 0;
	error = thaw_fill_accessed(region, &accessed);
	return copy_to_user(from, &accessed, sizeof(accessed)) ? -EFAULT : error;
}

static int call_counters(struct thaw_region *region, void __user *to)
{
	struct thaw_kmod_counters counters;

	thaw_region_counters(region, &counters);
	return copy_to_user(to, &counters, sizeof(counters)) ? -EFAULT : 0;
}

/* What a registered region can be called for. */
static const struct {
	unsigned int command;
	int (*call)(struct thaw_region *region, void __user *argument);
	pages_call pages;
} calls[] = {
	{ THAW_KMOD_EXTENTS, .call = call_extents },
	{ THAW_KMOD_FILL, .pages = thaw_pages_fill },
	{ THAW_KMOD_ZERO_PAGES, .pages = thaw_pages_zero },
	{ THAW_KMOD_POISON, .pages = thaw_pages_poison },
	{ THAW_KMOD_WAKE, .pages = thaw_pages_wake },
	{ THAW_KMOD_PREFETCH, .pages = thaw_pages_prefetch },
	{ THAW_KMOD_RESET, .call = call_reset },
	{ THAW_KMOD_OVERFLOW, .call = call_overflow },
	{ THAW_KMOD_ACCESSED, .call = call_accessed },
	{ THAW_KMOD_COUNTERS, .call = call_counters },
};

static int registered_ioctl(struct thaw_region *region, unsigned int command, void __user *argument)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		if (calls[i].command != command)
			continue;
		if (!thaw_region_registered(region))
			return -ENXIO;
		return calls[i].call ? calls[i].call(region, argument) :
				       call_pages(region, argument, calls[i].pages);
	}
	return -ENOTTY;
}

/* ---- The file */

static int device_open(struct inode *inode, struct file *file)
{
	struct thaw_region *region;

	/*
	 * With this f_mapping the kernel takes the file for one of tmpfs (shmem_file()), and the
	 * inode of the node for a struct shmem_inode_info: F_ADD_SEALS writes there, F_GET_SEALS
	 * and smaps read. Where it is one, as in /dev, its seals forbid more of them.
	 */
	if (file_inode(file)->i_sb->s_magic != TMPFS_MAGIC)
		return -EOPNOTSUPP;
	region = thaw_region_alloc();
	if (IS_ERR(region))
		return PTR_ERR(region);
	/*
	 * Before anybody can map it, as device-dax does: a mapping counts itself in its file's
	 * f_mapping, twice.
	 */
	file->f_mapping = thaw_region_mapping(region);
	file->private_data = region;
	return nonseekable_open(inode, file);
}

/* After the last mapping has gone, too: each of them has the file. */
static int device_release(struct inode *inode, struct file *file)
{
	struct thaw_region *region = file->private_data;

	thaw_region_withdraw(region);
	if (thaw_region_registered(region))
		thaw_event(region, THAW_EVENT_GONE, 0, 0);
	thaw_region_put(region);
	return 0;
}

static long device_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct thaw_region *region = file->private_data;
	void __user *address = (void __user *)argument;
	int error;

	switch (command) {
	case THAW_KMOD_CREATE:
	case THAW_KMOD_REGISTER:
		if (mutex_lock_interruptible(&region->setup))
			return -EINTR;
		error = command == THAW_KMOD_CREATE ? call_create(region, address) :
						      call_register(region, address);
		mutex_unlock(&region->setup);
		return error;
	}
	return registered_ioctl(region, command, address);
}

static int device_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct thaw_region *region = file->private_data;

	/* A private one would have copies, which nobody tracks. */
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	/* Pairs with call_create(). */
	if (!smp_load_acquire(&region->created))
		return -ENXIO;
	if (vma->vm_pgoff >= THAW_KMOD_RING_OFFSET >> PAGE_SHIFT)
		return thaw_log_mmap(region, vma);
	return thaw_memory_mmap(region, vma);
}

static ssize_t device_read(struct file *file, char __user *to, size_t bytes, loff_t *position)
{
	struct thaw_region *region = file->private_data;

	if (!thaw_region_registered(region))
		return -ENXIO;
	return thaw_requests_read(region, to, bytes, !(file->f_flags & O_NONBLOCK));
}

static __poll_t device_poll(struct file *file, poll_table *table)
{
	struct thaw_region *region = file->private_data;
	__poll_t events = 0;

	poll_wait(file, &region->readers, table);
	if (!thaw_region_registered(region))
		return EPOLLERR;
	if (thaw_requests_pending(region))
		events |= EPOLLIN | EPOLLRDNORM;
	if (thaw_log_is_long(region))
		events |= EPOLLPRI;
	return events;
}

static const struct file_operations device_operations = {
	.owner = THIS_MODULE,
	.open = device_open,
	.release = device_release,
	.unlocked_ioctl = device_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = device_mmap,
	.read = device_read,
	.poll = device_poll,
	.llseek = noop_llseek,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "thaw",
	.fops = &device_operations,
};

/* ---- The module */

static bool tunable_is_valid(const char *name, u32 value, u32 least, u32 most)
{
	if (is_power_of_2(value) && value >= least && value <= most)
		return true;
	pr_err("%s=%u is no power of two from %u to %u\n", name, value, least, most);
	return false;
}

static int __init thaw_init(void)
{
	int error;

	if (!tunable_is_valid("cluster_bytes", thaw_tunables.cluster_bytes, SZ_64K, SZ_2M) ||
	    !tunable_is_valid("ring_entries", thaw_tunables.ring_entries, LEAST_ENTRIES,
			      MOST_ENTRIES))
		return -EINVAL;
	if (mode & ~0666) {
		pr_err("mode=%#o is no access mode of a device\n", mode);
		return -EINVAL;
	}
	error = thaw_regions_init();
	if (error)
		return error;
	error = thaw_netlink_init();
	if (error)
		goto no_netlink;
	device.mode = mode;
	error = misc_register(&device);
	if (error)
		goto no_device;
	return 0;

no_device:
	thaw_netlink_exit();
no_netlink:
	thaw_regions_exit();
	return error;
}

static void __exit thaw_exit(void)
{
	misc_deregister(&device);
	thaw_netlink_exit();
	thaw_regions_exit();
}

module_init(thaw_init);
module_exit(thaw_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Pages of an image, brought and watched where they are touched");
