"""`python -m client convert`: a published pickle as a folder of safetensors, nothing executed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from common.names import check_name
from common.paths import backbone_folder

PUBLISHED_NAMES: dict[str, str] = {"lag-llama": "time-series-foundation-models/Lag-Llama"}
"""The families whose published weights are a pickle, and the name that each is loaded by."""

_NAMES_SHOWN = 20

Family = Annotated[
    str, typer.Argument(metavar="FAMILY", help=f"One of: {', '.join(PUBLISHED_NAMES)}.")
]
CheckpointFile = Annotated[
    Path, typer.Argument(metavar="CKPT", help="The published checkpoint, e.g. lag-llama.ckpt.")
]
Out = Annotated[
    Path | None,
    typer.Argument(
        metavar="OUT",
        help="The folder to write. [default: where the published name is looked for]",
        show_default=False,
    ),
]


def convert(family: Family, checkpoint: CheckpointFile, out: Out = None) -> None:
    """Turn a published checkpoint, which is a pickle, into config.json and model.safetensors.

    Nothing in the file is executed: whatever it asks for beside tensors and plain values is passed
    over, and named at the end.
    """
    name = PUBLISHED_NAMES[check_name("family to convert", family, PUBLISHED_NAMES)]
    home = backbone_folder(name)
    target = home if out is None else out
    console = Console()
    with Console(stderr=True).status("loading"):
        from common.backbones.lag_llama.convert import convert_lag_llama

        conversion = convert_lag_llama(checkpoint, target)
    console.print(
        f"{conversion.tensors} tensors, {conversion.parameters:,} parameters", highlight=False
    )
    if conversion.unknown_names:
        more = len(conversion.unknown_names) - _NAMES_SHOWN
        passed_over = ", ".join(conversion.unknown_names[:_NAMES_SHOWN])
        passed_over += f" and {more} more" if more > 0 else ""
        console.print(
            f"Passed over, not run: {passed_over}", soft_wrap=True, highlight=False, markup=False
        )
    console.print(f"Written: {target}", soft_wrap=True, highlight=False, markup=False)
    use = name if target.absolute() == home else target
    console.print(f"Use it with: backbone = {use}", soft_wrap=True, highlight=False, markup=False)
