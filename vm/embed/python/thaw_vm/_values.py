# SPDX-License-Identifier: MIT
"""Values of Python as values of JavaScript, and back: the packed form of thaw_vm.h (thaw_vm_pack), by which any amount of data
crosses in one call.

    JavaScript                              Python
    undefined, null                         None                    (None becomes null)
    true, false                             bool
    number                                  int if it is one below 2**53, else float
    BigInt                                  int                     (an int beyond 2**53 becomes a BigInt)
    string                                  str
    Uint8Array, Uint8ClampedArray, buffers  bytes                   (also of bytearray and memoryview)
    other typed arrays                      array.array
    Date                                    datetime, in UTC        (one without a zone is local time)
    array                                   list                    (also of tuple)
    object                                  dict                    (keys are text)
    Error                                   JavaScriptError         (of any exception)
"""
from __future__ import annotations

import array
import collections.abc
import struct
from datetime import datetime, timedelta, timezone
from typing import Any

from ._errors import Error, JavaScriptError

_SAFE = 2**53
_integer, _double, _size = struct.Struct('<i'), struct.Struct('<d'), struct.Struct('<I')
_UINT8 = 2
# Of packed typed arrays, the first of which is Uint8Clamped: array.array has no 16 bit floats.
_types = ('B', 'b', 'B', 'h', 'H', 'i', 'I', 'q', 'Q', 'e', 'f', 'd')
_numbers = {'b': 1, 'h': 3, 'H': 4, 'i': 5, 'I': 6, 'q': 7, 'Q': 8, 'f': 10, 'd': 11}
if array.array('l').itemsize == 8:
    _numbers.update({'l': 7, 'L': 8})
_epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)


def _text(text: str) -> bytes:
    data = text.encode('utf-8', 'surrogatepass')
    return _size.pack(len(data)) + data


def _encode_bytes(kind: int, data: bytes, into: list[bytes]) -> None:
    into += b'y' + bytes([kind]) + _size.pack(len(data)), data


def _encode_object(items: Any, into: list[bytes]) -> None:
    into.append(b'o' + _size.pack(len(items)))
    for key, value in items.items():
        if not isinstance(key, str):
            if isinstance(key, (bool, bytes)) or not isinstance(key, (int, float)):
                raise TypeError(f'keys of an object are str, not {type(key).__name__}')
            key = str(key)
        into.append(_text(key))
        _encode(value, into)


def _encode_exception(error: BaseException, into: list[bytes]) -> None:
    if isinstance(error, JavaScriptError):
        name, message, stack, properties = error.name, error.message, error.stack, error.properties
    else:
        name, message, stack, properties = error_name(error), error_message(error), '', {}
    into.append(b'e' + _text(name) + _text(message) + _text(stack))
    _encode_object(properties, into)


def _encode_other(value: Any, into: list[bytes]) -> None:
    if isinstance(value, array.array) and value.typecode in _numbers:
        _encode_bytes(_numbers[value.typecode], value.tobytes(), into)
    elif isinstance(value, (bytes, bytearray, memoryview)) or (isinstance(value, array.array) and value.typecode == 'B'):
        _encode_bytes(_UINT8, bytes(value), into)
    elif isinstance(value, collections.abc.Mapping):
        _encode_object(value, into)
    elif isinstance(value, datetime):
        into.append(b'D' + _double.pack(value.timestamp() * 1000))
    elif isinstance(value, BaseException):
        _encode_exception(value, into)
    elif hasattr(value, '__index__'):  # numpy's
        _encode(value.__index__(), into)
    elif hasattr(value, '__float__'):
        into.append(b'd' + _double.pack(float(value)))
    else:
        raise TypeError(f'JavaScript has nothing for a value of type {type(value).__name__}')


def _encode(value: Any, into: list[bytes]) -> None:
    if value is None:
        into.append(b'n')
    elif value is True:
        into.append(b't')
    elif value is False:
        into.append(b'f')
    elif isinstance(value, str):
        into.append(b's' + _text(value))
    elif isinstance(value, int):
        if -2**31 <= value < 2**31:
            into.append(b'i' + _integer.pack(value))
        elif -_SAFE <= value <= _SAFE:
            into.append(b'd' + _double.pack(value))
        else:
            into.append(b'b' + _text(str(int(value))))
    elif isinstance(value, float):
        into.append(b'd' + _double.pack(value))
    elif isinstance(value, dict):
        _encode_object(value, into)
    elif isinstance(value, (list, tuple)):
        into.append(b'a' + _size.pack(len(value)))
        for item in value:
            _encode(item, into)
    else:
        _encode_other(value, into)


def encode(values: tuple[Any, ...]) -> bytes:
    """Packed, one after the other. TypeError: JavaScript has nothing for one of them."""
    into: list[bytes] = []
    try:
        for value in values:
            _encode(value, into)
    except RecursionError:
        raise ValueError('the value is circular, or too deep') from None
    return b''.join(into)


# ---- Back


class _Reader:
    """Goes through packed bytes, which are the library's: a program chooses what is in them, not their form."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def size(self) -> int:
        (size,) = _size.unpack_from(self.data, self.at)
        self.at += 4
        return int(size)

    def number(self) -> float:
        (number,) = _double.unpack_from(self.data, self.at)
        self.at += 8
        return float(number)

    def raw(self) -> bytes:
        size = self.size()
        self.at += size
        return self.data[self.at - size:self.at]

    def text(self) -> str:
        return self.raw().decode('utf-8', 'replace')

    def view(self) -> Any:
        kind = self.data[self.at]
        self.at += 1
        data = self.raw()
        code = _types[kind]
        if code == 'B':
            return data
        if code == 'e':
            return array.array('f', (number for (number,) in struct.iter_unpack('<e', data)))
        return array.array(code, data)

    def date(self) -> Any:
        number = self.number()
        try:
            return _epoch + timedelta(milliseconds=number)
        except (OverflowError, ValueError):
            return number  # NaN, or a year that datetime has not

    def properties(self) -> dict[str, Any]:
        size = self.size()
        made = {}
        for _ in range(size):
            key = self.text()
            made[key] = self.value()
        return made

    def error(self) -> JavaScriptError:
        name, message, stack = self.text(), self.text(), self.text()
        made = JavaScriptError(name, message, stack)
        self.at += 1  # 'o'
        made.properties = self.properties()
        return made

    def value(self) -> Any:
        letter = self.data[self.at]
        self.at += 1
        if letter == 0x73:  # s
            size = self.size()
            self.at += size
            return self.data[self.at - size:self.at].decode('utf-8', 'replace')
        if letter == 0x69:  # i
            (number,) = _integer.unpack_from(self.data, self.at)
            self.at += 4
            return number
        if letter == 0x6f:  # o
            return self.properties()
        if letter == 0x61:  # a
            size = self.size()
            return [self.value() for _ in range(size)]
        if letter == 0x64:  # d
            return number_of(self.number())
        return self.rare(letter)

    def rare(self, letter: int) -> Any:
        if letter == 0x75 or letter == 0x6e:  # u, n
            return None
        if letter == 0x74:  # t
            return True
        if letter == 0x66:  # f
            return False
        if letter == 0x62:  # b
            return int(self.text())
        if letter == 0x79:  # y
            return self.view()
        if letter == 0x44:  # D
            return self.date()
        if letter == 0x65:  # e
            return self.error()
        raise Error(f'libthawvm has packed a value of a kind that this package does not know: {chr(letter)!r}')


def decode(data: bytes, count: int = 1) -> list[Any]:
    """The values that are packed there."""
    reader = _Reader(data)
    try:
        return [reader.value() for _ in range(count)]
    except RecursionError:
        raise Error('the value is deeper than what sys.getrecursionlimit() allows') from None


def number_of(number: float) -> int | float:
    """An int where it is one."""
    return int(number) if -_SAFE <= number <= _SAFE and number == int(number) else number


# ---- Exceptions of Python as errors of JavaScript

_same_names = ('TypeError', 'SyntaxError', 'ReferenceError', 'RangeError', 'URIError', 'EvalError')


def error_name(error: BaseException) -> str:
    """Of the Error that is thrown: its class where JavaScript has one like it."""
    if isinstance(error, (IndexError, OverflowError)):
        return 'RangeError'
    for base in type(error).__mro__:
        if base.__name__ in _same_names:
            return base.__name__
    return 'Error'


def error_message(error: BaseException) -> str:
    """With the class, unless the name tells it."""
    kind, text = type(error).__name__, str(error)
    return text if kind == error_name(error) or type(error) is Exception else f'{kind}: {text}' if text else kind
