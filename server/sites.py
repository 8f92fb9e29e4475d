"""The sites of a run: who joined, what each brings, and who was turned away and why."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.errors import FederationError, UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_MAX_TEXT = 200


@dataclass(frozen=True)
class Member:
    """A site that takes part.

    Attributes:
        name: the site's name, unique in the run.
        node_id: Flower's id of the node that answers for it.
        patients: training patients.
        windows: training windows.
        source: where its rows come from.
        rule: how its patients were chosen.
        step_minutes: length of its time steps.
    """

    name: str
    node_id: int
    patients: int
    windows: int
    source: str
    rule: str
    step_minutes: int


class Membership:
    """The sites that joined so far.

    Args:
        backbone_digest: of the run's frozen backbone; a site whose own differs is turned away,
            since averaging adapters of different bases means nothing.
        failures: nodes that did not answer, with the reason.
    """

    def __init__(self, backbone_digest: str, failures: Mapping[str, str] | None = None) -> None:
        self.backbone_digest = backbone_digest
        self.members: dict[str, Member] = {}
        self.refused: dict[str, str] = dict(failures or {})

    def admit(self, name: str, node_id: int, said: Mapping[str, Any]) -> None:
        """Take a site in, or note why not.

        Args:
            name: the site's name.
            node_id: the node that answers for it.
            said: what it said of itself; nothing of it is taken on trust.
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
        reason = self._reason_against(member, str(said.get("backbone-digest", "")))
        if reason:
            self.refused[name] = reason
        else:
            self.members[name] = member

    def names(self) -> list[str]:
        """The members' names in the one order that everything uses."""
        return sorted(self.members)

    def require(self, least: int) -> None:
        """Raise `FederationError` where fewer than `least` sites joined."""
        if len(self.members) < least:
            refused = "; ".join(f"{name}: {why}" for name, why in sorted(self.refused.items()))
            raise FederationError(
                f"{len(self.members)} usable sites joined, the run needs {least} "
                f"(federation.min-sites); {refused or 'no other site answered'}"
            )

    def _reason_against(self, member: Member, digest: str) -> str:
        if member.name in self.members:
            return f"a second node calls itself {member.name}"
        if digest != self.backbone_digest:
            return (
                f"its backbone has the digest {digest[:12]}, the run's "
                f"{self.backbone_digest[:12]}; install the same weights at both"
            )
        if member.windows < 1 or member.patients < 1:
            return "no usable window; its stays are too short or too sparse for windows.*"
        steps = {other.step_minutes for other in self.members.values()}
        if steps and member.step_minutes not in steps:
            return f"its steps are {member.step_minutes} min, the others' {min(steps)} min"
        return ""


def check_site_name(name: str) -> None:
    """Refuse a name under which no site could join, with `UsageError`."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"a site's name is 1 to 64 of A-Z a-z 0-9 . _ -, got {name!r}")


def _member(name: str, node_id: int, said: Mapping[str, Any]) -> Member:
    return Member(
        name=name,
        node_id=node_id,
        patients=int(said["patients"]),
        windows=int(said["windows"]),
        source=_line(said["source"]),
        rule=_line(said["rule"]),
        step_minutes=int(said["step-minutes"]),
    )


def _line(text: object) -> str:
    """Return a site's text as one printable line of bounded length: it ends in our artefacts."""
    return "".join(c if c.isprintable() else "?" for c in str(text))[:_MAX_TEXT]
