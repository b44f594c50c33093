/* SPDX-License-Identifier: MIT */
/*
 * table.h - the public functions of libthawvm as a table, so that a VM of an engine from before is used through the functions
 * of its time: they lie in the shared object of that engine (vm/engines), and the first member of struct thaw_vm and of struct
 * thaw_vm_snapshot is the table that belongs to it. dispatch.c has the functions that a program calls, and looks there.
 *
 * The functions of this folder are compiled under other names, own_thaw_vm_*(), which the Makefile makes of this list. A
 * new one of thaw_vm.h gets a line at the end, and what an engine without it returns: the list is appended to and never
 * reordered while GUEST_ABI is the same (tests/engines/libthawvm_abi.c).
 */
#ifndef VM_EMBED_TABLE_H
#define VM_EMBED_TABLE_H

#include <errno.h>

#include "thaw_vm.h"

/* VM, SNAPSHOT: what the first parameter is. SPECIAL: dispatch.c says how its table is found. */
#define VM_TABLE(VM, SNAPSHOT, SPECIAL)                                                            \
	SPECIAL(int, thaw_vm_open,                                                                 \
		(const struct thaw_vm_options *options, struct thaw_vm **vm,                       \
		 struct thaw_error *error),                                                        \
		(options, vm, error))                                                              \
	SPECIAL(int, thaw_vm_close, (struct thaw_vm * vm), (vm))                                   \
	VM(int, thaw_vm_eval,                                                                      \
	   (struct thaw_vm * vm, const char *code, size_t bytes, const char *name, unsigned flags, \
	    thaw_vm_value *result, struct thaw_error *error),                                      \
	   (vm, code, bytes, name, flags, result, error), OLDER(error))                            \
	VM(int, thaw_vm_call,                                                                      \
	   (struct thaw_vm * vm, const char *name, const char *arguments, char **result,           \
	    struct thaw_error *error),                                                             \
	   (vm, name, arguments, result, error), OLDER(error))                                     \
	VM(int, thaw_vm_apply,                                                                     \
	   (struct thaw_vm * vm, thaw_vm_value function, thaw_vm_value self, unsigned count,       \
	    const thaw_vm_value *arguments, thaw_vm_value *result, struct thaw_error *error),      \
	   (vm, function, self, count, arguments, result, error), OLDER(error))                    \
	VM(int, thaw_vm_await,                                                                     \
	   (struct thaw_vm * vm, thaw_vm_value promise, uint64_t timeout_ns,                       \
	    thaw_vm_value * result, struct thaw_error * error),                                    \
	   (vm, promise, timeout_ns, result, error), OLDER(error))                                 \
	VM(thaw_vm_value, thaw_vm_global, (struct thaw_vm * vm), (vm), 0)                          \
	VM(thaw_vm_value, thaw_vm_undefined, (struct thaw_vm * vm), (vm), 0)                       \
	VM(thaw_vm_value, thaw_vm_number, (struct thaw_vm * vm, double number), (vm, number), 0)   \
	VM(thaw_vm_value, thaw_vm_bool, (struct thaw_vm * vm, bool value), (vm, value), 0)         \
	VM(thaw_vm_value, thaw_vm_string, (struct thaw_vm * vm, const char *utf8, size_t bytes),   \
	   (vm, utf8, bytes), 0)                                                                   \
	VM(thaw_vm_value, thaw_vm_bytes, (struct thaw_vm * vm, const void *data, size_t bytes),    \
	   (vm, data, bytes), 0)                                                                   \
	VM(int, thaw_vm_json,                                                                      \
	   (struct thaw_vm * vm, const char *text, size_t bytes, thaw_vm_value *value,             \
	    struct thaw_error *error),                                                             \
	   (vm, text, bytes, value, error), OLDER(error))                                          \
	VM(int, thaw_vm_get,                                                                       \
	   (struct thaw_vm * vm, thaw_vm_value object, const char *key, thaw_vm_value *value,      \
	    struct thaw_error *error),                                                             \
	   (vm, object, key, value, error), OLDER(error))                                          \
	VM(int, thaw_vm_set,                                                                       \
	   (struct thaw_vm * vm, thaw_vm_value object, const char *key, thaw_vm_value value,       \
	    struct thaw_error *error),                                                             \
	   (vm, object, key, value, error), OLDER(error))                                          \
	VM(void, thaw_vm_free, (struct thaw_vm * vm, thaw_vm_value value), (vm, value), (void)0)   \
	VM(double, thaw_vm_to_number, (struct thaw_vm * vm, thaw_vm_value value), (vm, value), 0)  \
	VM(char *, thaw_vm_to_string, (struct thaw_vm * vm, thaw_vm_value value, size_t * bytes),  \
	   (vm, value, bytes), NULL)                                                               \
	VM(void *, thaw_vm_to_bytes, (struct thaw_vm * vm, thaw_vm_value value, size_t * bytes),   \
	   (vm, value, bytes), NULL)                                                               \
	VM(int, thaw_vm_to_json,                                                                   \
	   (struct thaw_vm * vm, thaw_vm_value value, char **text, struct thaw_error *error),      \
	   (vm, value, text, error), OLDER(error))                                                 \
	VM(thaw_vm_value, thaw_vm_throw,                                                           \
	   (struct thaw_vm * vm, const char *type, const char *message), (vm, type, message), 0)   \
	VM(int, thaw_vm_settle,                                                                    \
	   (struct thaw_vm * vm, uint64_t ticket, thaw_vm_value value, const char *failure,        \
	    struct thaw_error *error),                                                             \
	   (vm, ticket, value, failure, error), OLDER(error))                                      \
	VM(int, thaw_vm_tickets,                                                                   \
	   (struct thaw_vm * vm, uint64_t * tickets, unsigned room, struct thaw_error *error),     \
	   (vm, tickets, room, error), OLDER(error))                                               \
	VM(int, thaw_vm_step, (struct thaw_vm * vm, struct thaw_error * error), (vm, error),       \
	   OLDER(error))                                                                           \
	VM(uint64_t, thaw_vm_next_due, (struct thaw_vm * vm), (vm), UINT64_MAX)                    \
	VM(int, thaw_vm_run,                                                                       \
	   (struct thaw_vm * vm, uint64_t timeout_ns, struct thaw_error * error),                  \
	   (vm, timeout_ns, error), OLDER(error))                                                  \
	VM(void, thaw_vm_interrupt, (struct thaw_vm * vm), (vm), (void)0)                          \
	VM(int, thaw_vm_checkpoint,                                                                \
	   (struct thaw_vm * vm, const char *name, uint64_t *generation,                           \
	    struct thaw_error *error),                                                             \
	   (vm, name, generation, error), OLDER(error))                                            \
	VM(int, thaw_vm_context_new,                                                               \
	   (struct thaw_vm * vm, const char *name, struct thaw_error *error), (vm, name, error),   \
	   OLDER(error))                                                                           \
	VM(int, thaw_vm_context_find, (struct thaw_vm * vm, const char *name), (vm, name),         \
	   -ENOSYS)                                                                                \
	VM(unsigned, thaw_vm_context_count, (struct thaw_vm * vm), (vm), 0)                        \
	VM(int, thaw_vm_context_use,                                                               \
	   (struct thaw_vm * vm, unsigned index, struct thaw_error *error), (vm, index, error),    \
	   OLDER(error))                                                                           \
	VM(int, thaw_vm_snapshot,                                                                  \
	   (struct thaw_vm * vm, struct thaw_vm_snapshot * *snapshot, struct thaw_error * error),  \
	   (vm, snapshot, error), OLDER(error))                                                    \
	SPECIAL(struct thaw_vm_snapshot *, thaw_vm_snapshot_hold,                                  \
		(struct thaw_vm_snapshot * snapshot), (snapshot))                                  \
	SPECIAL(void, thaw_vm_snapshot_drop, (struct thaw_vm_snapshot * snapshot), (snapshot))     \
	SPECIAL(int, thaw_vm_rollback,                                                             \
		(struct thaw_vm * vm, struct thaw_vm_snapshot * snapshot,                          \
		 struct thaw_error * error),                                                       \
		(vm, snapshot, error))                                                             \
	SNAPSHOT(int, thaw_vm_snapshot_id,                                                         \
		 (struct thaw_vm_snapshot * snapshot, uint8_t id[16], struct thaw_error * error),  \
		 (snapshot, id, error), OLDER(error))                                              \
	SPECIAL(int, thaw_vm_snapshot_bytes,                                                       \
		(struct thaw_vm_snapshot * snapshot, struct thaw_vm_snapshot * since, void **data, \
		 size_t *bytes, struct thaw_error *error),                                         \
		(snapshot, since, data, bytes, error))                                             \
	SPECIAL(int, thaw_vm_snapshot_open,                                                        \
		(const void *data, size_t bytes, struct thaw_vm_snapshot *base,                    \
		 uint64_t max_bytes, struct thaw_vm_snapshot **snapshot,                           \
		 struct thaw_error *error),                                                        \
		(data, bytes, base, max_bytes, snapshot, error))                                   \
	VM(thaw_vm_value, thaw_vm_copy, (struct thaw_vm * vm, thaw_vm_value value), (vm, value),   \
	   0)                                                                                      \
	VM(int, thaw_vm_kind, (struct thaw_vm * vm, thaw_vm_value value), (vm, value), -ENOSYS)    \
	VM(thaw_vm_value, thaw_vm_null, (struct thaw_vm * vm), (vm), 0)                            \
	VM(int, thaw_vm_pack,                                                                      \
	   (struct thaw_vm * vm, unsigned count, const thaw_vm_value *values, void **data,         \
	    size_t *bytes, struct thaw_error *error),                                              \
	   (vm, count, values, data, bytes, error), OLDER(error))                                  \
	VM(int, thaw_vm_unpack,                                                                    \
	   (struct thaw_vm * vm, const void *data, size_t bytes, unsigned count,                   \
	    thaw_vm_value *values, struct thaw_error *error),                                      \
	   (vm, data, bytes, count, values, error), OLDER(error))                                  \
	VM(int, thaw_vm_lookup,                                                                    \
	   (struct thaw_vm * vm, const char *name, thaw_vm_value *function, thaw_vm_value *self,   \
	    struct thaw_error *error),                                                             \
	   (vm, name, function, self, error), OLDER(error))                                        \
	VM(thaw_vm_value, thaw_vm_exception, (struct thaw_vm * vm), (vm), 0)                       \
	VM(int, thaw_vm_promise,                                                                   \
	   (struct thaw_vm * vm, thaw_vm_value value, thaw_vm_value * result),                     \
	   (vm, value, result), -ENOSYS)                                                           \
	VM(thaw_vm_value, thaw_vm_throw_value, (struct thaw_vm * vm, thaw_vm_value value),         \
	   (vm, value), 0)                                                                         \
	VM(int, thaw_vm_reject,                                                                    \
	   (struct thaw_vm * vm, uint64_t ticket, thaw_vm_value reason,                            \
	    struct thaw_error * error),                                                            \
	   (vm, ticket, reason, error), OLDER(error))                                              \
	VM(thaw_vm_value, thaw_vm_ticket, (struct thaw_vm * vm, uint64_t * ticket), (vm, ticket),  \
	   0)                                                                                      \
	VM(int, thaw_vm_ticket_call,                                                               \
	   (struct thaw_vm * vm, uint64_t ticket, char **name, thaw_vm_value *arguments,           \
	    struct thaw_error *error),                                                             \
	   (vm, ticket, name, arguments, error), OLDER(error))                                     \
	SPECIAL(int, thaw_vm_snapshot_open_fd,                                                     \
		(int fd, struct thaw_vm_snapshot *base, uint64_t max_bytes,                        \
		 struct thaw_vm_snapshot **snapshot, struct thaw_error *error),                    \
		(fd, base, max_bytes, snapshot, error))                                            \
	SNAPSHOT(                                                                                  \
		int, thaw_vm_snapshot_write,                                                       \
		(struct thaw_vm_snapshot * snapshot, const char *image, struct thaw_error *error), \
		(snapshot, image, error), OLDER(error))                                            \
	SPECIAL(int, thaw_vm_snapshot_diff,                                                        \
		(struct thaw_vm_snapshot * from, struct thaw_vm_snapshot * to,                     \
		 struct thaw_vm_difference * difference, char **json, struct thaw_error *error),   \
		(from, to, difference, json, error))                                               \
	VM(int, thaw_vm_checkpoint_begin,                                                          \
	   (struct thaw_vm * vm, const char *name, struct thaw_error *error), (vm, name, error),   \
	   OLDER(error))                                                                           \
	VM(int, thaw_vm_checkpoint_poll,                                                           \
	   (struct thaw_vm * vm, uint64_t * generation, struct thaw_error * error),                \
	   (vm, generation, error), OLDER(error))                                                  \
	VM(int, thaw_vm_checkpoint_wait,                                                           \
	   (struct thaw_vm * vm, uint64_t * generation, struct thaw_error * error),                \
	   (vm, generation, error), OLDER(error))                                                  \
	VM(bool, thaw_vm_wants_checkpoint, (struct thaw_vm * vm), (vm), 0)                         \
	VM(uint64_t, thaw_vm_generation, (struct thaw_vm * vm), (vm), 0)                           \
	VM(int, thaw_vm_tag,                                                                       \
	   (struct thaw_vm * vm, const char *name, uint64_t generation, struct thaw_error *error), \
	   (vm, name, generation, error), OLDER(error))                                            \
	VM(int, thaw_vm_untag, (struct thaw_vm * vm, const char *name, struct thaw_error *error),  \
	   (vm, name, error), OLDER(error))                                                        \
	SPECIAL(int, thaw_vm_missing,                                                              \
		(const struct thaw_vm_options *options, char ***names, struct thaw_error *error),  \
		(options, names, error))                                                           \
	VM(void *, thaw_vm_arg, (const struct thaw_vm *vm), (vm), NULL)                            \
	VM(int, thaw_vm_usage, (struct thaw_vm * vm, struct thaw_vm_usage * usage), (vm, usage),   \
	   -ENOSYS)                                                                                \
	VM(int, thaw_vm_collect, (struct thaw_vm * vm, struct thaw_error * error), (vm, error),    \
	   OLDER(error))                                                                           \
	VM(const char *, thaw_vm_context_name,                                                     \
	   (struct thaw_vm * vm, unsigned index, char name[64]), (vm, index, name),                \
	   (*name = '\0', name))                                                                   \
	VM(thaw_vm_value, thaw_vm_object, (struct thaw_vm * vm), (vm), 0)                          \
	VM(thaw_vm_value, thaw_vm_array, (struct thaw_vm * vm), (vm), 0)                           \
	VM(thaw_vm_value, thaw_vm_bigint, (struct thaw_vm * vm, const char *digits), (vm, digits), \
	   0)                                                                                      \
	VM(int, thaw_vm_get_index,                                                                 \
	   (struct thaw_vm * vm, thaw_vm_value array, uint32_t index, thaw_vm_value * value,       \
	    struct thaw_error * error),                                                            \
	   (vm, array, index, value, error), OLDER(error))                                         \
	VM(int, thaw_vm_set_index,                                                                 \
	   (struct thaw_vm * vm, thaw_vm_value array, uint32_t index, thaw_vm_value value,         \
	    struct thaw_error * error),                                                            \
	   (vm, array, index, value, error), OLDER(error))                                         \
	VM(int, thaw_vm_keys,                                                                      \
	   (struct thaw_vm * vm, thaw_vm_value object, thaw_vm_value * keys,                       \
	    struct thaw_error * error),                                                            \
	   (vm, object, keys, error), OLDER(error))                                                \
	VM(int, thaw_vm_call_packed,                                                               \
	   (struct thaw_vm * vm, const char *name, const void *arguments, size_t bytes,            \
	    unsigned count, void **result, size_t *result_bytes, thaw_vm_value *promise,           \
	    struct thaw_error *error),                                                             \
	   (vm, name, arguments, bytes, count, result, result_bytes, promise, error),              \
	   OLDER(error))                                                                           \
	VM(int, thaw_vm_exit_code, (struct thaw_vm * vm), (vm), -1)                                \
	VM(int, thaw_vm_new,                                                                       \
	   (struct thaw_vm * vm, thaw_vm_value constructor, unsigned count,                        \
	    const thaw_vm_value *arguments, thaw_vm_value *result, struct thaw_error *error),      \
	   (vm, constructor, count, arguments, result, error), OLDER(error))                       \
	VM(int, thaw_vm_has,                                                                       \
	   (struct thaw_vm * vm, thaw_vm_value object, const char *key, struct thaw_error *error), \
	   (vm, object, key, error), OLDER(error))                                                 \
	VM(int, thaw_vm_delete,                                                                    \
	   (struct thaw_vm * vm, thaw_vm_value object, const char *key, struct thaw_error *error), \
	   (vm, object, key, error), OLDER(error))                                                 \
	VM(bool, thaw_vm_same, (struct thaw_vm * vm, thaw_vm_value a, thaw_vm_value b),            \
	   (vm, a, b), false)

struct vm_table {
	uint32_t size, abi; /* sizeof(struct vm_table), GUEST_ABI */
	size_t options_bytes,
		function_bytes; /* sizeof(struct thaw_vm_options), sizeof(struct thaw_vm_function) */
	const char *identity;	/* of the engine */
#define VM_TABLE_POINTER(type, name, parameters, ...) type(*name) parameters;
	VM_TABLE(VM_TABLE_POINTER, VM_TABLE_POINTER, VM_TABLE_POINTER)
};

#endif
