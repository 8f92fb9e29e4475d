"""Ingest of a hospital's table into a cohort folder with its site table.

    OUT/ingest.json            inputs, mapping, and counts of what was left out, by reason
    OUT/sites/<site>.parquet   site table

`client check`, `simulation` and the site's node read the folder as a cohort of one site. If the
mapping has hashed ids, neither file has an id of the hospital's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from client.data_quality.losses import find_losses
from client.ingest.diagnostics.losses import count_dropped, find_examples, unknown_rows
from client.ingest.diagnostics.signs import count_other_units, read_signs
from client.ingest.diagnostics.time_check import check_times
from client.ingest.mapping.site_mapping import SiteMapping
from client.ingest.pipeline.open_sources import open_sources
from client.ingest.pipeline.scratch_database import scratch_database
from client.ingest.pseudonyms import hash_ids, read_secret
from client.ingest.reshape.staging import stage
from client.ingest.reshape.stay_fields import NOTE_LENGTH
from client.ingest.sources.source import Source
from client.ingest.stays.assignment import assign_stays
from client.ingest.stays.selection import (
    AT_LEAST,
    HOUR_US,
    choose_stays,
    keep_stays,
    stay_facts,
    stay_frame,
)
from client.ingest.stays.stay_table import StayTableFacts, load_stay_table
from client.ingest.timestamps import check_patterns
from client.site_split.stay_sides import assign_sides, with_validation
from common.data.characteristics import characterise
from common.data.cohort_folder import (
    INGEST_FILE,
    RECORD_SCHEMA_VERSION,
    SITES_FOLDER,
    check_output_folder,
    read_cohort_record,
    record_versions,
    unwritable,
    write_cohort_record,
)
from common.data.exclusion_flow import ExclusionFlow
from common.data.site_table import SiteTableInfo, make_site_table, write_site_table
from common.data.step_means import step_means
from common.data.summary import summarise
from common.data.windows import WindowSettings
from common.errors import CohortError, SourceError, UsageError
from common.files.atomic_io import atomic_folder
from common.files.hashing import ReadProgress, file_sha256
from common.files.private import OWNER_ONLY, Access, private_umask

_USED = """
    SELECT m.stay, m.since_us, c.vital, c.rank, m.scaled
    FROM measured m JOIN codes c ON m.code = c.code JOIN kept k ON m.stay = k.stay
    WHERE m.reason IS NULL"""


@dataclass
class Ingested:
    """A hospital's table in memory, ready to be written.

    Attributes:
        steps: `patient_id`, `stay_id`, `step` and the vitals, a row per stay and step; and `split`,
            if the hospital has a split of its own.
        stays: frame of `client.ingest.stays.selection.stay_facts`.
        record: content of `ingest.json` except the site table's own counts.
    """

    steps: pd.DataFrame
    stays: pd.DataFrame
    record: dict[str, Any] = field(default_factory=dict)


def ingest_tables(
    mapping: SiteMapping,
    tables: Sequence[Path],
    out: Path,
    *,
    secret: Path,
    access: Access = OWNER_ONLY,
    overwrite: bool = False,
    memory_gb: float = 2.0,
    progress: ReadProgress | None = None,
) -> dict[str, Any]:
    """Read a hospital's table by its mapping and write the folder atomically.

    The same rows in any order give the same bytes.

    Args:
        mapping: description of the table.
        tables: its files, all with the same columns; none if the mapping names a query.
        out: the folder.
        secret: file of the key that ids are hashed with, if the mapping has hashed ids.
        access: who may read the folder, and the secret if it is created.
        overwrite: whether another site's folder in `out` may be replaced.
        memory_gb: bound on the memory of the queries, in gigabytes.
        progress: called while a CSV file is read.

    Returns:
        The record, as in `ingest.json`.

    Raises:
        UsageError: table and mapping do not match.
        SourceError: the table is damaged, or no row of it can be used.
        CohortError: no stay is left, or `out` has something that must not be lost.
    """
    if not memory_gb > 0:
        raise UsageError(f"the memory bound must be positive, got {memory_gb} GB")
    _check_free(out, mapping, overwrite)
    key = read_secret(secret, access) if mapping.ids.hash else None
    sources, stay_source = open_sources(mapping, tables, progress)
    with private_umask(), scratch_database(out, memory_gb) as connection:
        for clock in (mapping.time, mapping.stay_clock):
            check_patterns(connection, clock)
        try:
            made = _read(connection, mapping, sources, stay_source)
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise SourceError(
                f"the table does not fit: {str(error).splitlines()[0]}; allow more with "
                f"--memory-gb, or make room in {out.absolute().parent}"
            ) from error
    if key is not None:
        for kind in ("patient", "stay"):
            column = f"{kind}_id"
            texts = made.steps[column].unique()
            hashes = dict(zip(texts, hash_ids(texts, key, kind), strict=True))
            made.steps[column] = made.steps[column].map(hashes)
            made.stays[column] = made.stays[column].map(hashes)
            if kind == "stay":
                for sign in made.record["signs"]["by_stay"]:
                    sign["example"] = hashes.get(sign["example"], "")
    if mapping.split and not mapping.split.validation:
        made.steps["split"] = with_validation(made.steps, mapping.split)
    with private_umask():
        return _write(made, mapping, out, access, overwrite)


def _read(
    connection: duckdb.DuckDBPyConnection,
    mapping: SiteMapping,
    sources: list[Source],
    stay_source: Source | None,
) -> Ingested:
    facts = load_stay_table(connection, mapping, stay_source) if stay_source else StayTableFacts()
    others = stage(connection, sources, mapping)
    strangers = unknown_rows(connection, sources) if mapping.shape == "long" else 0
    rows = sum(source.rows for source in sources)
    if not rows:
        names = ", ".join(source.name for source in sources)
        raise SourceError(f"{names} has a header and no row; export the table again")
    if mapping.shape == "long" and rows and strangers == rows:
        raise SourceError(
            f"none of {rows:,} rows has a code of the mapping in the column "
            f"{mapping.columns.code}{_most(others)}; compare the codes in [vitals] with those in it"
        )
    times = check_times(connection, mapping)
    examples = find_examples(connection)
    count_other_units(connection, mapping)
    times += facts.signs
    assign_stays(connection, mapping, stay_source)
    flow = ExclusionFlow()
    stays = stay_frame(connection)
    kept, missing = choose_stays(stays, mapping, flow)
    keep_stays(connection, kept)
    counts, losses = count_dropped(connection, examples)
    if kept.empty:
        found = {"measurements": counts, "losses": losses, "signs": {"times": times}}
        raise _nothing_left(flow, found, stays["last_us"].max())
    steps = step_means(connection, _USED, mapping.table.step_minutes)
    place = kept.set_index("stay")
    sides = assign_sides(kept, mapping.split, mapping.stay_clock.zone) if mapping.split else None
    if sides:
        place["split"] = sides.parts
    for column in ("patient_id", "stay_id", *(["split"] if sides else [])):
        steps[column] = place[column].loc[steps["stay"]].to_numpy()
    all_sources = sources + ([stay_source] if stay_source else [])
    record: dict[str, Any] = {
        "inputs": [source.digest() for source in all_sources],
        "rows": {"read": rows, "of other codes": strangers},
        **({"stay_table": facts.rows} if facts.rows else {}),
        "other_codes": others,
        "flow": flow.to_json(),
        "measurements": counts,
        "losses": losses,
        "ids_not_found": missing,
        "signs": {**read_signs(connection, mapping), "times": times},
        **({"split": sides.facts} if sides else {}),
    }
    characteristics = stay_facts(connection, mapping, kept)
    return Ingested(steps.drop(columns="stay"), characteristics, record)


def _write(
    made: Ingested, mapping: SiteMapping, out: Path, access: Access, overwrite: bool
) -> dict[str, Any]:
    step_minutes = mapping.table.step_minutes
    split = mapping.split.text if mapping.split else ""
    info = SiteTableInfo(
        mapping.site, mapping.table.source, mapping.rule, step_minutes, split_rule=split
    )
    table = make_site_table(made.steps, info)
    try:
        with atomic_folder(out, access) as partial:
            path = partial / SITES_FOLDER / f"{mapping.site}.parquet"
            write_site_table(table, path)
            record = {
                "schema_version": RECORD_SCHEMA_VERSION,
                "site": mapping.site,
                "source": info.source,
                "rule": info.cohort_rule,
                "step_minutes": step_minutes,
                "mapping_sha256": mapping.sha256,
                "ids": "hashed" if mapping.ids.hash else "as in the source",
                **made.record,
                "table": {"sha256": file_sha256(path), **summarise(table)},
                "characteristics": characterise(
                    {mapping.site: table},
                    made.stays,
                    windows=WindowSettings(),
                    sepsis=mapping.patients.septic and f"column {mapping.patients.septic}",
                ),
                "versions": record_versions(),
            }
            write_cohort_record(partial, out, INGEST_FILE, record, overwrite)
    except OSError as error:
        raise unwritable(out, error) from error
    return record


def _check_free(out: Path, mapping: SiteMapping, overwrite: bool) -> None:
    if not check_output_folder(out, INGEST_FILE) or overwrite:
        return
    record = read_cohort_record(out, INGEST_FILE)
    if record.get("mapping_sha256") != mapping.sha256:
        raise CohortError(
            f"{out} holds the table of {record.get('site')!r} made by another mapping; give "
            "another folder with --out or replace it with --overwrite"
        )


def _most(others: list[dict[str, Any]]) -> str:
    names = ", ".join(repr(one["code"][:NOTE_LENGTH]) for one in others[:3])
    return f" (it has {names})" if names else ""


def _nothing_left(flow: ExclusionFlow, found: dict[str, Any], longest_us: int) -> CohortError:
    counts = found["measurements"]
    emptied = next(step.label for step in flow.steps if not step.total)
    read = sum(of_vital["read"] for of_vital in counts.values())
    reasons: dict[str, int] = {}
    for of_vital in counts.values():
        for reason, count in of_vital.items():
            if reason not in ("read", "used"):
                reasons[reason] = reasons.get(reason, 0) + count
    why = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items()) or "nothing"
    loss = next((f"; {one.what}: {one.remedy}" for one in find_losses(found)), "")
    if emptied.startswith(AT_LEAST):
        hours = longest_us / HOUR_US
        loss += f"; the longest stay spans {hours:.3g} h: check [time] format, or lower min-hours"
    return CohortError(
        f"no stay is left after the rule '{emptied}'; of {read:,} measurements dropped: {why}{loss}"
    )
