/* SPDX-License-Identifier: MIT */
/*
 * changed_sources.c - is the program in the image the one that was asked for, and are the files that it was
 * made of still what they were?
 *
 * Called by program.c for a program that was restored, before its first turn; owner's thread. A program that
 * was restored needs none of its files: one that is gone, or cannot be read, is no failure. Looks at size and
 * time of each, and reads only what these say may have changed. Must never open what is no regular file, for
 * the paths stand in the image.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "js/modules/resolve.h"
#include "js/modules/sources.h"
#include "program.h"

#define NAMES_SHOWN 5

enum change { SOURCE_SAME, SOURCE_CHANGED, SOURCE_GONE, SOURCE_UNKNOWN };

struct changes {
	const char *directory; /* of the main module: names are shown from there */
	size_t directory_bytes;
	/* Where the main module that was asked for lies, if elsewhere: a copy, or a link that leads on now. */
	const char *moved_to;
	size_t moved_to_bytes;
	char names[NAMES_SHOWN][256]; /* escaped */
	unsigned count;
	bool tells_gone;
};

static int64_t mtime_ns(const struct stat *status)
{
	return (int64_t)status->st_mtim.tv_sec * 1000000000 + status->st_mtim.tv_nsec;
}

/* `contents`: size and time say nothing, it is another path. */
static enum change compare(const char *path, const struct js_source *source, bool contents)
{
	struct stat status;
	uint8_t hash[16];
	size_t bytes;
	char *text;

	if (stat(path, &status))
		return errno == ENOENT || errno == ENOTDIR ? SOURCE_GONE : SOURCE_UNKNOWN;
	if (!S_ISREG(status.st_mode))
		return SOURCE_UNKNOWN;
	if ((uint64_t)status.st_size != source->bytes)
		return SOURCE_CHANGED;
	if (!contents && mtime_ns(&status) == source->mtime_ns)
		return SOURCE_SAME;
	text = resolve_read_file(path, &bytes);
	if (!text)
		return SOURCE_UNKNOWN;
	js_source_hash(text, bytes, hash);
	free(text);
	return bytes == source->bytes && !memcmp(hash, source->hash, sizeof(hash)) ? SOURCE_SAME
										   : SOURCE_CHANGED;
}

/* As people would name it, who know where the program is. */
static void short_name(const struct changes *changes, const char *path, char name[256])
{
	if (changes->directory && !strncmp(path, changes->directory, changes->directory_bytes))
		path += changes->directory_bytes;
	thaw_escape(path, name, 256);
}

static void add_change(struct changes *changes, const char *path)
{
	char name[256];

	short_name(changes, path, name);
	for (unsigned i = 0; i < changes->count && i < NAMES_SHOWN; i++)
		if (!strcmp(changes->names[i], name)) /* loaded more than once */
			return;
	if (changes->count < NAMES_SHOWN)
		memcpy(changes->names[changes->count], name, sizeof(name));
	changes->count++;
}

static void tell_gone(const struct changes *changes, const char *path)
{
	char name[256];

	short_name(changes, path, name);
	if (changes->tells_gone)
		fprintf(stderr, "thaw: %s is not there; the program in the image goes on\n", name);
}

/* The path where that file should be now. */
static const char *present_path(const struct changes *changes, const char *path,
				char moved[2 * PATH_MAX])
{
	if (!changes->moved_to || strncmp(path, changes->directory, changes->directory_bytes))
		return path;
	snprintf(moved, 2 * PATH_MAX, "%.*s%s", (int)changes->moved_to_bytes, changes->moved_to,
		 path + changes->directory_bytes);
	return moved;
}

static void look_at(void *arg, const struct js_source *source)
{
	struct changes *changes = arg;
	char moved[2 * PATH_MAX];
	enum change change = compare(present_path(changes, source->path, moved), source, false);

	if (change == SOURCE_CHANGED)
		add_change(changes, source->path);
	else if (change == SOURCE_GONE)
		tell_gone(changes, source->path);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* The main module: another program's image is refused. */
static int check_script(struct program *program, struct changes *changes, char real[PATH_MAX],
			struct thaw_error *error)
{
	const struct js_script *script = &program->blob.script;
	const char *asked = program->options.script;
	struct js_source source = {
		.path = script->path, .bytes = script->bytes, .mtime_ns = script->mtime_ns};

	if (realpath(asked, real))
		asked = real;
	if (!script->path)
		return failure(
			error, THAW_EENGINE,
			"%s holds a shell's session, not %s: choose another image, or start anew with --fresh",
			program->options.image, program->options.script);
	memcpy(source.hash, script->hash, sizeof(source.hash));
	switch (compare(asked, &source, strcmp(asked, script->path))) {
	case SOURCE_CHANGED:
		if (strcmp(base_name(asked), base_name(script->path)))
			return failure(
				error, THAW_EENGINE,
				"%s holds the program %s, not %s: choose another image, or start anew with --fresh",
				program->options.image, script->path, asked);
		add_change(changes, script->path);
		break;
	case SOURCE_GONE:
		tell_gone(changes, asked);
		break;
	default:
		break;
	}
	changes->moved_to_bytes = (size_t)(base_name(asked) - asked);
	if (changes->moved_to_bytes != changes->directory_bytes ||
	    strncmp(asked, script->path, changes->directory_bytes))
		changes->moved_to = asked;
	return 0;
}

static void tell_changes(const struct program *program, const struct changes *changes)
{
	unsigned shown = changes->count < NAMES_SHOWN ? changes->count : NAMES_SHOWN;
	char names[NAMES_SHOWN * 260 + 40] = "";
	size_t length = 0;

	for (unsigned i = 0; i < shown; i++)
		length += (size_t)snprintf(names + length, sizeof(names) - length, "%s%s",
					   !i			     ? ""
					   : i + 1 == changes->count ? " and "
								     : ", ",
					   changes->names[i]);
	if (changes->count > shown)
		snprintf(names + length, sizeof(names) - length, " and %u more",
			 changes->count - shown);
	fprintf(stderr, "thaw: %s changed since generation %llu was made; %s\n", names,
		(unsigned long long)thaw_opened(program->heap)->number,
		program->options.script
			? "the program in the image goes on (thaw run --upgrade loads what is new into it, --fresh starts anew)"
			: "the image goes on with what it holds (--fresh starts anew)");
}

int changed_sources_check(struct program *program, struct thaw_error *error)
{
	struct changes changes = {.tells_gone = program->options.verbose};
	char real[PATH_MAX];
	int code = 0;

	/* Who asks the program something with -e has not come to run it. */
	if (!program->options.script && !program->options.keep_result)
		return 0;
	if (program->blob.script.path) {
		changes.directory = program->blob.script.path;
		changes.directory_bytes =
			(size_t)(base_name(program->blob.script.path) - program->blob.script.path);
	}
	if (program->options.script)
		code = check_script(program, &changes, real, error);
	if (code || program->options.quiet || program->options.upgrades)
		return code;
	/* What cannot be read of it is no reason not to go on. */
	js_sources(program->engine, look_at, &changes);
	if (changes.count)
		tell_changes(program, &changes);
	return 0;
}
