/* SPDX-License-Identifier: MIT */
/*
 * files.c - readFile, writeFile and appendFile: each a job on libuv's threads, its completion a
 * turn.
 *
 * Owns the jobs in flight, on the host's side; what they are for is in the heap (prelude.js,
 * operations), where a restored program finds it. Owner's thread, but for work(), which runs on a
 * thread of libuv's pool and must touch nothing but its job: never the VM's memory, which may be
 * captured meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "js/text.h"
#include "loop.h"

enum file_operation { FILE_READ, FILE_WRITE, FILE_APPEND };

struct file_job {
	uv_work_t work;
	struct runtime *rt;
	double number;
	enum file_operation operation;
	bool text;
	char *path;
	uint8_t *data;
	size_t bytes;
	int error;	     /* positive errno; 0: done */
	const char *syscall; /* which one failed */
};

static void fail_job(struct file_job *job, const char *syscall)
{
	job->error = errno;
	job->syscall = syscall;
}

static void read_whole(struct file_job *job, int fd)
{
	struct stat status;
	size_t room = 0;

	if (!fstat(fd, &status) && S_ISREG(status.st_mode) && status.st_size > 0)
		room = (size_t)status.st_size;
	for (;;) {
		ssize_t got;

		/*
		 * One byte of room behind the size that fstat() told: a read of 0 bytes there is
		 * the end.
		 */
		if (!job->data || job->bytes == room) {
			uint8_t *more;

			room = job->data ? 2 * room : room ? room + 1 : 65536;
			more = realloc(job->data, room);
			if (!more) {
				errno = ENOMEM;
				fail_job(job, "read");
				return;
			}
			job->data = more;
		}
		got = read(fd, job->data + job->bytes, room - job->bytes);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			fail_job(job, "read");
		if (got <= 0)
			return;
		job->bytes += (size_t)got;
	}
}

static void write_whole(struct file_job *job, int fd)
{
	size_t done = 0;

	while (done < job->bytes) {
		ssize_t put = write(fd, job->data + done, job->bytes - done);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0) {
			fail_job(job, "write");
			return;
		}
		done += (size_t)put;
	}
}

/* On a thread of the pool. */
static void work(uv_work_t *request)
{
	struct file_job *job = request->data;
	const int flags = job->operation == FILE_READ
				  ? O_RDONLY
				  : O_WRONLY | O_CREAT |
					    (job->operation == FILE_WRITE ? O_TRUNC : O_APPEND);
	int fd = open(job->path, flags | O_CLOEXEC, 0666);

	if (fd < 0) {
		fail_job(job, "open");
		return;
	}
	if (job->operation == FILE_READ)
		read_whole(job, fd);
	else
		write_whole(job, fd);
	if (close(fd) && job->operation != FILE_READ && !job->error && errno != EINTR)
		fail_job(job, "close"); /* where NFS and quotas tell */
}

static void set_text(struct js_engine *engine, js_value object, const char *key, const char *text)
{
	js_set(engine, object, key, js_string(engine, text, strlen(text)));
}

static js_value failure_of(struct js_engine *engine, int error, const char *syscall)
{
	js_value object = js_object(engine);

	set_text(engine, object, "code", uv_err_name(-error));
	set_text(engine, object, "message", uv_strerror(-error));
	set_text(engine, object, "syscall", syscall);
	js_set(engine, object, "errno", js_number(engine, -error));
	return object;
}

static js_value contents_of(struct file_job *job, struct js_engine *engine)
{
	size_t bytes;
	js_value value;
	char *text;

	if (!job->text)
		return js_bytes(engine, job->data, job->bytes);
	text = text_make_valid((char *)job->data, job->bytes, &bytes);
	if (!text)
		return 0;
	value = js_string(engine, text, bytes);
	if (text != (char *)job->data)
		free(text);
	return value;
}

static void free_job(struct file_job *job)
{
	free(job->path);
	free(job->data);
	free(job);
}

static void finished(uv_work_t *request, int status)
{
	struct file_job *job = request->data;
	struct runtime *rt = job->rt;
	js_value arguments[3];

	rt->files_in_flight--;
	if (rt->ended || status == UV_ECANCELED || js_trapped(rt->engine)) {
		free_job(job);
		return;
	}
	arguments[0] = js_number(rt->engine, job->number);
	arguments[1] = 0;
	arguments[2] = 0;
	if (!job->error && job->operation == FILE_READ) {
		arguments[2] = contents_of(job, rt->engine);
		if (!arguments[2]) { /* larger than what is left of the heap */
			js_free(rt->engine, js_take_exception(rt->engine));
			job->error = ENOMEM;
			job->syscall = "read";
		}
	}
	arguments[1] = job->error ? failure_of(rt->engine, job->error, job->syscall)
				  : js_undefined(rt->engine);
	if (!arguments[2])
		arguments[2] = js_undefined(rt->engine);
	free_job(job);
	loop_turn(rt, PRELUDE_FILE_DONE, 3, arguments);
}

int files_begin(struct runtime *rt, double number, const char *operation, const char *path,
		bool text, void *data, size_t bytes)
{
	struct file_job *job = calloc(1, sizeof(*job));
	int code;

	if (!job) {
		free(data);
		return -ENOMEM;
	}
	job->work.data = job;
	job->rt = rt;
	job->number = number;
	job->text = text;
	job->operation = !strcmp(operation, "read")    ? FILE_READ
			 : !strcmp(operation, "write") ? FILE_WRITE
						       : FILE_APPEND;
	job->data = data;
	job->bytes = bytes;
	job->path = strdup(path);
	code = job->path ? uv_queue_work(&rt->loop, &job->work, work, finished) : -ENOMEM;
	if (code) {
		free_job(job);
		return code;
	}
	rt->files_in_flight++;
	if (!rt->first_operation)
		rt->first_operation = number;
	return 0;
}
