"""Sites with too few patients, or whose table is made otherwise than those of most sites."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from common.data.splits import SPLIT_SHARES
from common.reporting.phrasing import clean_line, duration
from server.statistics.findings.finding import Level, SiteFinding
from server.statistics.site_counts import SiteCounts
from server.statistics.thresholds import FEW_PATIENTS, LEAST_PATIENTS, LEAST_TRAINING_PATIENTS
from server.statistics.wording import count_in_words

_LONGEST = 80
"""Characters of a site's own text within a sentence."""


def size_findings(counts: SiteCounts) -> Iterator[SiteFinding]:
    """Find the sites that have, or may have, too few patients for the three splits."""
    for site, patients in enumerate(counts.patients):
        given = counts.sites[site]["patients"]
        number = count_in_words(patients.low, patients.high)
        if given is None and patients.low < LEAST_PATIENTS:
            text = (
                f"Its number of patients is suppressed (threshold {counts.sites[site]['threshold']}"
                f"), and its counts show {number} of them"
                if patients.low > 0
                else "Its number of patients is suppressed: it has fewer than "
                f"{counts.sites[site]['threshold']}, or the number would give another away"
            )
            yield SiteFinding(site, Level.FEW, "patients", text, _REMEDY)
        elif given is not None and given < LEAST_PATIENTS:
            text = (
                f"{number} patients: a run needs about {LEAST_PATIENTS} of a site, so that "
                f"{LEAST_TRAINING_PATIENTS} of them train"
            )
            yield SiteFinding(site, Level.FEW, "patients", text, _REMEDY)
        elif patients.low < FEW_PATIENTS:
            likely = patients.low if given is None else max(given, 0)
            train, validation, test = (round(share * likely) for share in SPLIT_SHARES)
            text = (
                f"{number} patients: about {train} for training, {validation} for validation and "
                f"{test} for the test"
            )
            remedy = "Its scores of a round and of the test are rough; read their intervals"
            if given is not None and patients.high - patients.low > likely:
                text = f"{number} patients, so wide is the noise: it may have enough or too few"
                remedy = "Ask the site; it may tell a rounded number when it joins"
            yield SiteFinding(site, Level.LOOK, "few patients", text, remedy)


def table_findings(counts: SiteCounts) -> Iterator[SiteFinding]:
    """Find the sites whose step length, source or rule is not that of most sites."""
    steps = [site["step_minutes"] for site in counts.sites]
    # As the server admits: the most common first, of equally common ones that of the first name.
    usual = Counter(steps).most_common(1)[0][0]
    for site, step in enumerate(steps):
        if step != usual:
            text = f"Its time steps are {duration(step)}, the other sites' {duration(usual)}"
            remedy = f"Ingest with steps of {duration(usual)}; a run refuses another length"
            yield SiteFinding(site, Level.MEND, "step length", text, remedy)
    for key, noun in (("source", "source"), ("rule", "rule of selection")):
        texts = [clean_line(site[key], _LONGEST) for site in counts.sites]
        common, number = Counter(texts).most_common(1)[0]
        if number <= len(texts) / 2:
            continue  # no text is usual
        for site, text in enumerate(texts):
            if text != common:
                what = f"Its {noun} is “{text}”, that of most sites “{common}”"
                remedy = "Ask whether its patients are comparable"
                yield SiteFinding(site, Level.LOOK, key, what, remedy)


_REMEDY = "Join with another hospital or wait for more patients"
