# SPDX-License-Identifier: MIT
"""VM and Context: what a program of Python's has of a VM."""
from __future__ import annotations

import os
import threading
import weakref
from ctypes import POINTER, byref, c_uint64, c_void_p, cast, create_string_buffer
from typing import Any, Callable, Mapping, NamedTuple

from . import _core
from . import _library as lib
from ._core import Core
from ._errors import error_of
from ._library import library
from ._snapshot import Snapshot


class Ticket(NamedTuple):
    """A promise that the program has of a host function, and that waits for Python."""
    number: int
    function: str  #: the name of the host function
    arguments: list[Any]  #: of its call


class Usage(NamedTuple):
    """Of memory, in bytes."""
    heap_bytes: int  #: of the sandbox: it does not shrink, but what is free in it takes no memory
    live_bytes: int  #: allocated in it, garbage included
    turns: int  #: calls and timers that have ended


class Generation(NamedTuple):
    """What an image holds."""
    number: int
    parent: int  #: that it was made from; 0: none
    time: float  #: seconds since 1970
    heap_bytes: int
    bytes_written: int
    names: list[str]


def generations(image: str | os.PathLike[str]) -> list[Generation]:
    """Of an image, oldest first; also of one in use."""
    pointer, error = c_void_p(), lib.ErrorText()
    count = library.thaw_vm_generations(lib.path_of(image), byref(pointer), byref(error))
    if count < 0:
        raise error_of(count, str(error))
    try:
        table = cast(pointer, POINTER(lib.Generation))
        return [Generation(one.number, one.parent, one.time_ns / 1e9, one.heap_bytes, one.bytes_written, one.names.decode().split())
                for one in table[:count]]
    finally:
        lib.release(pointer.value or 0)


class Context:
    """One program in a VM, with globals of its own. VM.context() makes them; the VM itself is the first one."""

    def __init__(self, core: Core, index: int, name: str) -> None:
        self._core, self._index, self._name = core, index, name

    @property
    def name(self) -> str:
        """"" is the first one's."""
        return self._name

    def eval(self, code: str, name: str = '<eval>', *, module: bool = False, wait: bool = True, timeout: float | None = None) -> Any:
        """Run code, and the promise reactions that are due after it: the value of its last statement, and of a promise, what it
        comes to, for which it waits at most `timeout` seconds (None: for as long as there is something to wait for, else
        Pending). Without `wait`, a promise is None. Of a module, None. `name` is what stacks call the code.

        Raises JavaScriptError, Interrupted, TimeLimit, Timeout, Pending, Trapped, Ended."""
        promise, value = self._core.perform(self._index, self._core.eval, code, name, lib.MODULE if module else 0)
        if not promise:
            return value
        return self._core.wait(promise, timeout) if wait else self._core.drop(promise)

    async def eval_async(self, code: str, name: str = '<eval>', *, module: bool = False) -> Any:
        """The same, but others of the loop go on while a promise is waited for."""
        promise, value = self._core.perform(self._index, self._core.eval, code, name, lib.MODULE if module else 0)
        return await self._core.wait_async(promise) if promise else value

    def call(self, function: str, *arguments: Any, timeout: float | None = None) -> Any:
        """Call the function of that name, as "tools.add". What its promise comes to, as eval()."""
        promise, value = self._core.perform(self._index, self._core.call, function, arguments)
        return self._core.wait(promise, timeout) if promise else value

    async def call_async(self, function: str, *arguments: Any) -> Any:
        """The same, but others of the loop go on while a promise is waited for."""
        promise, value = self._core.perform(self._index, self._core.call, function, arguments)
        return await self._core.wait_async(promise) if promise else value

    def set(self, name: str, value: Any) -> None:
        """Make a global variable."""
        self._core.set_global(self._index, name, value)

    def __repr__(self) -> str:
        return f'<thaw_vm.{type(self).__name__} {self._name or hex(id(self))}>'


def _close(core: Core) -> None:
    try:
        core.close()
    except Exception:  # in use by a thread that outlives the interpreter
        pass


class VM(Context):
    """One sandboxed heap with JavaScript in it, and nothing of this process but the functions that it is given.

    image           a file to go on from, made if it is not there; checkpoint() writes it. None: nothing persists
    at              the number or the name of a generation of the image; None: the newest
    functions       what the program may call, by the name of a global variable. Of a coroutine function it gets a promise. An image
                    refers to functions by their names, and needs all that it has seen
    max_bytes       of heap, a multiple of 64 KiB, at least 16 MiB; 0: 4 GiB
    turn            seconds that one call may last, and one timer; None: no limit. Waiting is not counted
    log             log(fd, text) gets what the program prints (fd 1, 2), and what it did not catch (fd 2)
    max_log_bytes   that one call may print; then it is cut short; 0: no limit
    load_module     load_module(name) gives the source of what is imported; None: there is none of that name
    resolve_module  resolve_module(importer, name) gives the name that load_module is asked for; without it, "./a.js" is beside its
                    importer, and others are what they are
    snapshot        begin as this

    What a function raises is an Error in the program, and the cause of the JavaScriptError if the program does not catch that. What is
    no Exception (KeyboardInterrupt, SystemExit), and whatever the other callbacks raise, ends the call and comes out of it.

    A VM may be used by any thread, but by one at a time (Busy); the GIL is free meanwhile. In a child by fork() it cannot be used.
    Enable faulthandler before the first VM, not after.
    """

    def __init__(self, image: str | os.PathLike[str] | None = None, *, at: int | str | None = None,
                 functions: Mapping[str, Callable[..., Any]] | None = None, max_bytes: int = 0, turn: float | None = None,
                 log: Callable[[int, str], Any] | None = None, max_log_bytes: int = 0,
                 load_module: Callable[[str], str | bytes | None] | None = None,
                 resolve_module: Callable[[str, str], str | None] | None = None, snapshot: Snapshot | None = None) -> None:
        options: dict[str, Any] = {'functions': dict(functions or {}), 'max_bytes': max_bytes, 'turn': turn, 'log': log,
                   'max_log_bytes': max_log_bytes, 'load_module': load_module, 'resolve_module': resolve_module}
        for name, function in options['functions'].items():
            if not callable(function):
                raise TypeError(f'the host function {name} is not callable')
        for name in 'log', 'load_module', 'resolve_module':
            if options[name] is not None and not callable(options[name]):
                raise TypeError(f'{name} is not callable')
        if snapshot is not None and not isinstance(snapshot, Snapshot):
            raise TypeError(f'snapshot is a Snapshot, not {type(snapshot).__name__}')
        if turn is not None and not 0 < turn < 1e9:
            raise ValueError('turn is a number of seconds, above 0')
        super().__init__(Core({**options, 'image': None if image is None else lib.path_of(image), 'at': None if at is None else lib.name_of(str(at)),
                               'snapshot': snapshot, 'turn_ns': 0 if turn is None else max(1, int(turn * 1e9))}), 0, '')
        self._options = options
        self._core.open()
        _open.add(self._core)
        self._finalizer = weakref.finalize(self, _close, self._core)

    def __enter__(self) -> VM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Takes no checkpoint. Coroutines that work for the program are cancelled. Any number of times. Busy: from inside of a
        call, or while another thread is in the VM."""
        self._core.close()

    @property
    def closed(self) -> bool:
        return not self._core.pointer

    def context(self, name: str) -> Context:
        """The program of that name, made if there is none."""
        core = self._core
        core.begin()
        try:
            index = library.thaw_vm_context_find(core.pointer, lib.name_of(name))
            if index < 0:
                index = core.check(library.thaw_vm_context_new(core.pointer, lib.name_of(name), core._error_at))
        finally:
            core.end()
        return Context(core, index, name)

    @property
    def contexts(self) -> list[str]:
        """The names of all; the first one's is ""."""
        core, name = self._core, create_string_buffer(64)
        core.begin()
        try:
            return [(library.thaw_vm_context_name(core.pointer, index, name) or b'').decode()
                    for index in range(library.thaw_vm_context_count(core.pointer))]
        finally:
            core.end()

    # ---- Memory

    def usage(self) -> Usage:
        core, usage = self._core, lib.Usage()
        core.begin()
        try:
            core.check(library.thaw_vm_usage(core.pointer, byref(usage)))
        finally:
            core.end()
        return Usage(usage.heap_bytes, usage.live_bytes, usage.turns)

    def collect(self) -> None:
        """Collect garbage now, which else is done when the heap has grown enough."""
        core = self._core
        core.begin()
        try:
            core.check(library.thaw_vm_collect(core.pointer, core._error_at))
        finally:
            core.end()

    # ---- Time

    def step(self) -> int:
        """Run the promise reactions and timers that are due now: how many timers."""
        return self._core.step()

    def next_due(self) -> float | None:
        """Seconds until step() has something to do; None: never by itself."""
        return self._core.tasks.due()

    def run(self, timeout: float | None = None) -> None:
        """Run timers and coroutines until there are none; Timeout: that takes longer."""
        self._core.tasks.run(timeout)

    async def run_async(self) -> None:
        """The same, with the others of the loop."""
        await self._core.tasks.run_async()

    def interrupt(self) -> None:
        """Cut short the call or the wait that is under way, or the next call. For other threads, and signal handlers."""
        self._core.interrupt()

    # ---- Promises that wait for Python

    def tickets(self) -> list[Ticket]:
        """Promises of host functions that no coroutine of this process works for, oldest first: as a rule, of the process that
        has made the image or the snapshot."""
        core = self._core
        core.begin()
        try:
            return [Ticket(number, *core.ticket_call(number)) for number in core.tickets()]
        finally:
            core.end()

    def settle(self, ticket: Ticket | int, value: Any = None) -> None:
        """Resolve the promise of a ticket."""
        self._settle(self._core.settle, ticket, value)

    def reject(self, ticket: Ticket | int, reason: BaseException | str) -> None:
        """Reject it with an Error."""
        self._settle(self._core.reject, ticket, Exception(reason) if isinstance(reason, str) else reason)

    def _settle(self, how: Callable[..., None], ticket: Ticket | int, value: Any) -> None:
        self._core.begin()
        try:
            how(ticket.number if isinstance(ticket, Ticket) else ticket, value)
        finally:
            self._core.end()

    def retry(self, ticket: Ticket) -> None:
        """Call its coroutine function again, which settles it."""
        result = self._core.options['functions'][ticket.function](*ticket.arguments)
        if hasattr(result, '__await__'):
            self._core.tasks.start(ticket.number, result)
        else:
            self.settle(ticket, result)

    # ---- Generations and snapshots

    def checkpoint(self, name: str | None = None) -> int:
        """Make what is in the VM durable in its image, perhaps under a name: the number of the generation."""
        core, number = self._core, c_uint64()
        core.begin()
        try:
            core.forget_checkpoint()
            core.check(library.thaw_vm_checkpoint(core.pointer, lib.name_of(name) if name else None, byref(number), core._error_at))
        finally:
            core.end()
        return number.value

    async def checkpoint_async(self, name: str | None = None) -> int:
        """The same in the background: what is in the VM now becomes durable while it goes on. One at a time (Busy)."""
        self._core.checkpoint_begin(name)
        return await self._core.tasks.generation()

    @property
    def generation(self) -> int:
        """The newest one that is durable, of those that the VM came from or has made; 0: none."""
        return int(library.thaw_vm_generation(self._core.pointer)) if self._core.pointer else 0

    def snapshot(self) -> Snapshot:
        """What the VM is now, in memory."""
        core, pointer = self._core, c_void_p()
        core.begin()
        try:
            core.check(library.thaw_vm_snapshot(core.pointer, byref(pointer), core._error_at))
        finally:
            core.end()
        return Snapshot(pointer.value or 0, self._options)

    def rollback(self, snapshot: Snapshot) -> None:
        """Make a VM without an image what it was, or another one was; also one that has trapped, or ended. Coroutines that work for
        the program are cancelled, and values of before are of no use any more."""
        self._core.rollback(snapshot.pointer)


_open: weakref.WeakSet[Core] = weakref.WeakSet()


def _in_child() -> None:
    _core.main_thread = threading.get_ident()
    del _core._active[:]
    for core in list(_open):
        core.forget()


os.register_at_fork(after_in_child=_in_child)

