/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * server.h - a small object store for tests: a part of S3's protocol by libmicrohttpd, objects as files of one directory, signatures
 * (SigV4) and hashes of bodies checked, and failures on purpose.
 *
 *	client -> wire.c -> answer.c (signature.c, objects.c)
 *	test   -> control.c
 *
 * wire.c forwards bytes of connections, and cuts or holds them after as many as it is told; or is not there at all. control.c, on
 * a port of its own, takes what a test wants, and tells what came. Each connection has a thread.
 */
#ifndef STORE_SERVER_H
#define STORE_SERVER_H

#include <microhttpd.h>
#include <sodium.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEY_ID "thaw-test"
#define KEY_SECRET "thaw/test+secret"

/* ---- Objects: objects.c */

struct object {
	char *name; /* bucket/key */
	uint64_t bytes, time_ns;
	char etag[40];
	char *pairs; /* "x-amz-meta-NAME: VALUE\n" ... */
};
/* Reads what is in the directory. */
void objects_load(const char *directory);
/* A file for a body that comes; its name is temporary. Ends the program if there is none. */
int object_file(char *path, size_t room);
/* 0, 412, 404: what S3 answers. Takes the file over, or removes it. */
int object_put(const char *name, const char *path, const struct object *facts, bool only_new,
	       const char *if_match, char *etag);
/* A descriptor of the body, and a copy of the facts (object_free). -1: there is none. */
int object_open(const char *name, struct object *facts);
void object_free(struct object *facts);
bool object_delete(const char *name);
/* Copies of those behind `after`, at most so many. *more: there are others. */
size_t objects_list(const char *prefix, const char *after, size_t most, struct object *found,
		    bool *more);

/* ---- Requests */

struct request {
	char *raw; /* path and query as they came */
	struct MHD_Connection *connection;
	const char *method;
	char path[2100]; /* decoded, without the first '/': bucket/key */
	char bucket[64];
	const char *key; /* in `path`; "": the bucket itself */
	bool begun;
	unsigned number; /* in the log */
	int fd;
	char file[512];
	uint64_t bytes;
	crypto_hash_sha256_state hash;
	char sha256[65];
};
/* %XX. False: it is not well-formed, or too long. */
bool url_decode(const char *text, size_t bytes, char *to, size_t room);
/* Of a parameter of the query. NULL: it is not there; "": without a value. Freed by the caller. */
char *query_value(const struct request *request, const char *name);
const char *header_of(const struct request *request, const char *name);

/* signature.c: NULL, or S3's Code for what is wrong; *status. */
const char *signature_check(const struct request *request, unsigned *status);

/* ---- answer.c */

struct MHD_Daemon *serve(bool tls, uint16_t *port);

/* ---- Failures, and the log: control.c */

enum fault_kind { FAULT_NONE, FAULT_ANSWER, FAULT_DELAY, FAULT_HOLD, FAULT_LOSE };
struct fault {
	enum fault_kind kind;
	char verb[8], key[256]; /* "": any; else what is in it */
	unsigned skip, count;	/* how many are passed over first, and how many it is for */
	unsigned status, retry_after, ms;
	char code[64];
	bool after; /* it is done first */
};
struct MHD_Daemon *control(uint16_t *port);
/* Notes that one has come, and returns its number, from 0. */
unsigned log_begin(const struct request *request);
void log_end(unsigned number, unsigned status, uint64_t first, uint64_t bytes);
/* What is to be done with this one. */
struct fault fault_for(const struct request *request);
/* Until it is released. */
void fault_hold(void);
/* "": whichever; else the only session token that has not expired. */
bool token_is_good(const char *token);
/* The only one that requests may be signed for; "": whichever. Into `room` bytes. */
void region_wanted(char *region, size_t room);
void bucket_is(const char *name);
bool bucket_exists(const char *name);

/* ---- wire.c */

/* `address`: "127.0.0.1" */
void wire_begin(const char *address, uint16_t port, uint16_t inner, uint16_t *got);
/* After `after` bytes in that direction, from the next one on: cut it, or let it hang. */
void wire_fault(bool response, uint64_t after, bool hang, unsigned count);
/* Of requests, each connection forwards so many bytes, and then rests for 25 ms. 0: it does not. */
void wire_slow(size_t bytes);
void wire_clear(void);
bool wire_is_armed(void);
void wire_gone(bool gone);

__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);

#endif
