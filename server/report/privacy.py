"""Privacy section: each site's differential-privacy guarantee, and what it does not cover.

The model card shows the same guarantees in the same words.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from common.reporting.cells import shown_as
from common.reporting.components import Part, Row, Section, Table
from common.reporting.phrasing import NOTHING, clean_line, counted
from server.runs.run_reader import RunRecord

_NONE = """\
This run gave no differential privacy. Adapters, counts and scores are functions of the patients'
records, and there is no bound on what could be inferred from them. Set privacy.epsilon for one."""

_SIMULATED = """\
This was a simulation: one machine played all sites and exchanged the messages that hospitals would
have exchanged. """

_STAYED = """\
No patient record was sent. The sites sent what is listed above and nothing else. It is computed
from the records, so this does not prove that nothing can be inferred from it."""

_EXAMPLES = """\
The example forecasts show measured values of single patients, because the sites' data are open or
synthetic or the coordinator requested them. The rest of this report holds counts and scores."""

_NO_EXAMPLES = "This report holds counts and scores, and no measured value of a patient."


def privacy_section(record: RunRecord, *, examples: bool) -> Section:
    """Return the section.

    Args:
        record: the run.
        examples: whether the report shows forecasts of single patients.
    """
    shown = " ".join([_EXAMPLES if examples else _NO_EXAMPLES, *_fewest_patients(record)])
    # Only a simulation has `data`: in a deployment each node names its own table.
    stayed = (_SIMULATED if record.settings.get("data") else "") + _STAYED
    if not record.private:
        return Section("privacy", "Privacy", [Part(paragraphs=[stayed, _NONE, shown])])
    paragraphs = [stayed, *guarantee_paragraphs(record), shown]
    part = Part(paragraphs=paragraphs, tables=[_guarantee_table(record)])
    return Section("privacy", "Privacy", [part])


def _fewest_patients(record: RunRecord) -> list[str]:
    """Return the site whose scores come from the fewest patients: they reveal most about each."""
    sites = (record.evaluation or {}).get("sites", {})
    counts = {
        site: result["models"]["adapter"]["mean"]["patients"] for site, result in sites.items()
    }
    if not counts:
        return []
    site = min(sorted(counts), key=lambda name: counts[name])
    patients = counted(counts[site], "patient")
    return [f"The scores of a single site come from as few as {patients} ({clean_line(site)})."]


def guarantee_paragraphs(record: RunRecord) -> list[str]:
    """Return what a private run guarantees, in paragraphs."""
    settings = record.settings
    paragraphs = [
        "For each site, everything it sends in the whole run is (epsilon, delta)-differentially "
        "private with respect to adding or removing one patient with all of that patient's stays "
        "and windows. The guarantee does not cover the items in the last column, the time at which "
        "a reply arrives, and whether one arrives. Each step is divided by a number of patients "
        "that the site declares; neighbouring tables have the same.",
        f"Each step samples every patient with probability {settings['privacy.sample-rate']:g} "
        f"(Poisson sampling), takes at most {settings['privacy.patient-windows']} of the patient's "
        "windows at random, clips the patient's gradient to the norm "
        f"{settings['privacy.clip-norm']:g}, and adds Gaussian noise of the noise multiplier times "
        "that norm to the sum. Epsilon is computed by the PRV accountant; the RDP accountant's "
        "value, an upper bound, is given beside it.",
    ]
    if int(settings.get("privacy.noise-seed", -1)) >= 0:
        paragraphs.append(
            "The noise of this simulation was drawn from a fixed seed so that it can be "
            "reproduced: whoever knows the seed can remove the noise. The results show the cost of "
            "the mechanism; they are no protection."
        )
    return paragraphs


def _guarantee_table(record: RunRecord) -> Table:
    header = [
        "Site",
        "Epsilon",
        "Accountant",
        "Epsilon by RDP",
        "Delta",
        "Noise multiplier",
        "Steps",
        "Outside the guarantee",
    ]
    rows = [
        Row(clean_line(site), _cells(guarantee))
        for site, guarantee in site_guarantees(record).items()
    ]
    return Table("Guarantee of each site, over the whole run", header, rows, text=True)


@dataclass(frozen=True)
class Guarantee:
    """Differential-privacy guarantee of a site.

    Attributes:
        numbers: `epsilon`, `epsilon-rdp`, `delta`, `noise-multiplier`, `steps` …, as the site
            reported them; empty if no reply of it was accepted.
        unprotected_outputs: what the site sent outside the guarantee, in words.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    unprotected_outputs: str = ""

    @property
    def accountant(self) -> str:
        """PRV; RDP if the numerical composition was infeasible and the RDP bound is used."""
        return "RDP" if self.numbers["epsilon"] == self.numbers["epsilon-rdp"] else "PRV"


def site_guarantees(record: RunRecord) -> dict[str, Guarantee]:
    """Return each site's guarantee, the weakest that it reported in any round."""
    guarantees: dict[str, Guarantee] = {}
    for site, about in record.sites.items():
        reported = [
            entry["privacy"]
            for line in record.rounds
            if (entry := line.get("sites", {}).get(site, {})).get("privacy")
        ]
        weakest: dict[str, float] = max(reported, key=lambda one: float(one["epsilon"]), default={})
        guarantees[site] = Guarantee(dict(weakest), str(about.get("outside", "")))
    return guarantees


def _cells(guarantee: Guarantee) -> list[str]:
    if not guarantee.numbers:
        return [NOTHING] * 6 + ["no reply was used"]
    numbers = guarantee.numbers
    return [
        shown_as(numbers["epsilon"], f"{numbers['epsilon']:.4g}"),
        guarantee.accountant,
        shown_as(numbers["epsilon-rdp"], f"{numbers['epsilon-rdp']:.4g}"),
        shown_as(numbers["delta"], f"{numbers['delta']:.3g}"),
        shown_as(numbers["noise-multiplier"], f"{numbers['noise-multiplier']:.4g}"),
        f"{int(numbers['steps']):,}",
        clean_line(guarantee.unprotected_outputs) or "nothing",
    ]
