"""Which stays are kept: the hospital's own choice, then what a site table asks of a stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from client.ingest.mapping import SiteMapping
from common.data.exclusion_flow import ExclusionFlow
from common.errors import SourceError

_DAY_US = 86_400_000_000
_HOUR_US = 3_600_000_000
_COMMENT = "#"


def choose_stays(
    stays: pd.DataFrame, mapping: SiteMapping, flow: ExclusionFlow
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Apply the cohort's rules in one stated order, each with its count.

    Args:
        stays: as of `hourly.stay_frame`.
        mapping: the rules.
        flow: where the counts are noted.

    Returns:
        The stays that are kept; and, of each list of ids, how many of its ids no stay has.

    Raises:
        SourceError: where a list of ids cannot be read.
    """
    stays = stays.assign(unit=mapping.site)
    flow.record("stays in the source", stays)
    if not stays["is_single"].all():
        stays = stays[stays["is_single"]]
        flow.record("an id that is one patient's", stays)
    stays, missing = _chosen(stays, mapping, flow)
    stays = stays[stays["last_us"] >= 0]
    flow.record("with a vital sign", stays)
    stays = stays[stays["last_us"] < mapping.stay.max_days * _DAY_US]
    flow.record(f"at most {mapping.stay.max_days} days", stays)
    step_us = mapping.table.step_minutes * 60_000_000
    # A step counts as a whole, as it does in the table.
    lengths = (stays["last_us"].to_numpy(np.int64) // step_us + 1) * step_us
    stays = stays[lengths >= mapping.cohort.min_hours * _HOUR_US]
    flow.record(f"at least {mapping.cohort.min_hours:g} h of vital signs", stays)
    return stays, missing


def _chosen(
    stays: pd.DataFrame, mapping: SiteMapping, flow: ExclusionFlow
) -> tuple[pd.DataFrame, dict[str, int]]:
    cohort, missing = mapping.cohort, {}
    for column, file in (("patient_id", cohort.keep_patients), ("stay_id", cohort.keep_stays)):
        if file:
            ids = _read_ids(mapping.folder / file)
            missing[column] = len(ids - set(stays[column]))
            stays = stays[stays[column].isin(ids)]
            flow.record(f"in the list of {column.removesuffix('_id')}s to keep", stays)
    if cohort.flag:
        stays = stays[stays["chosen"]]
        flow.record("flagged by the hospital", stays)
    return stays, missing


def _read_ids(path: Path) -> set[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"the list of ids {path} cannot be read: {reason}") from error
    ids = {line.strip() for line in lines}
    return {id_ for id_ in ids if id_ and not id_.startswith(_COMMENT)}
