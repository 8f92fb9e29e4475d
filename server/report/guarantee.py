"""The differential-privacy guarantee of a run in words, for the report and the model card alike."""

from __future__ import annotations

from dataclasses import dataclass, field

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
