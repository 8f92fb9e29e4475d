from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent

import pytest

import client.policy.policy as policy_module
from client.policy.policy import JOIN_FIELDS, PolicyFile, load_policy
from client.privacy.allowlist import PRIVATE_NUMBERS
from common.errors import PolicyError


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example that the module's own description gives, with a whole digest."""
    text = (policy_module.__doc__ or "").split("\n\n", 1)[1].rsplit("\n\n", 1)[0]
    path = tmp_path / "policy.toml"
    path.write_text(dedent(text).replace("9f2c…", "9f2c" * 16))
    return path


def test_the_example_holds(example: Path) -> None:
    policy = load_policy(example)
    assert list(policy.bundles) == ["9f2c" * 16]
    assert policy.metrics["patients"] == -1
    assert policy.metrics["privacy.epsilon-rdp"] is None
    assert set(policy.join) <= set(JOIN_FIELDS)
    assert policy.privacy_required


def test_every_number_of_a_report_can_be_named(example: Path) -> None:
    names = [name for name in PRIVATE_NUMBERS if name not in ("patients", "validation.wql")]
    more = "".join(f'"{name}" = 3\n' for name in names)
    example.write_text(example.read_text().replace("[metrics]", "[metrics]\n" + more + "#"))
    assert set(PRIVATE_NUMBERS) <= set(load_policy(example).metrics)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[limits]", "[limit]", "limit is unknown; did you mean 'limits'?"),
        (
            "max-rank = 16",
            "max-rang = 16",
            "adapter.max-rang is unknown; did you mean 'adapter.max",
        ),
        ("max-rank = 16", "max_rank = 16", "adapter.max_rank is unknown"),
        ("max-rank = 16", "max_rank = 16\nmax-rank = 16", "adapter.max_rank is unknown"),
        ("max-rank = 16", "max-rank = 0", "adapter.max-rank must be at least 1, got 0"),
        ("max-rank = 16", "max-rank = true", "adapter.max-rank must be a whole number, got True"),
        ("max-rank = 16", 'max-rank = "16"', "adapter.max-rank must be a whole number, got '16'"),
        ("max-rank = 16", "max-rank = 16.0", "adapter.max-rank must be a whole number, got 16.0"),
        ("max-rank = 16", "", "adapter.max-rank is missing"),
        ("max-norm = 50.0", 'max-norm = "many"', "adapter.max-norm must be a number, got 'many'"),
        ("max-norm = 50.0", "max-norm = nan", "adapter.max-norm must be a number, got nan"),
        ("max-norm = 50.0", "max-norm = inf", "adapter.max-norm must be a number, got inf"),
        ("max-norm = 50.0", "max-norm = -1", "adapter.max-norm must be at least 0, got -1"),
        ("[adapter]", '"adapter.max-rank" = 99\n[adapter]', "is unknown"),
        ("required = true", 'required = "yes"', "privacy.required must be true or false"),
        ("required = true", "required = 1", "privacy.required must be true or false, got 1"),
        ("budget-epsilon = 10.0", "", "privacy.budget-epsilon is missing: where privacy is"),
        ("budget-delta = 1e-5", "budget-delta = 1", "privacy.budget-delta must be between 0 and 1"),
        ("rounds-per-day = 100", "rounds-per-day = true", "rounds-per-day must be a whole number"),
        ('steps = "exact"', "steps = 99", "metrics.steps must be the decimals kept, -6 to 15"),
        ('steps = "exact"', "steps = true", "metrics.steps must be the decimals kept"),
        ('steps = "exact"', '"Steps!" = 1', "is not the name of a number"),
        ("usable = ", "age = ", "join.age is unknown"),
        ('rank = "exact"', "rank = 1", 'join.rank is not rounded: it must be "exact"'),
        ("patients = -1\nsource", "patients = 0\nsource", "metrics.patients is rounded otherwise"),
        ('"own data"', '"own\\u0007data"', "join.texts[0] must be printable"),
        ("min = 1, max = 16", "min = 17, max = 16", "settings.lora.rank accepts nothing"),
        ("min = 1, max = 16", "low = 1", "settings.lora.rank must be { min = …, max = … }"),
        ("min = 1, max = 16", "min = nan", "settings.lora.rank must be a number, got nan"),
        ('"lora.rank"', '"lora.rnak"', "settings.lora.rnak is unknown; did you mean 'lora.rank'?"),
        ('["chronos-bolt-nano"]', "[3]", "settings.backbone must be a text, got 3"),
        ('["chronos-bolt-nano"]', "[]", "settings.backbone accepts nothing"),
        ("9f2c9f2c", "xyz", "bundles[0].sha256 must be a digest"),
        ("\\.(q|k|v|o)", "(q", "adapter.tensors is not a regular expression"),
        ("\\.(q|k|v|o)", "q{99999999999}", "adapter.tensors is not a regular expression: the rep"),
        ("\\.(q|k|v|o)", "(" * 9999, "adapter.tensors is not a regular expression: maximum rec"),
        (
            "'.*\\.(q|k|v|o)\\.lora_[AB]\\.weight'",
            '"(?\\n)"',
            "adapter.tensors is not a regular expression: unknown extension ??",
        ),
        ("2026-03-02T09:30:00+01:00", "yesterday", "bundles[0].approved-at must be a time in ISO"),
        ("[[bundles]]", "[bundles]", "bundles must be tables, each headed [[bundles]]"),
        ("[adapter]", "[adapter", "is not TOML"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(
    example: Path, old: str, new: str, message: str
) -> None:
    text = example.read_text()
    assert old in text
    example.write_text(text.replace(old, new, 1))
    with pytest.raises(PolicyError) as error:
        load_policy(example)
    assert message in str(error.value)
    assert str(error.value).startswith(str(example))


def test_a_bundle_is_listed_once(example: Path) -> None:
    text = example.read_text()
    entry = text[text.index("[[bundles]]") : text.index("[adapter]")]
    example.write_text(text.replace(entry, entry + entry))
    with pytest.raises(PolicyError, match=r"bundles\[1\]\.sha256 is listed twice"):
        load_policy(example)


def test_a_change_holds_from_the_next_look_on(example: Path) -> None:
    file = PolicyFile(example)
    assert file.current().max_rank == 16
    example.write_text(example.read_text().replace("max-rank = 16", "max-rank = 4"))
    os.utime(example, ns=(1, 1))
    assert file.current().max_rank == 4
    example.unlink()
    with pytest.raises(PolicyError):
        file.current()
