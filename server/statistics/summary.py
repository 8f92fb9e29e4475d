"""Summary of the comparison in plain words."""

from __future__ import annotations

from common.reporting.components import Tile
from common.reporting.phrasing import NOTHING, counted, listed
from server.statistics.comparison import SiteComparison, SiteVerdict, Verdict
from server.statistics.findings.finding import Level

MOST_NAMED = 8
"""Sites that the summary names; the table below it has all."""


def statistics_title(comparison: SiteComparison) -> str:
    """Return the page's title."""
    return f"Statistics of {counted(len(comparison.verdicts), 'site')} before the first round"


def statistics_headline(comparison: SiteComparison) -> str:
    """Return the sentence below the title."""
    join, total = len(comparison.with_verdict(Verdict.JOIN)), len(comparison.verdicts)
    if not total:
        return "No site has replied."
    unclear = sum(one.shows_nothing for one in comparison.with_verdict(Verdict.JOIN))
    though = f", though of {unclear} too little is shown to find a flaw" if unclear else ""
    if join == total:
        return f"{'The site' if total == 1 else f'All {total} sites'} can join{though}."
    rest = [
        f"{len(found)} {words}"
        for verdict, words in (
            (Verdict.MEND, "should mend the data first"),
            (Verdict.FEW, "may have too few patients"),
            (Verdict.REFUSED, "sent no statistics"),
        )
        if (found := comparison.with_verdict(verdict))
    ]
    return f"{join} of {counted(total, 'site')} can join{though}; {listed(rest)}."


def statistics_tiles(comparison: SiteComparison) -> list[Tile]:
    """Return the key numbers at the head of the page."""
    sent = [one.site for one in comparison.verdicts if one.site]
    known = [site["patients"] for site in sent if site["patients"] is not None]
    hidden = len(sent) - len(known)
    noisy = any(site["privacy"] for site in sent)
    note = f"at {counted(len(known), 'site')}"
    note += f"; {counted(hidden, 'site')} suppressed" if hidden else ""
    note += "; with noise" if noisy else ""
    noted = sum(
        any(finding.level is Level.LOOK for finding in one.findings)
        for one in comparison.with_verdict(Verdict.JOIN)
    )
    total, mend = len(comparison.verdicts), len(comparison.with_verdict(Verdict.MEND))
    return [
        Tile(
            "Sites that can join",
            str(len(comparison.with_verdict(Verdict.JOIN))),
            f"of {total}; {noted} with a note",
        ),
        Tile("Sites to mend first", str(mend), "units, columns, hours or steps"),
        Tile("Patients", f"{sum(known):,}" if known else NOTHING, note),
    ]


def summary_items(comparison: SiteComparison) -> list[str]:
    """Return a sentence for each site that should not join as it is."""
    items = [_in_words(one) for one in comparison.verdicts if one.verdict is not Verdict.JOIN]
    left = len(items) - MOST_NAMED
    if left > 1:
        return [*items[:MOST_NAMED], f"{counted(left, 'more site')}: see the table below."]
    return items


def _in_words(one: SiteVerdict) -> str:
    if one.verdict is Verdict.REFUSED:
        return f"{one.name} sent no statistics: {one.refusal or 'no reason given'}"
    first = one.findings[0]
    sentence = first.text if first.text[:2].isupper() else first.text[0].lower() + first.text[1:]
    start = "should mend first" if one.verdict is Verdict.MEND else "may have too few patients"
    rest = [f for f in one.findings[1:] if f.level is Level.MEND]
    more = f" ({counted(len(rest), 'more finding')})" if rest else ""
    return f"{one.name} {start}: {sentence}. {first.remedy}.{more}"
