# SPDX-License-Identifier: MIT
"""For programs that Python runs under `thaw exec`.

Without it, or elsewhere, everything works, too: then checkpoint() raises, and nothing is ever restored.

    import thaw
    thaw.checkpoint(name='loaded')      # returns once all that the program has done is durable
    thaw.restored()                     # how often this program was restored
    thaw.effect_id()                    # an idempotency key for what is done to the outside next
"""
import ctypes as _ctypes
import typing as _typing
import uuid as _uuid

__all__ = ['Checkpoint', 'active', 'checkpoint', 'effect_id', 'generation', 'restored']


class Checkpoint(_typing.NamedTuple):
    """What a checkpoint came to."""
    generation: int  #: the generation that is durable now
    restored: bool  #: True in a process that was restored from it, or from one taken while it was waited for


_program = _ctypes.CDLL(None)  # the program itself, and what was preloaded into it
try:
    _checkpoint = _program.thaw_stub_checkpoint
    _restored = _program.thaw_stub_restored
    _generation = _program.thaw_stub_generation
    _effect_id = _program.thaw_stub_effect_id
except AttributeError:
    _checkpoint = None
else:
    _checkpoint.argtypes = [_ctypes.c_char_p, _ctypes.POINTER(_ctypes.c_uint64), _ctypes.c_char_p, _ctypes.c_size_t]
    _restored.restype = _ctypes.c_uint
    _generation.restype = _ctypes.c_uint64
    _effect_id.argtypes = [_ctypes.c_char_p, _ctypes.c_size_t]


def active() -> bool:
    """Does it run under `thaw exec`?"""
    return _checkpoint is not None


def checkpoint(name: _typing.Optional[str] = None) -> Checkpoint:
    """Take a generation, perhaps with a name, and wait until it is durable. Other threads go on meanwhile.

    Raises OSError with the reason, also outside of `thaw exec`.
    """
    if _checkpoint is None:
        raise OSError('this program does not run under thaw exec')
    before = _restored()
    number, text = _ctypes.c_uint64(), _ctypes.create_string_buffer(256)
    code = _checkpoint(name.encode() if name else None, _ctypes.byref(number), text, len(text))
    if code < 0:
        raise OSError(-code if code > -4096 else 5, text.value.decode(errors='replace'))
    return Checkpoint(number.value, _restored() != before)


def effect_id() -> str:
    """A string for the next effect that this program has on the outside, to be used as its idempotency key.

    The same when a process that was restored after a crash asks for the same effects in the same order again; never the
    same for two different effects, also not in a clone of the image or after going back to an older generation. Outside
    of `thaw exec`, and in children of the program, it is random.
    """
    text = _ctypes.create_string_buffer(80)
    if _checkpoint is None or _effect_id(text, len(text)):
        return str(_uuid.uuid4())
    return text.value.decode()


def restored() -> int:
    """How often this program was restored."""
    return _restored() if _checkpoint is not None else 0


def generation() -> int:
    """The newest generation that this process knows to be durable; 0: none."""
    return _generation() if _checkpoint is not None else 0
