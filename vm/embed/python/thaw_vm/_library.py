# SPDX-License-Identifier: MIT
"""libthawvm for ctypes: where it is, its structures and functions, as in thaw_vm.h.

Calls release the GIL: another Python thread may run while JavaScript does. Which library: the one that THAW_VM_LIBRARY names, else
the one beside this file (a wheel's), that of the same `make install`, the system's.
"""
from __future__ import annotations

import ctypes
import os
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_double, c_int, c_size_t, c_uint, c_uint32, c_uint64, c_void_p
from typing import Any

from ._errors import OutOfMemory

FOREVER = 2**64 - 1  # UINT64_MAX of times
PROMISE = 1  # a function's flag
MODULE = 1  # thaw_vm_eval()'s

# enum thaw_vm_kind
(NONE, UNDEFINED, NULL, BOOLEAN, NUMBER, BIGINT, STRING, SYMBOL, FUNCTION, ARRAY, BYTES, DATE, ERROR, A_PROMISE, OBJECT,
 OTHER) = range(16)

NO_PROMISE, WAITS, FULFILLED, REJECTED = range(4)  # enum thaw_vm_promise

CALLBACK = CFUNCTYPE(c_uint32, c_void_p, c_void_p, c_uint64, c_uint, POINTER(c_uint32))
LOG = CFUNCTYPE(None, c_void_p, c_int, c_void_p, c_size_t)
LOAD_MODULE = CFUNCTYPE(c_void_p, c_void_p, c_char_p, POINTER(c_size_t))
RESOLVE_MODULE = CFUNCTYPE(c_void_p, c_void_p, c_char_p, c_char_p)
POLL = CFUNCTYPE(ctypes.c_bool, c_void_p)
NOTIFY = CFUNCTYPE(None, c_void_p)


class ErrorText(Structure):
    """struct thaw_error"""
    _fields_ = [('code', c_int), ('text', ctypes.c_char * 504)]

    def __str__(self) -> str:
        text: bytes = self.text
        return text.decode('utf-8', 'replace')


class Function(Structure):
    """struct thaw_vm_function"""
    _fields_ = [('name', c_char_p), ('call', CALLBACK), ('arg', c_void_p), ('flags', c_uint)]


class Options(Structure):
    """struct thaw_vm_options"""
    _fields_ = [('size', c_size_t), ('image', c_char_p), ('generation', c_uint64), ('max_bytes', c_size_t),
                ('turn_ns', c_uint64), ('functions', POINTER(Function)), ('function_count', c_uint), ('log', LOG),
                ('load_module', LOAD_MODULE), ('arg', c_void_p), ('snapshot', c_void_p), ('at', c_char_p),
                ('resolve_module', RESOLVE_MODULE), ('max_log_bytes', c_uint64), ('poll', POLL), ('poll_ns', c_uint64),
                ('notify', NOTIFY)]


class Usage(Structure):
    """struct thaw_vm_usage"""
    _fields_ = [('heap_bytes', c_uint64), ('live_bytes', c_uint64), ('turns', c_uint64)]


class Generation(Structure):
    """struct thaw_vm_generation"""
    _fields_ = [('number', c_uint64), ('parent', c_uint64), ('time_ns', c_uint64), ('heap_bytes', c_uint64),
                ('bytes_written', c_uint64), ('names', c_char_p)]


class Difference(Structure):
    """struct thaw_vm_difference"""
    _fields_ = [('pages', c_uint64), ('bytes', c_uint64)]


_value, _vm, _error, _text = c_uint32, c_void_p, c_void_p, c_char_p
_prototypes: dict[str, tuple[Any, list[Any]]] = {
    'open': (c_int, [c_void_p, c_void_p, _error]),
    'close': (c_int, [_vm]),
    'eval': (c_int, [_vm, _text, c_size_t, _text, c_uint, c_void_p, _error]),
    'lookup': (c_int, [_vm, _text, c_void_p, c_void_p, _error]),
    'apply': (c_int, [_vm, _value, _value, c_uint, c_void_p, c_void_p, _error]),
    'promise': (c_int, [_vm, _value, c_void_p]),
    'kind': (c_int, [_vm, _value]),
    'global': (_value, [_vm]),
    'number': (_value, [_vm, c_double]),
    'set': (c_int, [_vm, _value, _text, _value, _error]),
    'copy': (_value, [_vm, _value]),
    'free': (None, [_vm, _value]),
    'to_number': (c_double, [_vm, _value]),
    'to_string': (c_void_p, [_vm, _value, c_void_p]),
    'pack': (c_int, [_vm, c_uint, c_void_p, c_void_p, c_void_p, _error]),
    'unpack': (c_int, [_vm, _text, c_size_t, c_uint, c_void_p, _error]),
    'exception': (_value, [_vm]),
    'throw': (_value, [_vm, _text, _text]),
    'throw_value': (_value, [_vm, _value]),
    'settle': (c_int, [_vm, c_uint64, _value, _text, _error]),
    'reject': (c_int, [_vm, c_uint64, _value, _error]),
    'ticket': (_value, [_vm, c_void_p]),
    'tickets': (c_int, [_vm, c_void_p, c_uint, _error]),
    'ticket_call': (c_int, [_vm, c_uint64, c_void_p, c_void_p, _error]),
    'step': (c_int, [_vm, _error]),
    'next_due': (c_uint64, [_vm]),
    'interrupt': (None, [_vm]),
    'checkpoint': (c_int, [_vm, _text, c_void_p, _error]),
    'checkpoint_begin': (c_int, [_vm, _text, _error]),
    'checkpoint_poll': (c_int, [_vm, c_void_p, _error]),
    'generation': (c_uint64, [_vm]),
    'generations': (c_int, [_text, c_void_p, _error]),
    'missing': (c_int, [c_void_p, c_void_p, _error]),
    'usage': (c_int, [_vm, c_void_p]),
    'collect': (c_int, [_vm, _error]),
    'context_name': (_text, [_vm, c_uint, c_void_p]),
    'context_new': (c_int, [_vm, _text, _error]),
    'context_find': (c_int, [_vm, _text]),
    'context_count': (c_uint, [_vm]),
    'context_use': (c_int, [_vm, c_uint, _error]),
    'snapshot': (c_int, [_vm, c_void_p, _error]),
    'snapshot_drop': (None, [c_void_p]),
    'rollback': (c_int, [_vm, c_void_p, _error]),
    'snapshot_id': (c_int, [c_void_p, c_void_p, _error]),
    'snapshot_bytes': (c_int, [c_void_p, c_void_p, c_void_p, c_void_p, _error]),
    'snapshot_write': (c_int, [c_void_p, _text, _error]),
    'snapshot_diff': (c_int, [c_void_p, c_void_p, c_void_p, c_void_p, _error]),
    'snapshot_open': (c_int, [_text, c_size_t, c_void_p, c_uint64, c_void_p, _error]),
}


def _load() -> Any:
    here = os.path.dirname(os.path.abspath(__file__))
    beside = os.path.join(here, 'libthawvm.so')
    prefix = os.path.join(here, '..', '..', '..', 'libthawvm.so.0')  # of PREFIX/lib/thaw/python/thaw_vm
    path = os.environ.get('THAW_VM_LIBRARY') or next((path for path in (beside, prefix) if os.path.exists(path)), 'libthawvm.so.0')
    try:
        loaded = ctypes.CDLL(path)
    except OSError as error:
        raise ImportError(f'thaw_vm needs libthawvm: {error} (install libthawvm0, or name it by THAW_VM_LIBRARY)') from None
    for name, (result, arguments) in _prototypes.items():
        try:
            function = getattr(loaded, 'thaw_vm_' + name)
        except AttributeError:
            raise ImportError(f'{path} is older than this package: it has no thaw_vm_{name}()') from None
        function.restype, function.argtypes = result, arguments
    return loaded


library = _load()
_libc = ctypes.CDLL(None)
_libc.malloc.restype, _libc.malloc.argtypes = c_void_p, [c_size_t]
_libc.free.restype, _libc.free.argtypes = None, [c_void_p]


def take(pointer: int, size: int = -1) -> bytes:
    """What the library has malloc'ed, which is freed. Without a size, a C string."""
    try:
        return ctypes.string_at(pointer, size)
    finally:
        _libc.free(pointer)


def release(pointer: int) -> None:
    _libc.free(pointer)


def take_text(pointer: int) -> str:
    return take(pointer).decode('utf-8', 'replace')


def name_of(text: str) -> bytes:
    """As a C string: with a zero in it, it would name another thing."""
    if not isinstance(text, str):
        raise TypeError(f'a name is a str, not {type(text).__name__}')
    return path_of(text.encode())


def path_of(path: str | bytes | os.PathLike[str]) -> bytes:
    data = os.fsencode(path)
    if b'\0' in data:
        raise ValueError('a name or path must not have a null character in it')
    return data


def give(data: bytes) -> int:
    """What the library will free. 0: no memory."""
    pointer: int = _libc.malloc(len(data) + 1) or 0
    if pointer:
        ctypes.memmove(pointer, data, len(data) + 1)  # bytes end with a zero, too
    return pointer


def need(value: int) -> int:
    """A handle that was made."""
    if not value:
        raise OutOfMemory('no memory in the VM for a value, or it cannot run')
    return value
