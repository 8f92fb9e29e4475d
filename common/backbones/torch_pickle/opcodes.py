"""Interpreter of the few pickle opcodes that torch writes; all others are refused."""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import cast

from common.backbones.torch_pickle.byte_source import PickleError, PickleSource
from common.backbones.torch_pickle.placeholders import Inert
from common.backbones.torch_pickle.stack_machine import PickleMachine

MOST_OPCODES = 1 << 20
"""Far more than the opcodes of a thousand tensors and an optimizer."""


def read_pickle(data: bytes) -> tuple[object, tuple[str, ...]]:
    """Read a pickle without executing anything, with time and memory bounded by its size.

    Args:
        data: the whole pickle.

    Returns:
        Its content, as plain values and placeholders, and the sorted names in it that are not in
        the allowlist.

    Raises:
        PickleError: it is damaged or hostile, or has more than `MOST_OPCODES` opcodes.
    """
    source = PickleSource(data)
    machine = PickleMachine(source)
    for _ in range(MOST_OPCODES):
        code = source.take(1)
        if code == _STOP:
            return machine.pop(), tuple(sorted(machine.unknown_names))
        step = _STEPS.get(code)
        if step is None:
            raise PickleError(f"opcode {_name(code)}, which torch does not write")
        step(machine)
    raise PickleError(f"it has more than {MOST_OPCODES} opcodes")


def _name(code: bytes) -> str:
    names = {opcode.code: opcode.name for opcode in pickletools.opcodes}
    return names.get(code.decode("latin-1"), repr(code))


_Step = Callable[[PickleMachine], None]


def _constant(value: object) -> _Step:
    return lambda machine: machine.push(value)


def _fresh(make: Callable[[], object]) -> _Step:
    return lambda machine: machine.push(make())


def _sized(step: Callable[[PickleMachine, int], None], size: int) -> _Step:
    return lambda machine: step(machine, size)


_STOP = b"."
_M = PickleMachine
_STEPS: dict[bytes, _Step] = {
    b"\x80": _sized(_M.skip, 1),  # PROTO
    b"\x95": _sized(_M.skip, 8),  # FRAME
    b"(": _M.mark,
    b"0": _M.drop,
    b"1": _M.drop_to_mark,
    b"N": _constant(None),
    b"\x88": _constant(True),
    b"\x89": _constant(False),
    b"K": _sized(_M.small_integer, 1),  # BININT1
    b"M": _sized(_M.small_integer, 2),  # BININT2
    b"J": _M.signed_integer,  # BININT
    b"\x8a": _sized(_M.long_integer, 1),  # LONG1
    b"\x8b": _sized(_M.long_integer, 4),  # LONG4
    b"G": _M.float_number,  # BINFLOAT
    b"\x8c": _sized(_M.text, 1),  # SHORT_BINUNICODE
    b"X": _sized(_M.text, 4),  # BINUNICODE
    b"\x8d": _sized(_M.text, 8),  # BINUNICODE8
    b"C": _sized(_M.binary, 1),  # SHORT_BINBYTES
    b"B": _sized(_M.binary, 4),  # BINBYTES
    b"\x8e": _sized(_M.binary, 8),  # BINBYTES8
    b"\x96": _sized(_M.binary, 8),  # BYTEARRAY8
    b")": _constant(()),
    b"t": _M.close_tuple,
    b"\x85": _sized(_M.short_tuple, 1),
    b"\x86": _sized(_M.short_tuple, 2),
    b"\x87": _sized(_M.short_tuple, 3),
    b"]": _fresh(list),
    b"a": _M.append,
    b"e": _M.appends,
    b"}": _fresh(cast(Callable[[], object], dict)),
    b"s": _M.set_item,
    b"u": _M.set_items,
    b"\x8f": _fresh(Inert),  # EMPTY_SET
    b"\x90": _M.add_items,
    b"\x91": _M.frozen_set,
    b"q": lambda machine: machine.remember(1),  # BINPUT
    b"r": lambda machine: machine.remember(4),  # LONG_BINPUT
    b"\x94": lambda machine: machine.remember(None),  # MEMOIZE
    b"h": _sized(_M.recall, 1),  # BINGET
    b"j": _sized(_M.recall, 4),  # LONG_BINGET
    b"c": _M.name,  # GLOBAL
    b"\x93": _M.stacked_name,  # STACK_GLOBAL
    b"R": _M.call,  # REDUCE
    b"\x81": _sized(_M.make, 1),  # NEWOBJ
    b"\x92": _sized(_M.make, 2),  # NEWOBJ_EX
    b"b": _M.give_state,  # BUILD
    b"Q": _M.storage,  # BINPERSID
}
