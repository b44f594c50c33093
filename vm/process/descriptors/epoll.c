/* SPDX-License-Identifier: MIT */
/*
 * epoll.c - epoll: every interest of every instance.
 *
 * An interest belongs to an object under the number that it was added by. That number may have been closed or used
 * again meanwhile, while a duplicate keeps the object alive: which object it is, kcmp(2) tells, or the inode. The
 * guest itself adds them at last, when all numbers are in place; for one of a number that is not the object's any
 * more, the object gets that number for the length of the call.
 *
 * fdinfo does not tell an interest that has fired once (EPOLLONESHOT) from one that asked for nothing, so that
 * EPOLLERR and EPOLLHUP may come for it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/failure.h"
#include "process/descriptors/descriptors.h"

struct interest {
	int number;
	uint32_t events;
	uint64_t data;
	uint64_t object; /* UINT32_MAX: of an object that the guest does not have any more */
	/* While it is captured. */
	unsigned long long inode;
	unsigned device; /* as the kernel has it: 12 and 20 bits */
};

bool epoll_is(struct descriptor_capture *capture, struct descriptor_object *object)
{
	(void)capture;
	return !strcmp(object->link, "anon_inode:[eventpoll]");
}

/* ---- Captured */

static const struct descriptor *descriptor_of(const struct descriptors *descriptors, int number)
{
	size_t low = 0, high = descriptors->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (descriptors->list[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < descriptors->count && descriptors->list[low].number == number
		       ? &descriptors->list[low]
		       : NULL;
}

static bool looks_like(const struct descriptor_object *object, const struct interest *interest)
{
	return object->stat.st_ino == interest->inode &&
	       major(object->stat.st_dev) == interest->device >> 20 &&
	       minor(object->stat.st_dev) == (interest->device & 0xfffff);
}

/* 1: list[index] is that object; 0: it is not; -1: the kernel does not say. */
static int is_target(const struct descriptor_object *epoll, const struct interest *list,
		     size_t index, const struct descriptor_object *object)
{
	struct kcmp_epoll_slot slot = {(uint32_t)epoll->here, (uint32_t)list[index].number, 0};
	pid_t self = getpid();
	long result;

	if (descriptors_forbidden.kcmp)
		return -1;
	/* Those of the same number are counted in the order that fdinfo has them in. */
	for (size_t i = 0; i < index; i++)
		slot.toff += list[i].number == list[index].number;
	result = syscall(SYS_kcmp, self, self, KCMP_EPOLL_TFD, object->here, &slot);
	return result < 0 ? -1 : result == 0;
}

/* Which of those that share an inode it is, only kcmp(2) could say. */
static bool is_ambiguous(const struct descriptors *descriptors,
			 const struct descriptor_object *epoll, const struct interest *list,
			 size_t index)
{
	for (size_t i = 0; i < descriptors->object_count; i++)
		if (looks_like(&descriptors->objects[i], &list[index]))
			return is_target(epoll, list, index, &descriptors->objects[i]) < 0;
	return false;
}

static uint64_t target_find(struct descriptor_capture *capture,
			    const struct descriptor_object *epoll, const struct interest *list,
			    size_t index)
{
	const struct interest *interest = &list[index];
	const struct descriptors *descriptors = capture->descriptors;
	const struct descriptor *now = descriptor_of(descriptors, interest->number);

	/*
	 * Inodes of files, pipes and sockets are their own; those of other kinds share one. Two descriptions of one
	 * inode are rare, and kcmp(2) costs a walk over all interests.
	 */
	if (now && looks_like(&descriptors->objects[now->object], interest) &&
	    (strncmp(descriptors->objects[now->object].link, "anon_inode:", 11) ||
	     is_target(epoll, list, index, &descriptors->objects[now->object])))
		return now->object;
	for (size_t i = 0; i < descriptors->object_count; i++)
		if (looks_like(&descriptors->objects[i], interest) &&
		    is_target(epoll, list, index, &descriptors->objects[i]) == 1)
			return i;
	/* Without kcmp(2): only one object can be meant where the inode is its own. */
	for (size_t i = 0; i < descriptors->object_count; i++)
		if (looks_like(&descriptors->objects[i], interest) &&
		    strncmp(descriptors->objects[i].link, "anon_inode:", 11) &&
		    is_target(epoll, list, index, &descriptors->objects[i]) < 0)
			return i;
	return UINT32_MAX;
}

/* The number after `name`, which is searched for from *at on; *at is behind it. */
static bool take_number(const char **at, const char *name, int base, unsigned long long *number)
{
	const char *found = strstr(*at, name);
	char *end;

	if (!found)
		return false;
	found += strlen(name);
	*number = strtoull(found, &end, base);
	*at = end;
	return end != found;
}

/* "tfd:        5 events:       19 data:                5  pos:0 ino:9d9 sdev:9" */
static size_t interests_read(const char *info, struct interest *list, size_t room)
{
	size_t count = 0;

	while (count < room) {
		struct interest *interest = &list[count];
		unsigned long long number, events, data, device;

		*interest = (struct interest){0};
		if (!take_number(&info, "tfd:", 10, &number) ||
		    !take_number(&info, " events:", 16, &events) ||
		    !take_number(&info, " data:", 16, &data) ||
		    !take_number(&info, " ino:", 16, &interest->inode) ||
		    !take_number(&info, " sdev:", 16, &device))
			break;
		interest->number = (int)number;
		interest->events = (uint32_t)events;
		interest->data = data;
		interest->device = (unsigned)device;
		count++;
	}
	return count;
}

static size_t interests_count(const char *info)
{
	size_t count = 0;

	for (const char *line = info; (line = strstr(line, "tfd:")); line += 4)
		count++;
	return count;
}

static int by_number(const void *a, const void *b)
{
	const struct interest *left = a, *right = b;

	if (left->number != right->number)
		return left->number < right->number ? -1 : 1;
	return left->data < right->data ? -1 : left->data > right->data;
}

int epoll_capture(struct descriptor_capture *capture, struct descriptor_object *object,
		  struct record_writer *writer)
{
	const char *info = descriptor_fdinfo(capture, object->number);
	size_t count = info ? interests_count(info) : 0;
	struct interest *list = info ? calloc(count + 1, sizeof(*list)) : NULL;

	if (!list || interests_read(info, list, count) != count) {
		free(list);
		return failure(capture->error, -EIO,
			       "/proc/%d/fdinfo/%d does not say what has to be known of an epoll",
			       (int)capture->process->remote.pid, object->number);
	}
	for (size_t i = 0; i < count; i++) {
		list[i].object = target_find(capture, object, list, i);
		if (list[i].object == UINT32_MAX &&
		    is_ambiguous(capture->descriptors, object, list, i)) {
			int number = list[i].number;

			free(list);
			return descriptor_refuse(
				capture, object,
				"an epoll that waits for what had the number %d, which is "
				"closed, and the kernel does not say what that is (kcmp(2) is "
				"not allowed here)",
				number);
		}
	}
	qsort(list, count, sizeof(*list), by_number); /* fdinfo's order is that of addresses */
	record_put(writer, count);
	for (size_t i = 0; i < count; i++) {
		record_put(writer, (uint64_t)list[i].number);
		record_put(writer, list[i].events);
		record_put(writer, list[i].data);
		record_put(writer, list[i].object);
	}
	free(list);
	return 0;
}

/* ---- Made again */

int epoll_make(struct descriptor_restore *restore, struct descriptor_object *object,
	       struct record_reader *reader)
{
	(void)reader;
	object->here = epoll_create1(EPOLL_CLOEXEC);
	if (object->here < 0)
		return descriptor_fail(restore, object, -errno, "%s", strerror(errno));
	return 0;
}

static void interest_take(struct interest *interest, struct record_reader *reader)
{
	interest->number = (int)record_take_up_to(reader, INT32_MAX);
	interest->events = (uint32_t)record_take_up_to(reader, UINT32_MAX);
	interest->data = record_take(reader);
	interest->object = record_take_up_to(reader, UINT32_MAX);
}

bool epoll_is_plain(const struct descriptors *descriptors, const struct descriptor_object *object)
{
	struct record_reader reader = {object->record, object->record + object->bytes, false};
	uint64_t count = record_take_count(&reader, 32);
	bool plain = true;

	while (count-- && plain && !reader.failed) {
		const struct descriptor_object *target;
		const struct descriptor *now;
		struct interest interest;

		interest_take(&interest, &reader);
		now = descriptor_of(descriptors, interest.number);
		plain = now && now->object == interest.object;
		target = plain ? &descriptors->objects[interest.object] : NULL;
		/* Other anonymous ones have nothing that tells one from another. */
		plain = plain &&
			(S_ISSOCK(target->stat.st_mode) || S_ISFIFO(target->stat.st_mode) ||
			 target->kind->capture == event_capture);
	}
	return plain && !reader.failed;
}

/* Some calls of one batch, which add one interest each, or put an object in place for it. */
struct batch {
	struct descriptor_restore *restore;
	struct descriptor_object *epoll;
	struct {
		int number;
		unsigned call;
	} added[CONTROL_CALLS];
	unsigned count, calls;
};

static int batch_run(struct batch *batch)
{
	struct process *process = batch->restore->process;
	int code = batch->calls ? remote_run(&process->remote, 0) : 0;

	if (code)
		return descriptor_fail(batch->restore, batch->epoll, code, "%s",
				       thaw_strerror(code));
	for (unsigned i = 0; i < batch->count; i++) {
		int64_t result =
			process->remote.control->mailboxes[0].calls[batch->added[i].call].result;

		if (result == -EPERM) /* a file: always ready, and no epoll takes it */
			descriptor_tell(
				batch->restore, batch->epoll,
				"its interest in descriptor %d is gone: a file has no events",
				batch->added[i].number);
		else if (result < 0 && result != -EEXIST)
			return descriptor_fail(batch->restore, batch->epoll, (int)result,
					       "its interest in descriptor %d: %s",
					       batch->added[i].number, thaw_strerror((int)result));
	}
	batch->count = batch->calls = 0;
	remote_forget(&process->remote);
	return 0;
}

static void batch_call(struct batch *batch, int64_t number, uint64_t a, uint64_t b, uint64_t c,
		       uint64_t d)
{
	struct call *call =
		remote_add(&batch->restore->process->remote, 0, number, a, b, c, d, 0, 0);

	if (call)
		call->flags |= CALL_MAY_FAIL;
	batch->calls++;
}

static int interest_add(struct batch *batch, const struct interest *interest)
{
	struct epoll_event event = {.events = interest->events, .data.u64 = interest->data};
	uint64_t address = remote_copy(&batch->restore->process->remote, &event, sizeof(event));

	if (!address)
		return -ENOBUFS;
	batch->added[batch->count].number = interest->number;
	batch->added[batch->count++].call = batch->calls;
	batch_call(batch, __NR_epoll_ctl, (uint64_t)batch->epoll->number, EPOLL_CTL_ADD,
		   (uint64_t)interest->number, address);
	return 0;
}

/* The number is another object's now, or nobody's: it is this one's for the length of the call. */
static int interest_add_displaced(struct batch *batch, const struct interest *interest,
				  const struct descriptor_object *object)
{
	struct process *process = batch->restore->process;
	const struct descriptor *now = descriptor_of(batch->restore->descriptors, interest->number);
	int64_t kept = -1;
	int code = batch_run(batch);

	if (code)
		return code;
	if (now) {
		kept = descriptor_call(process, 0, __NR_fcntl, (uint64_t)interest->number,
				       F_DUPFD_CLOEXEC, 0, 0);
		if (kept < 0)
			return (int)kept;
	}
	batch_call(batch, __NR_dup3, (uint64_t)object->number, (uint64_t)interest->number,
		   O_CLOEXEC, 0);
	code = interest_add(batch, interest);
	if (now) {
		batch_call(batch, __NR_dup3, (uint64_t)kept, (uint64_t)interest->number,
			   now->close_on_exec ? O_CLOEXEC : 0, 0);
		batch_call(batch, __NR_close, (uint64_t)kept, 0, 0, 0);
	} else {
		batch_call(batch, __NR_close, (uint64_t)interest->number, 0, 0, 0);
	}
	return code ? code : batch_run(batch);
}

int epoll_place(struct descriptor_restore *restore, struct descriptor_object *object,
		struct record_reader *reader)
{
	const struct descriptors *descriptors = restore->descriptors;
	uint64_t count = record_take_count(reader, 32);
	struct batch batch = {.restore = restore, .epoll = object};
	int code = 0;

	remote_forget(&restore->process->remote);
	while (count-- && !code && !reader->failed) {
		struct interest interest;
		const struct descriptor *now;

		interest_take(&interest, reader);
		if (interest.object >= descriptors->object_count)
			continue; /* it ended with whoever else had it */
		now = descriptor_of(descriptors, interest.number);
		if (batch.calls + 4 > CONTROL_CALLS)
			code = batch_run(&batch);
		if (!code && now && now->object == interest.object)
			code = interest_add(&batch, &interest);
		else if (!code)
			code = interest_add_displaced(&batch, &interest,
						      &descriptors->objects[interest.object]);
		if (code == -ENOBUFS)
			code = descriptor_fail(restore, object, code, "no room for its interests");
	}
	return code ? code : batch_run(&batch);
}

void epoll_describe(const struct descriptor_object *object, struct record_reader *reader,
		    char *text, size_t room)
{
	uint64_t count = record_take_count(reader, 32), numbers[6], shown = 0;
	int length;

	(void)object;
	for (uint64_t i = 0; i < count && !reader->failed; i++) {
		struct interest interest;

		interest_take(&interest, reader);
		if (shown < 6)
			numbers[shown++] = (uint64_t)interest.number;
	}
	length = snprintf(text, room, "%llu interest%s%s", (unsigned long long)count,
			  count == 1 ? "" : "s", count ? ":" : "");
	for (uint64_t i = 0; i < shown && length > 0 && (size_t)length < room; i++)
		length += snprintf(text + length, room - (size_t)length, " %llu",
				   (unsigned long long)numbers[i]);
	if (count > shown && length > 0 && (size_t)length < room)
		snprintf(text + length, room - (size_t)length, " ...");
}
