"""A gated site that is asked for statistics, as the attacks on these set it up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flwr.app import Message

from client.egress.audit.audit_log import AuditLog
from client.egress.gate import Gate
from client.node.statistics.answers import StatisticsAnswers
from client.policy.policy import PolicyFile
from common.config.run_config import RunConfig
from common.data.site_table import SiteTable, read_site_table, write_site_table
from tests.client.egress.gated_site import OPEN, POLICY, GatedSite, Make

RULES = "\n[statistics]\nleast-count = 5\nper-days = 30\n"
MORE = ("joins-per-day = 3", "joins-per-day = 6")
EXACT = OPEN.replace(*MORE) + RULES
NOISY = POLICY.replace(*MORE) + RULES + "epsilon = 0.5\n"

ASKED = {"statistics": True}


def opened(make: Make, policy: str = EXACT) -> GatedSite:
    """Return a site whose policy lets statistics out, asked by a run of statistics."""
    site = make(policy=policy)
    site.config = RunConfig.parse(ASKED)
    return site


def question(site: GatedSite, **records: Any) -> Message:
    """Return the server's request, with records that an honest one does not have."""
    message = site.ask("query")
    for name, record in records.items():
        message.content[name] = record
    return message


def text_of(answer: Message | None) -> str:
    """Return the text that leaves."""
    assert answer is not None
    assert not answer.has_error(), answer.error
    assert dict(answer.content).keys() == {"statistics"}
    return str(answer.content.config_records["statistics"]["json"])


def refused(site: GatedSite, message: Message | None = None, bundle: str = "") -> str:
    """Return what the coordinator reads of a refusal; nothing else may leave."""
    given = question(site) if message is None else message
    answer = site.admitted(given, bundle) if bundle else site.admitted(given)
    assert answer is not None
    assert answer.has_error()
    assert site.last["decision"] == "refused"
    return str(answer.error.reason)


def without_patients(site: GatedSite, folder: Path, number: int = 1) -> None:
    """Let the site export its table anew, without its first patients."""
    whole = read_site_table(site.table)
    ids = whole.frame["patient_id"].unique()
    rest = whole.frame[~whole.frame["patient_id"].isin(ids[:number])].reset_index(drop=True)
    site.table = folder / f"new-{number}.parquet"
    write_site_table(SiteTable(rest, whole.info), site.table)


def at(site: GatedSite, days: float) -> None:
    """Restart the site's node some days later."""
    later = datetime.now(UTC) + timedelta(days=days)
    answers = StatisticsAnswers(site.table, site.folder / "state", lambda: later)
    policy = PolicyFile(site.folder / "policy.toml")
    site.gate = Gate(site.site, policy.current, AuditLog(site.log), answers)
