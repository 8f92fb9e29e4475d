"""The comparison: simple forecasts, each site alone, federated, data pooled, from scratch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from common.config.run_config import RunConfig, Value
from common.evaluation.bootstrap import Interval
from common.names import natural_order
from common.reporting.components import Figure, Tile, raw_html
from common.reporting.phrasing import (
    MINUS,
    NO_BREAK,
    NOTHING,
    bounds,
    clean_line,
    listed,
    percent,
)
from simulation.experiments.analysis.analysis import Analysis
from simulation.experiments.analysis.gain_share import GainShare, measure_gain_share
from simulation.experiments.analysis.statements import against
from simulation.experiments.cell_cache import Cell
from simulation.experiments.defaults import FULL_RATE, NETWORK_RATES
from simulation.experiments.experiment import Experiment, Study, StudySummary
from simulation.experiments.models.registry import (
    CENTRALISED,
    FEDERATED,
    LOCAL,
    METHODS,
    ZERO_SHOT,
    method_of,
    missing_methods,
)
from simulation.experiments.output.fairness import fairness_section, fairness_warnings
from simulation.experiments.output.figures import sites_figure

SCRATCH_ROUNDS = 3
"""Training from random weights takes this many times the rounds of fine-tuning."""

MOST_DRAWN_SITES = 24
"""Sites of a figure; of more, those that gain most and least are drawn."""

_NOTES = (
    "Last value and weighted mean take the spread of their forecasts from the site's own training "
    "patients. AR (of order 1) and exponential smoothing (kind by AICc) are fitted to each "
    "window's context alone, its gaps filled by straight lines.",
    "Each site alone: as many rounds, the same settings and seeds as in the federation, its own "
    "patients only, its own choice of the round; each site's model forecasts that site's patients.",
    "Data pooled: all sites' training patients in one place, which no hospital may do; the upper "
    "bound of what the federation can be expected to reach. One pass over the pooled windows is as "
    "many windows as the sites see together in a round.",
    "All weights: through the site's own training function in a plain loop, not through Flower's "
    "messages; the bytes that it would exchange are counted, not sent.",
    "From scratch: the backbone's architecture, trained from random weights on the pooled data.",
    "N-HiTS and PatchTST: neuralforecast's networks with that library's sizes, from random weights "
    "on the pooled data, with the windows, loss and choice of the round of the other arms.",
)


def comparison_experiment(
    config: RunConfig, _out: Path, full_rate: float = FULL_RATE, without: Collection[str] = ()
) -> Experiment:
    """Return the comparison of all methods that are installed.

    Args:
        config: the settings that all arms share.
        full_rate: learning rate of full fine-tuning and of training from scratch.
        without: methods to leave out; the headline needs zero-shot, local, federated and
            centralised, which stay.

    Raises:
        UsageError: `without` names an unknown method.
    """
    dropped = {method_of(name) for name in without}
    needed = {
        name
        for name, method in METHODS.items()
        if method not in dropped or method.label in (ZERO_SHOT, LOCAL, FEDERATED, CENTRALISED)
    }
    missing = [METHODS[name] for name in missing_methods() if name in needed]
    rounds = SCRATCH_ROUNDS * config.rounds
    full: dict[str, Value] = {"learning-rate": full_rate}
    options = {
        "federated-full": full,
        "centralised-full": full,
        "scratch": {**full, "rounds": rounds},
    }
    for name, rate in NETWORK_RATES.items():
        options[name] = {"learning-rate": rate, "rounds": rounds}
    cells = [
        Cell(method.label, name, config, options=options.get(name, {}))
        for name, method in METHODS.items()
        if name in needed and method not in missing
    ]
    rates = {"all weights and from scratch": full_rate}
    rates |= {METHODS[name].label: rate for name, rate in NETWORK_RATES.items()}
    listed_rates = listed(
        f"{rate:g}".replace("-", MINUS) + f" ({name})" for name, rate in rates.items()
    )
    return Experiment(
        name="compare",
        title="Alone, federated, pooled, from scratch",
        question=(
            "How much of what pooling all data would gain does the federation keep, and is it "
            "better for every site than staying alone?"
        ),
        groups={"all": cells},
        references=(ZERO_SHOT, LOCAL),
        by_group=True,
        notes=(
            *_NOTES,
            f"Learning rates: {listed_rates}; models that start from random weights have "
            f"{SCRATCH_ROUNDS} times the rounds.",
            *(f"{method.label}: left out, {method.needs} is not installed." for method in missing),
        ),
    )


def summarise_comparison(analysis: Analysis) -> StudySummary:
    """State the share of the pooled gain that is kept, and the least gain of a site."""
    headline = measure_gain_share(analysis)
    others = [arm for arm in analysis.arms if arm not in (ZERO_SHOT, FEDERATED, CENTRALISED)]
    return StudySummary(
        headline=_sentence(headline),
        tiles=_tiles(headline, analysis),
        findings=[
            against(analysis, FEDERATED, ZERO_SHOT),
            against(analysis, CENTRALISED, ZERO_SHOT),
            *(_federated_against(analysis, arm) for arm in others),
        ],
        warnings=fairness_warnings(analysis),
        figures=[_site_figure(analysis)],
        sections=[fairness_section(analysis)],
    )


STUDY = Study("compare", comparison_experiment, summarise_comparison)


def _sentence(headline: GainShare) -> str:
    worst = (
        f"The site that gains least is {headline.worst_site}: its WQL changes by "
        f"{percent(-headline.worst_gain.estimate)} {bounds(_mirrored(headline))} against zero-shot."
    )
    share = headline.share
    if share is None:
        return (
            "The gain of pooling all data is not clearly above zero, so that no share of it can be "
            f"stated. {worst}"
        )
    return (
        f"The federation keeps {_per_cent(share.estimate)} of the gain in WQL that LoRA on the "
        f"pooled data has over zero-shot (95{NO_BREAK}% interval over patients "
        f"{_per_cent(share.low)} to {_per_cent(share.high)}{_seeds(headline)}). {worst}"
    )


def _seeds(headline: GainShare) -> str:
    shares = headline.share_by_seed
    known = [share for share in shares if share is not None]
    if len(shares) < 2:
        return ""
    if len(known) < len(shares):
        without = len(shares) - len(known)
        return f"; in {without} of {len(shares)} seeds the pooled data gained nothing"
    return f"; by seed {_per_cent(min(known))} to {_per_cent(max(known))}"


def _tiles(headline: GainShare, analysis: Analysis) -> list[Tile]:
    share = headline.share
    tiles = [
        Tile(
            "Share of the pooled gain kept",
            NOTHING if share is None else _per_cent(share.estimate),
            "the pooled gain is not clearly above zero"
            if share is None
            else f"{_per_cent(share.low)} to {_per_cent(share.high)}{_seeds(headline)}",
        ),
        Tile(
            f"Least gain: {clean_line(headline.worst_site)}",
            percent(-headline.worst_gain.estimate),
            f"WQL vs zero-shot, {bounds(_mirrored(headline))}",
        ),
    ]
    for arm in (FEDERATED, CENTRALISED):
        interval = analysis.difference(arm, ZERO_SHOT, "wql").to_json()
        tiles.append(
            Tile(f"WQL vs zero-shot: {arm}", percent(interval["estimate"]), bounds(interval))
        )
    return tiles


def _federated_against(analysis: Analysis, arm: str) -> str:
    return against(analysis, FEDERATED, arm).replace(f"{FEDERATED}: ", "Federated LoRA's ", 1)


def _site_figure(analysis: Analysis) -> tuple[str, Figure]:
    arms = (LOCAL, FEDERATED, CENTRALISED)
    gains = {
        site: analysis.difference(FEDERATED, ZERO_SHOT, "wql", scope=site).estimate
        for site in analysis.sites
    }
    shown = sorted(gains, key=natural_order)
    which = ""
    if len(gains) > MOST_DRAWN_SITES:
        by_gain = sorted(shown, key=gains.__getitem__)
        half = MOST_DRAWN_SITES // 2
        shown = [*by_gain[:half], *by_gain[-half:]]
        which = (
            f" The {half} sites that gain most from federated LoRA and the {half} that gain least, "
            f"of {len(gains)}; the table has all."
        )
    rows = {
        clean_line(site): {
            arm: analysis.difference(arm, ZERO_SHOT, "wql", scope=site) for arm in arms
        }
        for site in shown
    }
    svg = sites_figure(rows, name="gain-by-site", metric="WQL", reference=ZERO_SHOT)
    caption = f"From top to bottom at each site: {listed(arms)}. Left of zero is better.{which}"
    return "gain-by-site", Figure("WQL at each site", caption, raw_html(svg))


def _mirrored(headline: GainShare) -> dict[str, float | None]:
    """Return the least gain as a difference: below zero is a gain."""
    gain = headline.worst_gain
    return Interval(-gain.estimate, -gain.high, -gain.low).to_json()


def _per_cent(share: float) -> str:
    return f"{100 * share:.1f}{NO_BREAK}%".replace("-", MINUS)
