// SPDX-License-Identifier: MIT
/*
 * mappings_protect.c - the memory of a restored guest gets the protection that it had, when its contents are there or
 * come by faults. Called on the owner's thread; the restorer's thread makes the calls, in batches.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/failure.h"
#include "process/memory/address_space.h"
#include "process/remote/batch.h"

#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif

/*
 * Keys of protection are made up to the highest one in use, as the program had made them. A processor without them has
 * none in its images; one that has none now goes on without.
 */
static void make_keys(struct batch *batch, const struct mappings *mappings)
{
	uint32_t most = 0;

	for (size_t i = 0; i < mappings->count; i++)
		if (mappings->list[i].key > most)
			most = mappings->list[i].key;
	for (uint32_t i = 0; i < most; i++)
		batch_try(batch, SYS_pkey_alloc, 0, 0, 0, 0, 0);
	for (size_t i = 0; most && i < mappings->count; i++)
		if (mappings->list[i].key)
			batch_try(batch, SYS_pkey_mprotect, mappings->list[i].start,
				  mappings->list[i].end - mappings->list[i].start,
				  mappings->list[i].protection, mappings->list[i].key, 0);
}

/*
 * Memory that forked children have empty, and that is in the image all the same (no names: mappings.c): its pages come
 * now, or a child, which misses them, would get them from the image.
 */
static int read_wiped(struct process *process, const struct mapping *mapping)
{
	uint8_t byte;
	int rc = 0;

	if (mapping->kind != MAPPING_MEMORY || !(mapping->flags & MAPPING_WIPE_ON_FORK))
		return 0;
	for (uint64_t at = mapping->start; at < mapping->end && rc != -ESRCH; at += PAGE)
		rc = remote_read(&process->remote, at, &byte, 1);
	return rc == -ESRCH ? rc : 0;
}

int mappings_protect(struct process *process, const struct mappings *mappings,
		     struct thaw_error *error)
{
	const uint32_t usual = PROT_READ | PROT_WRITE;
	struct batch batch;
	int rc;

	for (size_t i = 0; i < mappings->count; i++) {
		rc = read_wiped(process, &mappings->list[i]);
		if (rc)
			return failure(error, rc, "reading the guest's memory: %s",
				       thaw_strerror(rc));
	}
	batch_begin(&batch, &process->remote, 0);
	for (size_t i = 0, next; i < mappings->count; i = next) {
		const struct mapping *mapping = &mappings->list[i];
		uint64_t end = mapping->end;

		next = i + 1;
		if (mapping->kind != MAPPING_MEMORY)
			continue;
		if (mapping->flags & MAPPING_LOCKED)
			batch_try(&batch, SYS_mlock2, mapping->start, end - mapping->start,
				  MLOCK_ONFAULT, 0, 0);
		if (!process->space || !process->space->writable || mapping->protection == usual)
			continue;
		for (; next < mappings->count && mappings->list[next].start == end &&
		       mappings->list[next].kind == MAPPING_MEMORY &&
		       mappings->list[next].protection == mapping->protection &&
		       !(mappings->list[next].flags & MAPPING_LOCKED);
		     next++)
			end = mappings->list[next].end;
		batch_add(&batch, mapping, SYS_mprotect, mapping->start, end - mapping->start,
			  mapping->protection, 0, 0, 0);
	}
	make_keys(&batch, mappings);
	rc = batch_run(&batch);
	return rc ? failure(error, rc, "protecting the guest's memory: %s", thaw_strerror(rc)) : 0;
}
