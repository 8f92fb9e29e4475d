from __future__ import annotations

import pytest
from flwr.common.config import parse_config_args
from hypothesis import given
from hypothesis import strategies as st

from client.policy.run_settings import Accepted, RunSettings, refused_setting
from common.config.run_config import RunConfig, parse_settings
from common.config.step_length import check_cohort_steps, step_refusal
from common.config.tasks import TASKS, changed_of_task, first_metrics
from common.errors import UsageError
from common.evaluation.metrics import METRICS


def test_the_paper_forecasts_three_hours_from_six_at_five_minutes() -> None:
    config = parse_settings(["task=paper"], {})
    assert (config.windows.context, config.windows.horizon) == (72, 36)
    assert config.windows.names() == ("heart_rate", "mbp")
    assert config.step_minutes == 5
    assert not changed_of_task(config.flat())
    assert first_metrics(config.flat()) == ("mse", "mape", "dtw")


@pytest.mark.parametrize(("step", "context", "horizon"), [(15, 24, 12), (60, 6, 3)])
def test_a_task_keeps_its_hours_at_another_step(step: int, context: int, horizon: int) -> None:
    config = parse_settings(["task=paper", f"step-minutes={step}"], {})
    assert (config.windows.context, config.windows.horizon) == (context, horizon)
    assert changed_of_task(config.flat()) == {"step-minutes": (step, 5)}


def test_a_setting_beside_the_task_counts() -> None:
    config = parse_settings(["windows.horizon=1h", "task=paper"], {"backbone": "lag-llama-nano"})
    assert (config.windows.horizon, config.backbone) == (12, "lag-llama-nano")
    assert changed_of_task(config.flat()) == {"windows.horizon": (12, 36)}


def test_the_settings_that_a_site_gets_hold_no_task_to_resolve() -> None:
    config = parse_settings(["task=paper"], {})
    assert RunConfig.parse(config.flat()) == config
    assert all(not str(value).endswith("h") for value in config.flat().values())


def test_a_site_s_policy_judges_the_resolved_settings() -> None:
    accepted = {key: Accepted(values=(value,)) for key, value in RunConfig().flat().items()}
    del accepted["task"], accepted["step-minutes"]
    settings = RunSettings(RunConfig.parse({"task": "paper", "backbone": "chronos-bolt-nano"}))
    assert refused_setting(settings.flat, accepted).startswith("windows.context = 72")
    # A named task widens nothing.
    forged = RunConfig().flat() | {"task": "paper", "step-minutes": 5, "windows.context": 8192}
    refused = refused_setting(RunSettings(RunConfig.parse(forged)).flat, accepted)
    assert refused.startswith("windows.context = 8192")


def test_a_task_among_merged_defaults_is_refused_with_its_settings() -> None:
    defaults = RunConfig().flat()
    with pytest.raises(UsageError, match="flwr run") as refusal:
        RunConfig.parse(defaults | {"task": "paper"})
    # The line can be pasted: `flwr run` takes texts in quotation marks alone.
    pasted = parse_config_args([str(refusal.value).split("-c '")[1].removesuffix("'")])
    assert RunConfig.parse(defaults | pasted) == parse_settings(["task=paper"], {})


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["windows.context=6h"], "needs the length of a step"),
        (["windows.context=6h", "step-minutes=soon"], "needs the length of a step"),
        (["windows.context=1h", "step-minutes=7"], "no whole number of steps of 7 minutes"),
        (["windows.horizon=0h", "step-minutes=5"], "no whole number of steps"),
        (["windows.horizon=3 days", "step-minutes=5"], "windows.horizon"),
        (["lora.rank=6h", "step-minutes=5"], "lora.rank"),
        (["task=papr"], "did you mean 'paper'"),
        (["step-minutes=-5"], "step-minutes"),
        (["step-minutes=1441"], "step-minutes"),
    ],
)
def test_a_length_or_task_that_is_not_clear_is_refused(pairs: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_settings(pairs, {})


@given(st.integers(1, 100), st.sampled_from([1, 5, 15, 30, 60]))
def test_a_time_is_its_number_of_steps(steps: int, minutes: int) -> None:
    pairs = {"step-minutes": minutes, "windows.horizon": f"{steps * minutes}min"}
    assert RunConfig.parse(pairs).windows.horizon == steps


def test_a_cohort_with_other_steps_is_refused_with_the_command_that_makes_one() -> None:
    config = parse_settings(["task=paper"], {})
    check_cohort_steps(5, config, "cohort")
    check_cohort_steps(60, RunConfig(), "cohort")
    match = "task=paper needs a cohort at 5-minute steps: .* --step-minutes 5; cohort has 60"
    with pytest.raises(UsageError, match=match):
        check_cohort_steps(60, config, "cohort")
    assert step_refusal(60, config) == "its steps are 60 min, the run's 5 min (step-minutes)"
    assert not step_refusal(0, config)


def test_a_task_names_metrics_that_exist() -> None:
    assert all(name in METRICS for task in TASKS.values() for name in task.metrics)
