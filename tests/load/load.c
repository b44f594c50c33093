// SPDX-License-Identifier: MIT
/*
 * load.c - the connections of load.h: each has a request under way (an audit many), and is made again when it ends.
 *
 * Ids are FIRST-CONNECTION-NUMBER, numbers from 0: what was acknowledged of a connection is an array. Not to block,
 * nothing is written but what fits into the socket; requests are short, so that this is all but always everything.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define DEPTH 64u /* requests under way of a connection, in an audit */
#define TEXT_ROOM 65536u
#define REQUEST_ROOM 1024u
#define AGAIN_AFTER 0.005 /* seconds to the next try to connect */

struct link {
	int fd; /* -1: none */
	double connect_at;
	unsigned depth;	 /* of requests under way */
	double asked_at; /* the oldest of them */
	char *out;	 /* their text */
	size_t out_bytes, out_sent;
	char *in;
	size_t in_bytes;
	bool waits_to_write;
	/* Ids. */
	uint64_t *numbers; /* what was acknowledged */
	size_t count, room;
	size_t checked; /* so many of them by the audit */
	bool asked;	/* the request after these was sent, once at least */
};

struct load {
	struct load_options options;
	enum load_request request; /* what is being asked */
	bool settling;
	int epoll;
	struct link *links;
	struct load_counts counts;
	uint64_t random;
	uint32_t *times;
	size_t time_count, time_room;
	bool timed; /* times were handed out */
	char wrong[400];
};

static double now_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

const char *load_wrong(const struct load *load)
{
	return load->wrong;
}

const struct load_counts *load_counts(const struct load *load)
{
	return &load->counts;
}

static void give_up(struct load *load, const char *what, const char *text)
{
	if (!*load->wrong)
		snprintf(load->wrong, sizeof(load->wrong), "%s: %.200s", what, text);
}

/* ---- What to ask */

static void id_of(const struct load *load, const struct link *link, size_t number, char *id,
		  size_t room)
{
	snprintf(id, room, "%s-%zu-%zu", load->options.first ? load->options.first : "c",
		 (size_t)(link - load->links), number);
}

/* The next request of it; false: there is none. */
static bool next_id(struct load *load, struct link *link, char *id, size_t room)
{
	switch (load->request) {
	case LOAD_COUNT:
		load->random = load->random * 6364136223846793005u + 1442695040888963407u;
		snprintf(id, room, "%" PRIu64, (load->random >> 32) * load->options.keys >> 32);
		return !load->settling;
	case LOAD_ADD:
		if (load->settling && !link->asked)
			return false;
		id_of(load, link, link->count, id, room);
		return true;
	case LOAD_GET:
		id_of(load, link, link->checked + link->depth, id, room);
		return link->checked + link->depth < link->count;
	default:
		*id = '\0';
		return link == load->links && !link->checked;
	}
}

static void *grown(void *list, size_t *room, size_t size)
{
	void *more;

	*room = *room ? *room * 2 : 1024;
	more = realloc(list, *room * size);
	if (!more) {
		perror("load");
		abort();
	}
	return more;
}

static void take_time(struct load *load, double seconds)
{
	if (load->timed) {
		load->time_count = 0;
		load->timed = false;
	}
	if (load->time_count == load->time_room)
		load->times = grown(load->times, &load->time_room, sizeof(*load->times));
	load->times[load->time_count++] = (uint32_t)(seconds * 1e6);
}

static void take_answer(struct load *load, struct link *link, uint64_t number)
{
	link->depth--;
	switch (load->request) {
	case LOAD_ADD:
		if (link->count == link->room)
			link->numbers = grown(link->numbers, &link->room, sizeof(*link->numbers));
		link->numbers[link->count++] = number;
		link->asked = false;
		/* fallthrough */
	case LOAD_COUNT:
		load->counts.acknowledged++;
		take_time(load, now_seconds() - link->asked_at);
		break;
	case LOAD_GET:
		load->counts.missing += !number;
		load->counts.others += number && number != link->numbers[link->checked];
		link->checked++;
		break;
	default:
		load->counts.total = number;
		link->checked++;
	}
}

/* ---- Connections */

static void link_watch(struct load *load, struct link *link, bool writing)
{
	struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = link};

	if (link->waits_to_write != writing)
		epoll_ctl(load->epoll, EPOLL_CTL_MOD, link->fd, &event);
	link->waits_to_write = writing;
}

static void link_lost(struct load *load, struct link *link, const char *why)
{
	if (link->fd < 0)
		return;
	close(link->fd);
	link->fd = -1;
	link->connect_at = now_seconds() + AGAIN_AFTER;
	link->depth = 0;
	link->in_bytes = link->out_bytes = link->out_sent = 0;
	load->counts.lost++;
	if (load->options.keys)
		give_up(load, "a connection ended", why);
}

static void link_send(struct load *load, struct link *link)
{
	while (link->out_sent < link->out_bytes) {
		ssize_t sent = send(link->fd, link->out + link->out_sent,
				    link->out_bytes - link->out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno == EAGAIN)
			return link_watch(load, link, true);
		if (sent < 0)
			return link_lost(load, link, strerror(errno));
		link->out_sent += (size_t)sent;
	}
	link->out_bytes = link->out_sent = 0;
	link_watch(load, link, false);
}

/* Ask what there is to ask. */
static void link_ask(struct load *load, struct link *link)
{
	unsigned most = load->request == LOAD_GET ? DEPTH : 1;
	char id[100];

	if (link->depth || link->out_bytes)
		return;
	while (link->depth < most && next_id(load, link, id, sizeof(id))) {
		link->out_bytes += load_write(load->options.protocol, load->request, id,
					      link->out + link->out_bytes, REQUEST_ROOM);
		link->depth++;
	}
	if (!link->depth)
		return;
	if (load->request == LOAD_ADD) {
		load->counts.again += link->asked;
		link->asked = true;
	}
	link->asked_at = now_seconds();
	link_send(load, link);
}

static void link_connect(struct load *load, struct link *link)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons((uint16_t)load->options.port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = link};
	int one = 1;

	link->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	link->waits_to_write = false;
	/* Nobody is asked over the network: it is refused or made at once. */
	if (link->fd >= 0 && !connect(link->fd, (struct sockaddr *)&address, sizeof(address)) &&
	    !setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) &&
	    !epoll_ctl(load->epoll, EPOLL_CTL_ADD, link->fd, &event))
		return link_ask(load, link);
	if (load->options.keys)
		give_up(load, "cannot connect", strerror(errno));
	if (link->fd >= 0)
		close(link->fd);
	link->fd = -1;
	link->connect_at = now_seconds() + AGAIN_AFTER;
}

static void link_hear(struct load *load, struct link *link)
{
	ssize_t got = recv(link->fd, link->in + link->in_bytes, TEXT_ROOM - 1 - link->in_bytes,
			   MSG_DONTWAIT);
	size_t taken = 0;
	uint64_t number;
	long bytes;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0)
		return link_lost(load, link, got ? strerror(errno) : "closed by the server");
	link->in_bytes += (size_t)got;
	link->in[link->in_bytes] = '\0';
	while ((bytes = load_read(load->options.protocol, link->in + taken, link->in_bytes - taken,
				  &number)) > 0) {
		if (!link->depth)
			return give_up(load, "an answer that nobody asked for", link->in + taken);
		take_answer(load, link, number);
		taken += (size_t)bytes;
	}
	if (bytes < 0)
		return give_up(load, "not an answer", link->in + taken);
	link->in_bytes -= taken;
	memmove(link->in, link->in + taken, link->in_bytes);
	link_ask(load, link);
}

/* Those that wait for it are connected; how many milliseconds there are to the next such moment, at most so many. */
static int connect_links(struct load *load, double now, double left)
{
	for (unsigned i = 0; i < load->options.connections; i++) {
		struct link *link = &load->links[i];

		if (link->fd >= 0)
			continue;
		if (link->connect_at <= now)
			link_connect(load, link);
		if (link->fd < 0 && left > AGAIN_AFTER)
			left = AGAIN_AFTER;
	}
	return left > 0.001 ? (int)(left * 1e3) : 1;
}

/* Until `done` says so, or the time has come. */
static bool turn(struct load *load, double seconds, bool (*done)(struct load *load, uint64_t until),
		 uint64_t until)
{
	double now = now_seconds(), end = now + seconds;
	struct epoll_event events[64];

	for (unsigned i = 0; i < load->options.connections; i++)
		if (load->links[i].fd >= 0)
			link_ask(load, &load->links[i]);
	for (; !*load->wrong && !done(load, until) && now < end; now = now_seconds()) {
		int count =
			epoll_wait(load->epoll, events, 64, connect_links(load, now, end - now));

		for (int i = 0; i < count; i++) {
			struct link *link = events[i].data.ptr;

			if (events[i].events & EPOLLOUT)
				link_send(load, link);
			if (link->fd >= 0 && events[i].events & ~(uint32_t)EPOLLOUT)
				link_hear(load, link);
		}
	}
	return !*load->wrong;
}

/* ---- load.h */

struct load *load_open(const struct load_options *options)
{
	struct load *load = calloc(1, sizeof(*load));
	bool fine = load;

	if (!load)
		return NULL;
	load->options = *options;
	load->request = options->keys ? LOAD_COUNT : LOAD_ADD;
	load->random = options->seed;
	load->links = calloc(options->connections, sizeof(*load->links));
	load->epoll = epoll_create1(EPOLL_CLOEXEC);
	fine = load->links && load->epoll >= 0;
	for (unsigned i = 0; fine && i < options->connections; i++) {
		struct link *link = &load->links[i];

		link->fd = -1;
		link->in = malloc(TEXT_ROOM);
		link->out = malloc(DEPTH * REQUEST_ROOM);
		fine = link->in && link->out;
	}
	if (!fine)
		load_close(load);
	return fine ? load : NULL;
}

void load_close(struct load *load)
{
	int error = errno;

	for (unsigned i = 0; load->links && i < load->options.connections; i++) {
		struct link *link = &load->links[i];

		if (link->in && link->fd >= 0)
			close(link->fd);
		free(link->in);
		free(link->out);
		free(link->numbers);
	}
	if (load->epoll >= 0)
		close(load->epoll);
	free(load->links);
	free(load->times);
	free(load);
	errno = error;
}

static bool so_many(struct load *load, uint64_t until)
{
	return until && load->counts.acknowledged >= until;
}

bool load_run(struct load *load, double seconds, uint64_t acknowledgements)
{
	return turn(load, seconds, so_many,
		    acknowledgements ? load->counts.acknowledged + acknowledgements : 0);
}

void load_break(struct load *load)
{
	for (unsigned i = 0; i < load->options.connections; i++)
		link_lost(load, &load->links[i], "by its client");
}

static bool nothing_under_way(struct load *load, uint64_t until)
{
	(void)until;
	for (unsigned i = 0; i < load->options.connections; i++)
		if (load->links[i].depth || (load->request == LOAD_ADD && load->links[i].asked))
			return false;
	return true;
}

bool load_settle(struct load *load, double seconds)
{
	bool fine;

	load->settling = true;
	fine = turn(load, seconds, nothing_under_way, 0) && nothing_under_way(load, 0);
	if (!fine)
		give_up(load, "not answered", "a request, for so long");
	load->settling = false;
	return fine;
}

static bool all_checked(struct load *load, uint64_t until)
{
	(void)until;
	if (load->request == LOAD_TOTAL)
		return load->links->checked;
	for (unsigned i = 0; i < load->options.connections; i++)
		if (load->links[i].checked < load->links[i].count)
			return false;
	return true;
}

static bool ask_all(struct load *load, enum load_request request, double seconds)
{
	bool fine;

	for (unsigned i = 0; i < load->options.connections; i++)
		load->links[i].checked = 0;
	load->request = request;
	fine = turn(load, seconds, all_checked, 0) && all_checked(load, 0);
	if (!fine)
		give_up(load, "not answered", "the audit, for so long");
	load->request = LOAD_ADD;
	return fine;
}

/* Numbers that two ids have. */
static uint64_t count_doubled(const struct load *load)
{
	uint64_t doubled = 0, most = 0;
	uint8_t *seen;

	for (unsigned i = 0; i < load->options.connections; i++)
		for (size_t j = 0; j < load->links[i].count; j++)
			most = load->links[i].numbers[j] > most ? load->links[i].numbers[j] : most;
	seen = calloc(most + 1, 1);
	if (!seen)
		return most;
	for (unsigned i = 0; i < load->options.connections; i++)
		for (size_t j = 0; j < load->links[i].count; j++) {
			uint8_t *one = &seen[load->links[i].numbers[j]];

			doubled += *one;
			*one = 1;
		}
	free(seen);
	return doubled;
}

bool load_audit(struct load *load, double seconds)
{
	struct load_counts *counts = &load->counts;

	counts->missing = counts->others = 0;
	if (!ask_all(load, LOAD_GET, seconds) || !ask_all(load, LOAD_TOTAL, seconds))
		return false;
	counts->doubled = count_doubled(load);
	if (counts->missing || counts->doubled || counts->others ||
	    counts->total != counts->acknowledged)
		snprintf(load->wrong, sizeof(load->wrong),
			 "%" PRIu64 " acknowledged, %" PRIu64 " found; %" PRIu64
			 " are missing, %" PRIu64 " numbers are twice, %" PRIu64 " are others",
			 counts->acknowledged, counts->total, counts->missing, counts->doubled,
			 counts->others);
	return !*load->wrong;
}

static int compare_times(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

const uint32_t *load_times(struct load *load, size_t *count)
{
	qsort(load->times, load->time_count, sizeof(*load->times), compare_times);
	*count = load->timed ? 0 : load->time_count;
	load->timed = true;
	return load->times;
}
