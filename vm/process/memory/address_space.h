/* SPDX-License-Identifier: MIT */
/*
 * address_space.h - what mappings.c and its neighbours share: a process's mappings as /proc tells them, and what is
 * remembered of them between captures. Behind process.h; the owner's thread.
 */
#ifndef VM_PROCESS_ADDRESS_SPACE_H
#define VM_PROCESS_ADDRESS_SPACE_H

#include "process/process.h"

/* A file under /proc/PID, malloc'ed and terminated; NULL: -errno is in *error. */
char *proc_read(pid_t pid, const char *name, size_t *bytes, int *error);

/* A line of /proc/PID/maps. */
struct seen_mapping {
	uint64_t start, end, offset, device, inode;
	uint32_t protection;
	bool shared;
	const char *name; /* in the text; not terminated */
	size_t name_bytes;
};
/* The next line; false: there is none. */
bool seen_mapping_parse(const char **at, struct seen_mapping *seen);

/* A file that is mapped, by what /proc/PID/maps says of it. */
struct known_file {
	uint64_t device, inode;
	size_t name_bytes;
	char *name; /* as in maps */
	char *path; /* NULL: it has none (any more) */
	uint64_t real_device, bytes, modified_ns;
	char build_id[41];
	bool regular, huge, zero; /* zero: /dev/zero */
	uint64_t looked;	  /* number of the capture that has looked at it last */
};

struct known_piece { /* pages of a private mapping of a file that are the process's own; stays so */
	uint64_t start, end, device, inode, from; /* from: start - offset, modulo 2^64 */
};

struct known_flags { /* from smaps */
	uint64_t start, end;
	uint32_t flags;
	uint32_t key;	     /* pkeys(7) */
	const char *refusal; /* why it cannot be in an image; NULL: it can */
};

struct shared_object { /* memory mapped shared, in a restored guest */
	uint64_t device, inode;
	unsigned number;
	int fd; /* in the guest; -1: it needs none */
};

/* ---- file_watch.c: which pages of private mappings of files may have been written is told by the kernel */

struct file_watch {
	int uffd;	    /* of the guest's memory; with `made` */
	bool made, useless; /* there is one; there can be none */
	struct thaw_range *
		list; /* watched: none of these pages was the process's own when it was looked at last; sorted */
	size_t count;
	uint64_t counted_ns; /* when every 16th capture was made */
	bool often;	     /* ... the last 16 of which came so fast that it is worth the while */
};

struct address_space {
	int pagemap; /* of `pid` */
	pid_t pid;
	bool no_scan;	  /* PAGEMAP_SCAN is missing: before 6.7 */
	uint64_t capture; /* number of this one */
	struct known_file *files;
	size_t file_count, file_room;
	struct known_piece *pieces; /* sorted */
	size_t piece_count, piece_room;
	bool no_marks;		   /* memory cannot be named: CONFIG_ANON_VMA_NAME is missing */
	struct known_flags *flags; /* sorted */
	size_t flag_count;
	uint64_t flags_cost_ns, flags_read_ns; /* what reading them took; when (monotonic clock) */
	struct thaw_range *runs;	       /* scratch: pages of one group of mappings */
	size_t run_count, run_room;
	struct file_watch watch;
	struct { /* the newest capture: it is the next one, too, as long as nothing is different */
		char *text; /* of maps; NULL: there is none */
		size_t bytes;
		struct mappings mappings;
		struct thaw_range *files; /* what of private mappings of files is not memory */
		size_t file_count;
		uint64_t flags_read_ns, held_until_ns;
	} last;
	/* ---- of mappings_restore() */
	bool writable;
	struct shared_object *objects;
	size_t object_count;
};

/* What memory of MADV_WIPEONFORK is named, and how that looks in maps. */
#define MAPPING_WIPED_MARK "thaw wiped"
#define MAPPING_WIPED_NAME "[anon:" MAPPING_WIPED_MARK "]"

/* NULL: no memory. */
struct address_space *address_space_get(struct process *process);

/* What is known of the file of this mapping, looked at once a capture. NULL: no memory. */
struct known_file *address_space_file(struct address_space *space, const struct seen_mapping *seen);

/* Is each file that the capture before had as it was then? */
bool address_space_files_stay(struct address_space *space);

/* Reads /proc/PID/smaps: slow, it looks at every page. */
int address_space_read_flags(struct address_space *space);
/* The flags of what lies at this address; NULL: it was not there when they were read. */
const struct known_flags *address_space_flags(const struct address_space *space, uint64_t start,
					      uint64_t end);

/* Hexadecimal build-id of a file (at most 40 digits); empty: it has none. */
void file_build_id(int fd, char build_id[static 41]);

/* Runs of pages in [start, end) that are not pages of a file are added to space->runs, which ascend. */
int address_space_scan(struct address_space *space, uint64_t start, uint64_t end);
/* The same; where mappings are watched, by what may have been written. */
int file_watch_scan(struct process *process, uint64_t start, uint64_t end);
/* Parts of the mappings that are files, neighbours joined, into `list`, which has room for all; how many. */
size_t file_watch_files(const struct mappings *mappings, struct thaw_range *list);
/*
 * After a capture, whose mappings these are: what is not watched any more, or is memory now, is forgotten, and before
 * the heap is told of it (thaw_process_ranges()). Where captures are frequent, all that is left of files is watched.
 */
void file_watch_follow(struct process *process, const struct mappings *mappings);
/* A capture has failed after a scan: nothing is known. */
void file_watch_forget(struct process *process);
/* The guest is gone. */
void file_watch_close(struct file_watch *watch);
/* Is this address taken for the kernel's part, or for ours? */
bool address_is_local(uint64_t start, uint64_t end);

#endif
