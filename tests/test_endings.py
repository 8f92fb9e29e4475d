"""How every command that writes ends when it is interrupted, its disk is full or its folder taken.

The failure is raised where all of them end up: in the flush of `common.files.atomic_io`.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from common.console import run
from tests.client.ingest.hospital import LONG, hours_of, write_rows
from tests.common.backbones.torch_pickle.checkpoints import content, write

pytestmark = pytest.mark.usefixtures("figures_undrawn")

QUICK = ["-c", "lora.rank=2", "-c", "windows.context=24", "-c", "train.steps=2", "-c", "rounds=1"]
QUICK += ["-c", "windows.vitals=heart_rate"]  # a figure of the report per vital sign
FLUSH = "common.files.atomic_io._flush"


@dataclass(frozen=True)
class Case:
    """A command that writes.

    Attributes:
        program: its package.
        arguments: its words; {cohort}, {bolt}, {release}, {files} and {out} are filled in.
        work: the function that does its work, which must not start where the folder is refused.
        whole: what a user would take for the whole output, below the output folder.
        code: the exit code with a full disk.
        step: the function that fails.
    """

    program: str
    arguments: str
    work: str
    whole: str
    code: int
    step: str = FLUSH


EXPERIMENT = "--data {cohort} --out {out} --seeds 0 -c backbone={bolt} " + " ".join(QUICK)
STUDY = "simulation.experiments.run_experiment.run_study"
CASES = {
    "prepare": Case(
        "simulation",
        "prepare synthetic --stays 60 --sepsis none --out {out}",
        "simulation.cli.prepare.mimic3._synthetic_cohort",
        "cohort.json",
        1,  # the disk of the raw tables, in the folder of temporary files
    ),
    "run": Case(
        "simulation",
        f"run --data {{cohort}} --backbone {{bolt}} --out {{out}} {' '.join(QUICK)}",
        "simulation.run.read_site_table",
        "adapter",
        6,
    ),
    "compare": Case("simulation", f"compare {EXPERIMENT}", STUDY, "compare/index.html", 2),
    "sweep": Case(
        "simulation", f"sweep ranks --ranks 1 {EXPERIMENT}", STUDY, "ranks/index.html", 2
    ),
    "reproduce": Case(
        "simulation",
        f"reproduce {EXPERIMENT}",
        "simulation.experiments.studies.reproduce.reproduce_all",
        "reduced/index.html",
        2,
    ),
    "cost": Case(
        "simulation",
        "cost --backbones {bolt} --ranks 1 --steps 1 --out {out}",
        "simulation.experiments.studies.cost.measure_costs",
        "cost/index.html",
        1,
        "simulation.experiments.studies.cost.subprocess.run",
    ),
    "pretrain": Case(
        "simulation",
        "pretrain chronos-bolt-nano --out {out}",
        "simulation.pretraining.train",
        "recipe.json",
        1,
    ),
    "ingest": Case(
        "client",
        "ingest --mapping {files}/mapping.toml --table {files}/t.csv --out {out}",
        "client.ingest.pipeline.pipeline._read",
        "ingest.json",
        4,
    ),
    "convert": Case(
        "client",
        "convert lag-llama {files}/lag-llama.ckpt {out}",
        "common.backbones.lag_llama.convert.open_checkpoint",
        "config.json",
        1,
    ),
    "personalise": Case(
        "client",
        "personalise --adapter {release}/adapter --data {cohort}/sites/micu.parquet --passes 1 "
        "--backbone {bolt} "
        "--out {out}",
        "client.app.personalization.run_personalization",
        "adapter_config.json",
        7,
    ),
    "evaluate": Case(
        "server",
        "evaluate --adapter {release} --data {cohort} --out {out}",
        "server.release.evaluation.evaluate_adapter",
        "evaluation.json",
        10,
    ),
}


@pytest.fixture(scope="module")
def release(tiny_bolt: Path, tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one round."""
    from simulation.run import federate
    from tests.samples.federation import tiny_run

    out = tmp_path_factory.mktemp("release") / "run"
    federate(tiny_run(tiny_bolt, tiny_cohort, out, rounds=1))
    return out


@pytest.fixture
def start(
    tiny_bolt: Path,
    tiny_cohort: Path,
    release: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Case], int]:
    """Run a command of a case, with the output folder `out`, and return its exit code."""
    from simulation.pretraining import NANO_MODELS

    nano = NANO_MODELS["chronos-bolt-nano"]
    small: dict[str, Any] = {
        "batch_size": 8,
        "series_per_chunk": 64,
        "held_out_batches": 1,
        "steps": 1,
    }
    recipe = dataclasses.replace(nano.recipe, **small)
    monkeypatch.setitem(NANO_MODELS, nano.recipe.name, dataclasses.replace(nano, recipe=recipe))
    monkeypatch.chdir(tmp_path)
    files = tmp_path / "files"
    files.mkdir()
    mapping = LONG.format(zone="UTC", stay='id = "enc"', min_hours=0)
    (files / "mapping.toml").write_text(mapping, encoding="utf-8")
    write_rows(files / "t.csv", hours_of("a", "1", {0: "80", 5: "90"}))
    write(files / "lag-llama.ckpt", content())

    def call(case: Case) -> int:
        words = case.arguments.format(
            cohort=tiny_cohort, bolt=tiny_bolt, release=release, files=files, out=tmp_path / "out"
        )
        return run(import_module(f"{case.program}.cli").app, words.split(), case.program)

    return call


@contextmanager
def failing(step: str, error: BaseException | None, after: int = 0) -> Iterator[list[int]]:
    """Raise an error at a call of a function; yield a list with the number of its calls."""
    module, _, name = step.rpartition(".")
    owner: Any = import_module(module) if module != STDLIB else subprocess
    real, calls = getattr(owner, name), [0]

    def fail(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if error is not None and calls[0] > after:
            raise error
        return real(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, fail)
        yield calls


STDLIB = "simulation.experiments.studies.cost.subprocess"


def full(number: int = errno.ENOSPC) -> OSError:
    return OSError(number, os.strerror(number), "the file")


def last_line(error: str) -> str:
    """The line that ends a command; there is one, whatever its log has said before."""
    endings = [line for line in error.splitlines() if line.startswith(("error: ", "Interrupted"))]
    assert len(endings) == 1, error
    assert "Traceback" not in error
    return endings[0]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_interrupted_command_says_what_is_kept(
    case: Case, start: Callable[[Case], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with failing(case.step, KeyboardInterrupt()):
        assert start(case) == 130
    line = last_line(capsys.readouterr().err)
    assert line.startswith("Interrupted; ")
    assert str(tmp_path / "out") in line or "start the command again" in line
    assert not (tmp_path / "out" / case.whole).exists()
    assert not list(tmp_path.glob(".*.partial"))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_full_disk_is_one_line(
    case: Case, start: Callable[[Case], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with failing(case.step, full()):
        assert start(case) == case.code
    assert "No space left on device" in last_line(capsys.readouterr().err)
    assert not (tmp_path / "out" / case.whole).exists()
    assert not list(tmp_path.glob(".*.partial"))


def never(*_: Any, **__: Any) -> None:
    raise AssertionError("the work has begun")


@pytest.mark.parametrize("place", ["foreign", "file", "read-only"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_folder_that_is_not_ours_is_refused_before_any_work(
    case: Case,
    place: str,
    start: Callable[[Case], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    if place == "file":
        out.touch()
    elif place == "foreign":
        out.mkdir()
        (out / "README.md").write_text("theirs")
    else:
        monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(full(errno.EROFS)))
    before = sorted(path for path in tmp_path.rglob("*") if "fedvitals-home" not in str(path))
    monkeypatch.setattr(case.work, never)
    assert start(case) not in (0, 1, 130)
    assert last_line(capsys.readouterr().err).startswith("error: ")
    now = sorted(path for path in tmp_path.rglob("*") if "fedvitals-home" not in str(path))
    assert now == before


@pytest.mark.slow
def test_a_run_that_ends_at_any_write_goes_on_as_it_says(
    start: Callable[[Case], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case, out = CASES["run"], tmp_path / "out"
    assert start(case) == 0  # copies the packaged weights
    shutil.rmtree(out)
    with failing(FLUSH, None) as calls:
        assert start(case) == 0
    for moment in range(calls[0]):
        shutil.rmtree(out)
        capsys.readouterr()
        with failing(FLUSH, full() if moment % 2 else KeyboardInterrupt(), moment):
            assert start(case) == (10 if moment % 2 else 130)
        line = last_line(capsys.readouterr().err)
        if "server evaluate" in line:
            words = f"evaluate --adapter {out} --data {{cohort}}"
            again = dataclasses.replace(case, program="server", arguments=words)
        elif "resume" in line:
            again = dataclasses.replace(case, arguments=f"run --resume {out}")
        else:
            again = case
        assert start(again) == 0, line
        assert (out / "evaluation.json").exists()
