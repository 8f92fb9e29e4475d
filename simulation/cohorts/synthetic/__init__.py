"""Synthetic hospital in the layout of MIMIC-III v1.4: no real patient, no clinical data.

Its folder is read by the same cohort code as MIMIC-III itself. It is no basis for any clinical
conclusion, and its prevalence of sepsis is not realistic: about eight in ten adult stays have an
explicit code, so that a few hundred stays fill five sites.

It has every difficulty of the real tables: two charting systems with their own items, texts, error
marks, duplicates, impossible values, missing ids and times, patients over 89, minors, newborns,
short and open-ended stays, and patients who return to another unit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from common.errors import CohortError, UsageError
from common.files.atomic_io import atomic_folder
from simulation.cohorts.synthetic.bedside import chart_bedside, write_urine
from simulation.cohorts.synthetic.charting import chart_monitor, chart_vitals
from simulation.cohorts.synthetic.events import join_events, write_chart
from simulation.cohorts.synthetic.laboratory import write_cultures, write_laboratory
from simulation.cohorts.synthetic.noise import add_chart_errors
from simulation.cohorts.synthetic.patients import draw_stays
from simulation.cohorts.synthetic.physiology import simulate
from simulation.cohorts.synthetic.register import write_register
from simulation.cohorts.synthetic.tables import TableWriter, write_items
from simulation.cohorts.synthetic.treatment import (
    write_infusions,
    write_prescriptions,
    write_procedures,
)

MIN_STAYS = 60
"""Least stays, for every unit and every difficulty to occur."""

# Stays simulated at once, which bounds memory for any number of stays.
_BLOCK = 256


def write_synthetic_mimic(
    folder: Path, *, stays: int = 400, seed: int = 0, monitor_minutes: int = 0
) -> None:
    """Write the synthetic hospital's tables as `TABLE.csv.gz`; equal arguments give equal bytes.

    Args:
        folder: absent or empty; written atomically.
        stays: number of ICU stays, neonatal ones included.
        seed: not negative.
        monitor_minutes: time between the readings of a bedside monitor, which are charted beside
            the nurses' hourly rounds; 0 = none. All other events are the same with and without.

    Raises:
        UsageError: `stays` is below `MIN_STAYS` or `seed` is negative.
        CohortError: `folder` is not empty.
    """
    if stays < MIN_STAYS:
        raise UsageError(f"--stays must be at least {MIN_STAYS}, got {stays}")
    if seed < 0:
        raise UsageError(f"--seed must be 0 or more, got {seed}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CohortError(f"{folder} is not an empty folder; give another one")
    blocks = range(0, stays, _BLOCK)
    first, *rest = np.random.SeedSequence(seed).spawn(1 + len(blocks))
    rng = np.random.default_rng(first)
    register = draw_stays(rng, stays)
    with atomic_folder(folder) as partial, TableWriter(partial) as writer:
        write_items(writer)
        write_register(rng, writer, register)
        for start, block_seed in zip(blocks, rest, strict=True):
            block = register.iloc[start : start + _BLOCK].reset_index(drop=True)
            _write_block(block_seed, writer, block, monitor_minutes)


def _write_block(
    seed: np.random.SeedSequence, writer: TableWriter, stays: pd.DataFrame, monitor_minutes: int
) -> None:
    rng = np.random.default_rng(seed)
    course = simulate(rng, stays)
    vitals = add_chart_errors(rng, stays, chart_vitals(rng, stays, course))
    charted = [vitals, chart_bedside(rng, stays, course)]
    if monitor_minutes:
        own = np.random.default_rng(seed.spawn(1)[0])
        charted.append(chart_monitor(own, stays, course, monitor_minutes))
    write_chart(writer, stays, join_events(charted))
    write_urine(rng, writer, stays, course)
    write_laboratory(rng, writer, stays, course)
    write_cultures(rng, writer, stays, course)
    write_infusions(rng, writer, stays, course)
    write_prescriptions(rng, writer, stays, course)
    write_procedures(writer, stays, course)
