"""Checks of a site table, each with its finding and remedy.

A site cannot train on a table with an `error`; a `warning` is probably a mistake; a `note` is
information. All thresholds are at the top.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from client.data_quality.finding import SEVERITIES, QualityFinding, share_text
from client.data_quality.record_checks import find_in_record
from client.data_quality.stay_checks.all_checks import find_in_stays
from client.data_quality.stay_checks.ingest_signs import vitals_with_stays_in_other_units
from client.data_quality.unit_mixture import remedy_of_units, vitals_in_other_units
from client.ingest.units import UNITS
from common.data.vitals import VITALS, Vital
from common.forecasting.reference_ranges import EXPECTED

FEW_PATIENTS = 50
FEW_FOR_PRIVACY = 500
LEFT_OVER_SHARE = 0.01
RARE_SHARE = 0.01
CONSTANT_LEAST = 20
DISORDERED_SHARE = 0.05


def find_all(
    frame: pd.DataFrame,
    patients: Mapping[str, int],
    windows: Mapping[str, int],
    step_minutes: int,
    record: Mapping[str, Any] | None,
    leftovers: Sequence[Path],
) -> list[QualityFinding]:
    """Run all checks and return their findings, the worst first.

    Args:
        frame: the rows of a valid site table.
        patients: their number by split.
        windows: their number by split, with default settings.
        step_minutes: length of a step.
        record: content of `ingest.json`, with `is_same_table`; None without one.
        leftovers: scratch folders of killed ingests beside the table.
    """
    found = [] if record is None else find_in_record(record)
    found += [*_size(patients, windows), *_steps(frame, step_minutes)]
    told = set()
    if record is not None:
        told = vitals_in_other_units(record) | vitals_with_stays_in_other_units(record)
    constant = set()
    for vital in VITALS:
        values = frame[vital.name].to_numpy(np.float64)
        observed = values[~np.isnan(values)]
        of_vital = list(_values(vital, observed, len(values), is_told=vital.name in told))
        found += of_vital
        codes = {finding.code for finding in of_vital}
        told |= {vital.name} if "unit-left-over" in codes else set()
        constant |= {vital.name} if "constant" in codes else set()
    of_stays = find_in_stays(frame, step_minutes, told=told, constant=constant)
    found += of_stays
    # Which stays have exchanged pressures is more than that some steps have.
    codes = {finding.code for finding in of_stays}
    found += [finding for finding in _pressures(frame) if f"stay-{finding.code}" not in codes]
    if leftovers:
        found.append(
            QualityFinding(
                "warning",
                "left-over",
                f"a killed ingest left {leftovers[0].name} beside the table; it holds "
                "patients' records",
                "delete it, if no ingest is running",
            )
        )
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def _size(patients: Mapping[str, int], windows: Mapping[str, int]) -> Iterator[QualityFinding]:
    if not windows["train"]:
        yield QualityFinding(
            "error",
            "no-window",
            "no stay of a training patient is long enough and observed enough for a window",
            "take more or longer stays, or cut shorter ones (windows.context, windows.min-context)",
        )
    for split, use in (("validation", "choose a round"), ("test", "evaluate the adapter")):
        if not windows[split]:
            yield QualityFinding(
                "warning",
                f"no-{split}-window",
                f"no {split} patient has a window; this site cannot be used to {use}",
                "take more patients: about one in ten is in validation, two in ten are in test",
            )
    if patients["train"] < FEW_PATIENTS:
        yield QualityFinding(
            "warning",
            "few-patients",
            f"{patients['train']} training patients: an adapter trained on so few may describe "
            "single patients",
            f"take at least {FEW_PATIENTS}, or run with privacy.epsilon, whose noise then leaves "
            "little to learn",
        )
    elif patients["train"] < FEW_FOR_PRIVACY:
        yield QualityFinding(
            "note",
            "few-for-privacy",
            f"{patients['train']} training patients: the noise of privacy.epsilon is as large for "
            "few as for many, so it matters more",
            "with privacy on, compare the run's result with zero-shot before relying on it",
        )


def _values(
    vital: Vital, values: np.ndarray[Any, np.dtype[np.float64]], steps: int, *, is_told: bool
) -> Iterator[QualityFinding]:
    if not len(values):
        yield QualityFinding(
            "warning",
            "never-observed",
            f"{vital.label} is never observed",
            f"check whether [vitals.{vital.name}] names its codes or its column, and the unit",
        )
        return
    if len(values) < RARE_SHARE * steps:
        yield QualityFinding(
            "note",
            "rarely-observed",
            f"{vital.label} is observed in {share_text(len(values) / steps)} of the steps",
            f"check whether [vitals.{vital.name}] has all its codes",
        )
    if len(values) >= CONSTANT_LEAST and values.min() == values.max():
        yield QualityFinding(
            "warning",
            "constant",
            f"{vital.label} is {values[0]:g} {vital.unit} in all {len(values):,} observed steps",
            "this is a default value or another column; check the source",
        )
        return
    if not is_told:
        yield from _unit(vital, values)


def _unit(vital: Vital, values: np.ndarray[Any, np.dtype[np.float64]]) -> Iterator[QualityFinding]:
    """Find values in another unit: all of them, or the implausible ones."""
    expected = EXPECTED[vital.name]
    median = float(np.median(values))
    implausible = values[(values < expected.low) | (values > expected.high)]
    for unit in UNITS[vital.name][1:]:
        converted = np.array([unit.convert(value) for value in implausible])
        explained = (converted >= expected.low) & (converted <= expected.high)
        share = int(explained.sum()) / len(values)
        if share > LEFT_OVER_SHARE:
            yield QualityFinding(
                "warning",
                "unit-left-over",
                f"{vital.label}: {share_text(share)} of the values look like {unit.name} "
                f"(median {np.median(implausible):g})",
                remedy_of_units(
                    vital.name,
                    UNITS[vital.name][0].name,
                    unit.name,
                    is_mixed=1 - len(implausible) / len(values) > LEFT_OVER_SHARE,
                ),
            )
            return
    if not expected.has_median(median):
        yield QualityFinding(
            "warning",
            "unusual-median",
            f"{vital.label}: the median is {median:g} {vital.unit}, usual are "
            f"{expected.median_low:g} to {expected.median_high:g}",
            f"check whether [vitals.{vital.name}] names the right codes or column, and the unit",
        )


def _pressures(frame: pd.DataFrame) -> Iterator[QualityFinding]:
    sbp, dbp, mbp = (frame[name].to_numpy(np.float64) for name in ("sbp", "dbp", "mbp"))
    both = ~np.isnan(sbp) & ~np.isnan(dbp)
    if both.sum() and (share := float(np.mean(dbp[both] > sbp[both]))) > DISORDERED_SHARE:
        yield QualityFinding(
            "warning",
            "pressures-swapped",
            f"the diastolic pressure is above the systolic one in {share_text(share)} of the steps",
            "check whether [vitals.sbp] and [vitals.dbp] are exchanged",
        )
        return
    all_three = both & ~np.isnan(mbp)
    outside = (mbp[all_three] < dbp[all_three]) | (mbp[all_three] > sbp[all_three])
    if len(outside) and (share := float(np.mean(outside))) > DISORDERED_SHARE:
        yield QualityFinding(
            "warning",
            "mean-pressure-outside",
            "the mean pressure is not between diastolic and systolic in "
            f"{share_text(share)} of the steps",
            "check whether the three come from one device and one unit, and the codes of "
            "[vitals.mbp]",
        )


def _steps(frame: pd.DataFrame, step_minutes: int) -> Iterator[QualityFinding]:
    """Check the distances between observed steps, of the vital observed most."""
    name = max(
        (vital.name for vital in VITALS), key=lambda name: np.sum(frame[name].notna().to_numpy())
    )
    rows = frame.loc[frame[name].notna(), ["stay_id", "step"]]
    gaps = rows.groupby("stay_id", sort=False)["step"].diff().dropna().to_numpy()
    if not len(gaps):
        return
    typical = float(np.median(gaps))
    if typical >= 2:
        minutes = typical * step_minutes
        yield QualityFinding(
            "warning",
            "sparse-steps",
            f"vital signs are charted about every {minutes:g} minutes, a step is {step_minutes}",
            f"set step-minutes to about {minutes:g}, if all sites of the federation do; else see "
            "whether rows are missing",
        )
    elif (share := float(np.mean(gaps > 4 * typical))) > DISORDERED_SHARE:
        yield QualityFinding(
            "note",
            "irregular-steps",
            f"{share_text(share)} of the pauses between observed steps are over four times the "
            "usual",
            "expected of charting by hand; of a monitor's export, check whether rows are missing",
        )
