from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from common.errors import SourceError, UsageError
from simulation.cohorts.mimic import icd9
from simulation.cohorts.mimic.chartevents import stream_chartevents
from simulation.cohorts.mimic.sofa.score import SOFA_ITEMS
from simulation.cohorts.mimic3.schema import mimic3_tables
from simulation.cohorts.mimic3.sepsis import (
    RULE_TABLES,
    SEPSIS_RULES,
    check_tables,
    flags,
    select_septic,
)
from tests.simulation.cohorts.mimic.sofa_patients import HEADERS, SOFA_HEADERS


def write(folder: Path, table: str, header: str, rows: Sequence[str] = ()) -> None:
    (folder / f"{table}.csv").write_text("\n".join([header, *rows, ""]))


def write_stays(folder: Path, admissions: int) -> None:
    """One patient, admission and ICU stay of the days 10 to 14 each; stay = 1000 + admission."""
    rows = [
        f"{n},{n},{1000 + n},metavision,MICU,2150-06-10 00:00:00,2150-06-14 00:00:00"
        for n in range(1, admissions + 1)
    ]
    write(folder, "ICUSTAYS", HEADERS["ICUSTAYS"], rows)


def write_codes(
    folder: Path, diagnoses: Sequence[Sequence[str]], procedures: Sequence[Sequence[str]] = ()
) -> None:
    """The codes of each admission; admissions count from 1."""
    write_stays(folder, len(diagnoses))
    rows = [f'{n},{n},1,"{code}"' for n, codes in enumerate(diagnoses, 1) for code in codes]
    write(folder, "DIAGNOSES_ICD", "SUBJECT_ID,HADM_ID,SEQ_NUM,ICD9_CODE", rows)
    rows = [f'{n},"{code}"' for n, codes in enumerate(procedures, 1) for code in codes]
    write(folder, "PROCEDURES_ICD", "HADM_ID,ICD9_CODE", rows)


def septic(folder: Path, rule: str) -> list[int]:
    """The admissions that a rule keeps."""
    with mimic3_tables(folder) as tables:
        stays = tables.load("ICUSTAYS", "the test")
        chartevents = None
        if rule == "sepsis3":
            subjects = range(1, 1000)
            chartevents = stream_chartevents(tables, SOFA_ITEMS, subjects, with_text=True)
        return [stay - 1000 for stay in select_septic(tables, rule, stays, chartevents)]


def test_explicit(tmp_path: Path) -> None:
    write_codes(tmp_path, [["99592"], ["78552"], ["99591"], ["0389"], ["4019", "99592"], []])
    with mimic3_tables(tmp_path) as tables:
        coded = flags(tables)
    assert coded["sepsis"].tolist() == [False, False, True, False, False, False]
    assert coded["explicit"].tolist() == [True, True, False, False, True, False]
    (tmp_path / "PROCEDURES_ICD.csv").unlink()
    assert septic(tmp_path, "explicit") == [1, 2, 5]


def test_angus(tmp_path: Path) -> None:
    diagnoses = [
        ["486", "5849"],  # pneumonia, acute kidney failure
        ["486"],  # infection alone
        ["5849"],  # organ dysfunction alone
        ["486"],  # with ventilation
        ["4019"],  # ventilation without infection
        ["99592"],  # explicit
        ["00845", "2875"],  # leading zeros: C. difficile, thrombocytopenia
        ["56211", "45829"],  # a five-digit code: diverticulitis
        ["56210", "45829"],  # diverticulosis is no infection
        ["99591"],  # sepsis without organ dysfunction
    ]
    procedures = [*([[]] * 3), ["9672"], ["9671"], *([[]] * 5)]
    write_codes(tmp_path, diagnoses, procedures)
    assert septic(tmp_path, "angus") == [1, 4, 6, 7, 8]


def test_martin(tmp_path: Path) -> None:
    diagnoses = [
        ["0389", "5849"],  # septicaemia, acute kidney failure
        ["0389"],  # septicaemia alone
        ["5849"],  # organ failure alone
        ["7907", "51881"],  # bacteraemia, respiratory failure
        ["486", "5849"],  # pneumonia is no septicaemia
        ["0389"],  # with haemodialysis
        ["11281", "2762"],  # candidal endocarditis, acidosis
        ["11289", "2762"],  # another candidiasis
        ["99592"],  # explicit codes alone are not counted
        ["0389"],  # ventilation is not counted
    ]
    procedures = [*([[]] * 5), ["3995"], *([[]] * 3), ["9671"]]
    write_codes(tmp_path, diagnoses, procedures)
    assert septic(tmp_path, "martin") == [1, 4, 6, 7]


def test_none_keeps_every_stay_and_reads_nothing(tmp_path: Path) -> None:
    write_stays(tmp_path, 3)
    assert septic(tmp_path, "none") == [1, 2, 3]


def test_codes_hold_for_every_stay_of_the_admission(tmp_path: Path) -> None:
    write_codes(tmp_path, [["99592"]])
    text = (tmp_path / "ICUSTAYS.csv").read_text()
    (tmp_path / "ICUSTAYS.csv").write_text(
        text + "1,1,1002,metavision,CCU,2150-06-20 00:00:00,2150-06-21 00:00:00\n"
    )
    assert septic(tmp_path, "explicit") == [1, 2]


def test_only_candidate_stays_are_selected(tmp_path: Path) -> None:
    write_codes(tmp_path, [["99592"], ["99592"]])
    with mimic3_tables(tmp_path) as tables:
        stays = tables.load("ICUSTAYS", "the test")
        tables.connection.execute(f"CREATE TABLE candidates AS FROM {stays} WHERE hadm_id = 2")
        assert select_septic(tables, "explicit", "candidates") == [1002]


# --- sepsis3: the stays last from day 10 to day 14 ------------------------------------------------


def write_sepsis3(
    folder: Path, admissions: Sequence[tuple[str | None, str | None, Sequence[tuple[str, float]]]]
) -> None:
    """Of each admission: day of the antibiotic, time of the culture, times and platelet counts."""
    write_stays(folder, len(admissions))
    for table, header in SOFA_HEADERS.items():
        write(folder, table, header)
    numbered = list(enumerate(admissions, start=1))
    write(
        folder,
        "PRESCRIPTIONS",
        "SUBJECT_ID,HADM_ID,ICUSTAY_ID,STARTDATE,ENDDATE,DRUG_TYPE,DRUG,ROUTE",
        [f"{n},{n},,{day} 00:00:00,,MAIN,Vancomycin,IV" for n, (day, _, _) in numbered if day],
    )
    write(
        folder,
        "MICROBIOLOGYEVENTS",
        "SUBJECT_ID,HADM_ID,CHARTDATE,CHARTTIME,SPEC_TYPE_DESC,ORG_NAME",
        [f"{n},{n},{time[:10]},{time},BLOOD CULTURE," for n, (_, time, _) in numbered if time],
    )
    write(
        folder,
        "LABEVENTS",
        "SUBJECT_ID,HADM_ID,ITEMID,CHARTTIME,VALUE,VALUENUM",
        [
            f"{n},{n},51265,{time},{count},{count}"
            for n, (_, _, counts) in numbered
            for time, count in counts
        ],
    )


def test_sepsis3(tmp_path: Path) -> None:
    antibiotic, culture = "2150-06-12", "2150-06-12 06:00:00"
    inside = "2150-06-12 08:00:00"
    write_sepsis3(
        tmp_path,
        [
            (antibiotic, culture, [(inside, 90)]),  # 2 points
            (antibiotic, culture, [(inside, 120)]),  # 1 point
            (None, culture, [(inside, 10)]),  # no antibiotic
            (antibiotic, None, [(inside, 10)]),  # no culture
            (antibiotic, culture, [("2150-06-10 06:00:00", 90)]),  # 48 h before
            (antibiotic, culture, [("2150-06-10 05:59:59", 90)]),
            (antibiotic, culture, [("2150-06-13 06:00:00", 90)]),  # 24 h after
            (antibiotic, culture, [("2150-06-13 06:00:01", 90)]),
            # An infection of the same admission, but long before the stay, and long after.
            ("2150-05-12", "2150-05-12 06:00:00", [("2150-05-12 06:00:00", 10)]),
            ("2150-07-12", "2150-07-12 06:00:00", [("2150-07-12 06:00:00", 10)]),
        ],
    )
    assert septic(tmp_path, "sepsis3") == [1, 5, 7]


def test_sepsis3_of_a_later_infection_and_of_an_open_stay(tmp_path: Path) -> None:
    late = "2150-06-29 06:00:00"
    write_sepsis3(tmp_path, [("2150-06-10", "2150-06-10 06:00:00", [(late, 10)])])
    text = (tmp_path / "PRESCRIPTIONS.csv").read_text()
    (tmp_path / "PRESCRIPTIONS.csv").write_text(
        text + "1,1,,2150-06-29 00:00:00,,MAIN,Cefepime,IV\n"
    )
    text = (tmp_path / "MICROBIOLOGYEVENTS.csv").read_text()
    (tmp_path / "MICROBIOLOGYEVENTS.csv").write_text(text + f"1,1,2150-06-29,{late},URINE,\n")
    assert septic(tmp_path, "sepsis3") == []
    # The same stay without an end lasts until then.
    text = (tmp_path / "ICUSTAYS.csv").read_text()
    (tmp_path / "ICUSTAYS.csv").write_text(text.replace("2150-06-14 00:00:00", ""))
    assert septic(tmp_path, "sepsis3") == [1]


def test_sepsis3_without_chart_events_is_a_defect_of_the_caller(tmp_path: Path) -> None:
    write_sepsis3(tmp_path, [("2150-06-10", "2150-06-10 06:00:00", [])])
    with mimic3_tables(tmp_path) as tables, pytest.raises(ValueError, match="chart events"):
        select_septic(tables, "sepsis3", tables.load("ICUSTAYS", "the test"))


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "table"), [(rule, table) for rule in SEPSIS_RULES for table in RULE_TABLES[rule]]
)
def test_an_absent_table_and_the_rule_are_named(tmp_path: Path, rule: str, table: str) -> None:
    write_codes(tmp_path, [["99592"]])
    write_sepsis3(tmp_path, [("2150-06-10", "2150-06-10 06:00:00", [])])
    with mimic3_tables(tmp_path) as tables:
        check_tables(tables, rule)
    (tmp_path / f"{table}.csv").unlink()
    with mimic3_tables(tmp_path) as tables:
        with pytest.raises(SourceError, match=rf"\b{table}\b.*{rule}"):
            check_tables(tables, rule)
        with pytest.raises(SourceError, match=rf"\b{table}\b.*{rule}"):
            select_septic(tables, rule, "stays", "chartevents")


def test_an_unknown_rule_is_refused(tmp_path: Path) -> None:
    with mimic3_tables(tmp_path) as tables, pytest.raises(UsageError, match=r"'sepsis2'.*sepsis3"):
        select_septic(tables, "sepsis2", "stays")


# --- codes and labels -----------------------------------------------------------------------------


def test_codes_are_written_as_mimic_writes_them() -> None:
    lists = [
        *(icd9.SEPSIS_CODES, icd9.SEVERE_SEPSIS_CODES, icd9.SEPTIC_SHOCK_CODES),
        *(icd9.ANGUS_INFECTION_CODES, icd9.ANGUS_ORGAN_CODES, icd9.ANGUS_VENTILATION_PROCEDURES),
        *(icd9.MARTIN_SEPTICAEMIA_CODES, icd9.MARTIN_ORGAN_CODES, icd9.MARTIN_ORGAN_PROCEDURES),
    ]
    for codes in lists:
        assert len(codes) == len(set(codes))
        assert all(code.isdigit() and 3 <= len(code) <= 5 for code in codes)


def test_code_rules_equal_the_labels_stay_by_stay(shared_data: Path) -> None:
    labels = pd.read_csv(shared_data / "mimic3-demo-grafted-labels" / "labels.csv")
    labels = labels.rename(columns={"icustay_id": "stay_id"}).set_index("stay_id")
    labels = labels.sort_index().astype({"angus": bool})
    with mimic3_tables(shared_data / "mimic3-demo-grafted") as tables:
        found = flags(tables).set_index("stay_id")
        stays = tables.load("ICUSTAYS", "the test")
        selected = {
            rule: select_septic(tables, rule, stays) for rule in ("explicit", "angus", "martin")
        }
    columns = {
        "severe_sepsis": "explicit_severe_sepsis",
        "septic_shock": "explicit_septic_shock",
        "explicit": "explicit_sepsis",
        "angus": "angus",
        "martin_septicaemia": "martin_sepsis",
        "martin_organ_failure": "martin_organ_failure",
    }
    expected = labels[list(columns.values())].astype(bool).set_axis(list(columns), axis="columns")
    expected["martin"] = expected["martin_septicaemia"] & expected["martin_organ_failure"]
    pd.testing.assert_frame_equal(found[expected.columns.tolist()], expected)
    assert {rule: len(kept) for rule, kept in selected.items()} == {
        "explicit": 27,
        "angus": 68,
        "martin": 38,
    }
    for rule, kept in selected.items():
        assert kept == expected.index[expected[rule]].tolist()
