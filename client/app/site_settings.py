"""Check of a site's own settings against a run, before the run starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from client.app.node_config import NodeSettings
from client.privacy.accountant import Steps, solve_noise_multiplier, spent
from client.privacy.allowlist import parse_allow
from common.config.run_config import RunConfig
from common.config.site_rank import rank_refusal
from common.errors import PrivacyError, UsageError
from common.names import check_name

SETTABLE = ("lora-rank", "epsilon-limit", "epsilon-limit-delta", "patients", "allow")
"""Keys of a node's configuration that a site of a simulation may have for itself."""
_OF_PRIVACY = SETTABLE[1:]


def check_site_settings(site: str, own: Mapping[str, Any], config: RunConfig) -> None:
    """Check the settings of one site of a simulation: keys, types, ranges, and fit to the run.

    Args:
        site: the site's name, for messages.
        own: its settings by key, e.g. ``{"lora-rank": 4}``; values may be texts.
        config: the run's settings.

    Raises:
        UsageError: a key is unknown, a value is invalid, or it does not allow the run.
    """
    for key in own:
        check_name(f"setting of site {site}", key, SETTABLE)
    node = NodeSettings.load({"state-path": Path(), **own}, UsageError, f"site {site}")
    if reason := _refusal(node, own, config):
        raise UsageError(f"site {site} cannot take part: {reason}")


def _refusal(node: NodeSettings, own: Mapping[str, Any], config: RunConfig) -> str:
    if reason := rank_refusal(node.lora_rank, config):
        return reason
    of_privacy = [key for key in _OF_PRIVACY if key in own]
    if of_privacy and not config.privacy.on:
        return (
            f"its {of_privacy[0]} is for a run with privacy; set privacy.epsilon, or leave "
            f"{of_privacy[0]} out"
        )
    try:
        parse_allow(node.allow)
    except PrivacyError as problem:
        return str(problem)
    if "epsilon-limit-delta" in own and not node.epsilon_limit:
        return "its epsilon-limit-delta is the delta of an epsilon-limit; set epsilon-limit too"
    return _limit_refusal(node, config) if node.epsilon_limit else ""


def _limit_refusal(node: NodeSettings, config: RunConfig) -> str:
    """Return why the site's budget does not cover the run, which is its first."""
    privacy, delta = config.privacy, node.epsilon_limit_delta
    if delta == privacy.delta and 0 < privacy.epsilon <= node.epsilon_limit:
        return ""
    steps = config.rounds * config.private_steps
    sigma = privacy.noise_multiplier or solve_noise_multiplier(
        privacy.epsilon, privacy.delta, privacy.sample_rate, steps
    )
    epsilon = spent([Steps(privacy.sample_rate, sigma, steps)], delta).prv
    if epsilon <= node.epsilon_limit:
        return ""
    return (
        f"its epsilon-limit is {node.epsilon_limit:g}, the run spends {epsilon:.2f} at delta "
        f"{delta:g}; run with less privacy.epsilon or fewer rounds, or raise epsilon-limit"
    )
