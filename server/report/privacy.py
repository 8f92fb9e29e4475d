"""The section of privacy: what is promised, for each site, and what is not.

The differential-privacy guarantee of a run in words, for the report and the model card alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from common.reporting.components import Part, Row, Section, Table, short
from common.reporting.phrasing import NOTHING
from server.runs.run_reader import RunRecord


@dataclass(frozen=True)
class Guarantee:
    """A site's guarantee.

    Attributes:
        numbers: `epsilon`, `epsilon-rdp`, `delta`, `noise-multiplier`, `steps` …, as the site
            reported them; empty where none of its replies was admitted.
        outside: what the site sent outside the guarantee, in words.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    outside: str = ""

    @property
    def accountant(self) -> str:
        """PRV; RDP where the numerical composition was out of reach, so that its bound stands."""
        return "RDP" if self.numbers["epsilon"] == self.numbers["epsilon-rdp"] else "PRV"


def site_guarantees(record: RunRecord) -> dict[str, Guarantee]:
    """Return each site's guarantee, the weakest that it reported in any round."""
    guarantees: dict[str, Guarantee] = {}
    for site, about in record.sites.items():
        said = [
            entry["privacy"]
            for line in record.rounds
            if (entry := line.get("sites", {}).get(site, {})).get("privacy")
        ]
        numbers: dict[str, float] = max(said, key=lambda one: float(one["epsilon"]), default={})
        guarantees[site] = Guarantee(dict(numbers), str(about.get("outside", "")))
    return guarantees


def promise(record: RunRecord) -> list[str]:
    """Return what is promised, in paragraphs; only for a run with privacy on."""
    settings = record.settings
    paragraphs = [
        "For each site, all that it sends in the whole run is (epsilon, delta)-differentially "
        "private with respect to adding or removing one patient with all of that patient's stays "
        "and windows, but for what the last column names, for the moment at which an answer comes "
        "and for whether one comes. Each step is divided by a number of patients that the site "
        "declares; neighbouring tables have the same.",
        f"Each step draws every patient with chance {settings['privacy.sample-rate']:g} (Poisson "
        f"sampling), takes at most {settings['privacy.patient-windows']} of the patient's windows "
        f"at random, clips the patient's gradient to the norm {settings['privacy.clip-norm']:g}, "
        "and adds Gaussian noise of the noise multiplier times that norm to the sum. Epsilon is of "
        "the PRV accountant; the RDP accountant's, an upper bound, stands beside it.",
    ]
    if int(settings.get("privacy.noise-seed", -1)) >= 0:
        paragraphs.append(
            "The noise of this simulation was drawn from a fixed seed so that it can be repeated: "
            "whoever knows the seed can take the noise off again. The figures show what the "
            "mechanism costs; they are no protection."
        )
    return paragraphs


_NONE = """\
This run gave no differential privacy: adapters, counts and scores are functions of the patients'
records, and no bound is stated on what could be inferred from them. Set privacy.epsilon for one."""


_SIMULATED = """\
This was a simulation: one machine played all sites, and between them went what would have gone
between hospitals. """

_STAYED = """\
No record of a patient was sent. What the sites did send is listed above, and nothing else; it is
computed from the records, so that this is no proof that nothing can be inferred from it."""

_EXAMPLES = """\
The example forecasts show measured values of single patients, because the sites' data are open or
synthetic or the coordinator asked for them; the rest of this report holds counts and scores."""

_NO_EXAMPLES = "This report holds counts and scores, and no measured value of a patient."


def privacy_section(record: RunRecord, *, examples: bool) -> Section:
    """Return the section of the guarantee, site by site.

    Args:
        record: the run.
        examples: whether the report shows forecasts of single patients.
    """
    guarantees = site_guarantees(record)
    shown = " ".join([_EXAMPLES if examples else _NO_EXAMPLES, *_fewest(record)])
    # At hospitals each node names its own table, and the run names none.
    stayed = (_SIMULATED if record.settings.get("data") else "") + _STAYED
    if not record.private:
        return Section("privacy", "Privacy", [Part(paragraphs=[stayed, _NONE, shown])])
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
    rows = [Row(short(site), _cells(guarantee)) for site, guarantee in guarantees.items()]
    table = Table("The guarantee of each site, over the whole run", header, rows, text=True)
    return Section(
        "privacy", "Privacy", [Part(paragraphs=[stayed, *promise(record), shown], tables=[table])]
    )


def _fewest(record: RunRecord) -> list[str]:
    """Name the site whose scores rest on the fewest patients: they say most about each."""
    sites = (record.evaluation or {}).get("sites", {})
    counts = {
        site: result["models"]["adapter"]["mean"]["patients"] for site, result in sites.items()
    }
    if not counts:
        return []
    site = min(sorted(counts), key=lambda name: counts[name])
    patients = f"{counts[site]:,} patient{'' if counts[site] == 1 else 's'}"
    return [f"The scores of a single site rest on as few as {patients} ({short(site)})."]


def _cells(guarantee: Guarantee) -> list[str]:
    if not guarantee.numbers:
        return [NOTHING] * 6 + ["sent nothing that was used"]
    numbers = guarantee.numbers
    return [
        f"{numbers['epsilon']:.4g}",
        guarantee.accountant,
        f"{numbers['epsilon-rdp']:.4g}",
        f"{numbers['delta']:.3g}",
        f"{numbers['noise-multiplier']:.4g}",
        f"{int(numbers['steps']):,}",
        short(guarantee.outside) or "nothing",
    ]
