/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * disk.h - a disk with a write cache, whose power can be cut while a file system of the kernel is mounted from it: a loop
 * device over a file of FUSE (disk.c). A flush makes what was written before it durable; of what came after, a cut leaves
 * any sectors and not others.
 */
#ifndef TESTS_POWER_DISK_H
#define TESTS_POWER_DISK_H

#include <stdbool.h>
#include <stddef.h>

struct disk;

/* With a new ext4. NULL: it cannot be had here, and why. `directory`: two are made in it. */
struct disk *disk_open(const char *directory, size_t bytes, const char **why);
/* Where the file system is mounted. */
const char *disk_path(const struct disk *disk);
/* The power fails, at one of the next writes, if some come. What is mounted seems to go on, and does not matter any more. */
void disk_cut(struct disk *disk, unsigned seed);
/* After disk_cut(), and the end of those who use it: the file system is mounted from what was left. False: the kernel refuses it. */
bool disk_power_on(struct disk *disk);
/* Flushes, sectors written, and of those how many the cuts have lost. */
void disk_count(const struct disk *disk, unsigned long long *flushes, unsigned long long *written,
		unsigned long long *lost);
void disk_close(struct disk *disk);

#endif
