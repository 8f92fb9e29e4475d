"""Windows of stays: a context of one vital sign and the target that follows it.

A window belongs to a forecast origin, the first step to be forecast. The origins of a stay are its
steps stride, 2 * stride, 3 * stride ... They depend on the stay's start and the stride alone, so
models with another context, horizon or vital are compared on the same origins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from common.data.splits import SPLITS
from common.data.vitals import VITAL_NAMES
from common.errors import UsageError
from common.names import check_name

if TYPE_CHECKING:
    from common.data.site_table import SiteTable

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

# Settings keys of the fields, for messages.
_KEYS = {
    "context_steps": "windows.context",
    "horizon_steps": "windows.horizon",
    "stride_steps": "windows.stride",
    "min_context_observed": "windows.min-context",
}


@dataclass(frozen=True)
class WindowSettings:
    """Lengths by which windows are cut.

    Attributes:
        context_steps: length of the context C, in time steps of the table.
        horizon_steps: length of the target H, in time steps.
        stride_steps: distance between two forecast origins of a stay, in time steps.
        min_context_observed: least number of observed values in a context.

    Raises:
        UsageError: a value is below 1, or `min_context_observed` exceeds `context_steps`.
    """

    context_steps: int = 48
    horizon_steps: int = 6
    stride_steps: int = 6
    min_context_observed: int = 8

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise UsageError(f"{_KEYS[name]} must be at least 1, got {value}")
        if self.min_context_observed > self.context_steps:
            raise UsageError(
                f"windows.min-context = {self.min_context_observed} exceeds windows.context = "
                f"{self.context_steps}; no window could have so many observed values"
            )


@dataclass(frozen=True, eq=False)
class Windows:
    """N windows, each of one vital sign of one stay, in the vital's unit.

    Attributes:
        context: ``[N, C]``; steps before the origin; NaN = not measured or before the stay.
        target: ``[N, H]``; steps from the origin on; NaN = not measured or after the stay.
        vital: ``[N]``; index into `common.data.vitals.VITALS`.
        patient: ``[N]``; index into `patient_ids`.
        patient_ids: the patients; after `make_windows` each has at least one window; `take` keeps
            all of them, so that indices stay valid.
    """

    context: FloatArray
    target: FloatArray
    vital: IntArray
    patient: IntArray
    patient_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.vital)

    def take(self, index: npt.NDArray[Any] | slice) -> Windows:
        """Return the windows at an index array, a boolean mask ``[N]`` or a slice."""
        return replace(
            self,
            context=self.context[index],
            target=self.target[index],
            vital=self.vital[index],
            patient=self.patient[index],
        )

    def of_vital(self, index: int) -> Windows:
        """Return the windows of one vital, by its index into `common.data.vitals.VITALS`."""
        return self.take(self.vital == index)


def windows_by_split(
    table: SiteTable,
    splits: Iterable[str],
    settings: WindowSettings,
    vitals: Sequence[str] = VITAL_NAMES,
) -> dict[str, Windows]:
    """Cut the windows of several splits of a site; arguments and errors as in `make_windows`."""
    return {split: make_windows(table, split, settings, vitals) for split in splits}


def make_windows(
    table: SiteTable,
    split: str,
    settings: WindowSettings,
    vitals: Sequence[str] = VITAL_NAMES,
) -> Windows:
    """Cut the windows of one split of a site.

    A window is kept if its context has at least `settings.min_context_observed` observed values
    and its target at least one. No window spans two stays.

    Args:
        table: a valid site table.
        split: one of `common.data.splits.SPLITS`.
        settings: lengths of context, horizon and stride.
        vitals: names of the vital signs to cut windows of.

    Returns:
        The windows, ordered by vital (as in `vitals`), then by patient, stay and origin; N = 0 for
        a split without a window.

    Raises:
        UsageError: an unknown split or vital, or a vital named twice.
    """
    check_name("split", split, SPLITS)
    indices = _vital_indices(vitals)
    stays = _Stays.of_split(table, split)
    origins = _Origins.of_stays(stays, settings)
    columns = [stays.padded(table, VITAL_NAMES[index], settings) for index in indices]
    kept = [origins.kept(column, settings) for column in columns]
    ends = np.cumsum([0, *map(len, kept)])
    # Filled in place: collecting the parts first would hold every window twice.
    context = np.empty((ends[-1], settings.context_steps), np.float32)
    target = np.empty((ends[-1], settings.horizon_steps), np.float32)
    for column, rows, start, end in zip(columns, kept, ends[:-1], ends[1:], strict=True):
        position = origins.position[rows]
        context[start:end] = _cut(column, position - settings.context_steps, context.shape[1])
        target[start:end] = _cut(column, position, target.shape[1])
    rows = np.concatenate([np.empty(0, np.int64), *kept])
    present, patient = np.unique(stays.patient[origins.stay[rows]], return_inverse=True)
    return Windows(
        context=context,
        target=target,
        vital=np.repeat(np.array(indices, np.int64), np.diff(ends)),
        patient=patient.astype(np.int64),
        patient_ids=tuple(stays.patient_ids[index] for index in present),
    )


def count_windows(
    table: SiteTable,
    split: str,
    settings: WindowSettings,
    vitals: Sequence[str] = VITAL_NAMES,
) -> int:
    """Return the number of windows that `make_windows` cuts, without cutting them."""
    check_name("split", split, SPLITS)
    stays = _Stays.of_split(table, split)
    origins = _Origins.of_stays(stays, settings)
    names = [VITAL_NAMES[index] for index in _vital_indices(vitals)]
    return sum(len(origins.kept(stays.padded(table, name, settings), settings)) for name in names)


def pool_windows(sites: Mapping[str, Windows]) -> Windows:
    """Concatenate the windows of several sites, as for centralised training.

    Args:
        sites: the windows of each site by its name, all of the same C and H.

    Returns:
        The windows in the order of the sites; patients are named ``site/patient``, since two
        hospitals may use one id for two people.

    Raises:
        UsageError: no site is given, or their windows differ in length.
    """
    shapes = {(part.context.shape[1], part.target.shape[1]) for part in sites.values()}
    if len(shapes) != 1:
        raise UsageError(
            "windows can be pooled if they share one context and horizon length, got "
            f"{sorted(shapes) or 'no site'}"
        )
    parts = list(sites.values())
    offsets = np.cumsum([0, *(len(part.patient_ids) for part in parts)])
    return Windows(
        context=np.concatenate([part.context for part in parts]),
        target=np.concatenate([part.target for part in parts]),
        vital=np.concatenate([part.vital for part in parts]),
        patient=np.concatenate(
            [part.patient + offset for part, offset in zip(parts, offsets[:-1], strict=True)]
        ),
        patient_ids=tuple(
            f"{site}/{id_}" for site, part in sites.items() for id_ in part.patient_ids
        ),
    )


def _vital_indices(vitals: Sequence[str]) -> list[int]:
    for name in vitals:
        check_name("vital", name, VITAL_NAMES)
    if len(set(vitals)) < len(vitals):
        raise UsageError(f"a vital is named twice in {', '.join(vitals)}; name each once")
    return [VITAL_NAMES.index(name) for name in vitals]


@dataclass(frozen=True)
class _Stays:
    """The S stays of a split.

    Attributes:
        patient_ids: all patients, in the order of the table.
        patient: ``[S]``, index of each stay's patient into `patient_ids`.
        lengths: ``[S]``, steps of each stay.
        rows: ``[R]``, the rows of the table that belong to them.
    """

    patient_ids: tuple[str, ...]
    patient: IntArray
    lengths: IntArray
    rows: IntArray

    @classmethod
    def of_split(cls, table: SiteTable, split: str) -> _Stays:
        import pandas as pd  # not above: every command's settings import this module

        frame = table.frame
        # By the schema every stay starts at step 0 and has no gap.
        starts = np.flatnonzero(frame["step"].to_numpy() == 0)
        lengths = np.diff(np.append(starts, len(frame)))
        first_rows = frame.iloc[starts]
        wanted = first_rows["split"].to_numpy(object) == split
        patient, patient_ids = pd.factorize(first_rows["patient_id"].to_numpy(object)[wanted])
        return cls(
            patient_ids=tuple(patient_ids.tolist()),
            patient=patient.astype(np.int64),
            lengths=lengths[wanted],
            rows=np.flatnonzero(np.repeat(wanted, lengths)),
        )

    def starts(self, settings: WindowSettings) -> IntArray:
        """Return the positions of the stays' first steps in the padded column, [S]."""
        gap = _gap(settings)
        before = np.cumsum(self.lengths + gap) - self.lengths
        return np.asarray(before, dtype=np.int64)

    def padded(self, table: SiteTable, vital: str, settings: WindowSettings) -> FloatArray:
        """Return one vital of all stays in a row, with NaN before, between and after them.

        The gaps are as long as a context or a horizon, so that no window spans two stays.
        """
        gap = _gap(settings)
        column = np.full(gap + len(self.rows) + gap * len(self.lengths), np.nan, np.float32)
        shift = np.repeat(gap * (1 + np.arange(len(self.lengths))), self.lengths)
        column[np.arange(len(self.rows)) + shift] = table.frame[vital].to_numpy()[self.rows]
        return column


@dataclass(frozen=True)
class _Origins:
    """All forecast origins of the stays, whether a window is kept or not.

    Attributes:
        stay: index of each origin's stay.
        position: position of each origin in the padded column.
    """

    stay: IntArray
    position: IntArray

    @classmethod
    def of_stays(cls, stays: _Stays, settings: WindowSettings) -> _Origins:
        counts = (stays.lengths - 1) // settings.stride_steps
        stay = np.repeat(np.arange(len(counts)), counts)
        number = np.arange(len(stay)) - np.repeat(np.cumsum(counts) - counts, counts)
        step = settings.stride_steps * (1 + number)
        return cls(stay=stay, position=stays.starts(settings)[stay] + step)

    def kept(self, column: FloatArray, settings: WindowSettings) -> IntArray:
        """Return the indices of the origins with enough observed values in context and target."""
        observed = np.concatenate([[0], np.cumsum(~np.isnan(column))])
        at = self.position
        in_context = observed[at] - observed[at - settings.context_steps]
        in_target = observed[at + settings.horizon_steps] - observed[at]
        enough = (in_context >= settings.min_context_observed) & (in_target >= 1)
        return np.flatnonzero(enough)


def _gap(settings: WindowSettings) -> int:
    return max(settings.context_steps, settings.horizon_steps)


def _cut(column: FloatArray, starts: IntArray, length: int) -> FloatArray:
    """Copy the slices of a column that begin at `starts`, [len(starts), length]."""
    return np.lib.stride_tricks.sliding_window_view(column, length)[starts]
