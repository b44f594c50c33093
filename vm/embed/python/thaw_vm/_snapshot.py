# SPDX-License-Identifier: MIT
"""What a VM was between two calls."""
from __future__ import annotations

import ctypes
import json
import os
import weakref
from ctypes import byref, c_size_t, c_void_p
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _library as lib
from ._errors import error_of
from ._library import library

if TYPE_CHECKING:
    from ._vm import VM


def check(code: int, error: lib.ErrorText) -> None:
    if code:
        raise error_of(code, str(error))


def _drop(pointer: int, process: int) -> None:
    if os.getpid() == process:
        library.thaw_vm_snapshot_drop(pointer)


class Difference(NamedTuple):
    """Of two snapshots."""
    pages: int  #: that differ
    bytes: int  #: that differ
    values: Any  #: what `thaw diff --json` says: the variables that differ, and what they lead to


class Snapshot:
    """The contents of a VM, which never change. Any number of VMs begins from one, in any thread; they share the memory that they
    do not write. VM.snapshot() and from_bytes() make them."""

    def __init__(self, pointer: int, options: dict[str, Any]) -> None:
        self.pointer = pointer
        self._options = options
        self._id = ''
        # Its memory is shared with children of this process, the count is not.
        weakref.finalize(self, _drop, pointer, os.getpid()).atexit = False

    def fork(self, **options: Any) -> VM:
        """A VM that begins as this. The options are those of VM(); what is not given is as for the VM that this was taken of:
        its functions, limits and callbacks."""
        from ._vm import VM
        given: dict[str, Any] = {**self._options, **options, 'snapshot': self}
        return VM(**given)

    @property
    def id(self) -> str:
        """128 bits, as hexadecimal digits: equal contents have equal ones. Reads all contents the first time."""
        if not self._id:
            digest, error = (ctypes.c_uint8 * 16)(), lib.ErrorText()
            check(library.thaw_vm_snapshot_id(self.pointer, digest, byref(error)), error)
            self._id = bytes(digest).hex()
        return self._id

    def to_bytes(self, since: Snapshot | None = None) -> bytes:
        """All of it, or what has changed since another one. They are not authenticated: who can change them can change the
        program, which stays in its sandbox."""
        data, size, error = c_void_p(), c_size_t(), lib.ErrorText()
        check(library.thaw_vm_snapshot_bytes(self.pointer, since.pointer if since else None, byref(data), byref(size), byref(error)),
              error)
        return lib.take(data.value or 0, size.value)

    @classmethod
    def from_bytes(cls, data: bytes, base: Snapshot | None = None, *, max_bytes: int = 0) -> Snapshot:
        """And back, wherever the same engine is; `base` is the one that to_bytes() was given as `since`, or its equal.

        Raises Incompatible, Damaged, Error (another base; larger than `max_bytes`), OutOfMemory."""
        pointer, error = c_void_p(), lib.ErrorText()
        data = bytes(data)
        check(library.thaw_vm_snapshot_open(data, len(data), base.pointer if base else None, max_bytes, byref(pointer), byref(error)),
              error)
        return cls(pointer.value or 0, base._options if base else {})

    def write(self, image: str | os.PathLike[str]) -> None:
        """As a new image, with one generation: VM() and the program thaw go on from it, and only what they touch is read."""
        error = lib.ErrorText()
        check(library.thaw_vm_snapshot_write(self.pointer, lib.path_of(image), byref(error)), error)

    def diff(self, other: Snapshot) -> Difference:
        """In what the other one differs from this."""
        difference, text, error = lib.Difference(), c_void_p(), lib.ErrorText()
        check(library.thaw_vm_snapshot_diff(self.pointer, other.pointer, byref(difference), byref(text), byref(error)), error)
        return Difference(difference.pages, difference.bytes, json.loads(lib.take_text(text.value or 0)))

    def __repr__(self) -> str:
        return f'<thaw_vm.Snapshot {self._id or hex(id(self))}>'
