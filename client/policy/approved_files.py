"""Record of the files of each approved bundle, to show what a new bundle changes.

policy.toml has a bundle's SHA-256 only, from which its files cannot be told. `approve` writes the
SHA-256 of each file into `approved-files.json` beside the policy. The record is shown to the
approver and decides nothing; without it the approver is told that there is none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.policy.app_bundle import BundleContents
from common.files.atomic_io import atomic_file

FILE_NAME = "approved-files.json"
"""Beside policy.toml."""


@dataclass(frozen=True)
class BundleChanges:
    """Files in which a bundle differs from another one, by path, sorted.

    Attributes:
        changed: in both, with other bytes.
        added: in the new bundle only.
        removed: in the old bundle only.
    """

    changed: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths with what happened to each, e.g. ``+ client/new.py``."""
        return (
            *(f"~ {path}" for path in self.changed),
            *(f"+ {path}" for path in self.added),
            *(f"- {path}" for path in self.removed),
        )


def changes_since(policy: Path, approved: str, bundle: BundleContents) -> BundleChanges | None:
    """Return the changes of a bundle against one that was approved.

    Args:
        policy: policy.toml, beside which the record is.
        approved: SHA-256 of the approved bundle.
        bundle: the new bundle.

    Returns:
        The changes; None where the files of the approved bundle are not recorded.
    """
    old = _read(policy).get(approved)
    if old is None:
        return None
    new = {file.path: file.sha256 for file in bundle.files}
    return BundleChanges(
        changed=tuple(sorted(path for path in new.keys() & old if new[path] != old[path])),
        added=tuple(sorted(new.keys() - old)),
        removed=tuple(sorted(old.keys() - new.keys())),
    )


def record_files(policy: Path, bundle: BundleContents, kept: Collection[str]) -> str:
    """Record a bundle's files; of other bundles, keep those in the policy.

    Args:
        policy: policy.toml, whose owner and mode the record gets.
        bundle: the approved bundle.
        kept: SHA-256 of the bundles in the policy.

    Returns:
        Why nothing could be written; empty if it was. The approval itself is in the policy.
    """
    record = {digest: files for digest, files in _read(policy).items() if digest in kept}
    record[bundle.sha256] = {file.path: file.sha256 for file in bundle.files}
    try:
        with atomic_file(policy.with_name(FILE_NAME)) as partial:
            partial.touch(0o600)
            partial.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", "utf-8")
            status = policy.stat()
            partial.chmod(status.st_mode & 0o777)
            if os.geteuid() == 0:  # approved by root, read by the node's own user
                os.chown(partial, status.st_uid, status.st_gid)
    except OSError as problem:
        return f"{policy.with_name(FILE_NAME)} cannot be written: {problem.strerror}"
    return ""


def _read(policy: Path) -> dict[str, Mapping[str, str]]:
    """Return the record; empty where it is absent or damaged."""
    try:
        record: Any = json.loads(policy.with_name(FILE_NAME).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(record, dict):
        return {}
    return {digest: files for digest, files in record.items() if isinstance(files, dict)}
