/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
/*
 * kmod_netlink.h - the generic netlink family `thaw` of the kernel module: who has regions, what
 * they count, the module's tunables, and events. Both sides include it. kmod-optional/thaw.yaml is
 * the same in the kernel's netlink-spec format, and says what each of these means;
 * tests/top/netlink_spec.c compares the two.
 *
 * Who may see what: a reader with CAP_NET_ADMIN in the first user namespace sees every region. Any
 * other reader sees those of its own user whose process is in its pid namespace; to it the others
 * do not exist. Setting tunables and listening to events need CAP_NET_ADMIN. Events are sent in the
 * first network namespace only, with its numbers of processes.
 */
#ifndef UFFD_KMOD_NETLINK_H
#define UFFD_KMOD_NETLINK_H

#define THAW_NETLINK_FAMILY "thaw"
#define THAW_NETLINK_VERSION 1
#define THAW_NETLINK_GROUP_EVENTS "events"

enum thaw_netlink_command {
	THAW_NETLINK_COMMAND_REGION_GET = 1, /* one region, or all of them (NLM_F_DUMP) */
	THAW_NETLINK_COMMAND_TUNABLES_GET,
	THAW_NETLINK_COMMAND_TUNABLES_SET,
	THAW_NETLINK_COMMAND_EVENT, /* sent to the group `events` */
	THAW_NETLINK_COMMAND_END,
};

/* A region: attributes of REGION_GET. */
enum thaw_netlink_region {
	THAW_NETLINK_REGION_PAD = 1,
	THAW_NETLINK_REGION_ID,		    /* u64; never used again by another region */
	THAW_NETLINK_REGION_OWNER_PID,	    /* u32; 0: ended, or in another namespace */
	THAW_NETLINK_REGION_OWNER_UID,	    /* u32 */
	THAW_NETLINK_REGION_OWNER_COMM,	    /* string */
	THAW_NETLINK_REGION_IMAGE,	    /* string; missing: none, or too long a path */
	THAW_NETLINK_REGION_PAGE_BYTES,	    /* u32; 0: not registered yet */
	THAW_NETLINK_REGION_MAX_BYTES,	    /* u64 */
	THAW_NETLINK_REGION_RESTORED_BYTES, /* u64 */
	THAW_NETLINK_REGION_RESIDENT_BYTES, /* u64 */
	THAW_NETLINK_REGION_COUNTERS,	    /* nest of enum thaw_netlink_counter */
	THAW_NETLINK_REGION_END,
};

/* Those of struct thaw_kmod_counters, all of them u64. */
enum thaw_netlink_counter {
	THAW_NETLINK_COUNTER_PAD = 1,
	THAW_NETLINK_COUNTER_FAULTS_SERVED,
	THAW_NETLINK_COUNTER_FAULTS_PASSED,
	THAW_NETLINK_COUNTER_PAGES_RESTORED,
	THAW_NETLINK_COUNTER_PAGES_POISONED,
	THAW_NETLINK_COUNTER_BYTES_READ,
	THAW_NETLINK_COUNTER_PAGES_DIRTIED,
	THAW_NETLINK_COUNTER_HARVESTS,
	THAW_NETLINK_COUNTER_PAGES_HARVESTED,
	THAW_NETLINK_COUNTER_OVERFLOWS,
	THAW_NETLINK_COUNTER_READ_ERRORS,
	THAW_NETLINK_COUNTER_RESIDENT_PAGES,
	THAW_NETLINK_COUNTER_END,
};

/* Attributes of TUNABLES_GET and TUNABLES_SET: powers of two. */
enum thaw_netlink_tunable {
	THAW_NETLINK_TUNABLE_CLUSTER_BYTES = 1, /* u32: what one touch of an absent page brings */
	THAW_NETLINK_TUNABLE_RING_ENTRIES,	/* u32: of dirty rings made from now on */
	THAW_NETLINK_TUNABLE_END,
};

#define THAW_NETLINK_CLUSTER_BYTES_MIN 65536u
#define THAW_NETLINK_CLUSTER_BYTES_MAX 2097152u
#define THAW_NETLINK_RING_ENTRIES_MIN 64u
#define THAW_NETLINK_RING_ENTRIES_MAX 1048576u

/* Attributes of EVENT. */
enum thaw_netlink_event {
	THAW_NETLINK_EVENT_PAD = 1,
	THAW_NETLINK_EVENT_KIND,      /* u32: enum thaw_netlink_kind */
	THAW_NETLINK_EVENT_REGION_ID, /* u64 */
	THAW_NETLINK_EVENT_OWNER_PID, /* u32 */
	THAW_NETLINK_EVENT_PAGE,      /* u64, of the image; for those that are about a page */
	THAW_NETLINK_EVENT_ERROR,     /* u32: an errno; with THAW_NETLINK_KIND_READ_ERROR */
	THAW_NETLINK_EVENT_END,
};

enum thaw_netlink_kind {
	THAW_NETLINK_KIND_REGISTERED, /* a region has got its image */
	THAW_NETLINK_KIND_GONE,
	THAW_NETLINK_KIND_OVERFLOW,   /* the ring is full: the first page that found no room */
	THAW_NETLINK_KIND_READ_ERROR, /* of a page, or its checksum is wrong (EBADMSG) */
	THAW_NETLINK_KIND_POISON,     /* a page can no longer be touched */
	THAW_NETLINK_KIND_END,
};

#endif
