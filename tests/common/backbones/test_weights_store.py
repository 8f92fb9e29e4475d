from __future__ import annotations

from pathlib import Path

import pytest

from common.backbones import weights_store
from common.backbones.catalog import CATALOG, Entry
from common.backbones.loading import load_backbone
from common.backbones.weights_store import fetch, install_packaged, local_weights
from common.errors import BackboneError
from common.files.paths import backbone_folder


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "package"
    (folder / "ours").mkdir(parents=True)
    for name in weights_store.WEIGHT_FILES:
        (folder / "ours" / name).write_text("1")
    monkeypatch.setattr(weights_store, "PACKAGED", folder)
    monkeypatch.setattr(weights_store, "CATALOG", {"ours": Entry("ours", "chronos-bolt", 1)})
    return folder


def test_packaged_weights_are_installed_and_kept_fresh(packaged: Path) -> None:
    install_packaged()
    target = backbone_folder("ours") / "config.json"
    assert target.read_text() == "1"
    before = target.stat().st_ino
    install_packaged()
    assert target.stat().st_ino == before
    (packaged / "ours" / "config.json").write_text("2")
    install_packaged()
    assert target.read_text() == "2"


def test_an_app_without_weights_finds_those_in_the_home(packaged: Path) -> None:
    install_packaged()
    for path in (packaged / "ours").iterdir():
        path.unlink()
    assert fetch(Entry("ours", "chronos-bolt", 1)) == backbone_folder("ours")


def test_weights_that_are_nowhere_are_named() -> None:
    with pytest.raises(BackboneError, match=r"weights of absent .* FEDVITALS_HOME"):
        fetch(Entry("absent", "chronos-bolt", 1))


def test_offline_is_one_clear_line() -> None:
    # conftest sets HF_HUB_OFFLINE.
    with pytest.raises(BackboneError, match=r"amazon/chronos-bolt-tiny .* cannot be reached"):
        load_backbone("amazon/chronos-bolt-tiny")


def test_a_pickle_is_not_loaded_but_converted_by_hand() -> None:
    with pytest.raises(BackboneError, match=r"only as the pickle lag-llama\.ckpt.*client convert"):
        load_backbone("time-series-foundation-models/Lag-Llama")


def test_what_is_here_is_told_without_a_network() -> None:
    here = {name for name, entry in CATALOG.items() if local_weights(entry)}
    assert here >= {name for name, entry in CATALOG.items() if entry.packaged}
    assert local_weights(CATALOG["amazon/chronos-bolt-tiny"]) is None


def test_the_hub_s_cache_is_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = CATALOG["amazon/chronos-bolt-tiny"]
    snapshot = tmp_path / "models--amazon--chronos-bolt-tiny" / "snapshots" / entry.revision
    snapshot.mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    (snapshot / "config.json").write_text("{}")
    assert local_weights(entry) is None
    (snapshot / "model.safetensors").write_text("")
    assert local_weights(entry) == snapshot
