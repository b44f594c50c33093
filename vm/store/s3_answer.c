/* SPDX-License-Identifier: MIT */
/*
 * s3_answer.c - what an answer means: the end of a request, or another try. Of an answer, nothing is believed that is not
 * checked: a body that ends early, is of another place or of another object than its first part is never taken for whole. What may
 * have been stored although no answer came is asked for (asks_whose), or told (unsure).
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/failure.h"
#include "base/format.h"
#include "store/s3_private.h"

#define REGIONS_MOST 3u /* that one request is sent to */
#define RENEW_NS 1000000000ull

/* ---- Words */

static void say(struct s3_try *try, struct thaw_error *error, int code, const char *format,
		va_list arguments)
{
	const struct s3 *s3 = try->s3;
	const struct s3_url *place = &s3->place;
	const char *at = strstr(place->name, " at ");
	char why[sizeof(error->text)];

	vsnprintf(why, sizeof(why), format, arguments);
	failure(error, code, "s3://%s/%s%s%s%s: %s", place->bucket, place->prefix,
		*place->prefix ? "/" : "", try->request->key ? try->request->key : "", at, why);
}

static void fail(struct s3_try *try, int code, const char *format, va_list arguments)
{
	struct s3_request *request = try->request;

	say(try, &request->error, code, format, arguments);
	request->code = code;
	request->unsure = request->verb == S3_PUT && try->maybe_stored;
}

void try_fail(struct s3_try *try, int code, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fail(try, code, format, arguments);
	va_end(arguments);
}

__attribute__((format(printf, 3, 4))) static enum verdict ends(struct s3_try *try, int code,
							       const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fail(try, code, format, arguments);
	va_end(arguments);
	return VERDICT_ENDS;
}

static enum verdict ends_well(struct s3_try *try)
{
	try->request->code = 0;
	try->request->error = (struct thaw_error){0};
	try->request->unsure = false;
	return VERDICT_ENDS;
}

__attribute__((format(printf, 3, 4))) static enum verdict later(struct s3_try *try, int code,
								const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say(try, &try->reason, code, format, arguments);
	va_end(arguments);
	return VERDICT_LATER;
}

static enum verdict without_memory(struct s3_try *try)
{
	return ends(try, -ENOMEM, "out of memory");
}

/* ---- Nothing whole came */

void try_stalled(struct s3_try *try)
{
	try->maybe_stored |= try->sends;
	later(try, -ETIMEDOUT, "no byte came or went for %s",
	      format_duration(try->s3->settings.stall_ns).s);
}

/* What does not get better by itself, most likely. */
__attribute__((format(printf, 3, 4))) static enum verdict odd(struct s3_try *try, int code,
							      const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say(try, &try->reason, code, format, arguments);
	va_end(arguments);
	if (++try->odd < PATIENCE_ODD)
		return VERDICT_LATER;
	return ends(try, code, "%s", strstr(try->reason.text, ": ") + 2);
}

static enum verdict begins_anew(struct s3_try *try)
{
	try->got = 0;
	try->etag[0] = '\0';
	return later(try, -EIO, "it was replaced while it was read");
}

static enum verdict cut(struct s3_try *try, CURLcode result)
{
	const char *detail = try->detail[0] ? try->detail : curl.easy_strerror(result);
	const char *at = strstr(try->s3->place.name, " at ") + 4;

	switch (result) {
	case CURLE_OUT_OF_MEMORY:
		return without_memory(try);
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_CONNECT:
		return later(try, -ETIMEDOUT,
			     "%s; check the network, and AWS_ENDPOINT_URL if it is not there",
			     detail);
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CRL_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
		return ends(
			try, -EPROTO,
			"the certificate of %s is not trusted (%s); AWS_CA_BUNDLE names a file of "
			"those that are",
			at, detail);
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_WEIRD_SERVER_REPLY:
		return odd(try, -EPROTO, "what answers there does not speak HTTP (%s)", detail);
	case CURLE_SSL_CONNECT_ERROR:
		return later(try, -EPROTO, "there is no TLS connection (%s)", detail);
	case CURLE_OPERATION_TIMEDOUT:
	case CURLE_PARTIAL_FILE:
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_FAIL_REWIND:
		return later(try, -ETIMEDOUT, "the connection ended early (%s)", detail);
	default:
		return odd(try, -EIO, "%s", detail);
	}
}

static enum verdict judge_cut(struct s3_try *try, CURLcode result)
{
	const struct answer *answer = &try->answer;

	try->maybe_stored |= try->sends;
	if (try->got && !try->etag[0]) /* nothing tells whether what comes next is of the same */
		try->got = 0;
	if (answer->changed)
		return begins_anew(try);
	if (answer->misplaced)
		return odd(try, -EPROTO, "the server sent another part than the one asked for");
	if (answer->too_much)
		return ends(try, -EPROTO, "the server's answer has no end");
	return cut(try, result);
}

/* ---- It is refused */

bool credentials_renew(struct s3 *s3, uint64_t pause_ns)
{
	uint64_t now = clock_monotonic_ns();
	struct credentials found;

	if (now - s3->credentials_ns < pause_ns)
		return false;
	s3->credentials_ns = now;
	if (credentials_read(&found, NULL))
		return false;
	if (!strcmp(found.id, s3->credentials.id) &&
	    !strcmp(found.secret, s3->credentials.secret) &&
	    !strcmp(found.token ? found.token : "",
		    s3->credentials.token ? s3->credentials.token : "")) {
		credentials_free(&found);
		return false;
	}
	credentials_free(&s3->credentials);
	s3->credentials = found;
	s3->credentials_number++;
	return true;
}

static bool is_one_of(const char *code, const char *const *codes)
{
	for (; *codes; codes++)
		if (!strcmp(code, *codes))
			return true;
	return false;
}

static enum verdict refused(struct s3_try *try, const struct error_body *body)
{
	static const char *const expired[] = {"ExpiredToken", "ExpiredTokenException",
					      "TokenRefreshRequired", NULL};
	static const char *const wrong[] = {"SignatureDoesNotMatch", "InvalidAccessKeyId",
					    "InvalidToken", "InvalidClientTokenId", NULL};
	struct s3 *s3 = try->s3;
	bool others = try->credentials != s3->credentials_number || credentials_renew(s3, RENEW_NS);

	if (others && !try->renewed) {
		try->renewed = true;
		return VERDICT_ON;
	}
	if (is_one_of(body->code, expired))
		return later(try, -EACCES, "the credentials (%s) have expired; renew them",
			     s3->credentials.from);
	if (!strcmp(body->code, "RequestTimeTooSkewed"))
		return ends(try, -EACCES, "this machine's clock is wrong, says the server (%s)",
			    body->message);
	if (is_one_of(body->code, wrong))
		return ends(try, -EACCES, "%s: %s; check the credentials (%s)", body->code,
			    body->message, s3->credentials.from);
	return ends(try, -EACCES,
		    "the server refuses it (%ld%s%s%s%s); check the bucket's name, and what these "
		    "credentials (%s) may do",
		    try->answer.status, *body->code ? " " : "", body->code,
		    *body->message ? ": " : "", body->message, s3->credentials.from);
}

static enum verdict not_there(struct s3_try *try, const struct error_body *body)
{
	struct s3_request *request = try->request;

	if (!strcmp(body->code, "NoSuchBucket") || request->verb == S3_LIST)
		return ends(try, -ENODEV, "there is no bucket %s (%ld%s%s)", try->s3->place.bucket,
			    try->answer.status, *body->code ? " " : "", body->code);
	if (try->asks_whose) { /* it has been deleted since */
		try->asks_whose = try->asks_why = false;
		return later(try, -EIO, "it was there, and is not any more");
	}
	if (request->verb == S3_DELETE)
		return ends_well(try);
	return ends(try, -ENOENT, "there is no such object");
}

static enum verdict another_region(struct s3_try *try, const struct error_body *body)
{
	const char *region = try->answer.region[0] ? try->answer.region : body->region;
	struct s3 *s3 = try->s3;

	if (try->redirected++ < REGIONS_MOST) {
		if (try->region != s3->region_number) /* by another request */
			return VERDICT_ON;
		if (*region && s3_url_move(&s3->place, region)) {
			s3->region_number++;
			return VERDICT_ON;
		}
	}
	if (try->answer.status == 307)
		return later(try, -EIO, "the server redirects it (%s %s)", body->code,
			     body->message);
	return ends(
		try, -EPROTO,
		"the server says that the bucket is elsewhere (%ld %s %s%s); check AWS_REGION and "
		"AWS_ENDPOINT_URL",
		try->answer.status, body->code, body->message, region);
}

static enum verdict too_short(struct s3_try *try, uint64_t total)
{
	struct s3_request *request = try->request;

	request->object_bytes = total == UINT64_MAX ? 0 : total;
	if (total == UINT64_MAX)
		return ends(try, -ERANGE, "the object ends before byte %llu",
			    (unsigned long long)(request->offset + request->length));
	return ends(try, -ERANGE, "the object has %llu bytes, not %llu or more",
		    (unsigned long long)total,
		    (unsigned long long)(request->offset + request->length));
}

/* 416. Of an empty object, nothing can be asked for. */
static enum verdict beyond(struct s3_try *try, const struct error_body *body)
{
	struct s3_request *request = try->request;
	uint64_t total = try->answer.total;

	if (total == UINT64_MAX)
		total = body->object_bytes;
	if (try->got) /* it was longer, when its first part came */
		return begins_anew(try);
	if (!(request->flags & S3_LAST) && (request->offset || !(request->flags & S3_AT_MOST)))
		return too_short(try, total);
	request->offset = request->got = 0;
	request->object_bytes = 0;
	return ends_well(try);
}

/* 412, and 304, which some say instead. */
static enum verdict condition_failed(struct s3_try *try)
{
	struct s3_request *request = try->request;

	if (request->verb == S3_PUT && request->flags & S3_NEW) {
		try->asks_whose = true;
		try->number = 0;
		return VERDICT_ON;
	}
	if (request->verb != S3_GET)
		return ends(try, -EIO, "the server speaks of a condition (%ld) where there is none",
			    try->answer.status);
	if (!request->if_match)
		return begins_anew(try);
	return ends(try, -ESTALE, "it was replaced: it is not %s any more", request->if_match);
}

static enum verdict failed(struct s3_try *try, const struct error_body *body)
{
	static const char *const again[] = {
		"RequestTimeout", "IncompleteBody",   "XAmzContentSHA256Mismatch",
		"BadDigest",	  "OperationAborted", "ConditionalRequestConflict",
		"SlowDown",	  "InternalError",    NULL};
	long status = try->answer.status;

	if (status == 501 || status == 405 || !strcmp(body->code, "NotImplemented"))
		return ends(try, -ENOTSUP, "the store cannot do this (%ld %s %s)", status,
			    body->code, body->message);
	if (status >= 500 || status == 429 || status == 408 || is_one_of(body->code, again))
		return later(try, -EIO, "the server answers %ld%s%s%s%s", status,
			     *body->code ? " " : "", body->code, *body->message ? ": " : "",
			     body->message);
	return ends(try, status < 400 ? -EPROTO : -EIO, "the server answers %ld%s%s%s%s", status,
		    *body->code ? " " : "", body->code, *body->message ? ": " : "", body->message);
}

/* HEAD has no text that says why. */
static bool asks_why(struct s3_try *try)
{
	long status = try->answer.status;

	if (try->asks_why || (try->request->verb != S3_HEAD && !try->asks_whose) ||
	    (status != 400 && status != 403))
		return false;
	try->asks_why = true;
	return true;
}

static enum verdict judge_error(struct s3_try *try)
{
	static const char *const who[] = {"ExpiredToken", "InvalidToken", "RequestTimeTooSkewed",
					  "TokenRefreshRequired", NULL};
	long status = try->answer.status;
	struct error_body body;

	/* What says 5xx may have stored it all the same. */
	try->maybe_stored |= try->sends && status >= 500;
	if (asks_why(try))
		return VERDICT_ON;
	xml_error(try->answer.body.s ? try->answer.body.s : "", try->answer.body.bytes, &body);
	if (status == 301 || status == 307 || !strcmp(body.code, "AuthorizationHeaderMalformed"))
		return another_region(try, &body);
	if (status == 401 || status == 403 || is_one_of(body.code, who))
		return refused(try, &body);
	if (status == 404)
		return not_there(try, &body);
	if (status == 412 || status == 304)
		return condition_failed(try);
	if (status == 416 && try->request->verb == S3_GET)
		return beyond(try, &body);
	return failed(try, &body);
}

/* ---- It is there */

/* "name: value\n" ... -> name 0 value 0 ... 0 */
static bool keep_pairs(struct s3_try *try)
{
	struct text_buffer *from = &try->answer.pairs;
	char *to, *name;

	free(try->request->private.pairs);
	try->request->private.pairs = NULL;
	if (!from->s)
		return !from->failed;
	to = name = malloc(from->bytes + 2);
	if (!to || from->failed) {
		free(to);
		return false;
	}
	for (char *line = from->s, *end; (end = strchr(line, '\n')); line = end + 1) {
		char *colon = memchr(line, ':', (size_t)(end - line));

		if (!colon)
			continue;
		for (; line < colon; line++)
			*to++ = (char)tolower((unsigned char)*line);
		*to++ = '\0';
		for (line = colon + 1; line < end && *line == ' '; line++)
			;
		memcpy(to, line, (size_t)(end - line));
		to += end - line;
		*to++ = '\0';
	}
	*to = '\0';
	try->request->private.pairs = name;
	return true;
}

static bool keep_facts(struct s3_try *try)
{
	struct s3_request *request = try->request;
	curl_off_t time = -1;

	curl.easy_getinfo(try->easy, CURLINFO_FILETIME_T, &time);
	request->time_ns = time > 0 ? (uint64_t)time * 1000000000u : 0;
	snprintf(request->etag, sizeof(request->etag), "%s", try->answer.etag);
	return keep_pairs(try);
}

static enum verdict judge_get(struct s3_try *try)
{
	struct s3_request *request = try->request;
	const struct answer *answer = &try->answer;
	uint64_t total = answer->status == 206	       ? answer->total
			 : answer->bytes != UINT64_MAX ? answer->bytes
						       : answer->passed;
	uint64_t there;

	if (try->asks_why) { /* now it is answered */
		try->asks_why = false;
		return later(try, -EIO, "the server refused it a moment ago");
	}
	if (answer->status == 206 && (!answer->has_range || total == UINT64_MAX))
		return odd(try, -EPROTO, "the server does not say which part it sends");
	if (request->flags & S3_LAST && !try->got)
		request->offset = total < request->length ? 0 : total - request->length;
	there = total > request->offset ? total - request->offset : 0;
	if (there > request->length)
		there = request->length;
	if (try->got < there)
		return later(try, -ETIMEDOUT, "the connection ended early (%zu of %llu bytes)",
			     try->got, (unsigned long long)there);
	if (there < request->length && !(request->flags & (S3_LAST | S3_AT_MOST)))
		return too_short(try, total);
	if (!there && request->offset)
		return too_short(try, total);
	request->got = try->got;
	request->object_bytes = total;
	return keep_facts(try) ? ends_well(try) : without_memory(try);
}

static enum verdict judge_whose(struct s3_try *try)
{
	struct s3_request *request = try->request;
	const char *nonce;

	try->asks_why = false;
	if (!keep_facts(try))
		return without_memory(try);
	nonce = s3_pair(request, NONCE_NAME);
	if (nonce && !strcmp(nonce, try->nonce))
		return ends_well(try);
	try->maybe_stored = false; /* only one of that name can be */
	return ends(try, -EEXIST, "there is one, of somebody else");
}

/* Names become those below the store's prefix. */
static bool strip(struct s3_try *try, size_t from)
{
	const char *prefix = try->s3->place.prefix, *wanted = try->request->key;
	size_t length = strlen(prefix);

	for (size_t i = from; i < try->listed.count; i++) {
		char *key = try->listed.objects[i].key;
		char *below = length ? key + length + 1 : key;

		if (length && (strncmp(key, prefix, length) || key[length] != '/'))
			return false;
		if (strncmp(below, wanted, strlen(wanted)))
			return false;
		memmove(key, below, strlen(below) + 1);
	}
	return true;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct s3_object *)a)->key, ((const struct s3_object *)b)->key);
}

static enum verdict judge_list(struct s3_try *try)
{
	struct s3_request *request = try->request;
	struct listed *listed = &try->listed;
	size_t before = listed->count;
	bool no_memory, good;

	good = xml_list(try->answer.body.s ? try->answer.body.s : "", try->answer.body.bytes,
			listed, &no_memory);
	if (no_memory || try->answer.body.failed)
		return without_memory(try);
	if (!good || !strip(try, before))
		return ends(try, -EPROTO, "what the server answers is not a list of this place");
	while (request->at_most && listed->count > request->at_most) {
		free(listed->objects[--listed->count].key);
		request->more = true;
	}
	if (listed->token && (!request->at_most || listed->count < request->at_most)) {
		if (listed->count == before)
			return odd(try, -EPROTO, "the server's list does not come to an end");
		try->number = 0;
		return VERDICT_ON;
	}
	request->more |= listed->token != NULL;
	/* Folders come behind the objects of their part. */
	if (request->folders && listed->count)
		qsort(listed->objects, listed->count, sizeof(*listed->objects), by_name);
	request->objects = listed->objects;
	request->object_count = listed->count;
	listed->objects = NULL;
	listed->count = 0;
	return ends_well(try);
}

static enum verdict judge_success(struct s3_try *try)
{
	struct s3_request *request = try->request;

	if (request->verb == S3_GET || try->asks_why)
		return judge_get(try);
	if (try->asks_whose)
		return judge_whose(try);
	if (request->verb == S3_LIST)
		return judge_list(try);
	if (request->verb == S3_HEAD && !try->warms) {
		if (try->answer.bytes == UINT64_MAX)
			return odd(try, -EPROTO, "the server does not say how long it is");
		request->object_bytes = try->answer.bytes;
	}
	if (request->verb != S3_DELETE && !keep_facts(try))
		return without_memory(try);
	return ends_well(try);
}

enum verdict try_judge(struct s3_try *try, CURLcode result)
{
	long status = try->answer.status;

	if (try->warms)
		return ends_well(try);
	if (result || !try->answer.headed)
		return judge_cut(try, result ? result : CURLE_PARTIAL_FILE);
	if (status == 200 || status == 206 || status == 204 || status == 201)
		return judge_success(try);
	if (try->got && !try->etag[0])
		try->got = 0;
	return judge_error(try);
}
