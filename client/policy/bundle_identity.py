"""A run is what its bundle says that it is: id, version and digest are the bundle's own.

Flower takes the three from the coordinator and makes of them the name of the folder from which it
loads the app. With `/` as the id and `/../planted` as the version that is a folder elsewhere, with
code in it that nobody approved.
"""

from __future__ import annotations

import hashlib
import re

from flwr.cli.config_utils import get_fab_metadata

from client.policy.refusal import RefusedError

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?"
_ID = re.compile(rf"{_NAME}/{_NAME}")
_VERSION = re.compile(r"[0-9](?:[A-Za-z0-9.+!_-]{0,62}[A-Za-z0-9])?")
_SHOWN = 80


def check_run_bundle(fab_id: str, fab_version: str, fab_hash: str, content: bytes) -> None:
    """Check that a run names the bundle that it brings, and in safe characters.

    Args:
        fab_id: the run's, ``publisher/name``.
        fab_version: the run's.
        fab_hash: the run's, SHA-256 in hexadecimal digits.
        content: the bundle's bytes, the only one of the four that anything is believed of.

    Raises:
        RefusedError: where one of them is another than the bundle's own, or could lead to another
            folder, or the bundle is none.
    """
    digest = hashlib.sha256(content).hexdigest()
    try:
        own_id, own_version = get_fab_metadata(content)
    except Exception as problem:  # whatever reading somebody's bytes raises, they are no bundle
        raise RefusedError("bundle", f"{digest[:12]}… is no app bundle") from problem
    for what, said, own in (
        ("id", fab_id, own_id),
        ("version", fab_version, own_version),
        ("SHA-256", fab_hash, digest),
    ):
        if said != own:
            raise RefusedError(
                "bundle",
                f"the run gives {said[:_SHOWN]!a} as its bundle's {what}, which is {own!a:.80}",
            )
    for what, said, safe in (("id", fab_id, _ID), ("version", fab_version, _VERSION)):
        if not safe.fullmatch(said) or ".." in said:
            raise RefusedError(
                "bundle", f"the bundle's {what} {said[:_SHOWN]!a} could lead to another folder"
            )
