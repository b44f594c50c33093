/* SPDX-License-Identifier: MIT */
/*
 * resolve.c - module names as node has them for ES modules: relative and absolute paths, file://
 * URLs, packages in node_modules.
 *
 * Owns nothing; called while a module graph is loaded, on the owner's thread. Must never guess: no
 * extension is added, a directory cannot be imported, and an error names the importer. Modules that
 * were loaded are in the heap: a restored program comes here only for an import() of something new.
 *
 * Packages must be ES modules: there is no require(). Which file of one is meant, package.c says.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/failure.h"
#include "js/api/embedded.h"
#include "js/engine/engine.h"
#include "commonjs.h"
#include "module_name.h"
#include "package.h"
#include "resolve.h"

static bool grow(char **data, size_t room)
{
	char *more = realloc(*data, room);

	if (more)
		*data = more;
	else
		errno = ENOMEM;
	return more;
}

/* Of what is opened without waiting, a pipe above all: until there is something, or nobody writes any more. A signal ends it. */
static bool await_input(int fd)
{
	struct pollfd input = {fd, POLLIN, 0};

	return poll(&input, 1, -1) > 0;
}

/* Read all of it, with a terminator. False: errno; EFBIG: it is too long for a source. */
static bool read_source(int fd, char **data, size_t *bytes)
{
	size_t room = 16384;
	struct stat status;

	if (!fstat(fd, &status)) {
		if (S_ISFIFO(status.st_mode) && !await_input(fd))
			return false;
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

		if (got < 0 && (errno == EINTR || (errno == EAGAIN && await_input(fd))))
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
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), saved;
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
bool resolve_is_file(const char *path)
{
	struct stat status;

	return !stat(path, &status) && S_ISREG(status.st_mode);
}

/* As a bundler or tsc would have found it: node does not, and no more is guessed here than for the message. */
static bool meant(const char *path, char *file, size_t room)
{
	static const char *const endings[] = {".js", ".mjs", ".ts", "/index.js", "/index.ts"};
	const char *dot = strrchr(path, '.');

	for (unsigned i = 0; i < sizeof(endings) / sizeof(endings[0]); i++)
		if (snprintf(file, room, "%s%s", path, endings[i]) < (int)room &&
		    resolve_is_file(file))
			return true;
	return dot && !strcmp(dot, ".js") &&
	       snprintf(file, room, "%.*s.ts", (int)(dot - path), path) < (int)room &&
	       resolve_is_file(file);
}

static void not_there(const char *path, int why, const char *base, const char *specifier,
		      struct thaw_error *error)
{
	char file[PATH_MAX];

	if (why == ENOENT && meant(path, file, sizeof(file)))
		failure(error, -why,
			"cannot find module '%s' imported from %s: files are imported by their whole name, here it is .../%s (ERR_MODULE_NOT_FOUND)",
			specifier, base, strrchr(file, '/') + 1);
	else
		failure(error, -why,
			"cannot find module '%s' imported from %s (%s: %s) (ERR_MODULE_NOT_FOUND)",
			specifier, base, path, strerror(why));
}

/* The real path of an importable file. */
static char *file_of(const char *path, const char *base, const char *specifier,
		     struct thaw_error *error)
{
	char *real = realpath(path, NULL);
	int why = errno;
	struct stat stat;

	if (real && resolve_is_file(real))
		return real;
	if (real && !lstat(real, &stat) && S_ISDIR(stat.st_mode))
		failure(error, -EISDIR,
			"cannot import '%s' from %s: it is a directory; name the file (ERR_UNSUPPORTED_DIR_IMPORT)",
			specifier, base);
	else if (real)
		failure(error, -EISDIR,
			"cannot import '%s' from %s: it is no regular file; name one", specifier,
			base);
	else
		not_there(path, why, base, specifier, error);
	free(real);
	return NULL;
}

/* ---- Entry points ---- */

static char *file_of_specifier(const char *base, const char *specifier, struct thaw_error *error)
{
	char *path = NULL, *result = NULL, *directory;

	if (!strcmp(specifier, "thaw"))
		return strdup(specifier);
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
		directory = package_directory_of(base);
		if (directory && asprintf(&path, "%s/%s", directory, specifier) >= 0) {
			result = file_of(path, base, specifier, error);
			free(path);
		}
		free(directory);
		return result;
	}
	path = package_resolve(base, specifier, error);
	if (!path || !strcmp(path, "thaw"))
		return path;
	result = file_of(path, base, specifier, error);
	free(path);
	return result;
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
	directory = specifier[0] == '/' ? strdup("") : package_directory_of(base);
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
	if (!source) {
		failure(error, -errno, "cannot read module %s: %s", name, resolve_strerror(errno));
	} else if (commonjs_is(name, source)) {
		free(source);
		source = commonjs_refuse(name, error);
	}
	return source;
}
