"""Changes to the log or to its anchors contradict what was shipped."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from client.config.node_key import fingerprint, read_node_key, read_public_key
from client.egress.audit.anchor_shipping import ship_anchor
from client.egress.audit.anchor_verification import verify_anchors
from client.egress.audit.hash_chain import Anchor, verify_log
from client.egress.audit.signed_anchor import SignedAnchor, sign_anchor
from common.errors import AuditError
from tests.client.egress.audit.anchors import KEY, PUBLIC, checked, rewrite, ship, write
from tests.integration.setup.gate_setting import make_node_key


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
