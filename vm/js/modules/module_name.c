// SPDX-License-Identifier: MIT
/*
 * module_name.c - paths, file:// URLs, and names of modules (module_name.h).
 *
 * Owns nothing; pure functions on the host's memory.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "module_name.h"

static const char scheme[] = "file://";

size_t module_suffix(const char *specifier)
{
	return specifier[0] == '#' ? strlen(specifier) : strcspn(specifier, "?#");
}

bool module_ends_with(const char *name, const char *ending)
{
	size_t bytes = name[0] == '/' ? strlen(name) : module_suffix(name);
	size_t length = strlen(ending);

	return bytes > length && !strncmp(name + bytes - length, ending, length);
}

static bool is_url(const char *name)
{
	return !strncmp(name, scheme, strlen(scheme));
}

/* Percent-encodes what is neither a letter, a digit nor in `plain`; returns the end. */
static char *encode(char *to, const char *text, const char *plain)
{
	for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
		bool letter = (*at | 32) >= 'a' && (*at | 32) <= 'z';

		if (letter || (*at >= '0' && *at <= '9') || strchr(plain, *at))
			*to++ = (char)*at;
		else
			to += sprintf(to, "%%%02X", *at);
	}
	*to = '\0';
	return to;
}

static char *url_of(const char *path, const char *suffix)
{
	char *url = malloc(strlen(scheme) + 3 * (strlen(path) + strlen(suffix)) + 1);

	if (url)
		encode(encode(stpcpy(url, scheme), path, "-._~!$&'()*+,;=:@/[]|"), suffix,
		       "-._~!$&()*+,;=:@/[]|?#%{}^`\\");
	return url;
}

char *module_name(const char *path, const char *suffix)
{
	return *suffix && path[0] == '/' ? url_of(path, suffix) : strdup(path);
}

char *module_url(const char *name)
{
	return name[0] == '/' ? url_of(name, "") : strdup(name);
}

char *module_path(const char *name)
{
	const char *at = name + strlen(scheme);
	char *path, *to;

	if (!is_url(name))
		return strdup(name);
	if (!strncmp(at, "localhost/", 10))
		at += 9;
	if (*at != '/')
		return NULL;
	path = to = malloc(strlen(at) + 1);
	if (!path)
		return NULL;
	for (; *at && *at != '?' && *at != '#'; at++) {
		if (at[0] == '%' && isxdigit((unsigned char)at[1]) &&
		    isxdigit((unsigned char)at[2])) {
			char hex[3] = {at[1], at[2], 0};

			*to = (char)strtol(hex, NULL, 16);
			if (!*to) {
				free(path);
				return NULL;
			}
			to++;
			at += 2;
		} else {
			*to++ = *at;
		}
	}
	*to = 0;
	return path;
}
