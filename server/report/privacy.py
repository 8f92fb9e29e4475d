"""The section of privacy: what is promised, for each site, and what is not."""

from __future__ import annotations

from server.guarantee import Guarantee, promise, site_guarantees
from server.report.page import Part, Row, Section, Table, short
from server.run_record import RunRecord
from server.wording import NOTHING

_NONE = """\
This run gave no differential privacy: adapters, counts and scores are functions of the patients'
records, and no bound is stated on what could be inferred from them. Set privacy.epsilon for one."""


def privacy_section(record: RunRecord) -> Section:
    """Return the section of the guarantee, site by site."""
    guarantees = site_guarantees(record)
    if not record.private:
        return Section("privacy", "Privacy", [Part(paragraphs=[" ".join(_NONE.split())])])
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
    return Section("privacy", "Privacy", [Part(paragraphs=promise(record), tables=[table])])


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
