"""The sites of a run: who joined, what each brings, and who was turned away and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.config.run_config import RunConfig
from common.errors import FederationError
from common.names import is_site_name, printable

MOST_PATIENTS = 10_000_000
"""More than any hospital group has: a site's weight must not be a number that it made up."""

MOST_WINDOWS = 10_000_000_000
"""A thousand times as many."""
STEP_MINUTES = range(1, 1441)
"""From a minute to a day."""
MAX_RANK = 1024
"""Far above what any adapter uses; the run's own settings bound it further."""
MOST_REFUSED = 256
"""So many are noted with their reasons."""
MOST_SHOWN = 10
"""So many stand in an error message."""

_MAX_REASON = 300

Answer = tuple[str, int, Mapping[str, Any]]
"""A site's name, the node that answers for it, and what it said of itself."""


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

    def admit_all(self, answers: Sequence[Answer], present: Collection[int] = ()) -> None:
        """Take several sites in, or note why not.

        In the order of their names, so that who answered first decides nothing. Sites with the
        commonest step length come first: sites must share it, and one that sends another, under
        whatever name, must not turn the rest away.

        Args:
            answers: of each site.
            present: see `admit`.
        """
        steps = Counter(str(said.get("step-minutes")) for _, _, said in answers)
        ordered = sorted(
            answers,
            key=lambda answer: (-steps[str(answer[2].get("step-minutes"))], answer[0], answer[1]),
        )
        for name, node, said in ordered:
            self.admit(name, node, said, present)

    def refuse(self, who: str, why: str) -> None:
        """Note why somebody does not take part.

        Args:
            who: a site's name or a node.
            why: the reason, cut to one line: nodes write parts of it.
        """
        # Bounded: what is noted ends in config.json, and nodes may come and go for as long as a
        # run lasts.
        if who in self.refused or len(self.refused) < MOST_REFUSED:
            self.refused[who] = printable(why, _MAX_REASON)

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
        if not is_site_name(name):
            self.refuse(f"a site of node {node_id}", "its name is not 1 to 64 of A-Z a-z 0-9 . _ -")
            return
        try:
            member = _member(name, node_id, said)
        except (KeyError, TypeError, ValueError) as error:
            self.refuse(name, f"its answer lacks or garbles {error}")
            return
        reason = self._reason_against(member, said, present)
        if reason:
            self.refuse(name, reason)
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
            refused = "; ".join(
                f"{name}: {why}" for name, why in sorted(self.refused.items())[:MOST_SHOWN]
            )
            if len(self.refused) > MOST_SHOWN:
                refused += f"; and {len(self.refused) - MOST_SHOWN} more"
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
        digest = printable(str(said.get("backbone-digest", "")))
        if digest != self.backbone_digest:
            return (
                f"its backbone has the digest {digest[:12]}, the run's "
                f"{self.backbone_digest[:12]}; install the same weights at both"
            )
        if said.get("usable", True) is not True:
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
        patients=_count(said, "patients", MOST_WINDOWS),
        windows=_count(said, "windows", MOST_WINDOWS),
        source=_text(said, "source"),
        rule=_text(said, "rule"),
        step_minutes=_whole(said, "step-minutes", STEP_MINUTES),
        rank=_whole(said, "rank", range(1, MAX_RANK + 1)),
        outside=_text(said, "outside") if "outside" in said else "",
    )


def _count(said: Mapping[str, Any], key: str, most: int) -> int | None:
    return _whole(said, key, range(most + 1)) if key in said else None


def _whole(said: Mapping[str, Any], key: str, allowed: range) -> int:
    value = said[key]
    # Not bool, which is an int to Python, and not a float, which could be NaN.
    if type(value) is not int or value not in allowed:
        raise ValueError(f"{key} (a whole number from {allowed[0]} to {allowed[-1]})")
    return value


def _text(said: Mapping[str, Any], key: str) -> str:
    value = said[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} (text)")
    return printable(value)
