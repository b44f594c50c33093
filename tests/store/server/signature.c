// SPDX-License-Identifier: GPL-2.0-only
/*
 * signature.c - AWS's signature, version 4, of a request's head; written from its description, not from a client. Paths and queries
 * are decoded and encoded again, so what a client did not write in the canonical form is signed wrongly here, as it is at AWS.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server.h"

#define SKEW_SECONDS 900

struct text {
	char *s;
	size_t bytes;
};

static void add(struct text *text, const char *more, size_t bytes)
{
	text->s = realloc(text->s, text->bytes + bytes + 1);
	if (!text->s)
		die("out of memory");
	memcpy(text->s + text->bytes, more, bytes);
	text->bytes += bytes;
	text->s[text->bytes] = '\0';
}

static void add_encoded(struct text *text, const char *value, bool slashes)
{
	for (; *value; value++) {
		unsigned char c = (unsigned char)*value;
		char part[4];

		if (isalnum(c) || strchr("-_.~", c) || (slashes && c == '/'))
			snprintf(part, sizeof(part), "%c", c);
		else
			snprintf(part, sizeof(part), "%%%02X", c);
		add(text, part, strlen(part));
	}
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Each "name=value", encoded; sorted. */
static bool add_query(struct text *text, const char *query)
{
	char *parts[32], *copy = strdup(query ? query : ""), *state = NULL;
	unsigned count = 0;
	bool good = copy != NULL;

	for (char *part = strtok_r(copy, "&", &state); part && good && count < 32;
	     part = strtok_r(NULL, "&", &state)) {
		char name[256], value[2100], *equals = strchr(part, '=');
		size_t length = equals ? (size_t)(equals - part) : strlen(part);
		struct text one = {0};

		good = url_decode(part, length, name, sizeof(name)) &&
		       url_decode(equals ? equals + 1 : "", equals ? strlen(equals + 1) : 0, value,
				  sizeof(value));
		add_encoded(&one, name, false);
		add(&one, "=", 1);
		add_encoded(&one, value, false);
		parts[count++] = one.s;
	}
	qsort(parts, count, sizeof(*parts), by_text);
	for (unsigned i = 0; i < count; i++) {
		add(text, "&", i ? 1 : 0);
		add(text, parts[i], strlen(parts[i]));
		free(parts[i]);
	}
	free(copy);
	return good;
}

/* Without spaces at its ends, and one for several. */
static void add_value(struct text *text, const char *value)
{
	size_t from = text->bytes;

	for (; *value; value++)
		if (*value != ' ' || (text->bytes > from && text->s[text->bytes - 1] != ' '))
			add(text, value, 1);
	while (text->bytes > from && text->s[text->bytes - 1] == ' ')
		text->s[--text->bytes] = '\0';
}

/* The headers that are said to be signed, in their order. False: one of them was not sent, or they are not sorted. */
static bool add_headers(struct text *text, const struct request *request, const char *names)
{
	char *copy = strdup(names), *state = NULL;
	const char *before = "";
	bool good = copy != NULL;

	for (char *name = strtok_r(copy, ";", &state); name && good;
	     name = strtok_r(NULL, ";", &state)) {
		const char *value = header_of(request, name);

		good = value && strcmp(before, name) < 0;
		if (!good)
			break;
		add(text, name, strlen(name));
		add(text, ":", 1);
		add_value(text, value);
		add(text, "\n", 1);
		before = name;
	}
	free(copy);
	return good;
}

struct signed_names {
	const char *names;
	bool all;
};

/* Every x-amz-* header has to be among those that are signed. */
static enum MHD_Result look_at_header(void *arg, enum MHD_ValueKind kind, const char *name,
				      const char *value)
{
	struct signed_names *names = arg;
	char lower[256], *at;

	(void)kind, (void)value;
	if (strncasecmp(name, "x-amz-", 6))
		return MHD_YES;
	snprintf(lower, sizeof(lower), ";%s;", name);
	for (at = lower; *at; at++)
		*at = (char)tolower((unsigned char)*at);
	if (!strstr(names->names, lower))
		names->all = false;
	return MHD_YES;
}

static bool signs_enough(const struct request *request, const char *names)
{
	char between[2048];
	struct signed_names wanted = {.names = between, .all = true};

	snprintf(between, sizeof(between), ";%s;", names);
	MHD_get_connection_values(request->connection, MHD_HEADER_KIND, look_at_header, &wanted);
	return wanted.all && strstr(between, ";host;");
}

static void hmac(uint8_t *to, const uint8_t *key, size_t bytes, const char *text)
{
	crypto_auth_hmacsha256_state state;

	crypto_auth_hmacsha256_init(&state, key, bytes);
	crypto_auth_hmacsha256_update(&state, (const uint8_t *)text, strlen(text));
	crypto_auth_hmacsha256_final(&state, to);
}

static void sign(const char *date, const char *scope, const char *time, const char *canonical,
		 char *signature)
{
	uint8_t key[32], sum[32];
	char secret[128], day[16], region[64], service[16], hex[65], text[512];

	sscanf(scope, "%15[^/]/%63[^/]/%15[^/]", day, region, service);
	snprintf(secret, sizeof(secret), "AWS4%s", KEY_SECRET);
	hmac(key, (const uint8_t *)secret, strlen(secret), date);
	hmac(key, key, 32, region);
	hmac(key, key, 32, service);
	hmac(key, key, 32, "aws4_request");
	crypto_hash_sha256(sum, (const uint8_t *)canonical, strlen(canonical));
	sodium_bin2hex(hex, sizeof(hex), sum, 32);
	snprintf(text, sizeof(text), "AWS4-HMAC-SHA256\n%s\n%s\n%s", time, scope, hex);
	hmac(sum, key, 32, text);
	sodium_bin2hex(signature, 65, sum, 32);
}

static bool canonical_request(struct text *text, const struct request *request, const char *names,
			      const char *hash)
{
	const char *query = strchr(request->raw, '?');
	size_t length = query ? (size_t)(query - request->raw) : strlen(request->raw);
	char path[2100];

	if (!url_decode(request->raw, length, path, sizeof(path)))
		return false;
	add(text, request->method, strlen(request->method));
	add(text, "\n", 1);
	add_encoded(text, path, true);
	add(text, "\n", 1);
	if (!add_query(text, query ? query + 1 : NULL))
		return false;
	add(text, "\n", 1);
	if (!add_headers(text, request, names))
		return false;
	add(text, "\n", 1);
	add(text, names, strlen(names));
	add(text, "\n", 1);
	add(text, hash, strlen(hash));
	return true;
}

static bool time_is_near(const char *said)
{
	struct tm parts = {0};
	const char *end = strptime(said, "%Y%m%dT%H%M%SZ", &parts);
	struct timespec now;
	time_t difference;

	if (!end || *end)
		return false;
	clock_gettime(CLOCK_REALTIME, &now);
	difference = timegm(&parts) - now.tv_sec;
	return difference < SKEW_SECONDS && difference > -SKEW_SECONDS;
}

const char *signature_check(const struct request *request, unsigned *status)
{
	const char *given = header_of(request, "authorization"),
		   *time = header_of(request, "x-amz-date"),
		   *hash = header_of(request, "x-amz-content-sha256");
	char id[128], scope[256], names[1024], signature[80], wanted[65], date[16];
	char region[64], named[64];
	struct text canonical = {0};
	bool good;

	*status = 403;
	if (!given || !time || !hash)
		return "AccessDenied";
	if (sscanf(given,
		   "AWS4-HMAC-SHA256 Credential=%127[^/]/%255[^,], SignedHeaders=%1023[^,], "
		   "Signature=%79[0-9a-f]",
		   id, scope, names, signature) != 4)
		return *status = 400, "AuthorizationHeaderMalformed";
	region_wanted(region, sizeof(region));
	if (*region && sscanf(scope, "%*[^/]/%63[^/]", named) == 1 && strcmp(region, named))
		return *status = 400, "AuthorizationHeaderMalformed";
	if (strcmp(id, KEY_ID))
		return "InvalidAccessKeyId";
	if (!time_is_near(time))
		return "RequestTimeTooSkewed";
	snprintf(date, sizeof(date), "%.8s", time);
	good = !strncmp(scope, date, 8) && signs_enough(request, names) &&
	       canonical_request(&canonical, request, names, hash);
	if (good) {
		sign(date, scope, time, canonical.s, wanted);
		good = !strcmp(wanted, signature);
	}
	free(canonical.s);
	if (!good)
		return "SignatureDoesNotMatch";
	if (!token_is_good(header_of(request, "x-amz-security-token")))
		return *status = 400, "ExpiredToken";
	if (strcmp(hash, "UNSIGNED-PAYLOAD") && strcmp(hash, request->sha256))
		return *status = 400, "XAmzContentSHA256Mismatch";
	return NULL;
}
