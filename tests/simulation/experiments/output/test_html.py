from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.config.run_config import RunConfig
from common.data.vitals import VITAL_NAMES
from simulation.experiments.analysis.analysis import Analysis
from simulation.experiments.output.html import write_experiment
from simulation.experiments.studies.comparison import STUDY
from tests.samples.browser import assert_accessible, needs_browser
from tests.samples.experiments import analysis, evaluation

SITES = ("ccu", "csru", "micu", "sicu", "tsicu")


def five_sites() -> Analysis:
    """Four arms at five sites, all vital signs, patients that differ."""
    random = np.random.default_rng(0)
    alike = {site: [[1.0] * 8] for site in SITES}
    made = analysis(zero_shot=alike, local=alike, federated=alike, centralised=alike)
    for place, arm in enumerate(made.arms.values()):
        for result in arm.results.values():
            for site in SITES:
                errors = 1000 + random.uniform(0, 100, 8) - 50 * place
                result.scores[site] = evaluation(errors.tolist(), vitals=len(VITAL_NAMES))
    return made


def page_of(folder: Path, data: str = "") -> Path:
    made = five_sites()
    for arm in made.arms.values():
        object.__setattr__(arm.cell, "config", RunConfig().replace(data=data))
    experiment = STUDY.build(RunConfig(), folder, full_rate=0.001)
    summary = STUDY.summarise(made)
    return write_experiment(folder, experiment, made, summary, "python -m simulation compare")


def test_a_page_names_the_source_of_its_data(tmp_path: Path, tiny_cohort: Path) -> None:
    text = page_of(tmp_path, str(tiny_cohort)).read_text(encoding="utf-8")
    assert "fedvitals · experiment on synthetic patients" in text
    assert "fedvitals · experiment</p>" in page_of(tmp_path).read_text(encoding="utf-8")


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_the_page_of_an_experiment_is_accessible_in_a_browser(
    tmp_path: Path, width: int, scheme: str
) -> None:
    found = assert_accessible(page_of(tmp_path), width, scheme, tmp_path)
    scrolled = [box["caption"] for box in found["boxes"] if box["hidden"] > 1]
    assert bool(scrolled) == (width == 390), scrolled
