"""The layers' names of an adapter message as one short text, and back.

Layers of one size are a group; groups are separated by ``|``, names by spaces, and a name is
written as the number of characters that it shares with the one before, a colon, and the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from common.adapter.adapter import MAX_NAME_LENGTH, Adapter, shown
from common.adapter.serialization.header import SCALE, TensorSpan, refused

_CODED_NAME = re.compile(r"([0-9]{1,3}):([A-Za-z0-9_.-]*)")


def group_layers(adapter: Adapter) -> list[list[str]]:
    """The adapter's layers by size (in, out); names sorted, sizes in the order of their first."""
    groups: dict[tuple[int, int], list[str]] = {}
    for module in adapter.modules:
        a, b = adapter.pair(module)
        groups.setdefault((a.shape[1], b.shape[0]), []).append(module)
    return list(groups.values())


def names_to_text(groups: Iterable[Sequence[str]]) -> str:
    """Write the groups: ``block.0.q`` then ``block.0.v`` is ``0:block.0.q 8:v``."""
    return "|".join(_front_coded(names) for names in groups)


def read_groups(
    text: str, tensors: Mapping[str, TensorSpan], factors: Iterable[str]
) -> list[list[str]]:
    """Read the groups; as many of them as tensors of each factor, as many names as matrices.

    Args:
        text: as `names_to_text` writes it.
        tensors: the message's tensors.
        factors: ``A`` and ``B``, or ``B`` alone: the factors that travel.

    Raises:
        AdapterError: where names and tensors do not fit, or a layer is named twice.
    """
    groups = [_names_from_text(part) for part in text.split("|")]
    expected = {f"{factor}.{group}" for group in range(len(groups)) for factor in factors}
    if {name for name in tensors if not name.endswith(SCALE)} != expected:
        raise refused(f"{len(groups)} groups of layers do not fit the {len(tensors)} tensors")
    for name in tensors:
        modules = groups[int(name.split(".")[1])]
        if tensors[name].shape[0] != len(modules):
            raise refused(f"tensor {name} is not for its {len(modules)} layers")
    names = [module for modules in groups for module in modules]
    if len(set(names)) != len(names):
        raise refused("a layer is named twice")
    return groups


def _front_coded(names: Sequence[str]) -> str:
    coded = []
    previous = ""
    for name in names:
        kept = _shared_length(previous, name)
        coded.append(f"{kept}:{name[kept:]}")
        previous = name
    return " ".join(coded)


def _shared_length(first: str, second: str) -> int:
    """How many characters two names have in common at their beginning."""
    differ = (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    return next(differ, min(len(first), len(second)))


def _names_from_text(text: str) -> list[str]:
    names = []
    previous = ""
    for coded in text.split(" "):
        match = _CODED_NAME.fullmatch(coded)
        if match is None or int(match[1]) > len(previous):
            raise refused(f"layer names are damaged at {shown(coded)}")
        previous = previous[: int(match[1])] + match[2]
        if len(previous) > MAX_NAME_LENGTH:  # or a short text could stand for endless names
            raise refused(f"a layer's name is longer than {MAX_NAME_LENGTH} characters")
        names.append(previous)
    return names
