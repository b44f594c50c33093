/* SPDX-License-Identifier: MIT */
/*
 * s3.c - the thread of a store.
 *
 *	s3_start -> taken over -> waits -> flies -> ended: done()
 *	                            ^        |
 *	                            |        v   what may go away by itself
 *	                            '----- rests, until its back-off is over
 *
 * A request that is urgent waits in a queue of its own. While no try succeeds, only two are under way at once: a store that
 * is gone, or that says SlowDown, is not asked by all that wait. The thread sleeps in curl_multi_poll(), until a byte comes,
 * something is due, or somebody wants something of it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "base/failure.h"
#include "base/format.h"
#include "base/thread.h"
#include "store/s3_private.h"

#define REQUESTS 16u
#define REQUESTS_MOST 1024u
#define WHEN_FAILING 2u
#define SECOND_NS 1000000000ull
#define RETRY_AFTER_MOST 60u /* seconds */
#define EXPIRES_SOON_NS (60 * SECOND_NS)

/* ---- Requests end */

static struct tries *queue_of(struct s3 *s3, const struct s3_try *try)
{
	switch (try->where) {
	case WHERE_RESTS:
		return &s3->resting;
	case WHERE_FLIES:
		return &s3->flying;
	default:
		return try->request->flags & S3_URGENT ? &s3->urgent : &s3->waiting;
	}
}

static void tell(struct s3 *s3, struct s3_request *request)
{
	request->private.try = NULL;
	if (!request->private.waited_for) {
		request->done(request);
		return;
	}
	pthread_mutex_lock(&s3->lock);
	request->private.ended = true;
	pthread_cond_broadcast(&s3->ended);
	pthread_mutex_unlock(&s3->lock);
}

static void end(struct s3 *s3, struct s3_try *try)
{
	struct s3_request *request = try->request;

	TAILQ_REMOVE(queue_of(s3, try), try, link);
	s3->troubled -= try->troubled;
	try_drop(try);
	listed_free(&try->listed);
	free(try);
	tell(s3, request);
}

/* It flies no more; what it needed is there for others. */
static void land(struct s3 *s3, struct s3_try *try)
{
	CURL *easy = try->easy;

	if (try->request->flags & S3_URGENT)
		s3->under_way_urgent--;
	else if (try->warms)
		s3->warming--;
	else
		s3->under_way--;
	curl.multi_remove_handle(s3->multi, easy);
	try_end(try);
	s3->spare[s3->spares++] = easy;
}

static void move(struct s3 *s3, struct s3_try *try, enum where where)
{
	TAILQ_REMOVE(queue_of(s3, try), try, link);
	try->where = where;
	if (where == WHERE_WAITS) /* it is older than those */
		TAILQ_INSERT_HEAD(queue_of(s3, try), try, link);
	else
		TAILQ_INSERT_TAIL(queue_of(s3, try), try, link);
}

/* Whatever has become of it, nobody waits for that. */
static void give_up(struct s3 *s3, struct s3_try *try)
{
	if (try->where != WHERE_FLIES)
		return;
	try->maybe_stored |= try->sends;
	land(s3, try);
}

static void cancel(struct s3 *s3, struct s3_try *try)
{
	give_up(s3, try);
	try_fail(try, -ECANCELED, "it is not wanted any more");
	end(s3, try);
}

static void end_late(struct s3 *s3, struct s3_try *try)
{
	const char *why = try->reason.text[0] ? strstr(try->reason.text, ": ") + 2 : NULL;
	unsigned tries = try->request->tries;

	give_up(s3, try);
	if (why)
		try_fail(try, try->reason.code == -EACCES ? -EACCES : -ETIMEDOUT,
			 "it did not succeed in time, tried %u time%s: %s", tries,
			 tries == 1 ? "" : "s", why);
	else
		try_fail(try, -ETIMEDOUT, "there was no answer in time");
	end(s3, try);
}

/* ---- How the store is */

static uint64_t random_below(uint64_t most)
{
	uint32_t number = 0;

	if (getrandom(&number, sizeof(number), GRND_NONBLOCK) != sizeof(number))
		number = (uint32_t)clock_monotonic_ns();
	return most / 65536 * (number >> 16) + most % 65536;
}

static void note_failure(struct s3 *s3, struct s3_try *try)
{
	if (!s3->failing_since_ns)
		s3->failing_since_ns = try->begun_ns;
	if (!try->failing_ns)
		try->failing_ns = try->begun_ns;
	if (try->troubled || clock_monotonic_ns() - try->failing_ns < s3->settings.trouble_ns)
		return;
	try->troubled = true;
	s3->troubled++;
	if (!s3->told && s3->settings.trouble)
		s3->settings.trouble(s3->settings.arg, &try->reason);
	s3->told = true;
}

/* It has got an answer, or ends. */
static void forget_failures(struct s3 *s3, struct s3_try *try)
{
	s3->troubled -= try->troubled;
	try->troubled = false;
	try->failing_ns = 0;
}

/* One that ended because its time was over does not tell that the store works again. */
static void tell_if_over(struct s3 *s3)
{
	if (s3->told && !s3->troubled && s3->settings.trouble)
		s3->settings.trouble(s3->settings.arg, NULL);
	s3->told = s3->told && s3->troubled;
}

/* Who rests because nobody answered does not wait for the end of that. */
static void note_success(struct s3 *s3)
{
	struct s3_try *try;

	if (!s3->failing_since_ns)
		return;
	s3->failing_since_ns = 0;
	TAILQ_FOREACH(try, &s3->resting, link)
	{
		uint64_t soon = clock_monotonic_ns() + random_below(s3->settings.back_off_ns);

		if (try->reason.code == -ETIMEDOUT && try->due_ns > soon)
			try->due_ns = soon;
	}
	s3->look_ns = 0;
}

static void rest(struct s3 *s3, struct s3_try *try)
{
	uint64_t most = s3->settings.back_off_ns, wait, told = try->answer.retry_after;

	for (unsigned i = 1; i < try->number && most < s3->settings.back_off_most_ns; i++)
		most *= 2;
	if (most > s3->settings.back_off_most_ns)
		most = s3->settings.back_off_most_ns;
	wait = random_below(most);
	if (told)
		wait += (told < RETRY_AFTER_MOST ? told : RETRY_AFTER_MOST) * SECOND_NS;
	try->due_ns = clock_monotonic_ns() + wait;
	if (try->due_ns < s3->look_ns)
		s3->look_ns = try->due_ns;
	move(s3, try, WHERE_RESTS);
	note_failure(s3, try);
}

/* ---- What is due */

static void earlier(uint64_t *a, uint64_t b)
{
	if (b && b < *a)
		*a = b;
}

static void look_at_flying(struct s3 *s3, uint64_t now, uint64_t *next)
{
	uint64_t stall = s3->settings.stall_ns;
	struct s3_try *try, *following;

	for (try = TAILQ_FIRST(&s3->flying); try; try = following) {
		following = TAILQ_NEXT(try, link);
		if (now >= try->moved_ns + stall && try_moves(try))
			try->moved_ns = now;
		if (now < try->moved_ns + stall) {
			earlier(next, try->moved_ns + stall);
			continue;
		}
		try_stalled(try);
		land(s3, try);
		if (try->warms)
			end(s3, try);
		else
			rest(s3, try);
	}
}

static void look_at(struct s3 *s3, struct tries *tries, uint64_t now, uint64_t *next)
{
	struct s3_try *try, *following;

	for (try = TAILQ_FIRST(tries); try; try = following) {
		following = TAILQ_NEXT(try, link);
		if (try->request->deadline_ns && now >= try->request->deadline_ns) {
			end_late(s3, try);
			continue;
		}
		earlier(next, try->request->deadline_ns);
		if (tries != &s3->resting)
			continue;
		if (now >= try->due_ns)
			move(s3, try, WHERE_WAITS);
		else
			earlier(next, try->due_ns);
	}
}

static void look(struct s3 *s3)
{
	uint64_t now = clock_monotonic_ns(), next = now + 3600 * SECOND_NS;

	if (now < s3->look_ns)
		return;
	s3->look_ns = UINT64_MAX;
	look_at(s3, &s3->waiting, now, &next);
	look_at(s3, &s3->urgent, now, &next);
	look_at(s3, &s3->resting, now, &next);
	look_at(s3, &s3->flying, now, &next);
	look_at_flying(s3, now, &next);
	earlier(&s3->look_ns, next);
}

/* ---- Tries begin and end */

static bool begin(struct s3 *s3, struct s3_try *try)
{
	CURL *easy = s3->spares ? s3->spare[--s3->spares] : curl.easy_init();

	if (easy && !try_begin(try, easy)) {
		if (!curl.multi_add_handle(s3->multi, easy)) {
			move(s3, try, WHERE_FLIES);
			s3->begun++;
			s3->tried_again += try->number > 1;
			earlier(&s3->look_ns, try->begun_ns + s3->settings.stall_ns);
			return true;
		}
		try_end(try);
	}
	if (easy)
		s3->spare[s3->spares++] = easy;
	try_fail(try, -ENOMEM, "out of memory");
	end(s3, try);
	return false;
}

static void launch(struct s3 *s3)
{
	unsigned most = s3->settings.requests;
	struct s3_try *try;

	if (TAILQ_EMPTY(&s3->urgent) && TAILQ_EMPTY(&s3->waiting))
		return;
	if (s3->credentials.expires_ns &&
	    clock_wall_ns() + EXPIRES_SOON_NS > s3->credentials.expires_ns)
		credentials_renew(s3, EXPIRES_SOON_NS / 4);
	if (s3->failing_since_ns && most > WHEN_FAILING)
		most = WHEN_FAILING;
	while (s3->under_way + s3->under_way_urgent < most + (most + 1) / 2 &&
	       (try = TAILQ_FIRST(&s3->urgent)))
		s3->under_way_urgent += begin(s3, try);
	while (s3->under_way + s3->under_way_urgent < most && (try = TAILQ_FIRST(&s3->waiting)))
		s3->under_way += begin(s3, try);
}

static void collect(struct s3 *s3)
{
	enum verdict verdict;
	struct s3_try *try;
	bool answered;
	CURLMsg *what;
	int left;

	while ((what = curl.multi_info_read(s3->multi, &left))) {
		if (what->msg != CURLMSG_DONE)
			continue;
		curl.easy_getinfo(what->easy_handle, CURLINFO_PRIVATE, (char **)&try);
		answered = !what->data.result && try->answer.status < 500 &&
			   try->answer.status != 429;
		verdict = try_judge(try, what->data.result);
		land(s3, try);
		if (verdict == VERDICT_LATER) {
			rest(s3, try);
			continue;
		}
		if (answered) {
			note_success(s3);
			forget_failures(s3, try);
			tell_if_over(s3);
		}
		if (verdict == VERDICT_ON)
			move(s3, try, WHERE_WAITS);
		else
			end(s3, try);
	}
}

/* ---- What others want of the thread */

/* NULL: it has ended. */
static struct s3_try *take_over(struct s3 *s3, struct s3_request *request)
{
	struct s3_try *try = calloc(1, sizeof(*try));
	uint8_t number[16];

	if (!try) {
		request->code = failure(&request->error, -ENOMEM, "out of memory");
		tell(s3, request);
		return NULL;
	}
	try->s3 = s3;
	try->request = request;
	request->private.try = try;
	try_drop(try);
	TAILQ_INSERT_TAIL(queue_of(s3, try), try, link);
	earlier(&s3->look_ns, request->deadline_ns);
	try->warms = !request->key;
	if (request->code) { /* it is wrong */
		try_fail(try, request->code, "%s", request->error.text);
		end(s3, try);
		return NULL;
	}
	if (getrandom(number, sizeof(number), 0) != sizeof(number)) {
		try_fail(try, -EIO, "the kernel has no random numbers");
		end(s3, try);
		return NULL;
	}
	sodium_bin2hex(try->nonce, sizeof(try->nonce), number, sizeof(number));
	return try;
}

static void warmed(struct s3_request *request)
{
	s3_release(request);
	free(request);
}

/* Besides all others: none of them waits for it. */
static void warm(struct s3 *s3, unsigned wanted)
{
	unsigned there = s3->connections > s3->warming ? s3->connections : s3->warming;

	if (wanted > s3->settings.requests)
		wanted = s3->settings.requests;
	for (; there < wanted && s3->warming < s3->settings.requests; there++) {
		struct s3_request *request = calloc(1, sizeof(*request));
		struct s3_try *try;

		if (!request)
			return;
		request->verb = S3_HEAD;
		request->done = warmed;
		try = take_over(s3, request);
		if (try)
			s3->warming += begin(s3, try);
	}
}

static void end_those(struct s3 *s3, struct tries *tries, bool all)
{
	struct s3_try *try, *following;

	for (try = TAILQ_FIRST(tries); try; try = following) {
		following = TAILQ_NEXT(try, link);
		if (all || __atomic_load_n(&try->request->private.stop, __ATOMIC_ACQUIRE))
			cancel(s3, try);
	}
}

/* False: it is over. */
static bool take_wishes(struct s3 *s3)
{
	struct s3_request *request, *next;
	bool cancelled, closes, stops;
	unsigned wanted;

	pthread_mutex_lock(&s3->lock);
	request = s3->first;
	s3->first = NULL;
	s3->last = &s3->first;
	cancelled = s3->cancelled;
	closes = s3->closes;
	stops = s3->stops;
	s3->stops = false;
	wanted = s3->warm;
	s3->warm = 0;
	pthread_mutex_unlock(&s3->lock);
	for (; request; request = next) {
		next = request->private.next;
		take_over(s3, request);
	}
	if (wanted && !cancelled)
		warm(s3, wanted);
	if (cancelled || stops) {
		end_those(s3, &s3->flying, cancelled);
		end_those(s3, &s3->resting, cancelled);
		end_those(s3, &s3->urgent, cancelled);
		end_those(s3, &s3->waiting, cancelled);
	}
	if (!closes)
		return true;
	pthread_mutex_lock(&s3->lock);
	closes = !s3->first; /* a done() may have begun another */
	pthread_mutex_unlock(&s3->lock);
	return !closes;
}

static void *serve(void *arg)
{
	struct s3 *s3 = arg;
	int running;

	credentials_give_up(&s3->cancelled);
	while (take_wishes(s3)) {
		uint64_t now;

		look(s3);
		launch(s3);
		if (s3->place.named)
			libcurl_multi_perform(s3->multi, &running);
		else
			curl.multi_perform(s3->multi, &running);
		collect(s3);
		launch(s3);
		now = clock_monotonic_ns();
		if (curl.multi_poll(s3->multi, NULL, 0,
				    s3->look_ns <= now ? 0
				    : s3->look_ns - now > 3600 * SECOND_NS
					    ? 3600000
					    : (int)((s3->look_ns - now) / 1000000) + 1,
				    NULL))
			nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	}
	return NULL;
}

/* ---- What others call */

void s3_start(struct s3 *s3, struct s3_request *request)
{
	s3_release(request);
	request->code = 0;
	request->error = (struct thaw_error){0};
	request->tries = 0;
	request->unsure = request->more = false;
	request->got = 0;
	request->object_bytes = request->time_ns = 0;
	request->etag[0] = '\0';
	request->private.next = NULL;
	request->private.stop = request->private.ended = false;
	s3_request_check(s3, request);
	pthread_mutex_lock(&s3->lock);
	*s3->last = request;
	s3->last = &request->private.next;
	pthread_mutex_unlock(&s3->lock);
	curl.multi_wakeup(s3->multi);
}

void s3_stop(struct s3 *s3, struct s3_request *request)
{
	__atomic_store_n(&request->private.stop, true, __ATOMIC_RELEASE);
	pthread_mutex_lock(&s3->lock);
	s3->stops = true;
	pthread_mutex_unlock(&s3->lock);
	curl.multi_wakeup(s3->multi);
}

void s3_warm(struct s3 *s3, unsigned count)
{
	pthread_mutex_lock(&s3->lock);
	if (count > s3->warm)
		s3->warm = count;
	pthread_mutex_unlock(&s3->lock);
	curl.multi_wakeup(s3->multi);
}

void s3_cancel(struct s3 *s3)
{
	pthread_mutex_lock(&s3->lock);
	s3->cancelled = true;
	pthread_mutex_unlock(&s3->lock);
	curl.multi_wakeup(s3->multi);
}

const char *s3_place(const struct s3 *s3)
{
	return s3->name;
}

void s3_count(const struct s3 *s3, struct s3_counts *counts)
{
	*counts = (struct s3_counts){
		.begun = s3->begun,
		.tried_again = s3->tried_again,
		.sent = s3->sent,
		.received = s3->received,
		.failing_since_ns = s3->failing_since_ns,
	};
}

/* ---- Open and close */

static int take_settings(struct s3 *s3, const struct s3_settings *given, struct thaw_error *error)
{
	const char *stall = getenv("THAW_STORE_STALL");
	struct s3_settings *settings = &s3->settings;
	uint64_t stall_ns = 20 * SECOND_NS;

	if (stall && *stall && (!parse_duration(stall, &stall_ns) || !stall_ns))
		return failure(error, -EINVAL,
			       "THAW_STORE_STALL=%s: a duration (20s, 500ms) is wanted", stall);
	*settings = given ? *given : (struct s3_settings){0};
	if (!settings->requests)
		settings->requests = REQUESTS;
	if (settings->requests > REQUESTS_MOST)
		settings->requests = REQUESTS_MOST;
	if (!settings->connect_ns)
		settings->connect_ns = 10 * SECOND_NS;
	if (!settings->stall_ns)
		settings->stall_ns = stall_ns;
	if (!settings->back_off_ns)
		settings->back_off_ns = SECOND_NS / 10;
	if (!settings->back_off_most_ns)
		settings->back_off_most_ns = 10 * SECOND_NS;
	if (!settings->trouble_ns)
		settings->trouble_ns = 2 * SECOND_NS;
	return 0;
}

static int read_place(struct s3 *s3, const char *place, struct thaw_error *error)
{
	struct store_config config;
	int code = store_config_read(&config, error);

	if (code)
		return code;
	code = s3_url_read(&s3->place, place, &config, error);
	s3->ca_bundle = config.ca_bundle;
	config.ca_bundle = NULL;
	store_config_free(&config);
	s3->name = s3->place.name;
	s3->signs_bodies = s3->place.clear;
	if (!code)
		code = libcurl_load(error);
	if (!code)
		code = credentials_read(&s3->credentials, error);
	s3->credentials_ns = clock_monotonic_ns();
	return code;
}

static int begin_thread(struct s3 *s3, struct thaw_error *error)
{
	unsigned most = s3->settings.requests + (s3->settings.requests + 1) / 2;
	int code;

	s3->multi = libcurl_multi_init();
	s3->spare = calloc(most + s3->settings.requests, sizeof(*s3->spare)); /* s3_warm() */
	s3->sockets_most = 2 * most + 64; /* with those that are tried at once, and closed */
	s3->sockets = calloc(s3->sockets_most, sizeof(*s3->sockets));
	if (!s3->multi || !s3->spare || !s3->sockets)
		return failure(error, -ENOMEM, "out of memory");
	curl.multi_setopt(s3->multi, CURLMOPT_MAXCONNECTS, (long)most + 8);
	code = thread_begin(&s3->thread, serve, s3);
	if (code)
		return failure(error, code, "%s: no thread can be begun: %s", s3->name,
			       strerror(-code));
	pthread_setname_np(s3->thread, "thaw-store");
	return 0;
}

static void free_store(struct s3 *s3)
{
	for (unsigned i = 0; i < s3->spares; i++)
		curl.easy_cleanup(s3->spare[i]);
	free(s3->spare);
	if (s3->multi)
		curl.multi_cleanup(s3->multi);
	free(s3->sockets);
	credentials_free(&s3->credentials);
	free(s3->ca_bundle);
	s3_url_free(&s3->place);
	pthread_cond_destroy(&s3->ended);
	pthread_mutex_destroy(&s3->lock);
	free(s3);
}

int s3_open(const char *place, const struct s3_settings *settings, struct s3 **s3,
	    struct thaw_error *error)
{
	struct s3 *made = calloc(1, sizeof(*made));
	int code;

	*s3 = NULL;
	if (!made)
		return failure(error, -ENOMEM, "out of memory");
	pthread_mutex_init(&made->lock, NULL);
	pthread_cond_init(&made->ended, NULL);
	made->last = &made->first;
	TAILQ_INIT(&made->urgent);
	TAILQ_INIT(&made->waiting);
	TAILQ_INIT(&made->resting);
	TAILQ_INIT(&made->flying);
	made->look_ns = UINT64_MAX;
	code = take_settings(made, settings, error);
	if (!code)
		code = read_place(made, place, error);
	if (!code)
		code = begin_thread(made, error);
	if (code) {
		free_store(made);
		return code;
	}
	*s3 = made;
	return 0;
}

void s3_close(struct s3 *s3)
{
	if (!s3)
		return;
	pthread_mutex_lock(&s3->lock);
	s3->closes = true;
	s3->cancelled = true;
	pthread_mutex_unlock(&s3->lock);
	curl.multi_wakeup(s3->multi);
	pthread_join(s3->thread, NULL);
	pthread_mutex_lock(&s3->lock);
	while (s3->waiters)
		pthread_cond_wait(&s3->ended, &s3->lock);
	pthread_mutex_unlock(&s3->lock);
	free_store(s3);
}
