"""Evaluations and analyses made by hand, for the arithmetic of experiments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.config.run_config import RunConfig
from common.data.vitals import VITALS
from common.evaluation.evaluate import Evaluation
from common.evaluation.metrics import METRICS
from simulation.experiments.analysis.analysis import Analysis, analyse
from simulation.experiments.analysis.site_sizes import Bands
from simulation.experiments.analysis.subgroups import Groups
from simulation.experiments.cell_cache import Cell, CellResult
from simulation.experiments.models.registry import METHODS
from simulation.experiments.run_cells import Arm


def evaluation(errors: Sequence[float], vitals: int = 1) -> Evaluation:
    """One window and one observed step a patient, each metric's numerator being his error."""
    patients = len(errors)
    cells = (patients, len(VITALS))
    present = np.zeros(cells, np.int64)
    present[:, :vitals] = 1
    numerator = np.zeros((*cells, len(METRICS)))
    numerator[:, :vitals] = np.asarray(errors, float)[:, None, None]
    return Evaluation(
        patient_ids=tuple(f"patient-{number}" for number in range(patients)),
        metrics=tuple(METRICS),
        numerator=numerator,
        denominator=np.repeat(present[..., None], len(METRICS), axis=2).astype(float),
        windows=present,
        observed=present,
    )


_COPIES = 10
"""Copies of each patient: fewer than `LEAST_PATIENTS` have no interval."""


def analysis(
    groups: Groups | None = None,
    bands: Bands | None = None,
    copies: int = _COPIES,
    **errors: dict[str, list[list[float]]],
) -> Analysis:
    """Arms by method: by site, per seed, the error of each patient."""
    arms = {}
    for method, by_site in errors.items():
        name = METHODS[method.replace("_", "-")].label
        arm = Arm(name, Cell(name, method.replace("_", "-"), RunConfig()))
        seeds = len(next(iter(by_site.values())))
        for seed in range(seeds):
            scores: dict[str, Evaluation] = {
                site: evaluation(values[seed] * copies) for site, values in by_site.items()
            }
            arm.results[seed] = CellResult(scores)
        arms[name] = arm
    references = tuple(METHODS[name].label for name in ("zero-shot", "local"))
    if groups is not None:
        members = {
            name: {site: np.tile(mask, copies) for site, mask in by_site.items()}
            for name, by_site in groups.members.items()
        }
        groups = Groups(members, groups.too_small)
    return analyse(arms, references, groups, bands)


def two_sites(*, federated: float, local: float, centralised: float, at_b: float = 1.0) -> Analysis:
    """Four patients a site, all alike; zero-shot's error is 10, site b's federated one scaled."""
    alike = [1.0] * 4

    def everywhere(error: float, share: float = 1.0) -> dict[str, list[list[float]]]:
        return {"a": [[error * x for x in alike]], "b": [[error * share * x for x in alike]]}

    return analysis(
        zero_shot=everywhere(10.0),
        local=everywhere(local),
        federated=everywhere(federated, at_b),
        centralised=everywhere(centralised),
    )
