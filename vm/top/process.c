/* SPDX-License-Identifier: MIT */
/* process.c - see process.h. */
#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COMMAND_BYTES 4096 /* of the arguments, as many as are shown */

/* At most room - 1 bytes of a file of /proc/PID, and a terminator. Bytes, or -errno. */
static ssize_t process_file(pid_t pid, const char *name, char *text, size_t room)
{
	char path[64];
	size_t length = 0;
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/%ld/%s", (long)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	do {
		got = read(fd, text + length, room - 1 - length);
		length += got > 0 ? (size_t)got : 0;
	} while ((got > 0 && length < room - 1) || (got < 0 && errno == EINTR));
	got = got < 0 ? -errno : (ssize_t)length;
	close(fd);
	text[length] = '\0';
	return got;
}

int process_read(pid_t pid, struct process *process)
{
	unsigned long long minor, major, start, resident;
	char text[1024], *fields;
	ssize_t got = process_file(pid, "stat", text, sizeof(text));

	if (got < 0)
		return (int)got;
	/* The name before them may hold blanks and brackets. From the third field on: */
	fields = strrchr(text, ')');
	if (!fields || sscanf(fields + 1,
			      " %*c %*d %*d %*d %*d %*d %*u %llu %*u %llu %*u %*u %*u %*d %*d %*d"
			      " %*d %*d %*d %llu",
			      &minor, &major, &start) != 3)
		return -EIO;
	got = process_file(pid, "statm", text, sizeof(text));
	if (got < 0)
		return (int)got;
	if (sscanf(text, "%*u %llu", &resident) != 1)
		return -EIO;
	*process = (struct process){
		.pid = pid,
		.start_ticks = start,
		.faults = minor + major,
		.resident_bytes = resident * (uint64_t)sysconf(_SC_PAGESIZE),
	};
	return 0;
}

pid_t process_child(pid_t pid)
{
	char name[64], text[64];
	long child;

	snprintf(name, sizeof(name), "task/%ld/children", (long)pid);
	if (process_file(pid, name, text, sizeof(text)) < 0 || sscanf(text, "%ld", &child) != 1)
		return 0;
	return (pid_t)child;
}

uid_t process_user(pid_t pid)
{
	char text[4096], *line;
	unsigned effective;

	if (process_file(pid, "status", text, sizeof(text)) < 0)
		return (uid_t)-1;
	line = strstr(text, "\nUid:");
	return line && sscanf(line + 5, "%*u %u", &effective) == 1 ? (uid_t)effective : (uid_t)-1;
}

char *process_command(pid_t pid)
{
	char text[COMMAND_BYTES], *bracketed;
	ssize_t got = process_file(pid, "cmdline", text, sizeof(text));

	while (got > 0 && !text[got - 1])
		got--;
	for (ssize_t i = 0; i < got; i++)
		if (!text[i])
			text[i] = ' ';
	if (got > 0)
		return strndup(text, (size_t)got);
	got = process_file(pid, "comm", text, sizeof(text));
	if (got < 0)
		return NULL;
	text[strcspn(text, "\n")] = '\0'; /* the kernel's own */
	return asprintf(&bracketed, "[%s]", text) < 0 ? NULL : bracketed;
}
