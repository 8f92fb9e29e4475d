"""Statistics of one site as they are sent, and statistics.json of all sites: types and validation.

A reply is one JSON object of this type in one text. All counts are patients, so that a patient is
the unit of suppression and of privacy. None is a suppressed count; 0 is a true 0, or under noise a
noisy one. `client.node.statistics` counts; the server validates every reply with
`parse_site_statistics`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NoReturn, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from common.config.error_line import error_line
from common.config.field_types import PrintableText, PrivacyDelta, invalid
from common.config.strict_model import StrictModel
from common.data.statistics.edges import AGE_NAMES, BINS, HOURS, SEX_NAMES, STAY_BANDS
from common.data.vitals import VITAL_NAMES
from common.errors import StatisticsError
from common.names import is_site_name, printable

VERSION = 1
"""Version of statistics.json."""
RECORD, KEY = "statistics", "json"
"""Name of the reply's one record, and of the one text in it."""
MAX_CHARACTERS = 64 * 2**10
"""Longest text of a reply; an honest one has about five thousand characters."""
MAX_FILE_CHARACTERS = 64 * 2**20
NOT_RECORDED = "not recorded"
MOST = 10_000_000
"""Largest count: no hospital has more patients."""
LEAST_THRESHOLD = 5
"""Smallest threshold that a site may set. With a lower one, a suppressed count has too few
values."""
LEAST_EPSILON, MOST_EPSILON = 0.01, 10.0
"""Range of epsilon that a site may set. Beyond it the noise is too large to be found, or so small,
about two patients, that it hides nobody, and nothing is left out beside it."""
GROUPS = ("vitals", "missing", "stay_hours", "age", "sex")
"""Groups of counts, each with noise of one deviation."""

Cell = Annotated[int | None, Field(ge=-MOST, le=MOST)]
Text = PrintableText
_Hours = Annotated[list[Cell], Field(min_length=HOURS, max_length=HOURS)]
_Model = TypeVar("_Model", bound=StrictModel)


class VitalCounts(StrictModel):
    """Histogram of one vital sign: each patient once, in the bin of the median of all values.

    Attributes:
        patients: patients with a value.
        counts: patients by bin (`edges.EDGES`).
    """

    patients: Cell
    counts: Annotated[list[Cell], Field(min_length=BINS, max_length=BINS)]


class HourCounts(StrictModel):
    """One vital sign by the hour of a patient's first stay.

    Attributes:
        observed: patients of the hour with a value in it.
        patients: patients of the hour: those still in the unit. Without noise, those who stay at
            least to the end of the hour's block (`client.node.statistics.suppression`).
    """

    observed: _Hours
    patients: _Hours


class NoiseStatement(StrictModel):
    """Privacy guarantee of the counts of one site.

    Attributes:
        epsilon: of all counts together, for one patient added or removed.
        delta: of the guarantee.
        noise: standard deviation of the noise on each count, by group of `GROUPS`.
    """

    epsilon: Annotated[float, Field(gt=0, le=1000)]
    delta: PrivacyDelta
    noise: dict[str, Annotated[float, Field(gt=0, le=1e9)]]


class SiteStatistics(StrictModel):
    """Statistics of one site.

    Attributes:
        threshold: fewest patients behind a count that leaves the site; with noise it has no effect.
        privacy: the guarantee; None = exact counts, of which small ones are suppressed.
        source: origin of the rows, in the site's words.
        rule: selection of the patients, in the site's words.
        step_minutes: length of a step of the site table.
        patients: all patients.
        stays: all stays; None also under noise, which no number of stays a patient bounds.
        vitals: by vital sign, every one of `VITAL_NAMES`.
        missing: likewise.
        stay_hours: patients by length of their first stay (`edges.STAY_BANDS`).
        age: patients by age band (`edges.AGE_NAMES`), or `NOT_RECORDED`.
        sex: patients by sex (`edges.SEX_NAMES`), or `NOT_RECORDED`.
    """

    threshold: Annotated[int, Field(ge=LEAST_THRESHOLD, le=MOST)]
    privacy: NoiseStatement | None
    source: Text
    rule: Text
    step_minutes: Annotated[int, Field(ge=1, le=1440)]
    patients: Cell
    stays: Cell
    vitals: dict[str, VitalCounts]
    missing: dict[str, HourCounts]
    stay_hours: Annotated[list[Cell], Field(min_length=len(STAY_BANDS), max_length=len(STAY_BANDS))]
    age: (
        Annotated[list[Cell], Field(min_length=len(AGE_NAMES), max_length=len(AGE_NAMES))]
        | Literal["not recorded"]
    )
    sex: dict[str, Cell] | Literal["not recorded"]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("vitals", "missing"):
            _check_keys(name, getattr(self, name), VITAL_NAMES)
        if isinstance(self.sex, dict):
            _check_keys("sex", self.sex, SEX_NAMES)
        if self.privacy is not None:
            released = [name for name in GROUPS if getattr(self, name) != NOT_RECORDED]
            _check_keys("privacy.noise", self.privacy.noise, released)
            if self.stays is not None:
                raise invalid("must be null under noise", "stays")
        else:
            _check_exact(self)
        return self

    def text(self) -> str:
        """Return the JSON text that is sent; equal statistics give equal texts."""
        return json.dumps(self.model_dump(), separators=(",", ":"), ensure_ascii=False)


def _check_keys(name: str, given: Mapping[str, Any], expected: Sequence[str]) -> None:
    if tuple(given) != tuple(expected):
        raise invalid(f"must have the keys {', '.join(expected)}, in this order", name)


def _check_exact(site: SiteStatistics) -> None:
    """Check counts without noise: none is small, and no part is larger than its whole."""
    parts: list[tuple[str, list[int | None], int | None]] = [
        ("patients", [site.patients], None),
        ("stays", [site.stays], None),
        ("stay_hours", site.stay_hours, site.patients),
    ]
    for name, one in site.vitals.items():
        parts.append((f"vitals.{name}.patients", [one.patients], site.patients))
        parts.append((f"vitals.{name}.counts", one.counts, one.patients))
    if isinstance(site.age, list):
        parts.append(("age", site.age, site.patients))
    if isinstance(site.sex, dict):
        parts.append(("sex", list(site.sex.values()), site.patients))
    for name, counts, whole in parts:
        _check_part(name, counts, whole, site.threshold)
    for name, hours in site.missing.items():
        for observed, patients in zip(hours.observed, hours.patients, strict=True):
            _check_part(f"missing.{name}.observed", [observed], patients, site.threshold)
            _check_part(f"missing.{name}.patients", [patients], site.patients, site.threshold)
            if patients is None and observed is not None:
                raise invalid("has a count of an hour without patients", f"missing.{name}.observed")


def _check_part(name: str, counts: list[int | None], whole: int | None, threshold: int) -> None:
    known = [count for count in counts if count is not None]
    small = [count for count in known if count < 0 or 0 < count < threshold]
    if small:
        raise invalid(f"has the count {small[0]}, below the site's threshold of {threshold}", name)
    whole_known = len(known) == len(counts) > 1 and name.endswith((".counts", "_hours"))
    if whole is not None and (sum(known) > whole or (whole_known and sum(known) < whole)):
        raise invalid(f"adds up to {sum(known)} patients, of {whole}", name)


class Statistics(StrictModel):
    """statistics.json: the replies of all sites.

    Attributes:
        version: `VERSION`.
        fedvitals: version of the program that collected them.
        created: time in ISO format.
        sites: by name of the site.
        refused: reason by name of a site without a reply.
    """

    version: Literal[1]
    fedvitals: Text
    created: Text
    sites: dict[str, SiteStatistics]
    refused: dict[str, Annotated[str, Field(max_length=1000)]]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in (*self.sites, *self.refused):
            # A node whose key has no site's name is listed as `node 123`.
            if not is_site_name(name.removeprefix("node ")):
                raise invalid(f"has no valid site name {printable(name, 64)!r}", "sites")
        return self


def parse_site_statistics(text: object) -> dict[str, Any]:
    """Parse a site's reply, which is untrusted.

    Args:
        text: the text of the reply.

    Returns:
        The plain values of a `SiteStatistics`, all of them checked.

    Raises:
        StatisticsError: the text is too long, no JSON, or not of the type; one line.
    """
    return _parse(SiteStatistics, text, MAX_CHARACTERS)


def parse_statistics(text: object) -> dict[str, Any]:
    """Parse the text of statistics.json; result and errors as in `parse_site_statistics`."""
    return _parse(Statistics, text, MAX_FILE_CHARACTERS)


def _parse(model: type[_Model], text: object, longest: int) -> dict[str, Any]:
    if not isinstance(text, str) or len(text) > longest:
        raise StatisticsError(f"statistics are a text of at most {longest} characters")
    try:
        values = json.loads(text, object_pairs_hook=_without_twice, parse_constant=_no_number)
    except (ValueError, RecursionError) as problem:
        raise StatisticsError(f"the statistics are no JSON: {printable(problem)}") from None
    if not isinstance(values, dict):
        raise StatisticsError("the statistics are no JSON object")
    try:
        return model.model_validate(values).model_dump()
    except ValidationError as problem:
        line = error_line(model, problem, by_name=True)
        raise StatisticsError(f"the statistics are not valid: {printable(line, 500)}") from None


def _without_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key occurs twice")
    return values


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
