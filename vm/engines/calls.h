/* SPDX-License-Identifier: MIT */
/*
 * calls.h - what an engine in a shared object calls of the program that has loaded it: its owner (guest.h), and libthaw. The
 * table of both sides is made of this list: CALL(type, function, parameters, arguments). Appended to and never reordered,
 * while GUEST_ABI is the same.
 */
#ifndef VM_ENGINES_CALLS_H
#define VM_ENGINES_CALLS_H

#include "guest.h"
#include "thaw_frozen.h"
#include "thaw_image.h"

#define RT struct runtime *rt

/* Of the owner; owner_tell() is not among them: it takes what printf(3) takes. A new one goes to the end of the other list. */
#define ENGINE_OWNER_CALLS(CALL)                                                                   \
	CALL(bool, owner_ended, (const RT), (rt))                                                  \
	CALL(bool, owner_unwinding, (const RT), (rt))                                              \
	CALL(void, owner_exit, (RT, double code), (rt, code))                                      \
	CALL(void, owner_exited, (RT), (rt))                                                       \
	CALL(void, owner_trapped, (RT, const char *reason), (rt, reason))                          \
	CALL(void, owner_uncaught, (RT, const char *prefix, const char *text), (rt, prefix, text)) \
	CALL(void, owner_advance, (RT), (rt))                                                      \
	CALL(bool, owner_stops, (RT), (rt))                                                        \
	CALL(bool, owner_interrupted, (const RT), (rt))                                            \
	CALL(uint64_t, owner_due_ns, (const RT), (rt))                                             \
	CALL(bool, owner_has_work, (const RT), (rt))                                               \
	CALL(bool, owner_take_outcome, (RT, struct guest_outcome * outcome), (rt, outcome))        \
	CALL(void, owner_branches, (RT), (rt))                                                     \
	CALL(void, guest_branch_text, (const struct guest *guest, char text[GUEST_BRANCH_TEXT]),   \
	     (guest, text))                                                                        \
	CALL(void, owner_branches_by, (RT, const void *data, size_t bytes), (rt, data, bytes))     \
	CALL(int, owner_upgrade_over, (RT, struct thaw_error * error), (rt, error))                \
	CALL(void, owner_turn_begins, (RT), (rt))                                                  \
	CALL(bool, owner_poll, (RT), (rt))                                                         \
	CALL(bool, owner_step_done, (RT), (rt))                                                    \
	CALL(void, owner_hear, (RT, int signo, bool hear), (rt, signo, hear))                      \
	CALL(int, owner_take_signal, (RT), (rt))                                                   \
	CALL(void, owner_write, (RT, int fd, const char *data, size_t bytes),                      \
	     (rt, fd, data, bytes))                                                                \
	CALL(bool, owner_output_full, (RT), (rt))                                                  \
	CALL(void, owner_wait_output, (RT), (rt))                                                  \
	CALL(void, owner_output_held, (RT, size_t bytes), (rt, bytes))                             \
	CALL(int, owner_checkpoint, (RT, uint64_t waiter, const char *name), (rt, waiter, name))   \
	CALL(void, owner_stats, (RT, struct runtime_stats * stats), (rt, stats))

/* Of libthaw. */
#define ENGINE_LIBRARY_CALLS(CALL)                                                                 \
	CALL(const char *, thaw_strerror, (int code), (code))                                      \
	CALL(size_t, thaw_escape, (const char *text, char *escaped, size_t room),                  \
	     (text, escaped, room))                                                                \
	CALL(const char *, thaw_reason_name, (uint32_t reason), (reason))                          \
	CALL(bool, thaw_name_valid, (const char *name), (name))                                    \
	CALL(int, thaw_open,                                                                       \
	     (const struct thaw_options *options, struct thaw **heap, struct thaw_error *error),   \
	     (options, heap, error))                                                               \
	CALL(void, thaw_close, (struct thaw * heap), (heap))                                       \
	CALL(void *, thaw_base, (const struct thaw *heap), (heap))                                 \
	CALL(size_t, thaw_size, (const struct thaw *heap), (heap))                                 \
	CALL(int, thaw_resize, (struct thaw * heap, size_t bytes), (heap, bytes))                  \
	CALL(int, thaw_release, (struct thaw * heap, size_t offset, size_t bytes),                 \
	     (heap, offset, bytes))                                                                \
	CALL(const struct thaw_generation *, thaw_opened, (const struct thaw *heap), (heap))       \
	CALL(void, thaw_status, (struct thaw * heap, struct thaw_status * status), (heap, status)) \
	CALL(bool, thaw_explain_fault, (const void *address, char *line, size_t bytes),            \
	     (address, line, bytes))                                                               \
	CALL(bool, thaw_handle_fault, (const void *address), (address))                            \
	CALL(int, thaw_image_of,                                                                   \
	     (const struct thaw *heap, struct thaw_image **image, struct thaw_error *error),       \
	     (heap, image, error))                                                                 \
	CALL(void, thaw_image_close, (struct thaw_image * image), (image))                         \
	CALL(unsigned, thaw_image_names,                                                           \
	     (const struct thaw_image *image, const struct thaw_name **names), (image, names))     \
	CALL(void, thaw_discard, (struct thaw * heap), (heap))                                     \
	CALL(const void *, thaw_state, (const struct thaw *heap, size_t *bytes), (heap, bytes))    \
	CALL(void, thaw_history, (const struct thaw *heap, struct thaw_history *history),          \
	     (heap, history))                                                                      \
	CALL(int, thaw_settle, (struct thaw * heap, struct thaw_error * error), (heap, error))     \
	CALL(void, thaw_counters, (struct thaw * heap, struct thaw_counters * counters),           \
	     (heap, counters))                                                                     \
	CALL(int, thaw_checkpoint_begin, (struct thaw * heap, enum thaw_reason reason),            \
	     (heap, reason))                                                                       \
	CALL(void, thaw_checkpoint_stopped, (struct thaw * heap), (heap))                          \
	CALL(int, thaw_checkpoint_capture,                                                         \
	     (struct thaw * heap, enum thaw_kind kind, const void *state, size_t state_bytes),     \
	     (heap, kind, state, state_bytes))                                                     \
	CALL(int, thaw_checkpoint_abandon, (struct thaw * heap, int code, const char *why),        \
	     (heap, code, why))                                                                    \
	CALL(int, thaw_checkpoint_name, (struct thaw * heap, const char *name), (heap, name))      \
	CALL(int, thaw_checkpoint_keep, (struct thaw * heap, const char *name), (heap, name))      \
	CALL(int, thaw_tag,                                                                        \
	     (struct thaw * heap, const char *name, uint64_t *generation, unsigned flags,          \
	      struct thaw_error *error),                                                           \
	     (heap, name, generation, flags, error))                                               \
	CALL(int, thaw_untag, (struct thaw * heap, const char *name, struct thaw_error *error),    \
	     (heap, name, error))                                                                  \
	CALL(int, thaw_list, (struct thaw * heap, struct thaw_error * error), (heap, error))       \
	CALL(enum thaw_phase, thaw_checkpoint_poll,                                                \
	     (struct thaw * heap, struct thaw_result * result), (heap, result))                    \
	CALL(enum thaw_phase, thaw_checkpoint_wait, (struct thaw * heap), (heap))                  \
	CALL(int, thaw_checkpoint,                                                                 \
	     (struct thaw * heap, enum thaw_reason reason, const void *state, size_t state_bytes,  \
	      struct thaw_result *result),                                                         \
	     (heap, reason, state, state_bytes, result))                                           \
	CALL(int, thaw_failed, (struct thaw * heap), (heap))                                       \
	CALL(int, thaw_failed_with, (struct thaw * heap, uint64_t what), (heap, what))             \
	CALL(unsigned, thaw_failures, (const struct thaw *heap), (heap))                           \
	CALL(int, thaw_touch, (const void *address, size_t bytes, bool write),                     \
	     (address, bytes, write))                                                              \
	CALL(int, thaw_freeze,                                                                     \
	     (struct thaw * heap, const void *state, size_t state_bytes,                           \
	      struct thaw_frozen **frozen, struct thaw_error *error),                              \
	     (heap, state, state_bytes, frozen, error))                                            \
	CALL(int, thaw_revert,                                                                     \
	     (struct thaw * heap, struct thaw_frozen * frozen, struct thaw_error * error),         \
	     (heap, frozen, error))                                                                \
	CALL(struct thaw_frozen *, thaw_frozen_hold, (struct thaw_frozen * frozen), (frozen))      \
	CALL(void, thaw_frozen_drop, (struct thaw_frozen * frozen), (frozen))                      \
	CALL(size_t, thaw_frozen_bytes, (const struct thaw_frozen *frozen), (frozen))              \
	CALL(size_t, thaw_frozen_page_bytes, (void), ())                                           \
	CALL(const void *, thaw_frozen_state, (const struct thaw_frozen *frozen, size_t *bytes),   \
	     (frozen, bytes))                                                                      \
	CALL(const struct thaw_generation *, thaw_frozen_generation,                               \
	     (const struct thaw_frozen *frozen), (frozen))                                         \
	CALL(void, thaw_frozen_usage,                                                              \
	     (const struct thaw_frozen *frozen, struct thaw_frozen_usage *usage), (frozen, usage)) \
	CALL(int, thaw_frozen_read,                                                                \
	     (const struct thaw_frozen *frozen, uint64_t offset, void *buffer, size_t bytes,       \
	      struct thaw_error *error),                                                           \
	     (frozen, offset, buffer, bytes, error))                                               \
	CALL(int, thaw_frozen_pages,                                                               \
	     (const struct thaw_frozen *frozen,                                                    \
	      int (*visit)(void *arg, uint64_t first, uint64_t pages), void *arg),                 \
	     (frozen, visit, arg))                                                                 \
	CALL(int, thaw_frozen_diff,                                                                \
	     (const struct thaw_frozen *from, const struct thaw_frozen *to,                        \
	      int (*visit)(void *arg, const struct thaw_page_change *change), void *arg,           \
	      struct thaw_error *error),                                                           \
	     (from, to, visit, arg, error))                                                        \
	CALL(int, thaw_frozen_sum,                                                                 \
	     (const struct thaw_frozen *frozen, uint64_t sum[2], struct thaw_error *error),        \
	     (frozen, sum, error))                                                                 \
	CALL(void, thaw_frozen_sum_of, (uint64_t number, const void *bytes, uint64_t sum[2]),      \
	     (number, bytes, sum))                                                                 \
	CALL(int, thaw_frozen_begin,                                                               \
	     (size_t heap_bytes, struct thaw_frozen * *frozen, struct thaw_error * error),         \
	     (heap_bytes, frozen, error))                                                          \
	CALL(int, thaw_frozen_begin_over,                                                          \
	     (const struct thaw_frozen *under, size_t heap_bytes, struct thaw_frozen **frozen,     \
	      struct thaw_error *error),                                                           \
	     (under, heap_bytes, frozen, error))                                                   \
	CALL(int, thaw_frozen_write,                                                               \
	     (struct thaw_frozen * frozen, uint64_t offset, const void *data, size_t bytes,        \
	      struct thaw_error *error),                                                           \
	     (frozen, offset, data, bytes, error))                                                 \
	CALL(int, thaw_frozen_end,                                                                 \
	     (struct thaw_frozen * frozen, const void *state, size_t state_bytes,                  \
	      struct thaw_error *error),                                                           \
	     (frozen, state, state_bytes, error))                                                  \
	CALL(int, thaw_frozen_open,                                                                \
	     (const char *image, const char *generation, struct thaw_frozen **frozen,              \
	      struct thaw_error *alone, struct thaw_error *error),                                 \
	     (image, generation, frozen, alone, error))                                            \
	CALL(int, thaw_image_open,                                                                 \
	     (const char *path, struct thaw_image **image, struct thaw_error *error),              \
	     (path, image, error))                                                                 \
	CALL(unsigned, thaw_image_log,                                                             \
	     (const struct thaw_image *image, const struct thaw_generation **generations),         \
	     (image, generations))                                                                 \
	CALL(int, thaw_image_find,                                                                 \
	     (const struct thaw_image *image, const char *word, uint64_t *generation,              \
	      struct thaw_error *error),                                                           \
	     (image, word, generation, error))                                                     \
	CALL(int, thaw_image_info,                                                                 \
	     (const struct thaw_image *image, bool deep, struct thaw_image_info *info,             \
	      struct thaw_error *error),                                                           \
	     (image, deep, info, error))                                                           \
	CALL(int, thaw_view_open,                                                                  \
	     (struct thaw_image * image, uint64_t generation, struct thaw_view * *view,            \
	      struct thaw_error * error),                                                          \
	     (image, generation, view, error))                                                     \
	CALL(const struct thaw_generation *, thaw_view_generation, (const struct thaw_view *view), \
	     (view))                                                                               \
	CALL(const void *, thaw_view_state, (const struct thaw_view *view, size_t *bytes),         \
	     (view, bytes))                                                                        \
	CALL(int, thaw_view_read,                                                                  \
	     (struct thaw_view * view, uint64_t offset, void *buffer, size_t bytes,                \
	      struct thaw_error *error),                                                           \
	     (view, offset, buffer, bytes, error))                                                 \
	CALL(void, thaw_view_close, (struct thaw_view * view), (view))                             \
	CALL(int, thaw_image_pages,                                                                \
	     (struct thaw_image * image, uint64_t generation,                                      \
	      int (*visit)(void *arg, const struct thaw_page_run *run), void *arg,                 \
	      struct thaw_error *error),                                                           \
	     (image, generation, visit, arg, error))                                               \
	CALL(int, thaw_image_diff,                                                                 \
	     (struct thaw_image * image, uint64_t from, uint64_t to,                               \
	      int (*visit)(void *arg, const struct thaw_page_change *change), void *arg,           \
	      struct thaw_error *error),                                                           \
	     (image, from, to, visit, arg, error))                                                 \
	CALL(int, thaw_image_settle, (const char *path, struct thaw_error *error), (path, error))  \
	CALL(int, thaw_image_tag,                                                                  \
	     (const char *path, const char *name, uint64_t generation, unsigned flags,             \
	      struct thaw_error *error),                                                           \
	     (path, name, generation, flags, error))                                               \
	CALL(int, thaw_image_untag,                                                                \
	     (const char *path, const char *name, struct thaw_error *error), (path, name, error))  \
	CALL(int, thaw_image_rollback,                                                             \
	     (const char *path, uint64_t generation, struct thaw_generation *made,                 \
	      struct thaw_error *error),                                                           \
	     (path, generation, made, error))                                                      \
	CALL(void, thaw_frozen_sum_is, (const struct thaw_frozen *frozen, const uint64_t sum[2]),  \
	     (frozen, sum))

#define ENGINE_CALLS(CALL) ENGINE_OWNER_CALLS(CALL) ENGINE_LIBRARY_CALLS(CALL)

/* And owner_tell(), whose text is made first and told by `tell` as one. Whoever uses it includes stdarg.h, stdio.h and stdlib.h. */
#define ENGINE_FORWARD_TELL(tell)                                      \
	void owner_tell(struct runtime *rt, const char *format, ...)   \
	{                                                              \
		va_list arguments;                                     \
		char *text;                                            \
                                                                       \
		va_start(arguments, format);                           \
		if (vasprintf(&text, format, arguments) < 0)           \
			text = NULL;                                   \
		va_end(arguments);                                     \
		tell(rt, "%s", text ? text : "thaw: out of memory\n"); \
		free(text);                                            \
	}

struct engine_calls {
	uint32_t size, abi; /* sizeof(struct engine_calls), GUEST_ABI */
	void (*owner_tell)(struct runtime *rt, const char *format, ...);
#define ENGINE_POINTER(type, name, parameters, arguments) type(*name) parameters;
	ENGINE_CALLS(ENGINE_POINTER)
};

/* What an object has. Appended to, as above. */
struct engine_object {
	uint32_t size, abi;
	const char *identity;		/* as images name it */
	const struct guest_type *guest; /* NULL: it does not fit the table that it was given */
};

/*
 * The one function that an object exports. Keeps `calls`, which is there as long as the object is, and returns what the
 * object has, never NULL.
 */
#define ENGINE_OBJECT_ENTRY "thaw_engine_object"
typedef const struct engine_object *engine_object_entry(const struct engine_calls *calls);

/*
 * The other one, which is called after it where the loader is libthawvm, whose VMs have another owner: the library of that
 * engine's time lies in the object, too. Returns its table; NULL: it does not fit `calls`.
 */
struct vm_table;
#define ENGINE_VM_ENTRY "thaw_engine_vm"
typedef const struct vm_table *engine_vm_entry(const struct engine_calls *calls);

#endif
