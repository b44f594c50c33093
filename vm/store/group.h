/* SPDX-License-Identifier: MIT */
/*
 * group.h - several requests of one thread, which are under way at the same time, and waiting for them. The requests' done and
 * arg are the group's. A group is not used by two threads.
 */
#ifndef VM_STORE_GROUP_H
#define VM_STORE_GROUP_H

#include <pthread.h>

#include "store/s3.h"

struct group {
	pthread_mutex_t lock;
	pthread_cond_t ended;
	unsigned under_way;
};

void group_open(struct group *group);
void group_start(struct group *group, struct s3 *s3, struct s3_request *request);
/* Until no more than so many are under way. */
void group_wait(struct group *group, unsigned under_way);
void group_close(struct group *group); /* waits for all */

#endif
