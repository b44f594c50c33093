/* SPDX-License-Identifier: MIT */
/*
 * snapshots.c - snapshots for index.js: objects that hold a reference each, as bytes, and by a number to other threads.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "addon.h"

struct thaw_vm_snapshot *snapshot_inside(napi_env env, napi_value value)
{
	struct thaw_vm_snapshot **snapshot = NULL;

	if (napi_unwrap(env, value, (void **)&snapshot) || !snapshot || !*snapshot) {
		throw_failure(env, -EBADF, "the snapshot is disposed", NULL);
		return NULL;
	}
	return *snapshot;
}

bool snapshot_or_none(napi_env env, napi_value value, struct thaw_vm_snapshot **snapshot)
{
	napi_valuetype type;

	*snapshot = NULL;
	napi_typeof(env, value, &type);
	return type == napi_undefined || (*snapshot = snapshot_inside(env, value));
}

static void snapshot_finalize(napi_env env, void *data, void *hint)
{
	struct thaw_vm_snapshot **snapshot = data;

	(void)env, (void)hint;
	thaw_vm_snapshot_drop(*snapshot);
	free(snapshot);
}

napi_value snapshot_object(napi_env env, struct thaw_vm_snapshot *snapshot)
{
	struct thaw_vm_snapshot **box = malloc(sizeof(*box));
	napi_value object;

	if (box)
		*box = snapshot;
	if (box && !napi_create_object(env, &object) &&
	    !napi_wrap(env, object, box, snapshot_finalize, NULL, NULL))
		return object;
	thaw_vm_snapshot_drop(snapshot);
	free(box);
	napi_throw_error(env, "ENOMEM", "out of memory");
	return NULL;
}

static napi_value fail(napi_env env, int code, const struct thaw_error *error)
{
	return throw_failure(env, code, error->text, NULL);
}

/* (snapshot): 32 hexadecimal digits. */
napi_value addon_snapshot_id(napi_env env, napi_callback_info info)
{
	struct thaw_vm_snapshot *snapshot;
	struct thaw_error error = {0};
	napi_value argument;
	size_t count = 1;
	uint8_t id[16];
	char text[33];
	int code;

	napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
	snapshot = snapshot_inside(env, argument);
	if (!snapshot)
		return NULL;
	code = thaw_vm_snapshot_id(snapshot, id, &error);
	if (code)
		return fail(env, code, &error);
	for (unsigned i = 0; i < 16; i++)
		snprintf(text + 2 * i, 3, "%02x", id[i]);
	return text_new(env, text, 32);
}

/* (snapshot, since or undefined): a Buffer. */
napi_value addon_snapshot_bytes(napi_env env, napi_callback_info info)
{
	struct thaw_vm_snapshot *snapshot, *since;
	napi_value arguments[2], result = NULL;
	struct thaw_error error = {0};
	size_t count = 2, bytes;
	void *data;
	int code;

	napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
	snapshot = snapshot_inside(env, arguments[0]);
	if (!snapshot || !snapshot_or_none(env, arguments[1], &since))
		return NULL;
	code = thaw_vm_snapshot_bytes(snapshot, since, &data, &bytes, &error);
	if (code)
		return fail(env, code, &error);
	napi_create_buffer_copy(env, bytes, data, NULL, &result);
	free(data);
	return result;
}

/* (bytes, base or undefined, the most bytes of heap): a snapshot. */
napi_value addon_snapshot_open(napi_env env, napi_callback_info info)
{
	struct thaw_vm_snapshot *base, *snapshot;
	struct thaw_error error = {0};
	napi_value arguments[3];
	size_t count = 3, bytes;
	void *data;
	int code;

	napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
	if (!snapshot_or_none(env, arguments[1], &base))
		return NULL;
	if (napi_get_buffer_info(env, arguments[0], &data, &bytes)) {
		napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", "bytes must be a Uint8Array");
		return NULL;
	}
	code = thaw_vm_snapshot_open(data, bytes, base, (uint64_t)number_of(env, arguments[2]),
				     &snapshot, &error);
	return code ? fail(env, code, &error) : snapshot_object(env, snapshot);
}

napi_value addon_snapshot_drop(napi_env env, napi_callback_info info)
{
	struct thaw_vm_snapshot **box = NULL;
	napi_value argument;
	size_t count = 1;

	napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
	if (!napi_unwrap(env, argument, (void **)&box) && box) {
		thaw_vm_snapshot_drop(*box);
		*box = NULL;
	}
	return undefined_value(env);
}

/* (snapshot): a number, for receive() in any thread, once. */
napi_value addon_snapshot_send(napi_env env, napi_callback_info info)
{
	struct thaw_vm_snapshot *snapshot;
	napi_value argument;
	size_t count = 1;
	uint64_t id;

	napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
	snapshot = snapshot_inside(env, argument);
	if (!snapshot)
		return NULL;
	id = registry_send(thaw_vm_snapshot_hold(snapshot));
	if (id)
		return number_new(env, (double)id);
	thaw_vm_snapshot_drop(snapshot);
	napi_throw_error(env, "ENOMEM", "out of memory");
	return NULL;
}

napi_value addon_snapshot_receive(napi_env env, napi_callback_info info)
{
	struct thaw_vm_snapshot *snapshot;
	napi_value argument;
	size_t count = 1;

	napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
	snapshot = registry_receive((uint64_t)number_of(env, argument));
	return snapshot ? snapshot_object(env, snapshot)
			: throw_failure(env, -ENOENT,
					"no snapshot was sent by this number, or it is received",
					NULL);
}
