"""site.toml: the settings of a site's node, written by the hospital's administrator.

    [site]
    id = "hosp1"                           # name in the run
    table = "/data/site.parquet"           # the site table, as `python -m client ingest` writes it
    state = "/var/lib/fedvitals"           # privacy ledger, audit log, kept answers
    policy = "/etc/fedvitals/policy.toml"  # what may leave
    patients = 812                         # of its training split, as the site declares them
    source = "own data"                    # these three as the table states them: what the node
    rule = "sepsis3"                       # says of the site when a private run begins
    step-minutes = 60
    lora-rank = 8                          # optional: a rank of the site's own
    epsilon-limit = 8.0                    # optional: budget of the site over all runs
    epsilon-limit-delta = 1e-5             # optional
    allow = ["validation.wql"]             # optional: may leave though outside the guarantee
    [backbones]                            # digests of the frozen models that lie here
    "chronos-bolt-nano" = "2e0f…"
    [server]
    address = "coordinator.example.org:443"
    ca = "/etc/fedvitals/ca.crt"
    [node]
    key = "/etc/fedvitals/node.key"        # never leaves the site
    isolation = "process"                  # the app runs apart; or "subprocess"
    client-api = "127.0.0.1:9094"          # where the app asks for work
    client-api-certificate = "client-api.crt"  # the node's, on the way from the app; these three
    client-api-key = "client-api.key"      # may be left out together where client-api is on
    client-api-ca = "client-api.crt"       # loopback; the last is what the app's process trusts
    secret = "/etc/fedvitals/app.secret"   # shared with the app's process; optional on loopback
    health = "127.0.0.1:9095"              # gRPC health
    [audit]                                # optional: anchors of the audit log, kept elsewhere
    anchor-to = "/mnt/worm/anchors.jsonl"  # a file on another machine, or an https URL
    anchor-ca = "/etc/fedvitals/keeper.crt"  # of that URL; the system's authorities without it
    anchor-every = 100                     # lines
    [log]
    file = "/var/log/fedvitals/node.jsonl" # optional; standard error without it
    level = "info"

A path that is not absolute is meant from the folder of site.toml. No path is looked at here:
`preflight` says which are missing, and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from client.config.node_section import Address, NodeSection, read_address, read_node_section
from common.config.toml import TomlTable, read_toml
from common.errors import UsageError

LEVELS = ("debug", "info", "warning", "error")

SITE_KEYS = (
    "id",
    "table",
    "state",
    "policy",
    "patients",
    "source",
    "rule",
    "step-minutes",
    "lora-rank",
    "epsilon-limit",
    "epsilon-limit-delta",
    "allow",
)

MAX_TEXT = 200
MOST_STEP_MINUTES = 1440
"""A day."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SITE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class SiteSection:
    """`[site]`: what the site is and keeps.

    Attributes:
        id: the site's name in runs.
        table: the site table.
        state: folder of everything that has to survive a restart.
        policy: what may leave.
        patients: training patients of the table, as the site declares them, rounded down as it
            likes; 0 = not declared. Under privacy it is what a step's sum is divided by.
        source: where the table's rows come from; empty = not declared.
        rule: how its patients were chosen; empty likewise.
        step_minutes: length of its time steps; 0 = not declared.
        lora_rank: rank of the site's adapter; 0 = the run's.
        epsilon_limit: budget over all runs; 0 = none.
        epsilon_limit_delta: the delta at which the budget counts.
        allow: numbers that may leave though privacy is on, by name.
    """

    id: str
    table: Path
    state: Path
    policy: Path
    patients: int = 0
    source: str = ""
    rule: str = ""
    step_minutes: int = 0
    lora_rank: int = 0
    epsilon_limit: float = 0.0
    epsilon_limit_delta: float = 1e-5
    allow: tuple[str, ...] = ()


@dataclass(frozen=True)
class ServerSection:
    """`[server]`: where the coordinator is, and by which authority its certificate is signed."""

    address: Address
    ca: Path


@dataclass(frozen=True)
class AuditSection:
    """`[audit]`: where the node ships signed anchors of its audit log.

    Attributes:
        anchor_to: a file, or an http or https URL; empty = nowhere.
        anchor_ca: the authority of an https URL; None = the system's.
        anchor_every: lines after which the next anchor is due.
    """

    anchor_to: str = ""
    anchor_ca: Path | None = None
    anchor_every: int = 100


@dataclass(frozen=True)
class LogSection:
    """`[log]`: the node's log; standard error where `file` is None."""

    file: Path | None
    level: str


@dataclass(frozen=True)
class SiteConfig:
    """site.toml, checked.

    Attributes:
        site: what the site is and keeps.
        server: where the coordinator is.
        node: how the node runs.
        log: the node's log.
        audit: where anchors of the audit log go.
        backbones: digests of the frozen models that lie at the site, by name.
    """

    site: SiteSection
    server: ServerSection
    node: NodeSection
    log: LogSection
    audit: AuditSection
    backbones: Mapping[str, str]

    @property
    def audit_log(self) -> Path:
        """Where the site keeps its record of what left."""
        return self.site.state / "audit.jsonl"

    def node_config(self) -> dict[str, str | int | float]:
        """Return Flower's node configuration for the app (`client.app.node_config`)."""
        values: dict[str, str | int | float] = {
            "data-path": str(self.site.table),
            "site-id": self.site.id,
            "state-path": str(self.site.state),
            "epsilon-limit-delta": self.site.epsilon_limit_delta,
        }
        if self.site.patients:
            values["patients"] = self.site.patients
        if self.site.lora_rank:
            values["lora-rank"] = self.site.lora_rank
        if self.site.epsilon_limit:
            values["epsilon-limit"] = self.site.epsilon_limit
        if self.site.allow:
            values["allow"] = ",".join(self.site.allow)
        return values


def load_site_config(path: Path) -> SiteConfig:
    """Read site.toml.

    Raises:
        UsageError: it is missing or not TOML, a key is unknown or missing, or a value cannot be.
    """
    file = TomlTable(read_toml(path, UsageError), str(path), "", UsageError)
    file.only(("site", "server", "node", "log", "audit", "backbones"))
    base = path.absolute().parent
    return SiteConfig(
        site=_site(file.table("site"), base),
        server=_server(file.table("server"), base),
        node=read_node_section(file.table("node"), base),
        log=_log(file.table("log"), base),
        audit=_audit(file.table("audit"), base),
        backbones=_backbones(file.table("backbones")),
    )


def _site(table: TomlTable, base: Path) -> SiteSection:
    table.only(SITE_KEYS)
    name = table.text("id")
    if not _SITE_ID.fullmatch(name):
        raise table.wrong("id", f"must be 1 to 64 of A-Z a-z 0-9 . _ -, got {name!r}")
    delta = table.number("epsilon-limit-delta", 1e-5)
    if not 0 < delta < 1:
        raise table.wrong("epsilon-limit-delta", f"must lie between 0 and 1, got {delta:g}")
    return SiteSection(
        id=name,
        table=base / table.text("table"),
        state=base / table.text("state"),
        policy=base / table.text("policy"),
        patients=table.whole("patients", 0),
        source=_printable(table, "source"),
        rule=_printable(table, "rule"),
        step_minutes=_step_minutes(table),
        lora_rank=table.whole("lora-rank", 0),
        epsilon_limit=table.number("epsilon-limit", 0.0),
        epsilon_limit_delta=delta,
        allow=table.texts("allow", ()),
    )


def _printable(table: TomlTable, key: str) -> str:
    text = table.text(key, "")
    if len(text) > MAX_TEXT or not text.isprintable():
        raise table.wrong(key, f"must be printable, of at most {MAX_TEXT} characters, got {text!r}")
    return text


def _step_minutes(table: TomlTable) -> int:
    minutes = table.whole("step-minutes", 0)
    if minutes > MOST_STEP_MINUTES:
        raise table.wrong("step-minutes", f"must be at most {MOST_STEP_MINUTES}, got {minutes}")
    return minutes


def _backbones(table: TomlTable) -> dict[str, str]:
    digests = {name: table.text(name) for name in table.keys}
    for name, digest in digests.items():
        if not _SHA256.fullmatch(digest):
            raise table.wrong(name, f"must be a digest, 64 of 0-9 a-f, got {digest!r}")
    return digests


def _server(table: TomlTable, base: Path) -> ServerSection:
    table.only(("address", "ca"))
    return ServerSection(read_address(table, "address", None), base / table.text("ca"))


def _audit(table: TomlTable, base: Path) -> AuditSection:
    table.only(("anchor-to", "anchor-ca", "anchor-every"))
    to, ca = table.text("anchor-to", ""), table.text("anchor-ca", "")
    return AuditSection(
        anchor_to=str(base / to) if to and "://" not in to else to,
        anchor_ca=base / ca if ca else None,
        anchor_every=table.whole("anchor-every", 100, least=1),
    )


def _log(table: TomlTable, base: Path) -> LogSection:
    table.only(("file", "level"))
    file = table.text("file", "")
    level = table.text("level", "info").lower()
    if level not in LEVELS:
        raise table.wrong("level", f"must be one of {', '.join(LEVELS)}, got {level!r}")
    return LogSection(base / file if file else None, level)
