"""Runs as they were with their first message; Flower is given these, never a later description."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from flwr.supercore.fab import Fab
from flwr.supercore.run import Run

from client.policy.refusal import RefusedError
from client.policy.submitted_run import SubmittedRun, bundle_digest, read_submitted_run

MAX_RUNS = 10_000
"""Runs that are kept until the node restarts."""


@dataclass(frozen=True)
class CachedRun:
    """A run as the coordinator described it, and the facts that the gate judges."""

    run: Run
    submitted: SubmittedRun


class RunCache:
    """Runs and their app bundles, fetched once each.

    Args:
        fetch_run: Flower's function that returns a run by its id.
        fetch_bundle: Flower's function that returns an app bundle by its digest and run id.
        approves: returns whether a bundle may run, by its SHA-256.
    """

    def __init__(
        self,
        fetch_run: Callable[[int], Run],
        fetch_bundle: Callable[[str, int], Fab],
        approves: Callable[[str], bool],
    ) -> None:
        self._fetch_run = fetch_run
        self._fetch_bundle = fetch_bundle
        self._approves = approves
        self._runs: dict[int, CachedRun] = {}
        self._bundles: dict[str, Fab] = {}

    def load(self, run_id: int) -> CachedRun:
        """Return a run, fetched with its first message; a run that is not admitted is not kept.

        Flower keeps one context, with the latest run's settings, for a whole series of runs and
        passes it to the apps of all. Here each run is a series of its own, so that an app works
        with the settings that were checked.

        Raises:
            RefusedError: if the coordinator describes another run, or there are too many.
        """
        cached = self._runs.get(run_id)
        if cached is not None:
            return cached
        run = replace(self._fetch_run(run_id), series_id=run_id)
        if run.run_id != run_id:
            raise RefusedError("run", "the coordinator describes another run")
        fab = self._fetch_bundle(run.fab_hash, run_id)
        digest = bundle_digest(fab)
        if not self._approves(digest):
            return CachedRun(run, SubmittedRun(digest))
        if len(self._runs) == MAX_RUNS:
            raise RefusedError("runs", f"{MAX_RUNS} runs since the node was started")
        cached = CachedRun(run, read_submitted_run(run, fab))
        if cached.submitted.settings is None:
            return cached
        self._runs[run_id] = cached
        self._bundles[digest] = fab
        return cached

    def run(self, run_id: int) -> Run:
        """Return a kept run for Flower."""
        return self._runs[run_id].run

    def bundle(self, run_id: int) -> Fab:
        """Return a kept run's app bundle for Flower."""
        digest = self._runs[run_id].submitted.bundle
        fab = self._bundles[digest]
        # Flower calls `_verify_fab` only for a bundle that is marked as verified.
        return Fab(digest, fab.content, {**fab.verifications, "valid_license": "by policy"})
