/* SPDX-License-Identifier: MIT */
/*
 * describe.h - what a generation of a process guest is, for people and for the commands that look at images: thaw
 * inspect, map and diff.
 *
 * No process is needed, and nothing of the image runs: the state is decoded as data.
 * Any thread, one at a time for each description.
 */
#ifndef VM_PROCESS_DESCRIBE_H
#define VM_PROCESS_DESCRIBE_H

#include "process/process.h"

/* What an area of the address space is for. */
enum area_kind {
	AREA_HEAP,	  /* brk(2) */
	AREA_STACK,	  /* of the main thread */
	AREA_THREAD,	  /* stack and thread-local data of another one */
	AREA_MEMORY,	  /* anonymous: heaps of allocators and languages */
	AREA_CODE,	  /* anonymous and executable: made while the program ran */
	AREA_RESERVED,	  /* anonymous, and nobody may access it now */
	AREA_SHARED,	  /* shared within the process, no file that others see */
	AREA_FILE,	  /* a file, privately; what was written in it is memory */
	AREA_SHARED_FILE, /* a file, which others may see and change */
	AREA_KERNEL,	  /* vdso, vvar */
	AREA_KINDS
};

/* Mappings in a row that are one piece for whoever mapped them. In the order of their addresses. */
struct area {
	uint64_t start, end;
	enum area_kind kind;
	uint32_t protection;
	uint64_t memory_bytes; /* of them: may be in the image, as far as they were ever touched */
	uint64_t file_bytes;   /* of them: come from a file */
	char *name; /* a path, [heap], "stack of worker (1234)", malloc'ed; empty: it has none */
	const char *build_id; /* hexadecimal; empty: none */
};

struct described_descriptor {
	int number;
	char *kind, *what; /* malloc'ed */
};

struct description {
	struct process_state state;
	uint64_t generation;
	struct area *areas;
	size_t area_count, area_room;
	uint64_t bytes; /* of all areas */
	struct described_descriptor *descriptors;
	size_t descriptor_count, descriptor_room;
	char *program; /* the file that it is, malloc'ed; NULL: not known */
	char *command; /* the command, as it could be typed, malloc'ed */
	char *processor; /* which features are required, with commas between them, malloc'ed; NULL: none known */
	bool failed; /* no memory: used while it is made */
};

/* Is that the engine of an image that holds a process? (thaw_image_info.engine; also of another version's.) */
bool process_is_engine(const char *engine);

/* A state. 0 or a negative code, and then there is nothing to free. */
int description_decode(const void *state, size_t bytes, struct description *description,
		       struct thaw_error *error);
/* `generation` 0: the newest. As above. */
int description_read(struct thaw_image *image, uint64_t generation, const char *path,
		     struct description *description, struct thaw_error *error);
void description_free(struct description *description);

/* What a thread was in when it was asked to stop: "epoll_wait", "call 500"; "-": it was running, or that is not known. */
struct call_name {
	char s[32];
} call_name(int64_t call);

/* "heap (brk)", "stack", ... */
const char *area_kind_name(enum area_kind kind);
/* The end of a path, or what else the area is called; for those without a name, what their kind is called. */
const char *area_short_name(const struct area *area);
/* "rw-", "r-x" ... */
struct area_protection {
	char s[4];
} area_protection(uint32_t protection);

/* Cuts pages where areas begin and end, in order. `area`: NULL where nothing is mapped. */
void description_split(const struct description *description, uint32_t page_bytes, uint64_t first,
		       uint64_t pages,
		       void (*part)(void *arg, const struct area *area, uint64_t first,
				    uint64_t pages),
		       void *arg);

#endif
