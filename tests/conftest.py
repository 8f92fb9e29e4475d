"""What all tests share: one thread, no network, the open data where it is present."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before torch, numpy or a tokenizer is imported: two workers on two cores must not fight, sums
# must not depend on the number of threads, and a test that reaches for a model hub must fail.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of open clinical data; it is no part of the repository."""
    folder = Path(os.environ.get("FEDVITALS_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"open data not present at {folder}; set FEDVITALS_TEST_DATA to its folder")
    return folder


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test out of the user's own FEDVITALS_HOME."""
    monkeypatch.setenv("FEDVITALS_HOME", str(tmp_path / "fedvitals-home"))
