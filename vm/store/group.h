/* SPDX-License-Identifier: MIT */
/*
 * group.h - several requests of one thread, which are under way at the same time, and waiting for them. The requests' done, arg
 * and `next` in the group are the group's. One thread starts and waits; any may stop it.
 */
#ifndef VM_STORE_GROUP_H
#define VM_STORE_GROUP_H

#include <pthread.h>

#include "store/s3.h"

#define GROUP_MOST 32u /* under way at once */

struct group {
	pthread_mutex_t lock;
	pthread_cond_t ended;
	struct s3_request *requests[GROUP_MOST];
	unsigned under_way;
	bool stopped; /* what is started ends at once */
};

void group_open(struct group *group);
/* Waits while as many are under way as there can be. */
void group_start(struct group *group, struct s3 *s3, struct s3_request *request);
/* Until no more than so many are under way. */
void group_wait(struct group *group, unsigned under_way);
/* Is it under way? / Until it is not. */
bool group_has(struct group *group, const struct s3_request *request);
void group_wait_for(struct group *group, const struct s3_request *request);
/* It ends with -ECANCELED, soon, if it is under way. */
void group_stop_one(struct group *group, struct s3 *s3, struct s3_request *request);
/* All that are under way end with -ECANCELED, soon, and so do those to come. Any thread. */
void group_stop(struct group *group, struct s3 *s3);
void group_close(struct group *group); /* waits for all */

#endif
