from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from server.report.learning_curves import (
    MOST_LINES,
    Series,
    learning_curves_section,
    lowest_and_highest,
    values_by_round,
)
from server.runs.run_reader import RunRecord


def with_sites(record: RunRecord, count: int) -> RunRecord:
    """Return the run with other sites, whose curves rise with their numbers."""
    names = [f"hospital-{number}" for number in range(1, count + 1)]
    about = next(iter(record.config["sites"].values()))
    rounds: list[dict[str, Any]] = [
        {
            "round": number,
            "validated_round": number - 1,
            "validation_wql": 0.1,
            "trained": True,
            "sites": {
                name: {
                    "steps": 1,
                    "loss": 1.0 + place,
                    "validation": {"wql": 0.1 + 0.001 * place * (number - 1)},
                }
                for place, name in enumerate(names)
            },
        }
        for number in (1, 2, 3)
    ]
    config = record.config | {"sites": dict.fromkeys(names, about)}
    return replace(record, config=config, rounds=rounds)


@pytest.mark.parametrize("count", [MOST_LINES, MOST_LINES + 1, 185])
def test_many_sites_are_summarised(record: RunRecord, count: int) -> None:
    part = learning_curves_section(with_sites(record, count)).parts[0]
    labels = [entry.label for entry in part.legend]
    if count <= MOST_LINES:
        assert labels[:count] == [f"hospital-{number}" for number in range(1, count + 1)]
        return
    assert labels[:3] == [
        f"median of {count} sites",
        "the middle half of the sites",
        "the middle four fifths",
    ]
    lowest = "hospital-1 (validation), hospital-1 (loss)"
    highest = f"hospital-{count} (validation), hospital-{count} (loss)"
    assert labels[3:5] == [
        f"lowest after the last round: {lowest}",
        f"highest after the last round: {highest}",
    ]
    assert len(labels) == 6
    assert sum(len(figure.svg) for figure in part.figures) < 40_000


def test_the_bands_are_quantiles_over_the_sites_of_each_round() -> None:
    series = [Series(place, [(0, 0.0), (1, float(place))]) for place in range(20)]
    series.append(Series(20, [(0, 0.0)]))
    series.append(Series(21, []))
    values = values_by_round(series)
    assert [len(values[number]) for number in values] == [21, 20]
    assert np.quantile(values[1], 0.25) == pytest.approx(4.75)
    assert [site.place for site in lowest_and_highest(series)] == [0, 19]
    assert lowest_and_highest([Series(0, [])]) == []
