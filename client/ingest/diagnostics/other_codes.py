"""Codes of a long table that the mapping does not name, with their rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_MOST_CODES = 20_000
_SHOWN = 10


class OtherCodes:
    """Count of rows by code, of codes that the mapping does not name.

    Above 20,000 different codes nothing is counted any more: such a column is not one of codes.
    """

    def __init__(self) -> None:
        """Start without a row."""
        self._rows: Counter[str] = Counter()
        self._is_full = False

    def add(self, codes: pa.Array) -> None:
        """Count the codes of some rows."""
        if self._is_full or not len(codes):
            return
        for pair in pc.value_counts(codes).to_pylist():
            if pair["values"]:
                self._rows[pair["values"]] += pair["counts"]
        if len(self._rows) > _MOST_CODES:
            self._is_full = True
            self._rows.clear()

    def most(self, known: Iterable[str]) -> list[dict[str, Any]]:
        """Return the codes with most rows, those first that are written almost as a known one.

        Args:
            known: the codes of the mapping.

        Returns:
            `code`, `rows`, and `near`: the known code that differs in case or signs alone, or "".
        """
        folded = {_folded(code): code for code in known}
        found: list[dict[str, Any]] = [
            {"code": code, "rows": rows, "near": folded.get(_folded(code), "")}
            for code, rows in self._rows.items()
        ]
        found.sort(key=lambda one: (not one["near"], -one["rows"], one["code"]))
        return found[:_SHOWN]


def _folded(code: str) -> str:
    return "".join(filter(str.isalnum, code.casefold())) or code
