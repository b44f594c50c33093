// SPDX-License-Identifier: MIT
/*
 * requests.c - what load.c asks, in each of its protocols, and what is answered. Text in, text out; nothing is kept.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

const char *const load_protocol_names[LOAD_PROTOCOLS] = {"http", "line", "redis"};

/* An id counts once, and its answer stays what it was. */
#define REDIS_ADD                                        \
	"local n = redis.call('hget', 'ids', ARGV[1]) "  \
	"if not n then n = redis.call('incr', 'total') " \
	"redis.call('hset', 'ids', ARGV[1], n) end return tonumber(n)"

static size_t http_write(enum load_request request, const char *id, char *text, size_t room)
{
	static const char *const paths[] = {"POST /count/", "POST /add/", "GET /get/",
					    "GET /total"};
	const char *body = request == LOAD_COUNT || request == LOAD_ADD ? "Content-Length: 0\r\n"
									: "";

	return (size_t)snprintf(text, room, "%s%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n",
				paths[request], id, body);
}

static size_t line_write(enum load_request request, const char *id, char *text, size_t room)
{
	static const char *const words[] = {"count ", "add ", "get ", "total"};

	return (size_t)snprintf(text, room, "%s%s\n", words[request], id);
}

static size_t redis_write(enum load_request request, const char *id, char *text, size_t room)
{
	size_t bytes = strlen(id);

	switch (request) {
	case LOAD_COUNT:
		return (size_t)snprintf(text, room, "*2\r\n$4\r\nINCR\r\n$%zu\r\nkey:%s\r\n",
					bytes + 4, id);
	case LOAD_ADD:
		return (size_t)snprintf(
			text, room, "*4\r\n$4\r\nEVAL\r\n$%zu\r\n%s\r\n$1\r\n0\r\n$%zu\r\n%s\r\n",
			sizeof(REDIS_ADD) - 1, REDIS_ADD, bytes, id);
	case LOAD_GET:
		return (size_t)snprintf(
			text, room, "*3\r\n$4\r\nHGET\r\n$3\r\nids\r\n$%zu\r\n%s\r\n", bytes, id);
	default:
		return (size_t)snprintf(text, room, "*2\r\n$3\r\nGET\r\n$5\r\ntotal\r\n");
	}
}

size_t load_write(enum load_protocol protocol, enum load_request request, const char *id,
		  char *text, size_t room)
{
	switch (protocol) {
	case LOAD_HTTP:
		return http_write(request, id, text, room);
	case LOAD_LINE:
		return line_write(request, id, text, room);
	default:
		return redis_write(request, id, text, room);
	}
}

/* Digits, and nothing else up to there. */
static bool take_number(const char *text, const char *end, uint64_t *number)
{
	*number = 0;
	for (; text < end && isdigit((unsigned char)*text); text++)
		*number = *number * 10 + (uint64_t)(*text - '0');
	return text == end;
}

static long http_read(const char *text, size_t bytes, uint64_t *number)
{
	static const char length_name[] = "content-length:";
	const char *body = memmem(text, bytes, "\r\n\r\n", 4), *end = NULL;

	if (!body)
		return 0;
	if (strncmp(text, "HTTP/1.1 200 ", 13))
		return -1;
	body += 4;
	for (const char *line = text; line < body;
	     line = (const char *)memchr(line, '\n', (size_t)(body - line)) + 1)
		if (!strncasecmp(line, length_name, sizeof(length_name) - 1))
			end = body + atol(line + sizeof(length_name) - 1);
	if (!end || end == body)
		return -1;
	if (end > text + bytes)
		return 0;
	return take_number(body, end[-1] == '\n' ? end - 1 : end, number) ? end - text : -1;
}

static long line_read(const char *text, size_t bytes, uint64_t *number)
{
	const char *end = memchr(text, '\n', bytes);

	if (!end)
		return 0;
	return end > text && take_number(text, end, number) ? end + 1 - text : -1;
}

static long redis_read(const char *text, size_t bytes, uint64_t *number)
{
	const char *end = memmem(text, bytes, "\r\n", 2), *value;
	long length;

	if (!end)
		return 0;
	if (*text == ':')
		return take_number(text + 1, end, number) ? end + 2 - text : -1;
	length = *text == '$' ? atol(text + 1) : -2;
	if (length < -1)
		return -1;
	value = end + 2;
	if (length < 0) { /* there is none */
		*number = 0;
		return value - text;
	}
	if (value + length + 2 > text + bytes)
		return 0;
	return take_number(value, value + length, number) ? value + length + 2 - text : -1;
}

long load_read(enum load_protocol protocol, const char *text, size_t bytes, uint64_t *number)
{
	if (!bytes)
		return 0;
	switch (protocol) {
	case LOAD_HTTP:
		return http_read(text, bytes, number);
	case LOAD_LINE:
		return line_read(text, bytes, number);
	default:
		return redis_read(text, bytes, number);
	}
}
