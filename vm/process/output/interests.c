// SPDX-License-Identifier: MIT
/*
 * interests.c - the guest closes a descriptor that our duplicate keeps open until its queue is sent. The kernel would go on
 * to report it to the guest's epolls, where many programs rely on close(2) to end that: so it is removed from them.
 *
 * epoll knows an interest by its open file and its number: our duplicate becomes that number for a moment, in the table of
 * the notifier's threads, in which ours begin above. The notifier's thread, with the lock.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "process/output/internal.h"

static void forget_epolls(struct output *output)
{
	while (output->epoll_count)
		close(output->epolls[--output->epoll_count]);
}

static void add_epoll(struct output *output, int number)
{
	int fd = guest_descriptor(output, number);

	if (fd >= 0)
		output->epolls[output->epoll_count++] = fd;
}

/* Somebody may still be about to make one. */
static bool makes_one(const struct output *output)
{
	for (unsigned i = 0; i < output->change_count; i++)
		if (output->changes[i].makes_epoll)
			return true;
	return output->changes_lost;
}

static void find_epolls(struct output *output)
{
	const struct dirent *entry;
	char path[64], link[64];
	DIR *list;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)output->pid);
	list = opendir(path);
	if (!list)
		return;
	forget_epolls(output);
	while ((entry = readdir(list)) && output->epoll_count < EPOLLS_MOST) {
		ssize_t bytes = readlinkat(dirfd(list), entry->d_name, link, sizeof(link) - 1);

		link[bytes > 0 ? bytes : 0] = '\0';
		if (!strcmp(link, "anon_inode:[eventpoll]"))
			add_epoll(output, atoi(entry->d_name));
	}
	closedir(list);
	output->epolls_stale = makes_one(output);
}

void interests_remove(struct output *output, struct outlet *outlet, int number)
{
	if (output->epolls_stale)
		find_epolls(output);
	if (!output->epoll_count || number >= output->least ||
	    dup3(outlet->fd, number, O_CLOEXEC) < 0)
		return;
	for (unsigned i = 0; i < output->epoll_count; i++)
		epoll_ctl(output->epolls[i], EPOLL_CTL_DEL, number, NULL);
	close(number);
}
