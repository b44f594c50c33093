/* SPDX-License-Identifier: MIT */
/*
 * jobs.c - snapshots to bytes and back on a thread of libuv's pool, while the event loop goes on: all of a large heap takes long. A job
 * has references of its own, and a copy of the bytes; its Promise is settled on the thread that asked.
 */
#include <stdlib.h>
#include <string.h>

#include "addon.h"

struct job {
	napi_async_work work;
	napi_deferred promise;
	struct thaw_vm_snapshot *snapshot, *base; /* NULL: none */
	bool opens;
	void *data; /* what is opened, or was made: malloc'ed */
	size_t bytes;
	uint64_t max_bytes;
	int code;
	struct thaw_error error;
};

/* Any thread. */
static void execute(napi_env env, void *data)
{
	struct job *job = data;

	(void)env;
	job->code = job->opens ? thaw_vm_snapshot_open(job->data, job->bytes, job->base,
						       job->max_bytes, &job->snapshot, &job->error)
			       : thaw_vm_snapshot_bytes(job->snapshot, job->base, &job->data,
							&job->bytes, &job->error);
}

static void job_free(napi_env env, struct job *job)
{
	if (job->work)
		napi_delete_async_work(env, job->work);
	thaw_vm_snapshot_drop(job->snapshot);
	thaw_vm_snapshot_drop(job->base);
	free(job->data);
	free(job);
}

static void complete(napi_env env, napi_status status, void *data)
{
	struct job *job = data;
	napi_value result = NULL;

	if (status == napi_ok && job->code) {
		result = failure_new(env, job->code, job->error.text, NULL);
		if (result)
			napi_reject_deferred(env, job->promise, result);
	} else if (status == napi_ok) {
		if (job->opens) {
			result = snapshot_object(env, job->snapshot);
			job->snapshot = NULL;
		} else {
			napi_create_buffer_copy(env, job->bytes, job->data, NULL, &result);
		}
		if (result)
			napi_resolve_deferred(env, job->promise, result);
		else if (!napi_get_and_clear_last_exception(env, &result))
			napi_reject_deferred(env, job->promise, result);
	}
	job_free(env, job);
}

/* Consumes the job. Returns the Promise. */
static napi_value begin(napi_env env, struct job *job)
{
	napi_value promise, name = text_new(env, "thaw-vm", 7);

	if (name && !napi_create_promise(env, &job->promise, &promise) &&
	    !napi_create_async_work(env, NULL, name, execute, complete, job, &job->work) &&
	    !napi_queue_async_work(env, job->work))
		return promise;
	job_free(env, job);
	napi_throw_error(env, "ENOMEM", "out of memory");
	return NULL;
}

/* With the snapshot that is the second argument, if it is one. NULL: an exception is pending. */
static struct job *job_new(napi_env env, napi_value base)
{
	struct thaw_vm_snapshot *held;
	struct job *job;

	if (!snapshot_or_none(env, base, &held))
		return NULL;
	job = calloc(1, sizeof(*job));
	if (!job)
		napi_throw_error(env, "ENOMEM", "out of memory");
	else
		job->base = thaw_vm_snapshot_hold(held);
	return job;
}

/* (snapshot, since or undefined): a Promise of a Buffer. */
napi_value addon_snapshot_bytes_later(napi_env env, napi_callback_info info)
{
	struct thaw_vm_snapshot *snapshot;
	napi_value arguments[2];
	size_t count = 2;
	struct job *job;

	napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
	snapshot = snapshot_inside(env, arguments[0]);
	job = snapshot ? job_new(env, arguments[1]) : NULL;
	if (!job)
		return NULL;
	job->snapshot = thaw_vm_snapshot_hold(snapshot);
	return begin(env, job);
}

/* (bytes, base or undefined, the most bytes of heap): a Promise of a snapshot. */
napi_value addon_snapshot_open_later(napi_env env, napi_callback_info info)
{
	napi_value arguments[3];
	size_t count = 3;
	struct job *job;
	void *data;

	napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
	job = job_new(env, arguments[1]);
	if (!job)
		return NULL;
	job->opens = true;
	job->max_bytes = (uint64_t)number_of(env, arguments[2]);
	if (!napi_get_buffer_info(env, arguments[0], &data, &job->bytes))
		job->data = malloc(job->bytes ? job->bytes : 1);
	if (!job->data) {
		job_free(env, job);
		napi_throw_error(env, "ENOMEM", "out of memory");
		return NULL;
	}
	memcpy(job->data, data, job->bytes);
	return begin(env, job);
}
