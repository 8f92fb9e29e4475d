r"""policy.toml: what may leave the site. What it does not name stays.

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
    "privacy.epsilon" = "exact"            # with privacy on, these seven come with each round
    "privacy.epsilon-rdp" = "exact"
    "privacy.delta" = "exact"
    "privacy.noise-multiplier" = "exact"
    "privacy.sample-rate" = "exact"
    "privacy.clip-norm" = "exact"
    "privacy.steps" = "exact"
    "validation.wql" = 4                   # this and patients: only if site.toml's allow names them
    patients = -1                          # to tens

    [join]                                 # what the site says of itself when a run begins
    usable = "exact"
    rank = "exact"
    step-minutes = "exact"
    outside = "exact"                      # what site.toml's allow names
    patients = -1
    source = "exact"
    rule = "exact"
    backbone-digest = "exact"
    texts = ["own data", "2e0f…"]          # the only words that source, rule and digest may be

    [settings]                             # what a run's settings may be (`run_settings`)
    backbone = ["chronos-bolt-nano"]
    "lora.rank" = { min = 1, max = 16 }

    [limits]
    min-patients = 20
    rounds-per-day = 100                   # answers to train, within 24 hours
    evaluations-per-day = 20               # answers to evaluate
    joins-per-day = 20                     # answers of a site that is asked to join
    errors-per-day = 50                    # errors in an answer's place; then silence

    [privacy]
    required = true                        # without a guarantee nothing leaves
    max-epsilon = 8.0                      # of one run
    max-delta = 1e-5
    budget-epsilon = 10.0                  # of all runs together, counted by the node
    budget-delta = 1e-5

The file is the site's: the researcher's app never sees it, and nothing in a run can change it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from client.policy.approvals import ApprovalRules, Bundle, read_bundles, read_rules
from client.policy.file_ownership import read_own_bytes
from client.policy.run_settings import Accepted, read_accepted
from common.config.toml import TomlTable, parse_toml, read_toml
from common.errors import PolicyError

EXACT = "exact"
COUNT_FIELDS = ("patients", "windows", "validation-windows")
TEXT_FIELDS = ("source", "rule", "backbone-digest")
JOIN_FIELDS = (*COUNT_FIELDS, *TEXT_FIELDS, "usable", "rank", "step-minutes", "outside")
"""All that a site can say of itself; the policy chooses from it."""

SECTIONS = ("adapter", "metrics", "join", "settings", "limits", "privacy")
DAILY_LIMITS = ("rounds-per-day", "evaluations-per-day", "joins-per-day", "errors-per-day")

MAX_TEXT = 200
_DECIMALS = range(-6, 16)
_METRIC_NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+){0,7}")


@dataclass(frozen=True)
class Policy:
    """policy.toml, checked.

    Attributes:
        bundles: the app bundles that were approved, by SHA-256; `refusal` says which may run.
        approval: what an approval must have.
        tensor_name: what the name of every matrix must match as a whole.
        max_rank: largest rank of an adapter.
        max_bytes: largest adapter, in bytes.
        max_norm: largest Euclidean norm of all its numbers together.
        metrics: numbers of a round that may leave, with the decimals kept; None = as they are.
        join: what the site may say of itself, likewise.
        texts: the only texts that may stand in it.
        settings: the values that the site accepts of a run's settings, by key.
        min_patients: fewest training patients of a site that takes part.
        rounds_per_day: most answers to train within 24 hours.
        evaluations_per_day: most answers to evaluate.
        joins_per_day: most answers to the question what the site brings.
        errors_per_day: most errors in an answer's place; after them the site is silent.
        privacy_required: whether a run without a guarantee is refused.
        max_epsilon: largest epsilon of a run.
        max_delta: largest delta of a run.
        budget_epsilon: of all runs together; 0 = no budget.
        budget_delta: the delta at which the budget counts.
    """

    bundles: Mapping[str, Bundle]
    approval: ApprovalRules
    tensor_name: re.Pattern[str]
    max_rank: int
    max_bytes: int
    max_norm: float
    metrics: Mapping[str, int | None]
    join: Mapping[str, int | None]
    texts: frozenset[str]
    settings: Mapping[str, Accepted]
    min_patients: int
    rounds_per_day: int
    evaluations_per_day: int
    joins_per_day: int
    errors_per_day: int
    privacy_required: bool
    max_epsilon: float
    max_delta: float
    budget_epsilon: float
    budget_delta: float

    def refusal(self, bundle: str, now: datetime) -> str | None:
        """Say why an app bundle may not run: not approved, expired, not by two, not signed.

        Args:
            bundle: SHA-256 of its bytes.
            now: the moment, with its offset; to be asked anew for each message.

        Returns:
            The reason, in words; None where it may run.
        """
        return self.approval.refusal(self.bundles.get(bundle), now)


def load_policy(path: Path) -> Policy:
    """Read policy.toml.

    Raises:
        PolicyError: it is missing or not TOML, a key is unknown or missing, or a value cannot be.
            A site without a policy sends nothing, so a node does not start without one.
    """
    return parse_policy(TomlTable(read_toml(path, PolicyError), str(path), "", PolicyError))


def parse_policy(file: TomlTable) -> Policy:
    """Return the policy that a parsed policy.toml holds; errors as `load_policy`."""
    file.only(("approval", "bundles", *SECTIONS))
    for section in SECTIONS:
        if section not in file:
            raise file.wrong(section, "is missing; what it does not allow stays at the site")
    adapter, limits, privacy = (file.table(name) for name in ("adapter", "limits", "privacy"))
    adapter.only(("tensors", "max-rank", "max-bytes", "max-norm"))
    limits.only(("min-patients", *DAILY_LIMITS))
    rounds, evaluations, joins, errors = (limits.whole(name) for name in DAILY_LIMITS)
    required, budget = privacy.flag("required"), _budget(privacy)
    if required and not budget[0]:
        raise privacy.wrong(
            "budget-epsilon",
            "is missing: where privacy is required, all runs together need a budget, as 10.0",
        )
    metrics, join, texts = _metrics(file.table("metrics")), *_join(file.table("join"))
    if "patients" in metrics and "patients" in join and metrics["patients"] != join["patients"]:
        raise file.wrong(
            "metrics.patients",
            "is rounded otherwise than join.patients; the server "
            "turns a site away that gives two numbers",
        )
    return Policy(
        bundles=read_bundles(file.tables("bundles")),
        approval=read_rules(file.table("approval")),
        tensor_name=_pattern(adapter, "tensors"),
        max_rank=adapter.whole("max-rank", least=1),
        max_bytes=adapter.whole("max-bytes", least=1),
        max_norm=adapter.number("max-norm"),
        metrics=metrics,
        join=join,
        texts=texts,
        settings=read_accepted(file.table("settings")),
        min_patients=limits.whole("min-patients"),
        rounds_per_day=rounds,
        evaluations_per_day=evaluations,
        joins_per_day=joins,
        errors_per_day=errors,
        privacy_required=required,
        max_epsilon=privacy.number("max-epsilon"),
        max_delta=privacy.number("max-delta"),
        budget_epsilon=budget[0],
        budget_delta=budget[1],
    )


class PolicyFile:
    """The policy as it stands now: read again whenever the file has changed.

    So an approval or a withdrawal holds from the next message on, without a restart.

    Args:
        path: policy.toml.
        own: whether to refuse a file that another user could change or exchange, as the node does.

    Raises:
        PolicyError: as `load_policy`, here and from every later `current`.
    """

    def __init__(self, path: Path, *, own: bool = False) -> None:
        self._path = path
        self._own = own
        self._stamp: tuple[int, ...] | None = None
        self._policy = self._load()

    def current(self) -> Policy:
        """Return the policy; raise where the file has gone or is damaged by now."""
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
        data = read_own_bytes(self._path, "site.policy", PolicyError)
        return parse_policy(
            TomlTable(parse_toml(data, self._path, PolicyError), str(self._path), "", PolicyError)
        )


def _budget(privacy: TomlTable) -> tuple[float, float]:
    """Return epsilon, 0 where there is no budget, and delta of all runs together."""
    privacy.only(("required", "max-epsilon", "max-delta", "budget-epsilon", "budget-delta"))
    epsilon, delta = privacy.number("budget-epsilon", 0.0), privacy.number("budget-delta", 1e-5)
    if not 0 < delta < 1:
        raise privacy.wrong("budget-delta", f"must lie between 0 and 1, got {delta:g}")
    return epsilon, delta


def _pattern(table: TomlTable, key: str) -> re.Pattern[str]:
    text = table.text(key)
    try:
        return re.compile(text, re.ASCII)
    except re.error as problem:
        raise table.wrong(key, f"is not a regular expression: {problem}") from None


def _metrics(table: TomlTable) -> dict[str, int | None]:
    for name in table.keys:
        if not _METRIC_NAME.fullmatch(name):
            raise table.wrong(name, "is no name of a number; names are as in validation.wql")
    return {name: _decimals(table, name) for name in table.keys}


def _join(table: TomlTable) -> tuple[dict[str, int | None], frozenset[str]]:
    table.only((*JOIN_FIELDS, "texts"))
    texts = table.texts("texts", ())
    if any(len(text) > MAX_TEXT or not text.isprintable() for text in texts):
        raise table.wrong("texts", f"must be printable, of at most {MAX_TEXT} characters each")
    fields = [name for name in table.keys if name != "texts"]
    for name in fields:
        if name not in COUNT_FIELDS and table.raw(name) != EXACT:
            raise table.wrong(name, f'is not rounded: it must be "{EXACT}", or left out')
    return {name: _decimals(table, name) for name in fields}, frozenset(texts)


def _decimals(table: TomlTable, key: str) -> int | None:
    value = table.raw(key)
    if value == EXACT:
        return None
    if type(value) is not int or value not in _DECIMALS:
        raise table.wrong(
            key, f'must be the decimals kept, {_DECIMALS[0]} to {_DECIMALS[-1]}, or "{EXACT}"'
        )
    return value
