// SPDX-License-Identifier: GPL-2.0-only
/*
 * s3_storm.c - many requests at once while all kinds of failures come at random: none is lost, none is done twice, none is taken for
 * somebody else's, and what is got is what was put. THAW_SEED=NUMBER repeats the failures; THAW_STORM=REQUESTS makes more of them.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <errno.h>
#include <semaphore.h>
#include <sys/random.h>

#include "base/clock.h"
#include "store/s3.h"
#include "store_server.h"

#define AT_ONCE 12u
#define BODY_MOST 40000u

static uint64_t state;

static uint64_t next(uint64_t below)
{
	uint64_t z = state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (z ^ z >> 31) % below;
}

/* Of object `number`: its length, and bytes. */
static size_t body_of(unsigned number, uint32_t *bytes)
{
	size_t length = number % 7 ? number * 2654435761u % 2000 : number * 40503u % BODY_MOST;

	for (unsigned i = 0; i <= length / 4; i++)
		bytes[i] = (number + 1) * 2246822519u + i * 3266489917u;
	return length + 1;
}

struct job {
	struct s3_request request;
	struct iovec piece;
	char key[24];
	uint32_t bytes[BODY_MOST / 4 + 2], into[BODY_MOST / 4 + 2];
	unsigned number;
	bool busy;
};

static struct job jobs[AT_ONCE];
static sem_t ended;

static void note_end(struct s3_request *request)
{
	struct job *job = request->arg;

	__atomic_store_n(&job->busy, false, __ATOMIC_RELEASE);
	sem_post(&ended);
}

static void fail_somehow(const struct store_server *server)
{
	static const char *const verbs[] = {"", "PUT", "GET", "HEAD"};
	const char *verb = verbs[next(4)];
	unsigned few = (unsigned)next(3) + 1;

	switch (next(10)) {
	case 0:
		store_server_order(server, "/wire?direction=response&after=%u&action=cut&count=%u",
				   (unsigned)next(600), few);
		break;
	case 1:
		store_server_order(server, "/wire?direction=request&after=%u&action=cut&count=%u",
				   (unsigned)next(2000), few);
		break;
	case 2:
		store_server_order(server, "/wire?direction=response&after=%u&action=hang",
				   (unsigned)next(600));
		break;
	case 3:
		store_server_order(server, "/fault?kind=answer&status=503&code=SlowDown&count=%u",
				   few);
		break;
	case 4:
		store_server_order(server, "/fault?kind=answer&status=500&after=1&verb=%s&count=%u",
				   verb, few);
		break;
	case 5:
		store_server_order(server, "/fault?kind=lose&after=%u&verb=%s&count=%u",
				   (unsigned)next(2), verb, few);
		break;
	case 6:
		store_server_order(server, "/fault?kind=delay&ms=%u&count=%u", (unsigned)next(30),
				   few);
		break;
	case 7:
		store_server_order(server, "/gone");
		support_sleep((double)next(20) / 1000);
		store_server_order(server, "/back");
		break;
	case 8:
		store_server_order(server, "/fault?kind=hold&after=%u", (unsigned)next(2));
		break;
	default:
		store_server_order(server, "/clear");
	}
}

static void begin(struct s3 *s3, struct job *job, enum s3_verb verb, unsigned number)
{
	size_t length = body_of(number, job->bytes);

	snprintf(job->key, sizeof(job->key), "o/%u", number);
	job->number = number;
	job->piece = (struct iovec){job->bytes, length};
	job->request = (struct s3_request){.verb = verb,
					   .key = job->key,
					   .flags = verb == S3_PUT ? S3_NEW
						    : number % 3   ? 0
						    : number % 2   ? S3_LAST
								   : S3_AT_MOST,
					   .pieces = &job->piece,
					   .piece_count = 1,
					   .into = job->into,
					   .length = length,
					   .done = note_end,
					   .arg = job};
	memset(job->into, 0, length);
	job->busy = true;
	s3_start(s3, &job->request);
}

/* False: something is wrong with it. */
static bool is_right(struct job *job)
{
	const struct s3_request *request = &job->request;
	bool right = !request->code;

	if (right && request->verb == S3_GET)
		right = request->got == job->piece.iov_len && !request->offset &&
			request->object_bytes == request->got &&
			!memcmp(job->bytes, job->into, request->got);
	if (!right)
		printf("# %s: %d %s\n", job->key, request->code, request->error.text);
	s3_release(&job->request);
	return right;
}

/* All of them, with failures in between; how many were wrong. */
static unsigned run(struct s3 *s3, const struct store_server *server, enum s3_verb verb,
		    unsigned count)
{
	unsigned begun = 0, wrong = 0, over = 0;

	while (over < count) {
		for (unsigned i = 0; i < AT_ONCE; i++) {
			struct job *job = &jobs[i];

			if (__atomic_load_n(&job->busy, __ATOMIC_ACQUIRE))
				continue;
			if (job->request.key) {
				wrong += !is_right(job);
				over++;
				job->request.key = NULL;
			}
			if (begun < count)
				begin(s3, job, verb, begun++);
		}
		if (server && !next(4))
			fail_somehow(server);
		if (over < count)
			while (sem_wait(&ended))
				;
	}
	return wrong;
}

TEST(nothing_is_lost_done_twice_or_mixed_up_in_a_storm)
{
	const char *seed = getenv("THAW_SEED"), *many = getenv("THAW_STORM");
	unsigned count = many ? (unsigned)strtoul(many, NULL, 0) : 250;
	const struct s3_settings settings = {.requests = 8,
					     .back_off_ns = 500000,
					     .back_off_most_ns = 20000000,
					     .stall_ns = 100000000};
	struct s3_request list = {.verb = S3_LIST, .key = "o/"};
	struct store_server server;
	struct thaw_error error;
	struct s3 *s3;

	if (getrandom(&state, sizeof(state), 0) != sizeof(state))
		support_die("getrandom");
	if (seed)
		state = strtoull(seed, NULL, 0);
	printf("# THAW_SEED=%#llx\n", (unsigned long long)state);
	sem_init(&ended, 0, 0);
	store_server_begin(&server);
	store_server_wire(
		&server); /* to a real store, which takes no other orders than those to the wire */
	STORE_SKIP_UNWIRED(&server);
	ASSERT_EQ(0, s3_open(server.place, &settings, &s3, &error));
	EXPECT_EQ(0, run(s3, &server, S3_PUT, count));
	EXPECT_EQ(0, run(s3, &server, S3_GET, count));
	store_server_order(&server, "/clear");
	EXPECT_EQ(0, run(s3, NULL, S3_GET, count));
	ASSERT_EQ(0, s3_do(s3, &list, &error));
	EXPECT_EQ(count, list.object_count);
	s3_release(&list);
	s3_close(s3);
	store_server_end(&server);
}

TEST_HARNESS_MAIN
