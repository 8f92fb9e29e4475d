"""Signed anchors, shipped to a file and to a server; what was done to log or anchors is found."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

import client.egress.audit.anchor_shipping as ship_module
from client.config.node_key import fingerprint, read_node_key, read_public_key
from client.egress.audit.anchor_shipping import last_shipped, ship_anchor, shipped_before
from client.egress.audit.anchor_thread import AnchorThread
from client.egress.audit.anchor_verification import verify_anchors
from client.egress.audit.audit_log import AuditLog
from client.egress.audit.hash_chain import BEGINNING, Anchor, verify_log
from client.egress.audit.signed_anchor import SignedAnchor, sign_anchor
from common.errors import AuditError, NodeError, UsageError
from tests.client.egress.audit.receiver import receiver
from tests.integration.gate_setting import make_node_key

KEY = ec.generate_private_key(ec.SECP384R1())
PUBLIC = KEY.public_key()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "audit.jsonl"
    write(path, 3)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere" / "anchors.jsonl"


def write(log: Path, lines: int, word: str = "sent") -> None:
    audit = AuditLog(log)
    for _ in range(lines):
        audit.append({"decision": word})


def ship(log: Path, to: Path | str, ca: Path | None = None) -> SignedAnchor:
    return ship_anchor(log, "hosp1", KEY, str(to), ca=ca, timeout_s=5)


def checked(log: Path, file: Path, key: ec.EllipticCurvePublicKey = PUBLIC) -> int:
    """Check as `audit verify` does elsewhere; return how many anchors there are."""
    lines = file.read_bytes().removesuffix(b"\n").split(b"\n")
    found = verify_anchors(lines, [key], file.name)
    verify_log(log, *(one.anchor for one in found))
    return len(found)


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


def test_the_signature_is_one_that_other_programs_check(
    log: Path, file: Path, tmp_path: Path
) -> None:
    import base64

    make_node_key(tmp_path / "node.key")
    key = read_node_key(tmp_path / "node.key")
    made = ship_anchor(log, "hosp1", key, str(file))
    public = read_public_key(tmp_path / "node.key.pub")
    assert checked(log, file, public) == 1
    values = json.loads(made.line)
    (tmp_path / "signature").write_bytes(base64.b64decode(values.pop("signature")))
    signed = json.dumps(values, sort_keys=True, separators=(",", ":"))
    (tmp_path / "signed").write_text(signed)
    keygen = ["ssh-keygen", "-f", str(tmp_path / "node.key.pub")]
    if shutil.which("ssh-keygen") is None or shutil.which("openssl") is None:
        pytest.skip("ssh-keygen or openssl is not here")
    shown = subprocess.run([*keygen, "-l"], capture_output=True, text=True, check=True).stdout
    assert made.key in shown
    pem = subprocess.run([*keygen, "-e", "-m", "PKCS8"], capture_output=True, check=True).stdout
    (tmp_path / "key.pem").write_bytes(pem)
    checks = ["openssl", "dgst", "-sha384", "-verify", "key.pem", "-signature", "signature"]
    subprocess.run([*checks, "signed"], cwd=tmp_path, check=True, capture_output=True)


def rewrite(log: Path, lines: int) -> None:
    """Do what whoever has the site's state folder can do: write a log and its anchor anew."""
    shutil.rmtree(log.parent)
    write(log, lines, word="forged")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda log: rewrite(log, 5), "are of two logs"),
        (lambda log: rewrite(log, 2), "not the one|missing at the end"),
        (lambda log: shutil.rmtree(log.parent), "is missing, but 5 lines of it are anchored"),
    ],
)
def test_a_log_rewritten_or_removed_with_its_anchor_is_found(
    log: Path, file: Path, change: Callable[[Path], None], match: str
) -> None:
    ship(log, file)
    write(log, 2)
    ship(log, file)
    change(log)
    if log.exists():
        verify_log(log)  # which sees nothing
    with pytest.raises(AuditError, match=match):
        checked(log, file)


def test_a_log_that_was_cut_is_found_though_its_anchor_fits(log: Path, file: Path) -> None:
    ship(log, file)
    first, *_ = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(first)
    log.with_name("audit.jsonl.anchor").unlink()
    assert verify_log(log).lines == 1
    with pytest.raises(AuditError, match="2 lines are missing at the end, after 1"):
        checked(log, file)
    with pytest.raises(AuditError, match="2 lines are missing at the end"):
        ship(log, file)  # nor is it signed as if nothing had been


def test_a_forged_log_signed_with_the_stolen_key_contradicts_what_has_left(
    log: Path, file: Path, tmp_path: Path
) -> None:
    ship(log, file)
    rewrite(log, 5)
    with pytest.raises(AuditError, match="not the one that the anchor was made for"):
        ship(log, file)
    forged = sign_anchor(
        verify_log(log), "hosp1", KEY, SignedAnchor.parse(file.read_bytes()[:-1]).digest
    )
    with file.open("ab") as more:
        more.write(forged.line + b"\n")
    with pytest.raises(AuditError, match="not the one that the anchor was made for"):
        checked(log, file)


@pytest.mark.parametrize("change", ["first", "middle", "moved", "changed", "foreign", "all"])
def test_what_was_done_to_the_anchors_is_found(log: Path, file: Path, change: str) -> None:
    for _ in range(4):
        write(log, 1)
        ship(log, file)
    lines = file.read_bytes().splitlines(keepends=True)
    other = ec.generate_private_key(ec.SECP384R1())
    foreign = sign_anchor(verify_log(log), "hosp1", other, SignedAnchor.parse(lines[3][:-1]).digest)
    altered = {
        "first": lines[1:],
        "middle": [lines[0], *lines[2:]],
        "moved": [lines[0], lines[2], lines[1], lines[3]],
        "changed": [lines[0], lines[1].replace(b'"lines":5', b'"lines":4'), *lines[2:]],
        "foreign": [*lines, foreign.line + b"\n"],
        "all": [],
    }[change]
    assert altered != lines
    file.write_bytes(b"".join(altered))
    with pytest.raises(AuditError):
        checked(log, file)


def test_anchors_of_another_site_or_key_are_not_this_ones(log: Path, file: Path) -> None:
    ship(log, file)
    lines = file.read_bytes().splitlines()
    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    with pytest.raises(AuditError, match="is signed by 'SHA256:"):
        verify_anchors(lines, [other], "FILE")
    assert verify_anchors(lines, [other, PUBLIC], "FILE")  # of a site that has had two keys
    with pytest.raises(AuditError, match="is of the site 'hosp1'"):
        verify_anchors(lines, [PUBLIC], "FILE", "hosp2")
    with pytest.raises(AuditError, match="holds anchors of the site 'hosp1'"):
        ship_anchor(log, "hosp2", KEY, str(file))


@given(st.binary(max_size=300))
def test_no_line_is_an_anchor_but_an_anchor(line: bytes) -> None:
    with pytest.raises(AuditError):
        SignedAnchor.parse(line)


@given(st.integers(0), st.integers(0, 255))
def test_an_anchor_with_one_byte_changed_is_not_signed(place: int, byte: int) -> None:
    line = bytearray(sign_anchor(Anchor(3, "a" * 64), "hosp1", KEY).line)
    place %= len(line)
    if line[place] == byte:
        return
    line[place] = byte
    with pytest.raises(AuditError):
        SignedAnchor.parse(bytes(line)).check_signature({fingerprint(PUBLIC): PUBLIC})


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


def test_the_node_ships_by_itself_and_goes_on_where_it_cannot(
    log: Path, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shipped, failing = threading.Semaphore(0), threading.Event()

    def one() -> SignedAnchor:
        try:
            if failing.is_set():
                raise ValueError("a patient's name")
            return ship(log, file)
        finally:
            shipped.release()

    anchoring = AnchorThread(one, every=3)
    audit = AuditLog(log, anchoring.on_append)
    with caplog.at_level(logging.INFO, "fedvitals.anchors"):
        anchoring.start()
        assert shipped.acquire(timeout=30)
        failing.set()
        for _ in range(3):
            audit.append({"decision": "sent"})
        assert shipped.acquire(timeout=30)
        failing.clear()
        for _ in range(3):
            audit.append({"decision": "sent"})
        assert shipped.acquire(timeout=30)
    assert checked(log, file) == 2
    assert "not shipped: ValueError" in caplog.text
    assert "patient" not in caplog.text


def test_keys_that_are_none(tmp_path: Path) -> None:
    make_node_key(tmp_path / "node.key")
    with pytest.raises(AuditError, match="not a public key"):
        read_public_key(tmp_path / "node.key")
    with pytest.raises(NodeError, match="not a private key"):
        read_node_key(tmp_path / "node.key.pub")
    with pytest.raises(NodeError, match="cannot be read"):
        read_node_key(tmp_path / "absent")
    with pytest.raises(AuditError, match="cannot be read"):
        read_public_key(tmp_path / "absent")
