"""A stack machine that builds what a pickle describes, out of plain values and stand-ins.

It imports nothing and calls nothing. A step costs a constant, or as much as the bytes and the stack
entries that it uses up, whatever has been built before:

- Nothing is hashed but single short texts, whose hash the interpreter keys at random: a tuple
  nested in itself takes exponential time to hash, and integers can be chosen so that each collides
  with all before it. Items under other keys, and what is in sets, are passed over; nothing needs
  them. Nor does it need a long text, which two bytes would have compared with its equal anew.
- Nothing is compared, copied or printed as a whole: a list that holds one list a million times is a
  million references and stays so.
- Integers and names have few bytes: both are used anew for each reference to them, and a reference
  takes two bytes.
"""

from __future__ import annotations

import struct

from common.backbones.torch_pickle.byte_source import (
    LONGEST_NAME,
    MAX_SHOWN,
    PickleError,
    PickleSource,
)
from common.backbones.torch_pickle.placeholders import (
    Inert,
    OrderedDictType,
    RebuildTensor,
    Storage,
    StorageType,
    StoredTensor,
    look_up,
)
from common.names import printable

_MOST_STRANGERS = 1000
_LONGEST_INTEGER = 16
_LONGEST_STORAGE_KEY = 64
_LONGEST_KEY = 1000
"""Of an item in a dict; far longer than a tensor's name."""

_ABSENT = object()


class PickleMachine:
    """The stack, its marks, and the memo.

    Args:
        source: where opcodes' arguments are read.

    Attributes:
        strangers: the names that were asked for and that stand for nothing.
    """

    def __init__(self, source: PickleSource) -> None:
        self.strangers: set[str] = set()
        self._source = source
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: list[object] = []

    # The stack: values, and how high it was at each mark.

    def push(self, value: object) -> None:
        """Put a value on top."""
        self._stack.append(value)

    def _floor(self) -> int:
        return self._marks[-1] if self._marks else 0

    def pop(self) -> object:
        """Take the topmost value; no mark lies above it."""
        if len(self._stack) <= self._floor():
            raise PickleError("its stack is empty")
        return self._stack.pop()

    def _top(self) -> object:
        if len(self._stack) <= self._floor():
            raise PickleError("its stack is empty")
        return self._stack[-1]

    def _pop_to_mark(self) -> list[object]:
        if not self._marks:
            raise PickleError("it has no mark")
        height = self._marks.pop()
        taken = self._stack[height:]
        del self._stack[height:]
        return taken

    def mark(self) -> None:
        """Remember how high the stack is."""
        self._marks.append(len(self._stack))

    def drop(self) -> None:
        """Take one value, or the mark, away."""
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self.pop()

    def drop_to_mark(self) -> None:
        """Take everything above the mark away."""
        self._pop_to_mark()

    def skip(self, size: int) -> None:
        """Pass over bytes that say nothing: a protocol's number, a frame's length."""
        self._source.take(size)

    # Plain values.

    def small_integer(self, size: int) -> None:
        """Read an integer without a sign."""
        self.push(self._source.number(size))

    def signed_integer(self) -> None:
        """Read an integer of four bytes."""
        self.push(int.from_bytes(self._source.take(4), "little", signed=True))

    def long_integer(self, size: int) -> None:
        """Read an integer of any length; one that no size or setting can be becomes inert."""
        taken = self._source.take(self._source.number(size))
        fits = len(taken) <= _LONGEST_INTEGER
        self.push(int.from_bytes(taken, "little", signed=True) if fits else Inert())

    def float_number(self) -> None:
        """Read a float of eight bytes."""
        self.push(struct.unpack(">d", self._source.take(8))[0])

    def text(self, size: int) -> None:
        """Read a text behind its length."""
        self.push(self._source.text(size))

    def binary(self, size: int) -> None:
        """Read bytes behind their length."""
        self.push(self._source.take(self._source.number(size)))

    # Containers.

    def close_tuple(self) -> None:
        """Make a tuple of everything above the mark."""
        self.push(tuple(self._pop_to_mark()))

    def short_tuple(self, length: int) -> None:
        """Make a tuple of the topmost values."""
        values = [self.pop() for _ in range(length)]
        self.push(tuple(reversed(values)))

    def append(self) -> None:
        """Put one value into a list."""
        value = self.pop()
        self._extend([value])

    def appends(self) -> None:
        """Put everything above the mark into a list."""
        self._extend(self._pop_to_mark())

    def add_items(self) -> None:
        """Put everything above the mark into a set, which is inert and keeps nothing."""
        self._pop_to_mark()
        _expect_inert(self._top(), "adds to")

    def frozen_set(self) -> None:
        """Make a set that cannot be changed; it is inert and keeps nothing."""
        self._pop_to_mark()
        self.push(Inert())

    def set_item(self) -> None:
        """Put a key and its value into a dict."""
        value, key = self.pop(), self.pop()
        self._fill([key, value])

    def set_items(self) -> None:
        """Put everything above the mark, keys and values in turn, into a dict."""
        self._fill(self._pop_to_mark())

    def _extend(self, values: list[object]) -> None:
        target = self._top()
        if type(target) is list:
            target.extend(values)
        else:
            _expect_inert(target, "appends to")

    def _fill(self, flat: list[object]) -> None:
        target = self._top()
        if len(flat) % 2:
            raise PickleError("it gives a key without a value")
        if type(target) is dict:
            items = target
        else:
            inert = _expect_inert(target, "puts items into")
            if inert.items is None:
                inert.items = {}
            items = inert.items
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            if type(key) is str and len(key) <= _LONGEST_KEY:
                items[key] = value

    # The memo.

    def remember(self, size: int | None) -> None:
        """Keep the topmost value under a number, the next one where the opcode has none."""
        slot = len(self._memo) if size is None else self._source.number(size)
        # The memo is a list: a number far out would make it that long.
        if slot > len(self._source):
            raise PickleError(f"memo slot {slot} in {len(self._source)} bytes")
        value = self._top()
        if slot >= len(self._memo):
            self._memo.extend([_ABSENT] * (slot + 1 - len(self._memo)))
        self._memo[slot] = value

    def recall(self, size: int) -> None:
        """Put a value that was kept on top."""
        slot = self._source.number(size)
        value = self._memo[slot] if slot < len(self._memo) else _ABSENT
        if value is _ABSENT:
            raise PickleError(f"memo slot {slot} is empty")
        self.push(value)

    # Names and what is done with them; nothing is looked up in a module, and nothing is called.

    def name(self) -> None:
        """Read a name's module and the name."""
        self._named(self._source.line(), self._source.line())

    def stacked_name(self) -> None:
        """Take a name and its module from the stack."""
        name, module = self.pop(), self.pop()
        self._named(module, name)

    def _named(self, module: object, name: object) -> None:
        if type(module) is not str or type(name) is not str:
            raise PickleError("it asks for a name that is no text")
        if max(len(module), len(name)) > LONGEST_NAME:
            raise PickleError(f"it asks for a name of more than {LONGEST_NAME} characters")
        found = look_up(module, name)
        if isinstance(found, Inert):
            self.strangers.add(printable(f"{module}.{name}", MAX_SHOWN))
            if len(self.strangers) > _MOST_STRANGERS:
                raise PickleError(f"it asks for more than {_MOST_STRANGERS} names")
        self.push(found)

    def call(self) -> None:
        """Note what a function is asked for with which arguments."""
        arguments, function = self.pop(), self.pop()
        if type(arguments) is not tuple:
            raise PickleError("it calls something with what is no tuple")
        if isinstance(function, OrderedDictType):
            if arguments:
                raise PickleError("it makes an OrderedDict of something, which torch does not")
            self.push({})
        elif isinstance(function, RebuildTensor):
            if len(arguments) < 4:
                raise PickleError("it rebuilds a tensor of too little")
            self.push(StoredTensor(*arguments[:4]))
        else:
            _expect_inert(function, "calls")
            self.push(Inert())

    def make(self, values: int) -> None:
        """Make an object of a class, which has to be inert, and of as many values as are given."""
        for _ in range(values):
            self.pop()
        _expect_inert(self.pop(), "makes an object of")
        self.push(Inert())

    def give_state(self) -> None:
        """Drop the state that an object is given."""
        self.pop()
        target = self._top()
        if type(target) is not dict:  # an OrderedDict may have attributes of its own
            _expect_inert(target, "gives a state to")

    def storage(self) -> None:
        """Note which storage is asked for."""
        asked = self.pop()
        if type(asked) is not tuple or len(asked) != 5:
            raise PickleError("it asks for something outside itself that is no storage")
        kind, storage_type, key, _, numel = asked
        if (
            kind != "storage"
            or not isinstance(storage_type, StorageType)
            or type(key) is not str
            or type(numel) is not int
            or not (len(key) <= _LONGEST_STORAGE_KEY and key.isalnum())
        ):
            raise PickleError("it asks for something outside itself that is no storage")
        self.push(Storage(storage_type.dtype, key, numel))


def _expect_inert(value: object, does: str) -> Inert:
    if not isinstance(value, Inert):
        raise PickleError(f"it {does} {type(value).__name__}")
    return value
