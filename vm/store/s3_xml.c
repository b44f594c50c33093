/* SPDX-License-Identifier: MIT */
/*
 * s3_xml.c - reads the XML of errors and lists, with expat. It is a stranger's: a document type, and so entities, end it; texts are
 * cut at their room, and nothing else of it is kept. Names of keys come percent-encoded (encoding-type=url), since XML cannot
 * hold each of them.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/array.h"
#include "base/format.h"
#include "store/expat.h"
#include "store/s3_private.h"

#define TEXT_MOST 4096u /* a key of 1024 bytes, each of them percent-encoded, or a token */
#define DEPTH_MOST 16u

struct parse {
	XML_Parser parser;
	unsigned depth;
	bool bad, no_memory;
	char text[TEXT_MOST]; /* of the element that has begun last */
	size_t bytes;
	struct error_body *error;
	struct listed *listed;
	struct s3_object object; /* in Contents or CommonPrefixes, at depth 2 */
	bool truncated, is_list;
};

/* Without a prefix of a namespace. */
static const char *local(const char *name)
{
	const char *colon = strrchr(name, ':');

	return colon ? colon + 1 : name;
}

static void XMLCALL begin(void *arg, const XML_Char *name, const XML_Char **attributes)
{
	struct parse *parse = arg;

	(void)attributes;
	if (!parse->depth && parse->listed) {
		parse->is_list = !strcmp(local(name), "ListBucketResult");
		parse->bad = !parse->is_list;
	}
	parse->bytes = 0;
	if (++parse->depth > DEPTH_MOST)
		parse->bad = true;
	if (parse->bad)
		expat.StopParser(parse->parser, XML_FALSE);
}

static void XMLCALL characters(void *arg, const XML_Char *text, int bytes)
{
	struct parse *parse = arg;
	size_t room = TEXT_MOST - 1 - parse->bytes;

	if ((size_t)bytes > room && parse->listed) { /* a name that is cut is another's */
		parse->bad = true;
		expat.StopParser(parse->parser, XML_FALSE);
		return;
	}
	if ((size_t)bytes > room)
		bytes = (int)room;
	memcpy(parse->text + parse->bytes, text, (size_t)bytes);
	parse->bytes += (size_t)bytes;
}

static void XMLCALL refuse_document_type(void *arg, const XML_Char *name, const XML_Char *system,
					 const XML_Char *public, int internal)
{
	struct parse *parse = arg;

	(void)name, (void)system, (void)public, (void)internal;
	parse->bad = true;
	expat.StopParser(parse->parser, XML_FALSE);
}

/* ---- Values */

uint64_t store_time(const char *text)
{
	struct tm time = {0};
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &time);
	time_t seconds = end ? timegm(&time) : 0;
	uint64_t part = 0;
	unsigned digits = 0;

	if (seconds <= 0)
		return 0;
	if (*end == '.')
		for (end++; *end >= '0' && *end <= '9' && digits < 9; end++, digits++)
			part = part * 10 + (uint64_t)(*end - '0');
	for (; digits && digits < 9; digits++)
		part *= 10;
	return (uint64_t)seconds * 1000000000u + part;
}

static int hex(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* In place. False: with a zero byte in it, or a half of what is encoded. */
static bool decode(char *text)
{
	char *to = text;

	for (const char *at = text; *at; at++) {
		if (*at == '+') {
			*to++ = ' ';
		} else if (*at == '%') {
			int high = hex(at[1]), low = high < 0 ? -1 : hex(at[2]);

			if (low < 0 || !(high | low))
				return false;
			*to++ = (char)(high * 16 + low);
			at += 2;
		} else {
			*to++ = *at;
		}
	}
	*to = '\0';
	return true;
}

/* ---- Elements */

static void keep(char *to, size_t room, const char *text)
{
	size_t bytes = strnlen(text, room - 1);

	memcpy(to, text, bytes);
	to[bytes] = '\0';
}

static void error_element(struct parse *parse, const char *name)
{
	struct error_body *error = parse->error;

	if (!strcmp(name, "Code"))
		keep(error->code, sizeof(error->code), parse->text);
	else if (!strcmp(name, "Message"))
		keep(error->message, sizeof(error->message), parse->text);
	else if (!strcmp(name, "Region"))
		keep(error->region, sizeof(error->region), parse->text);
	else if (!strcmp(name, "ActualObjectSize"))
		parse_number(parse->text, &error->object_bytes);
}

static bool key_element(struct parse *parse)
{
	if (!decode(parse->text) || !*parse->text || parse->object.key)
		return false;
	parse->object.key = strdup(parse->text);
	parse->no_memory = !parse->object.key;
	return !parse->no_memory;
}

static bool object_ends(struct parse *parse)
{
	struct listed *listed = parse->listed;
	struct s3_object *grown;

	if (!parse->object.key)
		return false;
	grown = array_grow(listed->objects, listed->count, &listed->room, sizeof(*grown));
	parse->no_memory = !grown;
	if (!grown)
		return false;
	listed->objects = grown;
	listed->objects[listed->count++] = parse->object;
	parse->object = (struct s3_object){0};
	return true;
}

static bool list_element(struct parse *parse, const char *name)
{
	bool in_object = parse->depth == 2;

	if (in_object && (!strcmp(name, "Key") || !strcmp(name, "Prefix")))
		return key_element(parse);
	if (in_object && !strcmp(name, "Size"))
		return parse_number(parse->text, &parse->object.bytes);
	if (in_object && !strcmp(name, "LastModified"))
		parse->object.time_ns = store_time(parse->text);
	if (parse->depth != 1)
		return true;
	if (!strcmp(name, "Contents") || !strcmp(name, "CommonPrefixes"))
		return object_ends(parse);
	if (!strcmp(name, "IsTruncated"))
		parse->truncated = !strcmp(parse->text, "true");
	if (!strcmp(name, "NextContinuationToken") && *parse->text) {
		free(parse->listed->token);
		parse->listed->token = strdup(parse->text);
		parse->no_memory = !parse->listed->token;
	}
	return !parse->no_memory;
}

static void XMLCALL end(void *arg, const XML_Char *name)
{
	struct parse *parse = arg;

	parse->text[parse->bytes] = '\0';
	parse->depth--;
	if (parse->error)
		error_element(parse, local(name));
	else if (!list_element(parse, local(name)))
		parse->bad = true;
	parse->bytes = 0;
	if (parse->bad)
		expat.StopParser(parse->parser, XML_FALSE);
}

static bool parse_all(struct parse *parse, const char *text, size_t bytes)
{
	bool good;

	parse->parser = expat.ParserCreate(NULL);
	if (!parse->parser) {
		parse->no_memory = true;
		return false;
	}
	expat.SetUserData(parse->parser, parse);
	expat.SetElementHandler(parse->parser, begin, end);
	expat.SetCharacterDataHandler(parse->parser, characters);
	expat.SetStartDoctypeDeclHandler(parse->parser, refuse_document_type);
	good = bytes <= BODY_MOST &&
	       expat.Parse(parse->parser, text, (int)bytes, XML_TRUE) == XML_STATUS_OK;
	expat.ParserFree(parse->parser);
	return good && !parse->bad;
}

void xml_error(const char *text, size_t bytes, struct error_body *error)
{
	struct parse parse = {.error = error};

	*error = (struct error_body){.object_bytes = UINT64_MAX};
	parse_all(&parse, text, bytes);
}

bool xml_list(const char *text, size_t bytes, struct listed *listed, bool *no_memory)
{
	struct parse parse = {.listed = listed};
	bool good;

	free(listed->token);
	listed->token = NULL;
	good = parse_all(&parse, text, bytes) && parse.is_list;
	free(parse.object.key);
	*no_memory = parse.no_memory;
	if (parse.truncated && !listed->token) /* with more to come, and no way to ask for it */
		return false;
	if (!parse.truncated) {
		free(listed->token);
		listed->token = NULL;
	}
	return good;
}

void listed_free(struct listed *listed)
{
	for (size_t i = 0; i < listed->count; i++)
		free(listed->objects[i].key);
	free(listed->objects);
	free(listed->token);
	*listed = (struct listed){0};
}
