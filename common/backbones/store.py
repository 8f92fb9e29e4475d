"""The known backbones: names, families, and how their weights come to lie in FEDVITALS_HOME.

An app that Flower ships to a node carries no weights. The small models of our own come with the
package and are copied from there; the published ones come from the model hub, at a revision pinned
here, so that every site has the same bytes. Nothing here imports torch.
"""

from __future__ import annotations

import filecmp
import shutil
from dataclasses import dataclass
from pathlib import Path

from common.atomic import atomic_folder
from common.errors import BackboneError
from common.home import backbone_folder

PACKAGED = Path(__file__).with_name("weights")
WEIGHT_FILES: tuple[str, ...] = ("config.json", "model.safetensors")


@dataclass(frozen=True)
class Entry:
    """One known model.

    Attributes:
        name: how settings call it.
        family: a key of `common.backbones.loading.FAMILIES`.
        revision: the pinned commit on the model hub; empty for weights inside the package.
    """

    name: str
    family: str
    revision: str = ""


_BOLT = "chronos-bolt"
CATALOG: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("chronos-bolt-nano", _BOLT),
        Entry("amazon/chronos-bolt-tiny", _BOLT, "a0e552de83495b5c28c14c71c374f3e33280b340"),
        Entry("amazon/chronos-bolt-mini", _BOLT, "251268337516a88e253628c43e1d26ec577b376b"),
        Entry("amazon/chronos-bolt-small", _BOLT, "772f3d25d38aec6d914c8949dab4462e2d46f5d8"),
        Entry("amazon/chronos-bolt-base", _BOLT, "5d9f166d69f47aef3401367a7b842e78fe97b121"),
    )
}


def install_packaged() -> None:
    """Copy the package's own weights to FEDVITALS_HOME, where an app shipped by Flower finds them.

    What lies there already and is the same is left alone; an older release's copy is replaced.
    """
    for name, entry in CATALOG.items():
        source, target = PACKAGED / name, backbone_folder(name)
        if entry.revision or not source.is_dir() or _same(source, target):
            continue
        with atomic_folder(target) as partial:
            for path in source.iterdir():
                shutil.copyfile(path, partial / path.name)


def fetch(entry: Entry) -> Path:
    """Return the folder of a known model's weights, downloading published ones if needed.

    Raises:
        BackboneError: where the weights are not there and cannot be had.
    """
    if entry.revision:
        return _download(entry)
    for folder in (PACKAGED / entry.name, backbone_folder(entry.name)):
        if all((folder / file).is_file() for file in WEIGHT_FILES):
            return folder
    raise BackboneError(
        f"the weights of {entry.name} are not in {backbone_folder(entry.name)}, and an app shipped "
        "by Flower carries none; run `python -m simulation prepare` on this machine, or set "
        "FEDVITALS_HOME to where it ran"
    )


def _same(source: Path, target: Path) -> bool:
    names = [path.name for path in source.iterdir()]
    _, differing, absent = filecmp.cmpfiles(source, target, names, shallow=False)
    return not differing and not absent


def _download(entry: Entry) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

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
