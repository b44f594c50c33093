/* SPDX-License-Identifier: MIT */
/*
 * list.c - which descriptors a guest has, and which of them are duplicates of each other.
 *
 * The owner's thread, while all threads of the guest are parked. Duplicates are told apart by kcmp(2) on the
 * supervisor's own copies, which needs no privilege; where a sandbox forbids it, by setting the signal of one
 * (F_SETSIG) and looking at the other: it belongs to the open file description. So the answer is exact in any case.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/array.h"
#include "base/failure.h"
#include "process/descriptors/descriptors.h"

struct found { /* one number, before it is known which object it refers to */
	int number, here;
	uint32_t flags;
	struct stat stat;
	char *link;
	bool close_on_exec;
	unsigned object;
	const struct connection *known; /* nothing of it has to be asked */
};

struct finding {
	struct descriptor_capture *capture;
	struct found *list;
	size_t count, room;
};

/* ---- Numbers */

static bool is_ours(const int *ours, int number)
{
	return number == ours[0] || number == ours[1] || number == ours[2];
}

/* What the stub holds for us: the socket, the userfaultfd. */
static int read_ours(struct process *process, int *ours)
{
	int code = 0;

	ours[0] = ours[1] = -1;
	ours[2] = process->remote.control->socket;
	if (!process->stub)
		return 0;
	code = remote_read(&process->remote, process->stub + offsetof(struct stub_memory, socket),
			   &ours[0], sizeof(int));
	if (!code)
		code = remote_read(&process->remote,
				   process->stub + offsetof(struct stub_memory, uffd), &ours[1],
				   sizeof(int));
	return code;
}

static int link_of(pid_t pid, int number, char **text)
{
	char path[64], link[4200];
	ssize_t bytes;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, number);
	bytes = readlink(path, link, sizeof(link) - 1);
	if (bytes < 0)
		return -errno;
	link[bytes] = 0;
	*text = strdup(link);
	return *text ? 0 : -ENOMEM;
}

static void note_other(struct descriptor_capture *capture, int number)
{
	if (capture->other_count < CAPTURE_OTHERS)
		capture->others[capture->other_count] = number;
	capture->other_count++;
}

static int found_add(struct finding *finding, int number)
{
	struct found *list =
		array_grow(finding->list, finding->count, &finding->room, sizeof(*list));
	struct found *found;

	if (!list)
		return -ENOMEM;
	finding->list = list;
	found = &list[finding->count];
	*found = (struct found){.number = number, .here = -1};
	finding->count++;
	return 0;
}

static int by_number(const void *a, const void *b)
{
	return ((const struct found *)a)->number - ((const struct found *)b)->number;
}

static int numbers_read(struct finding *finding)
{
	struct descriptor_capture *capture = finding->capture;
	struct process *process = capture->process;
	const struct dirent *entry;
	int ours[3], code = read_ours(process, ours);
	char path[48];
	DIR *directory;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)process->remote.pid);
	directory = code ? NULL : opendir(path);
	if (!code && !directory)
		code = -errno;
	while (!code && (entry = readdir(directory))) {
		if (entry->d_name[0] == '.')
			continue;
		if (is_ours(ours, atoi(entry->d_name)))
			note_other(capture, atoi(entry->d_name));
		else
			code = found_add(finding, atoi(entry->d_name));
	}
	if (directory)
		closedir(directory);
	if (code)
		return failure(capture->error, code, "%s: %s", path, thaw_strerror(code));
	if (finding->count)
		qsort(finding->list, finding->count, sizeof(*finding->list), by_number);
	return 0;
}

/* ---- Objects in this process */

int descriptors_room(size_t more, struct thaw_error *error)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return 0;
	if (limit.rlim_cur < more + 512 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = more + 512 < limit.rlim_max ? more + 512 : limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	if (limit.rlim_cur < more + 64)
		return failure(
			error, -EMFILE,
			"%zu descriptors are too many for the limit of %llu that thaw has itself: raise it "
			"(ulimit -n)",
			more, (unsigned long long)limit.rlim_cur);
	return 0;
}

/* The kernel passes all descriptors on but rings; those are refused by name. */
static int untakeable(struct finding *finding, int code)
{
	pid_t pid = finding->capture->process->remote.pid;

	for (size_t i = 0; i < finding->count; i++) {
		struct descriptor_object object = {.number = finding->list[i].number};

		if (!link_of(pid, object.number, &object.link) &&
		    !strcmp(object.link, "anon_inode:[io_uring]"))
			code = descriptor_refuse(
				finding->capture, &object,
				"an io_uring, whose requests in flight cannot be continued: "
				"the program has to work without (Node: UV_USE_IO_URING=0)");
		free(object.link);
	}
	return code;
}

/* What it is called; a socket has no more of a name than its inode. */
static int found_look(struct finding *finding, struct found *found)
{
	int code = 0;

	if (fstat(found->here, &found->stat)) {
		code = -errno;
	} else if (S_ISSOCK(found->stat.st_mode)) {
		if (asprintf(&found->link, "socket:[%llu]",
			     (unsigned long long)found->stat.st_ino) < 0)
			code = -ENOMEM;
	} else {
		code = link_of(finding->capture->process->remote.pid, found->number, &found->link);
	}
	found->flags = (uint32_t)fcntl(found->here, F_GETFL);
	return code ? failure(finding->capture->error, code, "descriptor %d: %s", found->number,
			      thaw_strerror(code))
		    : 0;
}

int descriptor_look(struct descriptor_capture *capture, struct descriptor_object *object)
{
	struct finding finding = {.capture = capture};
	struct found found = {.number = object->number, .here = object->here};
	int code = found_look(&finding, &found);

	object->stat = found.stat;
	object->flags = found.flags;
	object->link = found.link;
	return code;
}

/* Connections that are as they were. */
static int known_find(struct finding *finding)
{
	struct known_connection *list = calloc(finding->count + 1, sizeof(*list));
	int code = list ? 0 : -ENOMEM;

	for (size_t i = 0; i < finding->count && !code; i++)
		list[i].number = finding->list[i].number;
	if (!code)
		code = connections_recall(finding->capture, list, finding->count);
	for (size_t i = 0; i < finding->count && !code; i++) {
		struct found *found = &finding->list[i];

		if (!list[i].connection)
			continue;
		found->known = list[i].connection;
		found->stat = found->known->stat;
		found->flags = list[i].flags;
		found->close_on_exec = list[i].close_on_exec;
		if (asprintf(&found->link, "socket:[%llu]",
			     (unsigned long long)found->stat.st_ino) < 0)
			code = -ENOMEM;
	}
	free(list);
	return code ? failure(finding->capture->error, code, "descriptors of process %d: %s",
			      (int)finding->capture->process->remote.pid, thaw_strerror(code))
		    : 0;
}

static int close_on_exec_read(struct finding *finding)
{
	struct process *process = finding->capture->process;
	unsigned mailbox = finding->capture->mailbox;
	struct call *calls[CONTROL_CALLS];
	int code = 0;

	for (size_t i = 0; i < finding->count && !code;) {
		size_t begun = i, n = 0;

		for (; i < finding->count && n < CONTROL_CALLS; i++) {
			if (finding->list[i].known)
				continue;
			calls[n] = remote_add(&process->remote, mailbox, __NR_fcntl,
					      (uint64_t)finding->list[i].number, F_GETFD, 0, 0, 0,
					      0);
			if (!calls[n++])
				return failure(finding->capture->error, -EBUSY,
					       "descriptors of process %d: its thread is busy",
					       (int)process->remote.pid);
		}
		code = n ? remote_run(&process->remote, mailbox) : 0;
		for (size_t k = 0; begun < i && !code; begun++)
			if (!finding->list[begun].known) {
				finding->list[begun].close_on_exec = calls[k]->result > 0 &&
								     calls[k]->result & FD_CLOEXEC;
				k++;
			}
	}
	return code ? failure(finding->capture->error, code, "descriptors of process %d: %s",
			      (int)process->remote.pid, thaw_strerror(code))
		    : 0;
}

static int objects_take(struct finding *finding)
{
	struct descriptor_capture *capture = finding->capture;
	size_t count = 0;
	int *numbers = calloc(2 * finding->count + 1, sizeof(int)), *here;
	int code;

	if (!numbers) {
		code = failure(capture->error, -ENOMEM, "descriptors: no memory");
	} else {
		here = numbers + finding->count;
		for (size_t i = 0; i < finding->count; i++)
			if (!finding->list[i].known) {
				here[count] = -1;
				numbers[count++] = finding->list[i].number;
			}
		code = descriptors_take(capture->process, capture->mailbox, numbers, count, here,
					capture->error);
		for (size_t i = 0, k = 0; i < finding->count; i++)
			if (!finding->list[i].known)
				finding->list[i].here = here[k++];
		if (code)
			code = untakeable(finding, code);
		for (size_t i = 0; i < finding->count && !code; i++)
			if (!finding->list[i].known)
				code = found_look(finding, &finding->list[i]);
	}
	free(numbers);
	return code;
}

/* ---- Duplicates */

static int compare_by_kcmp(int a, int b)
{
	pid_t self = getpid();

	return (int)syscall(SYS_kcmp, self, self, KCMP_FILE, a, b);
}

static bool same_by_signal(int a, int b)
{
	int before = fcntl(a, F_GETSIG), other = fcntl(b, F_GETSIG), mark;
	bool same;

	if (before < 0 || other < 0 || before != other)
		return false;
	mark = before == 61 ? 62 : 61;
	if (fcntl(a, F_SETSIG, mark))
		return false;
	same = fcntl(b, F_GETSIG) == mark;
	fcntl(a, F_SETSIG, before);
	return same;
}

bool descriptors_same(struct descriptor_capture *capture, int a, int b)
{
	if (!capture->no_kcmp) {
		int result = compare_by_kcmp(a, b);

		if (result >= 0)
			return result == 0;
		capture->no_kcmp = errno == EPERM || errno == ENOSYS || errno == EACCES;
	}
	return capture->no_kcmp && same_by_signal(a, b);
}

static int by_file(const void *left, const void *right, void *arg)
{
	const struct found *a = *(struct found *const *)left, *b = *(struct found *const *)right;
	struct descriptor_capture *capture = arg;

	if (a->stat.st_dev != b->stat.st_dev)
		return a->stat.st_dev < b->stat.st_dev ? -1 : 1;
	if (a->stat.st_ino != b->stat.st_ino)
		return a->stat.st_ino < b->stat.st_ino ? -1 : 1;
	if (a->flags != b->flags)
		return a->flags < b->flags ? -1 : 1;
	if (a != b && !S_ISSOCK(a->stat.st_mode) && !capture->no_kcmp) {
		int result = compare_by_kcmp(a->here, b->here);

		if (result == 1 || result == 2)
			return result == 1 ? -1 : 1;
		if (result < 0)
			capture->no_kcmp = true;
	}
	return a->number - b->number;
}

/* found->object becomes the index of the first number that refers to the same object. */
static int duplicates_find(struct finding *finding)
{
	size_t count = finding->count;
	struct found **order = calloc(count + 1, sizeof(*order));

	if (!order)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		finding->list[i].object = (unsigned)i;
		order[i] = &finding->list[i];
	}
	qsort_r(order, count, sizeof(*order), by_file, finding->capture);
	for (size_t i = 1; i < count; i++) {
		size_t k = i;

		/* With kcmp duplicates are neighbours; without, they are among those that look the same. */
		while (k-- > 0 && order[k]->stat.st_dev == order[i]->stat.st_dev &&
		       order[k]->stat.st_ino == order[i]->stat.st_ino &&
		       order[k]->flags == order[i]->flags) {
			/* A socket is opened once. */
			if (S_ISSOCK(order[i]->stat.st_mode) ||
			    descriptors_same(finding->capture, order[k]->here, order[i]->here)) {
				order[i]->object = order[k]->object;
				break;
			}
			if (!finding->capture->no_kcmp)
				break;
		}
	}
	free(order);
	return 0;
}

static int object_add(struct descriptors *descriptors, struct found *found)
{
	struct descriptor_object *objects = array_grow(descriptors->objects,
						       descriptors->object_count,
						       &descriptors->object_room, sizeof(*objects));

	if (!objects)
		return -ENOMEM;
	descriptors->objects = objects;
	objects[descriptors->object_count] = (struct descriptor_object){
		.flags = found->flags,
		.number = found->number,
		.owner_kind = -1,
		.here = found->here,
		.stat = found->stat,
		.link = found->link,
		.known = found->known,
	};
	found->here = -1;
	found->link = NULL;
	found->object = (unsigned)descriptors->object_count++;
	return 0;
}

static int objects_make(struct finding *finding)
{
	struct descriptors *descriptors = finding->capture->descriptors;

	descriptors->list = calloc(finding->count + 1, sizeof(*descriptors->list));
	if (!descriptors->list)
		return -ENOMEM;
	for (size_t i = 0; i < finding->count; i++) {
		struct found *found = &finding->list[i];

		if (found->object == i) {
			if (object_add(descriptors, found))
				return -ENOMEM;
		} else {
			found->object = finding->list[found->object].object;
		}
		descriptors->list[descriptors->count++] =
			(struct descriptor){found->number, found->close_on_exec, found->object};
	}
	return 0;
}

/* The control block's file: the restorer's and the stub's, whatever number it has. */
static void control_drop(struct finding *finding)
{
	struct stat ours;
	size_t kept = 0;

	if (fstat(finding->capture->process->remote.control_fd, &ours))
		return;
	for (size_t i = 0; i < finding->count; i++) {
		struct found *found = &finding->list[i];

		if (found->stat.st_ino == ours.st_ino && found->stat.st_dev == ours.st_dev) {
			note_other(finding->capture, found->number);
			if (found->here >= 0)
				close(found->here);
			free(found->link);
		} else {
			finding->list[kept++] = *found;
		}
	}
	finding->count = kept;
}

int descriptors_list(struct descriptor_capture *capture)
{
	struct finding finding = {.capture = capture};
	int code = numbers_read(&finding);

	capture->no_kcmp = descriptors_forbidden.kcmp;
	if (!code)
		code = descriptors_room(finding.count, capture->error);
	if (!code)
		code = known_find(&finding);
	if (!code)
		code = objects_take(&finding);
	if (!code) {
		control_drop(&finding);
		code = close_on_exec_read(&finding);
	}
	if (!code) {
		code = duplicates_find(&finding);
		if (!code)
			code = objects_make(&finding);
		if (code)
			failure(capture->error, code, "descriptors: no memory");
	}
	for (size_t i = 0; i < finding.count; i++) {
		if (finding.list[i].here >= 0)
			close(finding.list[i].here);
		free(finding.list[i].link);
	}
	free(finding.list);
	capture->descriptors->pid = capture->process->remote.pid;
	return code;
}

/* ---- fdinfo */

char *descriptor_fdinfo(struct descriptor_capture *capture, int number)
{
	char path[64];
	size_t bytes = 0;
	ssize_t got = 1;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)capture->process->remote.pid,
		 number);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	while (got > 0) {
		if (capture->text_room - bytes < 4096) {
			size_t room = capture->text_room ? 2 * capture->text_room : 16384;
			char *text = realloc(capture->text, room);

			if (!text)
				break;
			capture->text = text;
			capture->text_room = room;
		}
		got = read(fd, capture->text + bytes, capture->text_room - bytes - 1);
		if (got > 0)
			bytes += (size_t)got;
		if (got > 0 && bytes < 2048) /* a piece is a page, and lines are short */
			got = 0;
	}
	close(fd);
	if (got)
		return NULL;
	capture->text[bytes] = 0;
	return capture->text;
}

bool descriptor_field(const char *fdinfo, const char *name, int base, uint64_t *value)
{
	size_t bytes = strlen(name);

	for (const char *line = fdinfo; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, name, bytes) && line[bytes] == ':') {
			*value = strtoull(line + bytes + 1, NULL, base);
			return true;
		}
		if (!*line)
			break;
	}
	return false;
}
