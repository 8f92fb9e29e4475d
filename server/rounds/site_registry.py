"""Registry of a run's sites: those that joined, and those refused with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from common.config.run_config import RunConfig
from common.config.sections import MAX_RANK
from common.config.site_rank import rank_refusal
from common.config.step_length import step_refusal
from common.errors import FederationError
from common.names import is_site_name, printable

MOST_PATIENTS = 10_000_000
"""Bound on a site's reported patients, which are its weight: more than any hospital group has."""
MOST_WINDOWS = 10_000_000_000
"""Bound on a site's reported windows."""
STEP_MINUTES = range(1, 1441)
"""Allowed step lengths, from a minute to a day."""
MOST_REFUSED = 256
"""Largest number of refusals kept."""
MOST_SHOWN = 10
"""Largest number of refusals in an error message."""

_MAX_REASON = 300


class JoinReply(NamedTuple):
    """One site of a node's join reply.

    Attributes:
        site: the site's name.
        node_id: Flower's id of the node that runs it.
        reported: its untrusted facts, by `server.rounds.join_reply.FIELDS`.
    """

    site: str
    node_id: int
    reported: Mapping[str, Any]


@dataclass(frozen=True)
class Member:
    """A site that joined the run.

    Attributes:
        name: the site's name, unique in the run.
        node_id: Flower's id of the node that runs it.
        patients: training patients; None where the site does not disclose its counts.
        windows: training windows; None likewise.
        source: the source of its rows.
        rule: the selection rule of its patients.
        step_minutes: length of its time steps.
        rank: rank of the adapter that it trains.
        unprotected_outputs: description of the outputs that its privacy guarantee does not cover;
            empty where there are none.
    """

    name: str
    node_id: int
    patients: int | None
    windows: int | None
    source: str
    rule: str
    step_minutes: int
    rank: int
    unprotected_outputs: str = ""


class SiteRegistry:
    """The sites that have joined so far.

    Args:
        config: the run's settings.
        backbone_digest: of the run's frozen backbone; a site with another is refused, since
            adapters of different backbones cannot be averaged.

    Attributes:
        members: the sites by name.
        refused: reason by site or node that was refused or failed.
        queried: the nodes that have been sent a join request.
    """

    def __init__(self, config: RunConfig, backbone_digest: str) -> None:
        self.config = config
        self.backbone_digest = backbone_digest
        self.members: dict[str, Member] = {}
        self.refused: dict[str, str] = {}
        self.queried: set[int] = set()

    def admit_all(self, replies: Sequence[JoinReply], present: Collection[int] = ()) -> None:
        """Admit several sites, or record why not.

        In the order of their names, so that the order of arrival does not matter. Sites with the
        most common step length come first: all sites must share one step length, and a single
        deviating site, under whatever name, must not exclude the others.

        Args:
            replies: of each site.
            present: see `admit`.
        """
        steps = Counter(_step_text(reply) for reply in replies)
        ordered = sorted(
            replies, key=lambda reply: (-steps[_step_text(reply)], reply.site, reply.node_id)
        )
        for reply in ordered:
            self.admit(reply.site, reply.node_id, reply.reported, present)

    def refuse(self, who: str, why: str) -> None:
        """Record why a site or a node is refused.

        Args:
            who: a site's name or a node.
            why: the reason; cut to one line, as parts of it may come from the node.
        """
        # Bounded: refusals are written to config.json, and nodes may come and go during a run.
        if who in self.refused or len(self.refused) < MOST_REFUSED:
            self.refused[who] = printable(why, _MAX_REASON)

    def admit(
        self, name: str, node_id: int, reported: Mapping[str, Any], present: Collection[int] = ()
    ) -> None:
        """Admit a site, or record why not.

        Args:
            name: the site's name.
            node_id: the node that runs it.
            reported: its untrusted facts.
            present: the nodes that are connected now. A site may return under a new node only where
                its old node is gone, so that no node can displace a site by taking its name.
        """
        if not is_site_name(name):
            self.refuse(f"a site of node {node_id}", "its name is not 1 to 64 of A-Z a-z 0-9 . _ -")
            return
        try:
            member = _member(name, node_id, reported)
        except (KeyError, TypeError, ValueError) as error:
            self.refuse(name, f"its join reply lacks or garbles {error}")
            return
        reason = self._reason_against(member, reported, present)
        if reason:
            self.refuse(name, reason)
        else:
            self.members[name] = member
            self.refused.pop(name, None)

    def names(self) -> list[str]:
        """Return the members' names, sorted: the order used everywhere."""
        return sorted(self.members)

    def weights(self, sites: Collection[str]) -> dict[str, float]:
        """Return the weights of some members by `federation.weights`."""
        fixed = self.config.federation.fixed_weights()
        if fixed:
            return {site: fixed[site] for site in sites}
        if self.config.weighting == "equal":
            return dict.fromkeys(sites, 1.0)
        return {site: float(self.members[site].patients or 0) for site in sites}

    def require(self, least: int) -> None:
        """Raise `FederationError` if fewer than `least` sites joined."""
        if len(self.members) < least:
            refused = "; ".join(
                f"{name}: {why}" for name, why in sorted(self.refused.items())[:MOST_SHOWN]
            )
            if len(self.refused) > MOST_SHOWN:
                refused += f"; and {len(self.refused) - MOST_SHOWN} more"
            raise FederationError(
                f"{len(self.members)} usable sites joined, the run needs {least} "
                f"(federation.min-sites); {refused or 'no other site replied'}"
            )

    def _reason_against(
        self, member: Member, reported: Mapping[str, Any], present: Collection[int]
    ) -> str:
        """The reason to refuse a site; empty where it may join."""
        known = self.members.get(member.name)
        if known is not None and (known.node_id in present or not present):
            return f"a second node calls itself {member.name}"
        digest = printable(str(reported.get("backbone-digest", "")))
        if digest != self.backbone_digest:
            return (
                f"its backbone has the digest {digest[:12]}, the run's "
                f"{self.backbone_digest[:12]}; install the same weights at both"
            )
        if reported.get("usable", True) is not True:
            return "no usable window; its stays are too short or too sparse for windows.*"
        if reason := step_refusal(member.step_minutes, self.config):
            return reason
        others = [other for name, other in self.members.items() if name != member.name]
        steps = {other.step_minutes for other in others}
        if steps and member.step_minutes not in steps:
            return f"its steps are {member.step_minutes} min, the others' {min(steps)} min"
        return self._reason_against_weight(member) or rank_refusal(member.rank, self.config)

    def _reason_against_weight(self, member: Member) -> str:
        fixed = self.config.federation.fixed_weights()
        if fixed and member.name not in fixed:
            return "federation.weights names no weight for it"
        if self.config.weighting != "patients":
            return ""
        if member.patients is None or member.windows is None:
            return "it keeps its counts, which federation.weights = patients needs; set equal"
        if not 1 <= member.patients <= min(member.windows, MOST_PATIENTS):
            return f"{member.patients} patients with {member.windows} windows is impossible"
        return ""


def _step_text(reply: JoinReply) -> str:
    return str(reply.reported.get("step-minutes"))


def _member(name: str, node_id: int, reported: Mapping[str, Any]) -> Member:
    return Member(
        name=name,
        node_id=node_id,
        patients=_count(reported, "patients", MOST_WINDOWS),
        windows=_count(reported, "windows", MOST_WINDOWS),
        source=_text(reported, "source"),
        rule=_text(reported, "rule"),
        step_minutes=_whole(reported, "step-minutes", STEP_MINUTES),
        rank=_whole(reported, "rank", range(1, MAX_RANK + 1)),
        unprotected_outputs=_text(reported, "outside") if "outside" in reported else "",
    )


def _count(reported: Mapping[str, Any], key: str, most: int) -> int | None:
    return _whole(reported, key, range(most + 1)) if key in reported else None


def _whole(reported: Mapping[str, Any], key: str, allowed: range) -> int:
    value = reported[key]
    # Not bool, which is an int to Python, and not a float, which could be NaN.
    if type(value) is not int or value not in allowed:
        raise ValueError(f"{key} (a whole number from {allowed[0]} to {allowed[-1]})")
    return value


def _text(reported: Mapping[str, Any], key: str) -> str:
    value = reported[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} (text)")
    return printable(value)
