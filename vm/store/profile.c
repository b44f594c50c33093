/* SPDX-License-Identifier: MIT */
/* profile.c - ~/.aws/credentials and ~/.aws/config: sections of `name = value`, with further ones below a name, indented. */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/failure.h"
#include "store/credentials.h"

#define LINE_MOST 65536 /* a session token has some 1500 */

struct reader {
	struct profile *profile;
	const char *path;
	const char *section;  /* what the profile is called in this file */
	const char *services; /* NULL, or the section whose endpoints it takes: "services NAME" */
	bool is_config, inside, inside_services;
	char below[32]; /* the name that indented lines belong to; "": none */
	unsigned line;
};

const char *profile_name(void)
{
	const char *name = getenv("AWS_PROFILE");

	return name && *name ? name : "default";
}

static char *trim(char *text)
{
	char *end;

	while (isspace((unsigned char)*text))
		text++;
	end = text + strlen(text);
	while (end > text && isspace((unsigned char)end[-1]))
		end--;
	*end = '\0';
	return text;
}

static int no_memory(struct thaw_error *error)
{
	return failure(error, -ENOMEM, "out of memory");
}

static int replace(char **value, const char *text, struct thaw_error *error)
{
	char *copy = strdup(text);

	if (!copy)
		return no_memory(error);
	free(*value);
	*value = copy;
	return 0;
}

/* What is asked for by one name; what the file of credentials said before goes for id, secret and token. */
static int keep_key(struct reader *reader, const char *name, const char *value,
		    struct thaw_error *error)
{
	struct profile *profile = reader->profile;
	char **keys[] = {&profile->id, &profile->secret, &profile->token};
	static const char *const names[] = {"aws_access_key_id", "aws_secret_access_key",
					    "aws_session_token"};

	for (unsigned i = 0; i < 3; i++) {
		if (strcmp(name, names[i]) ||
		    (reader->is_config && profile->file && strcmp(profile->file, reader->path)))
			continue;
		if (!i && replace(&profile->file, reader->path, error))
			return -ENOMEM;
		return replace(keys[i], value, error);
	}
	return 0;
}

static int keep(struct reader *reader, const char *name, const char *value,
		struct thaw_error *error)
{
	struct profile *profile = reader->profile;
	const struct {
		const char *name;
		char **value;
	} others[] = {
		{"credential_process", &profile->process},
		{"role_arn", &profile->role},
		{"sso_session", &profile->sso},
		{"sso_start_url", &profile->sso},
		{"region", &profile->region},
		{"endpoint_url", &profile->endpoint},
		{"services", &profile->services},
		{"ca_bundle", &profile->ca_bundle},
	};
	int code = keep_key(reader, name, value, error);

	for (unsigned i = 0; !code && i < sizeof(others) / sizeof(others[0]); i++)
		if (!strcmp(name, others[i].name) && *value)
			code = replace(others[i].value, value, error);
	return code;
}

/* Below `s3 =`: of the profile, or of the services that it names. */
static int keep_below(struct reader *reader, const char *name, const char *value,
		      struct thaw_error *error)
{
	struct profile *profile = reader->profile;

	if (strcmp(reader->below, "s3"))
		return 0;
	if (!strcmp(name, "endpoint_url"))
		return replace(&profile->s3_endpoint, value, error);
	if (reader->inside && !strcmp(name, "addressing_style"))
		return replace(&profile->addressing, value, error);
	return 0;
}

static int not_understood(const struct reader *reader, const char *why, struct thaw_error *error)
{
	return failure(error, -EINVAL, "%s, line %u: %s", reader->path, reader->line, why);
}

static int begin_section(struct reader *reader, char *text, struct thaw_error *error)
{
	char *end = strchr(text, ']'), *name;

	if (!end)
		return not_understood(reader, "a section's name ends with ']'", error);
	*end = '\0';
	name = trim(text + 1);
	reader->below[0] = '\0';
	reader->inside_services = reader->services && !strncmp(name, "services", 8) &&
				  isspace((unsigned char)name[8]) &&
				  !strcmp(trim(name + 8), reader->services);
	if (reader->is_config && !strncmp(name, "profile", 7) && isspace((unsigned char)name[7]))
		name = trim(name + 7);
	else if (reader->is_config && strcmp(name, "default"))
		name = NULL; /* of something else */
	reader->inside = name && !strcmp(name, reader->section);
	if (reader->inside)
		reader->profile->found = true;
	return 0;
}

static int take_line(struct reader *reader, char *line, struct thaw_error *error)
{
	bool indented = isspace((unsigned char)*line);
	char *text = trim(line), *equals;

	if (!*text || *text == '#' || *text == ';')
		return 0;
	if (*text == '[')
		return begin_section(reader, text, error);
	if (!reader->inside && !reader->inside_services)
		return 0;
	equals = strchr(text, '=');
	if (!equals)
		return not_understood(reader, "neither a section nor 'name = value'", error);
	*equals = '\0';
	text = trim(text);
	equals = trim(equals + 1);
	if (indented && reader->below[0])
		return keep_below(reader, text, equals, error);
	snprintf(reader->below, sizeof(reader->below), "%s", *equals ? "" : text);
	return reader->inside ? keep(reader, text, equals, error) : 0;
}

/* A file that is not there, or that this user may not read, says nothing. */
static int read_file(struct reader *reader, struct thaw_error *error)
{
	FILE *file = fopen(reader->path, "re");
	size_t room = 0;
	char *line = NULL;
	ssize_t bytes;
	int code = 0;

	if (!file && (errno == ENOENT || errno == ENOTDIR || errno == EACCES))
		return 0;
	if (!file)
		return failure(error, -errno, "%s: %s", reader->path, strerror(errno));
	while (!code && (bytes = getline(&line, &room, file)) >= 0) {
		reader->line++;
		if (bytes > LINE_MOST || strlen(line) != (size_t)bytes)
			code = not_understood(reader, "this is not text", error);
		else
			code = take_line(reader, line, error);
	}
	if (!code && !feof(file))
		code = failure(error, -errno, "%s: it cannot be read: %s", reader->path,
			       strerror(errno));
	if (line)
		explicit_bzero(line, room);
	free(line);
	fclose(file);
	return code;
}

/* What the environment names, or the file of that name in ~/.aws; malloc'ed. */
static char *path_of(const char *variable, const char *name)
{
	const char *named = getenv(variable), *home = getenv("HOME");
	const struct passwd *user;
	char *path;

	if (named && *named && strncmp(named, "~/", 2))
		return strdup(named);
	if (!home || !*home) {
		user = getpwuid(getuid());
		home = user ? user->pw_dir : "/";
	}
	if (named && *named)
		return asprintf(&path, "%s/%s", home, named + 2) < 0 ? NULL : path;
	return asprintf(&path, "%s/.aws/%s", home, name) < 0 ? NULL : path;
}

static int read_named(struct reader reader, const char *variable, const char *name,
		      struct thaw_error *error)
{
	char *path = path_of(variable, name);
	int code;

	if (!path)
		return no_memory(error);
	reader.path = path;
	code = read_file(&reader, error);
	free(path);
	return code;
}

/* The section of services comes before the profile that names it, or behind: it is looked for by itself. */
static int read_services(struct reader reader, struct thaw_error *error)
{
	char *own = reader.profile->s3_endpoint;
	int code;

	reader.section = "]"; /* none is called so */
	reader.services = reader.profile->services;
	reader.profile->s3_endpoint = NULL;
	code = read_named(reader, "AWS_CONFIG_FILE", "config", error);
	if (!reader.profile->s3_endpoint)
		reader.profile->s3_endpoint = own;
	else
		free(own);
	return code;
}

int profile_read(struct profile *profile, struct thaw_error *error)
{
	struct reader reader = {.profile = profile, .section = profile_name()};
	int code;

	*profile = (struct profile){0};
	code = read_named(reader, "AWS_SHARED_CREDENTIALS_FILE", "credentials", error);
	reader.is_config = true;
	if (!code)
		code = read_named(reader, "AWS_CONFIG_FILE", "config", error);
	if (!code && profile->services)
		code = read_services(reader, error);
	if (!code && !profile->found && strcmp(reader.section, "default"))
		code = failure(error, -EINVAL,
			       "AWS_PROFILE=%s: there is no such profile in ~/.aws/credentials or "
			       "~/.aws/config (AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE)",
			       reader.section);
	if (code)
		profile_free(profile);
	return code;
}

void profile_free(struct profile *profile)
{
	char *all[] = {profile->id,	   profile->token,	 profile->process,
		       profile->role,	   profile->sso,	 profile->region,
		       profile->endpoint,  profile->s3_endpoint, profile->services,
		       profile->ca_bundle, profile->addressing,	 profile->file};

	if (profile->secret)
		explicit_bzero(profile->secret, strlen(profile->secret));
	free(profile->secret);
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		free(all[i]);
	*profile = (struct profile){0};
}
