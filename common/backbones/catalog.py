"""The known families and models: code, requirements, sizes, and pinned revisions.

To add a model, add a line to `_MODELS`; to add a family, see `common.backbones.base`. Nothing here
imports torch, so that commands can list and check names at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from common.backbones.weights_folder import read_weights_config
from common.errors import BackboneError

_Config = Mapping[str, Any]
"""Content of a folder's config.json."""


@dataclass(frozen=True)
class Family:
    """Code of a family, its requirements, and how its folders are recognised.

    Attributes:
        module: its module, imported only when a model is used, since its library takes seconds.
        attribute: the class in it.
        recognises: True for the config.json of a folder of this family.
        library: distribution of the network; empty if it is implemented here.
        extra: extra of fedvitals that installs the library; empty if none is needed.
        needs: package by which an installed extra is recognised.
        usage: Markdown for the model card: how to use an adapter with the family's own package,
            with the fields `backbone` (in quotes) and `horizon`. Only for families whose package
            gives the same forecasts, apart from the lower bound of the scale.
        private: True if a gradient of each patient can be taken, which `privacy.*` needs: no window
            interacts with another, and the batch is the first dimension of every adapted layer. A
            test compares it with a private step of each packaged model.
    """

    module: str
    attribute: str
    recognises: Callable[[_Config], bool]
    library: str = ""
    extra: str = ""
    needs: str = ""
    usage: str = ""
    private: bool = True


def _pipeline(config: _Config) -> str:
    """Return the Chronos pipeline of a folder; older folders do not name it."""
    named = str(config.get("chronos_pipeline_class"))
    if named in ("ChronosBoltPipeline", "ChronosPipeline", "Chronos2Pipeline"):
        return named
    if "chronos_config" not in config:
        return ""
    tokenized = "tokenizer_class" in config["chronos_config"]
    return "ChronosPipeline" if tokenized else "ChronosBoltPipeline"


_BOLT_USAGE = """\
With chronos-forecasting and PEFT alone:

```python
import torch
from chronos import ChronosBoltPipeline
from chronos.chronos_bolt import ChronosBoltModelForForecasting
from peft import PeftModel

ChronosBoltModelForForecasting._input_embed_layer = "shared"  # PEFT asks for it
base = ChronosBoltModelForForecasting.from_pretrained({backbone})
model = PeftModel.from_pretrained(base, "adapter").merge_and_unload().eval()
pipeline = ChronosBoltPipeline(model)
heart_rate = torch.tensor([88.0, 90.0, float("nan"), 93.0, 91.0, 95.0, 97.0, 96.0])
quantiles, mean = pipeline.predict_quantiles(
    heart_rate, prediction_length={horizon}, quantile_levels=[0.1, 0.5, 0.9]
)
```"""

_CHRONOS_2_USAGE = """\
With chronos-forecasting and PEFT alone:

```python
import torch
from chronos import Chronos2Pipeline
from chronos.chronos2.model import Chronos2Model
from peft import PeftModel

Chronos2Model._input_embed_layer = "shared"  # PEFT asks for it
base = Chronos2Model.from_pretrained({backbone})
model = PeftModel.from_pretrained(base, "adapter").merge_and_unload().eval()
pipeline = Chronos2Pipeline(model)
heart_rate = torch.tensor([88.0, 90.0, float("nan"), 93.0, 91.0, 95.0, 97.0, 96.0])
quantiles, mean = pipeline.predict_quantiles(
    [heart_rate], prediction_length={horizon}, quantile_levels=[0.1, 0.5, 0.9]
)
```"""

_CHRONOS = "chronos-forecasting"
_UNI2TS = ("timecopilot-uni2ts", "moirai", "uni2ts")
FAMILIES: dict[str, Family] = {
    "chronos-bolt": Family(
        "common.backbones.chronos.chronos_bolt",
        "ChronosBolt",
        lambda config: _pipeline(config) == "ChronosBoltPipeline",
        _CHRONOS,
        usage=_BOLT_USAGE,
    ),
    "chronos-t5": Family(
        "common.backbones.chronos.chronos_t5",
        "ChronosT5",
        lambda config: _pipeline(config) == "ChronosPipeline",
        _CHRONOS,
    ),
    "chronos-2": Family(
        "common.backbones.chronos.chronos2",
        "Chronos2",
        lambda config: _pipeline(config) == "Chronos2Pipeline",
        _CHRONOS,
        usage=_CHRONOS_2_USAGE,
    ),
    "moirai": Family(
        "common.backbones.moirai.moirai",
        "Moirai",
        lambda config: "patch_sizes" in config,
        *_UNI2TS,
    ),
    "moirai-2": Family(
        "common.backbones.moirai.moirai2",
        "Moirai2",
        lambda config: "num_predict_token" in config,
        *_UNI2TS,
    ),
    "lag-llama": Family(
        "common.backbones.lag_llama.lag_llama",
        "LagLlama",
        lambda config: config.get("model_type") == "lag-llama",
    ),
}


@dataclass(frozen=True)
class Entry:
    """One known model.

    Attributes:
        name: its name in the settings.
        family: a key of `FAMILIES`.
        parameters: number of parameters; rounded for published models, as in their cards.
        revision: the pinned commit on the model hub; empty for weights inside the package.
        checkpoint: file on the hub, if it has only a pickle, which is not loaded but converted once
            by hand.
    """

    name: str
    family: str
    parameters: int
    revision: str = ""
    checkpoint: str = ""

    @property
    def packaged(self) -> bool:
        """True if the weights are inside the package."""
        return not self.revision

    @property
    def missing_extra(self) -> str:
        """The extra of fedvitals that has to be installed first; empty if none."""
        needed = FAMILIES[self.family]
        return needed.extra if needed.needs and not find_spec(needed.needs) else ""


# By family: name, parameters, and the pinned commit (empty for packaged weights).
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


def packaged_backbones() -> list[str]:
    """Return the models in the package whose libraries are installed."""
    return [name for name, entry in CATALOG.items() if entry.packaged and not entry.missing_extra]


def short_name(name: str) -> str:
    """Return a catalog name as it is, and of a folder the last part: paths stay private."""
    return name if name in CATALOG else Path(name).resolve().name


def family_of_folder(folder: Path) -> str:
    """Return the family of a folder of weights, by its config.json.

    Raises:
        BackboneError: there is no config.json, or it is of no known family.
    """
    config = read_weights_config(folder)
    for name, family in FAMILIES.items():
        if family.recognises(config):
            return name
    raise BackboneError(
        f"the weights in {folder} are of no known family; known are: {', '.join(FAMILIES)}"
    )
