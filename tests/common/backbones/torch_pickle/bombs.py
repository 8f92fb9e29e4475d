"""Pickles that are small and ask for far more than their size, each by another way.

    python -m tests.common.backbones.torch_pickle.bombs FOLDER NAME...

converts one checkpoint of each, with little memory and time, and prints how each ended.
"""

from __future__ import annotations

import resource
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

MEMORY = 2 << 30
"""Bytes of address space that all conversions together may add."""
CPU_S = 240


def text(value: str) -> bytes:
    """The opcode that gives a text."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def doubled(levels: int, again: bytes, begin: bytes = b")") -> bytes:
    """A value that holds the one before twice, which holds the one before that twice, and so on."""
    body = begin
    for level in range(levels):
        body += b"q" + bytes([level]) + again.replace(b"%", b"h" + bytes([level]))
    return body


def as_key(value: bytes) -> bytes:
    return b"\x80\x04}" + value + b"Ns."


def as_hyper_parameter(name: str, value: bytes) -> bytes:
    """A checkpoint's content in which one of the network's settings is the value."""
    kwargs = b"}" + text("model_kwargs") + b"}" + text(name) + value + b"ss"
    state = text("state_dict") + b"}s"
    return b"\x80\x04}" + text("hyper_parameters") + kwargs + b"s" + state + b"."


def nested_tuple() -> bytes:
    """A file of a few hundred bytes; each level doubles the time of its hash."""
    return b"\x80\x02}" + doubled(48, b"%\x86") + b"Ns."


def nested_tuple_by_dup() -> bytes:
    return as_key(b")" + b"2\x86" * 60)


def nested_frozen_set() -> bytes:
    return as_key(doubled(60, b"0(%%\x86\x91", b"(\x91"))


def nested_in_a_set() -> bytes:
    return b"\x80\x04\x8f(" + doubled(60, b"%\x86") + b"\x90."


def laughs_as_a_list() -> bytes:
    return as_hyper_parameter("lags_seq", doubled(60, b"0](%%e", b"]"))


def laughs_as_a_size() -> bytes:
    return as_hyper_parameter("n_layer", doubled(60, b"0(%%t"))


def one_long_integer_often() -> bytes:
    """An error that tells the list's content would have gigabytes."""
    number = b"\x8b" + struct.pack("<I", 1700) + b"\x7f" * 1700
    return as_hyper_parameter("lags_seq", b"](" + number + b"q\x00" + b"h\x00" * 900_000 + b"e")


def long_integer() -> bytes:
    return b"\x80\x02\x8b" + struct.pack("<I", 8 << 20) + b"\x7f" * (8 << 20) + b"."


def long_integer_as_text() -> bytes:
    return b"I" + b"9" * (8 << 20) + b"\n."


def longer_than_the_file() -> bytes:
    return b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"."


def far_memo() -> bytes:
    return b"\x80\x02}r" + struct.pack("<I", (1 << 31) - 1) + b"."


def deep() -> bytes:
    return b"\x80\x02)" + b"\x85" * 900_000 + b"."


def deep_lists() -> bytes:
    return b"\x80\x02" + b"]" * 400_000 + b"a" * 399_999 + b"."


def deep_calls() -> bytes:
    return b"\x80\x02ca\nb\n" + b")R" * 400_000 + b"."


def marks() -> bytes:
    return b"\x80\x02" + b"(" * (8 << 20) + b"."


def colliding_integers() -> bytes:
    """Keys of a dict, each of which collides with all before it (`j = 5 j + 1` is its search)."""
    bits = 18

    def orbit() -> Iterator[int]:
        slot = 0
        while True:
            yield slot
            slot = (5 * slot + 1) % (1 << bits)

    filled = list(islice(orbit(), 60_000))
    body = b"".join(b"J" + struct.pack("<i", key) + b"N" for key in filled)
    # A hash of 2^b more, with its low bits those of the orbit's beginning, is soon on the orbit.
    body += b"".join(
        b"\x8a\x08" + struct.pack("<q", step << bits) + b"N" for step in range(1, 60_000)
    )
    return b"\x80\x02}(" + body + b"u."


def long_name_often() -> bytes:
    name = text("a" * (1 << 20))
    return b"\x80\x04" + name + b"\x940" + b"h\x00h\x00\x930" * 200_000 + b"N."


def long_key_often() -> bytes:
    """Two texts that are equal and not one, compared each time that the second is a key."""
    key = text("a" * ((8 << 20) - (1 << 20)))
    return b"\x80\x02}" + key + b"N(" + key + b"q\x001" + b"s(" + b"h\x00N" * 500_000 + b"u."


def long_storage_key_often() -> bytes:
    kind = b"ctorch\nFloatStorage\n"
    asked = b"(" + text("storage") + kind + text("a" * (4 << 20)) + text("cpu") + b"K\x01t"
    return b"\x80\x02" + asked + b"q\x00" + b"Qh\x00" * 300_000 + b"."


def long_arguments_often() -> bytes:
    arguments = b"(" + b"N" * 200_000 + b"tq\x000"
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\nq\x010"
    return b"\x80\x02" + arguments + rebuild + b"h\x01h\x00R0" * 150_000 + b"N."


def holds_itself() -> bytes:
    return as_hyper_parameter("lags_seq", b"]q\x00h\x00a")


BOMBS: dict[str, Callable[[], bytes]] = {
    made.__name__: made
    for made in (
        nested_tuple,
        nested_tuple_by_dup,
        nested_frozen_set,
        nested_in_a_set,
        laughs_as_a_list,
        laughs_as_a_size,
        one_long_integer_often,
        long_integer,
        long_integer_as_text,
        longer_than_the_file,
        far_memo,
        deep,
        deep_lists,
        deep_calls,
        marks,
        colliding_integers,
        long_name_often,
        long_key_often,
        long_storage_key_often,
        long_arguments_often,
        holds_itself,
    )
}


def write(path: Path, data: bytes) -> Path:
    """Write a checkpoint of one pickle and no tensor."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    return path


def _limit() -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    resource.setrlimit(resource.RLIMIT_CPU, (used + CPU_S, used + CPU_S))


def _main(folder: Path, names: list[str]) -> None:
    from common.backbones.lag_llama.convert import convert_lag_llama
    from common.errors import BackboneError

    made = {name: write(folder / f"{name}.ckpt", BOMBS[name]()) for name in names}
    _limit()
    for name, path in made.items():
        try:
            convert_lag_llama(path, folder / "out")
        except BackboneError as error:
            print(name, len(str(error)), str(error)[-160:], flush=True)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2:])
