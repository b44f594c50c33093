// SPDX-License-Identifier: MIT
/*
 * keeper.c - a forked child of a guest may miss pages, for some tenths of a second. Its userfaultfd is the supervisor's
 * alone: were that one killed, the kernel would close it, and the child would read zeros.
 *
 * So there is another process, which shares the supervisor's table of descriptors (also one that the kernel makes while the
 * supervisor, which is being killed, reads of a fork), and does nothing but to wait for its death. Then it closes all
 * that is no userfaultfd, the image's lock among it, and poisons every missing page that a process asks for, which ends it
 * (SIGBUS), until nobody is left who could ask. Before Linux 6.6 it kills who asks. The guest dies by itself (spawn.c).
 *
 * It is made as fork(2) does, without libc's knowledge, and has nothing but its stack and what is mapped of files: no call
 * of libc's, no variables.
 */
#define _GNU_SOURCE /* clone() */
#include "process/remote/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/failure.h"
#include "compat.h"
#include "process/stub/raw.h"

#define KEPT_MOST 4096u
#define LOOK_MS 500		  /* is somebody left? At first sooner. */
#define PROBE_ADDRESS 0x100000ull /* any that an address space can have, and hardly one does */
#define WAKE_START 0x10000ull	  /* below it, nobody may map anything */
#define WAKE_END 0x7ffffffff000ull
#define AGAIN_TRIES 1000 /* ms */
#define OTHERS_MOST 64u

/* On its stack alone. */
struct kept {
	unsigned count;
	struct pollfd fds[KEPT_MOST];
	char text[65536];
};

#define CALL(number, ...) CALL_OF(number, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define CALL_OF(number, a, b, c, d, e, f, ...)                                       \
	raw_call(number, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), \
		 (uint64_t)(e), (uint64_t)(f))

static int64_t control(int fd, uint64_t request, void *argument)
{
	return CALL(SYS_ioctl, fd, request, argument);
}

/* ---- Texts, without libc */

static bool begins(const char *text, const char *with)
{
	while (*with)
		if (*text++ != *with++)
			return false;
	return true;
}

static char *append(char *to, const char *text)
{
	while (*text)
		*to++ = *text++;
	*to = '\0';
	return to;
}

static char *append_number(char *to, unsigned number)
{
	char digits[16];
	unsigned count = 0;

	do
		digits[count++] = (char)('0' + number % 10);
	while (number /= 10);
	while (count)
		*to++ = digits[--count];
	*to = '\0';
	return to;
}

static uint64_t read_hex(const char **at)
{
	uint64_t value = 0;

	for (;; (*at)++)
		if (**at >= '0' && **at <= '9')
			value = value << 4 | (uint64_t)(**at - '0');
		else if (**at >= 'a' && **at <= 'f')
			value = value << 4 | (uint64_t)(**at - 'a' + 10);
		else
			return value;
}

/* ---- After the supervisor's death */

static void keep(struct kept *kept, int fd)
{
	if (kept->count == KEPT_MOST)
		return; /* its process waits meanwhile */
	CALL(SYS_fcntl, fd, F_SETFL, O_NONBLOCK);
	kept->fds[kept->count++] = (struct pollfd){.fd = fd, .events = POLLIN};
}

static bool is_userfaultfd(int fd)
{
	static const char name[] = "anon_inode:[userfaultfd]";
	char path[32], target[64];
	int64_t bytes;

	append_number(append(path, "/proc/self/fd/"), (unsigned)fd);
	bytes = CALL(SYS_readlink, path, target, sizeof(target) - 1);
	target[bytes > 0 ? bytes : 0] = '\0';
	return begins(target, name);
}

struct directory_entry {
	uint64_t inode, offset;
	uint16_t bytes;
	uint8_t type;
	char name[];
};

/* All descriptors: those of processes that may miss pages stay, the others are closed. */
static void sort_descriptors(struct kept *kept)
{
	int directory = (int)CALL(SYS_open, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	int64_t bytes;

	while ((bytes = CALL(SYS_getdents64, directory, kept->text, sizeof(kept->text))) > 0)
		for (int64_t at = 0; at < bytes;) {
			const struct directory_entry *entry = (void *)(kept->text + at);
			int fd = 0;

			at += entry->bytes;
			if (entry->name[0] == '.')
				continue;
			for (const char *digit = entry->name; *digit; digit++)
				fd = fd * 10 + (*digit - '0');
			if (fd == directory)
				continue;
			if (is_userfaultfd(fd))
				keep(kept, fd);
			else
				CALL(SYS_close, fd);
		}
	CALL(SYS_close, directory);
}

/* The kernel writes into what a thread has registered (rseq(2)), which lies behind its thread pointer. */
static bool is_used(const struct kept *kept, uint64_t start, uint64_t end)
{
	uintptr_t used[] = {(uintptr_t)kept, (uintptr_t)__builtin_thread_pointer()};

	return (used[0] >= start && used[0] < end) || (used[1] >= start && used[1] < end);
}

/* A line of /proc/self/maps: anonymous memory is not used any more, but for this thread's own. */
static bool give_up_mapping(const struct kept *kept, const char *line)
{
	uint64_t start = read_hex(&line), end;
	unsigned spaces = 0;

	line++;
	end = read_hex(&line);
	if (is_used(kept, start, end))
		return false;
	for (; *line && *line != '\n'; line++)
		if (*line == ' ' && ++spaces == 4) /* its inode */
			break;
	if (!begins(line, " 0 ") && !begins(line, " 0\n"))
		return false;
	return !raw_failed(CALL(SYS_munmap, start, end - start));
}

/* Each time from the start: the list changes. */
static void give_up_memory(struct kept *kept)
{
	bool more = true;

	while (more) {
		int fd = (int)CALL(SYS_open, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
		int64_t bytes = 0, got;

		more = false;
		while (bytes < (int64_t)sizeof(kept->text) - 1 &&
		       (got = CALL(SYS_read, fd, kept->text + bytes,
				   sizeof(kept->text) - 1 - (uint64_t)bytes)) > 0)
			bytes += got;
		kept->text[bytes > 0 ? bytes : 0] = '\0';
		CALL(SYS_close, fd);
		for (const char *line = kept->text, *next; *line; line = next) {
			for (next = line; *next && *next != '\n'; next++)
				;
			if (!*next)
				break; /* not all of it */
			next++;
			more |= give_up_mapping(kept, line);
		}
	}
}

/* The process of this thread; 0: there is none. */
static unsigned process_of_thread(struct kept *kept, unsigned tid)
{
	static const char field[] = "\nTgid:\t";
	unsigned pid = 0;
	int64_t bytes = 0;
	int fd;

	append(append_number(append(kept->text, "/proc/"), tid), "/status");
	fd = (int)CALL(SYS_open, kept->text, O_RDONLY | O_CLOEXEC, 0);
	if (fd >= 0) {
		bytes = CALL(SYS_read, fd, kept->text, sizeof(kept->text) - 1);
		CALL(SYS_close, fd);
	}
	kept->text[bytes > 0 ? bytes : 0] = '\0';
	for (const char *at = kept->text; *at; at++)
		if (begins(at, field)) {
			for (at += sizeof(field) - 1; *at >= '0' && *at <= '9'; at++)
				pid = pid * 10 + (unsigned)(*at - '0');
			return pid;
		}
	return 0;
}

static void wake(int fd, uint64_t start, uint64_t bytes)
{
	struct uffdio_range range = {.start = start, .len = bytes};

	control(fd, UFFDIO_WAKE, &range);
}

/* A fault of this thread's is raised again. Others that come meanwhile are raised once more, too. */
static bool faults_again(struct kept *kept, int fd, const struct uffd_msg *first)
{
	uint64_t others[OTHERS_MOST];
	unsigned count = 0;
	bool again = false;

	wake(fd, first->arg.pagefault.address & ~4095ull, 4096);
	for (int i = 0; i < AGAIN_TRIES && count < OTHERS_MOST && !again; i++) {
		struct pollfd ready = {.fd = fd, .events = POLLIN};
		struct uffd_msg message;

		CALL(SYS_poll, &ready, 1, 1);
		if (CALL(SYS_read, fd, &message, sizeof(message)) != sizeof(message))
			continue;
		if (message.event == UFFD_EVENT_FORK)
			keep(kept, (int)message.arg.fork.ufd);
		else if (message.event != UFFD_EVENT_PAGEFAULT)
			continue;
		else if (message.arg.pagefault.feat.ptid == first->arg.pagefault.feat.ptid)
			again = true;
		else
			others[count++] = message.arg.pagefault.address & ~4095ull;
	}
	for (unsigned i = 0; i < count; i++)
		wake(fd, others[i], 4096);
	return again;
}

/* In /proc/PID/smaps, a mapping whose missing pages somebody is asked for has `um` among its flags. */
static bool may_miss_pages(struct kept *kept, unsigned pid)
{
	static const char field[] = "VmFlags:";
	unsigned letter = 0; /* of the line; in the field's line not counted on */
	bool found = false;
	int64_t bytes;
	char last = 0;
	int fd;

	append(append_number(append(kept->text, "/proc/"), pid), "/smaps");
	fd = (int)CALL(SYS_open, kept->text, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return false;
	while (!found && (bytes = CALL(SYS_read, fd, kept->text, sizeof(kept->text))) > 0)
		for (int64_t i = 0; i < bytes; i++) {
			char now = kept->text[i];

			if (now == '\n')
				letter = 0;
			else if (letter == sizeof(field) - 1)
				found |= last == 'u' && now == 'm';
			else if (now == field[letter])
				letter++;
			else
				letter = sizeof(field); /* another line */
			last = now;
		}
	CALL(SYS_close, fd);
	return found;
}

/*
 * Before Linux 6.6. Its number may have become another process's since, above all that of the guest which goes on in place
 * of the killed one, and which has the same numbers. So that process is held first (pidfd), and has to fault again here.
 * And the number is one of the process's own namespace: in ours it may be that of anybody.
 */
static void end_thread(struct kept *kept, int fd, const struct uffd_msg *fault)
{
	unsigned pid = process_of_thread(kept, fault->arg.pagefault.feat.ptid);
	int pidfd = pid ? (int)CALL(SYS_pidfd_open, pid, 0) : -1;

	if (pidfd < 0)
		return;
	if (process_of_thread(kept, fault->arg.pagefault.feat.ptid) == pid &&
	    may_miss_pages(kept, pid) && faults_again(kept, fd, fault))
		CALL(SYS_pidfd_send_signal, pidfd, SIGKILL, 0, 0);
	CALL(SYS_close, pidfd);
}

/* Whoever wants this page gets SIGBUS, and only who shares the memory that it is of. False: this kernel cannot. */
static bool poison(int fd, const struct uffd_msg *fault)
{
	struct uffdio_poison page = {
		.range = {.start = fault->arg.pagefault.address & ~4095ull, .len = 4096}};
	int64_t code = control(fd, UFFDIO_POISON, &page);

	if (code == -EINVAL || code == -ENOTTY)
		return false;
	if (raw_failed(
		    code)) /* it has come, or is gone, or a fork has to be read of first: it asks again, if need be */
		wake(fd, page.range.start, page.range.len);
	return true;
}

static void answer(struct kept *kept, int fd)
{
	struct uffd_msg message;

	while (CALL(SYS_read, fd, &message, sizeof(message)) == sizeof(message))
		if (message.event == UFFD_EVENT_FORK)
			keep(kept, (int)message.arg.fork.ufd);
		else if (message.event == UFFD_EVENT_PAGEFAULT && !poison(fd, &message))
			end_thread(kept, fd, &message);
}

/* The memory that it is of is gone. */
static bool is_over(int fd)
{
	struct uffdio_zeropage probe = {.range = {.start = PROBE_ADDRESS, .len = 4096}};

	return control(fd, UFFDIO_ZEROPAGE, &probe) == -ESRCH;
}

static void let_go(struct kept *kept)
{
	for (unsigned i = 0; i < kept->count;)
		if (is_over(kept->fds[i].fd)) {
			CALL(SYS_close, kept->fds[i].fd);
			kept->fds[i] = kept->fds[--kept->count];
		} else {
			i++;
		}
}

static void keep_all(struct kept *kept)
{
	/* Faults that the supervisor has read, and not answered, are raised again. */
	for (unsigned i = 0; i < kept->count; i++)
		wake(kept->fds[i].fd, WAKE_START, WAKE_END - WAKE_START);
	for (unsigned wait = 1; let_go(kept), kept->count; wait *= wait < LOOK_MS ? 2 : 1) {
		unsigned count = kept->count;

		CALL(SYS_poll, kept->fds, count, wait);
		for (unsigned i = 0; i < count; i++)
			if (kept->fds[i].revents)
				answer(kept, kept->fds[i].fd);
	}
}

__attribute__((noreturn, noinline)) static void keeper_main(int supervisor)
{
	struct pollfd dead = {.fd = supervisor, .events = POLLIN};
	struct kept kept;

	kept.count = 0;
	CALL(SYS_prctl, PR_SET_NAME, "keeps-pages");
	CALL(SYS_setsid); /* what ends the supervisor's group, or its session, does not end it */
	give_up_memory(&kept);
	while (CALL(SYS_poll, &dead, 1, -1) != 1)
		;
	for (;;) {
		sort_descriptors(&kept);
		if (!kept.count)
			CALL(SYS_exit_group, 0);
		keep_all(&kept);
	}
}

/* ---- In the supervisor */

int keeper_start(struct keeper *keeper, struct thaw_error *error)
{
	sigset_t all, before;
	int64_t pid;

	*keeper = (struct keeper){.supervisor = (int)syscall(SYS_pidfd_open, getpid(), 0)};
	if (keeper->supervisor < 0)
		return failure(error, -errno, "pidfd_open(2) of this process: %s", strerror(errno));
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = CALL(SYS_clone, CLONE_FILES);
	if (!pid)
		keeper_main(keeper->supervisor);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (pid < 0) {
		close(keeper->supervisor);
		return failure(error, (int)pid,
			       "no process can be made that keeps missing pages: %s",
			       strerror((int)-pid));
	}
	keeper->pid = (pid_t)pid;
	return 0;
}

void keeper_end(struct keeper *keeper)
{
	if (keeper->pid <= 0)
		return;
	kill(keeper->pid, SIGKILL);
	while (waitpid(keeper->pid, NULL, __WALL) < 0 && errno == EINTR)
		;
	close(keeper->supervisor);
	*keeper = (struct keeper){0};
}
