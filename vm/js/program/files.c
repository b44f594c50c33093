/* SPDX-License-Identifier: MIT */
/*
 * files.c - readFile, writeFile and appendFile, and operations on names (paths.c): each a job on libuv's threads,
 * its completion a turn.
 *
 * Owns the jobs in flight, on the host's side; what they are for is in the heap (prelude.js,
 * operations), where a restored program finds it. Owner's thread, but for work(), which runs on a
 * thread of libuv's pool and must touch nothing but its job and `held`: never the VM's memory, which
 * may be captured meanwhile. Must never make the end of the process wait for one: a thread may be
 * blocked in it for ever, by a pipe that nobody opens or a file server that is gone.
 *
 * What is read lies in the host's memory until its turn comes. So no read is larger than what the heap
 * could take of it, and a thread that would go beyond that with all that has been read begins later.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "base/process_limits.h"
#include "paths.h"
#include "program.h"

enum file_operation { FILE_READ, FILE_WRITE, FILE_APPEND, FILE_PATH };
/* With output commit what is written waits until the generation that has its request is durable: then it begins. */
enum file_wait { FILE_BEGUN, FILE_CAPTURED, FILE_WAITS };

struct file_job {
	struct io io;
	uv_work_t work;
	enum file_operation operation;
	const struct path_operation
		*on_path; /* FILE_PATH: `data` is its argument, then its result */
	enum file_wait wait;
	bool waited; /* ... for its generation: who ends the program meanwhile gives it its time */
	bool text;
	char *path;
	uint8_t *data;
	size_t bytes;
	uint64_t most;	     /* that the heap can take of one thing */
	uint64_t held;	     /* its part of `held` */
	int error;	     /* positive errno; 0: done */
	const char *syscall; /* which one failed */
	char why[160];	     /* where the errno does not say it all; else empty */
};

/* Bytes that were read, or are about to be, and that no turn has taken over yet. Of the whole process. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t less;
	uint64_t bytes;
	bool ending; /* nobody waits any more */
} held = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, false};

static void fail_job(struct file_job *job, const char *syscall)
{
	job->error = errno;
	job->syscall = syscall;
}

/* "1.5 GiB", for the sentence that names a limit. */
static const char *gibibytes(uint64_t bytes, char text[24])
{
	bool large = bytes >= 1000ull << 20;

	snprintf(text, 24, "%.1f %s", (double)bytes / (large ? 1ull << 30 : 1ull << 20),
		 large ? "GiB" : "MiB");
	return text;
}

/* `bytes` 0: it is not known how many. */
static void fail_size(struct file_job *job, uint64_t bytes, uint64_t most)
{
	char size[24], limit[24], whole[24];

	job->error = EFBIG;
	job->syscall = "read";
	gibibytes(bytes, size);
	gibibytes(most, limit);
	if (!bytes && most == JS_SOURCE_MAX_BYTES)
		snprintf(job->why, sizeof(job->why),
			 "what has no size is read up to %s, and there is more", limit);
	else
		snprintf(job->why, sizeof(job->why),
			 "%s%s the %s that the heap can take now (of %s)",
			 bytes ? size : "there is more", bytes ? " are more than" : " than", limit,
			 gibibytes(JS_HEAP_MAX_BYTES, whole));
}

/*
 * Wait until so much may be read besides what is held already. Whoever reads alone never waits, and
 * nobody waits for what comes without a size, a pipe say, before it is there.
 */
static bool hold(struct file_job *job, uint64_t bytes)
{
	bool may;

	pthread_mutex_lock(&held.lock);
	while (held.bytes && held.bytes + bytes > job->most && !held.ending)
		pthread_cond_wait(&held.less, &held.lock);
	may = !held.ending;
	if (may) {
		held.bytes += bytes;
		job->held += bytes;
	}
	pthread_mutex_unlock(&held.lock);
	if (!may) {
		errno = ECANCELED;
		fail_job(job, "read");
	}
	return may;
}

/* Exactly so much, as it is there now. */
static void hold_exactly(struct file_job *job, uint64_t bytes)
{
	pthread_mutex_lock(&held.lock);
	held.bytes += bytes - job->held;
	if (bytes < job->held)
		pthread_cond_broadcast(&held.less);
	job->held = bytes;
	pthread_mutex_unlock(&held.lock);
}

static void let_wait(bool wait)
{
	pthread_mutex_lock(&held.lock);
	held.ending = !wait;
	pthread_cond_broadcast(&held.less);
	pthread_mutex_unlock(&held.lock);
}

/* Room for one byte more than there is: a read of 0 bytes there is the end. */
static bool more_room(struct file_job *job, size_t *room, uint64_t known)
{
	size_t wanted = job->data ? 2 * *room : known ? (size_t)known + 1 : 65536;
	uint8_t *more = realloc(job->data, wanted);

	if (!more) {
		errno = ENOMEM;
		fail_job(job, "read");
		return false;
	}
	job->data = more;
	*room = wanted;
	return true;
}

static void read_whole(struct file_job *job, int fd)
{
	uint64_t known = 0, most = job->most;
	struct stat status;
	size_t room = 0;

	if (!fstat(fd, &status) && S_ISREG(status.st_mode) && status.st_size > 0)
		known = (uint64_t)status.st_size;
	if (known > most) {
		fail_size(job, known, most);
		return;
	}
	if (!known && most > JS_SOURCE_MAX_BYTES)
		most = JS_SOURCE_MAX_BYTES;
	if (!hold(job, known))
		return;
	while (job->bytes < room || more_room(job, &room, known)) {
		ssize_t got = read(fd, job->data + job->bytes, room - job->bytes);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			fail_job(job, "read");
		if (got <= 0)
			break;
		job->bytes += (size_t)got;
		if (job->bytes > most) {
			fail_size(job, 0, most);
			break;
		}
	}
	if (job->error) { /* not to be kept until its turn comes */
		free(job->data);
		job->data = NULL;
		job->bytes = 0;
	}
	hold_exactly(job, job->bytes);
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

/* Its argument is text: a 0 ends it. */
static void work_on_path(struct file_job *job)
{
	struct path_job path = {.path = job->path, .argument = job->data ? (char *)job->data : ""};

	job->on_path->run(&path);
	free(job->data);
	job->data = path.data;
	job->bytes = path.bytes;
	job->error = path.error;
	job->syscall = path.syscall;
}

/* On a thread of the pool. */
static void work(uv_work_t *request)
{
	struct file_job *job = request->data;
	const int flags = job->operation == FILE_READ
				  ? O_RDONLY
				  : O_WRONLY | O_CREAT |
					    (job->operation == FILE_WRITE ? O_TRUNC : O_APPEND);
	int fd;

	if (job->operation == FILE_PATH) {
		work_on_path(job);
		return;
	}
	fd = open(job->path, flags | O_CLOEXEC, 0666);
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

js_value files_failure(struct js_engine *engine, int error, const char *syscall, const char *why)
{
	js_value object = js_object(engine);

	set_text(engine, object, "code", uv_err_name(-error));
	set_text(engine, object, "message", why && why[0] ? why : uv_strerror(-error));
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
	/* What is not UTF-8 gets longer. */
	if (job->bytes > job->most / 3 &&
	    text_valid_bytes((char *)job->data, job->bytes) > job->most)
		return 0;
	text = text_make_valid((char *)job->data, job->bytes, &bytes);
	if (!text)
		return 0;
	value = js_string(engine, text, bytes);
	if (text != (char *)job->data)
		free(text);
	return value;
}

static js_value path_result(const struct file_job *job, struct js_engine *engine)
{
	const struct path_job path = {
		.path = job->path, .argument = "", .data = job->data, .bytes = job->bytes};

	return job->on_path->result(engine, &path);
}

static void free_job(struct file_job *job)
{
	hold_exactly(job, 0);
	free(job->path);
	free(job->data);
	free(job);
}

static void finished(uv_work_t *request, int status)
{
	(void)status; /* UV_ECANCELED: only when nothing is told any more */
	io_done(&((struct file_job *)request->data)->io);
}

static void tell(struct program *program, struct io *io)
{
	struct file_job *job = (struct file_job *)io;
	struct js_engine *engine = program->engine;
	js_value arguments[3];

	arguments[0] = js_number(engine, io->number);
	arguments[1] = 0;
	arguments[2] = 0;
	if (!job->error && (job->operation == FILE_READ || job->operation == FILE_PATH)) {
		arguments[2] = job->operation == FILE_READ ? contents_of(job, engine)
							   : path_result(job, engine);
		if (!arguments[2]) { /* larger than what is left of the heap by now */
			js_free(engine, js_take_exception(engine));
			fail_size(job, job->bytes, js_room(engine));
			job->error = ENOMEM;
		}
	}
	arguments[1] = job->error ? files_failure(engine, job->error, job->syscall, job->why)
				  : js_undefined(engine);
	if (!arguments[2])
		arguments[2] = js_undefined(engine);
	free_job(job);
	turn_run(program, PRELUDE_FILE_DONE, 3, arguments);
}

static void drop(struct io *io)
{
	free_job((struct file_job *)io);
}

/* One that waits for a thread, or for memory, does not begin any more. */
static void cancel(struct io *io)
{
	if (((struct file_job *)io)->wait != FILE_BEGUN) {
		io_done(io);
		return;
	}
	if (!((struct file_job *)io)->waited)
		uv_cancel((uv_req_t *)&((struct file_job *)io)->work);
	let_wait(false);
}

static void describe(const struct io *io, char *text, unsigned room)
{
	const struct file_job *job = (const struct file_job *)io;
	char path[1024];

	thaw_escape(job->path, path, sizeof(path));
	snprintf(text, room, "the %s of %s",
		 job->operation == FILE_PATH	? job->on_path->name
		 : job->operation == FILE_READ	? "reading"
		 : job->operation == FILE_WRITE ? "writing"
						: "appending",
		 path);
}

static const struct io_type file_io = {tell, drop, cancel, describe};

static int begin(struct file_job *job)
{
	return uv_queue_work(&job->io.program->events.loop, &job->work, work, finished);
}

static bool changes_something(const struct file_job *job)
{
	return job->on_path ? job->on_path->changes : job->operation != FILE_READ;
}

int files_begin(struct program *program, double number, const char *operation, const char *path,
		bool text, void *data, size_t bytes)
{
	static bool pool_is_there; /* the first job starts it */
	struct file_job *job = calloc(1, sizeof(*job));
	int code = 0;

	if (!job) {
		free(data);
		return -ENOMEM;
	}
	job->io = (struct io){.type = &file_io, .program = program, .number = number};
	job->work.data = job;
	job->text = text;
	job->on_path = path_operation(operation);
	job->operation = job->on_path		       ? FILE_PATH
			 : !strcmp(operation, "read")  ? FILE_READ
			 : !strcmp(operation, "write") ? FILE_WRITE
						       : FILE_APPEND;
	job->data = data;
	job->bytes = bytes;
	job->most = text ? JS_TEXT_MAX_BYTES : JS_BYTES_MAX_BYTES;
	if (job->most > js_room(program->engine))
		job->most = js_room(program->engine);
	job->path = strdup(path);
	let_wait(true);
	if (!pool_is_there)
		code = limits_want_pool();
	pool_is_there = !code;
	if (!code && !job->path)
		code = -ENOMEM;
	job->wait = program->options.commit_output && changes_something(job) ? FILE_WAITS
									     : FILE_BEGUN;
	if (!code && job->wait == FILE_BEGUN)
		code = begin(job);
	if (code) {
		free_job(job);
		return code;
	}
	io_hold(&job->io);
	if (job->wait == FILE_WAITS)
		owner_output_held(program->guest.owner, job->bytes);
	return 0;
}

/* All of those in one state. */
static void change_waiting(struct program *program, enum file_wait from, enum file_wait to)
{
	struct io *next;

	for (struct io *io = program->io.first_begun; io; io = next) {
		struct file_job *job = (struct file_job *)io;

		next = io->after;
		if (io->type != &file_io || job->wait != from)
			continue;
		job->wait = to;
		job->waited = true;
		if (to == FILE_BEGUN && begin(job)) {
			errno = ENOMEM;
			fail_job(job, "open");
			io_done(io);
		}
	}
}

void files_captured(struct program *program)
{
	change_waiting(program, FILE_WAITS, FILE_CAPTURED);
}

void files_settled(struct program *program, int code)
{
	change_waiting(program, FILE_CAPTURED, code ? FILE_WAITS : FILE_BEGUN);
}
