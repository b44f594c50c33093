// SPDX-License-Identifier: MIT
/*
 * free_memory.c - gives back what the program has freed: whole pages inside of the free chunks of the VM's allocator
 * become zero, and take neither memory nor bytes of an image (thaw_release()).
 *
 * The allocator is dlmalloc (wasi-libc), whose free chunks of 4 KiB and more are in its trees, or are the last remainder
 * (dv), or the end of the memory (top). It assumes nothing of what is in them behind the links of a chunk: calloc() clears
 * all that it returns. QuickJS takes its small objects from arenas of 4 KiB each, which it frees when they are empty.
 *
 * Between turns and at polls, when the allocator is at rest; on the host's stack, owner's thread. What is read here may
 * be of a damaged or hostile image: each address is compared with the memory's size, and the walk ends after as many bytes
 * as there are. A chunk that is none costs the program its own data, as if it had overwritten them itself.
 */
#include "base/clock.h"
#include "heap_layout.h"
#include "state.h"

#define TREE_BYTES 4096u		  /* the least in the trees that are looked at */
#define CHUNK_LEAST (4096u + CHUNK_BYTES) /* for a whole page */
#define TREE_DEPTH 64u /* of nodes that wait; a tree of dlmalloc's has 29 levels at most */

/* So much more has to be free than at the last time, and this share of the memory. */
#define RELEASE_LEAST (16ull << 20)
#define RELEASE_SHARE 8u
/* It may take one part in so many of the time: what is freed and used again is dear to give back. */
#define RELEASE_TIME 50u
/* How often the native stacks are looked at, in turns and polls. */
#define STACKS_EACH 32u

struct walk {
	const struct js_engine *engine;
	u64 left; /* bytes of chunks that can still be found */
	/* False: that is enough. */
	bool (*visit)(void *arg, u32 chunk, u32 bytes);
	void *arg;
};

static u32 field(const struct walk *walk, u32 address, u32 offset)
{
	return vm_load32(walk->engine, address + offset);
}

/* A free chunk: is all of it inside of the memory, and not too much altogether? */
static bool found(struct walk *walk, u32 chunk, u32 bytes)
{
	u64 end = (u64)chunk + bytes;

	if (chunk % 8 || bytes < TREE_BYTES || end > walk->engine->wasm.w2c_memory.size ||
	    bytes > walk->left)
		return false;
	walk->left -= bytes;
	return walk->visit(walk->arg, chunk, bytes);
}

static bool is_node(const struct walk *walk, u32 address)
{
	return address && address % 8 == 0 &&
	       (u64)address + CHUNK_BYTES <= walk->engine->wasm.w2c_memory.size;
}

/* A node of a tree, and the others of its size, which are a ring. */
static bool visit_ring(struct walk *walk, u32 node)
{
	u32 chunk = node;

	do {
		u32 head = field(walk, chunk, CHUNK_HEAD);

		if (head & CHUNK_USED || !found(walk, chunk, head & ~CHUNK_FLAGS))
			return false;
		chunk = field(walk, chunk, CHUNK_NEXT);
	} while (chunk != node && is_node(walk, chunk));
	return chunk == node;
}

static bool visit_tree(struct walk *walk, u32 root)
{
	u32 waiting[TREE_DEPTH];
	unsigned count = 0;

	if (root)
		waiting[count++] = root;
	while (count) {
		u32 node = waiting[--count];

		if (!is_node(walk, node) || !visit_ring(walk, node))
			return false;
		for (u32 side = 0; side < 2; side++) {
			u32 child = field(walk, node, CHUNK_CHILDREN + 4 * side);

			if (child && count == TREE_DEPTH)
				return false;
			if (child)
				waiting[count++] = child;
		}
	}
	return true;
}

/* All free chunks in which a whole page can be; false: the allocator's structures are not sound, or `visit` said so. */
static bool visit_free(const struct js_engine *engine,
		       bool (*visit)(void *arg, u32 chunk, u32 bytes), void *arg)
{
	struct walk walk = {engine, engine->wasm.w2c_memory.size, visit, arg};
	u32 rest = field(&walk, AT_ALLOCATOR, ALLOC_REST), rest_bytes,
	    top = field(&walk, AT_ALLOCATOR, ALLOC_TOP), top_bytes;

	for (u32 tree = ALLOC_TREE_FIRST; tree < ALLOC_TREES; tree++)
		if (!visit_tree(&walk, field(&walk, AT_ALLOCATOR, ALLOC_TREE + 4 * tree)))
			return false;
	rest_bytes = field(&walk, AT_ALLOCATOR, ALLOC_REST_BYTES);
	top_bytes = field(&walk, AT_ALLOCATOR, ALLOC_TOP_BYTES);
	return (rest_bytes < CHUNK_LEAST || found(&walk, rest, rest_bytes)) &&
	       (top_bytes < CHUNK_LEAST || found(&walk, top, top_bytes));
}

static bool release_chunk(void *arg, u32 chunk, u32 bytes)
{
	struct js_engine *engine = arg;

	return !thaw_release(engine->heap, chunk + CHUNK_BYTES, bytes - CHUNK_BYTES);
}

static u64 free_bytes(const struct js_engine *engine)
{
	u64 live = vm_load32(engine, engine->runtime + RUNTIME_MALLOC_SIZE);
	u64 size = engine->wasm.w2c_memory.size;

	return size > live ? size - live : 0;
}

void engine_watch_free(struct js_engine *engine)
{
	engine->free_seen = free_bytes(engine);
}

void js_give_back_all(struct js_engine *engine)
{
	if (engine->trap[0])
		return;
	visit_free(engine, release_chunk, engine);
	engine->free_seen = free_bytes(engine);
}

void js_give_back(struct js_engine *engine)
{
	u64 now, end, free = free_bytes(engine),
		      least = engine->wasm.w2c_memory.size / RELEASE_SHARE;

	if (engine->trap[0])
		return;
	if (!(++engine->given_back % STACKS_EACH)) {
		vm_stack_give_back(&engine->turn_stack);
		vm_stack_give_back(&engine->side_stack);
	}
	if (free < engine->free_seen) /* some of it is used again */
		engine->free_seen = free;
	if (free - engine->free_seen < (least > RELEASE_LEAST ? least : RELEASE_LEAST))
		return;
	now = clock_monotonic_ns();
	if (now < engine->release_after_ns)
		return;
	visit_free(engine, release_chunk, engine);
	engine->free_seen = free;
	end = clock_monotonic_ns();
	engine->release_after_ns = end + RELEASE_TIME * (end - now);
}

static bool clear_chunk(void *arg, u32 chunk, u32 bytes)
{
	const struct js_engine *engine = arg;

	memset(vm_at(engine, chunk + CHUNK_BYTES), 0, bytes - CHUNK_BYTES);
	return true;
}

void js_clear_free(struct js_engine *engine)
{
	u32 bottom = engine->note + (u32)sizeof(struct heap_note);

	visit_free(engine, clear_chunk, engine);
	memset(vm_at(engine, bottom), 0, engine->wasm.w2c___stack_pointer - bottom);
	vm_store64(engine, engine->context + CONTEXT_RANDOM_STATE, 1); /* each start has its own */
}

/* ---- When a VM is created: is the allocator laid out like that? */

#define PROBE_BYTES 8192u

struct probe {
	u32 chunk;
	bool seen;
};

static bool probe_chunk(void *arg, u32 chunk, u32 bytes)
{
	struct probe *probe = arg;

	probe->seen |= chunk <= probe->chunk && probe->chunk + PROBE_BYTES <= chunk + bytes;
	return true;
}

bool engine_check_allocator(struct js_engine *engine)
{
	struct probe probe;
	u32 blocks[3];
	bool good = true;

	for (unsigned i = 0; i < 3; i++)
		good &= !!(blocks[i] = VM(engine, malloc, PROBE_BYTES));
	probe = (struct probe){.chunk = blocks[1] - CHUNK_USER};
	good = good && visit_free(engine, probe_chunk, &probe) && !probe.seen;
	VM(engine, free, blocks[1]);
	good = good && visit_free(engine, probe_chunk, &probe) && probe.seen;
	VM(engine, free, blocks[0]);
	VM(engine, free, blocks[2]);
	return good;
}
