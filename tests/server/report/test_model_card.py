from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

from common.adapter.adapter import Adapter
from common.backbones.base import ModelForecaster
from common.backbones.loading import load_backbone
from common.backbones.lora import merged_model
from common.forecasting.bounds import bound_forecast
from common.reporting.markdown import escape_markdown
from tests.common.forecasting.wards import ward

MakeRun = Callable[..., Path]


def card_of(run: Path) -> str:
    return (run / "adapter" / "README.md").read_text()


def snippets(run: Path, backbone: Path) -> list[str]:
    """The card's code, with its placeholders filled in."""
    code = re.findall(r"```python\n(.*?)```", card_of(run), re.DOTALL)
    filled = [text.replace(f"path/to/{backbone.name}", str(backbone)) for text in code]
    return [text.replace('"adapter"', repr(str(run / "adapter"))) for text in filled]


def test_the_hub_s_own_library_reads_the_metadata(make_run: MakeRun, tiny_bolt: Path) -> None:
    data: dict[str, Any] = vars(ModelCard(card_of(make_run())).data)
    assert data["library_name"] == "peft"
    assert data["base_model"] == tiny_bolt.name
    assert data["license"] == "other"
    assert {"lora", "federated-learning"} <= set(data["tags"])


def test_the_card_says_what_the_adapter_is(make_run: MakeRun, trained_adapter: Adapter) -> None:
    card = " ".join(card_of(make_run()).split())
    for fact in (
        trained_adapter.backbone_digest,
        trained_adapter.digest(),
        "| ccu | 10 | 100 | synthetic | random walks |",
        "after round 2 of 2",
        "| `lora.rank` | 8 |",
        "WQL was 0.1000 before training and 0.0333",
        "optimistic",
    ):
        assert fact in card


def test_the_card_names_no_path_of_the_coordinator(make_run: MakeRun, tiny_bolt: Path) -> None:
    card = card_of(make_run())
    assert str(tiny_bolt.parent) not in card
    assert "/somewhere" not in card


@pytest.mark.slow
def test_the_card_s_code_loads_the_adapter(
    make_run: MakeRun,
    tiny_bolt: Path,
    trained_adapter: Adapter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = make_run()
    monkeypatch.chdir(tmp_path)
    ward(1).to_csv("vitals.csv", index=False)
    merged = merged_model(load_backbone(str(tiny_bolt)), trained_adapter)
    with_fedvitals, with_chronos = (_run(text) for text in snippets(run, tiny_bolt))
    forecasts = with_fedvitals["forecaster"].forecast(with_fedvitals["history"])
    assert not any(forecasts.reasons)
    raw = ModelForecaster(load_backbone(str(tiny_bolt)).backbone, merged).forecast(
        forecasts.context, forecasts.vital, 4
    )
    np.testing.assert_allclose(forecasts.quantiles, bound_forecast(raw, forecasts.vital), rtol=1e-5)
    context = torch.linspace(60.0, 90.0, 24)[None]
    expected = merged(context=context).quantile_preds
    torch.testing.assert_close(with_chronos["model"](context=context).quantile_preds, expected)
    assert with_chronos["quantiles"].shape == (1, 4, 3)
    assert np.isfinite(with_chronos["quantiles"].numpy()).all()


def _run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def test_results_come_with_their_intervals(evaluated_run: Path) -> None:
    result = json.loads((evaluated_run / "evaluation.json").read_text())
    card = card_of(evaluated_run)
    assert "Not evaluated" not in card
    patients = result["pooled"]["models"]["adapter"]["mean"]["patients"]
    assert f"On {patients} test patients" in " ".join(card.split())
    row = next(line for line in card.splitlines() if line.startswith("| Heart rate |"))
    wql = result["pooled"]["models"]["zero_shot"]["vitals"]["heart_rate"]["wql"]
    assert f" {wql:.4f} " in row
    assert "[" in row.split("|")[-2]


def test_text_from_sites_is_never_markup(make_run: MakeRun, run_config: dict[str, Any]) -> None:
    rule = "x | y\n\n# Heading <script>alert(1)</script> [link](http://evil) `code` " + "z" * 999
    run_config["sites"]["ccu"]["rule"] = rule
    card = card_of(make_run(config=run_config))
    assert "<script>" not in card
    assert "\n# Heading" not in card
    row = next(line for line in card.splitlines() if line.startswith("| ccu"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 6
    assert len(row) < 600


def test_escaped_text_is_one_bounded_line() -> None:
    assert escape_markdown("a\nb\x00c") == "a b c"
    assert escape_markdown("*a_b*") == r"\*a\_b\*"
    assert len(escape_markdown("a" * 5000)) == 200
