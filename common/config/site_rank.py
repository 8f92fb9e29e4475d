"""Rank of a site's own adapter, checked against the run: the same words at site and server."""

from __future__ import annotations

from common.config.run_config import RunConfig
from common.config.sections import RANK_MIXING_RULES


def rank_refusal(rank: int, config: RunConfig) -> str:
    """Return why a run cannot take a site of this rank; empty where it can.

    Args:
        rank: the site's rank; 0 = the run's.
        config: the run's settings.
    """
    lora = config.lora
    least = lora.min_rank or lora.rank
    if not rank or least <= rank <= lora.rank:
        return ""
    allowed = f"{least} to {lora.rank}" if least < lora.rank else str(lora.rank)
    return f"its lora-rank is {rank}, the run allows {allowed}; {_remedy(rank, config)}"


def _remedy(rank: int, config: RunConfig) -> str:
    if config.trained == "b":
        return "leave lora-rank out: where only B is trained, as under privacy, all have one rank"
    if rank > config.lora.rank:
        return "leave lora-rank out, or raise lora.rank of the run"
    rules = " or ".join(RANK_MIXING_RULES)
    rule = "" if config.rule in RANK_MIXING_RULES else f" with aggregation.rule = {rules}"
    return f"leave lora-rank out, or let the sites choose: lora.min-rank = {rank}{rule}"
