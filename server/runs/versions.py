"""The versions that a run's results depend on."""

from __future__ import annotations

import platform
from importlib.metadata import version

from common.backbones.catalog import FAMILIES

_LIBRARIES = ("fedvitals", "flwr", "numpy", "peft", "torch", "transformers")


def library_versions(family: str) -> dict[str, str]:
    """Return the versions of Python, of the shared libraries and of the family's own, if any."""
    own = FAMILIES[family].library
    names = (*_LIBRARIES, own) if own else _LIBRARIES
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
