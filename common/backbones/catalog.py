"""The known families and models: names, code, sizes, and the revisions every site agrees on.

Nothing here imports torch: commands list and check names at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from common.backbones.weights_folder import read_config
from common.errors import BackboneError


@dataclass(frozen=True)
class Family:
    """Where a family's code lies, and what it needs beside fedvitals' own requirements.

    Attributes:
        module: imported only when a model of the family is used, since its library takes seconds.
        attribute: the class in it.
        library: the distribution that its network comes from; empty where that is written here.
        extra: the extra of fedvitals that brings it; empty where none is needed.
        needs: the package by which an installed extra is known.
    """

    module: str
    attribute: str
    library: str = ""
    extra: str = ""
    needs: str = ""


_CHRONOS = "chronos-forecasting"
_UNI2TS = ("timecopilot-uni2ts", "moirai", "uni2ts")
FAMILIES: dict[str, Family] = {
    "chronos-bolt": Family("common.backbones.chronos.chronos_bolt", "ChronosBolt", _CHRONOS),
    "chronos-t5": Family("common.backbones.chronos.chronos_t5", "ChronosT5", _CHRONOS),
    "chronos-2": Family("common.backbones.chronos.chronos2", "Chronos2", _CHRONOS),
    "moirai": Family("common.backbones.moirai.moirai", "Moirai", *_UNI2TS),
    "moirai-2": Family("common.backbones.moirai.moirai2", "Moirai2", *_UNI2TS),
    "lag-llama": Family("common.backbones.lag_llama.lag_llama", "LagLlama"),
}


@dataclass(frozen=True)
class Entry:
    """One known model.

    Attributes:
        name: how settings call it.
        family: a key of `FAMILIES`.
        parameters: how many; of published models rounded, as their cards have it.
        revision: the pinned commit on the model hub; empty for weights inside the package.
        checkpoint: the file on the hub where that holds a pickle only, which is not loaded but
            converted by hand, once.
    """

    name: str
    family: str
    parameters: int
    revision: str = ""
    checkpoint: str = ""

    @property
    def packaged(self) -> bool:
        """Whether the weights are our own, inside the package."""
        return not self.revision

    @property
    def missing_extra(self) -> str:
        """The extra of fedvitals that must be installed before this can be loaded, or nothing."""
        needed = FAMILIES[self.family]
        return needed.extra if needed.needs and not find_spec(needed.needs) else ""


# Of each family: name, parameters, and the pinned commit (none for our own).
_MODELS: dict[str, tuple[tuple[str, int, str], ...]] = {
    "chronos-bolt": (
        ("chronos-bolt-nano", 811_120, ""),
        ("amazon/chronos-bolt-tiny", 9_000_000, "a0e552de83495b5c28c14c71c374f3e33280b340"),
        ("amazon/chronos-bolt-mini", 21_000_000, "251268337516a88e253628c43e1d26ec577b376b"),
        ("amazon/chronos-bolt-small", 48_000_000, "772f3d25d38aec6d914c8949dab4462e2d46f5d8"),
        ("amazon/chronos-bolt-base", 205_000_000, "5d9f166d69f47aef3401367a7b842e78fe97b121"),
    ),
    "chronos-t5": (
        ("chronos-t5-nano", 345_216, ""),
        ("amazon/chronos-t5-tiny", 8_000_000, "29d808298f1a62493e7b9a5e08529d0d930fa189"),
        ("amazon/chronos-t5-mini", 20_000_000, "bd6a4fde8403b8469acd0abd52852b29dbe61c7b"),
        ("amazon/chronos-t5-small", 46_000_000, "a971ba21945c4f1796b17a91fe69214b5f4ad472"),
        ("amazon/chronos-t5-base", 200_000_000, "ad294eaacead15db499b740ea4122266dd2a81a2"),
        ("amazon/chronos-t5-large", 710_000_000, "0e46c9c7e2e9f74b53db0617fdfcfe42a413e54a"),
    ),
    "lag-llama": (
        ("lag-llama-nano", 265_091, ""),
        (
            "time-series-foundation-models/Lag-Llama",
            2_449_299,
            "72dcfc29da106acfe38250a60f4ae29d1e56a3d9",
        ),
    ),
    "moirai": (
        ("moirai-nano", 805_872, ""),
        ("Salesforce/moirai-1.0-R-small", 14_000_000, "f5bd5d01f0d67de856107d43abdd637380aae0a3"),
        ("Salesforce/moirai-1.0-R-base", 91_000_000, "4fa939a8800d9da346c0280f3d9aeba0d2d35877"),
        ("Salesforce/moirai-1.0-R-large", 311_000_000, "b6b84e3fbeb9e6927d4271d625441fb51ab6bbd8"),
        ("Salesforce/moirai-1.1-R-small", 14_000_000, "0c24ab99db2c1a70ea2a0fc03bf113329772ac64"),
        ("Salesforce/moirai-1.1-R-base", 91_000_000, "bac14547132e0d670ef515e40e6895c84bf7de76"),
        ("Salesforce/moirai-1.1-R-large", 311_000_000, "8f80ed187ef86a3fa09702161612355ce647850a"),
    ),
    "moirai-2": (
        ("Salesforce/moirai-2.0-R-small", 11_400_000, "30f43ff08c8494f4943ae1521e9d4e94a0fbb389"),
    ),
    "chronos-2": (
        ("chronos2-nano", 712_200, ""),
        ("amazon/chronos-2", 120_000_000, "29ec3766d36d6f73f0696f85560a422f50e8498c"),
    ),
}
_PICKLES = {"time-series-foundation-models/Lag-Llama": "lag-llama.ckpt"}
CATALOG: dict[str, Entry] = {
    name: Entry(name, family, parameters, revision, _PICKLES.get(name, ""))
    for family, models in _MODELS.items()
    for name, parameters, revision in models
}


def family_of_folder(folder: Path) -> str:
    """Tell the family of a folder of weights from its config.json.

    Raises:
        BackboneError: where there is none, or it is of no known family.
    """
    name = _family_of(read_config(folder))
    if name is None:
        raise BackboneError(
            f"the weights in {folder} are of no known family; known are: {', '.join(FAMILIES)}"
        )
    return name


def _family_of(config: Mapping[str, Any]) -> str | None:
    pipelines = {
        "ChronosBoltPipeline": "chronos-bolt",
        "ChronosPipeline": "chronos-t5",
        "Chronos2Pipeline": "chronos-2",
    }
    if config.get("chronos_pipeline_class") in pipelines:
        return pipelines[config["chronos_pipeline_class"]]
    # Before it named its pipeline, the package told T5 from Bolt by the tokenizer.
    if "chronos_config" in config:
        return "chronos-t5" if "tokenizer_class" in config["chronos_config"] else "chronos-bolt"
    if "patch_sizes" in config:
        return "moirai"
    if "num_predict_token" in config:
        return "moirai-2"
    return "lag-llama" if config.get("model_type") == "lag-llama" else None
