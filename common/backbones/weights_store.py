"""Storage of the weights of the known backbones: package, FEDVITALS_HOME, cache of the model hub.

An app that Flower ships to a node contains no weights. The packaged models are copied from the
installed package to FEDVITALS_HOME; the published ones come from the model hub, at the revision
pinned in the catalog, so that every site has the same bytes. Nothing here imports torch.
"""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

from common.backbones.catalog import CATALOG, Entry
from common.errors import BackboneError
from common.files.atomic_io import atomic_folder
from common.files.paths import backbone_folder

PACKAGED = Path(__file__).with_name("weights")
WEIGHT_FILES: tuple[str, ...] = ("config.json", "model.safetensors")


def install_packaged() -> None:
    """Copy the packaged weights to FEDVITALS_HOME, where an app shipped by Flower finds them.

    Equal copies are left alone; those of an older release are replaced.

    Raises:
        BackboneError: FEDVITALS_HOME cannot be written.
    """
    for name, entry in CATALOG.items():
        source, target = PACKAGED / name, backbone_folder(name)
        if entry.revision or not source.is_dir() or _same(source, target):
            continue
        try:
            with atomic_folder(target) as partial:
                for path in source.iterdir():
                    shutil.copyfile(path, partial / path.name)
        except OSError as error:
            raise BackboneError(
                f"the weights of {name} cannot be written to {target} ({error.strerror or error}); "
                "set FEDVITALS_HOME to another folder"
            ) from error


def fetch(entry: Entry) -> Path:
    """Return the folder of a known model's weights, downloading published ones if needed.

    Raises:
        BackboneError: the weights are absent and cannot be downloaded.
    """
    folder = local_weights(entry)
    if folder is not None:
        return folder
    if entry.packaged:
        raise BackboneError(
            f"the weights of {entry.name} are not in {backbone_folder(entry.name)}, and an app "
            "shipped by Flower contains none; run `python -m simulation prepare` on this machine, "
            "or set FEDVITALS_HOME to the folder where it ran"
        )
    if entry.checkpoint:
        raise BackboneError(
            f"the model hub has {entry.name} only as the pickle {entry.checkpoint}, which is not "
            f"loaded; fetch it once (hf download {entry.name} {entry.checkpoint} --revision "
            f"{entry.revision} --local-dir .) and run `python -m client convert {entry.family} "
            f"{entry.checkpoint} '{backbone_folder(entry.name)}'`"
        )
    return _download(entry)


def local_weights(entry: Entry) -> Path | None:
    """Return the local folder of a known model's weights; None if absent. Uses no network."""
    if not entry.packaged and not entry.checkpoint:
        return _cached(entry)
    for folder in (PACKAGED / entry.name, backbone_folder(entry.name)):
        if all((folder / file).is_file() for file in WEIGHT_FILES):
            return folder
    return None


def _same(source: Path, target: Path) -> bool:
    names = [path.name for path in source.iterdir()]
    _, differing, absent = filecmp.cmpfiles(source, target, names, shallow=False)
    return not differing and not absent


def _cached(entry: Entry) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = (
        try_to_load_from_cache(entry.name, file, revision=entry.revision) for file in WEIGHT_FILES
    )
    # The result is a path, None, or a marker for "known to be absent".
    paths = [Path(path) for path in found if isinstance(path, str)]
    return paths[0].parent if len(paths) == len(WEIGHT_FILES) else None


def _download(entry: Entry) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import logging as hub_logging

    # It would log every retry.
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        folder = snapshot_download(
            entry.name, revision=entry.revision, allow_patterns=list(WEIGHT_FILES)
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise BackboneError(
            f"the weights of {entry.name} are not in the cache and the model hub cannot be reached "
            f"({type(error).__name__}); fetch them where there is a network, or give their folder "
            "with backbone = FOLDER"
        ) from error
    return Path(folder)
