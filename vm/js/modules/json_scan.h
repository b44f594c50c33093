/* SPDX-License-Identifier: MIT */
/*
 * json_scan.h - the part of JSON that package.json needs: find a member, read a string, go through
 * a container. It builds no tree and allocates only strings.
 */
#ifndef VM_JS_JSON_SCAN_H
#define VM_JS_JSON_SCAN_H

#include <stdbool.h>

/*
 * All take and return pointers into one terminated text. NULL: there is none, or the text is not
 * JSON.
 */
const char *json_value(const char *at);	 /* the first byte of the value at or behind `at` */
const char *json_behind(const char *at); /* the byte behind the value at `at` */
char *json_decoded(const char *at);	 /* decoded, malloc'ed, if it is a string */
const char *json_member(const char *object, const char *key);

/*
 * Walk an object or an array: json_first, then json_next until NULL. In an object `key`
 * (malloc'ed) comes along.
 */
const char *json_first(const char *container, char **key);
const char *json_next(const char *item, bool object, char **key);

#endif
