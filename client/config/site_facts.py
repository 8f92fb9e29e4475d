"""Facts of a site as its node knows them: what the administrator wrote into site.toml.

Under privacy a site answers a join request with these constants only: none of them depends on the
patients, or on how the coordinator's settings cut windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from client.config.site_config import SiteConfig
from client.privacy.allowlist import parse_allow
from common.errors import PolicyError


@dataclass(frozen=True)
class SiteFacts:
    """Facts of a site.

    Attributes:
        name: the site's name in runs.
        patients: training patients, counted in the table or declared.
        declared_patients: training patients as declared; 0 = not declared.
        allow: numbers that may leave although privacy is on.
        rank: the rank of its adapter; 0 = the run's.
        source: source of its data.
        rule: how its patients were chosen.
        step_minutes: length of its time steps; 0 = not declared.
        backbones: digests of the frozen backbones that it has, by name.
        epsilon_limit: limit of all runs together, which the app checks too; 0 = none.
        epsilon_limit_delta: delta of that limit.
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
    epsilon_limit: float = 0.0
    epsilon_limit_delta: float = 1e-5

    @property
    def unprotected_outputs(self) -> str:
        """Names of the numbers that it sends outside the privacy guarantee, with commas."""
        return ", ".join(sorted(self.allow))


def site_facts(config: SiteConfig, patients: int) -> SiteFacts:
    """Return a site's facts.

    Args:
        config: the site's settings.
        patients: training patients.
    """
    own = config.site
    return SiteFacts(
        name=own.id,
        patients=patients,
        declared_patients=own.patients,
        allow=parse_allow(",".join(own.allow)),
        rank=own.lora_rank,
        source=own.source,
        rule=own.rule,
        step_minutes=own.step_minutes,
        backbones=dict(config.backbones),
        epsilon_limit=own.epsilon_limit,
        epsilon_limit_delta=own.epsilon_limit_delta,
    )


def check_declared(config: SiteConfig) -> None:
    """Check that site.toml declares every fact in the reply to a private join request.

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
            f"site.toml does not declare {', '.join(missing)}: under privacy the node sends these "
            "itself and reads neither the table nor the app's reply; `python -m client preflight` "
            "shows the values of the table and the backbone"
        )
