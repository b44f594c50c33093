/* SPDX-License-Identifier: MIT */
/*
 * s3_try.c - one try of a request, as libcurl makes it. libcurl signs (AWS_SIGV4), and 7.88 signs what it is given as it is: so
 * paths and queries are written here in their canonical form, sorted and percent-encoded, and the hash of the body is always
 * a header. (An empty header, as "Expect:", must not be in the list: that would be signed, but not sent.)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/s3_private.h"

#define NOTHING_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define LIST_MOST 1000u /* names in an answer: no store gives more */
#define DOWNLOAD_BUFFER (256L << 10)
#define UPLOAD_BUFFER (128L << 10)

/* What is asked for just now. */
static enum s3_verb verb_now(const struct s3_try *try)
{
	return try->asks_why ? S3_GET : try->asks_whose ? S3_HEAD : try->request->verb;
}

/* ---- What comes in */

static bool header_is(const char *line, size_t bytes, const char *name, const char **value)
{
	size_t length = strlen(name);

	if (bytes <= length || line[length] != ':' || strncasecmp(line, name, length))
		return false;
	*value = line + length + 1;
	*value += strspn(*value, " \t");
	return true;
}

static void take_range(struct answer *answer, const char *value)
{
	unsigned long long first, last, total;

	if (sscanf(value, "bytes %llu-%llu/%llu", &first, &last, &total) == 3 && first <= last &&
	    last < total) {
		answer->has_range = true;
		answer->first = first;
		answer->total = total;
	} else if (sscanf(value, "bytes */%llu", &total) == 1) {
		answer->total = total;
	}
}

static void take_header(struct s3_try *try, const char *line, size_t bytes)
{
	struct answer *answer = &try->answer;
	const char *value;

	if (header_is(line, bytes, "content-range", &value))
		take_range(answer, value);
	else if (header_is(line, bytes, "content-length", &value))
		answer->bytes = strtoull(value, NULL, 10);
	else if (header_is(line, bytes, "retry-after", &value))
		answer->retry_after = (unsigned)strtoul(value, NULL, 10);
	else if (header_is(line, bytes, "x-amz-bucket-region", &value))
		snprintf(answer->region, sizeof(answer->region), "%s", value);
	else if (header_is(line, bytes, "etag", &value) && strlen(value) < S3_ETAG)
		strcpy(answer->etag, value);
	else if (!strncasecmp(line, "x-amz-meta-", 11) && answer->pairs.bytes < 8192) {
		text_buffer_add(&answer->pairs, line + 11);
		text_buffer_add(&answer->pairs, "\n");
	}
}

static size_t header_came(char *bytes, size_t size, size_t count, void *arg)
{
	struct s3_try *try = arg;
	struct answer *answer = &try->answer;
	size_t length = size * count;
	char line[1024]; /* what is longer is none of those that are looked at */

	try->moved_ns = clock_monotonic_ns();
	if (length >= sizeof(line))
		return length;
	memcpy(line, bytes, length);
	line[length] = '\0';
	line[strcspn(line, "\r\n")] = '\0';
	if (!line[0]) {
		answer->headed = answer->status >= 200;
	} else if (!strncmp(line, "HTTP/", 5)) { /* again after "100 Continue" */
		const char *space = strchr(line, ' ');

		try_drop(try);
		answer->status = space ? strtol(space + 1, NULL, 10) : 0;
	} else {
		for (size_t end = strlen(line);
		     end && (line[end - 1] == ' ' || line[end - 1] == '\t');)
			line[--end] = '\0';
		take_header(try, line, strlen(line));
	}
	return length;
}

/* Where the first byte of the body is in the object; UINT64_MAX: nobody knows. */
static uint64_t begins_at(const struct answer *answer)
{
	if (answer->status == 200)
		return 0; /* all of it, whatever was asked for */
	return answer->has_range ? answer->first : UINT64_MAX;
}

/* Where the first byte is that is wanted now. */
static uint64_t wanted_at(struct s3_try *try, bool *known)
{
	struct s3_request *request = try->request;
	struct answer *answer = &try->answer;

	*known = true;
	if (request->flags & S3_LAST && !try->got) {
		uint64_t total = answer->status == 200 ? answer->bytes : answer->total;

		*known = total != UINT64_MAX;
		request->offset = total < request->length ? 0 : total - request->length;
	}
	return request->offset + try->got;
}

/* Of a GET that has succeeded: into the caller's memory, from its place on. */
static size_t part_came(struct s3_try *try, const char *bytes, size_t length)
{
	struct s3_request *request = try->request;
	struct answer *answer = &try->answer;
	uint64_t at = begins_at(answer) + answer->passed;
	size_t skip = 0, room, taken;
	bool known;
	uint64_t wanted = wanted_at(try, &known);

	if (begins_at(answer) == UINT64_MAX || !known || at > wanted) {
		answer->misplaced = true;
		return 0;
	}
	if (try->got && try->etag[0] && strcmp(try->etag, answer->etag)) {
		answer->changed = true;
		return 0;
	}
	if (!try->got)
		strcpy(try->etag, answer->etag);
	if (at < wanted)
		skip = wanted - at < length ? (size_t)(wanted - at) : length;
	answer->passed += length;
	room = request->length - try->got;
	taken = length - skip < room ? length - skip : room;
	memcpy((char *)request->into + try->got, bytes + skip, taken);
	try->got += taken;
	return length;
}

static size_t body_came(char *bytes, size_t size, size_t count, void *arg)
{
	struct s3_try *try = arg;
	struct answer *answer = &try->answer;
	size_t length = size * count;

	try->moved_ns = clock_monotonic_ns();
	try->s3->received += length;
	if (answer->status < 300 && verb_now(try) == S3_GET)
		return try->asks_why ? length : part_came(try, bytes, length);
	if (answer->body.bytes + length > BODY_MOST) {
		answer->too_much = true;
		return 0;
	}
	while (length) { /* it adds text; what has a zero in it is not XML */
		char part[4096];
		size_t now = length < sizeof(part) - 1 ? length : sizeof(part) - 1;

		memcpy(part, bytes, now);
		part[now] = '\0';
		text_buffer_add(&answer->body, part);
		bytes += now;
		length -= now;
	}
	return size * count;
}

/* ---- What goes out */

static size_t body_goes(char *to, size_t size, size_t count, void *arg)
{
	struct s3_try *try = arg;
	const struct s3_request *request = try->request;
	size_t room = size * count, done = 0;

	try->moved_ns = clock_monotonic_ns();
	while (done < room && try->piece < request->pieces + request->piece_count) {
		size_t left = try->piece->iov_len - try->piece_done;
		size_t now = left < room - done ? left : room - done;

		if (now)
			memcpy(to + done, (const char *)try->piece->iov_base + try->piece_done,
			       now);
		done += now;
		try->piece_done += now;
		if (try->piece_done == try->piece->iov_len) {
			try->piece++;
			try->piece_done = 0;
		}
	}
	try->s3->sent += done;
	try->sends = true;
	return done;
}

/* libcurl sends it again by itself if a connection that was kept has turned out to be closed. */
static int from_the_beginning(void *arg, curl_off_t offset, int origin)
{
	struct s3_try *try = arg;

	if (offset || origin != SEEK_SET)
		return CURL_SEEKFUNC_CANTSEEK;
	try->piece = try->request->pieces;
	try->piece_done = 0;
	return CURL_SEEKFUNC_OK;
}

static int went_on(void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
		   curl_off_t up)
{
	struct s3_try *try = arg;

	(void)down_total, (void)down, (void)up_total;
	if (up != try->up) {
		try->up = up;
		try->moved_ns = clock_monotonic_ns();
	}
	return 0;
}

static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct s3 *s3 = arg;
	int fd = -1;

	(void)purpose;
	if (s3->connections < s3->sockets_most)
		fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	if (fd >= 0)
		s3->sockets[s3->connections++] = fd;
	return fd < 0 ? CURL_SOCKET_BAD : fd;
}

/* Also of those that were kept, long after the try. */
static int close_socket(void *arg, curl_socket_t fd)
{
	struct s3 *s3 = arg;

	for (unsigned i = 0; i < s3->connections; i++)
		if (s3->sockets[i] == fd) {
			s3->sockets[i] = s3->sockets[--s3->connections];
			break;
		}
	return close(fd);
}

/* libcurl does not tell the socket of a transfer, but its port here. -1: it has none yet. */
static int socket_of(const struct s3_try *try)
{
	const struct s3 *s3 = try->s3;
	long port = 0;

	if (curl.easy_getinfo(try->easy, CURLINFO_LOCAL_PORT, &port) || port <= 0)
		return -1;
	for (unsigned i = 0; i < s3->connections; i++) {
		struct sockaddr_in6 name = {0}; /* the port is where that of IPv4 is */
		socklen_t bytes = sizeof(name);

		if (!getsockname(s3->sockets[i], (struct sockaddr *)&name, &bytes) &&
		    ntohs(name.sin6_port) == port)
			return s3->sockets[i];
	}
	return -1;
}

bool try_moves(struct s3_try *try)
{
	int fd = socket_of(try), unsent;

	if (fd < 0 || ioctl(fd, SIOCOUTQ, &unsent) || unsent == try->unsent)
		return false;
	try->unsent = unsent;
	return true;
}

/* ---- The request */

static void add_encoded(struct text_buffer *text, const char *value)
{
	for (; *value; value++) {
		bool safe = strchr("-_.~", *value) || (*value >= '0' && *value <= '9') ||
			    (*value >= 'A' && *value <= 'Z') || (*value >= 'a' && *value <= 'z');

		text_buffer_printf(text, safe ? "%c" : "%%%02X", (unsigned char)*value);
	}
}

static void add_below(struct text_buffer *text, const struct s3 *s3, const char *key)
{
	if (*s3->place.prefix) {
		add_encoded(text, s3->place.prefix);
		add_encoded(text, "/");
	}
	add_encoded(text, key);
}

static void add_list(struct text_buffer *url, const struct s3_try *try)
{
	const struct s3_request *request = try->request;
	size_t left = request->at_most ? request->at_most - try->listed.count : LIST_MOST;

	text_buffer_add(url, "?");
	if (try->listed.token) {
		text_buffer_add(url, "continuation-token=");
		add_encoded(url, try->listed.token);
		text_buffer_add(url, "&");
	}
	if (request->folders)
		text_buffer_add(url, "delimiter=%2F&");
	text_buffer_printf(url, "encoding-type=url&list-type=2&max-keys=%zu&prefix=",
			   left < LIST_MOST ? left : LIST_MOST);
	add_below(url, try->s3, request->key);
	if (request->after && !try->listed.token) {
		text_buffer_add(url, "&start-after=");
		add_below(url, try->s3, request->after);
	}
}

/* malloc'ed; NULL: no memory. */
static char *url_of(const struct s3_try *try)
{
	const struct s3_url *place = &try->s3->place;
	struct text_buffer url = {0};

	text_buffer_add(&url, place->base);
	if (try->warms || try->request->verb == S3_LIST) {
		if (!strchr(strstr(place->base, "://") + 3,
			    '/')) /* the bucket is in the host's name */
			text_buffer_add(&url, "/");
	} else {
		text_buffer_printf(&url, "/%s%s", place->prefix, *place->prefix ? "/" : "");
		text_buffer_add(&url, try->request->key);
	}
	if (!try->warms && try->request->verb == S3_LIST)
		add_list(&url, try);
	if (!url.failed)
		return url.s;
	free(url.s);
	return NULL;
}

static bool add_header(struct s3_try *try, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static bool add_header(struct s3_try *try, const char *format, ...)
{
	struct curl_slist *longer = NULL;
	va_list arguments;
	char *line;
	int got;

	va_start(arguments, format);
	got = vasprintf(&line, format, arguments);
	va_end(arguments);
	if (got >= 0) {
		longer = curl.slist_append(try->headers, line);
		explicit_bzero(line, (size_t)got);
		free(line);
	}
	if (longer)
		try->headers = longer;
	return longer;
}

static bool add_range(struct s3_try *try)
{
	const struct s3_request *request = try->request;
	uint64_t first = request->offset + try->got;
	const char *same = try->got && try->etag[0] ? try->etag : request->if_match;
	bool good;

	if (try->asks_why)
		return add_header(try, "Range: bytes=0-0");
	if (request->flags & S3_LAST && !try->got)
		good = add_header(try, "Range: bytes=-%zu", request->length);
	else
		good = add_header(try, "Range: bytes=%llu-%llu", (unsigned long long)first,
				  (unsigned long long)(request->offset + request->length - 1));
	return good && (!same || add_header(try, "If-Match: %s", same));
}

static bool add_put(struct s3_try *try)
{
	const struct s3_request *request = try->request;

	for (unsigned i = 0; i < S3_PAIRS && request->pairs[i].name; i++)
		if (!add_header(try, "x-amz-meta-%s: %s", request->pairs[i].name,
				request->pairs[i].value))
			return false;
	if (!add_header(try, "Content-Type: application/octet-stream"))
		return false;
	return !(request->flags & S3_NEW) ||
	       (add_header(try, "x-amz-meta-" NONCE_NAME ": %s", try->nonce) &&
		add_header(try, "If-None-Match: *"));
}

static bool add_headers(struct s3_try *try)
{
	const char *token = try->s3->credentials.token;
	enum s3_verb verb = verb_now(try);
	const char *hash = verb != S3_PUT		     ? NOTHING_SHA256
			   : try->request->private.sha256[0] ? try->request->private.sha256
							     : "UNSIGNED-PAYLOAD";

	if (!add_header(try, "x-amz-content-sha256: %s", hash) ||
	    (token && !add_header(try, "x-amz-security-token: %s", token)))
		return false;
	if (verb == S3_GET)
		return add_range(try);
	return verb != S3_PUT || add_put(try);
}

static void set_method(struct s3_try *try, CURL *easy)
{
	curl_off_t bytes = 0;

	switch (verb_now(try)) {
	case S3_HEAD:
		curl.easy_setopt(easy, CURLOPT_NOBODY, 1L);
		break;
	case S3_DELETE:
		curl.easy_setopt(easy, CURLOPT_CUSTOMREQUEST, "DELETE");
		break;
	case S3_PUT:
		for (unsigned i = 0; i < try->request->piece_count; i++)
			bytes += (curl_off_t)try->request->pieces[i].iov_len;
		from_the_beginning(try, 0, SEEK_SET);
		/* CURLOPT_UPLOAD would ask first whether it is wanted (Expect), however short it is: a round trip. */
		curl.easy_setopt(easy, CURLOPT_POST, 1L);
		curl.easy_setopt(easy, CURLOPT_CUSTOMREQUEST, "PUT");
		curl.easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, bytes);
		curl.easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER);
		curl.easy_setopt(easy, CURLOPT_READFUNCTION, body_goes);
		curl.easy_setopt(easy, CURLOPT_READDATA, try);
		curl.easy_setopt(easy, CURLOPT_SEEKFUNCTION, from_the_beginning);
		curl.easy_setopt(easy, CURLOPT_SEEKDATA, try);
		try->sends = !bytes;
		break;
	case S3_GET:
	case S3_LIST:
		break;
	}
}

static void set_connection(struct s3 *s3, CURL *easy)
{
	curl.easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl.easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* nobody waits for a resolver that hangs */
	curl.easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl.easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl.easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	curl.easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl.easy_setopt(easy, CURLOPT_BUFFERSIZE, DOWNLOAD_BUFFER);
	curl.easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
			 (long)(s3->settings.connect_ns / 1000000u));
	curl.easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl.easy_setopt(easy, CURLOPT_OPENSOCKETDATA, s3);
	curl.easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
	curl.easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, s3);
	curl.easy_setopt(easy, CURLOPT_USERAGENT, "thaw/" THAW_VERSION);
	if (s3->ca_bundle)
		curl.easy_setopt(easy, CURLOPT_CAINFO, s3->ca_bundle);
}

static bool set_signature(const struct s3 *s3, CURL *easy)
{
	char scope[128];

	snprintf(scope, sizeof(scope), "aws:amz:%s:s3", s3->place.region);
	return !curl.easy_setopt(easy, CURLOPT_AWS_SIGV4, scope) &&
	       !curl.easy_setopt(easy, CURLOPT_USERNAME, s3->credentials.id) &&
	       !curl.easy_setopt(easy, CURLOPT_PASSWORD, s3->credentials.secret);
}

static void set_callbacks(struct s3_try *try, CURL *easy)
{
	curl.easy_setopt(easy, CURLOPT_PRIVATE, try);
	curl.easy_setopt(easy, CURLOPT_ERRORBUFFER, try->detail);
	curl.easy_setopt(easy, CURLOPT_FILETIME, 1L);
	curl.easy_setopt(easy, CURLOPT_HEADERFUNCTION, header_came);
	curl.easy_setopt(easy, CURLOPT_HEADERDATA, try);
	curl.easy_setopt(easy, CURLOPT_WRITEFUNCTION, body_came);
	curl.easy_setopt(easy, CURLOPT_WRITEDATA, try);
	curl.easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
	curl.easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, went_on);
	curl.easy_setopt(easy, CURLOPT_XFERINFODATA, try);
}

int try_begin(struct s3_try *try, CURL *easy)
{
	char *url = url_of(try);
	bool good;

	try_drop(try);
	try->begun_ns = try->moved_ns = clock_monotonic_ns();
	try->up = 0;
	try->unsent = 0;
	try->sends = false;
	try->detail[0] = '\0';
	try->number++;
	try->request->tries++;
	try->credentials = try->s3->credentials_number;
	try->region = try->s3->region_number;
	curl.easy_reset(easy);
	good = url && add_headers(try) && !curl.easy_setopt(easy, CURLOPT_URL, url) &&
	       !curl.easy_setopt(easy, CURLOPT_HTTPHEADER, try->headers) &&
	       set_signature(try->s3, easy);
	free(url);
	if (!good) {
		try_end(try);
		return -ENOMEM;
	}
	set_connection(try->s3, easy);
	set_callbacks(try, easy);
	set_method(try, easy);
	try->easy = easy;
	return 0;
}

void try_end(struct s3_try *try)
{
	for (struct curl_slist *header = try->headers; header; header = header->next)
		explicit_bzero(header->data, strlen(header->data)); /* a token */
	curl.slist_free_all(try->headers);
	try->headers = NULL;
	try->easy = NULL;
}

void try_drop(struct s3_try *try)
{
	free(try->answer.pairs.s);
	free(try->answer.body.s);
	try->answer = (struct answer){.total = UINT64_MAX, .bytes = UINT64_MAX};
}
