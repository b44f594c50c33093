// SPDX-License-Identifier: GPL-2.0-only
/* answer.c - requests of S3's protocol, as far as Thaw speaks it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "certificate.h"
#include "server.h"

#define LIST_MOST 1000
#define NOTHING UINT64_MAX

/* ---- Parts of a request */

static int hex(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

bool url_decode(const char *text, size_t bytes, char *to, size_t room)
{
	size_t length = 0;

	for (size_t i = 0; i < bytes; i++) {
		int c = (unsigned char)text[i];

		if (c == '%') {
			if (i + 2 >= bytes || hex(text[i + 1]) < 0 || hex(text[i + 2]) < 0)
				return false;
			c = hex(text[i + 1]) * 16 + hex(text[i + 2]);
			i += 2;
		}
		if (!c || length + 1 >= room)
			return false;
		to[length++] = (char)c;
	}
	to[length] = '\0';
	return true;
}

char *query_value(const struct request *request, const char *name)
{
	const char *at = strchr(request->raw, '?');
	size_t length = strlen(name);

	while (at) {
		const char *part = at + 1, *end = strchrnul(part, '&');

		at = *end ? end : NULL;
		if (strncmp(part, name, length) || !strchr("=&", part[length]))
			continue;
		char *value = malloc(2100);

		part += length + (part[length] == '=');
		if (!value || !url_decode(part, (size_t)(end - part), value, 2100))
			die("a parameter that is too long");
		return value;
	}
	return NULL;
}

const char *header_of(const struct request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

static bool split_path(struct request *request)
{
	const char *end = strchrnul(request->raw, '?');
	const char *slash;

	if (*request->raw != '/' || !url_decode(request->raw + 1, (size_t)(end - request->raw) - 1,
						request->path, sizeof(request->path)))
		return false;
	slash = strchrnul(request->path, '/');
	if ((size_t)(slash - request->path) >= sizeof(request->bucket))
		return false;
	snprintf(request->bucket, sizeof(request->bucket), "%.*s", (int)(slash - request->path),
		 request->path);
	request->key = *slash ? slash + 1 : slash;
	return true;
}

/* ---- Answers */

static enum MHD_Result reply(struct request *request, unsigned status,
			     struct MHD_Response *response, uint64_t first, uint64_t bytes)
{
	enum MHD_Result result;
	char id[24];

	snprintf(id, sizeof(id), "%u", request->number);
	MHD_add_response_header(response, "x-amz-request-id", id);
	log_end(request->number, status, first, bytes);
	result = MHD_queue_response(request->connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result send_text(struct request *request, unsigned status, const char *text)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(strlen(text), (void *)text, MHD_RESPMEM_MUST_COPY);

	if (*text)
		MHD_add_response_header(response, "Content-Type", "application/xml");
	return reply(request, status, response, NOTHING, strlen(text));
}

static enum MHD_Result refuse(struct request *request, unsigned status, const char *code,
			      unsigned retry_after)
{
	char text[640], seconds[16], region[64];
	struct MHD_Response *response;

	region_wanted(region, sizeof(region));
	snprintf(
		text, sizeof(text),
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>of the "
		"test's server</Message><RequestId>%u</RequestId><Region>%s</Region></Error>",
		code, request->number, region);
	response = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_COPY);
	snprintf(seconds, sizeof(seconds), "%u", retry_after);
	if (retry_after)
		MHD_add_response_header(response, "Retry-After", seconds);
	return reply(request, status, response, NOTHING, strlen(text));
}

/* ---- Verbs */

struct pairs {
	char text[2100];
	bool too_many;
};

static enum MHD_Result keep_pair(void *arg, enum MHD_ValueKind kind, const char *name,
				 const char *value)
{
	struct pairs *pairs = arg;
	size_t length = strlen(pairs->text);

	(void)kind;
	if (strncasecmp(name, "x-amz-meta-", 11))
		return MHD_YES;
	pairs->too_many |= length + strlen(name) + strlen(value) + 4 > sizeof(pairs->text);
	if (!pairs->too_many)
		snprintf(pairs->text + length, sizeof(pairs->text) - length, "%s: %s\n", name,
			 value);
	return MHD_YES;
}

/* 0, or the status that it fails with. */
static unsigned store(struct request *request, char *etag)
{
	const char *none = header_of(request, "if-none-match"),
		   *match = header_of(request, "if-match");
	struct pairs pairs = {0};
	struct object facts = {.bytes = request->bytes, .pairs = pairs.text};
	struct timespec now;
	int status;

	clock_gettime(CLOCK_REALTIME, &now);
	facts.time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	snprintf(facts.etag, sizeof(facts.etag), "\"%.32s\"", request->sha256);
	MHD_get_connection_values(request->connection, MHD_HEADER_KIND, keep_pair, &pairs);
	if (pairs.too_many)
		return 400;
	if (none && strcmp(none, "*"))
		return 501;
	status = object_put(request->path, request->file, &facts, none != NULL, match, etag);
	request->file[0] = '\0';
	return (unsigned)status;
}

static enum MHD_Result put(struct request *request)
{
	struct MHD_Response *response;
	unsigned status;
	char etag[40];

	status = store(request, etag);
	if (status)
		return refuse(request, status,
			      status == 412   ? "PreconditionFailed"
			      : status == 404 ? "NoSuchKey"
			      : status == 400 ? "MetadataTooLarge"
					      : "NotImplemented",
			      0);
	response = MHD_create_response_from_buffer(0, "", MHD_RESPMEM_PERSISTENT);
	MHD_add_response_header(response, "ETag", etag);
	return reply(request, 200, response, 0, request->bytes);
}

/* False: it asks for what is not there. first + bytes is all, if there is no range. */
static bool range_of(const struct request *request, uint64_t total, uint64_t *first,
		     uint64_t *bytes, bool *part)
{
	const char *range = header_of(request, "range");
	unsigned long long from, to;

	*first = 0;
	*bytes = total;
	*part = false;
	if (!range)
		return true;
	*part = true;
	if (sscanf(range, "bytes=-%llu", &to) == 1) {
		*bytes = to < total ? to : total;
		*first = total - *bytes;
		return *bytes > 0;
	}
	if (sscanf(range, "bytes=%llu-%llu", &from, &to) != 2 || from > to || from >= total)
		return false;
	*first = from;
	*bytes = (to < total ? to + 1 : total) - from;
	return true;
}

static void add_facts(struct MHD_Response *response, const struct object *facts)
{
	time_t seconds = (time_t)(facts->time_ns / 1000000000u);
	char *copy = strdup(facts->pairs), *state = NULL, date[64];
	struct tm parts;

	strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&seconds, &parts));
	MHD_add_response_header(response, "ETag", facts->etag);
	MHD_add_response_header(response, "Last-Modified", date);
	MHD_add_response_header(response, "Accept-Ranges", "bytes");
	for (char *line = strtok_r(copy, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
		char *colon = strchr(line, ':');

		*colon = '\0';
		MHD_add_response_header(response, line, colon + 2);
	}
	free(copy);
}

static enum MHD_Result get(struct request *request)
{
	const char *match = header_of(request, "if-match");
	struct object facts = {0};
	struct MHD_Response *response;
	uint64_t first, bytes;
	char range[96];
	bool part;
	int fd = object_open(request->path, &facts);
	enum MHD_Result result;

	if (fd < 0)
		return refuse(request, 404, "NoSuchKey", 0);
	if (match && strcmp(match, facts.etag)) {
		result = refuse(request, 412, "PreconditionFailed", 0);
		close(fd);
	} else if (!range_of(request, facts.bytes, &first, &bytes, &part)) {
		result = refuse(request, 416, "InvalidRange", 0);
		close(fd);
	} else {
		response = MHD_create_response_from_fd_at_offset64(bytes, fd, 4096 + first);
		add_facts(response, &facts);
		snprintf(range, sizeof(range), "bytes %llu-%llu/%llu", (unsigned long long)first,
			 (unsigned long long)(first + bytes - 1), (unsigned long long)facts.bytes);
		if (part)
			MHD_add_response_header(response, "Content-Range", range);
		result = reply(request, part ? 206 : 200, response,
			       strcmp(request->method, "HEAD") ? first : NOTHING,
			       strcmp(request->method, "HEAD") ? bytes : 0);
	}
	object_free(&facts);
	return result;
}

/* ---- Lists */

static void print_key(FILE *to, const char *key, bool encoded)
{
	for (; *key; key++) {
		unsigned char c = (unsigned char)*key;
		bool safe = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
			    (c >= 'a' && c <= 'z') || strchr("-_.~/", c);

		if (safe)
			putc(c, to);
		else
			fprintf(to, encoded ? "%%%02X" : "&#%u;", c);
	}
}

static void print_object(FILE *to, const struct object *object, const char *key, bool encoded)
{
	time_t seconds = (time_t)(object->time_ns / 1000000000u);
	char date[64];
	struct tm parts;

	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", gmtime_r(&seconds, &parts));
	fputs("<Contents><Key>", to);
	print_key(to, key, encoded);
	fprintf(to,
		"</Key><LastModified>%s.%03uZ</LastModified><ETag>&quot;%.32s&quot;</ETag>"
		"<Size>%llu</Size><StorageClass>STANDARD</StorageClass></Contents>",
		date, (unsigned)(object->time_ns / 1000000 % 1000), object->etag + 1,
		(unsigned long long)object->bytes);
}

struct list {
	char *prefix, *after, *token, *delimiter, *encoding, *most;
	bool encoded;
	char folder[2100]; /* the newest; "": none */
};

/* Prints those that there are, and returns the name after which there are others; "": that was all. Freed by the caller. */
static char *print_list(FILE *to, struct request *request, struct list *list, size_t most)
{
	size_t length = strlen(request->bucket) + 1, count = 0;
	char prefix[2100], after[4300];
	bool more = true;

	snprintf(prefix, sizeof(prefix), "%s/%s", request->bucket, list->prefix);
	snprintf(after, sizeof(after), "%s/%s", request->bucket,
		 list->token   ? list->token
		 : list->after ? list->after
			       : "");
	while (more && count < most) {
		struct object object;
		char *key, *slash;

		if (!objects_list(prefix, after, 1, &object, &more))
			break;
		key = object.name + length;
		slash = list->delimiter ? strchr(key + strlen(list->prefix), '/') : NULL;
		count++;
		if (slash) {
			slash[1] = '\0';
			fputs("<CommonPrefixes><Prefix>", to);
			print_key(to, key, list->encoded);
			fputs("</Prefix></CommonPrefixes>", to);
			snprintf(after, sizeof(after), "%s\xff", object.name);
		} else {
			print_object(to, &object, key, list->encoded);
			snprintf(after, sizeof(after), "%s", object.name);
		}
		object_free(&object);
		if (count == most) {
			more = objects_list(prefix, after, 1, &object, &(bool){false});
			if (more)
				object_free(&object);
		}
	}
	return strdup(more ? after + length : "");
}

static enum MHD_Result list(struct request *request)
{
	struct list list = {.prefix = query_value(request, "prefix"),
			    .after = query_value(request, "start-after"),
			    .token = query_value(request, "continuation-token"),
			    .delimiter = query_value(request, "delimiter"),
			    .encoding = query_value(request, "encoding-type"),
			    .most = query_value(request, "max-keys")};
	size_t most = list.most ? strtoul(list.most, NULL, 10) : LIST_MOST, bytes;
	char *text = NULL, *next;
	FILE *to = open_memstream(&text, &bytes);
	enum MHD_Result result;

	list.encoded = list.encoding && !strcmp(list.encoding, "url");
	list.prefix = list.prefix ? list.prefix : strdup("");
	if (most > LIST_MOST)
		most = LIST_MOST;
	fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult "
	      "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
	      to);
	fprintf(to, "<Name>%s</Name><MaxKeys>%zu</MaxKeys>", request->bucket, most);
	next = print_list(to, request, &list, most);
	fprintf(to, "<IsTruncated>%s</IsTruncated>", *next ? "true" : "false");
	if (*next) {
		fputs("<NextContinuationToken>", to);
		print_key(to, next, false);
		fputs("</NextContinuationToken>", to);
	}
	fputs("</ListBucketResult>", to);
	fclose(to);
	result = send_text(request, 200, text);
	free(next), free(text), free(list.prefix), free(list.after), free(list.token);
	free(list.delimiter), free(list.encoding), free(list.most);
	return result;
}

static enum MHD_Result head_bucket(struct request *request)
{
	return send_text(request, 200, "");
}

/* ---- One request */

static enum MHD_Result perform(struct request *request)
{
	unsigned status;
	const char *wrong = signature_check(request, &status);
	bool reads = !strcmp(request->method, "GET"), heads = !strcmp(request->method, "HEAD");

	if (wrong)
		return refuse(request, status, wrong, 0);
	if (!bucket_exists(request->bucket))
		return refuse(request, 404, "NoSuchBucket", 0);
	if (!*request->key)
		return reads   ? list(request)
		       : heads ? head_bucket(request)
			       : refuse(request, 405, "MethodNotAllowed", 0);
	if (reads || heads)
		return get(request);
	if (!strcmp(request->method, "PUT"))
		return put(request);
	if (strcmp(request->method, "DELETE"))
		return refuse(request, 405, "MethodNotAllowed", 0);
	object_delete(request->path);
	return send_text(request, 204, "");
}

/* What it does is done, and its answer never goes out. */
static void perform_silently(struct request *request)
{
	unsigned status;
	char etag[40];

	if (signature_check(request, &status) || !bucket_exists(request->bucket))
		return;
	if (!strcmp(request->method, "DELETE"))
		object_delete(request->path);
	if (!strcmp(request->method, "PUT"))
		store(request, etag);
}

static enum MHD_Result answer(struct request *request)
{
	struct fault fault = fault_for(request);

	if (fault.kind == FAULT_DELAY)
		usleep(fault.ms * 1000);
	else if (fault.kind != FAULT_NONE && fault.after)
		perform_silently(request);
	if (fault.kind == FAULT_HOLD) {
		fault_hold();
		if (fault.after) /* whoever waited for it is gone by now, or is to ask again */
			fault.kind = FAULT_LOSE;
	}
	if (fault.kind == FAULT_LOSE) {
		log_end(request->number, 0, NOTHING, 0);
		return MHD_NO;
	}
	if (fault.kind == FAULT_ANSWER)
		return refuse(request, fault.status, fault.code, fault.retry_after);
	return perform(request);
}

static void *uri_came(void *arg, const char *uri, struct MHD_Connection *connection)
{
	struct request *request = calloc(1, sizeof(*request));

	(void)arg;
	if (!request || !(request->raw = strdup(uri)))
		die("out of memory");
	request->connection = connection;
	request->fd = -1;
	crypto_hash_sha256_init(&request->hash);
	return request;
}

/* Who asks first whether it is wanted (Expect) is told so. */
static bool is_there_already(const struct request *request)
{
	struct object facts;
	int fd;

	if (strcmp(request->method, "PUT") || !header_of(request, "expect") ||
	    !header_of(request, "if-none-match"))
		return false;
	fd = object_open(request->path, &facts);
	if (fd < 0)
		return false;
	close(fd);
	object_free(&facts);
	return true;
}

static enum MHD_Result came(void *arg, struct MHD_Connection *connection, const char *url,
			    const char *method, const char *version, const char *upload,
			    size_t *upload_bytes, void **state)
{
	struct request *request = *state;
	uint8_t sum[crypto_hash_sha256_BYTES];

	(void)arg, (void)connection, (void)url, (void)version;
	request->method = method;
	if (!request->begun) {
		request->begun = true;
		if (!split_path(request))
			return MHD_NO;
		request->number = log_begin(request);
		return is_there_already(request) ? refuse(request, 412, "PreconditionFailed", 0)
						 : MHD_YES;
	}
	if (*upload_bytes) {
		if (request->fd < 0)
			request->fd = object_file(request->file, sizeof(request->file));
		if (write(request->fd, upload, *upload_bytes) != (ssize_t)*upload_bytes)
			die("%s: %s", request->file, strerror(errno));
		crypto_hash_sha256_update(&request->hash, (const uint8_t *)upload, *upload_bytes);
		request->bytes += *upload_bytes;
		*upload_bytes = 0;
		return MHD_YES;
	}
	if (!strcmp(method, "PUT") && request->fd < 0)
		request->fd = object_file(request->file, sizeof(request->file));
	crypto_hash_sha256_final(&request->hash, sum);
	sodium_bin2hex(request->sha256, sizeof(request->sha256), sum, sizeof(sum));
	return answer(request);
}

static void ended(void *arg, struct MHD_Connection *connection, void **state,
		  enum MHD_RequestTerminationCode how)
{
	struct request *request = *state;

	(void)arg, (void)connection, (void)how;
	if (!request)
		return;
	if (request->fd >= 0)
		close(request->fd);
	if (request->file[0])
		unlink(request->file);
	free(request->raw);
	free(request);
	*state = NULL;
}

struct MHD_Daemon *serve(bool tls, uint16_t *port)
{
	struct MHD_OptionItem secure[] = {
		{MHD_OPTION_HTTPS_MEM_CERT, 0, CERTIFICATE},
		{MHD_OPTION_HTTPS_MEM_KEY, 0, CERTIFICATE_KEY},
		{MHD_OPTION_END, 0, NULL},
	};
	struct MHD_Daemon *daemon = MHD_start_daemon(
		MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL |
			(tls ? MHD_USE_TLS : 0),
		0, NULL, NULL, came, NULL, MHD_OPTION_URI_LOG_CALLBACK, uri_came, NULL,
		MHD_OPTION_NOTIFY_COMPLETED, ended, NULL, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)(256 << 10), MHD_OPTION_SOCK_ADDR,
		&(struct sockaddr_in){.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
		MHD_OPTION_ARRAY, tls ? secure : secure + 2, MHD_OPTION_END);

	if (!daemon)
		die("libmicrohttpd does not begin");
	*port = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
	return daemon;
}
