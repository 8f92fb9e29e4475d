from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.adapter.adapter import Adapter
from common.adapter.peft_io import load_peft_folder
from common.errors import FederationError
from server.release.release import update_release, write_release
from server.runs.run_reader import read_run_record

MakeRun = Callable[..., Path]


def adapter_bytes(run: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in (run / "adapter").iterdir() if path.suffix != ".md"
    }


def test_a_release_holds_the_adapter_its_card_and_the_report(
    make_run: MakeRun, trained_adapter: Adapter
) -> None:
    run = make_run()
    assert load_peft_folder(run / "adapter") == trained_adapter
    assert "Not for clinical use" in (run / "adapter" / "README.md").read_text()
    assert (run / "report.html").read_text().startswith("<!doctype html>")


def test_the_same_run_is_released_as_the_same_bytes(make_run: MakeRun) -> None:
    one, other = make_run("one"), make_run("other")
    for name in ("report.html", "adapter/README.md", "adapter/adapter_model.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_an_update_does_not_change_the_adapter(make_run: MakeRun) -> None:
    run = make_run()
    before = adapter_bytes(run)
    report = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    (run / "adapter" / "README.md").unlink()
    assert update_release(run) == run / "report.html"
    assert adapter_bytes(run) == before
    assert (run / "report.html").read_bytes() == report


def test_an_update_finds_the_released_round(
    make_run: MakeRun, run_rounds: list[dict[str, Any]], trained_adapter: Adapter
) -> None:
    run = make_run(best_round=2)
    assert read_run_record(run, trained_adapter).best_round == 2
    run_rounds[-1]["best_round"] = 1
    other = make_run("other", rounds=run_rounds, best_round=1)
    assert read_run_record(other, trained_adapter).best_round == 1


def test_a_run_without_rounds_or_sites_is_released(
    make_run: MakeRun, run_config: dict[str, Any]
) -> None:
    config = {**run_config, "sites": {}, "sites_refused": {}}
    run = make_run(config=config, rounds=[], best_round=0)
    assert "No round improved" in (run / "report.html").read_text()
    assert "the accuracy is unknown" in (run / "adapter" / "README.md").read_text()


def test_a_folder_that_cannot_be_written_gives_one_line(
    make_run: MakeRun, trained_adapter: Adapter
) -> None:
    run = make_run()
    (run / "report.html").unlink()
    (run / "report.html").mkdir()
    with pytest.raises(FederationError, match="cannot be written"):
        write_release(run, trained_adapter, 2)
    with pytest.raises(FederationError, match="cannot be written"):
        update_release(run)


def test_a_folder_without_a_run_is_refused(tmp_path: Path, trained_adapter: Adapter) -> None:
    with pytest.raises(FederationError, match="holds no run"):
        write_release(tmp_path, trained_adapter, 0)


def test_bytes_are_added_up_over_messages_that_were_sent(
    make_run: MakeRun, trained_adapter: Adapter
) -> None:
    traffic = read_run_record(make_run(), trained_adapter).traffic()
    # 3 rounds to 3 sites; back in rounds 1 and 2, but for the one that did not reply.
    assert (traffic.to_sites, traffic.from_sites) == (9 * 400, 5 * 300)
    assert traffic.messages == 14
    assert traffic.full == 14 * 4 * 10_000


def test_curves_leave_out_what_was_not_reported(
    make_run: MakeRun, trained_adapter: Adapter
) -> None:
    record = read_run_record(make_run(), trained_adapter)
    assert record.validation_curve("ccu") == [(0, 0.1), (1, 0.05), (2, pytest.approx(0.1 / 3))]
    assert record.validation_curve("sicu") == []
    assert record.loss_curve("sicu") == [(1, 0.5)]
    assert record.loss_curve("ccu") == [(1, 0.5), (2, 0.25)]
    refusals = [(r.round, r.site) for r in record.refusals()]
    assert refusals == [(None, "tsicu"), (2, "sicu")]
