/* SPDX-License-Identifier: MIT */
/*
 * no_checks.c - the library checks no invariants at run time. A file of its own, so that a test that is linked
 * with tests/inject/checks.c gets that instead, from the same library.
 */
#include "checks.h"

void check_locked(const pthread_mutex_t *lock)
{
	(void)lock;
}

void check_space_found(const struct image *image)
{
	(void)image;
}

void check_commit_begun(const struct image *image)
{
	(void)image;
}

void check_write(const struct space *space, uint64_t offset, uint64_t bytes)
{
	(void)space, (void)offset, (void)bytes;
}

void check_slot_write(const struct image *image)
{
	(void)image;
}

void check_log_write(const struct image *image, uint64_t offset, uint64_t bytes)
{
	(void)image, (void)offset, (void)bytes;
}

void check_commit_logged(const struct image *image)
{
	(void)image;
}

void check_commit_ended(const struct image *image, bool durable)
{
	(void)image, (void)durable;
}

void check_phase(const struct checkpointer *checkpointer)
{
	(void)checkpointer;
}

void check_captured(const struct checkpointer *checkpointer)
{
	(void)checkpointer;
}

void check_put_back(const struct checkpointer *checkpointer)
{
	(void)checkpointer;
}
