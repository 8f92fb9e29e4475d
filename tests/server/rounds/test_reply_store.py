from __future__ import annotations

import errno
from pathlib import Path

import pytest

from common.adapter.adapter import Adapter
from common.adapter.serialization.message import encode
from common.errors import FederationError
from server.aggregation.rules import aggregate
from server.rounds.reply_store import Spool
from tests.server.aggregation.samples import SETTINGS, adapter


def test_adapters_come_back_in_the_order_of_the_names(tmp_path: Path) -> None:
    adapters = {site: adapter(i) for i, site in enumerate(("sicu", "ccu", "../micu"))}
    with Spool(tmp_path / "run" / "spool") as spool:
        for site, own in adapters.items():
            spool.add(site, encode(own))
        assert list(spool) == ["../micu", "ccu", "sicu"]
        assert dict(spool) == adapters
        assert len(spool) == 3
        assert spool["ccu"] is not spool["ccu"]
        assert {file.parent for file in tmp_path.rglob("*.safetensors")} == {
            tmp_path / "run" / "spool"
        }
    assert not (tmp_path / "run" / "spool").exists()


def test_the_rules_read_from_it_as_from_memory(tmp_path: Path) -> None:
    adapters = {site: adapter(i) for i, site in enumerate(("sicu", "ccu", "micu", "nicu", "tsicu"))}
    weights = dict.fromkeys(adapters, 1.0)
    with Spool(tmp_path / "spool") as spool:
        for site, own in adapters.items():
            spool.add(site, encode(own))
        for rule in ("fedavg", "svd", "median", "krum"):
            spooled = aggregate(rule, spool, weights, adapter(9), None, SETTINGS)
            assert spooled == aggregate(rule, adapters, weights, adapter(9), None, SETTINGS)


def test_a_second_adapter_takes_the_firsts_place_and_one_can_be_dropped(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool") as spool:
        for site, seed in (("ccu", 1), ("micu", 2), ("ccu", 3)):
            spool.add(site, encode(adapter(seed)))
        assert dict(spool) == {"ccu": adapter(3), "micu": adapter(2)}
        spool.discard("micu")
        spool.discard("nobody")
        spool.add("sicu", encode(adapter(4)))
        assert dict(spool) == {"ccu": adapter(3), "sicu": adapter(4)}
        assert len(list((tmp_path / "spool").iterdir())) == 2
        with pytest.raises(KeyError):
            spool["micu"]


def test_a_reader_of_ones_own(tmp_path: Path) -> None:
    def read(data: bytes) -> Adapter:
        return adapter(len(data))

    with Spool(tmp_path / "spool", read) as spool:
        spool.add("ccu", b"12345")
        assert spool["ccu"] == adapter(5)


def test_it_goes_when_the_round_fails_and_what_a_killed_process_left_goes_first(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    (folder / "7.safetensors").write_bytes(b"of the round before")
    with pytest.raises(ValueError, match="round"), Spool(folder) as spool:
        assert len(spool) == 0
        assert not list(folder.iterdir())
        spool.add("ccu", encode(adapter(0)))
        raise ValueError("round failed")
    assert not folder.exists()


def test_a_full_disk_is_one_line_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with Spool(tmp_path / "spool") as spool:
        spool.add("ccu", encode(adapter(0)))
        monkeypatch.setattr(Path, "write_bytes", full)
        for site in ("ccu", "micu"):
            with pytest.raises(FederationError, match=r"No space left on device.; free space"):
                spool.add(site, encode(adapter(1)))
        # What was kept before is still whole; what was cut off is gone.
        assert dict(spool) == {"ccu": adapter(0)}
        assert len(list((tmp_path / "spool").iterdir())) == 1


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FederationError, match="cannot be kept in"), Spool(tmp_path / "file" / "x"):
        pass


def test_a_file_that_somebody_took_away_is_told(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool") as spool:
        spool.add("ccu", encode(adapter(0)))
        next((tmp_path / "spool").iterdir()).unlink()
        with pytest.raises(FederationError, match=r"'ccu' is not in .* resume the run"):
            spool["ccu"]
