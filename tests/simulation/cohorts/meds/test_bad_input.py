"""Each kind of bad input ends in one line, and nothing is written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.console import run
from simulation.cli import app
from simulation.cohorts.meds.codes import MIMIC_IV_CODES
from tests.simulation.cohorts.meds.events import after, rates, stay, write_data, write_shard

SHARD = "data/train/0.parquet"


def prepare(place: Path, out: Path, codes: Path = MIMIC_IV_CODES) -> int:
    words = ["prepare", "meds", "--meds-dir", str(place), "--codes", str(codes)]
    return run(app, [*words, "--out", str(out)])


def change(folder: Path, edit: Callable[[pa.Table], pa.Table]) -> Path:
    table = edit(pq.read_table(folder / SHARD))
    pq.write_table(table, folder / SHARD)
    return folder


def without_shards(folder: Path) -> Path:
    (folder / SHARD).unlink()
    return folder


def without_times(folder: Path) -> Path:
    return change(folder, lambda table: table.drop_columns(["time"]))


def without_numbers(folder: Path) -> Path:
    return change(folder, lambda table: table.drop_columns(["numeric_value"]))


def texts_as_values(folder: Path) -> Path:
    text = pa.array(["80"] * 26)
    edited = change(folder, lambda table: table.drop_columns(["numeric_value"]))
    return change(edited, lambda table: table.append_column("value", text))


def texts_as_times(folder: Path) -> Path:
    return change(
        folder,
        lambda table: table.set_column(1, "time", table["time"].cast(pa.string())),
    )


def empty(folder: Path) -> Path:
    (folder / SHARD).write_bytes(b"")
    return folder


def cut_off(folder: Path) -> Path:
    whole = (folder / SHARD).read_bytes()
    (folder / SHARD).write_bytes(whole[: len(whole) // 2])
    return folder


def other_codes(folder: Path) -> Path:
    write_shard(folder / SHARD, [(1, after(0), "SOMETHING", 1.0)])
    return folder


def without_vitals(folder: Path) -> Path:
    write_shard(folder / SHARD, stay(1))
    return folder


def publish(folder: Path) -> None:
    digest = hashlib.sha256((folder / SHARD).read_bytes()).hexdigest()
    (folder / "SHA256SUMS.txt").write_text(
        f"{digest}  {SHARD}\n{digest}  data/held_out/0.parquet\n"
    )


def another_shard(folder: Path) -> Path:
    write_shard(folder / "data/held_out/0.parquet", [*stay(2), *rates(2)])
    publish(folder)
    return folder


def without_a_published_shard(folder: Path) -> Path:
    publish(folder)
    return folder


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (another_shard, "held_out/0.parquet is not the published file"),
        (without_a_published_shard, "data lacks 1 of the files in SHA256SUMS.txt, e.g. data/held"),
        (without_shards, "data holds no .parquet file of MEDS events"),
        (without_times, "0.parquet lacks the column TIME"),
        (without_numbers, "train has a column numeric_value; without numbers"),
        (texts_as_values, "0.parquet holds value as string; MEDS has numbers there"),
        (texts_as_times, "0.parquet holds time as string; MEDS has timestamps there"),
        (empty, "0.parquet cannot be read as Parquet"),
        (cut_off, "0.parquet cannot be read as Parquet"),
        (other_codes, "has a code of admission (e.g. ICU_ADMISSION//*)"),
        (without_vitals, "has a code of a vital sign (e.g. LAB//220045//*)"),
        (lambda folder: folder / "metadata", "metadata holds no events; give the folder above it"),
        (lambda folder: folder.parent, "which has it"),
        (lambda folder: folder / "absent", "absent does not exist"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], Path],
    message: str,
) -> None:
    place = damage(write_data(tmp_path / "input" / "meds", [*stay(1), *rates(1)]))
    out = tmp_path / "out"
    assert prepare(place, out) == 3
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_the_folder_of_the_shards_is_taken_too(tmp_path: Path) -> None:
    folder = write_data(tmp_path / "meds", [*stay(1), *rates(1)])
    assert prepare(folder / "data", tmp_path / "out") == 0


CODES = MIMIC_IV_CODES.read_text()


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ("[stays", "is not TOML"),
        (
            CODES.replace("admission", "admissions", 1),
            "stays.admissions is unknown; did you mean",
        ),
        (CODES.replace('unit = "mmHg"', 'unit = "mm"', 1), "sbp has no unit 'mm'"),
        (CODES.replace("vitals.spo2", "vitals.spo"), "did you mean"),
        (CODES.replace('= "ccu"', '= "c c u"'), "c c u"),
        (CODES.replace('["MEDS_BIRTH"]', "[]"), "takes a list of texts"),
        (CODES[: CODES.index("[[vitals")], "vitals"),
        (CODES.replace("low = 70", 'low = "70"'), "low must be a number"),
    ],
)
def test_a_bad_table_of_codes_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], codes: str, message: str
) -> None:
    path = tmp_path / "codes.toml"
    path.write_text(codes)
    folder = write_data(tmp_path / "meds", [*stay(1), *rates(1)])
    assert prepare(folder, tmp_path / "out", path) == 2
    error = capsys.readouterr().err
    assert message in error
    assert str(path) in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_two_sites_of_one_name_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = [*stay(1, unit="East (1)"), *rates(1), *stay(2, unit="East-1"), *rates(2)]
    assert prepare(write_data(tmp_path / "meds", events), tmp_path / "out") == 3
    assert "'East-1' would have the name east-1, as another site has" in capsys.readouterr().err


def test_shards_in_a_linked_folder_are_read(tmp_path: Path) -> None:
    elsewhere = write_data(tmp_path / "elsewhere", [*stay(1), *rates(1)]) / "data" / "train"
    (tmp_path / "meds" / "data").mkdir(parents=True)
    (tmp_path / "meds" / "data" / "train").symlink_to(elsewhere, target_is_directory=True)
    assert prepare(tmp_path / "meds", tmp_path / "out") == 0
