/* SPDX-License-Identifier: MIT */
/*
 * kmod_regions.h - what the kernel module tells over generic netlink (uffd/kmod_netlink.h): its
 * regions and their counters, its tunables, and events. Without the module, or where nobody may ask
 * it, kmod_open() says so.
 *
 * A struct kmod belongs to one thread. An ordinary user sees the regions of his own processes.
 */
#ifndef VM_TOP_KMOD_REGIONS_H
#define VM_TOP_KMOD_REGIONS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kmod.h"
#include "thaw.h"

struct kmod; /* opaque: a conversation with the module */

/* -ENOENT: the module is not loaded. */
int kmod_open(struct kmod **kmod, struct thaw_error *error);
void kmod_close(struct kmod *kmod); /* NULL is allowed */

struct kmod_region {
	uint64_t id; /* never used again for another region */
	pid_t pid;   /* of who created it; 0: it has ended, or is not in this pid namespace */
	uid_t uid;
	char comm[16]; /* as /proc/PID/comm: may hold any bytes */
	char *image; /* absolute path, which may hold any bytes; NULL: none, or it cannot be told */
	uint32_t page_bytes; /* 0: not registered yet, and the following two mean nothing */
	uint64_t restored_bytes, resident_bytes;
	uint64_t max_bytes;
	struct thaw_kmod_counters counters; /* since the region was created */
};

struct kmod_regions {		  /* all zero: empty */
	struct kmod_region *list; /* by id, ascending */
	size_t count;
};

/* Replaces what is in `regions` by those there are. After an error it is empty. */
int kmod_regions_read(struct kmod *kmod, struct kmod_regions *regions, struct thaw_error *error);
/*
 * One of them; the caller frees its image. -ENOENT: no (longer) such region, or not to be seen by
 * this user.
 */
int kmod_region_read(struct kmod *kmod, uint64_t id, struct kmod_region *region,
		     struct thaw_error *error);
void kmod_regions_free(struct kmod_regions *regions);

/* ---- Tunables ---- */

struct kmod_tunables {
	uint32_t cluster_bytes; /* what one touch of an absent page brings */
	uint32_t ring_entries;	/* of the dirty ring */
};
int kmod_tunables_read(struct kmod *kmod, struct kmod_tunables *tunables, struct thaw_error *error);
/*
 * Fields that are 0 stay as they are. A ring's size is that of regions registered from now on.
 * -EPERM; -ERANGE, -EINVAL: the module refused a value, and the error names it and what it would
 * have taken.
 */
int kmod_tunables_set(struct kmod *kmod, const struct kmod_tunables *tunables,
		      struct thaw_error *error);
/*
 * Takes "cluster-bytes=131072" or "ring-entries=65536", several with commas. -EINVAL: there is no
 * such tunable, or that is no number. What was not named is 0.
 */
int kmod_tunables_parse(const char *text, struct kmod_tunables *tunables, struct thaw_error *error);

/* ---- Events ---- */

enum kmod_event_kind {
	KMOD_EVENT_REGISTERED,
	KMOD_EVENT_GONE,
	KMOD_EVENT_OVERFLOW,
	KMOD_EVENT_READ_ERROR,
	KMOD_EVENT_POISON,
};
struct kmod_event {
	enum kmod_event_kind kind;
	uint64_t region;
	pid_t pid;
	uint64_t page; /* OVERFLOW, READ_ERROR, POISON */
	int error;     /* READ_ERROR: an errno, positive; EBADMSG: the checksum was wrong */
};
struct kmod_events; /* opaque: a socket that receives them. Needs CAP_NET_ADMIN. */
typedef void kmod_event_seen(const struct kmod_event *event, void *argument);

int kmod_events_open(struct kmod_events **events, struct thaw_error *error);
int kmod_events_descriptor(const struct kmod_events *events); /* to poll(2) */
/*
 * Those that have come, without waiting. -ENOBUFS: some were lost; the next call gives what came
 * after them.
 */
int kmod_events_read(struct kmod_events *events, kmod_event_seen *seen, void *argument,
		     struct thaw_error *error);
void kmod_events_close(struct kmod_events *events); /* NULL is allowed */

#endif
