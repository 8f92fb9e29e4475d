from __future__ import annotations

import errno
from pathlib import Path

import pytest

from common.adapter.adapter import Adapter
from common.adapter.serialization.message import encode
from common.errors import FederationError
from server.aggregation.rules import aggregate
from server.rounds.reply_store import ReplyStore
from tests.server.aggregation.samples import SETTINGS, adapter


def test_adapters_are_read_in_the_order_of_the_names(tmp_path: Path) -> None:
    adapters = {site: adapter(i) for i, site in enumerate(("sicu", "ccu", "../micu"))}
    with ReplyStore(tmp_path / "run" / "replies") as store:
        for site, own in adapters.items():
            store.add(site, encode(own))
        assert list(store) == ["../micu", "ccu", "sicu"]
        assert dict(store) == adapters
        assert len(store) == 3
        assert store["ccu"] is not store["ccu"]
        assert {file.parent for file in tmp_path.rglob("*.safetensors")} == {
            tmp_path / "run" / "replies"
        }
    assert not (tmp_path / "run" / "replies").exists()


def test_the_rules_read_from_it_as_from_memory(tmp_path: Path) -> None:
    adapters = {site: adapter(i) for i, site in enumerate(("sicu", "ccu", "micu", "nicu", "tsicu"))}
    weights = dict.fromkeys(adapters, 1.0)
    with ReplyStore(tmp_path / "replies") as store:
        for site, own in adapters.items():
            store.add(site, encode(own))
        for rule in ("fedavg", "svd", "median", "krum"):
            stored = aggregate(rule, store, weights, adapter(9), None, SETTINGS)
            assert stored == aggregate(rule, adapters, weights, adapter(9), None, SETTINGS)


def test_a_second_adapter_replaces_the_first_and_refused_ones_are_removed(tmp_path: Path) -> None:
    with ReplyStore(tmp_path / "replies") as store:
        for site, seed in (("ccu", 1), ("micu", 2), ("ccu", 3)):
            store.add(site, encode(adapter(seed)))
        assert dict(store) == {"ccu": adapter(3), "micu": adapter(2)}
        store.retain(["ccu", "nobody"])
        store.add("sicu", encode(adapter(4)))
        assert dict(store) == {"ccu": adapter(3), "sicu": adapter(4)}
        assert len(list((tmp_path / "replies").iterdir())) == 2
        with pytest.raises(KeyError):
            store["micu"]


def test_a_custom_reader_decodes_the_bytes(tmp_path: Path) -> None:
    def read(data: bytes) -> Adapter:
        return adapter(len(data))

    with ReplyStore(tmp_path / "replies", read) as store:
        store.add("ccu", b"12345")
        assert store["ccu"] == adapter(5)


def test_the_folder_is_cleared_at_the_start_and_after_a_failed_round(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "replies"
    folder.mkdir()
    (folder / "7.safetensors").write_bytes(b"of the round before")
    with pytest.raises(ValueError, match="round"), ReplyStore(folder) as store:
        assert len(store) == 0
        assert not list(folder.iterdir())
        store.add("ccu", encode(adapter(0)))
        raise ValueError("round failed")
    assert not folder.exists()


def test_a_full_disk_is_one_line_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with ReplyStore(tmp_path / "replies") as store:
        store.add("ccu", encode(adapter(0)))
        monkeypatch.setattr(Path, "write_bytes", full)
        for site in ("ccu", "micu"):
            with pytest.raises(FederationError, match=r"No space left on device.; free space"):
                store.add(site, encode(adapter(1)))
        # What was kept before is still whole; what was cut off is gone.
        assert dict(store) == {"ccu": adapter(0)}
        assert len(list((tmp_path / "replies").iterdir())) == 1


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(FederationError, match="cannot be written to"),
        ReplyStore(tmp_path / "file" / "x"),
    ):
        pass


def test_a_file_that_was_removed_is_an_error(tmp_path: Path) -> None:
    with ReplyStore(tmp_path / "replies") as store:
        store.add("ccu", encode(adapter(0)))
        next((tmp_path / "replies").iterdir()).unlink()
        with pytest.raises(FederationError, match=r"'ccu' is no longer in .* resume the run"):
            store["ccu"]
