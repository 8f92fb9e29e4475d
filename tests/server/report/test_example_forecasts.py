from __future__ import annotations

from pathlib import Path

import numpy as np

from common.data.vitals import VITAL_NAMES
from common.data.windows import FloatArray, IntArray, Windows
from common.evaluation.evaluate import LEVELS
from common.reporting.components import Page
from common.reporting.export.export import export_page
from server.report.example_forecasts import (
    EXAMPLE_QUANTILES,
    MOST_CANDIDATES,
    Example,
    choose_examples,
    example_forecasts_section,
)


class Hundred:
    """Forecasts 100 whatever it sees: a target of 100 + i has the loss i / (100 + i)."""

    def forecast(self, context: FloatArray, vital: IntArray, horizon_steps: int) -> FloatArray:
        return np.full((len(context), horizon_steps, len(LEVELS)), 100.0, np.float32)


def above_a_hundred(size: int, horizon: int = 2) -> Windows:
    """Windows of heart rate with the targets 100, 101 ... in a random order."""
    targets = 100.0 + np.random.default_rng(0).permutation(size)
    return Windows(
        context=np.ones((size, 3), np.float32),
        target=np.repeat(targets[:, None], horizon, axis=1).astype(np.float32),
        vital=np.zeros(size, np.int64),
        patient=np.zeros(size, np.int64),
        patient_ids=("p",),
    )


def test_examples_are_taken_at_their_quantile_of_the_loss() -> None:
    examples = choose_examples({"a": above_a_hundred(101)}, Hundred(), Hundred())
    assert {example.kind: example.target[0] for example in examples} == {
        "good": 110.0,
        "typical": 150.0,
        "poor": 190.0,
    }
    assert all(example.vital == 0 for example in examples)


def test_the_forecasts_of_examples_are_within_the_range_of_the_vital() -> None:
    windows = above_a_hundred(5)
    windows.vital[:] = VITAL_NAMES.index("spo2")
    windows.target[:] = 99.0

    class Beyond(Hundred):
        def forecast(self, context: FloatArray, vital: IntArray, horizon_steps: int) -> FloatArray:
            return super().forecast(context, vital, horizon_steps) + np.linspace(
                -1, 1, len(LEVELS), dtype=np.float32
            )

    for example in choose_examples({"a": windows}, Beyond(), Beyond()):
        assert example.quantiles.max() == 100.0
        assert example.quantiles.min() == 99.0
        assert example.zero_shot.max() == 100.0


def test_examples_are_chosen_among_a_bounded_number_of_measured_targets() -> None:
    windows = above_a_hundred(10 * MOST_CANDIDATES, horizon=4)
    windows.target[windows.target[:, 0] < 1000, 1:] = np.nan
    examples = choose_examples({"a": windows}, Hundred(), Hundred())
    assert all(np.isfinite(example.target).all() for example in examples)
    few = above_a_hundred(3, horizon=4)
    few.target[:, 1:] = np.nan
    assert len(choose_examples({"a": few}, Hundred(), Hundred())) == len(EXAMPLE_QUANTILES)


def test_an_export_has_the_examples_that_the_page_shows(tmp_path: Path) -> None:
    example = Example(
        vital=0,
        kind="good",
        context=np.full(8, 80, np.float32),
        target=np.full(2, 81, np.float32),
        quantiles=np.tile(np.arange(80, 89, dtype=np.float32), (2, 1)),
        zero_shot=np.full(2, 80, np.float32),
    )
    section = example_forecasts_section([example], 60, evaluated=True)
    assert section is not None
    page = Page(title="", headline="", tiles=[], sections=[section])
    export_page(page, tmp_path / "out")
    assert (tmp_path / "out" / "example-heart-rate-good.pdf").is_file()
