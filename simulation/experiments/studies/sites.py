"""Sweep: the same patients in other hospitals: by care unit, or dealt to several at random."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from common.atomic_io import atomic_folder
from common.config.run_config import RunConfig
from common.data.cohort_folder import COHORT_FILE, SITES_FOLDER, site_table_paths
from common.data.site_table import SiteTable, SiteTableInfo, read_site_table, write_site_table
from common.errors import CohortError, UsageError
from simulation.experiments.analysis.analysis import Analysis
from simulation.experiments.analysis.statements import against, grouped
from simulation.experiments.cell_cache import Cell, cell_key, table_digests
from simulation.experiments.experiment import Experiment
from simulation.experiments.models.registry import METHODS
from simulation.experiments.output.html import Shown

ZERO_SHOT = METHODS["zero-shot"].label
CENTRALISED = METHODS["centralised"].label
BY_UNIT = "as in the cohort"
SPLIT_SEED = 0


def sites_sweep(config: RunConfig, counts: Sequence[int], out: Path) -> Experiment:
    """Compare the cohort's own sites with random splits of the same patients.

    Args:
        config: the settings that all arms share.
        counts: numbers of sites of the random splits; as many as the cohort has go with them.
        out: where the split cohorts are kept.

    Raises:
        UsageError: where a count is below 2.
        CohortError: where a patient is at two sites.
    """
    if any(count < 2 for count in counts):
        raise UsageError(f"--counts takes numbers from 2, got {list(counts)}")
    data = Path(config.data)
    own = len(site_table_paths(data))
    splits = []
    for count in sorted({*counts, own}):
        cohort = random_split(data, count, out)
        # Where steps are counted and not epochs, all divisions together take as many.
        steps = -(-config.train.steps * own // count)
        dealt = config.replace(data=str(cohort), train=config.train.replace(steps=steps))
        splits.append(Cell(_at_random(count), "federated", dealt, tested=str(data)))
    return Experiment(
        name="sites",
        title="Care units, or random hospitals",
        question=(
            "Does it matter that hospitals differ in their patients, and into how many hospitals "
            "the same patients are divided?"
        ),
        groups={
            "reference": [
                Cell(ZERO_SHOT, "zero-shot", config),
                Cell(f"{own} sites, {BY_UNIT}", "federated", config),
            ],
            "random": splits,
            "pooled": [Cell(CENTRALISED, "centralised", config)],
        },
        references=(ZERO_SHOT, f"{own} sites, {BY_UNIT}"),
        notes=(
            "A random split deals the cohort's patients to sites of equal size. Everybody stays "
            "in the split (train, validation, test) that he is in, and all arms are tested on the "
            f"cohort's own sites. One division is drawn (seed {SPLIT_SEED}), not one a seed.",
        ),
    )


def show_sites(analysis: Analysis) -> Shown:
    """Say what the divisions show."""
    by_unit = analysis.references[1]
    same = _at_random(int(by_unit.split()[0]))
    first = against(analysis, by_unit, same)
    return Shown(first, findings=[grouped(analysis, by_unit), grouped(analysis, ZERO_SHOT)])


def random_split(data: Path, count: int, out: Path) -> Path:
    """Deal the patients of a cohort to a number of sites and return the new cohort's folder.

    The folder is named by what it was made of, and made once.

    Raises:
        CohortError: where a patient is at two sites, or there are fewer patients than sites.
    """
    about = {"sites": table_digests(data), "count": count, "seed": SPLIT_SEED}
    folder = out / "cohorts" / f"random-{count}-{cell_key(about)}"
    if (folder / COHORT_FILE).is_file():
        return folder
    tables = [read_site_table(path) for path in site_table_paths(data).values()]
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    owners = pd.concat(
        [pd.Series(table.frame["patient_id"].unique()) for table in tables], ignore_index=True
    )
    if owners.duplicated().any():
        raise CohortError(f"{data} has a patient at two sites; such a cohort is not dealt anew")
    if len(owners) < count:
        raise CohortError(f"{data} has {len(owners)} patients, too few for {count} sites")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(owners))
    site_of = dict(zip(owners.to_numpy()[order], np.arange(len(owners)) % count, strict=True))
    dealt = frame["patient_id"].map(site_of)
    with atomic_folder(folder) as partial:
        for number in range(count):
            rows = frame[dealt == number].sort_values(["patient_id", "stay_id", "step"])
            name = f"random-{number + 1:02d}"
            info = _info(tables[0].info, name)
            path = partial / SITES_FOLDER / f"{name}.parquet"
            write_site_table(SiteTable(rows.reset_index(drop=True), info), path)
        text = json.dumps({"schema_version": 1, "source": "random split", **about}, indent=2)
        (partial / COHORT_FILE).write_text(text + "\n", encoding="utf-8")
    return folder


def _info(info: SiteTableInfo, name: str) -> SiteTableInfo:
    return replace(info, site=name)


def _at_random(count: int) -> str:
    return f"{count} sites at random"
