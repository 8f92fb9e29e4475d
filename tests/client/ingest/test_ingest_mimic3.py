"""MIMIC-III's demo as a hospital's own export, against the simulation's reader."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from client.ingest.mapping.site_mapping import read_mapping
from common.data.cohort_folder import site_table_paths
from common.data.cohort_writer import write_cohort
from common.data.site_table import read_site_table
from common.data.vitals import VITALS
from simulation.cohorts.mimic.vitals import ITEMS_OF_VITAL
from simulation.cohorts.mimic3.cohort import Mimic3Settings, mimic3_cohort
from tests.client.ingest.hospital import run

HEAD = """
site = "mimic"
shape = "long"
[columns]
patient = "subject_id"
time = "charttime"
code = "itemid"
value = "valuenum"
[time]
zone = "UTC"
[drop]
error = [1]
[stay]
table = "{stays}"
id = "icustay_id"
start = "intime"
end = "outtime"
[cohort]
rule = "all stays"
"""


def mapping_text(stays: Path) -> str:
    text = HEAD.format(stays=stays)
    for vital in VITALS:
        items = ITEMS_OF_VITAL[vital.name]
        others = [item for item in items.all if item not in items.fahrenheit]
        sources = [f"{{codes = {others}}}"]
        if items.fahrenheit:
            codes = list(items.fahrenheit)
            sources.append(f'{{codes = {codes}, unit = "degF", low = 70, high = 120}}')
        text += f"[vitals.{vital.name}]\nsources = [{', '.join(sources)}]\n"
    return text


def test_the_hourly_vitals_are_those_of_prepare_to_the_bit(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "mimic3-demo-grafted"
    cohort = mimic3_cohort(folder, Mimic3Settings(sepsis="none"))
    write_cohort(cohort, tmp_path / "prepared")
    theirs = pd.concat(
        read_site_table(path).frame for path in site_table_paths(tmp_path / "prepared").values()
    )
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(mapping_text(folder / "ICUSTAYS.csv.gz"))
    out = tmp_path / "ingested"
    record = run(read_mapping(mapping), [folder / "CHARTEVENTS.csv.gz"], out)
    ours = read_site_table(out / "sites" / "mimic.parquet").frame
    # The simulation alone excludes children, and stays in a second care unit.
    assert set(theirs["stay_id"]) < set(ours["stay_id"])
    ours = ours[ours["stay_id"].isin(theirs["stay_id"])]
    keys = ["stay_id", "step"]
    pd.testing.assert_frame_equal(
        ours.sort_values(keys, ignore_index=True),
        theirs.sort_values(keys, ignore_index=True),
        check_exact=True,
    )
    assert sum(counts["used"] for counts in record["measurements"].values()) > 29_000
