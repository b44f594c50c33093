// SPDX-License-Identifier: GPL-2.0-only
/*
 * disk.c - the disk of disk.h. A process of its own serves one file through FUSE, one request at a time: reads and writes go to
 * memory that it shares with the test, a sync copies what was written since the last one to a second memory. The loop
 * device makes a flush of the file system a sync of that file. So a cut is a moment between two requests.
 */
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <linux/loop.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "disk.h"

#define SECTOR 512u
#define NAME "/disk"

/* In memory that both processes share. */
struct platter {
	pthread_mutex_t lock;
	unsigned long long flushes, written, lost;
	bool off;		      /* what is written is lost, and nobody is told */
	unsigned seed, writes_to_cut; /* 0: none is wanted */
	size_t bytes;
	uint8_t *now, *durable;
	uint8_t *dirty; /* of each sector: written since the last flush? */
};

struct disk {
	struct platter *platter;
	char *served, *mounted, *device;
	pid_t server;
	int loop;
	int outside; /* the namespace of mounts that the test came from */
};

static struct platter *platter; /* of the serving process */

/* ---- The file */

static int file_attributes(const char *path, struct stat *status, struct fuse_file_info *file)
{
	(void)file;
	memset(status, 0, sizeof(*status));
	status->st_mode = S_IFDIR | 0700;
	status->st_nlink = 2;
	if (!strcmp(path, "/"))
		return 0;
	if (strcmp(path, NAME))
		return -ENOENT;
	status->st_mode = S_IFREG | 0600;
	status->st_nlink = 1;
	status->st_size = (off_t)platter->bytes;
	return 0;
}

static int file_open(const char *path, struct fuse_file_info *file)
{
	(void)file;
	return strcmp(path, NAME) ? -ENOENT : 0;
}

/* How many of these bytes there are. */
static size_t within(size_t bytes, off_t at)
{
	size_t left = (size_t)at < platter->bytes ? platter->bytes - (size_t)at : 0;

	return bytes < left ? bytes : left;
}

static int file_read(const char *path, char *buffer, size_t bytes, off_t at,
		     struct fuse_file_info *file)
{
	(void)path;
	(void)file;
	bytes = within(bytes, at);
	memcpy(buffer, platter->now + at, bytes);
	return (int)bytes;
}

/* The power fails, with the lock held: of what was not flushed any sectors stay. */
static void fail(struct platter *shared)
{
	unsigned share;

	srand(shared->seed);
	share = (unsigned)rand() % 5; /* of four parts: nothing of it, some, everything */
	for (size_t sector = 0; sector < shared->bytes / SECTOR; sector++) {
		uint8_t *now = shared->now + sector * SECTOR,
			*durable = shared->durable + sector * SECTOR;
		bool stays;

		if (!shared->dirty[sector])
			continue;
		stays = (unsigned)rand() % 4 < share;
		memcpy(stays ? durable : now, stays ? now : durable, SECTOR);
		shared->dirty[sector] = 0;
		shared->lost += !stays;
	}
	shared->off = true;
	shared->writes_to_cut = 0;
}

static int file_write(const char *path, const char *buffer, size_t bytes, off_t at,
		      struct fuse_file_info *file)
{
	(void)path;
	(void)file;
	bytes = within(bytes, at);
	pthread_mutex_lock(&platter->lock);
	if (!platter->off)
		memcpy(platter->now + at, buffer, bytes);
	for (size_t sector = (size_t)at / SECTOR;
	     sector * SECTOR < (size_t)at + bytes && !platter->off; sector++) {
		platter->dirty[sector] = 1;
		platter->written++;
	}
	if (platter->writes_to_cut && !--platter->writes_to_cut)
		fail(platter);
	pthread_mutex_unlock(&platter->lock);
	return bytes ? (int)bytes : -ENOSPC;
}

static int file_sync(const char *path, int data_only, struct fuse_file_info *file)
{
	(void)path;
	(void)data_only;
	(void)file;
	pthread_mutex_lock(&platter->lock);
	for (size_t sector = 0; sector < platter->bytes / SECTOR; sector++)
		if (platter->dirty[sector]) {
			memcpy(platter->durable + sector * SECTOR, platter->now + sector * SECTOR,
			       SECTOR);
			platter->dirty[sector] = 0;
		}
	platter->flushes++;
	pthread_mutex_unlock(&platter->lock);
	return 0;
}

static const struct fuse_operations operations = {.getattr = file_attributes,
						  .open = file_open,
						  .read = file_read,
						  .write = file_write,
						  .fsync = file_sync};

/* Says by a byte that it is mounted, and serves until that ends. */
static _Noreturn void serve(struct disk *disk, int tell)
{
	char *words[] = {"disk", "-o", "default_permissions", NULL};
	struct fuse_args arguments = FUSE_ARGS_INIT(3, words);
	struct fuse *fuse;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	platter = disk->platter;
	fuse = fuse_new(&arguments, &operations, sizeof(operations), NULL);
	if (!fuse || fuse_mount(fuse, disk->served))
		_exit(1);
	/*
	 * The last process in a namespace of mounts unmounts what is there. It must not be this one: the file system
	 * would wait for its own server, which ends, for ever.
	 */
	if (setns(disk->outside, CLONE_NEWNS) || write(tell, "", 1) != 1)
		_exit(1);
	_exit(fuse_loop(fuse) != 0);
}

/* ---- Power */

static bool start_server(struct disk *disk)
{
	int tell[2];
	char byte;

	if (pipe2(tell, O_CLOEXEC))
		return false;
	disk->server = fork();
	if (!disk->server) {
		close(tell[0]);
		serve(disk, tell[1]);
	}
	close(tell[1]);
	byte = disk->server > 0 && read(tell[0], &byte, 1) == 1;
	close(tell[0]);
	return byte;
}

/* A loop device over the served file; it goes when it is unmounted. */
static bool attach(struct disk *disk)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), number, file;
	char *path = NULL;
	bool fine = false;

	if (control < 0 || asprintf(&path, "%s" NAME, disk->served) < 0)
		return false;
	file = open(path, O_RDWR | O_CLOEXEC);
	free(path);
	/* Somebody else may take it in between. */
	for (int i = 0;
	     !fine && i < 50 && file >= 0 && (number = ioctl(control, LOOP_CTL_GET_FREE)) >= 0;
	     i++) {
		struct loop_config config = {.fd = (uint32_t)file,
					     .info.lo_flags = LO_FLAGS_AUTOCLEAR};

		free(disk->device);
		if (asprintf(&disk->device, "/dev/loop%d", number) < 0)
			break;
		disk->loop = open(disk->device, O_RDWR | O_CLOEXEC);
		fine = disk->loop >= 0 && !ioctl(disk->loop, LOOP_CONFIGURE, &config);
		if (!fine && disk->loop >= 0)
			close(disk->loop);
	}
	if (file >= 0)
		close(file);
	close(control);
	return fine;
}

static bool power(struct disk *disk)
{
	disk->loop = -1;
	if (!start_server(disk) || !attach(disk))
		return false;
	/* The journal is replayed here, as after any power cut. */
	return !mount(disk->device, disk->mounted, "ext4", MS_NOATIME, "errors=remount-ro");
}

static void power_off(struct disk *disk)
{
	umount2(disk->mounted, MNT_DETACH);
	if (disk->loop >= 0)
		close(disk->loop);
	disk->loop = -1;
	umount2(disk->served, MNT_DETACH);
	if (disk->server > 0) {
		kill(disk->server, SIGKILL);
		waitpid(disk->server, NULL, 0);
	}
	disk->server = 0;
}

void disk_cut(struct disk *disk, unsigned seed)
{
	struct platter *shared = disk->platter;

	pthread_mutex_lock(&shared->lock);
	shared->seed = seed;
	shared->writes_to_cut = 1 + seed % 4;
	pthread_mutex_unlock(&shared->lock);
	for (int ms = 0; ms < 100; ms++) {
		usleep(1000);
		pthread_mutex_lock(&shared->lock);
		/* Nobody writes: it fails now. */
		if (!shared->off && ms == 99)
			fail(shared);
		ms = shared->off ? 100 : ms;
		pthread_mutex_unlock(&shared->lock);
	}
}

static void init_lock(struct platter *shared)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&shared->lock, &attributes);
}

bool disk_power_on(struct disk *disk)
{
	struct platter *shared = disk->platter;

	power_off(disk);
	init_lock(shared); /* its server may have been killed with it */
	shared->off = false;
	return power(disk);
}

void disk_count(const struct disk *disk, unsigned long long *flushes, unsigned long long *written,
		unsigned long long *lost)
{
	*flushes = disk->platter->flushes;
	*written = disk->platter->written;
	*lost = disk->platter->lost;
}

const char *disk_path(const struct disk *disk)
{
	return disk->mounted;
}

/* ---- */

static void *memory(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

/* An empty file system, as a file, in memory. */
static bool make_file_system(struct disk *disk, const char *directory)
{
	char *path = NULL, *command = NULL;
	bool fine = false;
	ssize_t got = 1;
	int fd = -1;

	if (asprintf(&path, "%s/empty", directory) > 0 &&
	    asprintf(&command, "mkfs.ext4 -q -F '%s'", path) > 0)
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0 && !ftruncate(fd, (off_t)disk->platter->bytes) && !system(command)) {
		for (size_t at = 0; got > 0 && at < disk->platter->bytes; at += (size_t)got)
			got = pread(fd, disk->platter->now + at, disk->platter->bytes - at,
				    (off_t)at);
		fine = got > 0;
		memcpy(disk->platter->durable, disk->platter->now, disk->platter->bytes);
	}
	if (fd >= 0) {
		close(fd);
		unlink(path);
	}
	free(path);
	free(command);
	return fine;
}

struct disk *disk_open(const char *directory, size_t bytes, const char **why)
{
	struct disk *disk = calloc(1, sizeof(*disk));
	struct platter *shared = memory(sizeof(*shared));

	*why = "no memory";
	if (!disk || !shared)
		return NULL;
	disk->loop = -1;
	disk->platter = shared;
	*shared = (struct platter){.bytes = bytes,
				   .now = memory(bytes),
				   .durable = memory(bytes),
				   .dirty = memory(bytes / SECTOR)};
	if (!shared->now || !shared->durable || !shared->dirty ||
	    asprintf(&disk->served, "%s/served", directory) < 0 ||
	    asprintf(&disk->mounted, "%s/mounted", directory) < 0)
		return NULL;
	mkdir(disk->served, 0700);
	mkdir(disk->mounted, 0700);
	*why = "there is no mkfs.ext4 that works";
	if (!make_file_system(disk, directory))
		return NULL;
	/* Mounted for this test alone: whatever becomes of it, nothing stays mounted. */
	*why = "nothing may be mounted here";
	disk->outside = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (disk->outside < 0 || unshare(CLONE_NEWNS) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return NULL;
	*why = "there is no FUSE, or no loop device";
	if (!disk_power_on(disk)) {
		power_off(disk);
		return NULL;
	}
	return disk;
}

void disk_close(struct disk *disk)
{
	power_off(disk);
	close(disk->outside);
	rmdir(disk->served);
	rmdir(disk->mounted);
	munmap(disk->platter->now, disk->platter->bytes);
	munmap(disk->platter->durable, disk->platter->bytes);
	free(disk->served);
	free(disk->mounted);
	free(disk->device);
	free(disk);
}
