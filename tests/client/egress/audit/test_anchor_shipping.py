"""Anchors reach their destination, once and in order."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import client.egress.audit.anchor_shipping as ship_module
from client.egress.audit.anchor_shipping import last_shipped, shipped_before
from client.egress.audit.hash_chain import BEGINNING
from common.errors import AuditError, UsageError
from tests.client.egress.audit.anchors import checked, ship, write
from tests.client.egress.audit.receiver import receiver


def test_anchors_in_a_file_follow_from_one_another(log: Path, file: Path) -> None:
    first = ship(log, file)
    assert (first.lines, first.previous) == (3, BEGINNING)
    write(log, 2)
    second = ship(log, file)
    assert (second.lines, second.previous) == (5, first.digest)
    assert file.read_bytes() == first.line + b"\n" + second.line + b"\n"
    assert checked(log, file) == 2
    assert last_shipped(log, str(file)) == second
    assert shipped_before(log) == [second.anchor]
    assert json.loads(file.read_text().splitlines()[0])["site"] == "hosp1"


def test_a_file_that_was_cut_or_is_not_there_gets_no_further_anchor(log: Path, file: Path) -> None:
    ship(log, file)
    ship(log, file)
    whole = file.read_bytes()
    file.write_bytes(whole.splitlines(keepends=True)[0])
    with pytest.raises(AuditError, match="does not end with the anchor that was shipped there"):
        ship(log, file)
    file.unlink()  # as where its mount is missing
    with pytest.raises(AuditError, match="is its mount there"):
        ship(log, file)
    assert not file.exists()
    file.write_bytes(whole)
    ship(log, file)
    assert checked(log, file) == 4  # with the one that waited


def test_a_crash_between_the_anchor_and_the_note_of_it_breaks_nothing(
    log: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship(log, file)
    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        broken.setattr(ship_module, "write_text", lambda path, text: path.write_text(text))
        with pytest.raises(KeyboardInterrupt):
            ship(log, file)
    assert len(file.read_bytes().splitlines()) == 2
    ship(log, file)
    assert checked(log, file) == 3


def test_half_a_line_that_a_full_disk_took_is_passed_over(
    log: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship(log, file)
    append = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda handle, data: append(handle, data[:100]))
        with pytest.raises(AuditError, match="half a line; is it full"):
            ship(log, file)
    with pytest.raises(AuditError, match="only half an anchor"):
        checked(log, file)
    ship(log, file)
    assert len(file.read_bytes().splitlines()) == 4
    assert checked(log, file) == 3


def test_lost_state_goes_on_from_what_is_at_the_place(log: Path, file: Path) -> None:
    ship(log, file)
    shutil.rmtree(log.parent / "anchors")
    ship(log, file)
    assert checked(log, file) == 2


def test_where_anchors_must_not_go(log: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is in the site's own state folder"):
        ship(log, log.parent / "anchors.jsonl")
    (tmp_path / "link").symlink_to(log.parent)
    with pytest.raises(UsageError, match="is in the site's own state folder"):
        ship(log, tmp_path / "link" / "anchors.jsonl")
    with pytest.raises(UsageError, match="is not encrypted"):
        ship(log, "http://auditor.example.org/anchors")
    for to in ("ftp://localhost/a", "https://", "https://u:p@localhost/", "https://localhost:x/"):
        with pytest.raises(UsageError, match="anchors go to a file or to https"):
            ship(log, to)
    (tmp_path / "notes.txt").write_text("not an anchor\n")
    with pytest.raises(AuditError, match="holds no anchors but other data"):
        ship(log, tmp_path / "notes.txt")
    with pytest.raises(AuditError, match=r"was not shipped to .*: No such file"):
        ship(log, tmp_path / "absent" / "anchors.jsonl")


def test_anchors_reach_a_server_over_tls(log: Path, tmp_path: Path) -> None:
    with receiver(tmp_path / "server") as server:
        ca = tmp_path / "server" / "ca.crt"
        first = ship(log, server.url, ca)
        write(log, 1)
        second = ship(log, server.url, ca)
        assert server.got == [first.line + b"\n", second.line + b"\n"]
        assert checked(log, server.file(tmp_path / "anchors.jsonl")) == 2
        with pytest.raises(
            AuditError, match=r"certificate that is not trusted .*give its authority"
        ):
            ship(log, server.url)
        with pytest.raises(UsageError, match="cannot be read as certificates"):
            ship(log, server.url, tmp_path / "absent.crt")
        assert len(server.got) == 2


def test_a_server_of_another_name_gets_nothing(log: Path, tmp_path: Path) -> None:
    with receiver(tmp_path / "server", host="127.0.0.2") as server:
        with pytest.raises(AuditError, match="certificate that is not trusted"):
            ship(log, server.url, tmp_path / "server" / "ca.crt")
        assert server.got == []


def test_http_goes_to_this_machine_alone(log: Path, tmp_path: Path) -> None:
    with receiver(tmp_path, tls=False) as server:
        ship(log, server.url)
        assert len(server.got) == 1
        with pytest.raises(AuditError, match="was not shipped to"):
            ship(log, server.url.replace("http", "https"))


@pytest.mark.parametrize("status", [301, 307, 403, 503])
def test_a_server_that_refuses_gets_the_same_anchor_later(
    log: Path, tmp_path: Path, status: int
) -> None:
    with receiver(tmp_path, tls=False) as server:
        server.status = status
        with pytest.raises(AuditError, match=f"does not take the anchor: HTTP status {status}"):
            ship(log, server.url)
        write(log, 1)
        server.status = 200
        ship(log, server.url)
        assert checked(log, server.file(tmp_path / "anchors.jsonl")) == 2


def test_an_answer_that_got_lost_breaks_nothing(log: Path, tmp_path: Path) -> None:
    with receiver(tmp_path, tls=False) as server:
        server.status = 0
        with pytest.raises(AuditError, match=r"does not answer|was not shipped"):
            ship(log, server.url)
        server.status = 204
        ship(log, server.url)
        assert len(server.got) == 3  # the first twice
        assert checked(log, server.file(tmp_path / "anchors.jsonl")) == 2
    with pytest.raises(AuditError, match=r"was not shipped to .*refused"):
        ship(log, server.url)
