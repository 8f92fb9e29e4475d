"""A run folder as read for the model card and the report.

Any value that a site sends may be absent: a site may be refused in a round, have no validation
patients, or drop out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.adapter.adapter import Adapter
from common.backbones.catalog import CATALOG
from common.config.run_config import RunConfig
from common.errors import FederationError
from common.names import natural_order
from server.runs.run_folder import EVALUATION_FILE, read_rounds, read_run_config

BYTES_PER_PARAMETER = 4
"""Bytes per parameter of the backbone that full fine-tuning would send, in float32."""

_PATHS = frozenset({"backbone", "data", "out"})

Curve = list[tuple[int, float]]
"""Points (round, value) in order of the rounds."""


@dataclass(frozen=True)
class Refusal:
    """Refusal of a site or of its reply in a round.

    Attributes:
        round: the round; None where the site was refused before the first.
        site: its name.
        reason: the reason.
    """

    round: int | None
    site: str
    reason: str


@dataclass(frozen=True)
class Traffic:
    """Bytes sent, and bytes that full fine-tuning would have sent in the same messages.

    Attributes:
        to_sites: bytes of adapters sent to sites.
        from_sites: bytes of adapters received from sites.
        messages: adapters sent in either direction.
        full: bytes of as many copies of the whole backbone in float32.
    """

    to_sites: int
    from_sites: int
    messages: int
    full: int

    @property
    def total(self) -> int:
        """Bytes of adapters in both directions."""
        return self.to_sites + self.from_sites


@dataclass(frozen=True)
class RunRecord:
    """Content of a run folder.

    Attributes:
        adapter: the released adapter.
        best_round: the round that produced it; 0 is the untrained one.
        config: config.json.
        rounds: the lines of rounds.jsonl.
        evaluation: evaluation.json; None before an evaluation.
    """

    adapter: Adapter
    best_round: int
    config: dict[str, Any]
    rounds: list[dict[str, Any]] = field(default_factory=list)
    evaluation: dict[str, Any] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The run's settings as flat pairs."""
        return dict(self.config.get("settings", {}))

    @property
    def public_settings(self) -> dict[str, Any]:
        """The settings without the paths of the coordinator's machine."""
        shown = {key: value for key, value in self.settings.items() if key not in _PATHS}
        return {"backbone": self.backbone_name, **shown}

    @property
    def origin_settings(self) -> dict[str, Any]:
        """Settings written into the released adapter: without paths, with the time step."""
        steps = {site["step_minutes"] for site in self.sites.values() if "step_minutes" in site}
        shown = {key: value for key, value in self.settings.items() if key not in _PATHS}
        return shown | ({"step_minutes": min(steps)} if steps else {})

    @property
    def backbone(self) -> dict[str, Any]:
        """Name, family, digest and number of parameters of the frozen backbone."""
        return dict(self.config.get("backbone", {}))

    @property
    def backbone_name(self) -> str:
        """The backbone's name; of a folder only its last part, since paths stay private."""
        name = str(self.backbone.get("name", self.adapter.backbone))
        return name if name in CATALOG else Path(name).name

    @property
    def private(self) -> bool:
        """True if the run has differential privacy."""
        keys = ("privacy.epsilon", "privacy.noise-multiplier")
        return any(float(self.settings.get(key, 0.0)) > 0 for key in keys)

    @property
    def trained(self) -> str:
        """The trained matrices: ``ab`` or ``b``."""
        return self.resolved.trained

    @property
    def resolved(self) -> RunConfig:
        """The settings with each auto resolved."""
        return RunConfig.parse(self.settings)

    @property
    def sites(self) -> dict[str, dict[str, Any]]:
        """Facts of each site when it joined, in `natural_order` of the names."""
        return by_name(self.config.get("sites", {}))

    @property
    def step_minutes(self) -> int:
        """Length of a time step in minutes; the sites of a run share it."""
        return next((int(site["step_minutes"]) for site in self.sites.values()), 60)

    @property
    def trained_rounds(self) -> int:
        """Number of rounds that ended with a new global adapter."""
        return sum(bool(record.get("trained")) and "failed" not in record for record in self.rounds)

    def validation_curve(self, site: str | None = None) -> Curve:
        """Return the validation WQL of a site, or the weighted mean, by round of the adapter."""
        points: dict[int, float] = {}
        for record in self.rounds:
            if site is None:
                value = record.get("validation_wql")
            else:
                value = _entry(record, site).get("validation", {}).get("wql")
            if value is not None:
                points[int(record["validated_round"])] = float(value)
        return sorted(points.items())

    def loss_curve(self, site: str) -> Curve:
        """Return a site's mean training loss by round."""
        entries = ((record, _entry(record, site)) for record in self.rounds)
        return [
            (int(record["round"]), float(entry["loss"]))
            for record, entry in entries
            if record.get("trained") and entry.get("steps") and entry.get("loss") is not None
        ]

    def refusals(self) -> list[Refusal]:
        """Return the refusals: of sites before the first round, then of replies by round."""
        at_joining = by_name(self.config.get("sites_refused", {})).items()
        refused = [Refusal(None, site, str(reason)) for site, reason in at_joining]
        for record, site, entry in self._entries():
            if "refused" in entry:
                refused.append(Refusal(int(record["round"]), site, str(entry["refused"])))
        return refused

    def traffic(self) -> Traffic:
        """Return the bytes of all rounds, refused adapters included."""
        sizes = [
            (int(entry.get("bytes_sent", 0)), int(entry.get("bytes_received", 0)))
            for _, _, entry in self._entries()
        ]
        messages = sum((sent > 0) + (received > 0) for sent, received in sizes)
        copy = BYTES_PER_PARAMETER * int(self.backbone.get("parameters", 0))
        return Traffic(
            to_sites=sum(sent for sent, _ in sizes),
            from_sites=sum(received for _, received in sizes),
            messages=messages,
            full=messages * copy,
        )

    def reported(self, key: str) -> list[str]:
        """Return the names that sites reported below `key`, e.g. ``validation``, sorted."""
        return sorted({name for _, _, entry in self._entries() for name in entry.get(key, {})})

    def _entries(self) -> Iterator[tuple[dict[str, Any], str, dict[str, Any]]]:
        for record in self.rounds:
            for site, entry in by_name(record.get("sites", {})).items():
                yield record, site, entry


def read_run_record(folder: Path, adapter: Adapter, best_round: int | None = None) -> RunRecord:
    """Read a run folder.

    Args:
        folder: the folder.
        adapter: its released adapter.
        best_round: the adapter's round; the best round of rounds.jsonl when None.

    Raises:
        FederationError: the folder holds no run, or one of its files is damaged.
    """
    rounds = read_rounds(folder)
    if best_round is None:
        best_round = int(rounds[-1]["best_round"]) if rounds else 0
    return RunRecord(adapter, best_round, read_run_config(folder), rounds, _read_evaluation(folder))


def by_name(sites: Mapping[str, Any]) -> dict[str, Any]:
    """Return entries by site, in `common.names.natural_order` of the sites' names."""
    return {site: sites[site] for site in sorted(sites, key=natural_order)}


def _read_evaluation(folder: Path) -> dict[str, Any] | None:
    path = folder / EVALUATION_FILE
    if not path.is_file():
        return None
    try:
        evaluation: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FederationError(
            f"{path} cannot be read: {error}; remove it and evaluate again"
        ) from error
    by_site = ("sites", "data")
    return evaluation | {key: by_name(evaluation[key]) for key in by_site if key in evaluation}


def _entry(record: dict[str, Any], site: str) -> dict[str, Any]:
    entry: dict[str, Any] = record.get("sites", {}).get(site, {})
    return entry
