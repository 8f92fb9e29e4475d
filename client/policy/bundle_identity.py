"""Identity check of a run's app bundle: id, version and digest must be the bundle's own.

Flower takes the three from the coordinator and builds from them the name of the folder from which
it loads the app. With `/` as the id and `/../planted` as the version that is another folder, which
could hold code that nobody approved.
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


def is_safe_name(name: str) -> bool:
    """Return whether a bundle's name, ``publisher/name version``, is one that a run may have."""
    fab_id, _, version = name.rpartition(" ")
    return ".." not in name and bool(_ID.fullmatch(fab_id) and _VERSION.fullmatch(version))


def check_run_bundle(fab_id: str, fab_version: str, fab_hash: str, content: bytes) -> None:
    """Check that a run's id, version and digest are its bundle's own, and safe in a path.

    Args:
        fab_id: the run's bundle id, ``publisher/name``.
        fab_version: the run's bundle version.
        fab_hash: the run's bundle digest, SHA-256 in hexadecimal digits.
        content: the bundle's bytes; the other three are not trusted.

    Raises:
        RefusedError: if one of them differs from the bundle's own or could lead to another folder,
            or the bytes are not a bundle.
    """
    digest = hashlib.sha256(content).hexdigest()
    try:
        own_id, own_version = get_fab_metadata(content)
    except Exception as problem:  # untrusted bytes can raise anything; then they are no bundle
        raise RefusedError("bundle", f"{digest[:12]}… is not an app bundle") from problem
    for what, given, own in (
        ("id", fab_id, own_id),
        ("version", fab_version, own_version),
        ("SHA-256", fab_hash, digest),
    ):
        if given != own:
            raise RefusedError(
                "bundle",
                f"the run gives {given[:_SHOWN]!a} as its bundle's {what}, which is {own!a:.80}",
            )
    for what, given, safe in (("id", fab_id, _ID), ("version", fab_version, _VERSION)):
        if not safe.fullmatch(given) or ".." in given:
            raise RefusedError(
                "bundle", f"the bundle's {what} {given[:_SHOWN]!a} could lead to another folder"
            )
