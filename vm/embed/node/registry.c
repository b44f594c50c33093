/* SPDX-License-Identifier: MIT */
/*
 * registry.c - VMs and snapshots that other threads of the process name by a number: to interrupt a VM, and to hand a snapshot to a
 * worker. The only state that the addon's instances share; behind a lock.
 */
#include <pthread.h>
#include <stdlib.h>

#include "addon.h"

struct entry {
	struct entry *next;
	uint64_t id;
	struct thaw_vm *vm;
	struct thaw_vm_snapshot *snapshot;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct entry *entries;
static uint64_t last_id;

static uint64_t add(struct thaw_vm *vm, struct thaw_vm_snapshot *snapshot)
{
	struct entry *entry = malloc(sizeof(*entry));
	uint64_t id;

	if (!entry)
		return 0;
	pthread_mutex_lock(&lock);
	id = ++last_id;
	*entry = (struct entry){entries, id, vm, snapshot};
	entries = entry;
	pthread_mutex_unlock(&lock);
	return id;
}

/* Under the lock. */
static struct entry **find(uint64_t id)
{
	struct entry **at = &entries;

	while (*at && (*at)->id != id)
		at = &(*at)->next;
	return at;
}

static struct entry take(uint64_t id, bool snapshot)
{
	struct entry taken = {0}, *entry, **at;

	pthread_mutex_lock(&lock);
	at = find(id);
	entry = *at && !(*at)->snapshot == !snapshot ? *at : NULL;
	if (entry) {
		taken = *entry;
		*at = entry->next;
		free(entry);
	}
	pthread_mutex_unlock(&lock);
	return taken;
}

uint64_t registry_add(struct thaw_vm *vm)
{
	return add(vm, NULL);
}

void registry_remove(uint64_t id)
{
	take(id, false);
}

bool registry_interrupt(uint64_t id)
{
	struct entry *entry;
	bool found;

	pthread_mutex_lock(
		&lock); /* until it is told: its thread closes it after registry_remove() */
	entry = *find(id);
	found = entry && entry->vm;
	if (found)
		thaw_vm_interrupt(entry->vm);
	pthread_mutex_unlock(&lock);
	return found;
}

uint64_t registry_send(struct thaw_vm_snapshot *snapshot)
{
	return add(NULL, snapshot);
}

struct thaw_vm_snapshot *registry_receive(uint64_t id)
{
	return take(id, true).snapshot;
}
