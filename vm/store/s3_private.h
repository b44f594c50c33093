/* SPDX-License-Identifier: MIT */
/*
 * s3_private.h - what the files of the S3 client share.
 *
 *	s3.c		the thread: which requests wait, rest or are under way
 *	s3_url.c	where a place is: URLs
 *	s3_try.c	one try of a request, as libcurl makes it
 *	s3_answer.c	what an answer means: the end of a request, or another try
 *	s3_xml.c	XML of errors and lists
 *	s3_wait.c	calls that wait
 *	s3_hash.c	SHA-256
 *
 * All but s3_start(), s3_stop(), s3_cancel(), s3_count() and what waits runs on the store's thread.
 */
#ifndef VM_STORE_S3_PRIVATE_H
#define VM_STORE_S3_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "base/text_buffer.h"
#include "store/credentials.h"
#include "store/libcurl.h"
#include "store/s3.h"

#define KEY_MOST 512u
#define NONCE_NAME "thaw-put"
/* Of an error, or of a thousand names. */
#define BODY_MOST (8u << 20)
#define PATIENCE_ODD 5u /* tries, if what answers does not speak HTTP */

/* ---- Where: s3_url.c */

struct s3_url {
	char *bucket, *prefix; /* the prefix without a '/' at its end; "" for none */
	char *base; /* what URLs begin with: scheme, host, and the bucket if it is in the path; no '/' at the end */
	char *name; /* for people */
	char *region;
	bool aws;   /* AWS's own endpoint, whose name depends on the region */
	bool named; /* its host is to be looked up */
	bool clear; /* not TLS: what is put is signed */
	enum addressing addressing;
};
int s3_url_read(struct s3_url *place, const char *url, const struct store_config *config,
		struct thaw_error *error);
/* The server says that the bucket is in another region. False: no memory, or no such name. */
bool s3_url_move(struct s3_url *place, const char *region);
void s3_url_free(struct s3_url *place);
/* Of those characters, and without empty parts, "." and "..". */
bool s3_key_is_safe(const char *key, size_t most);

/* ---- What came: s3_try.c fills it, s3_answer.c reads it */

struct answer {
	long status;
	bool headed; /* all of its head has come: libcurl does not mind if it ends there */
	char etag[S3_ETAG];
	bool has_range;
	uint64_t first, total;	  /* Content-Range; total UINT64_MAX: not said */
	uint64_t bytes;		  /* Content-Length; UINT64_MAX: not said */
	uint64_t passed;	  /* bytes of the body that were wanted by nobody, so far */
	unsigned retry_after;	  /* seconds */
	char region[64];	  /* x-amz-bucket-region */
	struct text_buffer pairs; /* name\1value\1 ... */
	struct text_buffer body;  /* of an error or a list */
	bool too_much;		  /* that was longer than BODY_MOST */
	bool changed;		  /* the object is another one than that of the first part */
	bool misplaced;		  /* other bytes than those that were wanted */
};

/* ---- XML: s3_xml.c */

struct error_body {
	char code[64], message[200], region[64];
	uint64_t object_bytes; /* UINT64_MAX: not said */
};
/* Whatever can be read of it; texts are empty if it is none. */
void xml_error(const char *text, size_t bytes, struct error_body *error);
struct listed {
	struct s3_object *objects; /* keys as the server has them, not below the prefix */
	size_t count, room;
	char *token; /* where the next part begins; NULL: there is none */
};
/* Adds a part. False: it is none, or no memory (*no_memory). */
bool xml_list(const char *text, size_t bytes, struct listed *listed, bool *no_memory);
void listed_free(struct listed *listed);

/* ---- One request: s3_try.c */

enum where { WHERE_WAITS, WHERE_RESTS, WHERE_FLIES };

struct s3_try {
	TAILQ_ENTRY(s3_try) link;
	struct s3 *s3;
	struct s3_request *request;
	enum where where;
	CURL *easy;
	struct curl_slist *headers;
	unsigned number; /* of tries, of what is asked for now */
	unsigned odd;	 /* of these, answers that were not HTTP */
	uint64_t due_ns; /* resting: until when */
	uint64_t
		failing_ns; /* when the first of the tries began that failed in a row; 0: none has */
	bool troubled;	    /* that is long ago */
	uint64_t begun_ns, moved_ns; /* when the try began, and when the last byte went */
	int64_t up;		     /* what libcurl has handed to the kernel */
	int unsent;		     /* of that, what the kernel still had */
	bool asks_whose;	     /* a HEAD after a PUT that found something */
	bool asks_why;		     /* a GET after a HEAD that was refused: that has a text */
	bool warms;		     /* s3_warm() */
	bool sends;		     /* PUT: a part of the body has gone out */
	bool maybe_stored;	     /* PUT: an earlier try may have succeeded */
	bool renewed;		     /* other credentials have been found for it */
	unsigned credentials;	     /* which of them were used */
	unsigned region;	     /* which of them was asked, of those that servers have named */
	unsigned redirected;	     /* how often it was sent to another one */
	char detail[CURL_ERROR_SIZE]; /* libcurl's */
	struct thaw_error reason;     /* why there has to be another try */
	char nonce[33];
	char etag[S3_ETAG]; /* GET: of what came in earlier tries */
	size_t got;
	struct iovec const *piece; /* PUT: what comes next */
	size_t piece_done;
	struct listed listed;
	struct answer answer;
};
/* Sets easy up for the next try of it. -ENOMEM. */
int try_begin(struct s3_try *try, CURL *easy);
/* Once it no longer flies: how much of the body has come is kept, what the answer holds is dropped by try_drop(). */
void try_end(struct s3_try *try);
void try_drop(struct s3_try *try);
/* Have bytes moved in the kernel that libcurl knows nothing of? */
bool try_moves(struct s3_try *try);

/* ---- What it means: s3_answer.c */

enum verdict {
	VERDICT_ENDS,  /* request->code and error say how */
	VERDICT_LATER, /* another try after a rest; reason says why */
	VERDICT_ON,    /* what comes next of the same request, at once */
};
/* `easy` is not reset yet; try->reason is filled where there is to be another. */
enum verdict try_judge(struct s3_try *try, CURLcode result);
/* No byte for too long: as if the connection had been cut. */
void try_stalled(struct s3_try *try);
/* The request's end: its code, and a line "WHERE: ...". */
void try_fail(struct s3_try *try, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Reads them anew, unless that was so short ago. True: they are others. */
bool credentials_renew(struct s3 *s3, uint64_t pause_ns);

/* SHA-256, as 64 hexadecimal digits. Any thread. */
void s3_hash(const struct iovec *pieces, unsigned count, char *hex);
/* Fills code and error if the request is wrong; what is put is hashed, if it is to be signed. */
int s3_request_check(const struct s3 *s3, struct s3_request *request);

/* ---- The store: s3.c */

TAILQ_HEAD(tries, s3_try);

struct s3 {
	struct s3_url place;
	struct s3_settings settings;
	struct credentials credentials;
	unsigned region_number;	     /* how often the place has moved */
	unsigned credentials_number; /* of those */
	uint64_t credentials_ns;     /* when they were read; monotonic */
	char *ca_bundle;
	CURLM *multi;
	pthread_t thread;

	const char *name; /* place.name: it does not change */
	bool signs_bodies;

	pthread_mutex_t lock;
	pthread_cond_t ended;		  /* somebody who waits may have got what he waits for */
	struct s3_request *first, **last; /* yet to be taken over by the thread */
	unsigned waiters;
	unsigned warm; /* connections that somebody wants */
	bool stops;    /* somebody has called s3_stop() */
	bool closes;
	atomic_bool cancelled; /* changed with the lock */

	/* Of the thread alone. */
	struct tries urgent, waiting, resting, flying;
	unsigned under_way, under_way_urgent; /* the first without the second */
	unsigned warming;		      /* and besides them */
	int *sockets; /* of its connections, whether they are in use or kept */
	unsigned connections, sockets_most;
	uint64_t look_ns; /* when the next of them may be due */
	CURL **spare;
	unsigned spares;
	unsigned troubled; /* requests that fail for long */
	bool told;	   /* that there are some */

	_Atomic uint64_t begun, tried_again, sent, received, failing_since_ns;
};

#endif
