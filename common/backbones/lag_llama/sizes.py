"""Sizes of a Lag-Llama network, parsed and validated from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from common.errors import BackboneError

PUBLISHED_LAGS: tuple[int, ...] = (
    *(0, 7, 8, 10, 11, 12, 13, 14, 19, 20, 21, 22, 23, 24, 26, 27, 28, 29, 30, 34, 35, 36, 46, 47),
    *(48, 50, 51, 52, 55, 57, 58, 59, 60, 61, 70, 71, 72, 83, 94, 95, 96, 102, 103, 104, 117, 118),
    *(119, 120, 121, 142, 143, 144, 154, 155, 156, 166, 167, 168, 177, 178, 179, 180, 181, 334),
    *(335, 336, 362, 363, 364, 502, 503, 504, 670, 671, 672, 718, 719, 720, 726, 727, 728, 1090),
    *(1091, 1092),
)
"""The 84 lags of the published model: those of GluonTS for Q, M, W, D, H, T and S, less 1."""

TIME_FEATURES = 6
"""Second, minute, hour, day of week, day of month, day of year, each in -.5 to .5."""

_STATIC_FEATURES = 2
# A larger size means a damaged file.
_LARGEST_SIZE = 1 << 16
_MOST_LAYERS = 256


@dataclass(frozen=True)
class LagLlamaSizes:
    """Hyper-parameters that determine the shapes; the defaults are the published ones.

    Attributes:
        context_length: tokens of the context of a forecast.
        max_context_length: longest sequence of tokens, horizon included.
        n_layer: number of blocks.
        n_head: number of attention heads.
        n_embd_per_head: width of a head.
        lags_seq: lags of a token in increasing order; lag 0 is the token's own step.
        time_feat: True if the calendar features are part of a token.
    """

    context_length: int = 32
    max_context_length: int = 2048
    n_layer: int = 8
    n_head: int = 9
    n_embd_per_head: int = 16
    lags_seq: tuple[int, ...] = PUBLISHED_LAGS
    time_feat: bool = True

    @property
    def width(self) -> int:
        """Width of a token inside the network."""
        return self.n_head * self.n_embd_per_head

    @property
    def feature_size(self) -> int:
        """Features of a token."""
        return len(self.lags_seq) + _STATIC_FEATURES + TIME_FEATURES * self.time_feat

    @property
    def max_lag(self) -> int:
        """The largest lag."""
        return self.lags_seq[-1]

    def to_json(self) -> dict[str, Any]:
        """Return the sizes as plain JSON values."""
        return asdict(self) | {"lags_seq": list(self.lags_seq)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], name: str) -> LagLlamaSizes:
        """Parse the values of `to_json`; other keys are ignored, absent ones have published values.

        Args:
            values: the mapping.
            name: its source, for messages.

        Raises:
            BackboneError: a size or the lags are invalid.
        """
        known = {entry.name: values[entry.name] for entry in fields(cls) if entry.name in values}
        lags = known.pop("lags_seq", PUBLISHED_LAGS)
        calendar = known.pop("time_feat", True)
        for key, value in known.items():
            if not _is_whole(value, 1):
                raise BackboneError(f"{name}: {key} should be a whole number, got {value!r}")
        width = known.get("n_embd_per_head", cls.n_embd_per_head)
        if width % 2:
            raise BackboneError(f"{name}: n_embd_per_head should be even, got {width}")
        if known.get("n_layer", cls.n_layer) > _MOST_LAYERS:
            raise BackboneError(f"{name}: n_layer should be at most {_MOST_LAYERS}")
        if not isinstance(calendar, bool):
            raise BackboneError(f"{name}: time_feat should be true or false, got {calendar!r}")
        if (
            not isinstance(lags, list | tuple)
            or not all(_is_whole(lag, 0) for lag in lags)
            or not lags
            or sorted(set(lags)) != list(lags)
        ):
            raise BackboneError(f"{name}: lags_seq should be rising whole numbers, got {lags!r}")
        return cls(**known, lags_seq=tuple(lags), time_feat=calendar)


def _is_whole(value: object, least: int) -> bool:
    return type(value) is int and least <= value <= _LARGEST_SIZE
