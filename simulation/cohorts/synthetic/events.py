"""Charted events as arrays, and CHARTEVENTS written from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from simulation.cohorts.arrays import Ints
from simulation.cohorts.synthetic.tables import CHARTED_ITEMS, TableWriter, timestamps


@dataclass(frozen=True)
class Events:
    """Charted events; all arrays are [N].

    Attributes:
        stay: index of the stay in the block.
        item: ITEMID.
        time: CHARTTIME, seconds since 1970.
        value: VALUENUM, NaN if the event is only a text.
        text: VALUE if it is not just the number, else None.
        error: whether it is marked as an error.
        unassigned: whether ICUSTAY_ID is empty.
    """

    stay: Ints
    item: Ints
    time: Ints
    value: npt.NDArray[np.float64]
    text: npt.NDArray[np.object_]
    error: npt.NDArray[np.bool_]
    unassigned: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.stay)

    def take(self, places: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Events:
        """Return the events at indices or a mask."""
        return Events(*(getattr(self, field.name)[places] for field in fields(self)))


def make_events(
    stay: npt.ArrayLike,
    item: npt.ArrayLike,
    time: npt.ArrayLike,
    value: npt.ArrayLike,
    text: npt.ArrayLike | None = None,
) -> Events:
    """Make plain events; arguments are arrays [N] or scalars, as in `Events`."""
    stay, item, time, value = np.broadcast_arrays(stay, item, time, value)
    return Events(
        stay.astype(np.int64),
        item.astype(np.int64),
        time.astype(np.int64),
        value.astype(np.float64),
        np.full(len(stay), None, dtype=object) if text is None else np.asarray(text, dtype=object),
        np.zeros(len(stay), dtype=bool),
        np.zeros(len(stay), dtype=bool),
    )


def join_events(parts: Iterable[Events]) -> Events:
    """Concatenate events."""
    parts = list(parts)
    return Events(
        *(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Events))
    )


def write_chart(writer: TableWriter, stays: pd.DataFrame, events: Events) -> None:
    """Write a block's events to CHARTEVENTS, by stay and time.

    Args:
        writer: the tables.
        stays: the block's rows of `draw_stays`; `Events.stay` counts them from 0.
        events: what was charted.
    """
    events = events.take(np.lexsort((events.item, events.time, events.stay)))
    numbers = pa.array(events.value, from_pandas=True)
    texts = pa.array(events.text, pa.string())
    metavision = events.item >= 220_000
    minutes = (events.time // 60 * 7 + events.item) % 40 + 2
    writer.write(
        "CHARTEVENTS",
        {
            **keys(stays, events.stay),
            "ICUSTAY_ID": pa.array(
                stays["icustay_id"].to_numpy()[events.stay], mask=events.unassigned
            ),
            "ITEMID": events.item,
            "CHARTTIME": timestamps(events.time),
            "STORETIME": timestamps(events.time + 60 * minutes),
            "CGID": 14_000 + events.time // 43_200 % 7_000,
            "VALUE": pc.coalesce(texts, numbers.cast(pa.string())),
            "VALUENUM": numbers,
            "VALUEUOM": _units(events.item),
            # CareVue has neither flag.
            "WARNING": pa.array(np.zeros(len(events), np.int64), mask=~metavision),
            "ERROR": pa.array(events.error.astype(np.int64), mask=~metavision),
        },
    )


def keys(stays: pd.DataFrame, stay: Ints) -> dict[str, Ints]:
    """Return SUBJECT_ID, HADM_ID and ICUSTAY_ID of each event's stay."""
    return {
        column.upper(): stays[column].to_numpy()[stay]
        for column in ("subject_id", "hadm_id", "icustay_id")
    }


def _units(items: Ints) -> pa.Array:
    names = sorted(CHARTED_ITEMS)
    units = pa.array([CHARTED_ITEMS[item].unit for item in names], pa.string())
    return units.take(pa.array(np.searchsorted(names, items)))


def hourly(
    stays: pd.DataFrame, mask: npt.NDArray[np.bool_], minutes: npt.NDArray[np.integer] | int = 0
) -> tuple[Ints, Ints, Ints]:
    """Return the hours of a mask that are within their stay.

    Args:
        stays: the block's frame of `draw_stays`, [S].
        mask: booleans by stay and hour since admission, [S, T].
        minutes: added to the hour, a number or [S, T].

    Returns:
        For each hour the index of its stay, the hour, and its time in seconds since 1970; all [N].
    """
    offset = np.broadcast_to(np.asarray(minutes) * 60, mask.shape)
    seconds = np.arange(mask.shape[1]) * 3600 + offset
    inside = mask & (seconds < stays["hours"].to_numpy()[:, None] * 3600)
    stay, hour = np.nonzero(inside)
    time = stays["intime"].to_numpy()[stay] + seconds[stay, hour]
    return stay, hour, time - time % 60
