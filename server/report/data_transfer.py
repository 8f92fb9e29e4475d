"""The sections of what was exchanged: bytes, what left each site, and what was refused."""

from __future__ import annotations

from common.reporting.components import Bar, Part, Row, Section, Table, drawn, short
from common.reporting.phrasing import VITAL_LABELS, byte_size
from server.runs.run_reader import RunRecord, Traffic

_FULL = """\
Full fine-tuning would have sent the whole backbone in float32 (4 bytes a parameter) in the place of
each adapter, in as many messages."""

_STAYS = """\
No row of a site table, no measured value, time, or identifier of a patient is among them. An error
at a site is told by its type alone. This is the list of what the program sends, not a guarantee
that nothing of a patient can be inferred from it: adapters, counts and scores are functions of the
data, and the validation score of a site with a handful of validation patients is nearly theirs."""

MOST_NAMES = 1000
"""Characters of the names in one row: a site may report every metric of every vital sign."""

MOST_REFUSALS = 200
"""Rows of the table of refused replies; rounds.jsonl has them all."""


def exchange_section(record: RunRecord) -> Section:
    """Return the section of bytes and of what left each site."""
    volume = _volume(record.traffic())
    left = Table(
        "The whole list",
        ["When", "What, and by which name in the message"],
        [Row(when, [_by_name(what, name)]) for when, what, name in _what_left(record)],
        text=True,
    )
    per_site = Part(
        "What left each site",
        tables=[left, _site_bytes(record)],
        folded_title="The adapter's matrices by name",
        folded=[_matrices(record)],
        notes=[_STAYS],
    )
    return Section("exchange", "What was exchanged", [volume, per_site])


def refusals_section(record: RunRecord) -> Section | None:
    """Return the section of refused sites and replies; None where nothing was refused."""
    refusals = record.refusals()
    if not refusals:
        return None
    rows = [
        Row(
            short(refusal.site),
            [
                "before the first" if refusal.round is None else str(refusal.round),
                short(refusal.reason),
            ],
        )
        for refusal in refusals[:MOST_REFUSALS]
    ]
    hidden = len(refusals) - len(rows)
    intro = (
        "Of a refused reply nothing is used; the round goes on without the site as long as "
        "federation.min-sites others answered."
    )
    notes = [f"{hidden} more stand in rounds.jsonl."] if hidden else []
    table = Table("Refused sites and replies", ["Site", "Round", "Reason"], rows, text=True)
    return Section("refused", "Refused replies", [Part("", [intro], tables=[table], notes=notes)])


def _volume(traffic: Traffic) -> Part:
    if not traffic.messages:
        return Part(paragraphs=["No adapter was sent."])
    sentence = (
        f"{traffic.messages:,} adapters were sent, one a message: "
        f"{byte_size(traffic.to_sites)} to the sites and {byte_size(traffic.from_sites)} from them."
    )
    ours = Bar(f"Adapters, as sent: {byte_size(traffic.total)}", 100.0, ours=True)
    if not traffic.full:
        return Part(paragraphs=[sentence], bars=[ours])
    share = traffic.total / traffic.full
    longest = max(1.0, share)
    return Part(
        paragraphs=[
            f"{sentence} That is {share:.2%} of what full fine-tuning would have sent.".replace(
                "%", "\u00a0%"
            )
        ],
        bars=[
            Bar(ours.label, 100 * share / longest, ours=True),
            Bar(f"Full fine-tuning: {byte_size(traffic.full)}", 100 / longest),
        ],
        notes=[_FULL],
    )


def _what_left(record: RunRecord) -> list[tuple[str, str, str]]:
    """When, what in words, and under which names in the message."""
    config = record.resolved
    adapter = record.adapter
    matrices = len(adapter.modules) * (2 if config.trained == "ab" else 1)
    which = "A and B of every layer" if config.trained == "ab" else "B of every layer alone"
    counts, count_names = _joined(record)
    rows = [
        (
            "On joining",
            f"The site's name, {counts}whether it has training windows, its source and cohort "
            "rule, the length of its time steps, the rank of its adapter, the digest of its frozen "
            "backbone, what it sends outside a privacy guarantee, and how many simulated nodes "
            "there are.",
            f"{count_names}usable, source, rule, step-minutes, rank, backbone-digest, outside, "
            "nodes",
        ),
        (
            "Each round",
            f"The adapter after local training: {matrices} matrices ({which}) in "
            f"{config.wire.dtype}.",
            "adapter",
        ),
        ("Each round", "The site, the round and the run that the reply belongs to.", "round"),
    ]
    rows += [("Each round", f"Its {words}.", name) for name, words in _numbers(record)]
    if names := record.reported("validation"):
        words = f"Validation of the adapter that it received: {_validation_words(names)}."
        rows.append(("Each round", words, _named("validation", names)))
    if names := record.reported("seconds"):
        parts = ", ".join(short(name) for name in names)
        words = f"Seconds that it took, by part: {parts}."
        rows.append(("Each round", words, _named("seconds", names)))
    if names := record.reported("privacy"):
        words = "What its privacy guarantee is; it depends on no patient."
        rows.append(("Each round", words, _named("privacy", names)))
    return rows


def _by_name(what: str, name: str) -> str:
    return drawn("{}<br><code>{}</code>", what, name)


def _named(group: str, names: list[str]) -> str:
    """The names of a group as a site's policy calls them."""
    return short(", ".join(f"{group}.{name}" for name in names), MOST_NAMES)


def _joined(record: RunRecord) -> tuple[str, str]:
    """The counts that sites told on joining, and their names; those of a private run keep them."""
    if any(site.get("patients") is None for site in record.sites.values()):
        return "", ""
    return (
        "its numbers of training patients, training windows and validation windows, ",
        "patients, windows, validation-windows, ",
    )


_NUMBERS = {
    "steps": "number of optimiser steps",
    "patients": "number of training patients",
    "windows": "number of training windows",
    "loss": "mean training loss",
}


def _numbers(record: RunRecord) -> list[tuple[str, str]]:
    """The single numbers that any site told in any round, by name and in words."""
    entries = [entry for line in record.rounds for entry in line.get("sites", {}).values()]
    return [
        (name, words)
        for name, words in _NUMBERS.items()
        if any(entry.get(name) is not None for entry in entries)
    ]


def _matrices(record: RunRecord) -> Table:
    """The layers with the shapes of their matrices; B alone travels where A is frozen."""
    adapter = record.adapter
    travelling = ("A", "B") if record.trained == "ab" else ("B",)
    rows = []
    for module in adapter.modules:
        shapes = dict(
            zip(("A", "B"), (matrix.shape for matrix in adapter.pair(module)), strict=True)
        )
        rows.append(Row(module, [" x ".join(map(str, shapes[factor])) for factor in travelling]))
    header = ["Layer", *(f"{factor}, rows x columns" for factor in travelling)]
    return Table(f"{len(rows)} layers of the released adapter", header, rows)


def _validation_words(names: list[str]) -> str:
    """Return reported metrics by name, with the vitals of each."""
    overall = [name for name in names if "." not in name]
    by_metric: dict[str, list[str]] = {}
    for name in names:
        metric, _, vital = name.partition(".")
        if vital:
            by_metric.setdefault(metric, []).append(VITAL_LABELS.get(vital, vital).lower())
    parts = [f"{short(name.upper())} in the mean over vital signs" for name in overall]
    for metric, vitals in by_metric.items():
        which = "every vital sign" if len(vitals) == len(VITAL_LABELS) else ", ".join(vitals)
        parts.append(f"{short(metric.upper())} of {short(which)}")
    return "; ".join(parts)


def _site_bytes(record: RunRecord) -> Table:
    rows = []
    for site in record.sites:
        entries = [r["sites"][site] for r in record.rounds if site in r.get("sites", {})]
        sent = [int(entry.get("bytes_received", 0)) for entry in entries]
        seconds = sum(sum(entry.get("seconds", {}).values()) for entry in entries)
        rows.append(
            Row(
                short(site),
                [
                    str(sum(size > 0 for size in sent)),
                    byte_size(sum(sent)),
                    str(sum("refused" in entry for entry in entries)),
                    f"{seconds:,.1f}",
                ],
            )
        )
    header = ["Site", "Adapters sent", "Bytes sent", "Replies refused", "Seconds of work"]
    return Table("Per site, over the whole run", header, rows)
