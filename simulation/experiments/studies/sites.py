"""Study of the sites: the same patients divided by care unit, or at random into 2 to 10 sites."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from common.config.run_config import RunConfig
from common.data.cohort_folder import COHORT_FILE, SITES_FOLDER, site_table_paths
from common.data.site_table import SiteTable, read_site_table, write_site_table
from common.errors import CohortError, UsageError
from common.files.atomic_io import atomic_folder
from simulation.experiments.analysis.analysis import Analysis
from simulation.experiments.analysis.statements import against, grouped
from simulation.experiments.cell_cache import Cell, cell_key, table_digests
from simulation.experiments.experiment import Experiment, Study, StudySummary
from simulation.experiments.models.registry import CENTRALISED, ZERO_SHOT

COUNTS = (2, 5, 10)
BY_UNIT = "as in the cohort"
SPLIT_SEED = 0


def sites_experiment(config: RunConfig, out: Path, counts: Sequence[int] = COUNTS) -> Experiment:
    """Return the cohort's own sites and random splits of the same patients.

    Args:
        config: the settings that all arms share.
        out: folder in which the split cohorts are kept.
        counts: numbers of sites of the random splits; the cohort's own number is added.

    Raises:
        UsageError: a count is below 2.
        CohortError: a patient is at two sites.
    """
    if any(count < 2 for count in counts):
        raise UsageError(f"--counts takes numbers from 2, got {list(counts)}")
    data = Path(config.data)
    own = len(site_table_paths(data))
    splits = []
    for count in sorted({*counts, own}):
        cohort = random_split(data, count, out)
        # With `train.steps` set, every division takes the same number of steps in total.
        steps = -(-config.train.steps * own // count)
        divided = config.replace(data=str(cohort), train=config.train.replace(steps=steps))
        splits.append(Cell(_at_random(count), "federated", divided, tested=str(data)))
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
            "A random split assigns the cohort's patients to sites of equal size. Every patient "
            "keeps their split (train, validation, test), and all arms are tested on the cohort's "
            f"own sites. One division is drawn (seed {SPLIT_SEED}), not one per seed.",
        ),
    )


def summarise_sites(analysis: Analysis) -> StudySummary:
    """Compare the cohort's own sites with as many random ones, and all divisions with both."""
    by_unit = analysis.references[1]
    same = _at_random(int(by_unit.split()[0]))
    first = against(analysis, by_unit, same)
    return StudySummary(first, findings=[grouped(analysis, by_unit), grouped(analysis, ZERO_SHOT)])


STUDY = Study("sweep sites", sites_experiment, summarise_sites)


def random_split(data: Path, count: int, out: Path) -> Path:
    """Assign a cohort's patients to `count` sites at random; return the new cohort's folder.

    The folder is made once; its name is a hash of the source tables, the count and the seed.

    Raises:
        CohortError: a patient is at two sites, or there are fewer patients than sites.
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
        raise CohortError(f"{data} has a patient at two sites, so it cannot be divided anew")
    if len(owners) < count:
        raise CohortError(f"{data} has {len(owners)} patients, too few for {count} sites")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(owners))
    site_of = dict(zip(owners.to_numpy()[order], np.arange(len(owners)) % count, strict=True))
    own_split = "; ".join(
        f"{table.info.site} {table.info.split_rule}" for table in tables if table.info.split_rule
    )
    assigned = frame["patient_id"].map(site_of)
    with atomic_folder(folder) as partial:
        for number in range(count):
            rows = frame[assigned == number].sort_values(["patient_id", "stay_id", "step"])
            name = f"random-{number + 1:02d}"
            info = replace(tables[0].info, site=name, split_rule=own_split)
            path = partial / SITES_FOLDER / f"{name}.parquet"
            write_site_table(SiteTable(rows.reset_index(drop=True), info), path)
        text = json.dumps({"schema_version": 1, "source": "random split", **about}, indent=2)
        (partial / COHORT_FILE).write_text(text + "\n", encoding="utf-8")
    return folder


def _at_random(count: int) -> str:
    return f"{count} sites at random"
