"""Loading of a backbone by name or folder: the family, the frozen model and its digest."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch

from common.backbones.base import Backbone, weights_digest
from common.backbones.catalog import CATALOG, FAMILIES, family_of_folder, short_name
from common.backbones.weights_store import fetch
from common.errors import BackboneError


@dataclass(frozen=True)
class LoadedBackbone:
    """A frozen model with its name, family and digest.

    Attributes:
        name: name as in the settings; for a local folder only the last part, since the name is sent
            with the adapter and a path would reveal details of the machine.
        backbone: its family.
        model: frozen, in eval mode, on the CPU.
        digest: SHA-256 of its frozen tensors.
    """

    name: str
    backbone: Backbone
    model: torch.nn.Module
    digest: str


def load_backbone(name: str) -> LoadedBackbone:
    """Load a model by its name in the catalog, or from a folder in the published layout.

    Raises:
        BackboneError: the name is unknown, or the weights are absent or damaged.
    """
    if name in CATALOG:
        backbone, folder = family(CATALOG[name].family), fetch(CATALOG[name])
    elif Path(name).is_dir():
        backbone, folder = family(family_of_folder(Path(name))), Path(name)
    else:
        raise _unknown(name)
    model = backbone.build(folder)
    return LoadedBackbone(short_name(name), backbone, model, weights_digest(model))


def family(name: str) -> Backbone:
    """Return a family by name; imports its library.

    Raises:
        BackboneError: its library is not installed.
    """
    entry = FAMILIES[name]
    if entry.needs and not find_spec(entry.needs):
        raise BackboneError(
            f"backbones of the family {name} need the package {entry.needs}; "
            f'pip install "fedvitals[{entry.extra}]"'
        )
    backbone: Backbone = getattr(import_module(entry.module), entry.attribute)()
    return backbone


def _unknown(name: str) -> BackboneError:
    near = get_close_matches(name.lower(), CATALOG, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return BackboneError(
        f"unknown backbone {name!r}; {hint}`python -m simulation backbones` lists the known "
        "ones; a folder of weights can be given instead"
    )
