/* SPDX-License-Identifier: MIT */
/*
 * credentials.h - who asks an object store, and where it is: what AWS's programs read, in their order.
 *
 *	AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN)
 *	~/.aws/credentials (AWS_SHARED_CREDENTIALS_FILE), ~/.aws/config (AWS_CONFIG_FILE): the profile AWS_PROFILE, or "default";
 *		there also credential_process, a command that prints them
 *	a container's (AWS_CONTAINER_CREDENTIALS_FULL_URI, _RELATIVE_URI), an EC2 instance's (unless AWS_EC2_METADATA_DISABLED=true)
 *
 * And AWS_REGION or AWS_DEFAULT_REGION or the profile's; AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or the profile's; AWS_CA_BUNDLE;
 * the profile's `s3 = addressing_style = path|virtual`. Roles that have to be asked for (role_arn, sso_*) are told, not taken.
 */
#ifndef VM_STORE_CREDENTIALS_H
#define VM_STORE_CREDENTIALS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "thaw.h"

struct credentials {
	char *id, *secret;
	char *token;	     /* NULL: none */
	uint64_t expires_ns; /* CLOCK_REALTIME; 0: never, or it is not known */
	char from[128];	     /* for people: "AWS_ACCESS_KEY_ID in the environment" */
};

enum addressing { ADDRESSING_AUTO, ADDRESSING_PATH, ADDRESSING_VIRTUAL };

struct store_config {
	char *region;	 /* NULL: none is named */
	char *endpoint;	 /* NULL: AWS's own */
	char *ca_bundle; /* NULL: the system's */
	enum addressing addressing;
};

/*
 * Anew, each time. -EACCES: there are none, or nobody answers who has them; -EINVAL: a file that is not understood. libcurl is
 * loaded. May take some seconds where a container's or a machine's are asked for. Any thread.
 */
int credentials_read(struct credentials *credentials, struct thaw_error *error);
/* This thread waits for nobody's credentials any more once that is true. NULL: it waits as long as that takes. */
void credentials_give_up(const atomic_bool *when);
void credentials_free(struct credentials *credentials);
int store_config_read(struct store_config *config, struct thaw_error *error);
void store_config_free(struct store_config *config);

/* ---- Between the files of credentials */

/* What the profile says in one of its files; section by section, as text. */
struct profile {
	char *id, *secret, *token, *process, *role, *sso;
	char *region, *endpoint, *s3_endpoint, *addressing, *services, *ca_bundle;
	char *file; /* where id is from, for people */
	bool found;
};
/* "default" without AWS_PROFILE. -EINVAL: AWS_PROFILE is in none of them, or a line is none. Of no file, all is NULL. */
int profile_read(struct profile *profile, struct thaw_error *error);
void profile_free(struct profile *profile);
const char *profile_name(void);

/* "2026-11-30T12:00:00.123Z": CLOCK_REALTIME. 0: it is no time. */
uint64_t store_time(const char *text);

/* JSON of containers, machines and credential_process. False: it is none, or lacks something. */
bool credentials_parse(struct credentials *credentials, const char *json, size_t bytes);
/* 1: there are some; 0: there is nobody to ask; negative: error. */
int credentials_from_process(struct credentials *credentials, const char *command,
			     struct thaw_error *error);
int credentials_from_container(struct credentials *credentials, struct thaw_error *error);
int credentials_from_machine(struct credentials *credentials, struct thaw_error *error);

#endif
