from __future__ import annotations

import pytest

from tests.samples.federation import SharedRuns


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> SharedRuns:
    """Whole runs that the module's tests compare with."""
    return SharedRuns(tmp_path_factory.mktemp("shared-runs"))
