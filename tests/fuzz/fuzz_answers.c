/* SPDX-License-Identifier: MIT */
/*
 * fuzz_answers.c - fuzz target: texts that the client of an object store reads. The first byte of an input says which: a list or an error
 * of the server, in XML; a file of profiles; credentials in JSON; a place, and its endpoint.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "../../vm/store/credentials.h"
#include "../../vm/store/s3_private.h"
#include "fuzz.h"

#define MAX_BYTES (16u << 10)

enum { LIST, ERROR, PROFILE, JSON, PLACE, KINDS };

static void read_list(const char *text, size_t bytes)
{
	struct listed listed = {0};
	bool no_memory;

	if (xml_list(text, bytes, &listed, &no_memory))
		for (size_t i = 0; i < listed.count; i++)
			if (!listed.objects[i].key || !*listed.objects[i].key)
				fuzz_fail("an object without a name");
	if (listed.token && !*listed.token)
		fuzz_fail("a place to go on that is none");
	listed_free(&listed);
}

static void read_error(const char *text, size_t bytes)
{
	struct error_body error;

	xml_error(text, bytes, &error);
	if (!memchr(error.code, 0, sizeof(error.code)) ||
	    !memchr(error.message, 0, sizeof(error.message)) ||
	    !memchr(error.region, 0, sizeof(error.region)))
		fuzz_fail("a text without an end");
}

static void read_profile(const uint8_t *text, size_t bytes)
{
	const char *path = fuzz_path("profile");
	struct profile profile;
	struct thaw_error error;

	fuzz_write_file(path, text, bytes);
	setenv("AWS_SHARED_CREDENTIALS_FILE", path, 1);
	setenv("AWS_CONFIG_FILE", path, 1);
	setenv("AWS_PROFILE", bytes % 2 ? "default" : "other", 1);
	if (!profile_read(&profile, &error)) {
		if (profile.id && !profile.file)
			fuzz_fail("an id of nowhere");
		profile_free(&profile);
	} else if (error.code != -EINVAL) {
		fuzz_fail("%s", error.text);
	}
}

static void read_json(const char *text, size_t bytes)
{
	struct credentials credentials = {0};

	if (credentials_parse(&credentials, text, bytes) &&
	    (!credentials.id || !credentials.secret))
		fuzz_fail("half of credentials");
	credentials_free(&credentials);
}

static void read_place(char *text)
{
	struct store_config config = {0};
	struct thaw_error error;
	struct s3_url place;
	char *end = strchr(text, '\n');

	if (end) {
		*end = '\0';
		config.endpoint = end + 1;
	}
	if (s3_url_read(&place, text, &config, &error)) {
		if (error.code != -EINVAL)
			fuzz_fail("%s", error.text);
		return;
	}
	if (strncasecmp(place.base, "http", 4) || strpbrk(place.base, " ?#@\r\n%") ||
	    strstr(place.base, "/../") || !strstr(place.name, " at http"))
		fuzz_fail("'%s' is not a URL", place.base);
	s3_url_free(&place);
}

static void one(const uint8_t *bytes, size_t size)
{
	char *text;

	if (!size)
		return;
	if (libcurl_load(NULL))
		fuzz_fail("libcurl and expat are not installed");
	text = malloc(size);
	memcpy(text, bytes + 1, size - 1);
	text[size - 1] = '\0';
	switch (bytes[0] % KINDS) {
	case LIST:
		read_list(text, size - 1);
		break;
	case ERROR:
		read_error(text, size - 1);
		break;
	case PROFILE:
		read_profile(bytes + 1, size - 1);
		break;
	case JSON:
		read_json(text, size - 1);
		break;
	case PLACE:
		read_place(text);
	}
	free(text);
}

/* ---- Inputs */

static const char *const seeds[] = {
	"\0<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name>"
	"<IsTruncated>true</IsTruncated><Contents><Key>a%2Fb</Key><LastModified>2026-11-30T12:00:00.123Z</LastModified>"
	"<ETag>&quot;1&quot;</ETag><Size>12</Size></Contents><CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes>"
	"<NextContinuationToken>abc==</NextContinuationToken></ListBucketResult>",
	"\1<?xml version=\"1.0\"?><Error><Code>AuthorizationHeaderMalformed</Code><Message>no</Message>"
	"<Region>eu-west-1</Region><ActualObjectSize>7</ActualObjectSize></Error>",
	"\2[default]\naws_access_key_id = a\naws_secret_access_key=b\n[profile other]\nregion=x\ns3 =\n  "
	"addressing_style = path\nservices = mine\n[services mine]\ns3 =\n  endpoint_url = http://x\n",
	"\3{\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"b\",\"Token\":\"c\",\"Expiration\":\"2030-01-02T03:04:05Z\"}",
	"\4s3://bucket/a/prefix\nhttps://[::1]:9000/base/path",
	"\4s3://bucket/a.b\nhttp://s3.eu-west-1.amazonaws.com",
};

static size_t seed(unsigned number, uint8_t *bytes)
{
	size_t length;

	if (number >= sizeof(seeds) / sizeof(seeds[0]))
		return 0;
	length = 1 + strlen(seeds[number] + 1);
	memcpy(bytes, seeds[number], length);
	return length;
}

static const char *const words[] = {
	"<",
	">",
	"</",
	"<Key>",
	"</Key>",
	"<Contents>",
	"</Contents>",
	"&amp;",
	"&#0;",
	"&#55296;",
	"<!DOCTYPE a [<!ENTITY e \"eeee\">]>",
	"&e;",
	"%00",
	"%2F",
	"%",
	"[",
	"]",
	"\n",
	" = ",
	"[other]",
	"\n  ",
	"\"",
	"{",
	"\\u0000",
	"99999999999999999999999999",
	"../",
	"//",
	"@",
	"s3://",
	"http://",
	"<![CDATA[",
	"]]>",
	"<a:b>",
	"\xff",
	"?",
	"#",
	"s3 =\n",
	"\t",
};

static size_t insert(uint8_t *bytes, size_t size, size_t max, size_t at, const void *what,
		     size_t length)
{
	if (size + length > max)
		return size;
	memmove(bytes + at + length, bytes + at, size - at);
	memcpy(bytes + at, what, length);
	return size + length;
}

static size_t mutate(uint8_t *bytes, size_t size, size_t max, uint64_t random)
{
	unsigned changes = 1 + (unsigned)fuzz_below(&random, 4);

	while (changes-- && size > 1) {
		size_t at = 1 + fuzz_below(&random, size - 1), length;
		const char *word = words[fuzz_below(&random, sizeof(words) / sizeof(words[0]))];
		uint8_t part[512];

		length = 1 + fuzz_below(&random, size - at < 64 ? size - at : 64);
		switch (fuzz_below(&random, 5)) {
		case 0:
			bytes[at] = (uint8_t)fuzz_next(&random);
			break;
		case 1:
			size = insert(bytes, size, max, at, word, strlen(word));
			break;
		case 2: /* taken out */
			memmove(bytes + at, bytes + at + length, size - at - length);
			size -= length;
			break;
		case 3: /* twice */
			memcpy(part, bytes + at, length);
			size = insert(bytes, size, max, at, part, length);
			break;
		default: /* cut off */
			size = fuzz_below(&random, 8) ? size : at;
		}
	}
	return size;
}

const struct fuzz_target fuzz_answers = {
	.name = "answers",
	.max_bytes = MAX_BYTES,
	.one = one,
	.mutate = mutate,
	.seed = seed,
};
