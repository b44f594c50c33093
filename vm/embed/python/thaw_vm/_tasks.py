# SPDX-License-Identifier: MIT
"""Time and coroutines: waiting for promises, running timers, and the coroutines of host functions, which settle the promises that
the program has of them.

Inside of asyncio they are tasks of the loop that runs. Elsewhere they are of a loop of the VM's own, which runs while a call waits.
Nothing here holds the VM while it waits: each step of it is a call of its own.
"""
from __future__ import annotations

import asyncio
import errno
import functools
import inspect
import threading
import time
import weakref
from asyncio import events
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Iterator

from ._errors import EPENDING, Busy, Error, Pending, Timeout
from ._library import FOREVER, library

if TYPE_CHECKING:
    from ._core import Core

SIGNALS = 0.25  # seconds, after which one is noticed at the latest


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Does calling it make a coroutine? Also of objects with `async def __call__`, and of functools.partial()."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, '__call__', None))


async def _coroutine(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Tasks:
    """What one VM waits for."""

    def __init__(self, core: Core) -> None:
        self._core = weakref.proxy(core)
        self._tasks: dict[int, asyncio.Task[Any]] = {}  # by ticket
        self._waiters: set[asyncio.Future[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None  # the VM's own
        self._interrupted = threading.Event()  # who sleeps shall look at the VM

    # ---- Coroutines of host functions

    def start(self, ticket: int, awaitable: Awaitable[Any]) -> None:
        """It settles the promise of the ticket."""
        loop = events._get_running_loop() or self._own_loop()
        task = loop.create_task(awaitable if inspect.iscoroutine(awaitable) else _coroutine(awaitable))
        self._tasks[ticket] = task
        task.add_done_callback(functools.partial(self._settle, weakref.ref(self), ticket))

    def runs(self, ticket: int) -> bool:
        return ticket in self._tasks

    @staticmethod
    def _settle(reference: Callable[[], Tasks | None], ticket: int, task: asyncio.Task[Any]) -> None:
        self = reference()
        if self is None or self._tasks.get(ticket) is not task:
            return  # the VM is closed, or was rolled back to where it had not asked
        try:
            self._core.settle_by(ticket, task)
        except Busy:  # another thread is in the VM
            task.get_loop().call_later(0.005, self._settle, reference, ticket, task)
            return
        except BaseException:
            del self._tasks[ticket]
            raise
        del self._tasks[ticket]
        self.wake()

    def drop(self) -> None:
        """What the VM has asked for is nothing that it knows any more."""
        tasks, self._tasks = self._tasks, {}
        for task in tasks.values():
            loop = task.get_loop()
            if loop.is_closed():
                continue
            if events._get_running_loop() is loop or loop is self._loop:
                task.cancel()
            else:
                loop.call_soon_threadsafe(task.cancel)

    def close(self) -> None:
        self.drop()
        self.interrupt()
        loop, self._loop = self._loop, None
        if loop is None or loop.is_running() or loop.is_closed():
            return
        if events._get_running_loop() is None:
            rest = asyncio.all_tasks(loop)
            if rest:  # let them clean up
                loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    def forget(self) -> None:
        self._tasks, self._waiters, self._loop = {}, set(), None

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop

    # ---- Waiting

    @staticmethod
    def _foreign(waiters: set[asyncio.Future[None]]) -> Iterator[asyncio.Future[None]]:
        return (waiter for waiter in list(waiters) if not waiter.get_loop().is_closed())

    def wake(self) -> None:
        """Something has happened in the VM: who waits looks again. Any thread."""
        if self._waiters:
            running = events._get_running_loop()
            for waiter in self._foreign(self._waiters):
                if waiter.get_loop() is running:
                    _wake(waiter)
                else:
                    waiter.get_loop().call_soon_threadsafe(_wake, waiter)

    def interrupt(self) -> None:
        """End the wait that is under way, if the VM says so. Any thread."""
        self._interrupted.set()
        self.wake()

    async def _pause(self, seconds: float | None) -> None:
        """Until then, or until something happens."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, _wake, waiter)
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)
            if timer:
                timer.cancel()

    def _sleep(self, seconds: float | None, promise: bool) -> None:
        """The same outside of asyncio, where the VM's own loop goes on meanwhile; or a while less: a signal that comes when the
        main thread is about to wait in the kernel does not end that."""
        own = self._loop
        brief = SIGNALS if seconds is None else min(seconds, SIGNALS)
        if own is not None and any(task.get_loop() is own for task in self._tasks.values()):
            if events._get_running_loop() is not None:
                raise Pending('a coroutine has to go on, and the loop of this thread runs what waits for it: await it', EPENDING)
            own.run_until_complete(self._pause(brief))
        elif seconds is None:
            raise Pending('nothing can settle the promise that is waited for' if promise else 'nothing is due', EPENDING)
        else:
            self._interrupted.wait(brief)
            self._interrupted.clear()

    def due(self) -> float | None:
        """Seconds until the VM has something to do; None: never by itself."""
        self._core.begin()
        try:
            nanoseconds = library.thaw_vm_next_due(self._core.pointer)
        finally:
            self._core.end()
        return None if nanoseconds == FOREVER else float(nanoseconds) / 1e9

    async def generation(self) -> int:
        """Of the checkpoint that was begun."""
        while True:
            number: int = self._core.checkpoint_made()
            if number:
                return number
            try:
                await self._pause(None)
            except BaseException:
                self._core.abandoned = True
                raise

    def _rest(self, seconds: float | None, end: float | None) -> float | None:
        if end is None:
            return seconds
        left = end - time.monotonic()
        if left <= 0:
            raise Timeout('the time is over', -errno.ETIMEDOUT)
        return left if seconds is None else min(left, seconds)

    # ---- What is waited for

    def _looks(self, handle: int) -> Iterator[tuple[int, float | None]]:
        """Looks at a promise, whose handle is consumed, once for each next(): a handle of what it came to, or 0 and how long
        there is nothing to do."""
        epoch = self._core.epoch
        try:
            while True:
                if self._core.epoch != epoch:
                    raise Error('the VM was closed or rolled back while a promise of it was waited for')
                yield self._core.look_at_promise(handle), self.due()
        finally:
            self._core.garbage.append((epoch, handle))

    def wait_for(self, handle: int, timeout: float | None) -> int:
        """A handle of what its promise comes to."""
        end = None if timeout is None else time.monotonic() + timeout
        for result, seconds in self._looks(handle):
            if result:
                return result
            self._sleep(self._rest(seconds, end), True)
        raise AssertionError

    async def wait_for_async(self, handle: int) -> int:
        for result, seconds in self._looks(handle):
            if result:
                return result
            await self._pause(seconds)
        raise AssertionError

    def run(self, timeout: float | None) -> None:
        """Until nothing is due, and no coroutine goes on that could be driven."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            self._core.step()
            seconds = self.due()
            own = any(task.get_loop() is self._loop for task in self._tasks.values())
            if seconds is None and not own:
                return
            if seconds != 0:
                self._sleep(self._rest(seconds, end), False)

    async def run_async(self) -> None:
        while True:
            self._core.step()
            seconds = self.due()
            if seconds is None and not self._tasks:
                return
            await self._pause(seconds)
