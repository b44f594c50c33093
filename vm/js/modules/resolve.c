/* SPDX-License-Identifier: MIT */
/*
 * resolve.c - module names as node has them for ES modules: relative and absolute paths, file://
 * URLs, packages in node_modules.
 *
 * Owns nothing; called while a module graph is loaded, on the owner's thread. Must never guess: no
 * extension is added, a directory cannot be imported, and an error names the importer. Modules that
 * were loaded are in the heap: a restored program comes here only for an import() of something new.
 *
 * A package's entry is its "exports" (a string, a list, conditions "import" and "default",
 * subpaths, one '*' in them), else "module", else "main", else index.js. Packages must be ES
 * modules: there is no require().
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/failure.h"
#include "js/api/embedded.h"
#include "js/engine/engine.h"
#include "json_scan.h"
#include "module_name.h"
#include "resolve.h"

#define CONDITION_DEPTH_MAX 16

static bool grow(char **data, size_t room)
{
	char *more = realloc(*data, room);

	if (more)
		*data = more;
	else
		errno = ENOMEM;
	return more;
}

/* Read all of it, with a terminator. False: errno; EFBIG: it is too long for a source. */
static bool read_source(int fd, char **data, size_t *bytes)
{
	size_t room = 16384;
	struct stat status;

	if (!fstat(fd, &status)) {
		if (S_ISDIR(status.st_mode)) {
			errno = EISDIR;
			return false;
		}
		if (status.st_size > (off_t)JS_SOURCE_MAX_BYTES) {
			errno = EFBIG;
			return false;
		}
		if (status.st_size > 0)
			room = (size_t)status.st_size + 2;
	}
	if (!grow(data, room))
		return false;
	for (;;) {
		ssize_t got = read(fd, *data + *bytes, room - *bytes - 1);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			(*data)[*bytes] = 0;
			return !got;
		}
		*bytes += (size_t)got;
		if (*bytes < room - 1)
			continue;
		if (*bytes > JS_SOURCE_MAX_BYTES) {
			errno = EFBIG;
			return false;
		}
		room = 2 * room < JS_SOURCE_MAX_BYTES + 2 ? 2 * room : JS_SOURCE_MAX_BYTES + 2;
		if (!grow(data, room))
			return false;
	}
}

char *resolve_read_file(const char *path, size_t *bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), saved;
	char *data = NULL;

	*bytes = 0;
	if (fd < 0)
		return NULL;
	if (!read_source(fd, &data, bytes)) {
		saved = errno;
		free(data);
		data = NULL;
		errno = saved;
	}
	saved = errno;
	close(fd);
	errno = saved;
	return data;
}

const char *resolve_strerror(int error)
{
	static char limit[80];

	if (error != EFBIG)
		return strerror(error);
	snprintf(limit, sizeof(limit), "larger than %llu MiB, the most that a source may have",
		 JS_SOURCE_MAX_BYTES >> 20);
	return limit;
}

/* ---- Files ---- */

/* A pipe or a device is refused: a turn that waits for one could not be stopped. */
static bool is_file(const char *path)
{
	struct stat status;

	return !stat(path, &status) && S_ISREG(status.st_mode);
}

/* The real path of an importable file. */
static char *file_of(const char *path, const char *base, const char *specifier,
		     struct thaw_error *error)
{
	char *real = realpath(path, NULL);
	int why = errno;

	if (real && is_file(real))
		return real;
	if (real)
		failure(error, -EISDIR,
			"cannot import '%s' from %s: it is no file (a directory, or a pipe); name the file",
			specifier, base);
	else
		failure(error, -why, "cannot find module '%s' imported from %s (%s: %s)", specifier,
			base, path, strerror(why));
	free(real);
	return NULL;
}

/* The directory to resolve from, without a slash at its end ("" is the root). */
static char *directory_of(const char *base)
{
	const char *slash = strrchr(base, '/');

	if (base[0] == '/' && slash)
		return strndup(base, (size_t)(slash - base));
	char *here = getcwd(NULL, 0);

	if (here && !strcmp(here, "/"))
		here[0] = 0;
	return here;
}

/* ---- Packages ---- */

/*
 * The file that a value of "exports" means; `matched` replaces '*'. malloc'ed "./...", or
 * NULL.
 */
static char *target_of(const char *value, const char *matched, int depth)
{
	char *key = NULL, *target = NULL;

	value = json_value(value);
	if (!value || depth > CONDITION_DEPTH_MAX)
		return NULL;
	if (*value == '"') {
		char *text = json_decoded(value), *star;

		if (!text || strncmp(text, "./", 2) || strstr(text, "/../")) {
			free(text);
			return NULL;
		}
		star = matched ? strchr(text, '*') : NULL;
		if (!star)
			return text;
		if (asprintf(&target, "%.*s%s%s", (int)(star - text), text, matched, star + 1) < 0)
			target = NULL;
		free(text);
		return target;
	}
	if (*value != '[' && *value != '{')
		return NULL;
	for (const char *at = json_first(value, &key); at && !target;
	     at = json_next(at, *value == '{', &key)) {
		if (*value == '[' || !strcmp(key, "import") || !strcmp(key, "default"))
			target = target_of(at, matched, depth + 1);
		free(key);
		key = NULL;
		if (target)
			break;
	}
	return target;
}

/*
 * The entry of "exports" for `subpath` (".", "./feature"): an exact key, else the longest one
 * with a '*' that fits.
 */
static char *exported(const char *exports, const char *subpath)
{
	const char *best = NULL;
	char *matched = NULL, *key = NULL, *target;
	size_t best_length = 0;

	exports = json_value(exports);
	if (!exports)
		return NULL;
	if (*exports == '{' && json_first(exports, &key) && key[0] == '.') {
		free(key);
		best = json_member(exports, subpath);
		if (best)
			return target_of(best, NULL, 0);
		for (const char *at = json_first(exports, &key); at;
		     at = json_next(at, true, &key)) {
			const char *star = strchr(key, '*');
			size_t length = strlen(key), before = star ? (size_t)(star - key) : 0;
			size_t have = strlen(subpath), behind = star ? length - before - 1 : 0;

			if (star && before >= best_length && have >= before + behind &&
			    !strncmp(key, subpath, before) &&
			    !strcmp(star + 1, subpath + have - behind)) {
				best = at;
				best_length = before;
				free(matched);
				matched = strndup(subpath + before, have - before - behind);
			}
			free(key);
			key = NULL;
		}
		target = best ? target_of(best, matched, 0) : NULL;
		free(matched);
		return target;
	}
	free(key);
	return strcmp(subpath, ".") ? NULL : target_of(exports, NULL, 0);
}

/* The entry file of a package without "exports"; malloc'ed, relative. */
static char *legacy_entry(const char *directory, const char *json)
{
	static const char *const fields[] = {"module", "main"};
	static const char *const endings[] = {"", ".js", ".mjs", "/index.js"};

	for (unsigned i = 0; json && i < 2; i++) {
		char *entry = json_decoded(json_member(json, fields[i]));

		for (unsigned j = 0; entry && j < 4; j++) {
			char *path = NULL, *relative = NULL;

			if (asprintf(&path, "%s/%s%s", directory, entry, endings[j]) < 0)
				break;
			if (is_file(path) && asprintf(&relative, "%s%s", entry, endings[j]) < 0)
				relative = NULL;
			free(path);
			if (relative) {
				free(entry);
				return relative;
			}
		}
		free(entry);
	}
	return strdup("index.js");
}

/* `subpath`: "." or "./feature". */
static char *file_of_package(const char *directory, const char *subpath, const char *base,
			     const char *specifier, struct thaw_error *error)
{
	char *path = NULL, *json = NULL, *entry = NULL, *result = NULL;
	const char *exports;
	size_t bytes;

	if (asprintf(&path, "%s/package.json", directory) < 0)
		return NULL;
	json = resolve_read_file(path, &bytes);
	free(path);
	exports = json ? json_member(json, "exports") : NULL;
	if (exports && *exports != 'n') {
		entry = exported(exports, subpath);
		if (!entry)
			failure(error, -ENOENT,
				"cannot import '%s' from %s: %s/package.json exports no '%s' to ES modules",
				specifier, base, directory, subpath);
	} else {
		entry = strcmp(subpath, ".") ? strdup(subpath) : legacy_entry(directory, json);
	}
	if (entry && asprintf(&path, "%s/%s", directory, entry) >= 0) {
		result = file_of(path, base, specifier, error);
		free(path);
	}
	free(entry);
	free(json);
	return result;
}

/* Upward from the importer: the nearest node_modules/NAME. */
static char *find_package(const char *base, const char *specifier, struct thaw_error *error)
{
	const char *slash = strchr(specifier, '/');
	char *at = directory_of(base), *result = NULL, *subpath = NULL;
	size_t name_length;

	if (specifier[0] == '@' && slash)
		slash = strchr(slash + 1, '/');
	name_length = slash ? (size_t)(slash - specifier) : strlen(specifier);
	if (!at || asprintf(&subpath, ".%s", specifier + name_length) < 0)
		goto out;
	for (;;) {
		char *directory, *up;
		struct stat status;

		if (asprintf(&directory, "%s/node_modules/%.*s", at, (int)name_length, specifier) <
		    0)
			goto out;
		if (!stat(directory, &status) && S_ISDIR(status.st_mode)) {
			result = file_of_package(directory, subpath, base, specifier, error);
			free(directory);
			goto out;
		}
		free(directory);
		up = strrchr(at, '/');
		if (!up)
			break;
		*up = 0;
	}
	failure(error, -ENOENT,
		"cannot find package '%.*s' imported from %s: it is in no node_modules upward of it",
		(int)name_length, specifier, base);
out:
	free(subpath);
	free(at);
	return result;
}

/* ---- Entry points ---- */

static char *file_of_specifier(const char *base, const char *specifier, struct thaw_error *error)
{
	char *path = NULL, *result = NULL, *directory;

	if (!strcmp(specifier, "thaw"))
		return strdup(specifier);
	if (!strncmp(specifier, "node:", 5)) {
		failure(error, -ENOENT,
			"cannot import '%s' from %s: it is part of Node.js, and this is not; see module 'thaw'",
			specifier, base);
		return NULL;
	}
	if (!strncmp(specifier, "file://", 7)) {
		path = module_path(specifier);
		if (path)
			result = file_of(path, base, specifier, error);
		else
			failure(error, -EINVAL,
				"cannot import '%s' from %s: not a file URL of this machine",
				specifier, base);
		free(path);
		return result;
	}
	if (specifier[0] == '/')
		return file_of(specifier, base, specifier, error);
	if (!strncmp(specifier, "./", 2) || !strncmp(specifier, "../", 3) ||
	    !strcmp(specifier, ".") || !strcmp(specifier, "..")) {
		directory = directory_of(base);
		if (directory && asprintf(&path, "%s/%s", directory, specifier) >= 0) {
			result = file_of(path, base, specifier, error);
			free(path);
		}
		free(directory);
		return result;
	}
	if (!specifier[0] || strchr(specifier, ':') || specifier[0] == '#') {
		failure(error, -EINVAL,
			"cannot import '%s' from %s: not a path, a package or a file:// URL",
			specifier, base);
		return NULL;
	}
	return find_package(base, specifier, error);
}

/* `base` and `specifier` without queries; NULL: no memory. */
static bool without_suffixes(const char *base, const char *specifier, char **path, char **plain)
{
	*path = module_path(base);
	*plain = strndup(specifier, module_suffix(specifier));
	if (*path && *plain)
		return true;
	free(*path);
	free(*plain);
	return false;
}

char *resolve_specifier(const char *base, const char *specifier, struct thaw_error *error)
{
	const char *suffix = specifier + module_suffix(specifier);
	char *path, *plain, *file, *name;

	if (!without_suffixes(base, specifier, &path, &plain)) {
		failure(error, -ENOMEM, "cannot import '%s': out of memory", specifier);
		return NULL;
	}
	file = file_of_specifier(path, plain, error);
	if (!file && *suffix && error->code == -ENOENT) {
		struct thaw_error again = {0};

		file = file_of_specifier(path, specifier, &again); /* part of the file's name */
		suffix = "";
	}
	free(path);
	free(plain);
	name = file ? module_name(file, suffix) : NULL;
	free(file);
	return name;
}

static char *lexical_path(const char *base, const char *specifier)
{
	char *directory, *path = NULL, *to;

	if (specifier[0] != '/' && strncmp(specifier, "./", 2) && strncmp(specifier, "../", 3))
		return NULL;
	directory = specifier[0] == '/' ? strdup("") : directory_of(base);
	if (!directory || asprintf(&path, "%s/%s", directory, specifier) < 0)
		path = NULL;
	free(directory);
	to = path;
	for (const char *at = path; at && *at;) {
		size_t length;

		at += strspn(at, "/");
		length = strcspn(at, "/");
		if (length == 2 && !strncmp(at, "..", 2)) {
			while (to > path && *--to != '/')
				;
		} else if (length && !(length == 1 && *at == '.')) {
			*to++ = '/';
			memmove(to, at, length);
			to += length;
		}
		at += length;
	}
	if (to)
		*to = 0;
	return path;
}

char *resolve_lexically(const char *base, const char *specifier)
{
	char *path, *plain, *file, *name;

	if (!without_suffixes(base, specifier, &path, &plain))
		return NULL;
	file = lexical_path(path, plain);
	free(path);
	free(plain);
	name = file ? module_name(file, specifier + module_suffix(specifier)) : NULL;
	free(file);
	return name;
}

char *resolve_load(const char *name, size_t *bytes, struct thaw_error *error)
{
	char *source, *path;

	if (!strcmp(name, "thaw")) {
		*bytes = (size_t)(js_thaw_module_end - js_thaw_module_start);
		source = malloc(*bytes + 1);
		if (source) {
			memcpy(source, js_thaw_module_start, *bytes);
			source[*bytes] = 0;
		}
	} else {
		path = module_path(name);
		source = path ? resolve_read_file(path, bytes) : NULL;
		free(path);
	}
	if (!source)
		failure(error, -errno, "cannot read module %s: %s", name, resolve_strerror(errno));
	return source;
}
