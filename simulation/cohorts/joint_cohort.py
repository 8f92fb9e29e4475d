"""Joint cohort: the sites of several sources in one folder, as `prepare --into` makes it.

Names stay apart: a site is `SOURCE-SITE`, a patient or stay `SOURCE:ID`. The split of a patient is
drawn by that id. The record has the rule, the inputs and the flow of each source under `sources`:

    OUT/stays.parquet   facts of the stays for table 1, from which the joint table is made again
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from common.data.cohort_folder import (
    COHORT_FILE,
    check_output_folder,
    read_cohort_record,
    site_table_paths,
)
from common.data.cohort_writer import Cohort, read_stay_facts
from common.data.demographics import read_patients
from common.data.exclusion_flow import ExclusionFlow, FlowStep
from common.data.site_table import read_site_table
from common.errors import CohortError

_ONE_HOSPITAL = ("mimic3", "mimic4", "meds", "challenge-2012", "challenge-2019-a")
"""Beginnings of the sites of Beth Israel Deaconess Medical Center; `meds` if its data are MIMIC-IV.
Hospital A of the challenge 2019 and the patients of the challenge 2012 (MIMIC-II) are of it too."""


def sources_of_one_hospital(sites: Iterable[str]) -> list[str]:
    """Return the sources of a joint cohort that can have the same persons, none if fewer than two.

    Their ids differ or are prefixed, so that a person's stays in two of them can be in two splits.

    Args:
        sites: the sites' names in a joint cohort.
    """
    names = list(sites)
    found = [each for each in _ONE_HOSPITAL if any(name.startswith(f"{each}-") for name in names)]
    return found if len(found) > 1 else []


@dataclass(frozen=True)
class JointFolder:
    """Folder of a joint cohort that gets the sites of a source.

    Attributes:
        folder: the folder; it may be absent or empty.
        source: name of the source to add.
        parameters: settings of the source, among them `step_minutes`, equal in all sources.
        overwrite: whether the sites of the same source, made with other settings or from other
            inputs, are replaced.
    """

    folder: Path
    source: str
    parameters: Mapping[str, Any]
    overwrite: bool

    def check(self) -> None:
        """Refuse, before a long pass, a folder that cannot get this source.

        Raises:
            CohortError: the folder has other files, a cohort that is not joint, another step
                length, or this source with other settings.
        """
        sources = self._sources()
        held = sources.pop(self.source, None)
        for name, found in sources.items():
            if found["step_minutes"] != self.parameters["step_minutes"]:
                raise CohortError(
                    f"{self.folder} has steps of {found['step_minutes']} minutes ({name}); give "
                    f"--step-minutes {found['step_minutes']} or another folder"
                )
        wanted = json.loads(json.dumps(self.parameters))
        if held is not None and held["parameters"] != wanted and not self.overwrite:
            raise CohortError(
                f"{self.folder} has {self.source} with other settings ({held['rule']}); replace "
                "it with --overwrite or give another folder"
            )

    def join(self, cohort: Cohort) -> Cohort:
        """Return the cohort of the folder's other sources and this one.

        Args:
            cohort: the cohort of this source alone.

        Raises:
            CohortError: the folder cannot be read, or has this source from other inputs.
        """
        held = self._sources()
        own = _source_record(cohort)
        before = held.pop(self.source, None)
        if before is not None and before["inputs"] != own["inputs"] and not self.overwrite:
            raise CohortError(
                f"{self.folder} has {self.source} from other inputs; replace it with --overwrite "
                "or give another folder"
            )
        records = dict(sorted({**held, self.source: own}.items()))
        earlier = self._read_earlier(list(held))
        return _joint(records, [earlier, _named(cohort)] if earlier else [_named(cohort)])

    def _sources(self) -> dict[str, dict[str, Any]]:
        if not check_output_folder(self.folder, COHORT_FILE):
            return {}
        sources: dict[str, dict[str, Any]] | None = read_cohort_record(self.folder).get("sources")
        if sources is None:
            raise CohortError(
                f"{self.folder} holds a cohort of one source, made without --into; give another "
                "folder, and add each source to it with --into"
            )
        return dict(sources)

    def _read_earlier(self, names: list[str]) -> _Part | None:
        """Read the sites, patients and facts of other sources."""
        if not names:
            return None
        tables = [read_site_table(path) for path in site_table_paths(self.folder).values()]
        kept = [table for table in tables if table.info.source in names]
        ids = {patient for table in kept for patient in table.frame["patient_id"].unique()}
        stays = {stay for table in kept for stay in table.frame["stay_id"].unique()}
        patients, facts = read_patients(self.folder), read_stay_facts(self.folder)
        return _Part(
            {table.info.site: table.frame.drop(columns="split") for table in kept},
            None if patients is None else patients[patients["patient_id"].isin(ids)],
            None if facts is None else facts[facts["stay_id"].isin(stays)],
        )


@dataclass(frozen=True)
class _Part:
    """Sites, patients and facts of stays, under the names of a joint cohort."""

    sites: dict[str, pd.DataFrame]
    patients: pd.DataFrame | None
    stays: pd.DataFrame | None


def _named(cohort: Cohort) -> _Part:
    """Return a source's cohort under the names of a joint cohort."""
    prefix = f"{cohort.source}:"

    def with_prefix(frame: pd.DataFrame) -> pd.DataFrame:
        ids = [name for name in ("patient_id", "stay_id") if name in frame]
        return frame.assign(**{name: prefix + frame[name].astype(str) for name in ids})

    return _Part(
        {f"{cohort.source}-{site}": with_prefix(rows) for site, rows in cohort.sites.items()},
        None if cohort.patients is None else with_prefix(cohort.patients),
        None if cohort.stays is None else with_prefix(cohort.stays),
    )


def _source_record(cohort: Cohort) -> dict[str, Any]:
    """Return how a source's sites were made, as plain values."""
    return {
        "rule": cohort.rule,
        "step_minutes": cohort.step_minutes,
        "parameters": json.loads(json.dumps(cohort.parameters)),
        "inputs": cohort.inputs,
        "flow": cohort.flow.to_json(),
        "dropped_measurements": cohort.dropped,
        "corrected_measurements": cohort.corrected,
        "sepsis": cohort.sepsis,
        "sites": sorted(f"{cohort.source}-{site}" for site in cohort.sites),
    }


def _joint(sources: Mapping[str, Mapping[str, Any]], parts: list[_Part]) -> Cohort:
    sepsis = {name: record["sepsis"] for name, record in sources.items() if record["sepsis"]}
    return Cohort(
        source=" + ".join(sources),
        rule="; ".join(f"{name}: {record['rule']}" for name, record in sources.items()),
        step_minutes=next(iter(sources.values()))["step_minutes"],
        parameters={name: record["parameters"] for name, record in sources.items()},
        inputs=_of_each(sources, "inputs", "/"),
        flow=ExclusionFlow([step for name in sources for step in _steps(name, sources[name])]),
        sites={site: rows for part in parts for site, rows in part.sites.items()},
        dropped=_of_each(sources, "dropped_measurements", ": "),
        corrected=_of_each(sources, "corrected_measurements", ": "),
        patients=_together([part.patients for part in parts], "patient_id"),
        stays=_together([part.stays for part in parts], "stay_id"),
        sepsis="; ".join(f"{name}: {rule}" for name, rule in sepsis.items()),
        sources=sources,
    )


def _of_each(sources: Mapping[str, Mapping[str, Any]], key: str, mark: str) -> dict[str, Any]:
    """Return the entries of a mapping in each source's record, named after the source."""
    return {
        f"{name}{mark}{entry}": value
        for name, record in sources.items()
        for entry, value in record.get(key, {}).items()
    }


def _steps(source: str, record: Mapping[str, Any]) -> list[FlowStep]:
    return [
        FlowStep(
            step["label"],
            {f"{source}-{unit}": stays for unit, stays in step["stays_per_unit"].items()},
            step["patients"],
            source,
        )
        for step in record["flow"]
    ]


def _together(frames: list[pd.DataFrame | None], key: str) -> pd.DataFrame | None:
    """Return the rows of all frames, by source; the order within a source stays."""
    known = [frame for frame in frames if frame is not None]
    if not known:
        return None
    rows = pd.concat(known, ignore_index=True)
    source = rows[key].str.partition(":")[0]
    return rows.iloc[source.argsort(kind="stable")].reset_index(drop=True)
