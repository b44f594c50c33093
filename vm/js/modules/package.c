/* SPDX-License-Identifier: MIT */
/*
 * package.c - packages, as node's documentation has them ("Resolution Algorithm Specification"): node_modules upward of
 * the importer, "exports" and "imports" with conditions and patterns, a package's own name.
 *
 * Owns nothing; called by resolve.c on the owner's thread. Must never leave the package by what its package.json says,
 * and never try another file because one is not there.
 *
 * Conditions, in the order in which the package has them: thaw, import, module-sync, default. Otherwise than in node
 * a package that is installed under the name of a module of Node's (events, buffer) is taken, for there is no other;
 * and without "exports" the field "module" comes before "main", since packages must be ES modules here.
 */
#define _GNU_SOURCE
#include "package.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/failure.h"
#include "json_scan.h"
#include "resolve.h"

#define DEPTH_MAX 16

struct package {
	char *directory;
	char *json; /* of its package.json; NULL: there is none */
};

enum found { FOUND, UNDEFINED, BLOCKED, INVALID, FAILED }; /* FAILED: the error is set */

struct request {
	const char *base, *specifier; /* for errors */
	const struct package *package;
	bool imports; /* of "imports", not of "exports" */
	unsigned depth;
	struct thaw_error *error;
};

static char *resolve_from(const char *base, const char *specifier, unsigned depth,
			  struct thaw_error *error);

char *package_directory_of(const char *base)
{
	const char *slash = strrchr(base, '/');
	char *here;

	if (base[0] == '/' && slash)
		return strndup(base, (size_t)(slash - base));
	here = getcwd(NULL, 0);
	if (here && !strcmp(here, "/"))
		here[0] = 0;
	return here;
}

/* ---- Modules of Node's ---- */

/* Is it a module of Node.js ("fs/promises")? */
static bool is_builtin(const char *specifier)
{
	static const char names[] =
		" assert async_hooks buffer child_process cluster console constants crypto dgram"
		" diagnostics_channel dns domain events fs http http2 https inspector module net os"
		" path perf_hooks process punycode querystring readline repl stream string_decoder"
		" sys timers tls trace_events tty url util v8 vm wasi worker_threads zlib ";
	char name[32];

	return snprintf(name, sizeof(name), " %.*s ", (int)strcspn(specifier, "/"), specifier) <
		       (int)sizeof(name) &&
	       strstr(names, name);
}

/* Says so, and what to do; returns NULL. */
static char *refuse_builtin(const char *base, const char *specifier, struct thaw_error *error)
{
	failure(error, -ENOENT,
		"cannot import '%s' from %s: it is a module of Node.js. 'thaw exec node FILE.js' runs the program as it is; what is here instead is in the module 'thaw' and in globals (thaw help run) (ERR_UNKNOWN_BUILTIN_MODULE)",
		specifier, base);
	return NULL;
}

/* ---- package.json ---- */

static void free_package(struct package *package)
{
	free(package->directory);
	free(package->json);
	*package = (struct package){NULL, NULL};
}

/* Takes `directory`, malloc'ed. */
static bool read_package(struct package *package, char *directory, struct thaw_error *error)
{
	char *path = NULL;
	size_t bytes;
	bool good = true;

	*package = (struct package){.directory = directory};
	if (asprintf(&path, "%s/package.json", directory) < 0) {
		free_package(package);
		return false;
	}
	package->json = resolve_is_file(path) ? resolve_read_file(path, &bytes) : NULL;
	if (package->json) {
		const char *object = json_value(package->json);

		good = object && *object == '{' && json_behind(object);
	}
	if (!good) {
		failure(error, -EINVAL,
			"%s is not what a package.json has to be (ERR_INVALID_PACKAGE_CONFIG)",
			path);
		free_package(package);
	}
	free(path);
	return good;
}

/* A member that is there, and not null. */
static const char *member(const struct package *package, const char *name)
{
	const char *value = package->json ? json_member(package->json, name) : NULL;

	return value && *value != 'n' ? value : NULL;
}

/* The package that a file belongs to. False: `error`, or there is none. */
static bool find_scope(const char *base, struct package *package, struct thaw_error *error)
{
	char *at = package_directory_of(base);

	for (char *slash = NULL; at; slash = strrchr(at, '/')) {
		char *copy, *name;

		if (slash)
			*slash = 0;
		name = strrchr(at, '/');
		if (name && !strcmp(name, "/node_modules"))
			break;
		copy = strdup(at);
		if (!copy || !read_package(package, copy, error))
			break;
		if (package->json) {
			free(at);
			return true;
		}
		free_package(package);
		if (!*at)
			break;
	}
	free(at);
	return false;
}

/* ---- Targets ---- */

static bool same(const char *text, size_t length, const char *name)
{
	return length == strlen(name) && !strncasecmp(text, name, length);
}

/* Does a part of the path lead elsewhere? */
static bool leads_away(const char *path)
{
	for (;; path++) {
		size_t length = strcspn(path, "/\\");

		if (same(path, length, ".") || same(path, length, "..") ||
		    same(path, length, "%2e") || same(path, length, "%2e%2e") ||
		    same(path, length, ".%2e") || same(path, length, "%2e.") ||
		    same(path, length, "node_modules"))
			return true;
		path += length;
		if (!*path)
			return false;
	}
}

/* Every '*' becomes `matched`; malloc'ed. */
static char *with_match(const char *text, const char *matched)
{
	size_t bytes = strlen(text) + 1, length = matched ? strlen(matched) : 0;
	char *result, *to;

	for (const char *at = text; matched && (at = strchr(at, '*')); at++)
		bytes += length;
	result = to = malloc(bytes);
	for (const char *at = text; result; at++) {
		if (matched && *at == '*')
			to = mempcpy(to, matched, length);
		else if (!(*to++ = *at))
			break;
	}
	return result;
}

static enum found target_of_string(const struct request *request, const char *text,
				   const char *matched, char **path)
{
	char *whole = with_match(text, matched), *base = NULL;
	enum found found = FAILED;

	*path = NULL;
	if (!whole)
		return FAILED;
	if (strncmp(text, "./", 2)) {
		found = INVALID;
		if (request->imports && strncmp(text, "../", 3) && text[0] != '/') {
			found = FAILED;
			if (asprintf(&base, "%s/package.json", request->package->directory) >= 0)
				*path = resolve_from(base, whole, request->depth + 1,
						     request->error);
			free(base);
		}
	} else if (leads_away(text + 2)) {
		found = INVALID;
	} else if (matched && leads_away(matched)) {
		failure(request->error, -EINVAL,
			"cannot import '%s' from %s: '%s' leads out of the package (ERR_INVALID_MODULE_SPECIFIER)",
			request->specifier, request->base, matched);
	} else if (asprintf(path, "%s/%s", request->package->directory, whole + 2) < 0) {
		*path = NULL;
	}
	free(whole);
	return *path ? FOUND : found;
}

static enum found target_of(const struct request *request, const char *value, const char *matched,
			    int depth, char **path);

/* The first condition that holds, and leads somewhere. */
static enum found target_of_conditions(const struct request *request, const char *value,
				       const char *matched, int depth, char **path)
{
	static const char *const conditions[] = {"thaw", "import", "module-sync", "default"};
	enum found found = UNDEFINED;
	char *key = NULL;

	for (const char *at = json_first(value, &key); at; at = json_next(at, true, &key)) {
		bool holds = false;

		for (unsigned i = 0; i < sizeof(conditions) / sizeof(conditions[0]); i++)
			holds = holds || !strcmp(key, conditions[i]);
		free(key);
		key = NULL;
		if (holds)
			found = target_of(request, at, matched, depth + 1, path);
		if (found != UNDEFINED)
			break;
	}
	return found;
}

/* The first that is well-formed and not null. */
static enum found target_of_list(const struct request *request, const char *value,
				 const char *matched, int depth, char **path)
{
	enum found last = BLOCKED;

	for (const char *at = json_first(value, NULL); at; at = json_next(at, false, NULL)) {
		enum found found = target_of(request, at, matched, depth + 1, path);

		if (found == FOUND || found == FAILED)
			return found;
		if (found != UNDEFINED)
			last = found;
	}
	return last;
}

static enum found target_of(const struct request *request, const char *value, const char *matched,
			    int depth, char **path)
{
	enum found found;
	char *text;

	value = json_value(value);
	if (!value || depth > DEPTH_MAX)
		return INVALID;
	switch (*value) {
	case '"':
		text = json_decoded(value);
		found = text ? target_of_string(request, text, matched, path) : FAILED;
		free(text);
		return found;
	case '{':
		return target_of_conditions(request, value, matched, depth, path);
	case '[':
		return target_of_list(request, value, matched, depth, path);
	case 'n':
		return BLOCKED;
	default:
		return INVALID;
	}
}

/* ---- Keys ---- */

/* What of `key` the '*' of the pattern stands for; malloc'ed; NULL: it does not fit. */
static char *match(const char *pattern, const char *key)
{
	const char *star = strchr(pattern, '*');
	size_t before, behind, length = strlen(key);

	if (!star || strchr(star + 1, '*'))
		return NULL;
	before = (size_t)(star - pattern);
	behind = strlen(star + 1);
	if (length < before + behind + 1 || strncmp(key, pattern, before) ||
	    strcmp(key + length - behind, star + 1))
		return NULL;
	return strndup(key + before, length - before - behind);
}

/* Is `pattern` more specific than `other`? */
static bool precedes(const char *pattern, const char *other)
{
	size_t before = strcspn(pattern, "*"), other_before = strcspn(other, "*");

	return before != other_before ? before > other_before : strlen(pattern) > strlen(other);
}

/* `key` ("./sub", "#internal") in the object. */
static enum found by_key(const struct request *request, const char *object, const char *key,
			 char **path)
{
	const char *best = NULL;
	char *pattern = NULL, *name = NULL, *matched = NULL;
	enum found found = UNDEFINED;
	size_t length = strlen(key);

	if (length && key[length - 1] == '/')
		return UNDEFINED;
	if (!strchr(key, '*') && (best = json_member(object, key)))
		return target_of(request, best, NULL, 0, path);
	for (const char *at = json_first(object, &name); at; at = json_next(at, true, &name)) {
		char *fits = match(name, key);

		if (fits && (!pattern || precedes(name, pattern))) {
			free(pattern);
			free(matched);
			best = at;
			pattern = name;
			matched = fits;
		} else {
			free(fits);
			free(name);
		}
		name = NULL;
	}
	if (best)
		found = target_of(request, best, matched, 0, path);
	free(pattern);
	free(matched);
	return found;
}

static const char *node_name(const struct request *request, enum found found)
{
	return found == INVALID	  ? "ERR_INVALID_PACKAGE_TARGET"
	       : request->imports ? "ERR_PACKAGE_IMPORT_NOT_DEFINED"
				  : "ERR_PACKAGE_PATH_NOT_EXPORTED";
}

/* The path, or why there is none. */
static char *settled(const struct request *request, enum found found, const char *key, char *path)
{
	const char *field = request->imports ? "imports" : "exports";

	if (found == FOUND)
		return path;
	if (found == FAILED)
		return NULL;
	failure(request->error, -ENOENT,
		"cannot import '%s' from %s: \"%s\" in %s/package.json %s '%s'%s (%s)",
		request->specifier, request->base, field, request->package->directory,
		found == INVALID ? "has a target outside of the package, or none, for"
				 : "does not define",
		key,
		found == INVALID   ? ""
		: found == BLOCKED ? ": it is null there"
		: request->imports ? ""
				   : " for ES modules",
		node_name(request, found));
	return NULL;
}

static char *by_exports(const struct request *request, const char *exports, const char *subpath)
{
	bool keys_are_paths = false, main = !strcmp(subpath, ".");
	enum found found = UNDEFINED;
	char *key = NULL, *path = NULL;

	if (*exports == '{' && json_first(exports, &key))
		keys_are_paths = key[0] == '.';
	free(key);
	if (!keys_are_paths && main)
		found = target_of(request, exports, NULL, 0, &path);
	else if (keys_are_paths)
		found = by_key(request, exports, subpath, &path);
	return settled(request, found, subpath, path);
}

/* ---- Packages without "exports" ---- */

static char *legacy_entry(const struct package *package)
{
	static const char *const fields[] = {"module", "main"};
	static const char *const endings[] = {"", ".js", ".mjs", "/index.js"};
	char *path = NULL;

	for (unsigned i = 0; i < 2; i++) {
		char *entry = json_decoded(member(package, fields[i]));

		for (unsigned j = 0; entry && j < 4; j++) {
			if (asprintf(&path, "%s/%s%s", package->directory, entry, endings[j]) < 0)
				path = NULL;
			if (path && resolve_is_file(path)) {
				free(entry);
				return path;
			}
			free(path);
			path = NULL;
		}
		free(entry);
	}
	return asprintf(&path, "%s/index.js", package->directory) < 0 ? NULL : path;
}

/* `subpath`: "." or "./feature". */
static char *in_package(const struct request *request, const char *subpath)
{
	const char *exports = member(request->package, "exports");
	char *path = NULL;

	if (exports)
		return by_exports(request, exports, subpath);
	if (!strcmp(subpath, "."))
		return legacy_entry(request->package);
	return asprintf(&path, "%s/%s", request->package->directory, subpath + 2) < 0 ? NULL : path;
}

/* ---- Names ---- */

/* The length of the package's name; 0: it is none. */
static size_t name_length(const char *specifier)
{
	const char *slash = strchr(specifier, '/');
	size_t length;

	if (specifier[0] == '@') {
		if (!slash || slash == specifier + 1 || !slash[1] || slash[1] == '/')
			return 0;
		slash = strchr(slash + 1, '/');
	}
	length = slash ? (size_t)(slash - specifier) : strlen(specifier);
	return specifier[0] == '.' || memchr(specifier, '%', length) ||
			       memchr(specifier, '\\', length) || memchr(specifier, ':', length)
		       ? 0
		       : length;
}

/* The importer's own package, by its name. NULL without an error: it is another's. */
static char *in_own_package(struct request *request, size_t length, const char *subpath)
{
	struct package package;
	char *name, *path = NULL;

	if (!find_scope(request->base, &package, request->error))
		return NULL;
	name = json_decoded(member(&package, "name"));
	request->package = &package;
	if (name && strlen(name) == length && !strncmp(name, request->specifier, length) &&
	    member(&package, "exports"))
		path = in_package(request, subpath);
	free(name);
	free_package(&package);
	return path;
}

static char *in_node_modules(struct request *request, size_t length, const char *subpath)
{
	char *at = package_directory_of(request->base), *path = NULL;

	for (char *slash = NULL; at; slash = strrchr(at, '/')) {
		struct package package;
		struct stat status;
		char *directory = NULL;

		if (slash)
			*slash = 0;
		if (asprintf(&directory, "%s/node_modules/%.*s", at, (int)length,
			     request->specifier) < 0)
			break;
		if (stat(directory, &status) || !S_ISDIR(status.st_mode)) {
			free(directory);
			if (*at)
				continue;
			break;
		}
		if (read_package(&package, directory, request->error)) {
			request->package = &package;
			path = in_package(request, subpath);
			free_package(&package);
		}
		free(at);
		return path;
	}
	free(at);
	if (is_builtin(request->specifier))
		return refuse_builtin(request->base, request->specifier, request->error);
	failure(request->error, -ENOENT,
		"cannot find package '%.*s' imported from %s: it is in no node_modules upward of it (ERR_MODULE_NOT_FOUND)",
		(int)length, request->specifier, request->base);
	return NULL;
}

static char *internal(struct request *request)
{
	struct package package;
	enum found found = UNDEFINED;
	const char *imports;
	char *path = NULL;

	if (!request->specifier[1] || request->specifier[1] == '/') {
		failure(request->error, -EINVAL,
			"cannot import '%s' from %s: that is no name (ERR_INVALID_MODULE_SPECIFIER)",
			request->specifier, request->base);
		return NULL;
	}
	if (!find_scope(request->base, &package, request->error)) {
		if (!request->error->code)
			failure(request->error, -ENOENT,
				"cannot import '%s' from %s: it is in no package whose package.json could define it (ERR_PACKAGE_IMPORT_NOT_DEFINED)",
				request->specifier, request->base);
		return NULL;
	}
	request->package = &package;
	request->imports = true;
	imports = member(&package, "imports");
	if (imports)
		found = by_key(request, imports, request->specifier, &path);
	path = settled(request, found, request->specifier, path);
	free_package(&package);
	return path;
}

static char *resolve_from(const char *base, const char *specifier, unsigned depth,
			  struct thaw_error *error)
{
	struct request request = {
		.base = base, .specifier = specifier, .depth = depth, .error = error};
	size_t length = name_length(specifier);
	char *subpath = NULL, *path;

	if (!strcmp(specifier, "thaw")) /* of "imports" */
		return strdup(specifier);
	if (specifier[0] == '#' && depth < DEPTH_MAX)
		return internal(&request);
	if (!strncmp(specifier, "node:", 5))
		return refuse_builtin(base, specifier, error);
	if (!length) {
		failure(error, -EINVAL,
			"cannot import '%s' from %s: not a path, a package or a file:// URL (ERR_INVALID_MODULE_SPECIFIER)",
			specifier, base);
		return NULL;
	}
	if (asprintf(&subpath, ".%s", specifier + length) < 0)
		return NULL;
	path = in_own_package(&request, length, subpath);
	if (!path && !error->code)
		path = in_node_modules(&request, length, subpath);
	free(subpath);
	return path;
}

char *package_resolve(const char *base, const char *specifier, struct thaw_error *error)
{
	char *path;

	error->code = 0;
	path = resolve_from(base, specifier, 0, error);
	if (!path && !error->code)
		failure(error, -ENOMEM, "cannot import '%s': out of memory", specifier);
	return path;
}
