"""Minimum number of training patients, checked before a node starts."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from client.config.site_config import SiteConfig
from client.config.site_facts import check_declared
from client.policy.policy import Policy
from common.errors import PolicyError


def training_patients(table: Path) -> int | None:
    """Return the number of training patients; None if the table is missing or not readable.

    In the deployment files only the app's process can read the table.
    """
    try:
        rows = pq.read_table(table, columns=["patient_id", "split"])
    except (OSError, pa.ArrowException):
        return None
    training = rows.filter(pc.equal(rows["split"], "train"))
    return len(training["patient_id"].unique())


def require_min_patients(config: SiteConfig, policy: Policy) -> int:
    """Return the number of training patients, counted in the table or declared by the site.

    If the policy requires privacy, only the declared number counts: whether the node starts must
    not depend on who is in the table.

    Args:
        config: the site's settings, which name the table.
        policy: the policy, with its minimum of patients.

    Raises:
        PolicyError: if the site is too small, or its size is unknown.
    """
    if policy.privacy_required:
        check_declared(config)
    counted = None if policy.privacy_required else training_patients(config.site.table)
    patients = config.site.patients if counted is None else counted
    if patients >= policy.min_patients:
        return patients
    if counted is None and not patients:
        raise PolicyError(
            f"the node cannot read {config.site.table} to check limits.min-patients = "
            f"{policy.min_patients}; set site.patients in site.toml to the training patients that "
            "`python -m client check` counts"
        )
    raise PolicyError(
        f"{config.site.table} has {patients} training patients, limits.min-patients in "
        f"{config.site.policy} is {policy.min_patients}; the site does not take part"
    )
