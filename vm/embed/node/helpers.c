/* SPDX-License-Identifier: MIT */
/*
 * helpers.c - values that are made in every file of this folder, and what index.js is asked. NULL: an exception of JavaScript is
 * pending, or it can run no more.
 */
#include <string.h>

#include "addon.h"

napi_value helper_call(napi_env env, enum helper which, size_t count, const napi_value *arguments)
{
	napi_value function, undefined, result = NULL;
	struct instance *instance;

	if (napi_get_instance_data(env, (void **)&instance) || !instance ||
	    napi_get_reference_value(env, instance->helpers[which], &function) ||
	    napi_get_undefined(env, &undefined) ||
	    napi_call_function(env, undefined, function, count, arguments, &result))
		return NULL;
	return result;
}

napi_value number_new(napi_env env, double number)
{
	napi_value value;

	return napi_create_double(env, number, &value) ? NULL : value;
}

napi_value text_new(napi_env env, const char *text, size_t bytes)
{
	napi_value value;

	return napi_create_string_utf8(env, text, bytes, &value) ? NULL : value;
}

napi_value failure_new(napi_env env, int code, const char *text, napi_value thrown)
{
	napi_value arguments[4];

	arguments[0] = number_new(env, code);
	arguments[1] = text_new(env, text, strlen(text));
	if (thrown)
		arguments[2] = thrown;
	else
		napi_get_undefined(env, &arguments[2]);
	napi_get_boolean(env, thrown != NULL, &arguments[3]);
	return helper_call(env, HELPER_FAILURE, 4, arguments);
}

napi_value throw_failure(napi_env env, int code, const char *text, napi_value thrown)
{
	napi_value error = failure_new(env, code, text, thrown);

	if (error)
		napi_throw(env, error);
	return NULL;
}

double number_of(napi_env env, napi_value value)
{
	double number = 0;

	napi_get_value_double(env, value, &number);
	return number;
}

napi_value undefined_value(napi_env env)
{
	napi_value value = NULL;

	napi_get_undefined(env, &value);
	return value;
}
