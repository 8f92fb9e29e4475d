"""What the node itself knows of the site table, if it may read it: the rest is the app's."""

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
    """Return the number of training patients; None where the table is not there or not readable.

    In the deployment files the data are mounted for the app's process alone.
    """
    try:
        rows = pq.read_table(table, columns=["patient_id", "split"])
    except (OSError, pa.ArrowException):
        return None
    training = rows.filter(pc.equal(rows["split"], "train"))
    return len(training["patient_id"].unique())


def require_min_patients(config: SiteConfig, policy: Policy) -> int:
    """Return the number of training patients, from the table, or as the site declares it.

    Where privacy is required the declared number alone counts: whether the node starts must not
    follow from who is in the table.

    Args:
        config: the site's settings, which name the table.
        policy: of how many patients at least something may leave.

    Raises:
        PolicyError: where the site is too small, or nobody can tell whether it is.
    """
    if policy.privacy_required:
        check_declared(config)
    counted = None if policy.privacy_required else training_patients(config.site.table)
    patients = config.site.patients if counted is None else counted
    if patients >= policy.min_patients:
        return patients
    if counted is None and not patients:
        raise PolicyError(
            f"the node cannot read {config.site.table}, and so not judge limits.min-patients = "
            f"{policy.min_patients}; set site.patients in site.toml to the training patients that "
            "`python -m client check` counts"
        )
    raise PolicyError(
        f"{config.site.table} has {patients} training patients, limits.min-patients in "
        f"{config.site.policy} is {policy.min_patients}; the site does not take part"
    )
