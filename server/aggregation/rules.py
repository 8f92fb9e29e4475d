"""Registry of the aggregation rules, behind the one function `aggregate`.

Adapters may be read from disk at every access (see `server.rounds.reply_store`): `fedavg` and `ffa`
read each site once, the other rules once per block of layers, and none holds more than one block of
all sites.

To add a rule, write its file, add it to `_RULES` below, and add its name in
`common.config.sections` to `RULES`, and to `BY_NAME_RULES` or `RANK_MIXING_RULES` where it fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from common.adapter.adapter import Adapter, Matrix, shown
from common.config.run_config import RunConfig
from common.config.sections import RANK_MIXING_RULES, AggregationConfig
from common.errors import AdapterError, FederationError
from common.names import check_name
from server.aggregation.fedavg import fedavg
from server.aggregation.fedex import fedex
from server.aggregation.ffa import ffa
from server.aggregation.flora import flora
from server.aggregation.krum import check_krum_sites, krum
from server.aggregation.median import median
from server.aggregation.svd import svd
from server.aggregation.trimmed_mean import trimmed_mean, trimmed_sites

Notes = dict[str, float | int | str | list[str]]


@dataclass(frozen=True)
class Aggregate:
    """Result of an aggregation.

    Attributes:
        adapter: the global adapter, of the run's rank and alpha.
        residual: the low-rank part added to its product (see `common.adapter.residual`), or None.
        notes: details of the rule's decisions, for the round's record.
    """

    adapter: Adapter
    residual: Adapter | None = None
    notes: Notes = field(default_factory=dict)


@dataclass(frozen=True)
class _RuleInput:
    """Arguments of every rule; `weights` has exactly the sites of `adapters`."""

    adapters: Mapping[str, Adapter]
    weights: Mapping[str, float]
    previous: Adapter
    residual: Adapter | None
    settings: AggregationConfig

    def by_name(self, tensors: Mapping[str, Matrix], notes: Notes | None = None) -> Aggregate:
        """The result of a rule that yields one A and one B; the residual stays unchanged."""
        return Aggregate(replace(self.previous, tensors=tensors), self.residual, notes or {})


def aggregate(
    rule: str,
    adapters: Mapping[str, Adapter],
    weights: Mapping[str, float],
    previous: Adapter,
    residual: Adapter | None,
    settings: AggregationConfig,
) -> Aggregate:
    """Aggregate the sites' adapters into one.

    The result does not depend on the order in which the sites are given.

    Args:
        rule: one of `common.config.sections.RULES`.
        adapters: the sites' validated adapters; may be read from disk at every access.
        weights: each site's weight, of any sum.
        previous: the adapter at the start of the round.
        residual: the residual at the start of the round.
        settings: the rules' own settings.

    Raises:
        UsageError: an unknown rule; the message lists the known ones.
        AdapterError: a site's adapter does not fit the run's, or the rule.
        FederationError: no site, invalid weights, or too few sites for the rule.
    """
    check_name("aggregation rule", rule, _RULES)
    checked = {site: _weight(site, weights) for site in sorted(adapters)}
    if not sum(checked.values()) > 0:
        raise FederationError(
            f"{len(checked)} sites with weights of sum 0 cannot be averaged; at least one must "
            "have a weight above 0"
        )
    compatible = _CompatibleAdapters(adapters, previous, rule in RANK_MIXING_RULES)
    return _RULES[rule](_RuleInput(compatible, checked, previous, residual, settings))


def check_site_count(config: RunConfig, sites: int) -> None:
    """Refuse, before the first round, a rule that needs more sites than a round will have.

    Args:
        config: the run's settings.
        sites: the number of sites that joined.

    Raises:
        FederationError: there are too few; the message gives the largest possible setting.
    """
    if config.rule in ("krum", "multi-krum"):
        least, fraction = config.federation.min_sites, config.federation.fraction
        sampled = min(sites, max(least, math.ceil(fraction * sites)))
        check_krum_sites(sampled, config.aggregation.byzantine, "a round of this run has")


def _weight(site: str, weights: Mapping[str, float]) -> float:
    weight = weights.get(site, math.nan)
    if not 0 <= weight < math.inf:
        raise FederationError(
            f"site {site!r} has the weight {weight:g}; weights are finite numbers from 0"
        )
    return float(weight)


class _CompatibleAdapters(Mapping[str, Adapter]):
    """The sites' adapters, each checked against the run's at every access."""

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
            # Rank and alpha may differ; layers, sizes and backbone may not.
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
    """Check that two adapters of any ranks adapt the same layers of the same backbone."""
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


def _fedavg(given: _RuleInput) -> Aggregate:
    return given.by_name(fedavg(given.adapters, given.weights))


def _ffa(given: _RuleInput) -> Aggregate:
    return given.by_name(ffa(given.adapters, given.weights, given.previous))


def _svd(given: _RuleInput) -> Aggregate:
    tensors, cut = svd(given.adapters, given.weights, given.previous)
    return given.by_name(tensors, {"cut": cut})


def _flora(given: _RuleInput) -> Aggregate:
    return _with_residual(given, flora)


def _fedex(given: _RuleInput) -> Aggregate:
    return _with_residual(given, fedex)


def _with_residual(
    given: _RuleInput, rule: Callable[..., tuple[dict[str, Matrix], Adapter, float]]
) -> Aggregate:
    """The result of a rule with a residual, of rank up to aggregation.max-rank."""
    cap = given.settings.max_rank
    tensors, residual, cut = rule(
        given.adapters, given.weights, given.previous, given.residual, cap
    )
    notes: Notes = {"carried_rank": residual.rank, "max_rank": cap, "cut": cut}
    return Aggregate(replace(given.previous, tensors=tensors), residual, notes)


def _median(given: _RuleInput) -> Aggregate:
    notes: Notes = {"weights": "ignored", "withstands": (len(given.adapters) - 1) // 2}
    return given.by_name(median(given.adapters, given.previous), notes)


def _trimmed_mean(given: _RuleInput) -> Aggregate:
    trimmed = trimmed_sites(len(given.adapters), given.settings.trim)
    notes: Notes = {"weights": "ignored", "withstands": trimmed}
    return given.by_name(trimmed_mean(given.adapters, given.previous, trimmed), notes)


def _krum(given: _RuleInput) -> Aggregate:
    return _krum_mean(given, 1)


def _multi_krum(given: _RuleInput) -> Aggregate:
    return _krum_mean(given, len(given.adapters) - given.settings.byzantine)


def _krum_mean(given: _RuleInput, count: int) -> Aggregate:
    """The unweighted mean of the `count` sites with the lowest Krum scores."""
    ranked = krum(given.adapters, given.previous, given.settings.byzantine)
    notes: Notes = {
        "weights": "ignored",
        "withstands": given.settings.byzantine,
        "chosen": sorted(ranked[:count]),
        "left_out": sorted(ranked[count:]),
    }
    return given.by_name(fedavg(given.adapters, dict.fromkeys(ranked[:count], 1.0)), notes)


_RULES: Mapping[str, Callable[[_RuleInput], Aggregate]] = {
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
