"""Personalization: a released adapter fine-tuned at one site, for that site alone.

Training passes over the site's training patients. Selection uses its validation patients: of all
passes, the untrained release included, the one with the lowest validation WQL is kept. Evaluation
uses its test patients: the release and the best pass are both scored on them, and the scores select
nothing. A choice by test scores would bias the score of the chosen one.

The personalised adapter stays at the site: it is trained without differential privacy, and no part
of fedvitals sends it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.training.adapter_training import choose_device, train_adapter
from common.adapter.adapter import Adapter
from common.adapter.peft_io import load_into, read_settings, save_peft_folder
from common.adapter.trained_adapter import ADAPTER_FOLDER, find_adapter, read_adapter
from common.backbones.base import ModelForecaster
from common.backbones.lora import AdaptedBackbone, adapted_backbone
from common.config.run_config import RunConfig
from common.config.seeds import derive_seed
from common.data.cohort_folder import unwritable
from common.data.site_table import SiteTable
from common.data.windows import Windows, make_windows
from common.errors import TrainingError, UsageError
from common.evaluation.evaluate import Evaluation, evaluate
from common.evaluation.paired_difference import compare
from common.files.atomic_io import atomic_folder
from common.files.output_folder import check_replaceable
from common.files.private import OWNER_ONLY

GLOBAL, PERSONAL = "global", "personal"

OVERRIDES = ("train.", "seed")
"""Settings that may differ from the release's; the adapter depends on all others."""
PASSES = ("train.epochs", "train.steps")
"""Settings that the number of passes replaces."""

_COMPARISON_FILE = "comparison.json"
_SCHEMA_VERSION = 1

_FEDERATED = ("federation.", "aggregation.", "privacy.", "wire.", "lora.train", "lora.min-rank")
"""Settings of a federated run, which do not apply to training at one site."""
_METRICS = ("mae", "wql")
_CARD = """# A personalised adapter of {site}

{what} It belongs to the site and must not leave it: trained without differential privacy, such an
adapter may reveal single patients. Research software, not for clinical use.
"""
_KEPT = {
    PERSONAL: "Trained further on this site's own patients from a released adapter.",
    GLOBAL: "The released adapter itself: training on this site's patients did not improve it.",
}


@dataclass(frozen=True, eq=False)
class Personalised:
    """Result of a personalization.

    Attributes:
        adapter: the selected adapter: the released one where training did not improve it.
        record: content of comparison.json.
    """

    adapter: Adapter
    record: dict[str, Any]


def read_release(
    folder: Path, overrides: Mapping[str, Any], backbone: str | None = None
) -> tuple[Adapter, RunConfig, int | None]:
    """Read a released adapter and the settings for training it further.

    Args:
        folder: a run folder, a PEFT folder, or a file in one.
        overrides: settings that replace those of the release.
        backbone: name or folder of the backbone, where it differs from the release's, or where
            PEFT itself wrote the folder.

    Returns:
        The adapter, the settings of a training at one site (both matrices, one epoch a pass), and
        the step length in minutes, None where the release does not give it.

    Raises:
        AdapterError: where the adapter is damaged or not finite.
        UsageError: where there is no adapter, or a setting is invalid or must not be changed.
    """
    for key in overrides:
        if not key.startswith(OVERRIDES) or key in PASSES:
            raise UsageError(
                f"personalise takes settings train.* and seed, and --passes in place of "
                f"{' and '.join(PASSES)}; got {key}"
            )
    place = find_adapter(folder)
    adapter = read_adapter(place, backbone)
    settings = read_settings(place.folder)
    step_minutes = settings.pop("step_minutes", None)
    settings = {k: value for k, value in settings.items() if not k.startswith(_FEDERATED)}
    settings.setdefault("backbone", adapter.backbone)
    settings |= {"lora.rank": adapter.rank, "lora.alpha": adapter.alpha}
    settings |= {"train.epochs": 1, "train.steps": 0}
    if (named := backbone or place.backbone) is not None:
        settings["backbone"] = named
    return adapter, RunConfig.parse({**settings, **overrides}), step_minutes


def check_steps(table: SiteTable, step_minutes: int | None) -> None:
    """Raise `UsageError` where the table's step length is not that of the release."""
    if step_minutes is not None and step_minutes != table.info.step_minutes:
        raise UsageError(
            f"the release was trained on steps of {step_minutes} minutes, the table of "
            f"{table.info.site} has {table.info.step_minutes}; make the table with step-minutes = "
            f"{step_minutes}"
        )


def check_empty(out: Path) -> None:
    """Raise `UsageError` where the output folder is not empty or cannot be written."""
    check_replaceable(out, remedy="give another folder with --out")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not empty; give another folder with --out")


def run_personalization(
    release: Adapter,
    config: RunConfig,
    table: SiteTable,
    *,
    passes: int,
    progress: Callable[[str], None] | None = None,
) -> Personalised:
    """Train a released adapter further on a site's table and keep the better of the two.

    Args:
        release: the released adapter.
        config: settings of `read_release`; the learning rate falls over the passes as over rounds.
        table: the site's own table.
        passes: number of passes over the site's training windows.
        progress: callback for a line of text for each step.

    Raises:
        UsageError: where `passes` is less than 1.
        TrainingError: where a required split has no window, or the training diverges.
        AdapterError: where the release does not fit the site's backbone.
    """
    if passes < 1:
        raise UsageError(f"--passes must be at least 1, got {passes}")
    say = progress or (lambda _: None)
    windows = _windows(table, config)
    config = config.replace(rounds=passes)
    adapted = adapted_backbone(config.backbone, config.lora, choose_device(config.train.device))
    release.check_compatible(adapted.layout, sender="the release")
    candidates = [release]
    wql = [_score(adapted, release, windows["validation"]).metric("wql")]
    for number in range(1, passes + 1):
        say(f"pass {number} of {passes}, validation WQL {min(wql):.4f}")
        train_adapter(
            adapted.model,
            adapted.backbone,
            windows["train"],
            config.train,
            learning_rate=config.learning_rate(number),
            seed=derive_seed(config.seed, "personalise", table.info.site, number),
        )
        candidates.append(adapted.adapter())
        wql.append(_score(adapted, candidates[-1], windows["validation"]).metric("wql"))
    best = min(range(1, len(wql)), key=wql.__getitem__)
    kept = PERSONAL if wql[best] < wql[0] else GLOBAL
    say("the test patients")
    record = {
        "schema_version": _SCHEMA_VERSION,
        "site": table.info.site,
        "kept": kept,
        "pass": best,
        "validation_wql": wql,
        "chosen_on": {
            "split": "validation",
            "patients": len(windows["validation"].patient_ids),
            "windows": len(windows["validation"]),
        },
        "settings": config.flat(),
        "release": {"digest": release.digest(), "backbone": release.backbone},
        "test": _compare(adapted, candidates[best], release, windows["test"]),
    }
    return Personalised(candidates[best] if kept == PERSONAL else release, record)


def _windows(table: SiteTable, config: RunConfig) -> dict[str, Windows]:
    settings, vitals = config.windows.settings(), config.windows.names()
    windows = {}
    for split, use in (
        ("train", "train on"),
        ("validation", "select by"),
        ("test", "evaluate on"),
    ):
        windows[split] = make_windows(table, split, settings, vitals)
        if not len(windows[split]):
            raise TrainingError(
                f"site {table.info.site!r} has no {split} window to {use}; take more patients, or "
                "see `python -m client check`"
            )
    return windows


def _score(adapted: AdaptedBackbone, adapter: Adapter, windows: Windows) -> Evaluation:
    load_into(adapter, adapted.model)
    return evaluate(windows, ModelForecaster(adapted.backbone, adapted.model), metrics=_METRICS)


def _compare(
    adapted: AdaptedBackbone, personal: Adapter, release: Adapter, windows: Windows
) -> dict[str, Any]:
    """Score both on the test windows; the differences have intervals over patients."""
    scores = {
        PERSONAL: _score(adapted, personal, windows),
        GLOBAL: _score(adapted, release, windows),
    }
    difference = compare(scores[PERSONAL], scores[GLOBAL])
    return {
        **{name: score.table() for name, score in scores.items()},
        "difference": difference.to_json(),
    }


def write_personalised(made: Personalised, table: SiteTable, out: Path) -> None:
    """Write OUT/adapter, the selected PEFT folder, and OUT/comparison.json, or neither.

    Raises:
        CohortError: where the folder cannot be written.
    """
    settings = {**made.record["settings"], "step_minutes": table.info.step_minutes}
    card = _CARD.format(site=table.info.site, what=_KEPT[made.record["kept"]])
    text = json.dumps(made.record, indent=2, sort_keys=True) + "\n"
    try:
        # Its content may reveal single patients.
        with atomic_folder(out, OWNER_ONLY) as partial:
            save_peft_folder(
                made.adapter, partial / ADAPTER_FOLDER, model_card=card, settings=settings
            )
            (partial / _COMPARISON_FILE).write_text(text, encoding="utf-8")
    except OSError as error:
        raise unwritable(out, error) from error
