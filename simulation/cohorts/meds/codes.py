"""Table of the codes of a MEDS data set, in TOML: stays, sites, patients and vital signs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, PrivateAttr

from client.ingest.mapping.text_lists import TextList
from client.ingest.units import check_unit
from common.config.error_line import known_names, value_text
from common.config.field_types import checked_values, invalid
from common.config.strict_model import StrictModel
from common.config.toml import parse_toml, read_bytes
from common.data.vitals import VITAL_NAMES
from common.errors import UsageError
from common.names import check_site_name
from simulation.cohorts.charted_vitals import ChartedItem, charted_item

MIMIC_IV_CODES = Path(__file__).with_name("mimic-iv.toml")
"""The codes of MIMIC-IV."""

_ANY = "*"


class StayCodes(StrictModel):
    """`[stays]`: codes of the events that start and end a stay."""

    admission: TextList
    discharge: TextList


class SiteCodes(StrictModel):
    """`[sites]`: codes of the events that give a stay's site.

    Attributes:
        codes: the codes.
        names: name of the site by the text at the place of ``*``.
    """

    codes: TextList
    names: Annotated[dict[str, str], checked_values(check_site_name)] = Field(default_factory=dict)


class PatientCodes(StrictModel):
    """`[patients]`: codes of birth and sex; all may be absent."""

    birth: TextList = ()
    female: TextList = ()
    male: TextList = ()


class VitalCodes(StrictModel):
    """`[[vitals.NAME]]`: codes of a vital sign in one unit.

    Attributes:
        codes: the codes.
        unit: of the values.
        low: possible values are above this, in `unit`; None = the site table's limit.
        high: possible values are below this, in `unit`; None = the site table's limit.
    """

    codes: TextList
    unit: str
    low: float | None = None
    high: float | None = None


_VitalList = Annotated[tuple[VitalCodes, ...], Field(strict=False, min_length=1)]


def _check_vitals(tables: dict[str, tuple[VitalCodes, ...]]) -> dict[str, tuple[VitalCodes, ...]]:
    if not tables:
        raise invalid("is empty; name at least one vital sign, e.g. [[vitals.spo2]]")
    for name, parts in tables.items():
        if name not in VITAL_NAMES:
            raise invalid(f"is not a vital sign; {known_names(name, VITAL_NAMES)}", name)
        for part in parts:
            try:
                check_unit(name, part.unit)
            except UsageError as problem:
                raise invalid(f"is not valid: {problem}", f"{name}.unit") from None
    return tables


class MedsCodes(StrictModel):
    """Codes of a MEDS data set.

    In a code, ``*`` represents any text; all else is literal, case included.

    Attributes:
        stays, sites, patients: the sections of the same names.
        vitals: codes of each vital sign, one entry a unit.
    """

    stays: StayCodes
    sites: SiteCodes
    patients: PatientCodes = Field(default_factory=PatientCodes)
    vitals: Annotated[dict[str, _VitalList], AfterValidator(_check_vitals)]
    _sha256: str = PrivateAttr(default="")

    @property
    def sha256(self) -> str:
        """Digest of the file."""
        return self._sha256

    @property
    def patterns(self) -> list[str]:
        """All codes of the table."""
        lists = [self.stays.admission, self.stays.discharge, self.sites.codes]
        lists += [self.patients.birth, self.patients.female, self.patients.male]
        lists += [part.codes for parts in self.vitals.values() for part in parts]
        return sorted({code for codes in lists for code in codes})

    def items(self) -> list[ChartedItem]:
        """Return the items of the vital signs; an item's number is its place in this list."""
        return [
            charted_item(number, name, part.unit, part.low, part.high)
            for number, (name, part) in enumerate(self._parts())
        ]

    def item_of(self, code: str) -> int | None:
        """Return the number of the item that a code charts, None if it charts no vital sign.

        Raises:
            UsageError: it charts two.
        """
        found = [
            (number, name)
            for number, (name, part) in enumerate(self._parts())
            if matches(code, part.codes)
        ]
        if len(found) > 1:
            names = " and ".join(name for _, name in found[:2])
            raise UsageError(
                f"the code {value_text(code)} is in the table of codes for {names}, once too often"
            )
        return found[0][0] if found else None

    def site_text(self, code: str) -> str | None:
        """Return the text of a site's code at the place of ``*``, None if it is no such code."""
        for pattern in self.sites.codes:
            if found := _expression(pattern).fullmatch(code):
                return found[1] if found.groups() else code
        return None

    def _parts(self) -> list[tuple[str, VitalCodes]]:
        return [(name, part) for name in VITAL_NAMES for part in self.vitals.get(name, ())]


def matches(code: str, patterns: Iterable[str]) -> bool:
    """Return whether a code matches one of the patterns."""
    return any(_expression(pattern).fullmatch(code) for pattern in patterns)


def read_codes(path: Path = MIMIC_IV_CODES) -> MedsCodes:
    """Read a table of codes.

    Raises:
        UsageError: the file cannot be read or is not TOML, a key is unknown or missing, or a value
            is invalid.
    """
    data = read_bytes(path, UsageError)
    codes = MedsCodes.load(parse_toml(data, path, UsageError), UsageError, str(path))
    codes._sha256 = sha256(data).hexdigest()
    return codes


def _expression(pattern: str) -> re.Pattern[str]:
    # `re` keeps the compiled expressions.
    return re.compile("(.*)".join(re.escape(part) for part in pattern.split(_ANY)), re.DOTALL)
