"""A site behind its gate, as a hostile coordinator or app meets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message

from tests.client.egress.gated_site import GatedSite, Make, make_gated_site


@pytest.fixture(scope="module")
def answers() -> dict[tuple[str, ...], Message]:
    """The honest app's answers, shared by a module."""
    return {}


@pytest.fixture
def make(
    tmp_path: Path, tiny_bolt: Path, tiny_cohort: Path, answers: dict[tuple[str, ...], Message]
) -> Make:
    def site(**options: Any) -> GatedSite:
        return make_gated_site(tmp_path, tiny_bolt, tiny_cohort, answers, **options)

    return site
