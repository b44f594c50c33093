/* SPDX-License-Identifier: MIT */
/*
 * credentials_remote.c - credentials that somebody else has: a command, the agent of a container, the machine (IMDSv2). All
 * of them say them in JSON, and when they end. Each has a few seconds to answer; a store's thread waits for that.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failure.h"
#include "store/credentials.h"
#include "store/libcurl.h"

#define ANSWER_MOST 65536
#define PROCESS_PATIENCE_NS 60000000000ull
#define SLICE_MS 100
#define CONTAINER_MS 5000L
#define MACHINE_MS 1000L /* nobody is there, on most machines */

static _Thread_local const atomic_bool *gives_up;

void credentials_give_up(const atomic_bool *when)
{
	gives_up = when;
}

static bool is_given_up(void)
{
	return gives_up && *gives_up;
}

/* ---- What they say */

static const char *member(json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text && *text ? text : NULL;
}

bool credentials_parse(struct credentials *credentials, const char *json, size_t bytes)
{
	json_t *said = json_loadb(json, bytes, 0, NULL);
	const char *id = member(said, "AccessKeyId"), *secret = member(said, "SecretAccessKey");
	const char *token = member(said, "Token"), *end = member(said, "Expiration");
	bool whole;

	if (!token)
		token = member(said, "SessionToken");
	if (id && secret) {
		credentials->id = strdup(id);
		credentials->secret = strdup(secret);
		credentials->token = token ? strdup(token) : NULL;
		credentials->expires_ns = end ? store_time(end) : 0;
	}
	json_decref(said);
	whole = credentials->id && credentials->secret && (credentials->token || !token);
	if (!whole)
		credentials_free(credentials);
	return whole;
}

/* ---- A command */

static int begin_command(const char *command, pid_t *child, int *from)
{
	char *const arguments[] = {"sh", "-c", (char *)command, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int pipes[2], code;
	sigset_t none;

	if (pipe2(pipes, O_CLOEXEC))
		return -errno;
	sigemptyset(&none); /* a store's thread blocks all of them */
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, pipes[1], 1);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
	code = -posix_spawn(child, "/bin/sh", &actions, &attributes, arguments, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	close(pipes[1]);
	*from = pipes[0];
	if (code)
		close(pipes[0]);
	return code;
}

/* Until its end, or the end of its time. */
static size_t read_answer(int from, char *answer, size_t room)
{
	uint64_t until = clock_monotonic_ns() + PROCESS_PATIENCE_NS;
	struct pollfd wait = {.fd = from, .events = POLLIN};
	size_t got = 0;
	ssize_t bytes;

	while (got < room && clock_monotonic_ns() < until && !is_given_up()) {
		if (poll(&wait, 1, SLICE_MS) <= 0)
			continue;
		bytes = read(from, answer + got, room - got);
		if (!bytes)
			return got;
		if (bytes < 0 && errno != EINTR)
			return 0;
		got += bytes > 0 ? (size_t)bytes : 0;
	}
	return 0;
}

/* What has answered may have something to finish. */
static void end_command(pid_t child, bool answered)
{
	uint64_t until = clock_monotonic_ns() + PROCESS_PATIENCE_NS;

	while (answered && clock_monotonic_ns() < until && !is_given_up()) {
		if (waitpid(child, NULL, WNOHANG))
			return;
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	kill(child, SIGKILL);
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
}

int credentials_from_process(struct credentials *credentials, const char *command,
			     struct thaw_error *error)
{
	char *answer = malloc(ANSWER_MOST);
	size_t bytes = 0;
	pid_t child;
	int code, from;

	if (!answer)
		return failure(error, -ENOMEM, "out of memory");
	code = begin_command(command, &child, &from);
	if (!code) {
		bytes = read_answer(from, answer, ANSWER_MOST);
		close(from);
		end_command(child, bytes > 0);
	}
	if (!bytes || !credentials_parse(credentials, answer, bytes))
		code = failure(error, -EACCES,
			       "the profile %s: its credential_process does not print credentials",
			       profile_name());
	else
		snprintf(credentials->from, sizeof(credentials->from),
			 "credential_process of the profile %s", profile_name());
	explicit_bzero(answer, ANSWER_MOST);
	free(answer);
	return code ? code : 1;
}

/* ---- Over HTTP */

struct answer {
	char *text;
	size_t bytes;
};

static size_t keep(char *bytes, size_t size, size_t count, void *arg)
{
	struct answer *answer = arg;

	if (size * count > ANSWER_MOST - 1 - answer->bytes)
		return 0;
	memcpy(answer->text + answer->bytes, bytes, size * count);
	answer->bytes += size * count;
	answer->text[answer->bytes] = '\0';
	return size * count;
}

static int open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	(void)arg, (void)purpose;
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/*
 * With all signals blocked, also in a thread that looks up a name; SIGPIPE is of libcurl's, since TLS writes into connections that may be
 * closed.
 */
static CURLcode perform_quietly(CURL *easy)
{
	CURLM *multi = libcurl_multi_init();
	CURLcode result = CURLE_ABORTED_BY_CALLBACK;
	int running = 1, left;
	CURLMsg *what;

	if (!multi || curl.multi_add_handle(multi, easy)) {
		if (multi)
			curl.multi_cleanup(multi);
		return CURLE_OUT_OF_MEMORY;
	}
	while (running && !is_given_up() && !libcurl_multi_perform(multi, &running))
		if (running)
			curl.multi_poll(multi, NULL, 0, SLICE_MS, NULL);
	while ((what = curl.multi_info_read(multi, &left)))
		if (what->msg == CURLMSG_DONE)
			result = what->data.result;
	curl.multi_remove_handle(multi, easy);
	curl.multi_cleanup(multi);
	return result;
}

static CURLcode perform(CURL *easy)
{
	sigset_t pipe, all, before, pending;
	CURLcode result;

	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	sigfillset(&all);
	sigpending(&pending);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = perform_quietly(easy);
	if (!sigismember(&pending, SIGPIPE))
		sigtimedwait(&pipe, NULL, &(struct timespec){0});
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return result;
}

/* The status, or 0: nobody answers. `answer` has room for ANSWER_MOST. */
static long ask(const char *method, const char *url, const char *header, long patience_ms,
		struct answer *answer)
{
	struct curl_slist *headers = header ? curl.slist_append(NULL, header) : NULL;
	CURL *easy = curl.easy_init();
	long status = 0;

	answer->bytes = 0;
	answer->text[0] = '\0';
	if (easy && (headers || !header)) {
		curl.easy_setopt(easy, CURLOPT_URL, url);
		curl.easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
		curl.easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
		curl.easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
		curl.easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
		curl.easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
		curl.easy_setopt(easy, CURLOPT_NOPROXY, "*"); /* they are here */
		curl.easy_setopt(easy, CURLOPT_TIMEOUT_MS, patience_ms);
		curl.easy_setopt(easy, CURLOPT_WRITEFUNCTION, keep);
		curl.easy_setopt(easy, CURLOPT_WRITEDATA, answer);
		curl.easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
		if (perform(easy) || curl.easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status))
			status = 0;
	}
	if (easy)
		curl.easy_cleanup(easy);
	curl.slist_free_all(headers);
	return status;
}

static int finish(struct credentials *credentials, long status, struct answer *answer,
		  const char *who, const char *url, struct thaw_error *error)
{
	if (status == 200 && credentials_parse(credentials, answer->text, answer->bytes)) {
		snprintf(credentials->from, sizeof(credentials->from), "%s", who);
		return 1;
	}
	return status ? failure(error, -EACCES, "%s (%s) has no credentials: it answers %ld", who,
				url, status)
		      : failure(error, -EACCES, "%s (%s) does not answer: no credentials", who,
				url);
}

/* What a file says in its first line, or the variable itself. Empty: neither. */
static void authorization(char *header, size_t room)
{
	const char *path = getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	const char *token = getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN");
	FILE *file = path && *path ? fopen(path, "re") : NULL;
	char line[4096] = "";

	if (file) {
		if (!fgets(line, sizeof(line), file))
			line[0] = '\0';
		fclose(file);
		line[strcspn(line, "\r\n")] = '\0';
		token = line;
	}
	header[0] = '\0';
	if (token && *token && strlen(token) < room - 16 && !strpbrk(token, "\r\n"))
		snprintf(header, room, "Authorization: %s", token);
	explicit_bzero(line, sizeof(line));
}

int credentials_from_container(struct credentials *credentials, struct thaw_error *error)
{
	const char *whole = getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI");
	const char *path = getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	char url[1024], header[4200];
	struct answer answer;
	long status;
	int code;

	if (path && *path)
		snprintf(url, sizeof(url), "http://169.254.170.2%s", path);
	else if (whole && *whole)
		snprintf(url, sizeof(url), "%s", whole);
	else
		return 0;
	answer.text = malloc(ANSWER_MOST);
	if (!answer.text)
		return failure(error, -ENOMEM, "out of memory");
	authorization(header, sizeof(header));
	status = ask("GET", url, header[0] ? header : NULL, CONTAINER_MS, &answer);
	code = finish(credentials, status, &answer, "the container's agent", url, error);
	explicit_bzero(header, sizeof(header));
	explicit_bzero(answer.text, ANSWER_MOST);
	free(answer.text);
	return code;
}

/* Its token, the name of its role, and then that role's credentials. */
static int ask_machine(struct credentials *credentials, const char *at, struct answer *answer,
		       struct thaw_error *error)
{
	static const char roles[] = "/latest/meta-data/iam/security-credentials/";
	char url[1024], header[512];
	long status;

	snprintf(url, sizeof(url), "%s/latest/api/token", at);
	if (ask("PUT", url, "X-aws-ec2-metadata-token-ttl-seconds: 21600", MACHINE_MS, answer) !=
		    200 ||
	    !answer->bytes || answer->bytes > 400 || strpbrk(answer->text, "\r\n"))
		return 0;
	snprintf(header, sizeof(header), "X-aws-ec2-metadata-token: %s", answer->text);
	snprintf(url, sizeof(url), "%s%s", at, roles);
	status = ask("GET", url, header, MACHINE_MS, answer);
	answer->text[strcspn(answer->text, "\r\n")] = '\0';
	if (status != 200 || !answer->text[0] || strlen(answer->text) > 200)
		return 0;
	snprintf(url, sizeof(url), "%s%s%s", at, roles, answer->text);
	status = ask("GET", url, header, MACHINE_MS, answer);
	return finish(credentials, status, answer, "this machine's metadata service", url, error);
}

int credentials_from_machine(struct credentials *credentials, struct thaw_error *error)
{
	const char *off = getenv("AWS_EC2_METADATA_DISABLED");
	const char *at = getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT");
	struct answer answer;
	char where[512];
	int code;

	if (off && !strcasecmp(off, "true"))
		return 0;
	snprintf(where, sizeof(where), "%s", at && *at ? at : "http://169.254.169.254");
	if (where[strlen(where) - 1] == '/')
		where[strlen(where) - 1] = '\0';
	answer.text = malloc(ANSWER_MOST);
	if (!answer.text)
		return failure(error, -ENOMEM, "out of memory");
	code = ask_machine(credentials, where, &answer, error);
	explicit_bzero(answer.text, ANSWER_MOST);
	free(answer.text);
	return code;
}
