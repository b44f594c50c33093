/* SPDX-License-Identifier: GPL-2.0-only */
/* replicated.h - for tests of programs whose generations are replicated to a store. */
#ifndef TESTS_STORE_REPLICATED_H
#define TESTS_STORE_REPLICATED_H

#include <sys/mman.h>

#include "replica.h"
#include "store/push.h"

#define HEAP_BYTES (2u << 20)
#define FOR_EVER 0

struct shared {				 /* with the program */
	_Atomic uint64_t count_of[4096]; /* by the number of a generation */
	_Atomic uint64_t acknowledged;	 /* a generation's number */
	_Atomic uint64_t count;		 /* durable */
	_Atomic int failed;
};

struct replicated { /* a program, which is this process or a child */
	struct store_server server;
	char *directory, *image;
	struct shared *shared;
	struct thaw_error error;
	uint64_t interval_ns, least_age_ns, connect_ns;
	/* Of this process: */
	struct thaw *heap;
	struct thaw_mirror *mirror;
	struct replication *replication;
	int64_t at; /* the heap's count; 0: not asked yet */
};

/* NULL, or why there can be none. */
SUPPORT char *replicated_begin(struct replicated *self)
{
	char *lacks;

	*self = (struct replicated){.directory = support_directory(), .connect_ns = 60000000000u};
	lacks = support_kernel_lacks(self->directory);
	self->image = support_format("%s/image.thaw", self->directory);
	self->shared = mmap(NULL, sizeof(*self->shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	store_server_begin(&self->server);
	return lacks;
}

/* What is acknowledged, as it is told. */
SUPPORT void changed(void *arg)
{
	struct replicated *self = arg;
	struct replication_status status;

	if (!self->replication)
		return;
	replicate_status(self->replication, &status);
	if (status.generation > self->shared->acknowledged)
		self->shared->acknowledged = status.generation;
}

SUPPORT int program_open(struct replicated *self, unsigned flags, unsigned epoch_flags)
{
	const struct replicate_options options = {.place = self->server.place,
						  .image = self->image,
						  .program = "replicate",
						  .flags = EPOCH_BEGIN | epoch_flags,
						  .connect_ns = self->connect_ns,
						  .interval_ns = self->interval_ns,
						  .least_age_ns = self->least_age_ns,
						  .changed = changed,
						  .arg = self};
	int code;

	code = replicate_open(&options, &self->replication, &self->error);
	if (code < 0)
		return code;
	self->heap = replica_heap(self->image, THAW_CREATE | flags, &self->error);
	if (!self->heap)
		return self->error.code;
	code = 0;
	if (!thaw_size(self->heap))
		code = thaw_resize(self->heap, HEAP_BYTES);
	if (!code)
		code = thaw_mirror_open(self->heap, 0, &self->mirror, &self->error);
	if (!code)
		code = replicate_start(self->replication, self->mirror, &self->error);
	return code;
}

SUPPORT void program_close(struct replicated *self)
{
	replicate_close(self->replication);
	thaw_mirror_close(self->mirror);
	thaw_close(self->heap);
	self->replication = NULL;
	self->mirror = NULL;
	self->heap = NULL;
	self->at = 0;
}

/* So many more; the count then. */
SUPPORT int64_t program_goes_on(struct replicated *self, unsigned generations)
{
	int64_t count = self->at ? self->at : replica_count(self->heap);

	if (count < 0)
		return count;
	for (unsigned i = 0; i < generations; i++) {
		int64_t number = replica_generation(self->heap, (uint64_t)++count);

		if (number < 0)
			return number;
		self->shared->count_of[number % 4096] = (uint64_t)count;
		self->shared->count = (uint64_t)count;
	}
	self->at = count;
	return count;
}

/* The newest generation is in the store. */
SUPPORT int program_wait_acknowledged(struct replicated *self)
{
	struct thaw_mirror_news news;

	thaw_mirror_news(self->mirror, &news);
	return replicate_wait(self->replication, news.generation, FOR_EVER, &self->error);
}

/* What the store goes on from. */
SUPPORT int64_t program_in_store(struct replicated *self)
{
	struct store_record record;

	return replica_of_store(self->server.place, self->directory, &record);
}

/* Until the status is so. False: it was not within a minute. */
SUPPORT bool program_becomes(struct replicated *self,
			     bool (*so)(const struct replication_status *status))
{
	double deadline = support_deadline(60);
	struct replication_status status;

	do {
		replicate_status(self->replication, &status);
		if (so(&status))
			return true;
		support_sleep(0.002);
	} while (support_seconds() < deadline);
	return false;
}

SUPPORT void replicated_end(struct replicated *self)
{
	program_close(self);
	store_server_end(&self->server);
	free(self->image);
	support_remove(self->directory);
}

#endif
