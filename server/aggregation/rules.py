"""The aggregation rules by name, behind one function.

Adapters may lie on disk (see `server.rounds.reply_store`) and be read anew at every look: `fedavg`
and `ffa` read each site once, the others once a block of layers, and none holds more than one block
of all sites.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from common.adapter.adapter import Adapter, Matrix, shown
from common.config.sections import RANK_MIXING_RULES, AggregationConfig
from common.errors import AdapterError, FederationError
from common.names import check_name
from server.aggregation.fedavg import fedavg
from server.aggregation.fedex import fedex
from server.aggregation.ffa import ffa
from server.aggregation.flora import flora
from server.aggregation.krum import krum
from server.aggregation.median import median
from server.aggregation.svd import svd
from server.aggregation.trimmed_mean import trimmed_mean, trimmed_sites

Notes = dict[str, float | int | str | list[str]]


@dataclass(frozen=True)
class Aggregate:
    """What a round's adapters became.

    Attributes:
        adapter: the global adapter, of the run's rank and alpha.
        carried: the low-rank part that stands beside it (see `common.adapter.residual`); None where
        there
            is none.
        notes: what the rule did, for the round's record.
    """

    adapter: Adapter
    carried: Adapter | None = None
    notes: Notes = field(default_factory=dict)


@dataclass(frozen=True)
class _Round:
    """What every rule is given; `weights` has the sites of `adapters`, and no other."""

    adapters: Mapping[str, Adapter]
    weights: Mapping[str, float]
    previous: Adapter
    carried: Adapter | None
    settings: AggregationConfig

    def by_name(self, tensors: Mapping[str, Matrix], notes: Notes | None = None) -> Aggregate:
        """The result of a rule that ends in one A and one B; what is carried stays as it is."""
        return Aggregate(replace(self.previous, tensors=tensors), self.carried, notes or {})


def aggregate(
    rule: str,
    adapters: Mapping[str, Adapter],
    weights: Mapping[str, float],
    previous: Adapter,
    carried: Adapter | None,
    settings: AggregationConfig,
) -> Aggregate:
    """Make one adapter of the sites' adapters.

    The order in which the sites are given changes no bit, and their names nothing but that order.

    Args:
        rule: one of `common.config.sections.RULES`.
        adapters: the sites' adapters, admitted; may be read from disk at every look.
        weights: each site's weight, of any sum.
        previous: the adapter that the round began with.
        carried: the part beside it that the round began with.
        settings: the rules' own settings.

    Raises:
        UsageError: an unknown rule; the message lists those that exist.
        AdapterError: a site's adapter does not fit the run's, or the rule.
        FederationError: no site, weights that cannot be, or too few sites for the rule.
    """
    check_name("aggregation rule", rule, _RULES)
    checked = {site: _weight(site, weights) for site in sorted(adapters)}
    if not sum(checked.values()) > 0:
        raise FederationError(
            f"{len(checked)} sites with weights of sum 0 cannot be averaged; at least one must "
            "have a weight above 0"
        )
    fitting = _Fitting(adapters, previous, rule in RANK_MIXING_RULES)
    return _RULES[rule](_Round(fitting, checked, previous, carried, settings))


def _weight(site: str, weights: Mapping[str, float]) -> float:
    weight = weights.get(site, math.nan)
    if not 0 <= weight < math.inf:
        raise FederationError(
            f"site {site!r} has the weight {weight:g}; a weight is a number from 0"
        )
    return float(weight)


class _Fitting(Mapping[str, Adapter]):
    """The sites' adapters, each checked against the run's when it is looked at."""

    def __init__(
        self, adapters: Mapping[str, Adapter], reference: Adapter, mixes_ranks: bool
    ) -> None:
        self._adapters = adapters
        self._reference = reference
        self._mixes_ranks = mixes_ranks

    def __getitem__(self, site: str) -> Adapter:
        adapter = self._adapters[site]
        reference = self._reference
        if self._mixes_ranks:
            # As if it had the run's rank: names, sizes and backbone are what is left to differ.
            _check_sizes(adapter, reference, f"site {site!r}")
        elif adapter.rank != reference.rank:
            raise AdapterError(
                f"site {site!r} sent rank {adapter.rank} for {adapter.modules[0]}, the run uses "
                f"{reference.rank}; set lora.rank = {reference.rank} at that site, or "
                f"aggregation.rule to one of: {', '.join(RANK_MIXING_RULES)}"
            )
        else:
            adapter.check_compatible(reference, f"site {site!r}")
        return adapter

    def __iter__(self) -> Iterator[str]:
        return iter(self._adapters)

    def __len__(self) -> int:
        return len(self._adapters)


def _check_sizes(adapter: Adapter, reference: Adapter, sender: str) -> None:
    """Check that two adapters are on the same layers of the same backbone, whatever their ranks."""
    if adapter.backbone_digest != reference.backbone_digest:
        raise AdapterError(
            f"{sender} sent an adapter for backbone {adapter.backbone}, the run uses "
            f"{reference.backbone}; install the run's backbone weights there"
        )
    for module in sorted({*adapter.modules} ^ {*reference.modules}):
        raise AdapterError(
            f"{sender} and the run differ in having the layer {shown(module)}; use the same "
            "target modules"
        )
    for module in reference.modules:
        (a, b), (theirs_a, theirs_b) = adapter.pair(module), reference.pair(module)
        size, expected = (a.shape[1], b.shape[0]), (theirs_a.shape[1], theirs_b.shape[0])
        if size != expected:
            raise AdapterError(
                f"{sender} has {size[0]} to {size[1]} for {shown(module)}, the run has "
                f"{expected[0]} to {expected[1]}; use the same backbone"
            )


def _fedavg(given: _Round) -> Aggregate:
    return given.by_name(fedavg(given.adapters, given.weights))


def _ffa(given: _Round) -> Aggregate:
    return given.by_name(ffa(given.adapters, given.weights, given.previous))


def _svd(given: _Round) -> Aggregate:
    tensors, cut = svd(given.adapters, given.weights, given.previous)
    return given.by_name(tensors, {"cut": cut})


def _flora(given: _Round) -> Aggregate:
    return _beside(given, flora)


def _fedex(given: _Round) -> Aggregate:
    return _beside(given, fedex)


def _beside(
    given: _Round, rule: Callable[..., tuple[dict[str, Matrix], Adapter, float]]
) -> Aggregate:
    """The result of a rule that carries a part beside the adapter, up to aggregation.max-rank."""
    cap = given.settings.max_rank
    tensors, carried, cut = rule(given.adapters, given.weights, given.previous, given.carried, cap)
    notes: Notes = {"carried_rank": carried.rank, "max_rank": cap, "cut": cut}
    return Aggregate(replace(given.previous, tensors=tensors), carried, notes)


def _median(given: _Round) -> Aggregate:
    notes: Notes = {"weights": "ignored", "withstands": (len(given.adapters) - 1) // 2}
    return given.by_name(median(given.adapters, given.previous), notes)


def _trimmed_mean(given: _Round) -> Aggregate:
    trimmed = trimmed_sites(len(given.adapters), given.settings.trim)
    notes: Notes = {"weights": "ignored", "withstands": trimmed}
    return given.by_name(trimmed_mean(given.adapters, given.previous, trimmed), notes)


def _krum(given: _Round) -> Aggregate:
    return _nearest(given, 1)


def _multi_krum(given: _Round) -> Aggregate:
    return _nearest(given, len(given.adapters) - given.settings.byzantine)


def _nearest(given: _Round, count: int) -> Aggregate:
    """The mean of the `count` sites that lie nearest to the others."""
    ranked = krum(given.adapters, given.previous, given.settings.byzantine)
    notes: Notes = {
        "weights": "ignored",
        "withstands": given.settings.byzantine,
        "chosen": sorted(ranked[:count]),
        "left_out": sorted(ranked[count:]),
    }
    return given.by_name(fedavg(given.adapters, dict.fromkeys(ranked[:count], 1.0)), notes)


_RULES: Mapping[str, Callable[[_Round], Aggregate]] = {
    "fedavg": _fedavg,
    "ffa": _ffa,
    "svd": _svd,
    "flora": _flora,
    "fedex": _fedex,
    "median": _median,
    "trimmed-mean": _trimmed_mean,
    "krum": _krum,
    "multi-krum": _multi_krum,
}
