"""The site itself as its node knows it: what the administrator wrote into site.toml.

Under privacy a site that is asked to join says these constants and nothing else: nothing in them
depends on the patients, or on how the coordinator would cut windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from client.config.site_config import SiteConfig
from client.privacy.allowlist import parse_allow
from common.errors import PolicyError


@dataclass(frozen=True)
class Site:
    """A site.

    Attributes:
        name: in runs.
        patients: in its training split, by the table or as the site declares them.
        declared_patients: as the site declares them; 0 = not declared.
        allow: numbers that may leave though privacy is on.
        rank: of its adapter; 0 = the run's.
        source: where its rows come from.
        rule: how its patients were chosen.
        step_minutes: length of its time steps; 0 = not declared.
        backbones: digests of the frozen backbones that it has, by name.
    """

    name: str
    patients: int
    declared_patients: int = 0
    allow: frozenset[str] = frozenset()
    rank: int = 0
    source: str = ""
    rule: str = ""
    step_minutes: int = 0
    backbones: Mapping[str, str] = field(default_factory=dict)

    @property
    def outside(self) -> str:
        """The words for what it lets out beside a privacy guarantee."""
        return ", ".join(sorted(self.allow))


def site_of(config: SiteConfig, patients: int) -> Site:
    """Return the site as the gate knows it.

    Args:
        config: the site's settings.
        patients: training patients.
    """
    own = config.site
    return Site(
        name=own.id,
        patients=patients,
        declared_patients=own.patients,
        allow=parse_allow(",".join(own.allow)),
        rank=own.lora_rank,
        source=own.source,
        rule=own.rule,
        step_minutes=own.step_minutes,
        backbones=dict(config.backbones),
    )


def check_declared(config: SiteConfig) -> None:
    """Check that site.toml declares all that the site says when it joins a private run.

    Raises:
        PolicyError: naming what is missing.
    """
    own = config.site
    declared = {
        "site.patients": own.patients,
        "site.source": own.source,
        "site.rule": own.rule,
        "site.step-minutes": own.step_minutes,
        "backbones": config.backbones,
    }
    missing = [name for name, value in declared.items() if not value]
    if missing:
        raise PolicyError(
            f"site.toml declares no {', '.join(missing)}: under privacy the node says these itself "
            "and asks neither the table nor the app; `python -m client preflight` shows what the "
            "table and the backbone have"
        )
