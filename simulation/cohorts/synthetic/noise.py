"""Noise of a real chart: errors that a cohort has to drop, count or reassign."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from simulation.cohorts.arrays import Ints
from simulation.cohorts.synthetic.events import Events, join_events

_ERROR_SHARE = 0.002
_TEXT_SHARE = 0.003
_IMPOSSIBLE_SHARE = 0.003
_WRONG_UNIT_SHARE = 0.01
_DUPLICATE_SHARE = 0.004
_UNASSIGNED_SHARE = 0.03
_OUTSIDE_SHARE = 0.003
"""Shares of the vital signs charted (of the temperatures for _WRONG_UNIT_SHARE), at least one each
block."""

_TEXT = np.array(["Unable to obtain", "Refused", "see note", "off monitor"], dtype=object)
_IMPOSSIBLE = np.array([0.0, -5.0, 999.0, 9999.0])
_FAHRENHEIT = (678, 223761)
_CELSIUS = (676, 223762)
_METAVISION_ITEMS = 220_000


def add_chart_errors(rng: np.random.Generator, stays: pd.DataFrame, vitals: Events) -> Events:
    """Add noise to charted vitals; valid events stay unchanged.

    Args:
        rng: random generator.
        stays: the block's rows of `draw_stays`.
        vitals: charted vitals.

    Returns:
        `vitals`, some of them without ICUSTAY_ID, plus plausible values marked as errors (in
        MetaVision, which alone has the mark), texts, impossible values, temperatures under the
        other unit's item, readings before and after the stay, and exact duplicates.
    """
    newer = np.flatnonzero(vitals.item >= _METAVISION_ITEMS)
    errors = vitals.take(_some(rng, newer, _ERROR_SHARE))
    errors = replace(errors, value=errors.value + 60, error=np.ones(len(errors), dtype=bool))
    everything = np.arange(len(vitals))
    texts = vitals.take(_some(rng, everything, _TEXT_SHARE))
    texts = replace(
        texts, value=np.full(len(texts), np.nan), text=rng.choice(_TEXT, len(texts)).astype(object)
    )
    impossible = vitals.take(_some(rng, everything, _IMPOSSIBLE_SHARE))
    impossible = replace(impossible, value=rng.choice(_IMPOSSIBLE, len(impossible)))
    parts = [vitals, errors, texts, impossible, _wrong_unit(rng, vitals)]
    charted = join_events([*parts, _outside(rng, stays, vitals)])
    unassigned = charted.unassigned | (rng.random(len(charted)) < _UNASSIGNED_SHARE)
    charted = replace(charted, unassigned=unassigned)
    return join_events(
        [charted, charted.take(_some(rng, np.arange(len(charted)), _DUPLICATE_SHARE))]
    )


def _some(rng: np.random.Generator, places: Ints, share: float) -> Ints:
    """Choose a share of the places, at least one if there is any."""
    count = min(len(places), max(1, round(share * len(places))))
    return np.sort(rng.choice(places, count, replace=False))


def _wrong_unit(rng: np.random.Generator, vitals: Events) -> Events:
    """Return temperatures in °C under the item of °F, and vice versa."""
    warm = np.flatnonzero(np.isin(vitals.item, _FAHRENHEIT + _CELSIUS))
    chosen = vitals.take(_some(rng, warm, _WRONG_UNIT_SHARE))
    fahrenheit = np.isin(chosen.item, _FAHRENHEIT)
    other = np.where(fahrenheit, (chosen.value - 32) / 1.8, chosen.value * 1.8 + 32)
    return replace(chosen, value=other.round(1))


def _outside(rng: np.random.Generator, stays: pd.DataFrame, vitals: Events) -> Events:
    """Return readings of the hours before INTIME and after OUTTIME, which belong to no stay."""
    chosen = vitals.take(_some(rng, np.arange(len(vitals)), _OUTSIDE_SHARE))
    intime = stays["intime"].to_numpy()[chosen.stay]
    outtime = stays["outtime"].to_numpy()[chosen.stay]
    minutes = rng.integers(1, 180, len(chosen))
    # After a stay with an unknown end there is nothing.
    open_ended = (stays["role"] == "open").to_numpy()[chosen.stay]
    before = open_ended | (rng.random(len(chosen)) < 0.5)
    time = np.where(before, intime - 60 * minutes, outtime + 60 * minutes)
    return replace(chosen, time=time - time % 60, unassigned=np.ones(len(chosen), dtype=bool))
