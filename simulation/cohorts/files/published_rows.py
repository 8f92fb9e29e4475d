"""Numbers of rows of published data sets: without a published digest, they show what a file lacks.

Only tables of patients' data that the cohort code reads are listed. Dictionaries such as D_ITEMS
are not: the demo, and folders of some of the patients, have them whole.

Sources: MIT-LCP/mimic-code, `mimic-iii/buildmimic/postgres/postgres_checks.sql` (v1.4) and
`mimic-iv/buildmimic/postgres/validate.sql` in its commits f4fe248 (names no version), 40f4dd6
(v2.1), 5dc6117 (v2.2) and 865aee8 (v3.1); MIT-LCP/eicu-code,
`build-db/postgres/postgres_checks.sql` (names v1.2, has tables of v2.0).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import SourceError


@dataclass(frozen=True)
class Version:
    """Published numbers of rows of a version of a data set.

    Attributes:
        name: the version, e.g. ``v2.2``.
        rows: rows by table, in lower case.
        certain: whether the numbers are surely this version's, and its whole tables no other's.
            Where they are not, a difference is a warning and no error.
    """

    name: str
    rows: Mapping[str, int]
    certain: bool


PUBLISHED_ROWS: Mapping[str, tuple[Version, ...]] = {
    "MIMIC-III": (
        Version(
            "v1.4",
            {
                "admissions": 58_976,
                "chartevents": 330_712_483,
                "diagnoses_icd": 651_047,
                "icustays": 61_532,
                "inputevents_cv": 17_527_935,
                "inputevents_mv": 3_618_991,
                "labevents": 27_854_055,
                "microbiologyevents": 631_726,
                "outputevents": 4_349_218,
                "patients": 46_520,
                "prescriptions": 4_156_450,
                "procedureevents_mv": 258_066,
                "procedures_icd": 240_095,
            },
            certain=True,
        ),
    ),
    "MIMIC-IV": (
        Version(
            "v2.0",
            {
                "admissions": 454_324,
                "chartevents": 329_822_285,
                "diagnoses_icd": 5_006_884,
                "icustays": 76_943,
                "patients": 315_460,
            },
            # The list names no version.
            certain=False,
        ),
        Version(
            "v2.1",
            {
                "admissions": 431_088,
                "chartevents": 314_035_266,
                "diagnoses_icd": 4_752_265,
                "icustays": 73_141,
                "patients": 299_777,
            },
            certain=True,
        ),
        Version(
            "v2.2",
            {
                "admissions": 431_231,
                "chartevents": 313_645_063,
                "diagnoses_icd": 4_756_326,
                "icustays": 73_181,
                "patients": 299_712,
            },
            certain=True,
        ),
        Version(
            "v3.1",
            {
                "admissions": 546_028,
                "chartevents": 432_997_491,
                "diagnoses_icd": 6_364_488,
                "icustays": 94_458,
                "patients": 364_627,
            },
            # No list has v3.0, which may have as many patients and stays, and other events.
            certain=False,
        ),
    ),
    "eICU-CRD": (
        Version(
            "v2.0",
            {
                "diagnosis": 2_710_672,
                "hospital": 208,
                "nursecharting": 151_604_232,
                "patient": 200_859,
                "vitalaperiodic": 25_075_074,
                "vitalperiodic": 146_671_642,
            },
            # The list names v1.2.
            certain=False,
        ),
    ),
}
"""Versions with known numbers of rows, by data set."""

_TELLING = 10_000
"""Rows from which a table's number is that of one version and no chance."""


class RowCounts:
    """Rows of a folder's CSV files, compared with the published numbers.

    A version is recognised by a table with exactly its number of rows. Folders of some of the
    patients, and demos, have no such table and are not checked. Nor are Parquet files: they cannot
    be cut off unnoticed, and may have rows left out on purpose.

    Args:
        data_set: name of the data set.
    """

    def __init__(self, data_set: str) -> None:
        self._data_set = data_set
        self._versions = PUBLISHED_ROWS.get(data_set, ())
        self._found: dict[str, tuple[Path, int]] = {}

    def check(self, table: str, path: Path, rows: int) -> None:
        """Compare the rows of all tables read so far with those of the version they are of.

        Args:
            table: the table's name.
            path: its file.
            rows: the rows of the file.

        Raises:
            SourceError: a table has fewer rows than the version that another table is of, whose
                numbers are certain.
        """
        self._found[table] = (path, rows)
        for short, file, expected, is_certain in self._short_tables():
            if is_certain:
                raise SourceError(
                    f"{short}: {file} lacks rows: {expected}; download it again, or, if rows were "
                    f"left out on purpose, replace it by {short}.parquet"
                )

    def warnings(self) -> list[str]:
        """Return a line for each table with fewer rows than a number that is not certain."""
        return [
            f"{short}: {path} may lack rows: {expected}; unless rows were left out on purpose, "
            "compare its SHA-256 with the published one"
            for short, path, expected, is_certain in self._short_tables()
            if not is_certain
        ]

    def _short_tables(self) -> Iterator[tuple[str, Path, str, bool]]:
        """Yield table, file, the numbers in words and their certainty."""
        whole = {version.name: self._whole_table(version) for version in self._versions}
        versions = [version for version in self._versions if whole[version.name]]
        for table, (path, rows) in self._found.items():
            # In a folder of tables of two versions, the smaller number counts.
            known = [version for version in versions if table.lower() in version.rows]
            if not known or len(known) < len(versions):
                continue
            least = min(known, key=lambda version: version.rows[table.lower()])
            if rows < least.rows[table.lower()]:
                expected = (
                    f"it has {rows:,}, {self._data_set} {least.name} has "
                    f"{least.rows[table.lower()]:,}, and {whole[least.name]} here has all rows of "
                    "that version"
                )
                yield table, path, expected, all(version.certain for version in versions)

    def _whole_table(self, version: Version) -> str | None:
        """Return a table with exactly the rows of a version; None if there is none."""
        for table, (_, rows) in self._found.items():
            if rows >= _TELLING and version.rows.get(table.lower()) == rows:
                return table
        return None
