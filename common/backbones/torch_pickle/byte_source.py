"""Reader of a pickle's bytes from front to back; lengths declared in them are not trusted."""

from __future__ import annotations

LONGEST_NAME = 200
"""Largest length of a module's name, or of a name in it."""

MAX_SHOWN = 100
"""Characters of a file's text that a message shows."""


class PickleError(Exception):
    """A pickle is damaged, hostile, or of a kind that torch does not write."""


class PickleSource:
    """Position in the bytes of a pickle.

    Args:
        data: the whole pickle.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __len__(self) -> int:
        return len(self._data)

    def take(self, count: int) -> bytes:
        """Return the next bytes.

        Raises:
            PickleError: there are fewer; no memory is allocated for them.
        """
        end = self._at + count
        if end > len(self._data):
            raise PickleError(f"it ends before its byte {end}")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def number(self, size: int) -> int:
        """Return an unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def text(self, size: int) -> str:
        """Return a text that follows its length, which has `size` bytes."""
        return _decode(self.take(self.number(size)))

    def line(self) -> str:
        """Return a name that ends with a line break."""
        end = self._data.find(b"\n", self._at, self._at + 4 * LONGEST_NAME + 1)
        if end < 0:
            raise PickleError("a name has no end")
        line = self._data[self._at : end]
        self._at = end + 1
        return _decode(line)


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise PickleError("a text in it is not UTF-8") from None
