from __future__ import annotations

from pathlib import Path

import pytest

from common.backbones import store
from common.backbones.loading import FAMILIES, family, load_backbone
from common.backbones.store import CATALOG, Entry, fetch, install_packaged
from common.errors import BackboneError
from common.home import backbone_folder


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "package"
    (folder / "ours").mkdir(parents=True)
    for name in store.WEIGHT_FILES:
        (folder / "ours" / name).write_text("1")
    monkeypatch.setattr(store, "PACKAGED", folder)
    monkeypatch.setattr(store, "CATALOG", {"ours": Entry("ours", "chronos-bolt")})
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
    assert fetch(Entry("ours", "chronos-bolt")) == backbone_folder("ours")


def test_weights_that_are_nowhere_are_named() -> None:
    with pytest.raises(BackboneError, match=r"weights of absent .* FEDVITALS_HOME"):
        fetch(Entry("absent", "chronos-bolt"))


def test_offline_is_one_clear_line() -> None:
    # conftest sets HF_HUB_OFFLINE.
    with pytest.raises(BackboneError, match=r"amazon/chronos-bolt-tiny .* cannot be reached"):
        load_backbone("amazon/chronos-bolt-tiny")


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(BackboneError, match="did you mean 'chronos-bolt-nano'") as error:
        load_backbone("chronos-bolt-nanno")
    assert "folder of weights" in str(error.value)


def test_published_weights_are_pinned_to_a_commit() -> None:
    for entry in CATALOG.values():
        assert entry.family in FAMILIES
        if "/" in entry.name:
            assert len(entry.revision) == 40
            int(entry.revision, 16)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_can_be_had(name: str) -> None:
    assert family(name).family == name
