/* SPDX-License-Identifier: MIT */
/*
 * process_memory.c - reaching the memory of another process: attaching to it, reading and writing its pages. What is
 * in it, and which of it is kept, is in process_ranges.c.
 *
 * Reads are made in batches by process_vm_readv(2); where that is refused (memory without PROT_READ) through
 * /proc/PID/mem, which asks for no protection; where both are, by the caller's callback. The checkpoint's thread
 * while the guest runs, the owner's while it is stopped.
 *
 * Must never: touch a process after process_memory_leave(), since its number may be another's by then.
 */
#define _GNU_SOURCE
#include "process_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "region.h"
#include "sys.h"

#define RUNS_PER_CALL 512u

struct process_memory *process_memory_create(uint32_t page_bytes)
{
	struct process_memory *memory = calloc(1, sizeof(*memory));

	if (!memory)
		return NULL;
	memory->page_bytes = page_bytes;
	memory->pagemap = memory->mem = memory->stat = -1;
	memory->process.userfaultfd = -1;
	pthread_mutex_init(&memory->lock, NULL);
	pthread_mutex_init(&memory->access, NULL);
	if (bitmap_init(&memory->removed, PROCESS_BYTES / page_bytes) ||
	    bitmap_init(&memory->scratch, PROCESS_BYTES / page_bytes)) {
		bitmap_free(&memory->removed);
		free(memory);
		return NULL;
	}
	return memory;
}

static void files_close(struct process_memory *memory)
{
	if (memory->pagemap >= 0)
		close(memory->pagemap);
	if (memory->mem >= 0)
		close(memory->mem);
	if (memory->stat >= 0)
		close(memory->stat);
	memory->pagemap = memory->mem = memory->stat = -1;
}

void process_memory_destroy(struct process_memory *memory)
{
	if (!memory)
		return;
	files_close(memory);
	bitmap_free(&memory->removed);
	bitmap_free(&memory->scratch);
	pthread_mutex_destroy(&memory->lock);
	pthread_mutex_destroy(&memory->access);
	free(memory->answers);
	free(memory->ranges);
	free(memory->apart);
	free(memory);
}

int process_memory_apart(struct process_memory *memory, const struct thaw_range *ranges,
			 size_t count)
{
	struct thaw_range *copy = count ? malloc(count * sizeof(*copy)) : NULL;

	if (count && !copy)
		return -ENOMEM;
	if (count)
		memcpy(copy, ranges, count * sizeof(*copy));
	free(memory->apart);
	memory->apart = copy;
	memory->apart_count = count;
	return 0;
}

void process_memory_renew(struct process_memory *memory)
{
	files_close(memory);
	pthread_mutex_lock(&memory->lock);
	free(memory->answers);
	free(memory->ranges);
	memory->answers = memory->ranges = NULL;
	memory->count = 0;
	process_memory_apart(memory, NULL, 0);
	bitmap_clear_all(&memory->removed);
	pthread_mutex_unlock(&memory->lock);
	memory->epoch++;
	memory->attached = false;
	memory->gone = false;
}

int process_memory_open(const struct process_memory *memory, const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", memory->process.pid, name);
	return sys_open(path, flags | O_CLOEXEC, 0);
}

void process_memory_leave(struct process_memory *memory)
{
	memory->gone = true;
	/* Whoever reads it now has finished then, and nobody begins. */
	pthread_mutex_lock(&memory->access);
	pthread_mutex_unlock(&memory->access);
}

/*
 * Page tables of a process that has ended read as empty ones, with which nothing was written. Its pagemap says
 * whether it had ended: no entries at all, instead of empty ones.
 */
bool process_memory_alive(const struct process_memory *memory)
{
	uint64_t entry;

	return !memory->gone && pread(memory->pagemap, &entry, sizeof(entry), 0) == sizeof(entry);
}

static bool kill_waits(const struct process_memory *memory)
{
	int fd = process_memory_open(memory, "status", O_RDONLY);
	char text[4096], *at;
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	text[got > 0 ? got : 0] = '\0';
	at = strstr(text, "\nSigPnd:");
	return !at || strtoull(at + 8, NULL, 16) >> (SIGKILL - 1) & 1;
}

#define STAT_FLAGS 9 /* its fields, from 1 on */
#define STAT_START_CODE 26
#define FLAG_ENDS 0x4ull	/* of the kernel: PF_EXITING */
#define FLAG_SIGNALLED 0x400ull /* PF_SIGNALED */

static unsigned long long stat_field(const char *text, unsigned number)
{
	const char *at = strrchr(text, ')');

	for (unsigned field = 2; at && field < number; field++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at, NULL, 10) : 0;
}

/* 1: it goes on; 0: so it seems, but not all could be seen. The last field is what it ends with, or what has stopped it. */
static int stat_look(struct process_memory *memory)
{
	char text[2048], *last;
	ssize_t got = pread(memory->stat, text, sizeof(text) - 1, 0);
	unsigned long code;

	if (got < 0)
		return -errno;
	text[got] = '\0';
	last = strrchr(text, ' ');
	code = last ? strtoul(last, NULL, 10) : 0;
	if (!last || stat_field(text, STAT_FLAGS) & (FLAG_ENDS | FLAG_SIGNALLED) ||
	    (code && code != SIGSTOP && code != SIGTSTP && code != SIGTTIN && code != SIGTTOU))
		return -ESRCH;
	/* Who may not know all is told 1 for this one. */
	return stat_field(text, STAT_START_CODE) != 1 && memory->stat_tells_at_once;
}

int process_memory_was_still(struct process_memory *memory)
{
	int look;

	if (!process_memory_alive(memory))
		return -ESRCH;
	if (memory->stat < 0) {
		memory->stat = process_memory_open(memory, "stat", O_RDONLY);
		memory->stat_tells_at_once = sys_kernel_is(6, 12);
	}
	if (memory->stat < 0)
		return memory->stat == -ENOENT ? -ESRCH : memory->stat;
	look = stat_look(memory);
	/* A signal that is taken does not wait any more; then flags tell of it. */
	if (!look)
		look = kill_waits(memory) ? -ESRCH : stat_look(memory);
	return look < 0 ? look : 0;
}

/* ---- reading */

static uint64_t address_of(const struct process_memory *memory, uint64_t page)
{
	return page * memory->page_bytes;
}

/* The next pages of the bitmap, as runs. How many bytes. */
static size_t gather(const struct process_memory *memory, const struct bitmap *pages, uint64_t page,
		     unsigned room, struct iovec *runs, unsigned *count)
{
	size_t bytes = 0;

	*count = 0;
	while (room && *count < RUNS_PER_CALL && (page = bitmap_next(pages, page)) != UINT64_MAX) {
		uint64_t run = bitmap_next_clear(pages, page, page + room) - page;

		/* Addresses of the guest. */
		runs[*count].iov_base = (void *)(uintptr_t)address_of(memory, page); // NOLINT
		runs[(*count)++].iov_len = run * memory->page_bytes;
		bytes += run * memory->page_bytes;
		room -= (unsigned)run;
		page += run;
	}
	return bytes;
}

static int open_mem(struct process_memory *memory)
{
	if (memory->mem == -1) {
		memory->mem = process_memory_open(memory, "mem", O_RDWR);
		if (memory->mem < 0)
			memory->mem = -2;
	}
	return memory->mem;
}

/*
 * Some of these adjacent pages, by other ways than process_vm_readv(): how many bytes; 0: not even the first can be
 * read; -ESRCH.
 */
static int64_t read_otherwise(struct process_memory *memory, uint64_t address, void *to,
			      size_t bytes)
{
	if (open_mem(memory) >= 0) {
		ssize_t got = pread(memory->mem, to, bytes, (off_t)address);

		if (!got)
			return -ESRCH;
		if (got >= (ssize_t)memory->page_bytes)
			return got - got % memory->page_bytes;
		if (errno != EACCES && errno != EPERM)
			return 0;
	}
	if (memory->process.read) {
		int code = memory->process.read(memory->process.arg, address, to, bytes);

		if (!code)
			return (int64_t)bytes;
		if (code == -ESRCH)
			return code;
		if (bytes > memory->page_bytes) /* which one is it? */
			return read_otherwise(memory, address, to, memory->page_bytes);
	}
	return 0;
}

/* A batch, with the lock. `*vanished`: the page behind what was read cannot be. */
static int64_t read_batch(struct process_memory *memory, const struct iovec *runs, unsigned count,
			  char *to, size_t bytes, bool *vanished)
{
	struct iovec local = {to, bytes};
	size_t done = 0;
	ssize_t got = sys_injected(SYS_CALL_READ)
			      ? -EIO
			      : process_vm_readv(memory->process.pid, &local, 1, runs, count, 0);

	*vanished = false;
	if (got == -EIO)
		return -EIO;
	if (got < 0 && errno == ESRCH)
		return -ESRCH;
	got = got < 0 ? 0 : got - got % memory->page_bytes;
	if ((size_t)got == bytes)
		return got;
	/* The run in which it ended. */
	while (done + runs->iov_len <= (size_t)got)
		done += runs++->iov_len;
	done = (size_t)got - done;
	bytes = runs->iov_len - done;
	int64_t more = read_otherwise(memory, (uintptr_t)runs->iov_base + done, to + got, bytes);

	*vanished = !more;
	return more < 0 ? more : got + more;
}

int64_t process_memory_read(struct process_memory *memory, struct bitmap *pages, uint64_t *next,
			    unsigned room, void *to, struct bitmap *vanished)
{
	struct iovec runs[RUNS_PER_CALL];
	unsigned count;
	int64_t read = 0;

	while (!read && (*next = bitmap_next(pages, *next)) != UINT64_MAX) {
		size_t bytes = gather(memory, pages, *next, room, runs, &count);
		bool stuck = false;

		pthread_mutex_lock(&memory->access);
		read = memory->gone ? -ESRCH : read_batch(memory, runs, count, to, bytes, &stuck);
		pthread_mutex_unlock(&memory->access);
		if (read < 0)
			return read;
		read /= memory->page_bytes;
		for (int64_t i = 0; i < read; i++)
			*next = bitmap_next(pages, *next) + 1;
		if (stuck) {
			*next = bitmap_next(pages, *next);
			bitmap_clear(pages, *next);
			bitmap_set(vanished, (*next)++);
		}
	}
	return read;
}

/* ---- writing */

int process_memory_write(struct process_memory *memory, uint64_t address, const void *from,
			 size_t bytes)
{
	const char *at = from;

	while (bytes) {
		struct iovec local = {(void *)at, bytes};
		struct iovec remote = {(void *)(uintptr_t)address, bytes}; // NOLINT
		ssize_t put = process_vm_writev(memory->process.pid, &local, 1, &remote, 1, 0);

		if (put < 0 && errno == ESRCH)
			return -ESRCH;
		if (put <= 0 && open_mem(memory) >= 0) {
			put = pwrite(memory->mem, at, bytes, (off_t)address);
			if (!put)
				return -ESRCH;
		}
		if (put < 0)
			return memory->process.write ? memory->process.write(memory->process.arg,
									     address, at, bytes)
						     : -errno;
		at += put;
		address += (uint64_t)put;
		bytes -= (size_t)put;
	}
	return 0;
}
