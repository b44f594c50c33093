/* SPDX-License-Identifier: MIT */
/*
 * heap_layout.h - the memory layout of quickjs-wasi 3.6.2 (QuickJS-NG 0.17.0 for wasm32): the
 * offsets, in bytes, of the fields that vm/inspect reads in a heap, and that redeclare.c,
 * completion.c, kinds.c, pack.c, free_memory.c and vm/js/upgrade read in the VM. No other file knows them.
 *
 * They were found by reading heaps of programs whose objects are known. Before a heap is read by
 * this table, graph_check() checks what must hold if it has this layout; tests/inspect/heap_graph.c
 * compares every kind of value with what the program itself printed.
 *
 * A JSValue is 8 bytes. Every block that the engine allocates has 8 bytes before it: what the
 * allocator keeps, the kind of garbage-collected object, and the reference count.
 */
#ifndef VM_JS_HEAP_LAYOUT_H
#define VM_JS_HEAP_LAYOUT_H

/* Tags: the upper half of a JSValue. What is none of these is a float. */
enum {
	BOX_BIGINT = -9,
	BOX_SYMBOL = -8,
	BOX_STRING = -7,
	BOX_ROPE = -6,
	BOX_MODULE = -3,
	BOX_BYTECODE = -2,
	BOX_OBJECT = -1,
	BOX_INT = 0,
	BOX_BOOL = 1,
	BOX_NULL = 2,
	BOX_UNDEFINED = 3,
	BOX_UNINITIALIZED = 4,
	BOX_SHORT_BIGINT = 7,
};
#define FLOAT_ADDEND (0x7ff8000aull << 32)

enum { /* words of the engine's data section: what qjs_get_runtime_ptr() and its like return */
       AT_RUNTIME = 1165720,
       AT_CONTEXT = 1165724,
};

enum { /* dlmalloc's struct malloc_state, in the data section */
       AT_ALLOCATOR = 1166888,
       ALLOC_REST_BYTES = 8, /* u32: of the last remainder */
       ALLOC_TOP_BYTES = 12, /* u32: of the chunk at the end of the memory */
       ALLOC_REST = 20,
       ALLOC_TOP = 24,
       ALLOC_TREE = 304,
       ALLOC_TREES = 32,
       ALLOC_TREE_FIRST = 8, /* the first with chunks of 4 KiB and more */
};
enum { /* a free chunk in one of the trees */
       CHUNK_HEAD =
	       4, /* u32: bytes, and 3 flags: the chunk before is used, this one is, another one */
       CHUNK_FLAGS = 7,
       CHUNK_USED = 2,
       CHUNK_USER = 8,	    /* where the bytes of the program are in a used one */
       CHUNK_NEXT = 8,	    /* of the same size */
       CHUNK_CHILDREN = 16, /* two */
       CHUNK_BYTES = 32,    /* to the end of its links */
};

enum { /* before a block */
       BLOCK_HEADER = 8,
       BLOCK_INDEX = -8, /* u16; 0xffff: not of an arena */
       BLOCK_SIZE = -6,	 /* u8: number of the size class */
       BLOCK_TYPE = -5,	 /* u8: enum below, and the collector's mark in bit 7 */
       BLOCK_REFERENCES = -4,
       BLOCK_LARGE = -12, /* u32: dlmalloc's chunk size and 3 flags, if not of an arena */
};
enum { GC_OBJECT, GC_BYTECODE, GC_SHAPE, GC_CELL, GC_ASYNC, GC_CONTEXT, GC_TYPES };
#define SIZE_CLASSES 31u

enum { /* struct list_head */
       LIST_PREV = 0,
       LIST_NEXT = 4,
       LIST_BYTES = 8,
};

enum { /* JSRuntime */
       RT_MALLOC_SIZE = 24,
       RT_NO_BYTES = 544, /* the address that stands for a block of no bytes */
       RT_ATOM_SIZE = 556,
       RT_ATOM_HASH = 564,
       RT_ATOM_ARRAY = 568,
       RT_CLASS_COUNT = 580,
       RT_CLASS_ARRAY = 584,
       RT_CONTEXT_LIST = 588,
       RT_GC_OBJECTS = 596,
       RT_EXCEPTION = 648,
       RT_STACK_FRAME = 660,
       RT_JOBS = 692,
       RT_SHAPE_HASH = 768,
       RT_OPAQUE = 772,
       RT_BYTES = 784,
};

enum { CLASS_ID = 0, CLASS_NAME = 4, CLASS_BYTES = 24 };

enum { /* JSContext */
       CX_RUNTIME = 8,
       CX_LINK = 12,
       CX_SHAPES = 28, /* five of them */
       CX_SHAPES_END = 48,
       CX_CLASS_PROTO = 48,
       CX_VALUES = 56, /* JSValues, up to the end */
       CX_GLOBAL_OBJECT = 256,
       CX_GLOBAL_VARIABLES = 264,
       CX_MODULES = 296,
       CX_BYTES = 316,
};

enum {		       /* JSString; the text follows, or a pointer to it */
       STR_LENGTH = 0, /* 31 bits of units, one of width */
       STR_HASH = 4,   /* 28 bits of hash, 2 of kind, 2 of atom type */
       STR_TEXT = 24,
       STR_SLICE_START = 28, /* in bytes; STR_TEXT is the string it is a part of */
};
enum { STRING_NORMAL, STRING_SLICE, STRING_INDIRECT };
enum { ATOM_NONE, ATOM_STRING, ATOM_GLOBAL_SYMBOL, ATOM_SYMBOL };
enum { ROPE_LENGTH = 0, ROPE_LEFT = 8, ROPE_RIGHT = 16 };
enum { BIGINT_LENGTH = 0, BIGINT_LIMBS = 4 };

enum {		      /* JSObject */
       OBJ_FLAGS = 8, /* u16 */
       OBJ_CLASS = 10,
       OBJ_SHAPE = 12,
       OBJ_PROPERTIES = 16,
       OBJ_DATA = 24,
       OBJ_BYTES = 40,
};
#define OBJ_FAST_ARRAY 0x10u

enum { /* JSShape, then a hash table of u32, then the properties */
       SHAPE_HASH_MASK = 16,
       SHAPE_COUNT = 24,
       SHAPE_PROTO = 36,
       SHAPE_TABLE = 40,
       SHAPE_PROPERTY_BYTES = 8, /* flags in the upper 6 bits of a word, then the atom */
};
enum {
	PROPERTY_CONFIGURABLE = 1,
	PROPERTY_WRITABLE = 2,
	PROPERTY_ENUMERABLE = 4,
	PROPERTY_KIND = 3 << 4,
	PROPERTY_NORMAL = 0 << 4,
	PROPERTY_ACCESSOR = 1 << 4,
	PROPERTY_CELL = 2 << 4,
	PROPERTY_LAZY = 3 << 4, /* made when it is first asked for */
};

enum { /* what JSObject has at OBJ_DATA, by class */
       FUNC_BYTECODE = 24,
       FUNC_CELLS = 28,
       FUNC_HOME = 32,
       ARRAY_VALUES = 28,
       ARRAY_COUNT = 32,
       REGEXP_PATTERN = 24,
       REGEXP_CODE = 28,
};

enum { CELL_DETACHED = 8, CELL_POINTER = 12, CELL_VALUE = 16 };

enum { /* JSFunctionBytecode */
       BC_CODE = 12,
       BC_CODE_BYTES = 16,
       BC_NAME = 20,
       BC_VARIABLES = 24,
       BC_CLOSURE = 28,
       BC_ARGUMENTS = 32,     /* u16 */
       BC_LOCALS = 34,	      /* u16 */
       BC_CLOSURE_COUNT = 42, /* u16 */
       BC_CONSTANT_COUNT = 44,
       BC_REALM = 48,
       BC_CONSTANTS = 52,
       BC_FILE = 56,
       BC_LINE = 60,
       BC_LINES_TABLE = 76,
       BC_SOURCE = 80,
};
enum { VARIABLE_NAME = 0, VARIABLE_BYTES = 20 };
enum { CLOSURE_KIND = 0 /* 3 bits */, CLOSURE_CONST = 1 << 4, CLOSURE_NAME = 4, CLOSURE_BYTES = 8 };
enum { CLOSURE_MODULE_DECLARATION = 6, CLOSURE_MODULE_IMPORT = 7 };

enum { /* JSStackFrame */
       FRAME_PREVIOUS = 0,
       FRAME_FUNCTION = 8,
       FRAME_ARGUMENTS = 16,
       FRAME_VARIABLES = 20,
       FRAME_CELLS = 24,
       FRAME_CELL_COUNT = 32,	  /* u16 */
       FRAME_ARGUMENT_COUNT = 34, /* u16 */
       FRAME_TOP = 40,
       FRAME_BYTES = 48,
};
enum { STATE_THIS = 0, STATE_FRAME = 16 };
enum { ASYNC_RESOLVERS = 8, ASYNC_ACTIVE = 24, ASYNC_STATE = 32 };
enum { GENERATOR_STATE = 0, GENERATOR_FUNCTION = 8, GENERATOR_QUEUE = 72 };
enum { GENERATOR_START, GENERATOR_YIELD, GENERATOR_YIELD_STAR, GENERATOR_RUNNING, GENERATOR_DONE };
enum { REQUEST_VALUES = 16 }; /* of an async generator: result, promise, its two resolvers */

enum { /* JSModuleDef */
       MODULE_NAME = 0,
       MODULE_LINK = 4,
       MODULE_REQUESTS = 12,
       MODULE_REQUEST_COUNT = 16,
       MODULE_EXPORTS = 24,
       MODULE_EXPORT_COUNT = 28,
       MODULE_STARS = 36,
       MODULE_STAR_COUNT = 40,
       MODULE_IMPORTS = 48,
       MODULE_IMPORT_COUNT = 52,
       MODULE_VALUES = 64, /* two JSValues: import attributes, namespace */
       MODULE_NAMESPACE = 72,
       MODULE_FUNCTION = 80,
       MODULE_INIT = 88,   /* of one that has no code (JSON) */
       MODULE_STATUS = 95, /* u8 */
       MODULE_PARENTS = 108,
       MODULE_PARENT_COUNT = 112,
       MODULE_PENDING = 120, /* modules that it waits for */
       MODULE_CYCLE_ROOT = 136,
       MODULE_PROMISE = 144,
       MODULE_EXCEPTION = 176,
       MODULE_META = 184,
       MODULE_PRIVATE = 192,
       MODULE_BYTES = 200,
};
enum { STATUS_EVALUATING_ASYNC = 4, STATUS_EVALUATED = 5 };
enum { REQUEST_NAME = 0, REQUEST_MODULE = 4, REQUEST_ATTRIBUTES = 8, REQUEST_BYTES = 16 };
enum {
	EXPORT_VARIABLE = 0,
	EXPORT_CELL = 4,
	EXPORT_TYPE = 8,
	EXPORT_LOCAL = 12,
	EXPORT_NAME = 16,
	EXPORT_BYTES = 20,
};
enum { IMPORT_VARIABLE = 0, IMPORT_NAME = 4, IMPORT_REQUEST = 8, IMPORT_BYTES = 12 };

enum { MAP_RECORDS = 4, MAP_COUNT = 12, MAP_HASH = 16 };
enum { RECORD_LINK = 12, RECORD_KEY = 32, RECORD_VALUE = 40, RECORD_EMPTY = 4, RECORD_BYTES = 48 };

enum { PROMISE_STATE = 0, PROMISE_REACTIONS = 4, PROMISE_RESULT = 24 };
enum { REACTION_VALUES = 8 }; /* two resolvers and the handler */

enum { BUFFER_LENGTH = 0, BUFFER_DATA = 12 };
enum { TYPED_BUFFER = 12, TYPED_OFFSET = 16, TYPED_LENGTH = 20, TYPED_TRACKS = 24 };
enum { BOUND_FUNCTION = 0, BOUND_THIS = 8, BOUND_COUNT = 16, BOUND_ARGUMENTS = 24 };
enum { DATA_COUNT = 5 /* u8 */, DATA_VALUES = 8 };
enum { PROXY_TARGET = 0, PROXY_HANDLER = 8 };
enum { REGISTRY_CALLBACK = 16, ENTRY_VALUES = 8 }; /* of an entry: target, what is held, token */
enum { JOB_COUNT = 16, JOB_VALUES = 24 };

#endif
