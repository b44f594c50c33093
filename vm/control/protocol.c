/* SPDX-License-Identifier: MIT */
/*
 * protocol.c - see protocol.h. The lines are anybody's who may connect: nothing in them is believed. Members that are not
 * known are passed over, so that a newer client can say more.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/failure.h"
#include "base/text.h"
#include "control/protocol.h"

static const char *const names[CONTROL_COMMANDS] = {
	[CONTROL_STATUS] = "status",	     [CONTROL_METRICS] = "metrics",
	[CONTROL_CHECKPOINT] = "checkpoint", [CONTROL_TAG] = "tag",
	[CONTROL_UNTAG] = "untag",	     [CONTROL_EVAL] = "eval",
	[CONTROL_ROLLBACK] = "rollback",     [CONTROL_COMPACT] = "compact",
	[CONTROL_UPGRADE] = "upgrade",	     [CONTROL_STOP] = "stop",
};

const char *control_command_name(enum control_command command)
{
	return names[command];
}

static int take_command(const char *word, enum control_command *command, struct thaw_error *error)
{
	for (unsigned i = 0; word && i < CONTROL_COMMANDS; i++) {
		*command = i;
		if (!strcmp(word, names[i]))
			return 0;
	}
	return word ? failure(error, -ENOSYS,
			      "no command '%.*s': this thaw (%s, protocol %d) knows status, metrics, "
			      "checkpoint, tag, untag, eval, rollback, compact, upgrade and stop",
			      (int)text_valid_prefix(word, strnlen(word, 32)), word, THAW_VERSION,
			      CONTROL_PROTOCOL)
		    : failure(error, -EINVAL, "which command? A line is {\"command\":\"status\"}");
}

/* A text that fits, if there is one. */
static int take_text(json_t *line, const char *key, char *text, size_t room,
		     struct thaw_error *error)
{
	json_t *value = json_object_get(line, key);
	const char *given = json_string_value(value);

	text[0] = '\0';
	if (!value)
		return 0;
	if (!given || strlen(given) != json_string_length(value) || strlen(given) >= room)
		return failure(error, -EINVAL, "%s: a text of at most %zu bytes is wanted", key,
			       room - 1);
	strcpy(text, given);
	return 0;
}

/* A number, or a text. */
static int take_generation(json_t *line, char text[64], struct thaw_error *error)
{
	json_t *value = json_object_get(line, "generation");

	if (!json_is_integer(value))
		return take_text(line, "generation", text, 64, error);
	if (json_integer_value(value) < 1)
		return failure(error, -EINVAL, "generation: generations count from 1");
	snprintf(text, 64, "%lld", (long long)json_integer_value(value));
	return 0;
}

static int take_timeout(json_t *line, uint64_t *timeout_ns, struct thaw_error *error)
{
	json_t *value = json_object_get(line, "timeoutMs");
	json_int_t most = (json_int_t)(CONTROL_TIMEOUT_MOST_NS / 1000000);

	*timeout_ns = CONTROL_TIMEOUT_NS;
	if (!value)
		return 0;
	if (!json_is_integer(value) || json_integer_value(value) < 1 ||
	    json_integer_value(value) > most)
		return failure(error, -EINVAL, "timeoutMs: a number from 1 to %lld is wanted",
			       (long long)most);
	*timeout_ns = (uint64_t)json_integer_value(value) * 1000000;
	return 0;
}

static int take_code(json_t *line, struct control_request *request, struct thaw_error *error)
{
	json_t *value = json_object_get(line, "code");

	if (request->command != CONTROL_EVAL)
		return 0;
	if (!json_is_string(value))
		return failure(error, -EINVAL, "code: what is to be evaluated?");
	request->code_bytes = json_string_length(value);
	request->code = malloc(request->code_bytes + 1);
	if (!request->code)
		return failure(error, -ENOMEM, "out of memory");
	memcpy(request->code, json_string_value(value), request->code_bytes);
	request->code[request->code_bytes] = '\0';
	return 0;
}

/* A path, which is the program's to look at: so it is absolute. */
static int take_check(json_t *line, struct control_request *request, struct thaw_error *error)
{
	json_t *value = json_object_get(line, "check");
	const char *path = json_string_value(value);

	request->force = json_is_true(json_object_get(line, "force"));
	if (!value || request->command != CONTROL_UPGRADE)
		return 0;
	if (!path || path[0] != '/' || strlen(path) != json_string_length(value))
		return failure(error, -EINVAL, "check: the absolute path of a file is wanted");
	request->check = strdup(path);
	return request->check ? 0 : failure(error, -ENOMEM, "out of memory");
}

static int needs(const struct control_request *request, struct thaw_error *error)
{
	bool name = request->command == CONTROL_TAG || request->command == CONTROL_UNTAG;

	if (name && !request->name[0])
		return failure(error, -EINVAL, "name: which?");
	if (request->command == CONTROL_ROLLBACK && !request->generation[0])
		return failure(error, -EINVAL, "generation: back to which?");
	return 0;
}

static int take(json_t *line, struct control_request *request, struct thaw_error *error)
{
	int code;

	if (!json_is_object(line))
		return failure(error, -EINVAL, "a line is an object: {\"command\":\"status\"}");
	code = take_command(json_string_value(json_object_get(line, "command")), &request->command,
			    error);
	if (!code)
		code = take_text(line, "image", request->image, sizeof(request->image), error);
	if (!code)
		code = take_text(line, "name", request->name, sizeof(request->name), error);
	if (!code)
		code = take_generation(line, request->generation, error);
	if (!code)
		code = take_timeout(line, &request->timeout_ns, error);
	if (!code)
		code = take_code(line, request, error);
	if (!code)
		code = take_check(line, request, error);
	request->move = json_is_true(json_object_get(line, "move"));
	return code ? code : needs(request, error);
}

struct control_request *control_request_parse(const char *line, size_t bytes,
					      struct thaw_error *error)
{
	struct control_request *request = calloc(1, sizeof(*request));
	json_error_t why;
	json_t *parsed;
	int code;

	*error = (struct thaw_error){0};
	if (!request) {
		failure(error, -ENOMEM, "out of memory");
		return NULL;
	}
	parsed = json_loadb(line, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
	code = parsed ? take(parsed, request, error)
		      : failure(error, -EINVAL, "that is no line of JSON: %s", why.text);
	json_decref(parsed);
	if (!code)
		return request;
	control_request_free(request);
	return NULL;
}

void control_request_free(struct control_request *request)
{
	if (!request)
		return;
	free(request->code);
	free(request->check);
	free(request->answer);
	free(request);
}
