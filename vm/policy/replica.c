/* SPDX-License-Identifier: MIT */
/*
 * replica.c - the copy of the image in an object store (vm/store): when it begins, who waits for it, and what is said of it.
 *
 * Owns the image's mirror and the replication of it, whose threads do the work; here is the owner's thread, but for changed()
 * and runtime_replica(). With --durable remote a generation that is in the image is kept here until the store has it: nobody
 * is told of it before, and what it has of held output stays held. Must never let that go for a generation that the store may
 * not have, nor begin a program whose store was continued by another one.
 *
 *	in the image --replica_takes()--> awaited --acknowledged--> durable, told
 *			\--- the store does not answer: the next capture takes over what is held ---/
 *
 * While somebody waits and the store answers, the next generation is not begun: one store, one at a time, and all that comes
 * meanwhile goes with the next. While it does not answer, generations are made as without it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/numbers.h"
#include "internal.h"
#include "store/place.h"
#include "store/replicate.h"
#include "thaw_mirror.h"

/* A wait that is longer is told. */
#define TELL_NS 1000000000ull
/* Free blocks of the image that an upload may hold back from being used again. */
#define HOLD_BYTES (256ull << 20)

static struct runtime_store *store_of(const struct runtime *rt)
{
	return rt->options.store;
}

static bool is_remote(const struct runtime *rt)
{
	return rt->options.store && rt->options.store->durable;
}

static double seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}

static uint64_t newest_here(struct runtime *rt)
{
	struct thaw_status status;

	thaw_status(rt->heap, &status);
	return status.generation;
}

/* ---- Beginning */

/* Threads of the replication's. */
static void changed(void *arg)
{
	struct runtime *rt = arg;

	atomic_store(&rt->replica.changed, true);
	checkpoints_notify(rt);
}

int runtime_store_code(int code)
{
	return code == -EBUSY || code == -ESTALE ? THAW_EINUSE
	       : code == -EXDEV			 ? THAW_EFOREIGN
	       : code == -ENODEV		 ? -ENOENT
	       : code == -ENOTSUP		 ? THAW_EKERNEL
						 : code;
}

/* It answers, and waiting would change nothing: whoever starts the program mends that first. */
static bool is_refusal(int code)
{
	return code == -EACCES || code == -ENODEV || code == -ENOTSUP || code == -EPROTO;
}

int replica_look(struct runtime *rt, struct thaw_error *error)
{
	const struct runtime_store *store = store_of(rt);
	struct store_claim *claim = store && store->lives ? place_claim(store->lives) : NULL;
	/* It was taken over when the image was fetched: the first runtime of the process has that. */
	bool taken = claim && claim->sealed;
	struct replicate_options options;
	int code;

	if (!rt->options.image)
		return 0;
	if (!(store && store->lives) && place_is_incomplete(rt->options.image, error) > 0)
		return error->code = -ENOENT; /* the rest of it would be taken for damage */
	if (!store || store->over)
		return 0;
	options = (struct replicate_options){
		.place = store->place,
		.image = rt->options.image,
		.program = store->program,
		.flags = EPOCH_BEGIN | (store->replace ? EPOCH_REPLACE : 0),
		.connect_ns = store->wait_ns < TELL_NS ? store->wait_ns : TELL_NS,
		.interval_ns = store->every_ns,
		.s3 = taken ? place_store(store->lives) : NULL,
		.claim = taken ? claim : NULL,
		.changed = changed,
		.arg = rt,
	};
	rt->replica.place_tells = taken;
	code = replicate_open(&options, &rt->replica.replication, error);
	if (code == 1 && is_refusal(error->code))
		return runtime_store_code(error->code);
	if (code == 1 && !rt->options.quiet)
		fprintf(stderr, "thaw: %s; waiting for up to %.3g s (--store-timeout)\n",
			error->text, seconds(store->wait_ns));
	return code == 1 ? 0 : runtime_store_code(code);
}

/* Is the store ours? What may have been continued elsewhere does not begin, if that can be known. */
static int wait_for_seal(struct runtime *rt, struct thaw_error *error)
{
	struct replication_status *seen = rt->replica.seen;
	uint64_t until = clock_monotonic_ns() + store_of(rt)->wait_ns;

	for (;;) {
		replicate_status(rt->replica.replication, seen);
		if (seen->epoch) {
			store_of(rt)->replace = false;
			return 0;
		}
		if (seen->state == REPLICATION_FENCED || seen->state == REPLICATION_FAILED) {
			*error = seen->error;
			return runtime_store_code(error->code ? error->code : -EIO);
		}
		if (clock_monotonic_ns() >= until)
			break;
		streams_pause(rt);
	}
	if (is_remote(rt))
		return failure(
			error, -ETIMEDOUT,
			"%s does not answer: nothing could be durable there, so the program does not begin: %s",
			store_of(rt)->place, seen->error.text);
	rt->replica.trouble_ns = clock_monotonic_ns();
	if (!rt->options.quiet)
		fprintf(stderr,
			"thaw: %s: the program begins without its replica, which goes on once that succeeds\n",
			seen->error.text[0] ? seen->error.text : store_of(rt)->place);
	return 0;
}

/* What the program has done in the process before must be durable before it does more. */
static int wait_for_opened(struct runtime *rt, struct thaw_error *error)
{
	uint64_t generation = newest_here(rt), limit = store_of(rt)->outage_ns, from;
	int code;

	if (!is_remote(rt) || !rt->restored)
		return 0;
	from = clock_monotonic_ns();
	code = replicate_wait(rt->replica.replication, generation, from + TELL_NS, error);
	if (code == -ETIMEDOUT && !rt->options.quiet)
		fprintf(stderr, "thaw: %s gets generation %" PRIu64 " before the program goes on\n",
			store_of(rt)->place, generation);
	if (code == -ETIMEDOUT)
		code = replicate_wait(rt->replica.replication, generation, limit ? from + limit : 0,
				      error);
	if (!code)
		rt->replica.acknowledged = generation;
	return runtime_store_code(code);
}

int replica_open(struct runtime *rt, struct thaw_error *error)
{
	struct replica *own = &rt->replica;
	struct place_status status;
	int code;

	if (!own->replication)
		return 0;
	own->seen = calloc(1, sizeof(*own->seen));
	own->awaited = calloc(REPLICA_AWAITED, sizeof(*own->awaited));
	if (!own->seen || !own->awaited)
		return failure(error, -ENOMEM, "out of memory");
	if (store_of(rt)->lives) {
		place_interrupt(store_of(rt)->lives, false);
		place_status(store_of(rt)->lives, &status);
		/* Without a thread all comes when it is read. */
		if (!status.complete && !status.filling && place_fill(store_of(rt)->lives, error) &&
		    rt->options.verbose)
			fprintf(stderr, "thaw: %s\n", error->text);
	}
	code = thaw_mirror_open(rt->heap, HOLD_BYTES, &own->mirror, error);
	if (!code)
		code = runtime_store_code(replicate_start(own->replication, own->mirror, error));
	if (!code)
		code = wait_for_seal(rt, error);
	return code ? code : wait_for_opened(rt, error);
}

void replica_close(struct runtime *rt)
{
	struct replica *own = &rt->replica;

	/* What waits for a part of the image, in the heap or here, does not hold up its end. */
	if (store_of(rt) && store_of(rt)->lives)
		place_interrupt(store_of(rt)->lives, true);
	replicate_close(own->replication);
	thaw_mirror_close(own->mirror);
	free(own->seen);
	free(own->awaited);
	*own = (struct replica){0};
}

/* ---- Going on */

bool replica_awaits(const struct runtime *rt)
{
	return rt->replica.awaited_count;
}

bool replica_holds(const struct runtime *rt)
{
	const struct replica *own = &rt->replica;

	if (!own->awaited_count || own->trouble_ns || rt->ending.ended)
		return false;
	for (unsigned i = 0; i < own->awaited_count; i++)
		if (own->awaited[i].wanted)
			return true;
	return false;
}

uint64_t replica_due_ns(const struct runtime *rt)
{
	const struct replica *own = &rt->replica;

	return own->awaited_count && store_of(rt)->outage_ns && !own->ends
		       ? own->awaited[0].begun_ns + store_of(rt)->outage_ns
		       : 0;
}

void replica_capture(struct runtime *rt)
{
	struct replica *own = &rt->replica;
	struct durable *newest = own->awaited_count ? &own->awaited[own->awaited_count - 1] : NULL;

	if (!newest || !newest->output)
		return;
	newest->output = false;
	output_commit_settled(rt, -EAGAIN);
}

bool replica_takes(struct runtime *rt, const struct durable *durable)
{
	struct replica *own = &rt->replica;
	struct durable *newest;

	if (!own->seen || !is_remote(rt) || durable->result.generation.number <= own->acknowledged)
		return false;
	if (own->awaited_count == REPLICA_AWAITED) { /* the one that has them both decides */
		newest = &own->awaited[REPLICA_AWAITED - 1];
		newest->waiters = durable->waiters;
		newest->tickets = durable->tickets;
		newest->output |= durable->output;
		newest->wanted |= durable->wanted;
		newest->result = durable->result;
	} else {
		own->awaited[own->awaited_count++] = *durable;
	}
	return true;
}

/* The store has what is awaited, up to its newest. */
static void acknowledge(struct runtime *rt, uint64_t generation)
{
	struct replica *own = &rt->replica;
	uint64_t now = clock_monotonic_ns();

	own->acknowledged = generation;
	while (own->awaited_count && own->awaited[0].result.generation.number <= generation) {
		struct durable durable = own->awaited[0];

		memmove(own->awaited, own->awaited + 1,
			--own->awaited_count * sizeof(*own->awaited));
		durable.result.durable_ns = now - durable.begun_ns;
		if (rt->options.verbose && !durable.result.unchanged)
			owner_tell(rt, "thaw: generation %" PRIu64 ": in the store after %.3f ms\n",
				   durable.result.generation.number,
				   (double)durable.result.durable_ns / 1e6);
		checkpoints_durable(rt, &durable);
	}
}

/* What is in the image is what a next start goes on from; nothing of it was promised to anybody that the store has not. */
static void end_program(struct runtime *rt, int code)
{
	if (rt->ending.ended)
		return;
	rt->ending.crashed = true; /* nobody takes this for its own end */
	runtime_end(rt, code, false);
}

/* For ever. */
static void gone(struct runtime *rt)
{
	struct replica *own = &rt->replica;
	bool fenced = own->seen->state == REPLICATION_FENCED;

	if (own->ends)
		return;
	own->ends = true;
	store_of(rt)->over = !is_remote(rt);
	owner_tell(rt, "thaw: %s; %s\n", own->seen->error.text,
		   !is_remote(rt) && fenced ? "it goes on here"
		   : !is_remote(rt)	    ? "the program goes on without its replica"
		   : fenced		    ? "it ends here, and what it held back is dropped"
			    : "nothing can become durable any more: the program ends here");
	if (!is_remote(rt)) /* two of the same history: its effects are no longer the other one's */
		owner_branches_by(rt, own->seen->error.text, strlen(own->seen->error.text));
	else
		end_program(rt, fenced ? EXIT_IMAGE_IN_USE : EXIT_IO);
}

static void tell_outage(struct runtime *rt)
{
	struct replica *own = &rt->replica;
	const struct replication_status *seen = own->seen;
	bool out = seen->failing_since_ns || !seen->epoch;
	uint64_t now = clock_monotonic_ns();

	if (out && !own->trouble_ns) {
		own->trouble_ns = now;
		if (own->place_tells && !is_remote(rt))
			return;
		owner_tell(rt, "thaw: %s; %s\n", seen->error.text,
			   is_remote(rt)
				   ? "nothing is durable until the store answers; the program "
				     "goes on as far as it need not wait for that"
				   : "the program goes on, and the store gets what is new "
				     "once it answers");
	} else if (!out && own->trouble_ns) {
		if (!own->place_tells || is_remote(rt))
			owner_tell(rt, "thaw: %s answers again, after %.1f s\n",
				   store_of(rt)->place, seconds(now - own->trouble_ns));
		own->trouble_ns = 0;
	}
}

/* Nobody wants to wait any longer. */
static void end_outage(struct runtime *rt)
{
	struct replica *own = &rt->replica;

	own->ends = true;
	owner_tell(
		rt,
		"thaw: %s has had nothing for %.3g s (--durable-timeout)%s%s: the program ends here; the same command goes on\n",
		store_of(rt)->place, seconds(store_of(rt)->outage_ns),
		own->seen->error.text[0] ? ": " : "", own->seen->error.text);
	end_program(rt, EXIT_IO);
}

/* Takes the newest status. */
static void look(struct runtime *rt)
{
	struct replica *own = &rt->replica;

	atomic_store(&own->changed, false);
	replicate_status(own->replication, own->seen);
	if (own->seen
		    ->epoch) /* not again, should another program take it over and this one be opened anew */
		store_of(rt)->replace = false;
	tell_outage(rt);
	if (own->seen->generation > own->acknowledged)
		acknowledge(rt, own->seen->generation);
	if (own->seen->state == REPLICATION_FENCED || own->seen->state == REPLICATION_FAILED)
		gone(rt);
}

void replica_advance(struct runtime *rt)
{
	uint64_t due = replica_due_ns(rt);

	if (!rt->replica.replication)
		return;
	if (atomic_load(&rt->replica.changed))
		look(rt);
	if (due && due <= clock_monotonic_ns() && !rt->ending.ended && replica_awaits(rt))
		end_outage(rt);
}

/* ---- The end */

void replica_ending(struct runtime *rt)
{
	struct runtime_store *store = store_of(rt);

	if (store && store->lives && rt->replica.trouble_ns)
		place_interrupt(store->lives, true);
}

/* Until the store has that generation, for so long as an end may wait. 0, or why it has not. */
static int wait_for(struct runtime *rt, uint64_t generation)
{
	uint64_t from = clock_monotonic_ns(), wait_ns = store_of(rt)->wait_ns;
	bool asked = runtime_asked_to_end(), told = false;

	for (;;) {
		uint64_t now = clock_monotonic_ns();

		look(rt);
		if (rt->replica.acknowledged >= generation)
			return 0;
		if (rt->replica.seen->state == REPLICATION_FENCED)
			return -EBUSY;
		if (rt->replica.seen->state == REPLICATION_FAILED)
			return -EIO;
		if (now - from >= wait_ns || (!asked && runtime_asked_to_end()))
			return -ETIMEDOUT;
		if (!told && now - from >= TELL_NS && !rt->options.quiet)
			owner_tell(rt,
				   "thaw: %s gets the last generation, %" PRIu64
				   ", for which this waits, for up to %.3g s\n",
				   store_of(rt)->place, generation, seconds(wait_ns));
		told |= now - from >= TELL_NS;
		streams_pause(rt);
	}
}

static void tell_missing(struct runtime *rt, uint64_t generation)
{
	struct replica *own = &rt->replica;
	char newest[64] = "nothing of this image";

	if (own->acknowledged)
		snprintf(newest, sizeof(newest), "generation %" PRIu64, own->acknowledged);
	if (!own->ends) /* it was said */
		owner_tell(rt,
			   "thaw: %s does not have generation %" PRIu64
			   ", but %s%s%s; the image has it: the same command, or "
			   "thaw push, goes on with that\n",
			   store_of(rt)->place, generation, newest,
			   own->seen->error.text[0] ? ": " : "", own->seen->error.text);
}

int replica_settle(struct runtime *rt, int code)
{
	struct replica *own = &rt->replica;
	uint64_t generation;
	int failed;

	if (!own->replication || !is_remote(rt) || !own->awaited_count)
		return code;
	generation = own->awaited[own->awaited_count - 1].result.generation.number;
	failed = wait_for(rt, generation);
	if (!failed)
		return code;
	own->behind = true;
	tell_missing(rt, generation);
	return failed == -EBUSY ? EXIT_IMAGE_IN_USE : EXIT_IO;
}

int replica_finish(struct runtime *rt, int code)
{
	struct replica *own = &rt->replica;
	uint64_t generation = own->replication ? newest_here(rt) : 0;
	struct thaw_error error = {0};

	if (!generation || own->ends || own->behind)
		return code;
	/* The list of generations is written now, and not when the heap is closed. */
	thaw_list(rt->heap, &error);
	if (wait_for(rt, generation)) {
		tell_missing(rt, generation);
		return code || !is_remote(rt) ? code : EXIT_IO;
	}
	if (replicate_finish(own->replication, rt->guest->common.finished,
			     clock_monotonic_ns() + store_of(rt)->wait_ns, &error) &&
	    rt->options.verbose)
		owner_tell(
			rt,
			"thaw: %s has the last generation; what makes a restore fast is from before: %s\n",
			store_of(rt)->place, error.text);
	return code;
}

/* ---- Numbers */

static uint64_t since_ns(uint64_t wall_ns)
{
	uint64_t now = clock_wall_ns();

	return wall_ns && now > wall_ns ? now - wall_ns : 0;
}

void runtime_replica(struct runtime *rt, struct numbers_replica *replica)
{
	struct replication_status status;
	struct place_status place = {.complete = true};

	memset(replica, 0, sizeof(*replica));
	if (!rt->replica.replication)
		return;
	replicate_status(rt->replica.replication, &status);
	if (store_of(rt)->lives)
		place_status(store_of(rt)->lives, &place);
	*replica = (struct numbers_replica){
		.place = store_of(rt)->place,
		.state = replication_state_name(status.state),
		.durable = store_of(rt)->durable,
		.generation = status.generation,
		.behind_ns = since_ns(status.behind_since_ns),
		.lag_ns = status.lag_ns,
		.outage_ns = since_ns(status.failing_since_ns),
		.epoch = status.epoch,
		.record = status.record,
		.records = status.records,
		.requests = status.requests,
		.objects = status.data_objects,
		.bytes_sent = status.bytes_sent,
		.bytes_stored = status.bytes_stored,
		.objects_stored = status.objects_stored,
		.missing_bytes = place.complete ? 0 : place.fetch.missing * THAW_MIRROR_BLOCK,
		.needed = place.fetch.needed,
		.waiting = place.fetch.waiting,
	};
	snprintf(replica->why, sizeof(replica->why), "%s", status.error.text);
}
