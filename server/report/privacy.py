"""The section of privacy: what is promised, for each site, and what is not."""

from __future__ import annotations

from common.reporting.components import Part, Row, Section, Table, short
from common.reporting.phrasing import NOTHING
from server.report.guarantee import Guarantee, promise, site_guarantees
from server.runs.run_reader import RunRecord

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
