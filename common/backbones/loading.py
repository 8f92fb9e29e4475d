"""A backbone by name, or by folder: the family's code, the frozen model and its digest."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch

from common.backbones.base import Backbone, weights_digest
from common.backbones.store import CATALOG, fetch
from common.errors import BackboneError, UsageError
from common.names import check_name

FAMILIES: dict[str, tuple[str, str]] = {
    # Module and class: a family's library is imported only when a model of it is used.
    "chronos-bolt": ("common.backbones.chronos_bolt", "ChronosBolt"),
}


@dataclass(frozen=True)
class LoadedBackbone:
    """A frozen model with what names it.

    Attributes:
        name: as in the settings; of a local folder the last part alone, since the name travels with
            the adapter and a path would tell about the machine.
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
        BackboneError: where the name is unknown, the weights are not there or are damaged.
    """
    if name in CATALOG:
        backbone, folder = family(CATALOG[name].family), fetch(CATALOG[name])
    elif Path(name).is_dir():
        # Today's one family; its `build` refuses a folder of any other.
        backbone, folder = family("chronos-bolt"), Path(name)
    else:
        raise _unknown(name)
    model = backbone.build(folder)
    shown = name if name in CATALOG else Path(name).resolve().name
    return LoadedBackbone(shown, backbone, model, weights_digest(model))


def family(name: str) -> Backbone:
    """Return a family by name, importing its library now.

    Raises:
        BackboneError: where its library is not installed.
    """
    module, attribute = FAMILIES[name]
    try:
        backbone: Backbone = getattr(import_module(module), attribute)()
    except ImportError as error:
        raise BackboneError(f"the family {name} needs a missing package: {error}") from error
    return backbone


def _unknown(name: str) -> BackboneError:
    try:
        check_name("backbone", name, CATALOG)
    except UsageError as error:
        return BackboneError(f"{error}; or give a folder of weights")
    raise AssertionError(name)
