"""How a released adapter is used without fedvitals, with its family's own package: text of a card.

Only families are here whose own package then gives the same forecasts but for the floor under the
scale; the others are prepared in a way of fedvitals' own.
"""

from __future__ import annotations

_BOLT = """\
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

_CHRONOS_2 = """\
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

USAGE: dict[str, str] = {"chronos-bolt": _BOLT, "chronos-2": _CHRONOS_2}
"""Markdown by family, with the fields `backbone` (in quotes) and `horizon`."""
