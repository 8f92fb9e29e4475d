"""The sites of a run: who joined, what each brings, and who was turned away and why."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from common.config import RunConfig
from common.errors import FederationError

MOST_PATIENTS = 10_000_000
"""More than any hospital group has: a site's weight must not be a number that it made up."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_MAX_TEXT = 200


@dataclass(frozen=True)
class Member:
    """A site that takes part.

    Attributes:
        name: the site's name, unique in the run.
        node_id: Flower's id of the node that answers for it.
        patients: training patients; None where the site keeps its counts.
        windows: training windows; None likewise.
        source: where its rows come from.
        rule: how its patients were chosen.
        step_minutes: length of its time steps.
        rank: of the adapter that it trains.
        outside: what it sends outside the privacy guarantee, in words; empty where nothing.
    """

    name: str
    node_id: int
    patients: int | None
    windows: int | None
    source: str
    rule: str
    step_minutes: int
    rank: int
    outside: str = ""


class Membership:
    """The sites that joined so far.

    Args:
        config: the run's settings.
        backbone_digest: of the run's frozen backbone; a site whose own differs is turned away,
            since averaging adapters of different bases means nothing.

    Attributes:
        members: the sites by name.
        refused: who was turned away or failed, and why.
        asked: the nodes that have been asked what they bring.
    """

    def __init__(self, config: RunConfig, backbone_digest: str) -> None:
        self.config = config
        self.backbone_digest = backbone_digest
        self.members: dict[str, Member] = {}
        self.refused: dict[str, str] = {}
        self.asked: set[int] = set()

    def admit(
        self, name: str, node_id: int, said: Mapping[str, Any], present: Collection[int] = ()
    ) -> None:
        """Take a site in, or note why not.

        Args:
            name: the site's name.
            node_id: the node that answers for it.
            said: what it said of itself; nothing of it is taken on trust.
            present: the nodes that are there now. A site comes back under a new node only where
                its old one has gone, so that nobody can push a site aside by taking its name.
        """
        if not _NAME.fullmatch(name):
            self.refused[f"a site of node {node_id}"] = (
                "its name is not 1 to 64 of A-Z a-z 0-9 . _ -"
            )
            return
        try:
            member = _member(name, node_id, said)
        except (KeyError, TypeError, ValueError) as error:
            self.refused[name] = f"its answer lacks or garbles {error}"
            return
        reason = self._reason_against(member, said, present)
        if reason:
            self.refused[name] = reason
        else:
            self.members[name] = member
            self.refused.pop(name, None)

    def names(self) -> list[str]:
        """The members' names in the one order that everything uses."""
        return sorted(self.members)

    def weights(self, sites: Collection[str]) -> dict[str, float]:
        """Return the weight of each of some members, as the run weighs them."""
        fixed = self.config.federation.fixed_weights()
        if fixed:
            return {site: fixed[site] for site in sites}
        if self.config.weighting == "equal":
            return dict.fromkeys(sites, 1.0)
        return {site: float(self.members[site].patients or 0) for site in sites}

    def require(self, least: int) -> None:
        """Raise `FederationError` where fewer than `least` sites joined."""
        if len(self.members) < least:
            refused = "; ".join(f"{name}: {why}" for name, why in sorted(self.refused.items()))
            raise FederationError(
                f"{len(self.members)} usable sites joined, the run needs {least} "
                f"(federation.min-sites); {refused or 'no other site answered'}"
            )

    def _reason_against(
        self, member: Member, said: Mapping[str, Any], present: Collection[int]
    ) -> str:
        known = self.members.get(member.name)
        if known is not None and (known.node_id in present or not present):
            return f"a second node calls itself {member.name}"
        digest = str(said.get("backbone-digest", ""))
        if digest != self.backbone_digest:
            return (
                f"its backbone has the digest {digest[:12]}, the run's "
                f"{self.backbone_digest[:12]}; install the same weights at both"
            )
        if said.get("usable") is not True:
            return "no usable window; its stays are too short or too sparse for windows.*"
        others = [other for name, other in self.members.items() if name != member.name]
        steps = {other.step_minutes for other in others}
        if steps and member.step_minutes not in steps:
            return f"its steps are {member.step_minutes} min, the others' {min(steps)} min"
        return self._reason_against_weight(member) or self._reason_against_rank(member)

    def _reason_against_weight(self, member: Member) -> str:
        fixed = self.config.federation.fixed_weights()
        if fixed and member.name not in fixed:
            return "federation.weights names no weight for it"
        if self.config.weighting != "patients":
            return ""
        if member.patients is None or member.windows is None:
            return "it keeps its counts, which federation.weights = patients needs; set equal"
        if not 1 <= member.patients <= min(member.windows, MOST_PATIENTS):
            return f"{member.patients} patients with {member.windows} windows cannot be"
        return ""

    def _reason_against_rank(self, member: Member) -> str:
        lora = self.config.lora
        least = lora.min_rank or lora.rank
        if least <= member.rank <= lora.rank:
            return ""
        allowed = f"{least} to {lora.rank}" if least < lora.rank else str(lora.rank)
        return f"its lora-rank is {member.rank}, the run allows {allowed} (lora.min-rank)"


def _member(name: str, node_id: int, said: Mapping[str, Any]) -> Member:
    return Member(
        name=name,
        node_id=node_id,
        patients=_count(said, "patients"),
        windows=_count(said, "windows"),
        source=_line(said["source"]),
        rule=_line(said["rule"]),
        step_minutes=int(said["step-minutes"]),
        rank=int(said["rank"]),
        outside=_line(said.get("outside", "")),
    )


def _count(said: Mapping[str, Any], key: str) -> int | None:
    if key not in said:
        return None
    value = float(said[key])
    if not math.isfinite(value) or value < 0:
        raise ValueError(key)
    return int(value)


def _line(text: object) -> str:
    """Return a site's text as one printable line of bounded length: it ends in our artefacts."""
    return "".join(c if c.isprintable() else "?" for c in str(text))[:_MAX_TEXT]
