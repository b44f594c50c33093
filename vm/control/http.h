/* SPDX-License-Identifier: MIT */
/*
 * http.h - metrics over HTTP, for Prometheus and its like: GET /metrics, on the loopback interface or a Unix socket, by
 * libmicrohttpd. The thread of its owner, which waits for http_fd() and until http_due_ns().
 */
#ifndef VM_CONTROL_HTTP_H
#define VM_CONTROL_HTTP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "thaw.h"

struct http;

/*
 * Listen at "127.0.0.1:PORT", "[::1]:PORT" or "unix:PATH". -EINVAL: that is none of these; -ENOENT: libmicrohttpd is not installed; -errno.
 * `write` is called for each answer.
 */
int http_open(const char *where, struct http **http, struct thaw_error *error);
void http_answer_with(struct http *http, void (*write)(void *arg, FILE *to), void *arg);
/* Where it is reached, for people: with the port that it got for 0. */
const char *http_address(const struct http *http);
int http_fd(const struct http *http);
/* Monotonic clock; UINT64_MAX: never. */
uint64_t http_due_ns(const struct http *http);
/* Somebody waits for whom there is nothing yet: http_fd() says so all the time, and is not to be looked at until then. */
bool http_rests(const struct http *http);
void http_serve(struct http *http);
/* NULL is allowed. */
void http_close(struct http *http);

#endif
