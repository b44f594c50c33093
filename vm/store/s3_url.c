/* SPDX-License-Identifier: MIT */
/*
 * s3_url.c - where s3://BUCKET/PREFIX is. At AWS the bucket is in the host's name, elsewhere in the path, as servers of one's own
 * have no names for buckets; `addressing_style` says otherwise. Everything in a URL is of a few safe characters, which
 * nobody on the way writes in another form: signatures are of the text itself.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/failure.h"
#include "store/s3_private.h"

static bool is_safe(char c)
{
	return isalnum((unsigned char)c) || c == '-' || c == '_' || c == '.';
}

bool s3_key_is_safe(const char *key, size_t most)
{
	size_t part = 0, length = strlen(key);

	if (length > most)
		return false;
	for (const char *at = key;; at++) {
		if (*at && *at != '/') {
			if (!is_safe(*at))
				return false;
			part++;
			continue;
		}
		if (!part || (part == 1 && at[-1] == '.') ||
		    (part == 2 && at[-1] == '.' && at[-2] == '.'))
			return false;
		if (!*at)
			return true;
		part = 0;
	}
}

static bool bucket_is_safe(const char *bucket)
{
	size_t length = strlen(bucket);

	if (length < 3 || length > 63 || !isalnum((unsigned char)*bucket) || strstr(bucket, ".."))
		return false;
	for (; *bucket; bucket++)
		if (!is_safe(*bucket))
			return false;
	return true;
}

static int refuse(const char *url, const char *why, struct thaw_error *error)
{
	return failure(error, -EINVAL,
		       "'%s' is not a place in an object store (s3://BUCKET/PREFIX): %s", url, why);
}

static int read_url(struct s3_url *place, const char *url, struct thaw_error *error)
{
	const char *bucket, *slash;
	size_t length;

	if (strncmp(url, "s3://", 5))
		return refuse(url, "it begins with s3://", error);
	bucket = url + 5;
	slash = strchrnul(bucket, '/');
	place->bucket = strndup(bucket, (size_t)(slash - bucket));
	place->prefix = strdup(*slash ? slash + 1 : "");
	if (!place->bucket || !place->prefix)
		return failure(error, -ENOMEM, "out of memory");
	length = strlen(place->prefix);
	if (length && place->prefix[length - 1] == '/')
		place->prefix[length - 1] = '\0';
	if (!bucket_is_safe(place->bucket))
		return refuse(url, "a bucket's name has 3 to 63 letters, digits, '-', '_' and '.'",
			      error);
	if (*place->prefix && !s3_key_is_safe(place->prefix, KEY_MOST))
		return refuse(
			url,
			"a prefix has letters, digits, '-', '_', '.' and, not at its beginning "
			"and not twice, '/'; at most 512 bytes",
			error);
	return 0;
}

/* ---- The endpoint */

static bool region_is_safe(const char *region)
{
	size_t length = strlen(region);

	if (!length || length > 63)
		return false;
	for (; *region; region++)
		if (!isalnum((unsigned char)*region) && *region != '-' && *region != '_')
			return false;
	return true;
}

static bool ends_with(const char *text, size_t length, const char *end)
{
	size_t bytes = strlen(end);

	return length >= bytes && !strncasecmp(text + length - bytes, end, bytes);
}

/* What there may be of a password is not said. */
static int refuse_endpoint(const char *endpoint, const char *why, struct thaw_error *error)
{
	const char *at = strrchr(endpoint, '@');

	endpoint = at ? at + 1 : endpoint;
	return failure(error, -EINVAL,
		       "'%.*s' is not an endpoint of an object store (https://HOST[:PORT], in "
		       "AWS_ENDPOINT_URL or ~/.aws/config): %s",
		       (int)strcspn(endpoint, "?#"), endpoint, why);
}

/* Where the host's name begins; its length with the port, and without. NULL: it has none, or there is more than may be. */
static const char *host_of(const char *endpoint, size_t *whole, size_t *name)
{
	const char *host;

	if (strncmp(endpoint, "http://", 7) && strncmp(endpoint, "https://", 8))
		return NULL;
	host = strstr(endpoint, "://") + 3;
	*whole = strcspn(host, "/?#");
	*name = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/?#");
	for (size_t i = 0; i < *whole; i++)
		if ((!is_safe(host[i]) && !strchr("[]:", host[i])) || !strncmp(host + i, "..", 2))
			return NULL;
	if (*host == '.')
		return NULL;
	return *name && *name <= *whole ? host : NULL;
}

static bool in_the_path(const struct s3_url *place, bool theirs, bool secure)
{
	if (place->addressing != ADDRESSING_AUTO)
		return place->addressing == ADDRESSING_PATH;
	/* A certificate is for one part of a name only. */
	return !theirs || (secure && strchr(place->bucket, '.'));
}

static int build(struct s3_url *place, const char *endpoint, struct thaw_error *error)
{
	size_t whole, name, path;
	const char *host = host_of(endpoint, &whole, &name), *below;
	int got;

	if (!host)
		return refuse_endpoint(endpoint, "that is no URL of a server", error);
	below = host + whole;
	path = strlen(below);
	while (path && below[path - 1] == '/')
		path--;
	if (path) {
		char *part = strndup(below + 1, path - 1);
		bool safe = *below == '/' && part && s3_key_is_safe(part, 256);

		free(part);
		if (!safe)
			return refuse_endpoint(endpoint, "its path cannot be", error);
	}
	place->named = *host != '[' && strspn(host, "0123456789.") != name;
	place->clear = !strncmp(endpoint, "http://", 7);
	if (in_the_path(place,
			ends_with(host, name, ".amazonaws.com") ||
				ends_with(host, name, ".amazonaws.com.cn"),
			!place->clear))
		got = asprintf(&place->base, "%.*s%.*s/%s", (int)(host + whole - endpoint),
			       endpoint, (int)path, below, place->bucket);
	else
		got = asprintf(&place->base, "%.*s%s.%.*s%.*s", (int)(host - endpoint), endpoint,
			       place->bucket, (int)whole, host, (int)path, below);
	if (got < 0)
		place->base = NULL;
	got = got < 0 ? -1
		      : asprintf(&place->name, "s3://%s%s%s at %.*s", place->bucket,
				 *place->prefix ? "/" : "", place->prefix,
				 (int)(host + whole - endpoint), endpoint);
	if (got < 0) {
		place->name = NULL;
		return failure(error, -ENOMEM, "out of memory");
	}
	return 0;
}

static int build_aws(struct s3_url *place, struct thaw_error *error)
{
	char endpoint[128];

	snprintf(endpoint, sizeof(endpoint), "https://s3.%s.amazonaws.com%s", place->region,
		 strncmp(place->region, "cn-", 3) ? "" : ".cn");
	return build(place, endpoint, error);
}

int s3_url_read(struct s3_url *place, const char *url, const struct store_config *config,
		struct thaw_error *error)
{
	const char *region = config->region ? config->region : "us-east-1";
	int code;

	*place = (struct s3_url){.addressing = config->addressing, .aws = !config->endpoint};
	code = read_url(place, url, error);
	if (!code && !region_is_safe(region))
		code = failure(error, -EINVAL, "AWS_REGION: '%s' is not the name of a region",
			       region);
	if (!code && !(place->region = strdup(region)))
		code = failure(error, -ENOMEM, "out of memory");
	if (!code)
		code = place->aws ? build_aws(place, error) : build(place, config->endpoint, error);
	if (code)
		s3_url_free(place);
	return code;
}

/*
 * The name and the base are replaced; who reads them is the store's thread. What s3_place() has given out stays what it was.
 */
bool s3_url_move(struct s3_url *place, const char *region)
{
	struct s3_url moved = *place;

	if (!region_is_safe(region) || !strcmp(region, place->region))
		return false;
	moved.region = strdup(region);
	if (moved.region && place->aws) {
		moved.base = NULL;
		if (build_aws(&moved, NULL)) {
			free(moved.base);
			free(moved.region);
			return false;
		}
		free(moved.name);
		moved.name = place->name;
		free(place->base);
	}
	if (!moved.region)
		return false;
	free(place->region);
	*place = moved;
	return true;
}

void s3_url_free(struct s3_url *place)
{
	free(place->bucket);
	free(place->prefix);
	free(place->base);
	free(place->name);
	free(place->region);
	*place = (struct s3_url){0};
}
