"""`python -m client convert`: conversion of a published pickle to a folder of safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.console import print_line, working
from common.files.paths import backbone_folder
from common.interrupts import left_when_stopped
from common.names import check_name

PUBLISHED_NAMES: dict[str, str] = {"lag-llama": "time-series-foundation-models/Lag-Llama"}
"""Published name, by family whose published weights are a pickle."""

_NAMES_SHOWN = 20

_Family = Annotated[
    str, typer.Argument(metavar="FAMILY", help=f"One of: {', '.join(PUBLISHED_NAMES)}.")
]
_CheckpointFile = Annotated[
    Path, typer.Argument(metavar="CKPT", help="The published checkpoint, e.g. lag-llama.ckpt.")
]
_Out = Annotated[
    Path | None,
    typer.Argument(
        metavar="OUT",
        help="The folder to write. [default: the folder from which the published name is loaded]",
        show_default=False,
    ),
]


def convert(family: _Family, checkpoint: _CheckpointFile, out: _Out = None) -> None:
    """Convert a published pickle checkpoint to config.json and model.safetensors.

    Nothing in the file is executed. Anything but tensors and plain values is skipped and listed at
    the end.
    """
    name = PUBLISHED_NAMES[check_name("family to convert", family, PUBLISHED_NAMES)]
    home = backbone_folder(name)
    target = home if out is None else out
    kept = f"nothing was written to {target}"
    with left_when_stopped(kept), working("loading"):
        from common.backbones.lag_llama.convert import convert_lag_llama

        conversion = convert_lag_llama(checkpoint, target)
    print_line(f"{conversion.tensors} tensors, {conversion.parameters:,} parameters")
    if conversion.unknown_names:
        more = len(conversion.unknown_names) - _NAMES_SHOWN
        skipped = ", ".join(conversion.unknown_names[:_NAMES_SHOWN])
        skipped += f" and {more} more" if more > 0 else ""
        print_line(f"Skipped, not run: {skipped}")
    print_line(f"Written: {target}")
    use = name if target.absolute() == home else target
    print_line(f"Use it with: backbone = {use}")
