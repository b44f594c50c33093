// SPDX-License-Identifier: MIT
/*
 * group.c - several requests at the same time, and waiting for them.
 */
#include "store/group.h"

#include <errno.h>

void group_open(struct group *group)
{
	*group = (struct group){0};
	pthread_mutex_init(&group->lock, NULL);
	pthread_cond_init(&group->ended, NULL);
}

static void ended(struct s3_request *request)
{
	struct group *group = request->arg;
	unsigned i = 0;

	/* Signalled inside of the lock: who waits may close the group as soon as it has it. */
	pthread_mutex_lock(&group->lock);
	while (group->requests[i] != request)
		i++;
	group->requests[i] = group->requests[--group->under_way];
	pthread_cond_signal(&group->ended);
	pthread_mutex_unlock(&group->lock);
}

void group_start(struct group *group, struct s3 *s3, struct s3_request *request)
{
	request->done = ended;
	request->arg = group;
	group_wait(group, GROUP_MOST - 1);
	/* Inside of the lock, or group_stop() might stop one that is not begun yet. */
	pthread_mutex_lock(&group->lock);
	if (group->stopped) {
		request->code = -ECANCELED;
	} else {
		group->requests[group->under_way++] = request;
		s3_start(s3, request);
	}
	pthread_mutex_unlock(&group->lock);
}

void group_wait(struct group *group, unsigned under_way)
{
	pthread_mutex_lock(&group->lock);
	while (group->under_way > under_way)
		pthread_cond_wait(&group->ended, &group->lock);
	pthread_mutex_unlock(&group->lock);
}

static bool has(const struct group *group, const struct s3_request *request)
{
	for (unsigned i = 0; i < group->under_way; i++)
		if (group->requests[i] == request)
			return true;
	return false;
}

bool group_has(struct group *group, const struct s3_request *request)
{
	bool there;

	pthread_mutex_lock(&group->lock);
	there = has(group, request);
	pthread_mutex_unlock(&group->lock);
	return there;
}

void group_wait_for(struct group *group, const struct s3_request *request)
{
	pthread_mutex_lock(&group->lock);
	while (has(group, request))
		pthread_cond_wait(&group->ended, &group->lock);
	pthread_mutex_unlock(&group->lock);
}

void group_stop_one(struct group *group, struct s3 *s3, struct s3_request *request)
{
	pthread_mutex_lock(&group->lock);
	if (has(group, request))
		s3_stop(s3, request);
	pthread_mutex_unlock(&group->lock);
}

void group_stop(struct group *group, struct s3 *s3)
{
	pthread_mutex_lock(&group->lock);
	group->stopped = true;
	for (unsigned i = 0; i < group->under_way; i++)
		s3_stop(s3, group->requests[i]);
	pthread_mutex_unlock(&group->lock);
}

void group_close(struct group *group)
{
	group_wait(group, 0);
	pthread_cond_destroy(&group->ended);
	pthread_mutex_destroy(&group->lock);
}
