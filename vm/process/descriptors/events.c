/* SPDX-License-Identifier: MIT */
/*
 * events.c - descriptors that events are read from: eventfd, timerfd, signalfd, pidfd. (inotify:
 * watches.c.)
 *
 * A timer is recorded by the time at which it fires, in the guest's own clock, and set by the guest itself: it may
 * live in a time namespace. So what it fires at is the same, also after a long time, as if the process had been
 * stopped meanwhile.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/failure.h"
#include "process/descriptors/descriptors.h"

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif
#define SECOND 1000000000ull

static bool is_anonymous(const struct descriptor_object *object, const char *name)
{
	return !strncmp(object->link, "anon_inode:", 11) && !strcmp(object->link + 11, name);
}

static int no_facts(struct descriptor_capture *capture, const struct descriptor_object *object)
{
	return failure(
		capture->error, -EIO,
		"/proc/%d/fdinfo/%d does not say what has to be known of a descriptor that is a %s",
		(int)capture->process->remote.pid, object->number, object->kind->name);
}

/* ---- eventfd: count, semaphore or not */

bool event_is(struct descriptor_capture *capture, struct descriptor_object *object)
{
	(void)capture;
	return is_anonymous(object, "[eventfd]");
}

/*
 * Kernels before 6.5 do not say: of a semaphore 1 is read, of a counter all. Nobody else looks: all threads are
 * parked, and the count is put back.
 */
static bool is_semaphore(int fd, uint64_t count)
{
	uint64_t more = 2, got = 0;
	bool semaphore;

	if (count >= UINT64_MAX - 4 || write(fd, &more, 8) != 8 || read(fd, &got, 8) != 8)
		return false;
	semaphore = got == 1;
	if (semaphore) {
		if (read(fd, &got, 8) != 8)
			return semaphore;
	} else if (count && write(fd, &count, 8) != 8) {
		return semaphore;
	}
	return semaphore;
}

int event_capture(struct descriptor_capture *capture, struct descriptor_object *object,
		  struct record_writer *writer)
{
	const char *info = descriptor_fdinfo(capture, object->number);
	uint64_t count, semaphore;

	if (!info || !descriptor_field(info, "eventfd-count", 16, &count))
		return no_facts(capture, object);
	if (!descriptor_field(info, "eventfd-semaphore", 10, &semaphore))
		semaphore = is_semaphore(object->here, count);
	record_put(writer, count);
	record_put(writer, semaphore != 0);
	return 0;
}

int event_make(struct descriptor_restore *restore, struct descriptor_object *object,
	       struct record_reader *reader)
{
	uint64_t count = record_take(reader);
	bool semaphore = record_take_up_to(reader, 1);

	object->here = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | (semaphore ? EFD_SEMAPHORE : 0));
	if (object->here < 0 || (count && write(object->here, &count, 8) != 8))
		return descriptor_fail(restore, object, -errno, "%s", strerror(errno));
	return 0;
}

void event_describe(const struct descriptor_object *object, struct record_reader *reader,
		    char *text, size_t room)
{
	uint64_t count = record_take(reader);

	(void)object;
	snprintf(text, room, "%s with %llu", record_take_up_to(reader, 1) ? "semaphore" : "counter",
		 (unsigned long long)count);
}

/* ---- timerfd */

static const int clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};

struct timer_record {
	uint64_t clock, flags, ticks;
	uint64_t value_ns, interval_ns; /* when, in `read_by`; 0: it is not set */
	uint64_t read_by;		/* an index of clocks */
};

static uint64_t from_spec(struct timespec spec)
{
	return (uint64_t)spec.tv_sec * SECOND + (uint64_t)spec.tv_nsec;
}

static struct timespec to_spec(uint64_t ns)
{
	return (struct timespec){(time_t)(ns / SECOND), (long)(ns % SECOND)};
}

/* The guest's three clocks now. */
static int clocks_now(struct process *process, unsigned mailbox, uint64_t *ns)
{
	struct remote *remote = &process->remote;
	struct timespec *specs;
	uint64_t room;
	int code;

	remote_forget(remote);
	room = remote_room(remote, sizeof(*specs) * 3, (void **)&specs);
	if (!room)
		return -ENOBUFS;
	for (unsigned i = 0; i < 3; i++)
		remote_add(remote, mailbox, __NR_clock_gettime, (uint64_t)clocks[i],
			   room + i * sizeof(*specs), 0, 0, 0, 0);
	code = remote_run(remote, mailbox);
	for (unsigned i = 0; i < 3 && !code; i++)
		ns[i] = from_spec(specs[i]);
	return code;
}

bool timer_is(struct descriptor_capture *capture, struct descriptor_object *object)
{
	(void)capture;
	return is_anonymous(object, "[timerfd]");
}

/*
 * Which clock it runs by: a relative time of the real-time clock is one of the monotonic clock, whoever sets the former
 * (timerfd_create(2)).
 */
static unsigned runs_by(uint64_t clock, uint64_t flags)
{
	if (clock == CLOCK_BOOTTIME || clock == CLOCK_BOOTTIME_ALARM)
		return 2;
	if ((clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_ALARM) && flags & TFD_TIMER_ABSTIME)
		return 0;
	return 1;
}

int timer_capture(struct descriptor_capture *capture, struct descriptor_object *object,
		  struct record_writer *writer)
{
	struct itimerspec time = {0};
	uint64_t clock, flags, ticks, left;
	const char *info;
	unsigned by;

	/* First: ticks that have passed are counted by this call. */
	if (timerfd_gettime(object->here, &time))
		return failure(capture->error, -errno, "descriptor %d, a timerfd: %s",
			       object->number, strerror(errno));
	info = descriptor_fdinfo(capture, object->number);
	if (!info || !descriptor_field(info, "clockid", 10, &clock) ||
	    !descriptor_field(info, "ticks", 10, &ticks) ||
	    !descriptor_field(info, "settime flags", 8, &flags))
		return no_facts(capture, object);
	if (!capture->have_clocks) {
		int code = clocks_now(capture->process, capture->mailbox, capture->clocks_ns);

		if (code)
			return failure(capture->error, code, "clocks of process %d: %s",
				       (int)capture->process->remote.pid, thaw_strerror(code));
		capture->have_clocks = true;
	}
	by = runs_by(clock, flags);
	left = from_spec(time.it_value);
	record_put(writer, clock);
	record_put(writer, flags);
	record_put(writer, ticks);
	record_put(writer, left ? capture->clocks_ns[by] + left : 0);
	record_put(writer, from_spec(time.it_interval));
	record_put(writer, by);
	return 0;
}

static void timer_take(struct timer_record *record, struct record_reader *reader)
{
	record->clock = record_take_up_to(reader, 15);
	record->flags = record_take_up_to(reader, 3);
	record->ticks = record_take(reader);
	record->value_ns = record_take_up_to(reader, INT64_MAX);
	record->interval_ns = record_take_up_to(reader, INT64_MAX);
	record->read_by = record_take_up_to(reader, 2);
}

int timer_make(struct descriptor_restore *restore, struct descriptor_object *object,
	       struct record_reader *reader)
{
	struct timer_record record;

	timer_take(&record, reader);
	object->here = timerfd_create((int)record.clock, TFD_CLOEXEC | TFD_NONBLOCK);
	if (object->here < 0)
		return descriptor_fail(restore, object, -errno, "%s", strerror(errno));
	return 0;
}

int timer_place(struct descriptor_restore *restore, struct descriptor_object *object,
		struct record_reader *reader)
{
	struct timer_record record;
	struct itimerspec time = {0};
	uint64_t flags, now[3], address;
	int64_t code;

	timer_take(&record, reader);
	if (!record.value_ns && !record.ticks)
		return 0;
	code = clocks_now(restore->process, 0, now);
	if (code)
		return descriptor_fail(restore, object, (int)code, "clocks: %s",
				       thaw_strerror((int)code));
	flags = record.flags;
	time.it_interval = to_spec(record.interval_ns);
	if (record.value_ns) {
		/* In the clock that it was created with; relative to the real-time one: what is left of it. */
		time.it_value = to_spec(record.value_ns);
		if (runs_by(record.clock, TFD_TIMER_ABSTIME) == record.read_by)
			flags |= TFD_TIMER_ABSTIME;
		else
			time.it_value = to_spec(record.value_ns > now[record.read_by]
							? record.value_ns - now[record.read_by]
							: 1);
	}
	remote_forget(&restore->process->remote);
	address = remote_copy(&restore->process->remote, &time, sizeof(time));
	code = descriptor_call(restore->process, 0, __NR_timerfd_settime, (uint64_t)object->number,
			       flags, address, 0);
	if (code)
		return descriptor_fail(restore, object, (int)code, "%s", thaw_strerror((int)code));
	if (!record.ticks || !ioctl(object->here, TFD_IOC_SET_TICKS, &record.ticks))
		return 0;
	/* A kernel without that: it ticks at once. */
	time.it_value = to_spec(1);
	address = remote_copy(&restore->process->remote, &time, sizeof(time));
	descriptor_call(restore->process, 0, __NR_timerfd_settime, (uint64_t)object->number, 0,
			address, 0);
	return 0;
}

void timer_describe(const struct descriptor_object *object, struct record_reader *reader,
		    char *text, size_t room)
{
	static const char *const names[] = {"real time", "monotonic clock", "time since the boot"};
	struct timer_record record;

	(void)object;
	timer_take(&record, reader);
	if (!record.value_ns)
		snprintf(text, room, "not set");
	else
		snprintf(text, room, "fires at %llu.%03llu s of the %s",
			 (unsigned long long)(record.value_ns / SECOND),
			 (unsigned long long)(record.value_ns / 1000000 % 1000),
			 names[record.read_by]);
}

/* ---- signalfd */

bool signals_is(struct descriptor_capture *capture, struct descriptor_object *object)
{
	(void)capture;
	return is_anonymous(object, "[signalfd]");
}

int signals_capture(struct descriptor_capture *capture, struct descriptor_object *object,
		    struct record_writer *writer)
{
	const char *info = descriptor_fdinfo(capture, object->number);
	uint64_t mask;

	if (!info || !descriptor_field(info, "sigmask", 16, &mask))
		return no_facts(capture, object);
	record_put(writer, mask);
	return 0;
}

int signals_make(struct descriptor_restore *restore, struct descriptor_object *object,
		 struct record_reader *reader)
{
	uint64_t mask = record_take(reader);

	object->here = (int)syscall(SYS_signalfd4, -1, &mask, sizeof(mask), O_CLOEXEC | O_NONBLOCK);
	if (object->here < 0)
		return descriptor_fail(restore, object, -errno, "%s", strerror(errno));
	return 0;
}

void signals_describe(const struct descriptor_object *object, struct record_reader *reader,
		      char *text, size_t room)
{
	(void)object;
	snprintf(text, room, "signals %#llx", (unsigned long long)record_take(reader));
}

/* ---- pidfd: pid, when that process began (ticks since the boot), whether it is the guest */

/* Field 22 of /proc/PID/stat; 0: there is no such process, or it has ended. */
static uint64_t began(pid_t pid)
{
	char path[48], text[1024], *at;
	uint64_t begin = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	text[fread(text, 1, sizeof(text) - 1, file)] = 0;
	fclose(file);
	at = strrchr(text, ')');
	if (!at || at[1] != ' ' || at[2] == 'Z' || at[2] == 'X')
		return 0;
	at += 2;
	for (int field = 3; field < 22 && at; field++) {
		at = strchr(at, ' ');
		at = at ? at + 1 : NULL;
	}
	if (at)
		begin = strtoull(at, NULL, 10);
	return begin;
}

bool pidfd_is(struct descriptor_capture *capture, struct descriptor_object *object)
{
	(void)capture;
	return is_anonymous(object, "[pidfd]") || !strncmp(object->link, "pidfd:", 6);
}

int pidfd_capture(struct descriptor_capture *capture, struct descriptor_object *object,
		  struct record_writer *writer)
{
	const char *info = descriptor_fdinfo(capture, object->number);
	uint64_t pid;
	bool itself;

	if (!info || !descriptor_field(info, "Pid", 10, &pid))
		return no_facts(capture, object);
	itself = (pid_t)(int64_t)pid == capture->process->remote.pid;
	record_put(writer, (uint32_t)pid);
	record_put(writer, (int32_t)pid > 0 && !itself ? began((pid_t)pid) : 0);
	record_put(writer, itself);
	return 0;
}

/* Of a child that has ended at once: readable, and nothing can be sent to it any more. */
static int pidfd_ended(void)
{
	pid_t child = fork();
	int fd;

	if (!child)
		_exit(0);
	if (child < 0)
		return -errno;
	fd = (int)syscall(SYS_pidfd_open, child, 0);
	if (fd < 0)
		fd = -errno;
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	return fd;
}

int pidfd_make(struct descriptor_restore *restore, struct descriptor_object *object,
	       struct record_reader *reader)
{
	pid_t pid = (pid_t)record_take_up_to(reader, UINT32_MAX);
	uint64_t begin = record_take(reader);
	bool itself = record_take_up_to(reader, 1);

	if (reader->failed)
		return 0;
	if (itself)
		pid = restore->process->remote.pid;
	if (itself || (begin && began(pid) == begin))
		object->here = (int)syscall(SYS_pidfd_open, pid, object->flags & O_NONBLOCK);
	if (object->here < 0)
		object->here = pidfd_ended();
	if (object->here < 0)
		return descriptor_fail(restore, object, object->here, "%s",
				       thaw_strerror(object->here));
	return 0;
}

void pidfd_describe(const struct descriptor_object *object, struct record_reader *reader,
		    char *text, size_t room)
{
	int pid = (int32_t)record_take_up_to(reader, UINT32_MAX);
	uint64_t begin = record_take(reader);

	(void)object;
	if (record_take_up_to(reader, 1))
		snprintf(text, room, "of the process itself");
	else if (begin)
		snprintf(text, room, "of process %d, if that still lives", pid);
	else
		snprintf(text, room, "of a process that has ended");
}
