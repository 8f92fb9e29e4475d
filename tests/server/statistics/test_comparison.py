"""Verdicts on made-up sites: each known flaw, equal sites, and sites that show little."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from common.data.statistics.reply import SiteStatistics
from server.statistics.comparison import SiteComparison, SiteVerdict, Verdict, compare_sites
from server.statistics.findings.finding import Level
from server.statistics.summary import statistics_headline
from server.statistics.thresholds import FALSE_FLAG_RATE, LEAST_PATIENTS
from tests.server.statistics import samples
from tests.server.statistics.samples import Change, made_up_site, several, statistics_of

ODD = "odd"


def compared(
    change: Change | None = None, *, sites: int = 6, patients: int = 500, **options: Any
) -> SiteVerdict:
    """Return the verdict on a changed site beside equal others, on whom nothing may be found."""
    rng = np.random.default_rng(3)
    multiplier = options.get("multiplier", 0.0)
    given = several(rng, sites, patients=patients, multiplier=multiplier)
    given[ODD] = made_up_site(rng, patients, change, **options)
    for site in given.values():
        SiteStatistics.model_validate(site)
    comparison = compare_sites(statistics_of(given))
    others = [one for one in comparison.verdicts if one.name != ODD]
    assert not [one for one in others if one.is_noted], flags(comparison)
    return verdict_on(comparison, ODD)


def verdict_on(comparison: SiteComparison, name: str) -> SiteVerdict:
    return next(one for one in comparison.verdicts if one.name == name)


def flags(comparison: SiteComparison) -> list[tuple[str, str]]:
    return [
        (one.name, finding.text)
        for one in comparison.verdicts
        for finding in one.findings
        if finding.level is not Level.UNKNOWN
    ]


def found(verdict: SiteVerdict) -> dict[str, set[str]]:
    """Return the vitals of the findings of each kind, but for what is merely not compared."""
    kinds: dict[str, set[str]] = {}
    for finding in verdict.findings:
        if finding.level is not Level.UNKNOWN:
            kinds.setdefault(finding.kind, set()).update(finding.vitals)
    return kinds


PRESSURES = {"sbp", "dbp", "mbp"}


@pytest.mark.parametrize("multiplier", [0.0, 1.0])
@pytest.mark.parametrize(
    ("change", "kind", "vitals", "words"),
    [
        (samples.in_fahrenheit, "unit", {"temperature_c"}, "(x - 32) / 1.8"),
        (samples.as_fraction, "unit", {"spo2"}, "x 100"),
        (samples.in_kpa, "unit", PRESSURES, "x 7.50062"),
        (samples.partly_in_kpa, "part in a unit", PRESSURES, "Units are mixed"),
        (samples.swapped, "swapped", {"sbp", "dbp"}, "columns"),
        (samples.without_temperature, "missing", {"temperature_c"}, "outside the valid range"),
    ],
)
def test_a_flaw_is_found_and_explained_once(
    change: Change, kind: str, vitals: set[str], words: str, multiplier: float
) -> None:
    patients = 4000 if multiplier else 500
    verdict = compared(change, patients=patients, multiplier=multiplier)
    assert verdict.verdict is Verdict.MEND
    assert found(verdict) == {kind: vitals}
    assert words.lower() in " ".join(finding.remedy for finding in verdict.findings).lower()


def test_the_other_of_two_sites_is_not_blamed() -> None:
    assert compared(samples.in_fahrenheit, sites=1).verdict is Verdict.MEND


def test_two_sites_with_the_same_flaw_do_not_hide_each_other() -> None:
    rng = np.random.default_rng(4)
    given = {name: made_up_site(rng, 400, samples.in_kpa) for name in ("a", "b")}
    comparison = compare_sites(statistics_of({**given, "c": made_up_site(rng, 400)}))
    assert [one.name for one in comparison.with_verdict(Verdict.MEND)] == ["a", "b"]


def test_other_patients_give_a_note_no_stronger_than_the_data() -> None:
    verdict = compared(samples.with_faster_hearts)
    assert verdict.verdict is Verdict.JOIN
    assert found(verdict) == {"other distribution": {"heart_rate"}}
    assert "more than chance would give" in verdict.findings[0].text


def test_a_difference_that_few_patients_cannot_show_is_not_reported() -> None:
    rng = np.random.default_rng(6)
    given = several(rng, 6, patients=500)
    given[ODD] = made_up_site(rng, 40, samples.with_faster_hearts)
    assert "other distribution" not in found(verdict_on(compare_sites(statistics_of(given)), ODD))


def test_hours_without_values() -> None:
    verdict = compared(hours=12)
    assert verdict.verdict is Verdict.MEND
    assert list(found(verdict)) == ["hours"]
    assert "in hours 12 to 24 of the stay" in verdict.findings[0].text


def test_too_few_patients() -> None:
    rng = np.random.default_rng(7)
    for patients in (5, LEAST_PATIENTS - 1, LEAST_PATIENTS):
        given = several(rng, 3) | {ODD: made_up_site(rng, patients)}
        verdict = verdict_on(compare_sites(statistics_of(given)), ODD).verdict
        assert verdict is (Verdict.FEW if patients < LEAST_PATIENTS else Verdict.JOIN)


def test_a_table_that_is_made_otherwise() -> None:
    verdict = compared(step_minutes=30)
    assert found(verdict) == {"step length": set()}
    assert verdict.verdict is Verdict.MEND
    verdict = compared(rule="sepsis3")
    assert found(verdict) == {"rule": set()}
    assert verdict.verdict is Verdict.JOIN


def test_a_site_of_which_nothing_can_be_told_is_not_called_fit() -> None:
    rng = np.random.default_rng(5)
    given = several(rng, 3, patients=300)
    given[ODD] = made_up_site(rng, 60, multiplier=8.0)
    given[ODD]["patients"] = 60
    comparison = compare_sites(statistics_of(given))
    assert verdict_on(comparison, ODD).verdict is Verdict.JOIN
    assert statistics_headline(comparison) == (
        "All 4 sites can join, though of 1 too little is shown to find a flaw."
    )
    text = verdict_on(comparison, ODD).findings[0].text
    assert "so wide is the noise" in text
    assert "for training" not in text


def test_a_noisy_number_that_is_far_below_zero_is_none() -> None:
    rng = np.random.default_rng(5)
    given = several(rng, 2, patients=300)
    given[ODD] = made_up_site(rng, 60, multiplier=1.0)
    given[ODD]["patients"] = -(10**7)
    text = verdict_on(compare_sites(statistics_of(given)), ODD).findings[0].text
    assert text.startswith("0 patients: ")


def test_sites_that_show_nothing_and_sites_that_sent_nothing() -> None:
    rng = np.random.default_rng(8)
    comparison = compare_sites(statistics_of(several(rng, 4, patients=6), {"gone": "it is off"}))
    assert {one.verdict for one in comparison.verdicts} == {Verdict.FEW, Verdict.REFUSED}
    assert compare_sites(statistics_of({}, {"gone": "off"})).verdicts[0].refusal == "off"
    assert compare_sites(statistics_of({})).verdicts == ()


def test_few_pages_of_equal_sites_have_a_flag() -> None:
    rng, pages = np.random.default_rng(9), 12
    flagged = 0
    for page in range(pages):
        sites = {
            f"s{place}": made_up_site(rng, int(rng.integers(100, 900)), multiplier=float(page % 2))
            for place in range(6)
        }
        comparison = compare_sites(statistics_of(sites))
        flagged += any(one.is_noted and one.verdict is Verdict.MEND for one in comparison.verdicts)
        flagged += any(
            finding.kind == "other distribution"
            for one in comparison.verdicts
            for finding in one.findings
        )
    assert flagged <= FALSE_FLAG_RATE * pages


def test_sites_of_a_large_federation_are_compared_in_a_moment() -> None:
    rng = np.random.default_rng(10)
    one = several(rng, 6, patients=60)
    statistics = statistics_of({f"s{place}": one[f"site-{place % 6}"] for place in range(186)})
    start = time.process_time()
    compare_sites(statistics)
    assert time.process_time() - start < 20  # no quadratic loop; measured 0.2 s
