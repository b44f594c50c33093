/* SPDX-License-Identifier: MIT */
/*
 * keeper.h - who keeps the missing pages of a guest's forked children missing when the supervisor is killed.
 */
#ifndef VM_PROCESS_KEEPER_H
#define VM_PROCESS_KEEPER_H

#include <sys/types.h>

#include "thaw.h"

struct keeper {
	pid_t pid;	/* 0: there is none */
	int supervisor; /* its pidfd */
};

/* Before the guest can fork with missing pages. */
int keeper_start(struct keeper *keeper, struct thaw_error *error);
/* No child misses a page any more. Of {0}: nothing. */
void keeper_end(struct keeper *keeper);

#endif
