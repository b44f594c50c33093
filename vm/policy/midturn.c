/* SPDX-License-Identifier: MIT */
/*
 * midturn.c - generations in the middle of a turn: when one may be taken, what it holds, and
 * whether this process can go on from it.
 *
 * Owns the user's key while a runtime is open. Owner's thread, most of it at a poll: on the host's
 * stack, with the turn's frames at rest on the VM's. checkpoints.c decides what is begun, captured
 * and told, the guest continues the turn. Must never let a turn be captured in a state that the blob
 * does not describe: the guest says whether it can be (stoppable()).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

/*
 * Patience. A generation between turns is worth more: any build can continue it, and it needs no
 * key. So a turn is left alone until it has lasted as long as the interval (--every); what it was
 * asked for at once (SIGUSR2, SIGTERM) waits less. A program of short turns is never stopped in one.
 *
 * The MAC. The stack holds return addresses: whoever continues it jumps to where it points. So the
 * blob of such a generation carries a MAC under the user's key, and is not continued without. It
 * covers the blob (stack, step, addresses, the VM's small state), not the heap: the code that the
 * true stack returns to checks every access to the heap by itself, whatever stands there.
 * (A guest that is bound, guest.h, is authenticated with all of its image: THAW_KEYED.)
 */

/* Where the interval is 0, on request only: as long as the default interval. */
#define PATIENCE_NS 1000000000u
/* A turn has so long to end by itself after SIGTERM. */
#define END_PATIENCE_NS 100000000u
/* Where the user's key can neither be read nor made, it is tried again: twice as long each time. */
#define KEY_RETRY_NS 1000000000u
#define KEY_RETRIES_DOUBLED 10u

static uint64_t patience_ns(const struct runtime *rt)
{
	return rt->options.every_ns ? rt->options.every_ns : PATIENCE_NS;
}

static bool can_be_stopped(const struct runtime *rt)
{
	return rt->type->stoppable && rt->guest->in_turn && !rt->guest->exiting &&
	       (!rt->midturn.key_retry_ns || clock_monotonic_ns() >= rt->midturn.key_retry_ns) &&
	       rt->type->stoppable(rt->guest);
}

static int load_key(struct runtime *rt, bool create, struct thaw_error *error)
{
	if (!rt->midturn.key)
		rt->midturn.key = key_new();
	return rt->midturn.key ? key_load(create, rt->midturn.key, error)
			       : failure(error, -ENOMEM, "no memory for a key");
}

/* Made on first use. Without it no other process of ours could tell our images from a stranger's. */
bool midturn_ensure_key(struct runtime *rt)
{
	struct thaw_error error;

	if (rt->midturn.key_known || !load_key(rt, true, &error)) {
		rt->midturn.key_known = true;
		rt->midturn.key_retry_ns = 0;
		return true;
	}
	rt->midturn.key_retry_ns =
		clock_monotonic_ns() + ((uint64_t)KEY_RETRY_NS << rt->midturn.key_failures);
	if (rt->midturn.key_failures < KEY_RETRIES_DOUBLED)
		rt->midturn.key_failures++;
	owner_tell(
		rt,
		"thaw: %s; until then a turn is not checkpointed before it ends, however long it lasts\n",
		error.text);
	return false;
}

bool midturn_allowed(struct runtime *rt, uint64_t now)
{
	if (!can_be_stopped(rt))
		return false;
	if (!rt->checkpoints.urgent && now - rt->guest->turn_began_ns < patience_ns(rt))
		return false;
	return midturn_ensure_key(rt);
}

bool midturn_possible(struct runtime *rt)
{
	return can_be_stopped(rt) && midturn_ensure_key(rt);
}

uint64_t midturn_allowed_at(const struct runtime *rt)
{
	uint64_t when = rt->guest->turn_began_ns + patience_ns(rt);

	if (!rt->guest->in_turn)
		return 0;
	return when > rt->midturn.key_retry_ns ? when : rt->midturn.key_retry_ns;
}

_Static_assert(GUEST_MAC_BYTES == KEY_MAC_BYTES, "a state has room for a MAC");

void *midturn_encode(struct runtime *rt, bool changed, size_t *bytes, struct thaw_error *error)
{
	uint64_t began = clock_monotonic_ns();
	uint8_t *data = rt->type->save(rt->guest, changed, bytes, error);

	if (!data)
		return NULL;
	key_mac(rt->midturn.key, data, *bytes - KEY_MAC_BYTES, data + *bytes - KEY_MAC_BYTES);
	rt->midturn.count++;
	rt->midturn.stack_ns_total += clock_monotonic_ns() - began;
	if (rt->guest->saved_stack_bytes > rt->midturn.stack_bytes_max)
		rt->midturn.stack_bytes_max = rt->guest->saved_stack_bytes;
	return data;
}

/* Whose work is it? NULL: the user's own, or --trust was given. */
static const char *mac_refusal(struct runtime *rt, const void *data, size_t bytes)
{
	static char reason[600];
	struct thaw_error error;

	if (rt->options.trust)
		return NULL;
	if (!rt->midturn.key_known && load_key(rt, false, &error)) {
		snprintf(reason, sizeof(reason),
			 "and whose work it is cannot be told: %s (--trust goes on all the same)",
			 error.text);
		return reason;
	}
	rt->midturn.key_known = true;
	if (bytes < KEY_MAC_BYTES || !key_matches(rt->midturn.key, data, bytes - KEY_MAC_BYTES,
						  (const uint8_t *)data + bytes - KEY_MAC_BYTES))
		return "and it was not made with your key (--trust goes on all the same)";
	return NULL;
}

const char *midturn_refusal(struct runtime *rt, const void *data, size_t bytes)
{
	const char *refusal;

	if (!rt->type->turn_refusal || !rt->type->restore_turn)
		return "and this kind of program cannot be continued there";
	refusal = rt->type->turn_refusal(rt->guest);
	return refusal ? refusal : mac_refusal(rt, data, bytes);
}

bool midturn_can_end(struct runtime *rt)
{
	return rt->options.image && can_be_stopped(rt) && midturn_ensure_key(rt);
}

/*
 * A line of a shell, and the code of -e and -p: nobody wants an endless one to go on in the next
 * process. (A timer that runs meanwhile may be the program's.) Nor is there a next process without an
 * image.
 */
bool midturn_should_cut(struct runtime *rt)
{
	uint64_t now = clock_monotonic_ns();

	if (!rt->midturn.stop_requested_ns)
		rt->midturn.stop_requested_ns = now;
	if (now - rt->midturn.stop_requested_ns < END_PATIENCE_NS)
		return false;
	if (!rt->options.image ||
	    (rt->evaluation.running && (rt->evaluation.asking || !rt->guest->runs_own)))
		rt->midturn.script_cut = true;
	return rt->midturn.script_cut;
}

bool midturn_end(struct runtime *rt)
{
	bool cuts = midturn_should_cut(rt);
	uint64_t now = clock_monotonic_ns();
	int code;

	if (cuts)
		return true;
	if (rt->ending.ended)
		return false;
	if (now - rt->midturn.stop_requested_ns < END_PATIENCE_NS) {
		if (rt->guest->in_turn)
			poll_timer_set(rt, rt->midturn.stop_requested_ns + END_PATIENCE_NS);
		return false;
	}
	if (!midturn_possible(rt))
		return false; /* it ends with its turn */
	service_stopping();
	streams_flush(rt, END_PATIENCE_NS); /* what is not read then is in the generation */
	/* As between turns: whoever asks for the end gets it, and is told what it costs. */
	code = checkpoints_last(rt, THAW_REASON_SIGNAL, NULL);
	runtime_end(rt, code ? EXIT_IO : 128 + signals_stop(), false);
	if (rt->type->abandon)
		rt->type->abandon(rt->guest, "stopped in the middle of a turn");
	return true;
}

void midturn_turn_begins(struct runtime *rt)
{
	rt->midturn.stop_requested_ns = 0;
}

void midturn_close(struct runtime *rt)
{
	key_free(rt->midturn.key);
}
