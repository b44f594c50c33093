/* SPDX-License-Identifier: MIT */
/* credentials.c - see credentials.h: what comes before what. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/failure.h"
#include "store/credentials.h"

/* NULL: not set, or empty, which is the same for AWS's programs. */
static const char *setting(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

static char *copy_of(const char *text)
{
	return text ? strdup(text) : NULL;
}

void credentials_free(struct credentials *credentials)
{
	if (credentials->secret)
		explicit_bzero(credentials->secret, strlen(credentials->secret));
	if (credentials->token)
		explicit_bzero(credentials->token, strlen(credentials->token));
	free(credentials->id);
	free(credentials->secret);
	free(credentials->token);
	*credentials = (struct credentials){0};
}

/* 1, or -ENOMEM. */
static int take(struct credentials *credentials, const char *id, const char *secret,
		const char *token, struct thaw_error *error)
{
	credentials->id = copy_of(id);
	credentials->secret = copy_of(secret);
	credentials->token = copy_of(token);
	if (credentials->id && credentials->secret && (credentials->token || !token))
		return 1;
	credentials_free(credentials);
	return failure(error, -ENOMEM, "out of memory");
}

static int from_environment(struct credentials *credentials, struct thaw_error *error)
{
	const char *id = setting("AWS_ACCESS_KEY_ID"), *secret = setting("AWS_SECRET_ACCESS_KEY");

	if (!id && !secret)
		return 0;
	if (!id || !secret)
		return failure(error, -EACCES,
			       "%s is set and %s is not: an object store asks for both",
			       id ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY",
			       id ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID");
	snprintf(credentials->from, sizeof(credentials->from),
		 "AWS_ACCESS_KEY_ID in the environment");
	return take(credentials, id, secret, setting("AWS_SESSION_TOKEN"), error);
}

static int from_profile(struct credentials *credentials, const struct profile *profile,
			struct thaw_error *error)
{
	if (!profile->id && !profile->secret)
		return profile->process
			       ? credentials_from_process(credentials, profile->process, error)
			       : 0;
	if (!profile->id || !profile->secret)
		return failure(error, -EACCES,
			       "the profile %s has no %s: an object store asks for both",
			       profile_name(),
			       profile->id ? "aws_secret_access_key" : "aws_access_key_id");
	snprintf(credentials->from, sizeof(credentials->from), "the profile %s in %s",
		 profile_name(), profile->file);
	return take(credentials, profile->id, profile->secret, profile->token, error);
}

static int none(const struct profile *profile, struct thaw_error *error)
{
	if (profile->role || profile->sso)
		return failure(
			error, -EACCES,
			"the profile %s takes a role (%s), which Thaw does not ask for: set "
			"what 'aws configure export-credentials --format env' prints, or name "
			"that command in credential_process",
			profile_name(), profile->sso ? "sso" : "role_arn");
	return failure(error, -EACCES,
		       "there are no credentials for an object store: set AWS_ACCESS_KEY_ID and "
		       "AWS_SECRET_ACCESS_KEY, or write them into ~/.aws/credentials");
}

int credentials_read(struct credentials *credentials, struct thaw_error *error)
{
	struct profile profile = {0};
	int code;

	*credentials = (struct credentials){0};
	code = from_environment(credentials, error);
	if (code)
		return code < 0 ? code : 0;
	code = profile_read(&profile, error);
	if (!code)
		code = from_profile(credentials, &profile, error);
	if (!code && !profile.role && !profile.sso)
		code = credentials_from_container(credentials, error);
	if (!code && !profile.role && !profile.sso)
		code = credentials_from_machine(credentials, error);
	if (!code)
		code = none(&profile, error);
	profile_free(&profile);
	return code < 0 ? code : 0;
}

void store_config_free(struct store_config *config)
{
	free(config->region);
	free(config->endpoint);
	free(config->ca_bundle);
	*config = (struct store_config){0};
}

/* The first that is set. */
static char *first_of(const char *a, const char *b, const char *c, const char *d, bool *failed)
{
	const char *all[] = {a, b, c, d};
	char *copy;

	for (unsigned i = 0; i < 4; i++) {
		if (!all[i])
			continue;
		copy = strdup(all[i]);
		*failed = *failed || !copy;
		return copy;
	}
	return NULL;
}

static int take_addressing(struct store_config *config, const char *style, struct thaw_error *error)
{
	if (!style || !strcmp(style, "auto"))
		config->addressing = ADDRESSING_AUTO;
	else if (!strcmp(style, "path"))
		config->addressing = ADDRESSING_PATH;
	else if (!strcmp(style, "virtual"))
		config->addressing = ADDRESSING_VIRTUAL;
	else
		return failure(error, -EINVAL,
			       "~/.aws/config, the profile %s: addressing_style is auto, path or "
			       "virtual, not '%s'",
			       profile_name(), style);
	return 0;
}

int store_config_read(struct store_config *config, struct thaw_error *error)
{
	const char *ignored = setting("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
	bool ignores = ignored && !strcmp(ignored, "true"), failed = false;
	struct profile profile;
	int code;

	*config = (struct store_config){0};
	code = profile_read(&profile, error);
	if (code)
		return code;
	config->region = first_of(setting("AWS_REGION"), setting("AWS_DEFAULT_REGION"),
				  profile.region, NULL, &failed);
	if (!ignores)
		config->endpoint = first_of(setting("AWS_ENDPOINT_URL_S3"),
					    setting("AWS_ENDPOINT_URL"), profile.s3_endpoint,
					    profile.endpoint, &failed);
	config->ca_bundle =
		first_of(setting("AWS_CA_BUNDLE"), profile.ca_bundle, NULL, NULL, &failed);
	code = take_addressing(config, profile.addressing, error);
	if (!code && failed)
		code = failure(error, -ENOMEM, "out of memory");
	profile_free(&profile);
	if (code)
		store_config_free(config);
	return code;
}
