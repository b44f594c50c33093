// SPDX-License-Identifier: GPL-2.0-only
/*
 * control.c - what a test wants of the server, over HTTP, on a port of its own, unsigned:
 *
 *	/fault?kind=answer|delay|hold|lose & verb= & key= (what is in it) & skip= & count= & after=1 (it is done first)
 *		& status= & code= & retry= (seconds) & ms=
 *	/wire?direction=request|response & after=BYTES & action=cut|hang & count=
 *	/slow?bytes=	of requests, each connection forwards so many and then rests for 25 ms; 0: it does not
 *	/gone, /back	nobody listens at the port, and all connections are cut
 *	/release	those that are held go on
 *	/clear		no faults, nobody is held, it is there
 *	/armed		"1" while an order to the wire has not struck yet
 *	/held		how many requests are held now
 *	/wait?begun=N, /wait?held=N	answers when so many requests have come since the log was cleared, or are held
 *	/log		a line for each: NUMBER VERB BUCKET/KEY FIRST-LAST STATUS BYTES; /forget empties it
 *	/token?value=	the session token that requests have to have
 *	/region?value=	the region that requests have to be signed for; others are told it
 *	/latest/...	an EC2 instance's metadata (IMDSv2), with those credentials
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server.h"

#define FAULTS 32
#define WAIT_SECONDS 120

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct fault faults[FAULTS];
static unsigned held, releases;
static char token[256], region[64];
static char bucket[64];

static struct line {
	char verb[8], *name;
	uint64_t first, bytes;
	unsigned status;
} * lines;
static unsigned line_count, line_room, forgotten;

/* ---- The log */

unsigned log_begin(const struct request *request)
{
	unsigned number;

	pthread_mutex_lock(&lock);
	if (line_count == line_room) {
		line_room = line_room ? 2 * line_room : 256;
		lines = realloc(lines, line_room * sizeof(*lines));
	}
	if (!lines)
		die("out of memory");
	number = line_count++;
	lines[number] = (struct line){.name = strdup(request->path), .first = UINT64_MAX};
	snprintf(lines[number].verb, sizeof(lines[number].verb), "%s",
		 !strcmp(request->method, "GET") && !*request->key ? "LIST" : request->method);
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return number;
}

void log_end(unsigned number, unsigned status, uint64_t first, uint64_t bytes)
{
	pthread_mutex_lock(&lock);
	lines[number].status = status;
	lines[number].first = first;
	lines[number].bytes = bytes;
	pthread_mutex_unlock(&lock);
}

static void print_log(FILE *to)
{
	pthread_mutex_lock(&lock);
	for (unsigned i = forgotten; i < line_count; i++) {
		const struct line *line = &lines[i];

		fprintf(to, "%u %s %s ", i - forgotten, line->verb, line->name);
		if (line->first == UINT64_MAX || !line->bytes)
			fputs("-", to);
		else
			fprintf(to, "%llu-%llu", (unsigned long long)line->first,
				(unsigned long long)(line->first + line->bytes - 1));
		fprintf(to, " %u %llu\n", line->status, (unsigned long long)line->bytes);
	}
	pthread_mutex_unlock(&lock);
}

/* ---- Faults */

struct fault fault_for(const struct request *request)
{
	struct fault found = {0};
	const char *verb = !strcmp(request->method, "GET") && !*request->key ? "LIST"
									     : request->method;

	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < FAULTS && found.kind == FAULT_NONE; i++) {
		struct fault *fault = &faults[i];

		if (fault->kind == FAULT_NONE || (*fault->verb && strcmp(fault->verb, verb)) ||
		    (*fault->key && !strstr(request->path, fault->key)))
			continue;
		if (fault->skip) {
			fault->skip--;
			continue;
		}
		found = *fault;
		if (!--fault->count)
			fault->kind = FAULT_NONE;
	}
	pthread_mutex_unlock(&lock);
	return found;
}

void fault_hold(void)
{
	unsigned before;

	pthread_mutex_lock(&lock);
	before = releases;
	held++;
	pthread_cond_broadcast(&changed);
	while (releases == before)
		pthread_cond_wait(&changed, &lock);
	held--;
	pthread_mutex_unlock(&lock);
}

bool token_is_good(const char *given)
{
	bool good;

	pthread_mutex_lock(&lock);
	good = !*token || (given && !strcmp(given, token));
	pthread_mutex_unlock(&lock);
	return good;
}

void region_wanted(char *wanted, size_t room)
{
	pthread_mutex_lock(&lock);
	snprintf(wanted, room, "%s", region);
	pthread_mutex_unlock(&lock);
}

void bucket_is(const char *name)
{
	snprintf(bucket, sizeof(bucket), "%s", name);
}

bool bucket_exists(const char *name)
{
	return !strcmp(name, bucket);
}

static const char *text_of(const struct request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, name);
}

static unsigned long long number_of(const struct request *request, const char *name,
				    unsigned long long otherwise)
{
	const char *text = text_of(request, name);

	return text ? strtoull(text, NULL, 10) : otherwise;
}

static bool is(const struct request *request, const char *name, const char *value)
{
	const char *text = text_of(request, name);

	return text && !strcmp(text, value);
}

static bool order_fault(const struct request *request)
{
	static const char *const kinds[] = {"", "answer", "delay", "hold", "lose"};
	struct fault fault = {
		.skip = (unsigned)number_of(request, "skip", 0),
		.count = (unsigned)number_of(request, "count", 1),
		.status = (unsigned)number_of(request, "status", 500),
		.retry_after = (unsigned)number_of(request, "retry", 0),
		.ms = (unsigned)number_of(request, "ms", 0),
		.after = number_of(request, "after", 0),
	};
	const char *verb = text_of(request, "verb"), *key = text_of(request, "key"),
		   *code = text_of(request, "code");
	unsigned at = 0;

	for (unsigned i = 1; i < 5; i++)
		if (is(request, "kind", kinds[i]))
			fault.kind = (enum fault_kind)i;
	snprintf(fault.verb, sizeof(fault.verb), "%s", verb ? verb : "");
	snprintf(fault.key, sizeof(fault.key), "%s", key ? key : "");
	snprintf(fault.code, sizeof(fault.code), "%s", code ? code : "InternalError");
	pthread_mutex_lock(&lock);
	while (at < FAULTS && faults[at].kind != FAULT_NONE)
		at++;
	if (at < FAULTS)
		faults[at] = fault;
	pthread_mutex_unlock(&lock);
	return at < FAULTS && fault.kind != FAULT_NONE && fault.count;
}

static void release(void)
{
	pthread_mutex_lock(&lock);
	releases++;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static void clear(void)
{
	pthread_mutex_lock(&lock);
	memset(faults, 0, sizeof(faults));
	token[0] = region[0] = '\0';
	pthread_mutex_unlock(&lock);
	release();
	wire_clear();
}

static bool wait_for(const struct request *request)
{
	unsigned begun = (unsigned)number_of(request, "begun", 0),
		 many = (unsigned)number_of(request, "held", 0);
	struct timespec until;
	int code = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_SECONDS;
	pthread_mutex_lock(&lock);
	while (!code && (line_count - forgotten < begun || held < many))
		code = pthread_cond_timedwait(&changed, &lock, &until);
	pthread_mutex_unlock(&lock);
	return !code;
}

/* ---- */

static unsigned metadata(const struct request *request, const char *url, FILE *to)
{
	const char *given = header_of(request, "x-aws-ec2-metadata-token");

	if (!strcmp(url, "/latest/api/token")) {
		fputs("session-of-the-test", to);
		return !strcmp(request->method, "PUT") ? 200 : 405;
	}
	if (!given || strcmp(given, "session-of-the-test"))
		return 401;
	if (!strcmp(url, "/latest/meta-data/iam/security-credentials/"))
		fputs("test-role\n", to);
	else if (!strcmp(url, "/latest/meta-data/iam/security-credentials/test-role"))
		fprintf(to,
			"{\"Code\":\"Success\",\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"%s\","
			"\"Token\":\"%s\",\"Expiration\":\"2099-01-01T00:00:00Z\"}",
			KEY_ID, KEY_SECRET, *token ? token : "none");
	else
		return 404;
	return 200;
}

static unsigned order(const struct request *request, const char *url, FILE *to)
{
	const char *value;

	if (!strncmp(url, "/latest/", 8))
		return metadata(request, url, to);
	if (!strcmp(url, "/fault"))
		return order_fault(request) ? 200 : 400;
	if (!strcmp(url, "/wire"))
		wire_fault(is(request, "direction", "response"), number_of(request, "after", 0),
			   is(request, "action", "hang"), (unsigned)number_of(request, "count", 1));
	else if (!strcmp(url, "/slow"))
		wire_slow((size_t)number_of(request, "bytes", 0));
	else if (!strcmp(url, "/gone") || !strcmp(url, "/back"))
		wire_gone(!strcmp(url, "/gone"));
	else if (!strcmp(url, "/release"))
		release();
	else if (!strcmp(url, "/clear"))
		clear();
	else if (!strcmp(url, "/armed"))
		fputs(wire_is_armed() ? "1" : "0", to);
	else if (!strcmp(url, "/held")) {
		pthread_mutex_lock(&lock);
		fprintf(to, "%u", held);
		pthread_mutex_unlock(&lock);
	} else if (!strcmp(url, "/wait"))
		return wait_for(request) ? 200 : 504;
	else if (!strcmp(url, "/log"))
		print_log(to);
	else if (!strcmp(url, "/forget"))
		forgotten = line_count;
	else if (!strcmp(url, "/token") || !strcmp(url, "/region")) {
		value = text_of(request, "value");
		pthread_mutex_lock(&lock);
		if (!strcmp(url, "/token"))
			snprintf(token, sizeof(token), "%s", value ? value : "");
		else
			snprintf(region, sizeof(region), "%s", value ? value : "");
		pthread_mutex_unlock(&lock);
	} else
		return 404;
	return 200;
}

static enum MHD_Result came(void *arg, struct MHD_Connection *connection, const char *url,
			    const char *method, const char *version, const char *upload,
			    size_t *upload_bytes, void **state)
{
	static char seen;
	const struct request request = {.connection = connection, .method = method};
	struct MHD_Response *response;
	enum MHD_Result result;
	size_t bytes = 0;
	unsigned status;
	char *text = NULL;
	FILE *to;

	(void)arg, (void)version, (void)upload;
	*upload_bytes = 0;
	if (!*state) {
		*state = &seen;
		return MHD_YES;
	}
	to = open_memstream(&text, &bytes);
	status = order(&request, url, to);
	fclose(to);
	response = MHD_create_response_from_buffer(bytes, text, MHD_RESPMEM_MUST_FREE);
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

struct MHD_Daemon *control(uint16_t *port)
{
	struct MHD_Daemon *daemon = MHD_start_daemon(
		MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL, 0,
		NULL, NULL, came, NULL, MHD_OPTION_SOCK_ADDR,
		&(struct sockaddr_in){.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				      .sin_port = htons(*port)},
		MHD_OPTION_END);

	if (!daemon)
		die("libmicrohttpd does not begin");
	*port = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
	return daemon;
}
