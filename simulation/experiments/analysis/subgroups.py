"""Groups of test patients by age band and by sex, where the cohort's source has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.config.run_config import RunConfig
from common.data.demographics import AGE_BANDS, SEXES, read_patients
from common.evaluation.bootstrap import LEAST_PATIENTS
from simulation.experiments.models.scoring import cohort_windows

Members = dict[str, npt.NDArray[np.bool_]]
"""Membership masks over each site's test patients, in the order of their scores, by site."""


@dataclass(frozen=True, eq=False)
class Groups:
    """The groups of an experiment's test patients.

    Attributes:
        members: membership of the compared groups, by name.
        too_small: names of the groups with too few patients to compare.
    """

    members: dict[str, Members] = field(default_factory=dict)
    too_small: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Return the number of test patients of each compared group."""
        return {
            name: sum(int(member.sum()) for member in members.values())
            for name, members in self.members.items()
        }


def groups_of(config: RunConfig) -> Groups:
    """Return the groups of a cohort's test patients; none if its source has neither age nor sex.

    Args:
        config: the settings; `data` and `windows.*` are read.

    Raises:
        CohortError: the cohort cannot be read.
    """
    patients = read_patients(Path(config.data))
    if patients is None:
        return Groups()
    by_id = patients.set_index("patient_id")
    tested = {
        site: by_id.reindex(windows.test.patient_ids)
        for site, windows in cohort_windows(config).items()
    }
    groups = Groups()
    # No site's name has a space in it.
    named = {f"patients aged {band}": ("age_band", band) for band in AGE_BANDS}
    named |= {f"{sex} patients": ("sex", sex) for sex in SEXES}
    for name, (column, value) in named.items():
        members = {site: (rows[column] == value).to_numpy() for site, rows in tested.items()}
        count = sum(int(member.sum()) for member in members.values())
        if count >= LEAST_PATIENTS:
            groups.members[name] = members
        elif count:
            groups.too_small.append(name)
    return groups
