"""The table of rows among a hospital's files, with the vital signs found in it."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from client.ingest.suggest.column_roles import matching
from client.ingest.suggest.sample import Sample
from client.ingest.suggest.value_units import decimal_of
from client.ingest.suggest.vital_sources import (
    FoundSource,
    LongColumns,
    find_long_columns,
    long_sources,
    wide_sources,
)
from common.data.vitals import VITAL_NAMES
from common.errors import UsageError


@dataclass
class RowTable:
    """The table of rows, with what was found in it."""

    samples: list[Sample]
    long: LongColumns | None
    vitals: dict[str, list[FoundSource]]
    has_thousands: bool

    @property
    def first(self) -> Sample:
        """The first of its files."""
        return self.samples[0]


def find_rows(samples: list[Sample]) -> RowTable:
    """Return the table with the most vital signs.

    Raises:
        UsageError: no file has a vital sign.
    """
    best: RowTable | None = None
    for sample in {sample.columns: sample for sample in reversed(samples)}.values():
        alike = [other for other in samples if other.columns == sample.columns]
        found = _rows_of(alike)
        if found.vitals and (best is None or len(found.vitals) > len(best.vitals)):
            best = found
    if best is None:
        names = ", ".join(f"{one.path.name} ({', '.join(one.columns)})" for one in samples[:3])
        raise UsageError(
            f"no vital sign is found by its name or code in {names}; write the mapping by hand "
            "from deploy/site/mapping.long.toml or mapping.wide.toml"
        )
    return best


def _rows_of(samples: list[Sample]) -> RowTable:
    first = samples[0]
    thousands = _set_decimal(samples)
    long = find_long_columns(first)
    if long is not None:
        return RowTable(samples, long, long_sources(first, long), thousands)
    taken = [name for role in ("patient", "stay", "time") for name in matching(first.columns, role)]
    return RowTable(
        samples, None, _merged([wide_sources(one, taken) for one in samples]), thousands
    )


def _set_decimal(samples: list[Sample]) -> bool:
    texts = [samples[0].texts(column) for column in samples[0].columns]
    decimal, has_thousands = decimal_of(pa.concat_arrays(texts))
    for sample in samples:
        sample.decimal = decimal
    return has_thousands


def _merged(parts: list[dict[str, list[FoundSource]]]) -> dict[str, list[FoundSource]]:
    """Join what was found in files of the same columns: one patient may lack a vital sign."""
    merged: dict[str, list[FoundSource]] = {}
    for vital in VITAL_NAMES:
        by_name: dict[str, FoundSource] = {}
        for source in (one for part in parts for one in part.get(vital, [])):
            known = by_name.get(source.name)
            if known is None or source.count > known.count:
                by_name[source.name] = source
        if by_name:
            merged[vital] = sorted(by_name.values(), key=lambda one: one.order)
    return merged
