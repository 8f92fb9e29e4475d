"""The site table, one row per stay and time step: schema; read, write, validate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from common.data.splits import DEFAULT_SPLIT_KEY, SPLITS, assign_splits
from common.data.vitals import VITAL_NAMES, VITALS, Vital
from common.errors import SiteTableError
from common.files.atomic_io import atomic_file

SITE_TABLE_SCHEMA_VERSION = 1
KEY_COLUMNS: tuple[str, ...] = ("patient_id", "stay_id", "step", "split")
SITE_TABLE_COLUMNS: tuple[str, ...] = KEY_COLUMNS + VITAL_NAMES

_ARROW_SCHEMA = pa.schema(
    [
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("stay_id", pa.string(), nullable=False),
        pa.field("step", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        *(pa.field(name, pa.float32(), nullable=False) for name in VITAL_NAMES),
    ]
)
_METADATA_KEY = b"fedvitals"


@dataclass(frozen=True)
class SiteTableInfo:
    """Description of a site table, stored in its Parquet metadata.

    Attributes:
        site: the site's name, e.g. ``micu``.
        source: origin of the rows, e.g. ``mimic3``.
        cohort_rule: selection of the patients, e.g. ``sepsis=explicit, age>=18``.
        step_minutes: length of a time step, in minutes.
        split_key: key of the hash that assigns the split.
        schema_version: version of the columns and their meaning.
        split_rule: the hospital's own split, in words; empty = by the hash with `split_key`.
    """

    site: str
    source: str
    cohort_rule: str
    step_minutes: int
    split_key: str = DEFAULT_SPLIT_KEY
    schema_version: int = SITE_TABLE_SCHEMA_VERSION
    split_rule: str = ""


@dataclass(frozen=True)
class SiteTable:
    """One site's patients: a row per stay and time step, and the table's description.

    Attributes:
        frame: `SITE_TABLE_COLUMNS`; vitals float32 in their units with NaN where not measured;
            sorted by patient, stay and step; the steps of a stay are 0, 1, 2 ... without a gap.
        info: see `SiteTableInfo`.
    """

    frame: pd.DataFrame
    info: SiteTableInfo


def make_site_table(observations: pd.DataFrame, info: SiteTableInfo) -> SiteTable:
    """Build a site table from per-step means: add empty steps, assign splits, sort.

    Args:
        observations: `patient_id`, `stay_id`, `step` (from 0) and any of the vitals, at most one
            row per stay and step; steps without any measurement may be absent. With a
            `split_rule` also `split`, the same in all rows of a patient.
        info: the table's description.

    Returns:
        A valid table, in which each stay runs from step 0 to its last observed step.
    """
    frame = observations.assign(
        patient_id=observations["patient_id"].astype(str),
        stay_id=observations["stay_id"].astype(str),
    )
    stays = (
        frame.groupby(["patient_id", "stay_id"], sort=True)["step"]
        .max()
        .astype("int64")
        .reset_index()
    )
    lengths = stays["step"].to_numpy() + 1
    ends = np.cumsum(lengths)
    dense = stays[["patient_id", "stay_id"]].loc[stays.index.repeat(lengths)].reset_index(drop=True)
    dense["step"] = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
    if info.split_rule:
        pairs = frame.drop_duplicates(["patient_id", "split"])
        by_patient = pairs.set_index("patient_id")["split"]
        if by_patient.index.has_duplicates:
            raise SiteTableError("a patient is in several splits; each is in one only")
        dense["split"] = dense["patient_id"].map(by_patient)
    else:
        dense["split"] = assign_splits(dense["patient_id"], info.split_key)
    vitals = frame[["stay_id", "step", *(name for name in VITAL_NAMES if name in frame)]]
    dense = dense.merge(vitals, on=["stay_id", "step"], how="left", validate="one_to_one")
    dense = dense.reindex(columns=list(SITE_TABLE_COLUMNS))
    table = SiteTable(
        dense.astype({"step": "int32", **dict.fromkeys(VITAL_NAMES, "float32")}), info
    )
    validate_site_table(table)
    return table


def validate_site_table(table: SiteTable, name: str = "site table") -> None:
    """Validate a table against the schema.

    Args:
        table: the table.
        name: the table's name in messages, usually its path.

    Raises:
        SiteTableError: names the first wrong column or row.
    """
    if table.info.schema_version != SITE_TABLE_SCHEMA_VERSION:
        raise _other_schema(name, table.info.schema_version)
    if table.info.step_minutes < 1:
        raise SiteTableError(
            f"{name}: step_minutes must be at least 1, got {table.info.step_minutes}"
        )
    frame = table.frame
    _check_columns(frame, name)
    if frame.empty:
        raise SiteTableError(f"{name} has no rows")
    _check_keys(frame, name)
    _check_splits(frame, table.info, name)
    for vital in VITALS:
        _check_range(frame, vital, name)


def write_site_table(table: SiteTable, path: Path) -> None:
    """Validate a table and write it atomically as Parquet; equal tables give equal bytes.

    Raises:
        SiteTableError: the table is not valid.
    """
    validate_site_table(table, str(path))
    units = {vital.name: vital.unit for vital in VITALS}
    about = asdict(table.info)
    if not table.info.split_rule:
        del about["split_rule"]  # the split by hash has the bytes that it always had
    metadata = json.dumps({**about, "units": units}, sort_keys=True)
    schema = _ARROW_SCHEMA.with_metadata({_METADATA_KEY: metadata.encode()})
    # Through numpy, since pandas' own conversion would turn NaN into null.
    columns = [
        pa.array(table.frame[field.name].to_numpy(), type=field.type, from_pandas=False)
        for field in schema
    ]
    with atomic_file(path) as partial:
        pq.write_table(pa.table(columns, schema=schema), partial, compression="zstd")


def read_site_table(path: Path) -> SiteTable:
    """Read and validate a site table.

    Args:
        path: a Parquet file made by fedvitals.

    Raises:
        SiteTableError: the file is absent, is not a site table or violates the schema; the message
            names the column or the row.
    """
    with _named_errors(path):
        arrow = pq.read_table(path)
    info = _read_info(arrow.schema.metadata or {}, path)
    table = SiteTable(arrow.replace_schema_metadata(None).to_pandas(), info)
    validate_site_table(table, str(path))
    return table


def read_site_info(path: Path) -> SiteTableInfo:
    """Read a site table's metadata alone, without its rows.

    Raises:
        SiteTableError: the file is absent, is not a site table or is of another schema version.
    """
    with _named_errors(path):
        schema = pq.read_schema(path)
    return _read_info(schema.metadata or {}, path)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise SiteTableError(f"there is no site table at {path}") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise SiteTableError(f"{path} cannot be read as Parquet: {error}") from error


def _other_schema(name: str, version: object) -> SiteTableError:
    return SiteTableError(
        f"{name} has schema version {version}, this release reads {SITE_TABLE_SCHEMA_VERSION}; "
        "prepare the table again with this release"
    )


def _read_info(metadata: dict[bytes, bytes], path: Path) -> SiteTableInfo:
    try:
        values = json.loads(metadata[_METADATA_KEY])
        # Checked first: another version may have other keys.
        if values["schema_version"] != SITE_TABLE_SCHEMA_VERSION:
            raise _other_schema(str(path), values["schema_version"])
        units = dict(values.pop("units"))
        info = SiteTableInfo(**values)
        if type(info.step_minutes) is not int:
            raise TypeError("step_minutes is not a whole number")
    except (KeyError, TypeError, ValueError):
        raise SiteTableError(
            f"{path} has no valid fedvitals metadata; make it with "
            "`python -m simulation prepare`, not by hand"
        ) from None
    for vital in VITALS:
        if units.get(vital.name) != vital.unit:
            raise SiteTableError(
                f"{path}: column {vital.name} is in {units.get(vital.name)!r}, "
                f"expected {vital.unit!r}"
            )
    return info


def _check_columns(frame: pd.DataFrame, name: str) -> None:
    missing = [column for column in SITE_TABLE_COLUMNS if column not in frame]
    extra = [str(column) for column in frame if column not in SITE_TABLE_COLUMNS]
    if missing or extra:
        parts = [f"lacks {', '.join(missing)}"] if missing else []
        parts += [f"has the unknown {', '.join(extra)}"] if extra else []
        raise SiteTableError(
            f"{name}: columns are not those of the schema: it {' and '.join(parts)}"
        )
    if tuple(frame.columns) != SITE_TABLE_COLUMNS:
        raise SiteTableError(
            f"{name}: columns are out of order; expected {', '.join(SITE_TABLE_COLUMNS)}"
        )
    for column in VITAL_NAMES:
        if frame[column].dtype != np.float32:
            raise SiteTableError(
                f"{name}: column {column} is {frame[column].dtype}, expected float32"
            )
    if frame["step"].dtype != np.int32:
        raise SiteTableError(f"{name}: column step is {frame['step'].dtype}, expected int32")


def _check_keys(frame: pd.DataFrame, name: str) -> None:
    for column in ("patient_id", "stay_id", "split"):
        _refuse_rows(frame[column].isna() | (frame[column] == ""), name, f"{column} is empty")
    step = frame["step"].to_numpy()
    stay, patient = (frame[column].to_numpy(object) for column in ("stay_id", "patient_id"))
    new_stay = np.append(True, (stay[1:] != stay[:-1]) | (patient[1:] != patient[:-1]))
    expected = np.where(new_stay, 0, np.append(0, step[:-1]) + 1)
    _refuse_rows(
        step != expected,
        name,
        "step is not the next of 0, 1, 2 ... in its stay; sort by patient, stay and step",
    )
    starts = frame.loc[new_stay, ["patient_id", "stay_id"]]
    _refuse_rows(starts["stay_id"].duplicated(), name, "stay_id occurs in two places", starts.index)


def _check_splits(frame: pd.DataFrame, info: SiteTableInfo, name: str) -> None:
    if info.split_rule:
        _refuse_rows(~frame["split"].isin(SPLITS), name, f"split is none of {', '.join(SPLITS)}")
        several = frame.groupby("patient_id")["split"].transform("nunique") > 1
        _refuse_rows(several, name, "the patient is in several splits")
        return
    expected = assign_splits(frame["patient_id"], info.split_key)
    _refuse_rows(
        frame["split"].to_numpy(object) != expected,
        name,
        "split is not the one of the patient's keyed hash",
    )


def _check_range(frame: pd.DataFrame, vital: Vital, name: str) -> None:
    values = frame[vital.name].to_numpy()
    _refuse_rows(
        ~(np.isnan(values) | vital.valid(values)),
        name,
        f"{vital.name} is outside {vital.range_text}",
    )


def _refuse_rows(
    wrong: pd.Series[bool] | npt.NDArray[np.bool_],
    name: str,
    reason: str,
    rows: pd.Index[int] | None = None,
) -> None:
    mask = np.asarray(wrong, dtype=bool)
    if mask.any():
        first = int(np.argmax(mask))
        row = first if rows is None else int(rows[first])
        raise SiteTableError(f"{name}: row {row}: {reason} ({int(mask.sum())} such rows)")
