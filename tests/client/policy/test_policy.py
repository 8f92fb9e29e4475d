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
    ("old", "new"),
    [
        ("[limits]", "[limit]"),
        ("max-rank = 16", "max-rang = 16"),
        ("max-rank = 16", "max-rank = 0"),
        ("max-norm = 50.0", 'max-norm = "many"'),
        ("required = true", 'required = "yes"'),
        ('steps = "exact"', "steps = 99"),
        ("usable = ", "age = "),
        ('rank = "exact"', "rank = 1"),
        ("9f2c9f2c", "xyz"),
        ("\\.(q|k|v|o)", "(q"),
        ("2026-03-02T09:30:00+01:00", "yesterday"),
        ("[adapter]", "[adapter"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(example: Path, old: str, new: str) -> None:
    text = example.read_text()
    assert old in text
    example.write_text(text.replace(old, new))
    with pytest.raises(PolicyError):
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
