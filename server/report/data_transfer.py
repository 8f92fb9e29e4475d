"""Data transfer sections: bytes exchanged, what left each site, and refused replies."""

from __future__ import annotations

from common.reporting.cells import shown_as
from common.reporting.components import Bar, Part, Row, Section, Table, raw_html
from common.reporting.phrasing import NO_BREAK, VITAL_LABELS, byte_size, clean_line
from server.runs.run_reader import RunRecord, Traffic

_FULL_FINE_TUNING = """\
Full fine-tuning would have sent the whole backbone in float32 (4 bytes a parameter) in place of
each adapter, in the same number of messages."""

_WHAT_STAYED = """\
The list contains no row of a site table, no measured value, no time, and no patient identifier. An
error at a site is reported by its type alone. This is the list of what the program sends, not a
guarantee that nothing about a patient can be inferred from it: adapters, counts and scores are
functions of the data, and the validation score of a site with only a few validation patients
reveals almost as much as theirs."""

_REFUSED = """\
A refused reply is not used at all. The round continues without the site as long as at least
federation.min-sites others replied."""

MOST_NAMES = 1000
"""Characters of the names in one row: a site may report every metric of every vital sign."""

MOST_REFUSALS = 200
"""Rows of the table of refused replies; rounds.jsonl has them all."""


def data_transfer_section(record: RunRecord) -> Section:
    """Return the section of the bytes exchanged and of what left each site."""
    left = Table(
        "Complete list",
        ["When", "What, with its name in the message"],
        [Row(when, [_with_name(what, name)]) for when, what, name in _what_left(record)],
        text=True,
    )
    per_site = Part(
        "What left each site",
        tables=[left, _site_bytes(record)],
        folded_title="The adapter's matrices by name",
        folded=[_matrices(record)],
        notes=[_WHAT_STAYED],
    )
    return Section("exchange", "What was exchanged", [_volume(record.traffic()), per_site])


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
    of_full = f"{share:.2%}".replace("%", f"{NO_BREAK}%")
    longest = max(1.0, share)
    return Part(
        paragraphs=[f"{sentence} That is {of_full} of what full fine-tuning would have sent."],
        bars=[
            Bar(ours.label, 100 * share / longest, ours=True),
            Bar(f"Full fine-tuning: {byte_size(traffic.full)}", 100 / longest),
        ],
        notes=[_FULL_FINE_TUNING],
    )


def _what_left(record: RunRecord) -> list[tuple[str, str, str]]:
    """Return every item with when it was sent, its description, and its names in the message."""
    config = record.resolved
    matrices = len(record.adapter.modules) * (2 if config.trained == "ab" else 1)
    which = "A and B of every layer" if config.trained == "ab" else "B of every layer"
    counts, count_names = _counts_on_joining(record)
    items = [
        (
            "On joining",
            f"The site's name, {counts}whether it has training windows, its source and cohort "
            "rule, the length of its time steps, the rank of its adapter, the digest of its frozen "
            "backbone, what it sends outside a privacy guarantee, and the number of simulated "
            "nodes.",
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
    items += [("Each round", f"The {words}.", name) for name, words in _numbers(record)]
    if names := record.reported("validation"):
        words = f"Validation of the adapter that it received: {_validation_words(names)}."
        items.append(("Each round", words, _named("validation", names)))
    if names := record.reported("seconds"):
        parts = ", ".join(clean_line(name) for name in names)
        words = f"Seconds of work, by part: {parts}."
        items.append(("Each round", words, _named("seconds", names)))
    if names := record.reported("privacy"):
        words = "Its privacy guarantee, which depends on no patient."
        items.append(("Each round", words, _named("privacy", names)))
    return items


def _counts_on_joining(record: RunRecord) -> tuple[str, str]:
    """Return the counts that sites report on joining, and their names; none in a private run."""
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
    """Return the single numbers that any site reported in any round, by name and in words."""
    entries = [entry for line in record.rounds for entry in line.get("sites", {}).values()]
    return [
        (name, words)
        for name, words in _NUMBERS.items()
        if any(entry.get(name) is not None for entry in entries)
    ]


def _validation_words(names: list[str]) -> str:
    """Return reported metrics in words, with the vitals of each."""
    overall = [name for name in names if "." not in name]
    by_metric: dict[str, list[str]] = {}
    for name in names:
        metric, _, vital = name.partition(".")
        if vital:
            by_metric.setdefault(metric, []).append(VITAL_LABELS.get(vital, vital).lower())
    parts = [f"{clean_line(name.upper())} in the mean over vital signs" for name in overall]
    for metric, vitals in by_metric.items():
        which = "every vital sign" if len(vitals) == len(VITAL_LABELS) else ", ".join(vitals)
        parts.append(f"{clean_line(metric.upper())} of {clean_line(which)}")
    return "; ".join(parts)


def _named(group: str, names: list[str]) -> str:
    """Return the names of a group as in a site's egress policy."""
    return clean_line(", ".join(f"{group}.{name}" for name in names), MOST_NAMES)


def _with_name(what: str, name: str) -> str:
    return raw_html("{}<br><code>{}</code>", what, name)


def _site_bytes(record: RunRecord) -> Table:
    rows = []
    for site in record.sites:
        entries = [r["sites"][site] for r in record.rounds if site in r.get("sites", {})]
        sent = [int(entry.get("bytes_received", 0)) for entry in entries]
        seconds = sum(sum(entry.get("seconds", {}).values()) for entry in entries)
        rows.append(
            Row(
                clean_line(site),
                [
                    str(sum(size > 0 for size in sent)),
                    shown_as(sum(sent), byte_size(sum(sent)), "bytes"),
                    str(sum("refused" in entry for entry in entries)),
                    shown_as(seconds, f"{seconds:,.1f}"),
                ],
            )
        )
    header = ["Site", "Adapters sent", "Bytes sent", "Replies refused", "Seconds of work"]
    return Table("Per site, over the whole run", header, rows)


def _matrices(record: RunRecord) -> Table:
    """Return the layers with their matrices' shapes; only B is sent if A is frozen."""
    adapter = record.adapter
    sent = ("A", "B") if record.trained == "ab" else ("B",)
    rows = []
    for module in adapter.modules:
        shapes = dict(
            zip(("A", "B"), (matrix.shape for matrix in adapter.pair(module)), strict=True)
        )
        rows.append(Row(module, [" x ".join(map(str, shapes[factor])) for factor in sent]))
    header = ["Layer", *(f"{factor}, rows x columns" for factor in sent)]
    return Table(f"{len(rows)} layers of the released adapter", header, rows)


def refusals_section(record: RunRecord) -> Section | None:
    """Return the section of refused sites and replies; None if nothing was refused."""
    refusals = record.refusals()
    if not refusals:
        return None
    rows = [
        Row(
            clean_line(refusal.site),
            [
                "before the first" if refusal.round is None else str(refusal.round),
                clean_line(refusal.reason),
            ],
        )
        for refusal in refusals[:MOST_REFUSALS]
    ]
    hidden = len(refusals) - len(rows)
    notes = [f"rounds.jsonl lists {hidden} more."] if hidden else []
    table = Table("Refused sites and replies", ["Site", "Round", "Reason"], rows, text=True)
    return Section(
        "refused", "Refused replies", [Part("", [_REFUSED], tables=[table], notes=notes)]
    )
