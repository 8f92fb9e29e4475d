from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.backbones.base import ModelForecaster
from common.backbones.loading import load_backbone
from common.data.windows import FloatArray, IntArray, Windows, pool_windows
from common.errors import UsageError
from common.evaluation.evaluate import LEVELS, Evaluation, evaluate
from common.evaluation.evaluate_sites import evaluate_sites
from common.evaluation.metrics import METRICS

UNEQUAL = {"hospital-9": 1, "empty": 0, "hospital-73": 4, "large": 300, "b": 17, "c": 40}


@dataclass
class LastStep:
    """Forecasts a spread around the last context value; keeps the sizes of its batches."""

    sizes: list[int] = field(default_factory=list)

    def forecast(self, context: FloatArray, vital: IntArray, horizon_steps: int) -> FloatArray:
        self.sizes.append(len(context))
        quantiles = context[:, -1:, None] + np.linspace(-1, 1, len(LEVELS))
        return np.repeat(quantiles, horizon_steps, axis=1).astype(np.float32)


def windows_of(count: int, seed: int, context: int = 48) -> Windows:
    rng = np.random.default_rng(seed)
    target = rng.normal(80, 5, (count, 6)).astype(np.float32)
    target[:, 1:][rng.random((count, 5)) < 0.3] = np.nan
    patients = min(count, 5)
    return Windows(
        context=rng.normal(80, 5, (count, context)).astype(np.float32),
        target=target,
        vital=np.sort(rng.integers(0, 7, count)),
        patient=rng.integers(0, max(patients, 1), count),
        patient_ids=tuple(f"p{number}" for number in range(patients)),
    )


def sites_of(counts: dict[str, int]) -> dict[str, Windows]:
    return {name: windows_of(count, seed) for seed, (name, count) in enumerate(counts.items())}


def assert_same(one: Evaluation, other: Evaluation, rtol: float = 0.0) -> None:
    assert (one.patient_ids, one.metrics) == (other.patient_ids, other.metrics)
    for part in ("windows", "observed", "below"):
        np.testing.assert_array_equal(getattr(one, part), getattr(other, part))
    for part in ("numerator", "denominator"):
        np.testing.assert_allclose(getattr(one, part), getattr(other, part), rtol=rtol, atol=0)


@given(
    counts=st.lists(st.integers(0, 60), min_size=1, max_size=12),
    batch_size=st.integers(1, 40),
)
def test_each_site_has_the_bits_of_its_own_evaluation(counts: list[int], batch_size: int) -> None:
    sites = sites_of({f"s{number}": count for number, count in enumerate(counts)})
    found = evaluate_sites(sites, LastStep(), batch_size=batch_size, metrics=tuple(METRICS))
    assert list(found) == list(sites)
    for name, windows in sites.items():
        assert_same(found[name], evaluate(windows, LastStep(), metrics=tuple(METRICS)))


def test_batches_are_full_whatever_the_number_of_sites() -> None:
    sites = {f"s{number}": windows_of(7, number) for number in range(100)}
    model = LastStep()
    evaluate_sites(sites, model, batch_size=512)
    assert model.sizes == [350, 350]
    one = LastStep()
    evaluate_sites({"all": pool_windows(sites)}, one, batch_size=512)
    assert one.sizes == model.sizes


def test_memory_does_not_grow_with_the_sites() -> None:
    sites = {f"s{number}": windows_of(30, number) for number in range(40)}
    model = LastStep()
    evaluate_sites(sites, model, batch_size=10)
    # 16 batches and a site at a time: 180 windows are pooled, never all 1,200.
    assert sum(model.sizes) == 1200
    assert max(model.sizes) == 10


@pytest.mark.parametrize("name", ["chronos-bolt-nano"])
def test_a_models_numbers_do_not_depend_on_the_sites_beside_it(name: str) -> None:
    loaded = load_backbone(name)
    model = ModelForecaster(loaded.backbone, loaded.model)
    sites = sites_of(UNEQUAL)
    found = evaluate_sites(sites, model)
    together = evaluate_sites({"all": pool_windows(sites)}, model)["all"]
    totals = np.concatenate([part.numerator for part in found.values()])
    np.testing.assert_array_equal(totals, together.numerator)
    for site, windows in sites.items():
        # The products of matrices of few rows differ in the last digit of float32.
        assert_same(found[site], evaluate(windows, model), rtol=2e-5)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="batch_size must be at least 1"):
        evaluate_sites(sites_of(UNEQUAL), LastStep(), batch_size=0)
    with pytest.raises(UsageError, match="share one context and horizon"):
        evaluate_sites({"a": windows_of(3, 0), "b": windows_of(3, 1, context=24)}, LastStep())
    assert evaluate_sites({}, LastStep()) == {}
