/* SPDX-License-Identifier: MIT */
/*
 * calls.h - what an engine in a shared object calls of the program that has loaded it: its owner (guest.h), and libthaw. The
 * table of both sides is made of this list: CALL(type, function, parameters, arguments). Appended to and never reordered,
 * while GUEST_ABI is the same.
 */
#ifndef VM_ENGINES_CALLS_H
#define VM_ENGINES_CALLS_H

#include "guest.h"
#include "thaw_image.h"

#define RT struct runtime *rt

/* owner_tell() is not among them: it takes what printf(3) takes. */
#define ENGINE_CALLS(CALL)                                                                         \
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
	CALL(void, owner_stats, (RT, struct runtime_stats * stats), (rt, stats))                   \
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
	     (const struct thaw_image *image, const struct thaw_name **names), (image, names))

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

#endif
