r"""policy.toml: the allowlist of what may leave the site.

    [[bundles]]                            # app bundles that may run, by `python -m client approve`
    sha256 = "9f2c…"
    name = "fedvitals/fedvitals 0.1.0"     # more keys, and [approval]: `client.policy.approvals`
    study = "Vital signs in sepsis, ethics 2026-017"
    until = "2026-12-31"
    approved-by = "A. Meyer"
    approved-at = "2026-03-02T09:30:00+01:00"

    [adapter]
    tensors = '.*\.(q|k|v|o)\.lora_[AB]\.weight'   # each matrix's whole name
    max-rank = 16
    max-bytes = 2000000
    max-norm = 50.0                        # Euclidean, of all numbers together

    [metrics]                              # numbers of a round: name = decimals kept, or "exact"
    steps = "exact"
    "privacy.epsilon" = "exact"            # with privacy on, each round reports these seven
    "privacy.epsilon-rdp" = "exact"
    "privacy.delta" = "exact"
    "privacy.noise-multiplier" = "exact"
    "privacy.sample-rate" = "exact"
    "privacy.clip-norm" = "exact"
    "privacy.steps" = "exact"
    "validation.wql" = 4                   # this and patients: only if site.toml's allow names them
    patients = -1                          # to tens

    [join]                                 # what the site reports of itself when a run begins
    usable = "exact"
    rank = "exact"
    step-minutes = "exact"
    outside = "exact"                      # the names in site.toml's allow
    patients = -1
    source = "exact"
    rule = "exact"
    backbone-digest = "exact"
    texts = ["own data", "2e0f…"]          # the only texts that source, rule and digest may be

    [settings]                             # accepted values of a run's settings (`run_settings`)
    backbone = ["chronos-bolt-nano"]
    "lora.rank" = { min = 1, max = 16 }

    [limits]
    min-patients = 20
    rounds-per-day = 100                   # replies to train requests, within 24 hours
    evaluations-per-day = 20               # replies to evaluate requests
    joins-per-day = 20                     # replies to join requests
    errors-per-day = 50                    # error replies; then none

    [privacy]
    required = true                        # nothing leaves without a guarantee
    max-epsilon = 8.0                      # of one run
    max-delta = 1e-5
    budget-epsilon = 10.0                  # of all runs together, counted by the node
    budget-delta = 1e-5

    [statistics]                           # may be left out: then no statistics leave
    least-count = 10                       # fewest patients behind a count
    per-days = 30                          # days between two counts of the table
    epsilon = 0.5                          # noise in place of suppression, paid from the budget
    delta = 1e-5

The file is the site's: the researcher's app never sees it, and nothing in a run can change it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, PlainValidator, Strict, model_validator

from client.policy.approvals import ApprovalRules, ApprovedBundle
from client.policy.file_ownership import read_own_bytes
from client.policy.run_settings import Accepted, read_accepted
from common.config.error_line import fields_by_key
from common.config.field_types import (
    Count,
    DistinctTexts,
    Parsed,
    PositiveCount,
    PrivacyDelta,
    ZeroOr,
    invalid,
)
from common.config.strict_model import StrictModel, flatten
from common.config.toml import parse_toml, read_bytes
from common.data.statistics.reply import LEAST_EPSILON, LEAST_THRESHOLD, MOST_EPSILON
from common.errors import PolicyError, UsageError
from common.names import printable

EXACT = "exact"

_DECIMALS = range(-6, 16)
_METRIC_NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+){0,7}")


def _rounding(value: object) -> int | None:
    """Return the decimals kept; None = as it is."""
    if value in (EXACT, None):
        return None
    if type(value) is not int or value not in _DECIMALS:
        raise invalid(f'must be the decimals kept, {_DECIMALS[0]} to {_DECIMALS[-1]}, or "{EXACT}"')
    return value


def _exact(value: object) -> None:
    if value not in (EXACT, None):
        raise invalid(f'is not rounded: it must be "{EXACT}", or left out')


def _metric_names(metrics: dict[str, int | None]) -> dict[str, int | None]:
    for name in metrics:
        if not _METRIC_NAME.fullmatch(name):
            raise invalid("is not the name of a number; names are as in validation.wql", name)
    return metrics


def _pattern(text: str) -> re.Pattern[str]:
    if not text:
        raise UsageError("must not be empty")
    try:
        return re.compile(text, re.ASCII)
    except (re.error, OverflowError, RecursionError) as problem:  # of a count, of nested groups
        raise UsageError(f"is not a regular expression: {printable(problem)}") from None


def _name(key: str) -> str:
    return key.replace("-", "_")


Rounding = Annotated[int | None, PlainValidator(_rounding)]
Exact = Annotated[None, PlainValidator(_exact)]


class JoinSection(StrictModel):
    """`[join]`: everything that a site can report of itself; the policy chooses by naming it."""

    patients: Rounding = None
    windows: Rounding = None
    validation_windows: Rounding = None
    source: Exact = None
    rule: Exact = None
    backbone_digest: Exact = None
    usable: Exact = None
    rank: Exact = None
    step_minutes: Exact = None
    outside: Exact = None
    texts: DistinctTexts = ()


class StatisticsSection(StrictModel):
    """`[statistics]`: whether and how the node answers requests for statistics.

    Attributes:
        least_count: fewest patients behind a count that leaves, where no noise is added.
        per_days: fewest days between two counts of a table that changes.
        epsilon: of all counts of one answer; 0 = exact counts without small ones.
        delta: of that guarantee.
    """

    least_count: int = Field(ge=LEAST_THRESHOLD, le=1_000_000)
    per_days: int = Field(ge=1, le=3660)
    epsilon: Annotated[float, ZeroOr(LEAST_EPSILON, MOST_EPSILON)] = 0.0
    delta: PrivacyDelta = 1e-5


COUNT_FIELDS = ("patients", "windows", "validation-windows")
TEXT_FIELDS = ("source", "rule", "backbone-digest")
JOIN_FIELDS = tuple(key for key in fields_by_key(JoinSection) if key != "texts")


class Policy(StrictModel):
    """policy.toml, validated.

    Attributes:
        listed_bundles: the entries [[bundles]], in order; `bundles` has them by SHA-256.
        approval: requirements on every approval.
        tensor_name: pattern that the whole name of every matrix must match.
        max_rank: largest rank of an adapter.
        max_bytes: largest adapter, in bytes.
        max_norm: largest Euclidean norm of all its numbers together.
        metrics: numbers of a round that may leave, with the decimals kept; None = as they are.
        join_section: the section [join]; `join` and `texts` are its two parts.
        settings: accepted values of a run's settings, by key.
        min_patients: fewest training patients of a site that takes part.
        rounds_per_day: most replies to train requests within 24 hours.
        evaluations_per_day: most replies to evaluate requests.
        joins_per_day: most replies to join requests.
        errors_per_day: most error replies; after them the site does not reply.
        privacy_required: if true, a run without a guarantee is refused.
        max_epsilon: largest epsilon of a run.
        max_delta: largest delta of a run.
        budget_epsilon: budget of all runs together; 0 = no budget.
        budget_delta: delta of the budget.
        statistics: how requests for statistics are answered; None = they are refused.
    """

    listed_bundles: Annotated[tuple[ApprovedBundle, ...], Strict(False)] = Field(
        default=(), alias="bundles"
    )
    approval: ApprovalRules = Field(default_factory=ApprovalRules)
    tensor_name: Annotated[re.Pattern[str], Parsed(_pattern)] = Field(alias="adapter.tensors")
    max_rank: PositiveCount = Field(alias="adapter.max-rank")
    max_bytes: PositiveCount = Field(alias="adapter.max-bytes")
    max_norm: float = Field(alias="adapter.max-norm", ge=0)
    metrics: Annotated[dict[str, Rounding], AfterValidator(_metric_names)]
    join_section: JoinSection = Field(alias="join")
    settings: Annotated[dict[str, Accepted], PlainValidator(read_accepted)]
    min_patients: Count = Field(alias="limits.min-patients")
    rounds_per_day: Count = Field(alias="limits.rounds-per-day")
    evaluations_per_day: Count = Field(alias="limits.evaluations-per-day")
    joins_per_day: Count = Field(alias="limits.joins-per-day")
    errors_per_day: Count = Field(alias="limits.errors-per-day")
    privacy_required: bool = Field(alias="privacy.required")
    max_epsilon: float = Field(alias="privacy.max-epsilon", ge=0)
    max_delta: float = Field(alias="privacy.max-delta", ge=0)
    budget_epsilon: float = Field(default=0.0, alias="privacy.budget-epsilon", ge=0)
    budget_delta: PrivacyDelta = Field(default=1e-5, alias="privacy.budget-delta")
    statistics: StatisticsSection | None = None

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return flatten(values, ("adapter", "limits", "privacy"))

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        digests = [bundle.sha256 for bundle in self.listed_bundles]
        for index, digest in enumerate(digests):
            if digest in digests[:index]:
                raise invalid("is listed twice", f"bundles[{index}].sha256")
        if self.privacy_required and not self.budget_epsilon:
            raise invalid(
                "is missing: where privacy is required, all runs together need a budget, as 10.0",
                "privacy.budget-epsilon",
            )
        self._check_statistics()
        rounded = [one["patients"] for one in (self.metrics, self.join) if "patients" in one]
        if len(set(rounded)) > 1:
            raise invalid(
                "is rounded otherwise than join.patients; the server refuses a site that reports "
                "two numbers",
                "metrics.patients",
            )
        return self

    def _check_statistics(self) -> None:
        """Refuse exact statistics beside a guarantee, and noise that is weaker than it."""
        rules = self.statistics
        if rules is None or not (self.privacy_required or self.budget_epsilon):
            return
        if not rules.epsilon:
            raise invalid(
                "is missing: where privacy is required or has a budget, statistics need noise, "
                "as epsilon = 0.5",
                "statistics.epsilon",
            )
        if self.privacy_required:
            most = {"epsilon": self.max_epsilon, "delta": self.max_delta}
            for name, limit in most.items():
                if getattr(rules, name) > limit:
                    raise invalid(
                        f"must be at most privacy.max-{name}, {limit:g}, "
                        f"got {getattr(rules, name):g}",
                        f"statistics.{name}",
                    )

    @cached_property
    def bundles(self) -> Mapping[str, ApprovedBundle]:
        """The approved app bundles, by SHA-256; `refusal` gives the reason why one may not run."""
        return {bundle.sha256: bundle for bundle in self.listed_bundles}

    @cached_property
    def join(self) -> Mapping[str, int | None]:
        """Facts that the site may report of itself, with the decimals kept; None = as they are."""
        values = {key: getattr(self.join_section, _name(key)) for key in JOIN_FIELDS}
        named = self.join_section.model_fields_set
        return {key: value for key, value in values.items() if _name(key) in named}

    @property
    def texts(self) -> frozenset[str]:
        """The only texts that the site may report."""
        return frozenset(self.join_section.texts)

    def refusal(self, bundle: str, now: datetime) -> str | None:
        """Return why an app bundle may not run: not approved, expired, one approver, not signed.

        Args:
            bundle: SHA-256 of its bytes.
            now: the time, with its offset; to be checked anew for each message.

        Returns:
            The reason; None where it may run.
        """
        return self.approval.refusal(self.bundles.get(bundle), now)


def load_policy(path: Path) -> Policy:
    """Read policy.toml.

    Raises:
        PolicyError: it is missing or not TOML, a key is unknown or missing, or a value is invalid.
            A site without a policy sends nothing, so a node does not start without one.
    """
    return _parse_policy(read_bytes(path, PolicyError), path)


def _parse_policy(data: bytes, path: Path) -> Policy:
    return Policy.load(parse_toml(data, path, PolicyError), PolicyError, str(path))


class PolicyFile:
    """The current policy, read again whenever the file has changed.

    An approval or a withdrawal holds from the next message on, without a restart.

    Args:
        path: policy.toml.
        own: refuse a file that another user could change or replace, as the node does.

    Raises:
        PolicyError: as `load_policy`, here and from every later `current`.
    """

    def __init__(self, path: Path, *, own: bool = False) -> None:
        self._path = path
        self._own = own
        self._stamp: tuple[int, ...] | None = None
        self._policy = self._load()

    def current(self) -> Policy:
        """Return the policy; raise where the file is gone or damaged."""
        try:
            status = self._path.stat(follow_symlinks=not self._own)
        except OSError as problem:
            self._stamp = None
            raise PolicyError(f"{self._path} cannot be read: {problem.strerror}") from problem
        stamp = (
            *(status.st_mtime_ns, status.st_ctime_ns, status.st_size),
            *(status.st_ino, status.st_mode, status.st_uid),
        )
        if stamp != self._stamp:
            self._stamp = None
            self._policy = self._load()
            self._stamp = stamp
        return self._policy

    def _load(self) -> Policy:
        if not self._own:
            return load_policy(self._path)
        return _parse_policy(read_own_bytes(self._path, "site.policy", PolicyError), self._path)
