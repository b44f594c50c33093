/* SPDX-License-Identifier: MIT */
/*
 * reader_threads.c - the reader without io_uring. What the page cache has is read at once, by the
 * thread that asks (RWF_NOWAIT); what would have to be waited for goes to a queue, from which up to
 * four threads take it, started when there is more to do than they can; or more of them, where what is missing in the
 * file comes over a network (thaw_fill.h). Without a single thread, reads are waited for where they are begun.
 *
 * "Owner" is the thread that uses the reader. The others only read, and put what they have read on
 * a list; all the rest is done by the owner.
 */
#define _GNU_SOURCE
#include "reader.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "fill.h"
#include "sys.h"
#include "thread.h"

#define THREADS 4u
#define THREADS_FILLING 32u

struct thread_read {
	void *token, *to;
	unsigned bytes;
	bool direct;
	int result;
	uint64_t offset;
	struct thread_read *next;
};

struct read_list {
	struct thread_read *first, *last;
};

struct threads_reader {
	struct reader reader;
	struct thread_read *reads;
	struct read_list free, complete; /* the owner's */
	bool never_at_once; /* the owner's: this file system does not support RWF_NOWAIT */
	pthread_t threads[THREADS_FILLING];
	unsigned started, most; /* the owner's */

	pthread_mutex_t lock; /* all that follows */
	pthread_cond_t more;  /* queued, or `stop` */
	struct read_list queued, done;
	unsigned queued_count, idle; /* reads; threads */
	bool stop;
};

static void list_add(struct read_list *list, struct thread_read *read)
{
	read->next = NULL;
	if (list->first)
		list->last->next = read;
	else
		list->first = read;
	list->last = read;
}

static struct thread_read *list_take(struct read_list *list)
{
	struct thread_read *read = list->first;

	if (read)
		list->first = read->next;
	return read;
}

/* Append all of `from` to `to`. */
static void list_move(struct read_list *to, struct read_list *from)
{
	if (to->first && from->first)
		to->last->next = from->first;
	else if (from->first)
		to->first = from->first;
	if (from->first)
		to->last = from->last;
	from->first = NULL;
}

static void read_now(const struct threads_reader *threads, struct thread_read *read)
{
	const struct reader_options *options = &threads->reader.options;
	int fd = read->direct ? options->direct_fd : options->image_fd;
	ssize_t got;

	read->result = fill_need(fd, read->offset, read->bytes);
	if (read->result)
		return;
	got = pread(fd, read->to, read->bytes, (off_t)read->offset);
	read->result = got < 0 ? -errno : (int)got;
}

static void *thread_main(void *arg)
{
	struct threads_reader *threads = arg;

	pthread_setname_np(pthread_self(), "thaw-reads");
	pthread_mutex_lock(&threads->lock);
	for (;;) {
		struct thread_read *read = list_take(&threads->queued);
		bool first;

		if (!read && threads->stop)
			break;
		if (!read) {
			threads->idle++;
			pthread_cond_wait(&threads->more, &threads->lock);
			threads->idle--;
			continue;
		}
		threads->queued_count--;
		pthread_mutex_unlock(&threads->lock);
		read_now(threads, read);
		pthread_mutex_lock(&threads->lock);
		/* Only the first entry wakes the owner, since the list is taken as a whole. */
		first = !threads->done.first;
		list_add(&threads->done, read);
		if (first)
			reader_wake(&threads->reader);
	}
	pthread_mutex_unlock(&threads->lock);
	return NULL;
}

static bool read_at_once(struct threads_reader *threads, struct thread_read *read)
{
	if (threads->never_at_once || read->direct)
		return false;
	read->result = sys_pread_cached(threads->reader.options.image_fd, read->to, read->bytes,
					read->offset);
	threads->never_at_once = read->result < 0 && read->result != -EAGAIN;
	return read->result > 0;
}

/* Start one more thread if all are busy. false: there is none at all. */
static bool have_thread(struct threads_reader *threads)
{
	bool busy;

	pthread_mutex_lock(&threads->lock);
	busy = threads->queued_count >= threads->idle;
	pthread_mutex_unlock(&threads->lock);
	if (!busy || threads->started == threads->most)
		return true;
	/* The owner may be the program's own thread, where a heap is read at once (eager). */
	if (!thread_begin(&threads->threads[threads->started], thread_main, threads))
		threads->started++;
	return threads->started;
}

static int threads_read(struct reader *reader, void *token, void *to, unsigned bytes,
			uint64_t offset, bool direct)
{
	struct threads_reader *threads = (struct threads_reader *)reader;
	struct thread_read *read = list_take(&threads->free);

	if (!read)
		return -EBUSY;
	*read = (struct thread_read){
		.token = token, .to = to, .bytes = bytes, .direct = direct, .offset = offset};
	if (read_at_once(threads, read)) {
		list_add(&threads->complete, read);
		return 0;
	}
	if (!have_thread(threads)) {
		read_now(threads, read);
		list_add(&threads->complete, read);
		return 0;
	}
	pthread_mutex_lock(&threads->lock);
	list_add(&threads->queued, read);
	threads->queued_count++;
	pthread_cond_signal(&threads->more);
	pthread_mutex_unlock(&threads->lock);
	return 0;
}

/* Completes the reads that are done now, not those that they begin. false: there was none. */
static bool complete(struct threads_reader *threads)
{
	struct read_list list = {0};
	struct thread_read *read;
	bool any = threads->complete.first;

	list_move(&list, &threads->complete);
	while ((read = list_take(&list))) {
		void *token = read->token;
		int result = read->result;

		list_add(&threads->free, read);
		threads->reader.options.completed(threads->reader.options.arg, token, result);
	}
	return any;
}

static int threads_wait(struct reader *reader, enum reader_until until, uint64_t most_ns)
{
	struct threads_reader *threads = (struct threads_reader *)reader;
	bool any = complete(threads);
	struct pollfd polls[2] = {
		{.fd = reader->wake_fd, .events = POLLIN},
		/* It stays readable until its faults are read, which would end every wait. */
		{.fd = until == READER_READ ? -1 : reader->options.faults_fd, .events = POLLIN},
	};

	const struct timespec most = {.tv_nsec = any || until == READER_NOW ? 0 : (long)most_ns};
	bool for_ever = !any && until != READER_NOW && !most_ns;

	if (any && until == READER_READ)
		return 0;
	if (ppoll(polls, 2, for_ever ? NULL : &most, NULL) < 0)
		return errno == EINTR || errno == EAGAIN ? 0 : -errno;
	if (polls[0].revents) {
		uint64_t value;

		/* Before the list is taken: later entries wake again. */
		if (read(reader->wake_fd, &value, sizeof(value)) < 0 && errno != EINTR)
			return -errno;
		pthread_mutex_lock(&threads->lock);
		list_move(&threads->complete, &threads->done);
		pthread_mutex_unlock(&threads->lock);
		complete(threads);
	}
	return polls[1].revents != 0;
}

static void threads_close(struct reader *reader)
{
	struct threads_reader *threads = (struct threads_reader *)reader;

	pthread_mutex_lock(&threads->lock);
	threads->stop = true;
	pthread_cond_broadcast(&threads->more);
	pthread_mutex_unlock(&threads->lock);
	while (threads->started)
		pthread_join(threads->threads[--threads->started], NULL);
	pthread_mutex_destroy(&threads->lock);
	pthread_cond_destroy(&threads->more);
	reader_release(reader);
	free(threads->reads);
	free(threads);
}

static const struct reader_back_end back_end = {
	.read = threads_read, .wait = threads_wait, .close = threads_close};

int reader_threads_open(struct reader **out, const struct reader_options *options,
			struct thaw_error *error)
{
	struct threads_reader *threads = calloc(1, sizeof(*threads));
	int code;

	if (!threads)
		return error_set(error, -ENOMEM, "no memory for the fault service");
	threads->most = fill_is_of(options->image_fd) ? THREADS_FILLING : THREADS;
	pthread_mutex_init(&threads->lock, NULL);
	pthread_cond_init(&threads->more, NULL);
	code = reader_prepare(&threads->reader, &back_end, options, error);
	if (!code) {
		threads->reads = calloc(options->reads, sizeof(*threads->reads));
		if (!threads->reads)
			code = error_set(error, -ENOMEM, "no memory for the fault service");
	}
	if (code) {
		threads_close(&threads->reader);
		return code;
	}
	for (unsigned i = 0; i < options->reads; i++)
		list_add(&threads->free, &threads->reads[i]);
	*out = &threads->reader;
	return 0;
}
