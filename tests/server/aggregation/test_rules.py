"""Properties common to all rules; the arithmetic of each rule is tested in its own file."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.adapter.adapter import Adapter, Matrix, tensor_name
from common.adapter.residual import fold_residual
from common.adapter.serialization.message import decode, encode
from common.config.run_config import AggregationConfig
from common.config.sections import BY_NAME_RULES, RANK_MIXING_RULES, RULES
from common.errors import AdapterError, FederationError, UsageError
from server.aggregation.rules import Aggregate, aggregate
from tests.server.aggregation.samples import (
    SETTINGS,
    SITES,
    adapter,
    dense,
    dense_mean,
    rounds,
    run,
    same_product,
    shuffled,
    with_tensors,
)

Given = tuple[dict[str, Adapter], dict[str, float], Adapter]
EXACT = ("flora", "fedex")
ONE_RANK = [rule for rule in RULES if rule not in RANK_MIXING_RULES]


def whole(result: Aggregate) -> Adapter:
    return fold_residual(result.adapter, result.residual)


def sites_for(rule: str, count: int = 5) -> dict[str, Adapter]:
    """Trained adapters for any rule, with a shared A where the rule requires one."""
    adapters = {site: adapter(index) for index, site in enumerate(SITES[:count])}
    if rule != "ffa":
        return adapters
    shared = before()
    return {
        site: with_tensors(own, lambda name, b: shared.tensors[name] if "lora_A" in name else b)
        for site, own in adapters.items()
    }


def before() -> Adapter:
    return adapter(99, b=0.5)


class Watched(Mapping[str, Adapter]):
    """Adapters copied at every access, with a record of the accesses."""

    def __init__(self, adapters: Mapping[str, Adapter]) -> None:
        self.adapters = adapters
        self.looks: list[str] = []

    def __getitem__(self, site: str) -> Adapter:
        self.looks.append(site)
        return replace(self.adapters[site])

    def __iter__(self) -> Iterator[str]:
        return iter(self.adapters)

    def __len__(self) -> int:
        return len(self.adapters)


def test_every_rule_of_the_settings_exists() -> None:
    for rule in RULES:
        assert run(rule, sites_for(rule), previous=before()).adapter.rank == 2


def test_an_unknown_rule_names_the_near_one_and_all() -> None:
    with pytest.raises(UsageError, match=r"'fedaverage'; did you mean 'fedavg'. known are: .*krum"):
        run("fedaverage", sites_for("fedavg"))


@given(rounds(mixed=True))
def test_stacking_is_exact_for_unequal_ranks(given_: Given) -> None:
    adapters, weights, previous = given_
    for residual in (
        None,
        fold_residual(adapter(7, rank=1, sizes=_sizes(previous)), _zero(previous)),
    ):
        result = run("flora", adapters, weights, previous, residual)
        assert result.notes["cut"] == 0
        for module in previous.modules:
            expected = dense_mean(adapters, weights, module)
            if residual is not None:
                expected = expected + dense(residual, module)
            assert same_product(dense(whole(result), module), expected)


@given(rounds())
def test_fedex_is_exact(given_: Given) -> None:
    adapters, weights, previous = given_
    for residual in (
        None,
        fold_residual(adapter(7, rank=1, sizes=_sizes(previous)), _zero(previous)),
    ):
        result = run("fedex", adapters, weights, previous, residual)
        for module in previous.modules:
            expected = dense_mean(adapters, weights, module)
            if residual is not None:
                expected = expected + dense(residual, module)
            assert same_product(dense(whole(result), module), expected)


@given(rounds())
def test_ffa_is_exact(given_: Given) -> None:
    adapters, weights, previous = given_
    shared = {
        site: with_tensors(own, lambda name, b: previous.tensors[name] if "lora_A" in name else b)
        for site, own in adapters.items()
    }
    result = run("ffa", shared, weights, previous)
    for module in previous.modules:
        expected = dense_mean(shared, weights, module)
        assert same_product(dense(result.adapter, module), expected)


def test_fedavg_is_not_exact() -> None:
    adapters, weights = sites_for("fedavg"), {site: 1.0 + len(site) for site in SITES[:5]}
    result = run("fedavg", adapters, weights)
    for module in result.adapter.modules:
        expected = dense_mean(adapters, weights, module)
        assert not same_product(dense(result.adapter, module), expected, tolerance=0.1)


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=15)
@given(order=st.permutations(SITES[:5]))
def test_the_order_of_the_sites_changes_no_bit(rule: str, order: list[str]) -> None:
    adapters = sites_for(rule)
    weights = {site: 1.0 / (3 + index) for index, site in enumerate(adapters)}
    residual = fold_residual(adapter(55), None)
    residual = replace(residual, alpha=float(residual.rank))
    expected = run(rule, adapters, weights, before(), residual)
    result = run(
        rule, shuffled(adapters, order), shuffled(weights, order[::-1]), before(), residual
    )
    assert result == expected


@pytest.mark.parametrize("rule", RULES)
def test_names_matter_by_their_order_alone(rule: str) -> None:
    adapters = sites_for(rule)
    sites = sorted(adapters)
    weights = {site: 1.0 + place for place, site in enumerate(sites)}
    new = {site: f"zz-{place}" for place, site in enumerate(sites)}
    expected = run(rule, adapters, weights, before())
    renamed = run(
        rule,
        {new[site]: adapters[site] for site in sites},
        {new[site]: weights[site] for site in sites},
        before(),
    )
    assert (renamed.adapter, renamed.residual) == (expected.adapter, expected.residual)


@pytest.mark.parametrize("rule", RULES)
@given(
    weights=st.lists(st.floats(1e-3, 1e7), min_size=5, max_size=7),
    seed=st.integers(0, 1000),
    exponent=st.integers(-44, 37),
)
@settings(max_examples=25)
def test_a_round_of_no_steps_changes_nothing(
    rule: str, weights: list[float], seed: int, exponent: int
) -> None:
    # Also subnormal numbers and signed zeros; products of which leave float32's range.
    by_name = rule in BY_NAME_RULES
    previous = with_tensors(
        adapter(seed), lambda name, m: np.where(m > 2, -0.0, m * (10.0**exponent if by_name else 1))
    )
    given_weights = dict(zip(SITES, weights, strict=False))
    result = run(rule, dict.fromkeys(given_weights, previous), given_weights, previous)
    if by_name:
        assert result.adapter == previous
    for module in previous.modules:
        assert same_product(dense(whole(result), module), dense(previous, module))


@pytest.mark.parametrize("rule", RULES)
def test_a_first_round_of_no_steps_keeps_a_and_b_zero(rule: str) -> None:
    fresh = adapter(3, b=0.0)
    result = run(rule, dict.fromkeys(SITES[:5], fresh), previous=fresh)
    for module in fresh.modules:
        a, b = result.adapter.pair(module)
        assert not b.any()
        assert np.linalg.norm(a) == pytest.approx(np.linalg.norm(fresh.pair(module)[0]), rel=0.5)
        assert rule == "flora" or np.array_equal(a, fresh.pair(module)[0])
        assert not dense(whole(result), module).any()


@pytest.mark.parametrize("rule", RULES)
def test_results_are_float32_of_the_runs_rank_and_alpha(rule: str) -> None:
    previous = before()
    result = run(rule, sites_for(rule), previous=previous)
    assert (result.adapter.rank, result.adapter.alpha) == (previous.rank, previous.alpha)
    for name, matrix in result.adapter.tensors.items():
        assert matrix.dtype == np.float32
        assert matrix.shape == previous.tensors[name].shape


@pytest.mark.parametrize("rule", ["median", "trimmed-mean"])
@given(
    arbitrary=st.floats(allow_nan=False, allow_infinity=False, width=32),
    place=st.integers(0, 6),
    weight=st.floats(0.1, 1e9),
)
@settings(max_examples=40)
def test_arbitrary_sites_have_bounded_influence(
    rule: str, arbitrary: float, place: int, weight: float
) -> None:
    honest = {site: adapter(index) for index, site in enumerate(SITES)}
    evil = {SITES[place], SITES[(place + 3) % 7]}
    given_ = {
        site: with_tensors(own, lambda _, m: arbitrary + 0 * m) if site in evil else own
        for site, own in honest.items()
    }
    weights = {site: weight if site in evil else 1.0 for site in SITES}
    result = run(rule, given_, weights, settings=AggregationConfig(trim=2 / 7))
    for name, matrix in result.adapter.tensors.items():
        stack = np.stack([own.tensors[name] for site, own in honest.items() if site not in evil])
        # Every number lies among those that honest sites sent.
        assert (stack.min(axis=0) <= matrix).all()
        assert (matrix <= stack.max(axis=0)).all()
    assert result.notes == {"weights": "ignored", "withstands": 3 if rule == "median" else 2}


def test_fedavg_has_no_such_bound() -> None:
    given_ = sites_for("fedavg")
    given_["ccu"] = with_tensors(given_["ccu"], lambda _, m: 1e30 + m)
    result = run("fedavg", given_)
    assert max(float(np.abs(matrix).max()) for matrix in result.adapter.tensors.values()) > 1e29


@pytest.mark.parametrize("rule", RULES)
def test_sites_are_read_in_the_order_of_their_names(rule: str) -> None:
    watched = Watched(sites_for(rule))
    run(rule, watched, previous=before())
    sites = sorted(watched)
    passes = [watched.looks[i : i + 5] for i in range(0, len(watched.looks), 5)]
    # One block holds all layers here; Multi-Krum and Krum read those chosen again.
    assert passes[0] == sites
    assert len(watched.looks) <= 10
    assert all(list(looks) == sorted(looks) for looks in passes)


class Counted(Mapping[str, Adapter]):
    """Adapters read anew at every look, which notes the most matrices alive at once."""

    def __init__(self, adapters: Mapping[str, Adapter]) -> None:
        self.files = {site: encode(own) for site, own in adapters.items()}
        self.alive: list[weakref.ref[Matrix]] = []
        self.most = 0

    def __getitem__(self, site: str) -> Adapter:
        adapter = decode(self.files[site])
        self.alive = [ref for ref in self.alive if ref() is not None]
        self.alive += [weakref.ref(matrix) for matrix in adapter.tensors.values()]
        self.most = max(self.most, len(self.alive))
        return adapter

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_keeps_the_adapters_that_it_has_read(rule: str) -> None:
    counted = Counted(sites_for(rule, 7))
    run(rule, counted, previous=before())
    assert counted.most <= 2 * len(before().tensors)


@pytest.mark.parametrize("rule", ["fedavg", "ffa", "svd", "flora", "median", "trimmed-mean"])
def test_one_look_a_site_where_a_block_holds_all_layers(rule: str) -> None:
    watched = Watched(sites_for(rule))
    run(rule, watched, previous=before())
    assert watched.looks == sorted(watched)


@pytest.mark.parametrize("rule", RULES)
def test_small_blocks_change_no_bit(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = sites_for(rule)
    expected = run(rule, adapters, previous=before())
    for module in ("tensor_ops", "krum"):
        path = f"server.aggregation.{module}.blocks"
        monkeypatch.setattr(path, lambda modules, cost: ([module] for module in modules))
    watched = Watched(adapters)
    assert run(rule, watched, previous=before()) == expected
    if rule not in ("fedavg", "ffa"):
        assert len(watched.looks) >= 3 * len(adapters)


@pytest.mark.parametrize("rule", ONE_RANK)
def test_another_rank_is_refused_with_the_rules_that_take_it(rule: str) -> None:
    adapters = sites_for(rule) | {"ccu": adapter(0, rank=1)}
    with pytest.raises(AdapterError, match=r"'ccu' sent rank 1 for block.0.q, the run uses 2.*svd"):
        run(rule, adapters, previous=before())


@pytest.mark.parametrize("rule", RULES)
def test_other_layers_sizes_alpha_or_base_are_refused(rule: str) -> None:
    wrong = {
        "0123": replace(before(), backbone_digest="0123" * 16),
        "block": adapter(0, sizes={"block.0.q": (5, 7)}),
        "block.0.v": adapter(0, sizes={**_sizes(before()), "block.0.v": (6, 5)}),
    }
    if rule not in RANK_MIXING_RULES:
        wrong["alpha"] = adapter(0, alpha=5.0)
    for cause, own in wrong.items():
        match = "install the run's backbone" if cause == "0123" else cause
        with pytest.raises(AdapterError, match=f"(?=.*'micu').*{match}"):
            run(rule, sites_for(rule) | {"micu": own}, previous=before())


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_cannot_be_is_refused(weight: float) -> None:
    adapters = sites_for("fedavg")
    weights = dict.fromkeys(adapters, 1.0) | {"ccu": weight}
    with pytest.raises(FederationError, match="site 'ccu' has the weight"):
        aggregate("fedavg", adapters, weights, before(), None, SETTINGS)


def test_no_weight_at_all_is_refused() -> None:
    with pytest.raises(FederationError, match="at least one must"):
        run("fedavg", {})
    with pytest.raises(FederationError, match="at least one must"):
        run("fedavg", sites_for("fedavg"), dict.fromkeys(SITES[:5], 0.0))
    with pytest.raises(FederationError, match="site 'ccu' has the weight nan"):
        run("fedavg", sites_for("fedavg"), {"micu": 1.0})


def test_a_site_of_weight_zero_does_not_count() -> None:
    adapters = sites_for("fedavg", 3)
    weights = {"ccu": 1.0, "csru": 0.0, "micu": 3.0}
    two = {site: adapters[site] for site in ("ccu", "micu")}
    assert run("fedavg", adapters, weights).adapter == run("fedavg", two, weights).adapter


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in EXACT])
def test_the_residual_stays_unchanged(rule: str) -> None:
    residual = replace(adapter(5), alpha=2.0)
    result = run(rule, sites_for(rule), previous=before(), residual=residual)
    assert result.residual is residual


def test_one_pair_of_orders_is_not_enough_for_the_bits_to_agree_by_chance() -> None:
    """Summing in the order given does change bits: the property above has teeth."""
    name = tensor_name("block.0.q", "A")
    matrices = [own.tensors[name] * np.float32(0.3) for own in sites_for("fedavg").values()]
    sums = {
        np.sum(np.stack(order).astype(np.float32), axis=0).tobytes()
        for order in itertools.permutations(matrices)
    }
    assert len(sums) > 1


def _sizes(given_: Adapter) -> dict[str, tuple[int, int]]:
    return {
        module: (given_.pair(module)[0].shape[1], given_.pair(module)[1].shape[0])
        for module in given_.modules
    }


def _zero(previous: Adapter) -> Adapter:
    zero = with_tensors(previous, lambda _, m: 0 * m)
    return replace(zero, alpha=float(zero.rank))
