# SPDX-License-Identifier: MIT
"""What can go wrong, as exceptions: one class for each thing that a program may want to tell apart."""
from __future__ import annotations

import errno
import os
import re
from typing import Any

__all__ = ['Busy', 'Damaged', 'Ended', 'Error', 'Incompatible', 'Interrupted', 'JavaScriptError', 'Missing', 'OutOfMemory',
           'Pending', 'TimeLimit', 'Timeout', 'Trapped']

# thaw_vm.h and thaw.h
EEXCEPTION, EINTERRUPTED, ETRAPPED, EENDED, EMISSING, EPENDING = -20101, -20102, -20103, -20104, -20105, -20106
EDAMAGED, EFOREIGN, EFORMAT, EENGINE, EINUSE = -20001, -20002, -20003, -20004, -20005


class Error(Exception):
    """What every failure of this package is. `code` is the library's, as in thaw_vm.h; 0: it is this package's own."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class JavaScriptError(Error):
    """The code threw. `name`, `message` and `stack` are those of the Error, `properties` what else it has (as `code`). If
    something else was thrown, `value` is that, and `name` is "". What a Python function has raised is the __cause__."""

    def __init__(self, name: str, message: str, stack: str = '', value: Any = None) -> None:
        super().__init__(f'{name}: {message}' if name and message else name or message, EEXCEPTION)
        self.name = name
        self.message = message
        self.stack = stack
        self.value = value
        self.properties: dict[str, Any] = {}

    def __reduce__(self) -> Any:
        return JavaScriptError, (self.name, self.message, self.stack, self.value), {'properties': self.properties}


class Interrupted(Error):
    """A call was cut short by interrupt(). The VM lives on; the code may have done half of its work."""


class TimeLimit(Interrupted):
    """A call was cut short because it lasted longer than `turn`."""


class Trapped(Error):
    """The sandbox stopped the VM. It can be closed, or rolled back."""


class Ended(Error):
    """The program has called exit(). The VM can be closed, or rolled back."""

    def __init__(self, text: str, code: int = EENDED) -> None:
        super().__init__(text, code)
        found = re.search(r'exit\((\d+)\)', text)
        self.exit_code = int(found[1]) if found else 1


class Missing(Error):
    """An image or a snapshot needs host functions that were not given: `names`. Nothing of it has run."""

    def __init__(self, text: str, names: tuple[str, ...] = ()) -> None:
        super().__init__(text, EMISSING)
        self.names = names

    def __reduce__(self) -> Any:
        return Missing, (self.args[0], self.names)


class Pending(Error):
    """A promise that nothing can settle from here: no timer, and no coroutine that could be driven."""


class Timeout(Error, TimeoutError):
    """The time that was given for waiting is over. Nothing was cut short."""


class OutOfMemory(Error, MemoryError):
    """No memory for the VM, or for what was to go into it or come out. (A program that needs more than `max_bytes` gets a
    JavaScript error first: "InternalError: out of memory".)"""


class Busy(Error):
    """The VM or the image is in use: by another thread, by another process, or by a call that is under way."""


class Damaged(Error):
    """An image or a snapshot whose bytes are not what was written."""


class Incompatible(Error):
    """Not an image or a snapshot, or one of another format or engine."""


_classes: dict[int, type[Error]] = {
    EINTERRUPTED: Interrupted, ETRAPPED: Trapped, EENDED: Ended, EPENDING: Pending, EDAMAGED: Damaged, EFOREIGN: Incompatible,
    EFORMAT: Incompatible, EENGINE: Incompatible, EINUSE: Busy, -errno.EBUSY: Busy, -errno.EPERM: Busy,
    -errno.ENOMEM: OutOfMemory, -errno.ETIMEDOUT: Timeout,
}


def error_of(code: int, text: str) -> Error:
    """The exception for a code of the library's."""
    if not text:
        text = os.strerror(-code) if -4096 < code < 0 else f'error {code}'
    return _classes.get(code, Error)(text, code)
