/* SPDX-License-Identifier: MIT */
/* identity.h - what must be the same to go on (identity.c), for those who show it. */
#ifndef VM_PROCESS_IDENTITY_H
#define VM_PROCESS_IDENTITY_H

#include "process/identity/processor.h"
#include "process/process.h"

/* A file that a mapping comes from when the guest is made again. */
struct identity_file {
	char *path;
	uint64_t device, inode, bytes, modified_ns, changed_ns; /* as stat(2) has them */
	char build_id[41];					/* empty: none */
	uint64_t checksum; /* of its contents, without a build-id; identity.c */
};

struct identity {
	char *machine, *kernel; /* uname(2); the kernel is for people */
	uint64_t page_bytes;
	struct processor processor;
	struct identity_file *files;
	size_t count, room;
};

#endif
