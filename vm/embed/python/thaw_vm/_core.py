# SPDX-License-Identifier: MIT
"""One struct thaw_vm: who may call it, what its calls come to, and its callbacks. VM and Context (_vm.py) are what is around it.

A signal handler of Python's that raises (Ctrl-C) does so at the next bytecode of the main thread, which may be the first one of a
callback: before any `try` of it, so that ctypes would print the exception and go on with 0. So while the main thread is in a VM,
sys.unraisablehook finds what our callbacks could not catch; it ends the call, and comes out of it.
"""
from __future__ import annotations

import asyncio
import collections
import ctypes
import errno
import sys
import threading
import warnings
import weakref
from ctypes import byref, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any, Callable

from . import _library as lib
from ._errors import (EEXCEPTION, EINTERRUPTED, EMISSING, Busy, Error, Interrupted, JavaScriptError, Missing, OutOfMemory, TimeLimit,
                      error_of)
from ._library import library, take
from ._tasks import Tasks, is_coroutine_function
from ._values import decode, encode, error_message, error_name, number_of

_CAUSE = 'pythonException'  # the property of an Error by which the exception is found that it was made of
_arrays: Any = [c_uint32 * count for count in range(9)]


class Value:
    """Something of a VM that Python has nothing for: a symbol, a Map, a class of the program's. It can be given back to the VM
    as an argument or a result, until the VM is closed or rolled back."""

    def __init__(self, core: Core, handle: int) -> None:
        self._core, self._epoch, self._handle = core, core.epoch, handle

    def __del__(self) -> None:
        core = getattr(self, '_core', None)
        if core is not None:
            core.garbage.append((self._epoch, self._handle))  # perhaps not the thread that may use the VM now


class Function(Value):
    """A function of a VM's. Calling it converts the arguments and the result as VM.call() does."""

    def __call__(self, *arguments: Any) -> Any:
        core = self._core
        promise, value = core.perform(None, self._apply, arguments)
        return core.wait(promise, None) if promise else value

    def _apply(self, arguments: tuple[Any, ...]) -> int:
        return self._core.apply(self._core.handle_of(self), 0, arguments)


def _callbacks(reference: Callable[[], Core | None]) -> tuple[Any, ...]:
    """What the library calls. `reference` is weak, so that a VM that nobody has any more goes at once."""

    def call(vm: int, arg: int, ticket: int, count: int, arguments: Any) -> int:
        try:
            return reference().host_call(vm, arg, ticket, arguments[:count])  # type: ignore[union-attr]
        except BaseException as error:
            return reference().host_failed(error)  # type: ignore[union-attr]

    def guarded(method: Callable[..., int | None]) -> Callable[..., int | None]:
        """What that raises ends the call, and comes out of it."""
        def callback(_arg: int, *arguments: Any) -> int | None:
            try:
                return method(reference(), *arguments)
            except BaseException as error:
                reference().cut_by(error)  # type: ignore[union-attr]
                return None

        _ours.add(callback.__code__)
        return callback

    def poll(_arg: int) -> bool:
        return reference() is None  # False; signal handlers run at the first bytecode of this

    def notify(_arg: int) -> None:  # by a thread of the library's
        core = reference()
        if core:
            core.tasks.wake()

    _ours.update(function.__code__ for function in (call, poll))
    return (lib.CALLBACK(call), lib.LOG(guarded(Core.host_log)), lib.LOAD_MODULE(guarded(Core.host_module)),
            lib.RESOLVE_MODULE(guarded(Core.host_resolve)), lib.POLL(poll), lib.NOTIFY(notify))


main_thread = threading.main_thread().ident  # whose signal handlers may raise
_ours: set[Any] = set()
_active: list[Core] = []  # that the main thread is in
_hook_before: Callable[[Any], Any] = sys.__unraisablehook__


def _hook(unraisable: Any) -> None:
    trace = unraisable.exc_traceback
    core = None
    if trace and trace.tb_frame.f_code in _ours:
        core = trace.tb_frame.f_locals['reference']()
    elif _active and threading.get_ident() == main_thread and issubclass(unraisable.exc_type, KeyboardInterrupt):
        core = _active[-1]  # it came in a finalizer
    if core:
        core.cut_by(unraisable.exc_value)
    else:
        _hook_before(unraisable)


class Core:
    """The callers of what is not open(), close() or interrupt() are between begin() and end()."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.pointer = 0
        self.abandoned = False  # the checkpoint that was begun: nobody waits for what comes of it
        self.epoch = 0  # what was before a rollback is of another one
        self.depth = 0  # calls under way
        self.selected: int | None = 0  # the context; None: not known
        self.functions: list[tuple[str, Callable[..., Any]]] = list((options['functions'] or {}).items())
        self.garbage: collections.deque[tuple[int, int]] = collections.deque()
        self.tasks = Tasks(self)
        self._lock = threading.RLock()
        self._in_main = False
        self._alive = threading.RLock()  # held while the VM ends, and while it is interrupted
        self._failure: BaseException | None = None  # what cut the call short that is under way
        self._raised: dict[int, BaseException] = {}  # by functions, since the outermost call began
        self._changed = False  # what a promise waits for may have happened
        self._error = lib.ErrorText()
        self._error_at = byref(self._error)
        self._out, self._out2, self._size, self._where = c_uint32(), c_uint32(), c_size_t(), c_void_p()
        self._out_at, self._out2_at, self._size_at, self._where_at = map(byref, (self._out, self._out2, self._size, self._where))

    # ---- Opening and closing

    def _fill(self, made: lib.Options) -> None:
        given = self.options
        call, log, load_module, resolve_module, poll, notify = _callbacks(weakref.ref(self))
        table = (lib.Function * max(1, len(self.functions)))()
        for number, (name, function) in enumerate(self.functions):
            table[number] = lib.Function(lib.name_of(name), call, number + 1, lib.PROMISE if is_coroutine_function(function) else 0)
        made.size = ctypes.sizeof(made)
        made.functions, made.function_count = table, len(self.functions)
        made.image, made.at = given['image'], given['at']
        made.max_bytes, made.turn_ns, made.max_log_bytes = given['max_bytes'], given['turn_ns'], given['max_log_bytes']
        made.poll, made.notify = poll, notify
        if given['log']:
            made.log = log
        if given['load_module']:
            made.load_module = load_module
        if given['resolve_module']:
            made.resolve_module = resolve_module
        if given['snapshot']:
            made.snapshot = given['snapshot'].pointer

    def open(self) -> None:
        """Once. What the image or the snapshot does then runs here, and may call functions."""
        vm, warning = c_void_p(), lib.ErrorText()
        self._c_options = lib.Options()  # keeps the callbacks
        self._fill(self._c_options)
        self._lock.acquire()
        self.depth = 1
        self._first()
        try:
            code = library.thaw_vm_open(byref(self._c_options), byref(vm), byref(warning))
            self.pointer = vm.value or 0
            if code:
                ctypes.memmove(self._error_at, byref(warning), ctypes.sizeof(warning))
            if code == EMISSING:
                raise self._missing(self._c_options)
            self.check(code)
            if code == 0 and warning.code:  # nothing is lost that a checkpoint had promised, but for the newest of them
                warnings.warn(str(warning), RuntimeWarning, stacklevel=4)
        finally:
            self.end()

    def _missing(self, options: lib.Options) -> Missing:
        text, names = str(self._error), c_void_p()
        count = library.thaw_vm_missing(byref(options), byref(names), self._error_at)
        if count < 0:
            return Missing(text)
        try:
            table = ctypes.cast(names, ctypes.POINTER(ctypes.c_char_p))
            return Missing(text, tuple((table[number] or b'').decode() for number in range(count)))
        finally:
            lib.release(names.value or 0)

    def close(self) -> None:
        """Any number of times. Busy: from inside of a call."""
        if not self.pointer:
            return
        if not self._lock.acquire(False):
            raise Busy('another thread is in the VM')
        try:
            with self._alive:
                pointer, self.pointer = self.pointer, 0
                code = library.thaw_vm_close(pointer)
                if code:
                    self.pointer = pointer
                    raise error_of(code, 'a call of the VM is under way')
        finally:
            self._lock.release()
        self.epoch += 1
        self.tasks.close()

    def forget(self) -> None:
        """In a child of the process by fork(): the VM is the parent's, and its memory here is not complete."""
        self.pointer = 0
        self._lock, self._alive = threading.RLock(), threading.RLock()
        self.tasks.forget()

    def rollback(self, snapshot: int) -> None:
        self.begin()
        try:
            code = library.thaw_vm_rollback(self.pointer, snapshot, self._error_at)
            if code == EMISSING:
                options = lib.Options.from_buffer_copy(self._c_options)
                options.snapshot = snapshot
                raise self._missing(options)
            self.epoch += code == 0 or code == -errno.ENOMEM
            self._failure = None if code else self._failure
            self.check(code)
            self.selected, self._changed = 0, True
        finally:
            self.end()
        self.tasks.drop()

    # ---- Who is in it

    def begin(self) -> None:
        if not self._lock.acquire(False):
            raise Busy('another thread is in the VM')
        if not self.pointer:
            self._lock.release()
            raise Error('the VM is closed, or was opened by the parent of this process')
        self.depth += 1
        if self.depth == 1:
            self._first()

    def _first(self) -> None:
        global _hook_before
        if self.garbage:
            self._collect()
        self._in_main = threading.get_ident() == main_thread
        if self._in_main:
            _active.append(self)
            if sys.unraisablehook is not _hook:
                _hook_before = sys.unraisablehook
                sys.unraisablehook = _hook

    def end(self) -> None:
        self.depth -= 1
        if not self.depth:
            if self._in_main:
                if _active:  # no child by fork()
                    _active.pop()
                if not _active and sys.unraisablehook is _hook:
                    sys.unraisablehook = _hook_before
            if self._raised:
                self._raised.clear()
            if self._changed:
                self._changed = False
                self.tasks.wake()
        self._lock.release()

    def _collect(self) -> None:
        for _ in range(len(self.garbage)):
            epoch, handle = self.garbage.popleft()
            if epoch == self.epoch:
                library.thaw_vm_free(self.pointer, handle)

    def interrupt(self) -> None:
        """Any thread, and signal handlers."""
        with self._alive:
            if self.pointer:
                library.thaw_vm_interrupt(self.pointer)
        self.tasks.interrupt()

    def select(self, index: int) -> None:
        if self.selected != index:
            self.check(library.thaw_vm_context_use(self.pointer, index, self._error_at))
            self.selected = index

    # ---- What a call came to

    def check(self, code: int) -> int:
        """Pass what is no failure, raise what is one."""
        if code >= 0 and self._failure is None:
            return code
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        if code == EEXCEPTION:
            error = self.exception()
            raise error from error.__cause__
        text = str(self._error)
        raise TimeLimit(text, code) if code == EINTERRUPTED and 'time is over' in text else error_of(code, text)

    def exception(self) -> JavaScriptError:
        """What the call before has thrown."""
        text = str(self._error)
        handle = library.thaw_vm_exception(self.pointer)
        return self.error_of_value(handle, text) if handle else JavaScriptError('', text)

    def error_of_value(self, handle: int, text: str) -> JavaScriptError:
        """Of an owned one; the text, if it is no Error."""
        try:
            thrown = self.look(handle)
        except Error:  # it has what cannot be looked at
            return JavaScriptError('', text)
        finally:
            library.thaw_vm_free(self.pointer, handle)
        if not isinstance(thrown, JavaScriptError):
            return JavaScriptError('', text, value=thrown)
        thrown.__cause__ = self._raised.get(thrown.properties.pop(_CAUSE, 0))
        return thrown

    # ---- Values

    def look(self, handle: int) -> Any:
        """A borrowed one, as a value of Python's."""
        return self._look(handle, library.thaw_vm_kind(self.pointer, handle))

    def _look(self, handle: int, kind: int) -> Any:
        vm = self.pointer
        if kind == lib.NUMBER:
            return number_of(library.thaw_vm_to_number(vm, handle))
        if kind == lib.STRING:
            text = library.thaw_vm_to_string(vm, handle, self._size_at)
            if not text:
                raise OutOfMemory('no memory for a string')
            return take(text, self._size.value).decode('utf-8', 'replace')
        if kind == lib.UNDEFINED or kind == lib.NULL:
            return None
        if kind == lib.BOOLEAN:
            return library.thaw_vm_to_number(vm, handle) != 0
        if kind in (lib.FUNCTION, lib.SYMBOL, lib.OTHER, lib.A_PROMISE):
            return (Function if kind == lib.FUNCTION else Value)(self, lib.need(library.thaw_vm_copy(vm, handle)))
        values = c_uint32(handle)
        self.check(library.thaw_vm_pack(vm, 1, byref(values), self._where_at, self._size_at, self._error_at))
        return decode(take(self._where.value or 0, self._size.value))[0]

    def receive(self, handle: int, kind: int) -> Any:
        """An owned one, of that kind."""
        try:
            return self._look(handle, kind)
        finally:
            library.thaw_vm_free(self.pointer, handle)

    def handle_of(self, value: Value) -> int:
        if value._core is not self or value._epoch != self.epoch:
            raise ValueError('the value is of another VM, or of before a rollback')
        return value._handle

    def send(self, values: tuple[Any, ...]) -> tuple[Any, list[int]]:
        """Handles, and those of them that are to be freed."""
        count = len(values)
        array = (_arrays[count] if count < 9 else c_uint32 * count)()
        borrowed = [(number, self.handle_of(value)) for number, value in enumerate(values) if isinstance(value, Value)]
        data = encode(tuple(None if isinstance(value, Value) else value for value in values) if borrowed else values)
        self.check(library.thaw_vm_unpack(self.pointer, data, len(data), count, array, self._error_at))
        owned = array[:]
        for number, handle in borrowed:
            array[number] = handle
        return array, owned

    def send_one(self, value: Any) -> int:
        """An owned handle."""
        if isinstance(value, Value):
            return lib.need(library.thaw_vm_copy(self.pointer, self.handle_of(value)))
        return int(self.send((value,))[1][0])

    def send_error(self, error: BaseException) -> int:
        """An Error that tells of it; an owned handle."""
        handle = self.send_one(error)
        number = len(self._raised) + 1
        self._raised[number] = error
        mark = library.thaw_vm_number(self.pointer, number)
        if mark:
            library.thaw_vm_set(self.pointer, handle, _CAUSE.encode(), mark, None)
            library.thaw_vm_free(self.pointer, mark)
        return handle

    # ---- Calls

    def eval(self, code: str, name: str, flags: int) -> int:
        text = code.encode('utf-8', 'surrogatepass')
        self._changed = True
        self.check(library.thaw_vm_eval(self.pointer, text, len(text), lib.name_of(name), flags, self._out_at, self._error_at))
        return self._out.value

    def apply(self, function: int, this: int, arguments: tuple[Any, ...]) -> int:
        array, owned = self.send(arguments) if arguments else (None, [])
        self._changed = True
        try:
            self.check(library.thaw_vm_apply(self.pointer, function, this, len(arguments), array, self._out_at, self._error_at))
            return self._out.value
        finally:
            for handle in owned:
                library.thaw_vm_free(self.pointer, handle)

    def call(self, name: str, arguments: tuple[Any, ...]) -> int:
        self.check(library.thaw_vm_lookup(self.pointer, lib.name_of(name), self._out_at, self._out2_at, self._error_at))
        function, this = self._out.value, self._out2.value
        try:
            return self.apply(function, this, arguments)
        finally:
            library.thaw_vm_free(self.pointer, function)
            library.thaw_vm_free(self.pointer, this)

    def set_global(self, context: int, name: str, value: Any) -> None:
        self.begin()
        try:
            self.select(context)
            handle, target = self.send_one(value), lib.need(library.thaw_vm_global(self.pointer))
            code = library.thaw_vm_set(self.pointer, target, lib.name_of(name), handle, self._error_at)
            library.thaw_vm_free(self.pointer, target)
            library.thaw_vm_free(self.pointer, handle)
            self.check(code)
        finally:
            self.end()

    def drop(self, handle: int) -> None:
        self.garbage.append((self.epoch, handle))

    def perform(self, context: int | None, what: Callable[..., int], *arguments: Any) -> tuple[int, Any]:
        """A whole call from outside: a handle of its promise, or 0 and its value. Like all that follows not between begin() and
        end()."""
        self.begin()
        try:
            if context is not None and context != self.selected:
                self.select(context)
            handle = what(*arguments)
            kind = library.thaw_vm_kind(self.pointer, handle)
            return (handle, None) if kind == lib.A_PROMISE else (0, self.receive(handle, kind))
        finally:
            self.end()

    def wait(self, promise: int, timeout: float | None) -> Any:
        """What a promise comes to. Consumes its handle."""
        return self._receive_now(self.tasks.wait_for(promise, timeout))

    async def wait_async(self, promise: int) -> Any:
        return self._receive_now(await self.tasks.wait_for_async(promise))

    def _receive_now(self, handle: int) -> Any:
        self.begin()
        try:
            return self.receive(handle, library.thaw_vm_kind(self.pointer, handle))
        finally:
            self.end()

    def step(self) -> int:
        self.begin()
        try:
            ran = self.check(library.thaw_vm_step(self.pointer, self._error_at))
            self._changed = self._changed or ran > 0
            return ran
        finally:
            self.end()

    def look_at_promise(self, handle: int) -> int:
        """Run what is due. What the promise came to, an owned handle; 0: it waits."""
        self.begin()
        try:
            state = library.thaw_vm_promise(self.pointer, handle, self._out_at)
            if state == lib.WAITS:
                self.step()
                state = library.thaw_vm_promise(self.pointer, handle, self._out_at)
            if state == lib.REJECTED:
                error = self.error_of_value(self._out.value, 'a promise was rejected')
                raise error from error.__cause__
            return 0 if state == lib.WAITS else self._out.value
        finally:
            self.end()

    # ---- Tickets: promises that Python settles

    def settle(self, ticket: int, value: Any) -> None:
        handle = 0 if value is None else self.send_one(value)
        try:
            self.check(library.thaw_vm_settle(self.pointer, ticket, handle, None, self._error_at))
            self._changed = True
        finally:
            library.thaw_vm_free(self.pointer, handle)

    def reject(self, ticket: int, reason: BaseException) -> None:
        handle = self.send_error(reason)
        try:
            self.check(library.thaw_vm_reject(self.pointer, ticket, handle, self._error_at))
            self._changed = True
        finally:
            library.thaw_vm_free(self.pointer, handle)

    def settle_by(self, ticket: int, task: asyncio.Task[Any]) -> None:
        """By what has come of a coroutine."""
        self.begin()
        try:
            failure = asyncio.CancelledError('cancelled') if task.cancelled() else task.exception()
            if failure is None:
                try:
                    return self.settle(ticket, task.result())
                except (TypeError, ValueError) as error:  # JavaScript has nothing for it
                    failure = error
            self.reject(ticket, failure)
        except Interrupted as error:
            if isinstance(error, TimeLimit):
                raise
            library.thaw_vm_interrupt(self.pointer)  # that was meant for who waits
        except Error as error:
            if error.code != -errno.ENOENT:  # the program has forgotten the promise
                raise
        finally:
            self.end()

    def tickets(self) -> list[int]:
        """Those that wait and no coroutine works for, oldest first."""
        room = 64
        while True:
            numbers = (c_uint64 * room)()
            count = self.check(library.thaw_vm_tickets(self.pointer, numbers, room, self._error_at))
            if count <= room:
                return [number for number in numbers[:count] if not self.tasks.runs(number)]
            room = count + 16

    def ticket_call(self, ticket: int) -> tuple[str, list[Any]]:
        code = library.thaw_vm_ticket_call(self.pointer, ticket, self._where_at, self._out_at, self._error_at)
        self.check(code)
        name = lib.take_text(self._where.value or 0)
        return name, self.receive(self._out.value, lib.ARRAY)

    # ---- Generations

    def forget_checkpoint(self) -> None:
        """Take what came of one whose waiter was cancelled; else there would never be another."""
        if self.abandoned and library.thaw_vm_checkpoint_poll(self.pointer, byref(c_uint64()), None):
            self.abandoned = False

    def checkpoint_begin(self, name: str | None) -> None:
        self.begin()
        try:
            self.forget_checkpoint()
            self.check(library.thaw_vm_checkpoint_begin(self.pointer, lib.name_of(name) if name else None, self._error_at))
        finally:
            self.end()

    def checkpoint_made(self) -> int:
        """Its number; 0: it is under way."""
        number = c_uint64()
        self.begin()
        try:
            made = self.check(library.thaw_vm_checkpoint_poll(self.pointer, byref(number), self._error_at))
        finally:
            self.end()
        return number.value if made else 0

    # ---- Inside of callbacks: what they raise

    def host_call(self, vm: int, number: int, ticket: int, arguments: list[int]) -> int:
        """A host function. Its result is an owned handle, 0: undefined."""
        selected, self.selected = self.selected, None
        self.pointer = vm  # while it is opened, too
        try:
            values = [self.look(handle) for handle in arguments]
            result = self.functions[number - 1][1](*values)
            if ticket:
                self.tasks.start(ticket, result)
                return 0
            if result is None:
                return 0
            if hasattr(result, '__await__'):
                return self._promise_of(result)
            return self.send_one(result)
        finally:
            self.selected = selected

    def _promise_of(self, awaitable: Any) -> int:
        """For a function that has turned out to make something to be awaited."""
        ticket = c_uint64()
        promise = library.thaw_vm_ticket(self.pointer, byref(ticket))
        if not promise:
            close = getattr(awaitable, 'close', None)
            if close:
                close()
            raise OutOfMemory('no memory in the VM for a promise')
        self.tasks.start(ticket.value, awaitable)
        return int(promise)

    def host_failed(self, error: BaseException) -> int:
        """The program gets an Error; but not of what is to end this program, or a thread or task of it."""
        if isinstance(error, Exception) and self._failure is None:
            try:
                handle = self.send_error(error)
                library.thaw_vm_throw_value(self.pointer, handle)
                library.thaw_vm_free(self.pointer, handle)
                return 0
            except Error:  # no memory, or calls within calls are too deep for one more
                library.thaw_vm_throw(self.pointer, error_name(error).encode(), error_message(error).encode('utf-8', 'replace'))
                return 0
            except BaseException as second:
                error = second
        self.cut_by(error)
        return 0

    def host_log(self, fd: int, text: int, size: int) -> None:
        self.options['log'](fd, ctypes.string_at(text, size).decode('utf-8', 'replace'))

    def host_module(self, name: bytes, size: Any) -> int | None:
        text = self.options['load_module'](name.decode('utf-8', 'replace'))
        if text is None:
            return None
        data = text.encode('utf-8', 'surrogatepass') if isinstance(text, str) else bytes(text)
        size[0] = len(data)
        return lib.give(data)

    def host_resolve(self, importer: bytes, name: bytes) -> int | None:
        text = self.options['resolve_module'](importer.decode('utf-8', 'replace'), name.decode('utf-8', 'replace'))
        return None if text is None else lib.give(text.encode('utf-8', 'surrogatepass'))

    def cut_by(self, error: BaseException) -> None:
        """End the call that is under way, and let it raise this."""
        if self._failure is None:
            self._failure = error
        if self.pointer:  # else it is being opened
            library.thaw_vm_interrupt(self.pointer)
