// SPDX-License-Identifier: GPL-2.0-only
/*
 * memory_room.h - a memory cgroup of the test's own, a swap file, and what the kernel says of its memory. For root
 * in a guest: everything is undone at the end, and a test that finds no privilege for it skips.
 */
#ifndef TESTS_KMOD_MEMORY_ROOM_H
#define TESTS_KMOD_MEMORY_ROOM_H

#include <sys/mount.h>
#include <sys/swap.h>

#include "device.h"

SUPPORT bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return written;
}

/* The number after a word at the beginning of a line, or of the whole file if `word` is empty; -1: none. */
SUPPORT int64_t read_number(const char *path, const char *word)
{
	FILE *file = fopen(path, "re");
	size_t length = strlen(word);
	long long number = -1;
	char line[512];

	while (file && number < 0 && fgets(line, sizeof(line), file))
		if (!strncmp(line, word, length) && sscanf(line + length, " %lld", &number) != 1)
			number = -1;
	if (file)
		fclose(file);
	return number;
}

/* ---- A cgroup ---- */

struct cgroup {
	char *mount, *path;
	bool mounted;
};

SUPPORT char *cgroup_file(const struct cgroup *cgroup, const char *name)
{
	return support_format("%s/%s", cgroup->path, name);
}

SUPPORT bool cgroup_set(const struct cgroup *cgroup, const char *name, const char *text)
{
	char *path = cgroup_file(cgroup, name);
	bool written = write_text(path, text);

	free(path);
	return written;
}

SUPPORT int64_t cgroup_number(const struct cgroup *cgroup, const char *name, const char *word)
{
	char *path = cgroup_file(cgroup, name);
	int64_t number = read_number(path, word);

	free(path);
	return number;
}

SUPPORT void cgroup_close(struct cgroup *cgroup)
{
	double end = support_deadline(20);

	if (cgroup->path)
		while (rmdir(cgroup->path) && errno == EBUSY && support_seconds() < end)
			support_sleep(0.01); /* who was in it is still going */
	if (cgroup->mounted)
		umount2(cgroup->mount, MNT_DETACH);
	rmdir(cgroup->mount);
	free(cgroup->path);
	free(cgroup->mount);
	*cgroup = (struct cgroup){0};
}

/* Why there is none, a line for SKIP(); NULL: there is an empty one, with nobody in it. */
SUPPORT const char *cgroup_open(struct cgroup *cgroup, const char *directory)
{
	char *control;
	bool controlled;

	*cgroup = (struct cgroup){.mount = support_format("%s/cgroup", directory)};
	mkdir(cgroup->mount, 0700);
	if (mount("none", cgroup->mount, "cgroup2", 0, NULL))
		return "only root can mount the control groups";
	cgroup->mounted = true;
	control = support_format("%s/cgroup.subtree_control", cgroup->mount);
	controlled = write_text(control, "+memory");
	free(control);
	cgroup->path = support_format("%s/thaw-%d", cgroup->mount, getpid());
	if (!controlled || mkdir(cgroup->path, 0700))
		return "no control group can limit memory here";
	return NULL;
}

/* This process and who it starts from now on. */
SUPPORT bool cgroup_enter(const struct cgroup *cgroup)
{
	return cgroup_set(cgroup, "cgroup.procs", "0");
}

SUPPORT void cgroup_leave(const struct cgroup *cgroup)
{
	char *root = support_format("%s/cgroup.procs", cgroup->mount);

	write_text(root, "0");
	free(root);
}

/* ---- Swap ---- */

struct swap {
	char *path;
};

/* NULL: the kernel has so many bytes more. */
SUPPORT const char *swap_open(struct swap *swap, const char *directory, size_t bytes)
{
	char *zeros = calloc(1, 1 << 20);
	uint32_t header[3] = {1, (uint32_t)(bytes / KERNEL_PAGE - 1), 0};
	int fd;

	swap->path = support_format("%s/swap", directory);
	fd = open(swap->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || !zeros)
		support_die(swap->path);
	for (size_t at = 0; at < bytes; at += 1 << 20)
		if (pwrite(fd, zeros, 1 << 20, (off_t)at) != 1 << 20)
			support_die(swap->path);
	free(zeros);
	/* What mkswap(8) writes: the version, the last page, and the word at the end of the first page. */
	if (pwrite(fd, header, sizeof(header), 1024) != sizeof(header) ||
	    pwrite(fd, "SWAPSPACE2", 10, (off_t)KERNEL_PAGE - 10) != 10 || fsync(fd) || close(fd))
		support_die(swap->path);
	if (swapon(swap->path, 0)) {
		unlink(swap->path);
		free(swap->path);
		swap->path = NULL;
		return errno == EPERM ? "only root can swap"
				      : "the kernel cannot swap to a file here";
	}
	return NULL;
}

SUPPORT void swap_close(struct swap *swap)
{
	if (!swap->path)
		return;
	if (swapoff(swap->path))
		support_die("swapoff");
	unlink(swap->path);
	free(swap->path);
	swap->path = NULL;
}

#endif
