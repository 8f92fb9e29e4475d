"""`[stay]`, `[patients]` and `[cohort]` of mapping.toml: the stays, and which of them to keep."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, PlainValidator, model_validator
from pydantic_core import PydanticKnownError

from client.ingest.mapping.clock import Clock
from client.ingest.mapping.source_sections import FileFormat
from client.ingest.mapping.text_lists import TextList, text_list
from common.config.field_types import PositiveCount, PrintableText, invalid
from common.config.strict_model import StrictModel


def _cohort_rule(text: str) -> str:
    if not text.strip():
        raise invalid("is empty; describe how the sepsis patients were found")
    return text


def _keep_rules(table: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(table, dict):
        raise PydanticKnownError("dict_type")
    return {str(column): text_list(values, str(column)) for column, values in table.items()}


class JoinedFile(StrictModel):
    """One of `joins` in `[stay]`: a file whose columns are looked up for each row of `table`.

    Attributes:
        table: the file.
        key: its column that is looked up; each value is in one row, or in rows that agree.
        column: column of the table of stays, or of a file joined before, that holds the value;
            empty = it has the name of `key`.
        file: format of `table`; what is unset is found from that file.
    """

    table: str
    key: str
    column: str = ""
    file: FileFormat | None = None

    @property
    def looked_up(self) -> str:
        """The column whose values are looked up in `key`."""
        return self.column or self.key


class StayRule(StrictModel):
    """`[stay]`: definition of a stay: an id's column, its bounds, or a silence between two.

    Attributes:
        id: column of the stay's id.
        per_patient: true where ids are counted within each patient (1, 2, 3 ...).
        start: column of its admission.
        end: column of its discharge; an empty cell = until the patient's next stay.
        table: file of the stays, a row each; the columns are then its own.
        patient: the patient's column in that table; empty = as in the rows.
        encounter: the encounter's column in that table; empty = as in the rows.
        joins: files joined to that table, in this order; their columns are then its own. A column
            that several have is the first one's.
        keep: rows of that table to take for stays: a column, and its values in any case.
        merge_hours: stays of a patient (and encounter) with at most these hours between them are
            one, as beds and units of one stay are; 0 = none is merged.
        since: column of that table with the moment that offsets of `[time]` count from; empty =
            `start`.
        gap_hours: instead of all these: a silence longer than these hours ends a stay.
        max_days: longer stays are taken for a mistake in a date and left out.
        time: the clock of `start` and `end` where it is not that of the rows.
        file: format of `table`; what is unset is found from that file, not taken from `[file]`.
    """

    id: str = ""
    per_patient: bool = False
    start: str = ""
    end: str = ""
    table: str = ""
    patient: str = ""
    encounter: str = ""
    joins: Annotated[tuple[JoinedFile, ...], Field(strict=False)] = ()
    keep: Annotated[dict[str, tuple[str, ...]], PlainValidator(_keep_rules)] = Field(
        default_factory=dict
    )
    merge_hours: float = Field(default=0.0, ge=0)
    since: str = ""
    gap_hours: float = Field(default=0.0, ge=0)
    max_days: PositiveCount = 365
    time: Clock | None = None
    file: FileFormat | None = None

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.file and not self.table:
            raise invalid("is the format of a table of stays; give table too", "file")
        if self.joins and not self.table:
            raise invalid("are joined to a table of stays; give table too", "joins")
        if self.by_gap:
            given = [name for name in ("id", "start", "end", "table") if getattr(self, name)]
            if given:
                raise invalid(f"does not go with {given[0]}; give one of them", "gap-hours")
        elif not (self.id or self.start):
            raise invalid("needs id, start or gap-hours")
        return self

    @property
    def by_gap(self) -> bool:
        """True where a silence separates stays."""
        return self.gap_hours > 0


_FACTS = ("age", "born", "sex", "unit", "septic", "died")


class PatientColumns(StrictModel):
    """`[patients]`: columns of the table of stays for table 1, which stays at the hospital.

    Attributes:
        age: column of the age at admission, in years.
        born: instead, column of the date or the year of birth.
        sex: column of the sex; texts other than `female` and `male` count as not recorded.
        unit: column of the care unit.
        septic: column that says whether the stay was septic; empty cells count as not recorded.
        died: column that says whether the patient died in hospital, likewise.
        female: texts of the column `sex`, in lower case.
        male: texts of the column `sex`, in lower case.
        yes: texts of `septic` and `died` that mean yes, in lower case.
    """

    age: str = ""
    born: str = ""
    sex: str = ""
    unit: str = ""
    septic: str = ""
    died: str = ""
    female: TextList = ("f", "female", "w")
    male: TextList = ("m", "male")
    yes: TextList = ("1", "true", "t", "yes", "y")

    @model_validator(mode="after")
    def _check_one_age(self) -> Self:
        if self.age and self.born:
            raise invalid("does not go with age; give one of them", "born")
        return self

    @property
    def columns(self) -> dict[str, str]:
        """The columns given, by what they hold."""
        named = {name: getattr(self, name) for name in _FACTS}
        return {name: column for name, column in named.items() if column}


class CohortRule(StrictModel):
    """`[cohort]`: the stays that the hospital has chosen, and its rule in words.

    Attributes:
        rule: how the sepsis patients were found; the site table carries it, and the coordinator
            sees it.
        keep_patients: file with the ids of the patients to keep, one a line.
        keep_stays: file with the ids of the stays to keep, one a line.
        flag: a column; a stay is kept where a row of it holds one of `flag_values`.
        flag_values: see `flag`.
        min_hours: least hours from a stay's start to its last vital sign.
    """

    rule: Annotated[PrintableText, AfterValidator(_cohort_rule)]
    keep_patients: str = ""
    keep_stays: str = ""
    flag: str = ""
    flag_values: TextList = ("1", "true", "t", "yes", "y")
    min_hours: float = Field(default=12.0, ge=0)
