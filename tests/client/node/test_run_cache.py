from __future__ import annotations

import hashlib

import pytest
from flwr.cli.config_utils import get_fab_metadata
from flwr.supercore.fab import Fab
from flwr.supercore.run import Run

from client.node import run_cache
from client.node.run_cache import RunCache
from client.policy.refusal import RefusedError


class Coordinator:
    """Describes runs of one bundle, and counts how often it is asked."""

    def __init__(self, bundle: bytes) -> None:
        self.asked = 0
        self.stride = 6
        self._bundle = bundle

    def run(self, run_id: int) -> Run:
        self.asked += 1
        run = Run.create_empty(run_id)
        run.fab_id, run.fab_version = get_fab_metadata(self._bundle)
        run.fab_hash = hashlib.sha256(self._bundle).hexdigest()
        run.series_id, run.override_config = 1, {"windows.stride": self.stride}
        return run

    def cache(self, approved: bool = True) -> RunCache:
        return RunCache(
            self.run, lambda digest, _run: Fab(digest, self._bundle, {}), lambda _digest: approved
        )


def test_a_run_is_what_it_was_with_its_first_message(app_bundle: bytes) -> None:
    coordinator = Coordinator(app_bundle)
    cache = coordinator.cache()
    first = cache.load(7)
    coordinator.stride = 24
    assert cache.load(7) is first
    assert coordinator.asked == 1
    assert first.run.series_id == 7, "a series of its own"
    assert first.submitted.settings is not None
    assert first.submitted.settings.config.windows.stride == 6
    assert (cache.run(7), cache.bundle(7).content) == (first.run, app_bundle)


def test_a_run_that_is_not_admitted_is_not_kept(app_bundle: bytes) -> None:
    coordinator = Coordinator(app_bundle)
    unapproved = coordinator.cache(approved=False)
    assert unapproved.load(7).submitted.settings is None
    unapproved.load(7)
    assert coordinator.asked == 2
    with pytest.raises(KeyError):
        unapproved.run(7)


def test_only_so_many_runs_are_kept(app_bundle: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_cache, "MAX_RUNS", 1)
    cache = Coordinator(app_bundle).cache()
    cache.load(7)
    cache.load(7)
    with pytest.raises(RefusedError, match="1 runs since the node was started"):
        cache.load(8)
