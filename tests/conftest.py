"""Fixtures of all tests: one thread, no network, the open data where it is present."""

from __future__ import annotations

import gc
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Before torch, numpy or a tokenizer is imported: workers must not fight over cores, sums
# must not depend on the number of threads, and a test that reaches for a model hub must fail.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
# Hundreds of processes import the same modules: they are compiled once, whatever the shell wishes.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The same examples at every run, and no limit to an example's time, so that a red test is the
# change's own. Nothing looks for new ones unasked: `pytest --hypothesis-profile=search` does.
settings.register_profile("search", deadline=None)
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# What is imported lives until the end: collections that look at half a million objects of libraries
# again and again take a fifth of the processor time.
gc.disable()


def pytest_collection_finish() -> None:
    """Leave all that the tests import out of the garbage collections."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()


REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of open clinical data; it is no part of the repository."""
    folder = Path(os.environ.get("FEDVITALS_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"open data not present at {folder}; set FEDVITALS_TEST_DATA to its folder")
    return folder


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test out of the user's own FEDVITALS_HOME."""
    monkeypatch.setenv("FEDVITALS_HOME", str(tmp_path / "fedvitals-home"))


@pytest.fixture(params=[0o022, 0o000], ids=["umask 022", "umask 000"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """The umask while a test runs: the usual one, and one that protects nothing."""
    before = os.umask(request.param)
    yield int(request.param)
    os.umask(before)


@pytest.fixture
def figures_undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures of reports empty: their drawing takes most of the time of a tiny run."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    def print_nothing(self: FigureCanvasSVG, filename: io.StringIO, **_: object) -> None:
        filename.write('<svg viewBox="0 0 1 1"></svg>')

    monkeypatch.setattr(FigureCanvasSVG, "print_svg", print_nothing)


@pytest.fixture(scope="session")
def tiny_bolt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Chronos-Bolt of the real architecture, random and tiny: a few ms a step."""
    import torch

    from simulation.attacks.tiny_backbone import make_tiny_backbone

    torch.set_num_threads(1)
    return make_tiny_backbone(tmp_path_factory.mktemp("tiny-bolt"), seed=0)


@pytest.fixture(scope="session")
def app_bundle(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """This release's own app, as a run ships it (FAB).

    Made from a copy: Flower looks at every file below the app's folder, which takes four seconds in
    a checkout with its .venv.
    """
    from flwr.cli.build import build_fab_from_disk

    from tests.integration.setup.deployed import copy_app

    folder = tmp_path_factory.mktemp("app") / "copy"
    copy_app(folder)
    return build_fab_from_disk(folder)


@pytest.fixture(scope="session")
def tiny_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort folder of three sites with a few patients each, random walks that differ by site."""
    import numpy as np
    import pandas as pd

    from common.data.characteristics import characterise
    from common.data.site_table import SiteTableInfo, make_site_table, write_site_table
    from common.data.vitals import VITALS

    folder = tmp_path_factory.mktemp("tiny-cohort")
    random = np.random.default_rng(0)
    tables = {}
    for number, (site, patients) in enumerate((("ccu", 12), ("micu", 24), ("sicu", 16))):
        rows = pd.DataFrame({"patient_id": np.repeat(np.arange(patients) + 1000 * number, 36)})
        rows["stay_id"] = rows["patient_id"] * 10
        rows["step"] = np.tile(np.arange(36), patients)
        for vital in VITALS:
            walk = random.normal(0, vital.scale_floor, (patients, 36)).cumsum(axis=1) / 2
            values = vital.clinical_offset + walk.ravel()
            values[random.random(len(values)) < 0.1] = np.nan
            rows[vital.name] = np.where(vital.valid(values), values, np.nan)
        info = SiteTableInfo(site, "synthetic", "random walks", 60)
        tables[site] = make_site_table(rows, info)
        write_site_table(tables[site], folder / "sites" / f"{site}.parquet")
    stay_ids = np.concatenate([table.frame["stay_id"].unique() for table in tables.values()])
    facts = pd.DataFrame({"stay_id": stay_ids, "unit": "icu", "icu_days": 1.5, "septic": True})
    facts["age"] = 30.0 + np.arange(len(facts))
    facts["sex"] = np.where(np.arange(len(facts)) % 3, "male", "female")
    units = {"ccu": 12, "micu": 24, "sicu": 16}
    record = {
        "schema_version": 1,
        "source": "synthetic",
        "rule": "random walks",
        "parameters": {"seed": 0, "units": list(units)},
        "inputs": {"WALKS": {"file": "WALKS.csv.gz", "bytes": 1, "sha256": "0f" * 32}},
        "flow": [
            {
                "label": "walks in the source",
                "stays": 60,
                "excluded": 0,
                "patients": 55,
                "stays_per_unit": {**units, "nicu": 8},
            },
            {
                "label": "adult units",
                "stays": 52,
                "excluded": 8,
                "patients": 52,
                "stays_per_unit": units,
            },
        ],
        "sites": {site: {} for site in units},
        "characteristics": characterise(tables, facts),
    }
    (folder / "cohort.json").write_text(json.dumps(record))
    return folder
