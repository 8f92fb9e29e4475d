"""The test patients of an age band and of a sex, where the cohort's source tells them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.config.run_config import RunConfig
from common.data.demographics import AGE_BANDS, SEXES, read_patients
from simulation.experiments.models.scoring import cohort_windows

LEAST_PATIENTS = 10
"""A group of fewer test patients is named and not compared: its interval would say too much."""

Members = dict[str, npt.NDArray[np.bool_]]
"""By site, which of its test patients belong to a group, in the order of their scores."""


@dataclass(frozen=True, eq=False)
class Groups:
    """The groups of an experiment's test patients.

    Attributes:
        members: by the group's name, of the groups that are compared.
        too_small: the names of those that are not, though they have patients.
    """

    members: dict[str, Members] = field(default_factory=dict)
    too_small: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Return the number of test patients of each group that is compared."""
        return {
            name: sum(int(member.sum()) for member in members.values())
            for name, members in self.members.items()
        }


def groups_of(config: RunConfig) -> Groups:
    """Return the groups of a cohort's test patients; none where its source does not tell them.

    Args:
        config: the settings; `data` and `windows.*` are read.

    Raises:
        CohortError: where the cohort cannot be read.
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
