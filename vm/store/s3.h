/* SPDX-License-Identifier: MIT */
/*
 * s3.h - an object store that speaks S3's protocol (AWS, MinIO, Ceph, R2, Garage), by libcurl.
 *
 * A store is one place, s3://BUCKET/PREFIX, and one thread that has a number of requests under way at once, on connections that
 * stay. Requests are begun by any thread (s3_start), and end by their done(), on that thread; or one waits for them
 * (s3_do, s3_get ...). What can go away by itself is tried again until the request's deadline, or for ever: no connection, no
 * answer, half an answer, 500, 502, 503, 504, 429, expired credentials. Everything else ends a request at once.
 *
 * After fork() a child may do nothing with a store. Where a function takes an error, that becomes one line: what, where (without
 * secrets), why, what to do.
 */
#ifndef VM_STORE_S3_H
#define VM_STORE_S3_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "thaw.h"

struct s3;

/* 0 and NULL: what is said behind it. */
struct s3_settings {
	/* Under way at once: 16; half as many more if they are urgent. */
	unsigned requests;
	/* The most that a connection takes until it can be used: 10 s. */
	uint64_t connect_ns;
	/* Without a byte for so long, a request is begun again: 20 s; or THAW_STORE_STALL=DURATION in the environment. */
	uint64_t stall_ns;
	/* The wait before a second try is random, at most so long: 100 ms; doubled each time, up to the other: 10 s. */
	uint64_t back_off_ns, back_off_most_ns;
	/*
	 * The store fails: a request has been tried again and again for trouble_ns (2 s), with the reason; NULL: there is none of
	 * that kind any more, and one has succeeded since. On the store's thread, between done()s. What it does is done
	 * in no time.
	 */
	void (*trouble)(void *arg, const struct thaw_error *reason);
	void *arg;
	uint64_t trouble_ns;
};

/*
 * Reads `place` ("s3://BUCKET/PREFIX", the prefix may be empty), the environment and AWS's files (credentials.h), loads libcurl
 * and libexpat, and begins the thread. Asks nothing of the store. -EINVAL: no such place, or a file that is not understood;
 * -EACCES: there are no credentials; -ENOENT: a library is not installed.
 */
int s3_open(const char *place, const struct s3_settings *settings, struct s3 **s3,
	    struct thaw_error *error);
/* "s3://BUCKET/PREFIX at https://HOST", for people. As long as the store is open. */
const char *s3_place(const struct s3 *s3);
/* Every request, under way or yet to be begun, ends with -ECANCELED, at once. Any thread, any number of times, not a signal handler. */
void s3_cancel(struct s3 *s3);
/*
 * Cancels, and waits until the last done() has returned; nothing is called afterwards. Not from a done(). NULL is allowed. What
 * requests own stays, until s3_release().
 */
void s3_close(struct s3 *s3);

/*
 * Opens connections, as many of `count` as there are not yet, by asking for nothing (HEAD of the bucket) on each at once: what
 * comes next waits for no handshake. Does not wait, and tells nothing.
 */
void s3_warm(struct s3 *s3, unsigned count);

/* What has gone over the wire since s3_open(). Any thread. */
struct s3_counts {
	uint64_t begun;		 /* requests that went out, each try of one counted */
	uint64_t tried_again;	 /* of these, those that were not the first try */
	uint64_t sent, received; /* bytes of bodies */
	/* Monotonic clock: since when requests are tried again and none has succeeded; 0: all is well. */
	uint64_t failing_since_ns;
};
void s3_count(const struct s3 *s3, struct s3_counts *counts);

/* ---- Requests */

enum s3_verb {
	S3_GET,	   /* a part of an object, into `into` */
	S3_PUT,	   /* an object, of `pieces` */
	S3_HEAD,   /* how large an object is, and its metadata */
	S3_DELETE, /* succeeds if there was none */
	S3_LIST,   /* names of objects, in the order of their bytes */
};

enum s3_flags {
	/* PUT: only if there is none of that name (If-None-Match: *). */
	S3_NEW = 1,
	/* GET: the last `length` bytes of the object, or all of it if it is shorter. `offset` becomes where they are. */
	S3_LAST = 2,
	/* GET: the object may end before offset + length, though not before `offset`, or be empty: see `got`. */
	S3_AT_MOST = 4,
	/* Before all others that wait, and when as many are under way as may be, besides them. */
	S3_URGENT = 8,
};

#define S3_PAIRS 4u
struct s3_pair { /* metadata of an object: x-amz-meta-NAME: VALUE */
	const char *
		name; /* a-z, 0-9 and -; none is the beginning of another; "thaw-put" is the store's own */
	const char *value; /* printable ASCII, no space at its ends, and no two together */
};

struct s3_object { /* what a list has */
	char *key; /* below the store's prefix; ends in '/': there are objects below it (S3_LIST's `folders`) */
	uint64_t bytes;
	uint64_t time_ns; /* when it was stored, by the server's clock; CLOCK_REALTIME */
};

/* The store's part of a request. */
struct s3_private {
	struct s3_request *next; /* of those that are to be begun */
	struct s3_try *try;
	char *pairs; /* name 0 value 0 ... 0 */
	bool stop, waited_for, ended;
	char sha256[65]; /* of what is put; "": not signed */
};

#define S3_ETAG 72 /* room for one, with its quotes; a longer one is taken for none */

/*
 * The caller's, zeroed first, which stays where it is, with all that it points to, until its done() is called: from then on it
 * is the caller's again, who may free it or start it anew in done().
 */
struct s3_request {
	/* ---- What is wanted */
	enum s3_verb verb;
	unsigned flags;
	/*
	 * Below the store's prefix: A-Z, a-z, 0-9, '-', '_', '.' and '/', at most 512 bytes, no empty part, no "." or "..".
	 * S3_LIST: what the names begin with; "" for all.
	 */
	const char *key;
	uint64_t deadline_ns; /* monotonic clock: when -ETIMEDOUT ends it; 0: never */
	void (*done)(struct s3_request *request);
	void *arg; /* the caller's */

	/* GET; `into` has room for `length` bytes, at least 1 */
	uint64_t offset;
	size_t length;
	void *into;
	/* GET: only if the object there has this ETag; NULL: whatever is there */
	const char *if_match;

	/* PUT */
	const struct iovec *pieces;
	unsigned piece_count;
	struct s3_pair pairs[S3_PAIRS]; /* up to the first without a name */

	/* LIST */
	const char *
		after; /* the first name that is not wanted, below the prefix; NULL: from the beginning */
	size_t at_most; /* names; 0: all */
	bool folders;	/* one name for all that has the same up to the next '/' behind `key` */

	/* ---- What became of it */
	int code; /* 0, or see below */
	struct thaw_error error;
	unsigned tries; /* what was asked of the server for it, in all */
	/*
	 * PUT, when it failed: the store may have it all the same, or may have it yet (no answer came). Whoever wants
	 * to know for sure puts it again with S3_NEW.
	 */
	bool unsure;
	size_t got; /* GET: bytes in `into`, all that were wanted without S3_LAST and S3_AT_MOST */
	uint64_t object_bytes;	   /* GET, HEAD: of the whole object */
	char etag[S3_ETAG];	   /* GET, HEAD, PUT: "": it has none */
	uint64_t time_ns;	   /* GET, HEAD: when it was stored; 0: it was not said */
	struct s3_object *objects; /* LIST */
	size_t object_count;
	bool more; /* LIST: at_most ended it, and there are others */

	struct s3_private private;
};

/*
 * How requests end:
 *	0
 *	-EEXIST		PUT with S3_NEW: there is one, of somebody else. Whose it is, its metadata says: s3_pair()
 *	-ESTALE		GET with if_match: another one is there
 *	-ENOENT		there is no such object
 *	-ENODEV		there is no such bucket. (HEAD cannot tell, and says -ENOENT)
 *	-ERANGE		GET: the object ends before offset + length; object_bytes says where
 *	-EACCES		not with these credentials, or not by this clock; the text has the server's Code and Message
 *	-ENOTSUP	the store cannot do this (conditional puts, say)
 *	-EPROTO		what answers there does not speak S3's protocol, or TLS with a certificate that is not trusted
 *	-ETIMEDOUT	the deadline has passed; the text has what the last try failed with
 *	-ECANCELED	s3_cancel(), s3_stop() or s3_close()
 *	-EINVAL		the request itself is wrong: nothing was sent
 *	-ENOMEM
 *	-EIO		the store said something else
 *
 * A PUT whose answer was lost is tried again. Each carries a number of its own in its metadata, by which the store's answer
 * "there is one" is found to be an earlier try of the same request, and is success. A late copy of an earlier try may reach the
 * store after the request has ended: so put under one name with S3_NEW, or always the same. (There is no PUT with If-Match: what
 * is to be changed by one of several writers gets another name. Stores differ in it.)
 *
 * Credentials that have expired are read again, and the request goes on when there are new ones. A GET goes on where its
 * connection was cut, if the object is still the same.
 */

/* Begins one. What is wrong with it, it ends with, as with everything else: done() is always called, once, on the store's thread. */
void s3_start(struct s3 *s3, struct s3_request *request);
/*
 * Ends one with -ECANCELED, soon, unless it has ended otherwise. The caller knows that its done() has not returned yet, or
 * calls from there.
 */
void s3_stop(struct s3 *s3, struct s3_request *request);
/* Begins one and waits; `done` is not called. Returns its code; its text is also in `error`. Not from a done(). */
int s3_do(struct s3 *s3, struct s3_request *request, struct thaw_error *error);
/* HEAD, GET, and a PUT that ended with -EEXIST: the value of x-amz-meta-NAME. NULL: it has none. Until s3_release(). */
const char *s3_pair(const struct s3_request *request, const char *name);
/* Frees what a request that has ended owns (objects, pairs). Any number of times, also of one that was zeroed only. */
void s3_release(struct s3_request *request);

/* ---- Waiting for one: not from a done(). The deadline as above. */

/* All of an object, with a 0 behind it, into memory of malloc's. -EFBIG: it has more than `most` bytes. */
int s3_get(struct s3 *s3, const char *key, size_t most, uint64_t deadline_ns, void **bytes,
	   size_t *count, struct thaw_error *error);
int s3_put(struct s3 *s3, const char *key, const void *bytes, size_t count, unsigned flags,
	   uint64_t deadline_ns, struct thaw_error *error);
/* Of many, as many at once as the store may have under way. The first failure is told when all have ended. */
int s3_delete(struct s3 *s3, const char *const *keys, size_t count, uint64_t deadline_ns,
	      struct thaw_error *error);
/*
 * Does the store keep S3_NEW's promise? Puts an object of a random name that begins with `key` twice, and removes it. -ENOTSUP:
 * it does not: two writers would not notice each other.
 */
int s3_check_new(struct s3 *s3, const char *key, uint64_t deadline_ns, struct thaw_error *error);

#endif
