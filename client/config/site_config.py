"""site.toml: settings of a site's node, written by the hospital's administrator.

Each class is a table of the file; deploy/site/site.toml is an example. A relative path is relative
to the folder of site.toml. Paths are not checked here: `preflight` reports which are missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainValidator, ValidationInfo
from pydantic_core import PydanticKnownError

from client.config.node_section import AddressField, NodeSection
from common.config.field_types import (
    Count,
    DistinctTexts,
    FilePath,
    OneOf,
    OptionalPath,
    Parsed,
    PositiveCount,
    PrintableText,
    PrivacyDelta,
    Sha256,
)
from common.config.sections import MAX_RANK
from common.config.strict_model import StrictModel
from common.config.toml import read_toml
from common.errors import UsageError
from common.names import is_site_name

MOST_STEP_MINUTES = 1440
"""A day."""


def _site_id(text: str) -> str:
    if not is_site_name(text):
        raise UsageError(f"must be 1 to 64 of A-Z a-z 0-9 . _ -, got {text!r:.200}")
    return text


def _anchor_target(value: object, info: ValidationInfo) -> str:
    """Return a URL as it is, and a path as `FilePath` does."""
    if not isinstance(value, str):
        raise PydanticKnownError("string_type")
    return str(Path(info.context or "", value)) if value and "://" not in value else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class SiteSection(StrictModel):
    """`[site]`: identity, data and limits of the site.

    Attributes:
        id: the site's name in runs.
        table: the site table.
        state: folder of everything that must survive a restart.
        policy: policy.toml, which limits what may leave.
        patients: training patients of the table, as the site declares them, rounded down if it
            likes; 0 = not declared. Under privacy a step's sum is divided by it.
        source: origin of the table's rows; empty = not declared.
        rule: rule that chose its patients; empty = not declared.
        step_minutes: length of its time steps; 0 = not declared.
        lora_rank: rank of the site's adapter; 0 = the run's.
        epsilon_limit: budget over all runs; 0 = none.
        epsilon_limit_delta: delta of the budget.
        allow: names of numbers that may leave though privacy is on.
    """

    id: Annotated[str, Parsed(_site_id)]
    table: FilePath
    state: FilePath
    policy: FilePath
    patients: Count = 0
    source: PrintableText = ""
    rule: PrintableText = ""
    step_minutes: int = Field(default=0, ge=0, le=MOST_STEP_MINUTES)
    lora_rank: int = Field(default=0, ge=0, le=MAX_RANK)
    epsilon_limit: float = Field(default=0.0, ge=0)
    epsilon_limit_delta: PrivacyDelta = 1e-5
    allow: DistinctTexts = ()


class ServerSection(StrictModel):
    """`[server]`: the coordinator's address, and the authority that signed its certificate."""

    address: AddressField
    ca: FilePath


class AuditSection(StrictModel):
    """`[audit]`: where the node ships signed anchors of its audit log.

    Attributes:
        anchor_to: a file, or an http or https URL; empty = nowhere.
        anchor_ca: the authority of an https URL; None = the system's.
        anchor_every: lines between two anchors.
    """

    anchor_to: Annotated[str, PlainValidator(_anchor_target)] = ""
    anchor_ca: OptionalPath = None
    anchor_every: PositiveCount = 100


class LogSection(StrictModel):
    """`[log]`: the node's log; standard error where `file` is None."""

    file: OptionalPath = None
    level: Annotated[str, BeforeValidator(_lower), OneOf(("debug", "info", "warning", "error"))] = (
        "info"
    )


class SiteConfig(StrictModel):
    """site.toml, validated.

    Attributes:
        site: identity, data and limits of the site.
        server: the coordinator's address.
        node: key, interfaces and isolation of the node.
        log: the node's log.
        audit: where anchors of the audit log go.
        backbones: digests of the site's copies of the frozen models, by name.
    """

    site: SiteSection
    server: ServerSection
    node: NodeSection
    log: LogSection = Field(default_factory=LogSection)
    audit: AuditSection = Field(default_factory=AuditSection)
    backbones: dict[str, Sha256] = Field(default_factory=dict)

    @property
    def audit_log(self) -> Path:
        """The site's record of what left."""
        return self.site.state / "audit.jsonl"

    def node_config(self) -> dict[str, str | int | float]:
        """Return Flower's node configuration for the app (`client.app.node_config`)."""
        site = self.site
        optional: dict[str, str | int | float] = {
            "patients": site.patients,
            "lora-rank": site.lora_rank,
            "epsilon-limit": site.epsilon_limit,
            "allow": ",".join(site.allow),
        }
        return {
            "data-path": str(site.table),
            "site-id": site.id,
            "state-path": str(site.state),
            "epsilon-limit-delta": site.epsilon_limit_delta,
            **{key: value for key, value in optional.items() if value},
        }


def load_site_config(path: Path) -> SiteConfig:
    """Read site.toml.

    Raises:
        UsageError: it is missing or not TOML, a key is unknown or missing, or a value is invalid.
    """
    folder = path.absolute().parent
    return SiteConfig.load(read_toml(path, UsageError), UsageError, str(path), folder)
