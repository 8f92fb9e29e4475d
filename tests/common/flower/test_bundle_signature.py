from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UsageError
from common.flower.bundle_signature import (
    DOMAIN,
    AuthorKey,
    BundleSignature,
    parse_author_key,
    parse_signature,
    public_key,
    read_signature,
    sign_bundle,
    write_signature,
)

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
SHA256 = "ab" * 32
NAME = "fedvitals/fedvitals 0.1.0"
SIGNED = sign_bundle(SHA256, NAME, KEY, "the authors")


def test_what_is_signed_is_fixed() -> None:
    KEY.public_key().verify(SIGNED.signature, b"fedvitals-bundle-v1\0" + b"ab" * 32 + NAME.encode())


def test_a_signature_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "app.fab.sig"
    write_signature(SIGNED, path)
    assert path.read_text().count("\n") == 1
    read = read_signature(path)
    assert read == SIGNED
    read.check(SHA256, NAME)
    assert read.author.name == "the authors"


@given(
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    name=st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
)
def test_a_signature_holds_for_its_bundle_and_name_alone(sha256: str, name: str) -> None:
    signature = sign_bundle(sha256, name, KEY, "").signature
    key, other = public_key(KEY, ""), public_key(OTHER, "")
    assert key.signed(signature, sha256, name)
    assert not key.signed(signature, sha256, f"{name}x")
    assert not key.signed(signature, sha256[::-1] + "f", name)
    assert not other.signed(signature, sha256, name)


@given(bit=st.integers(0, 511))
def test_no_bit_of_a_signature_can_change(bit: int) -> None:
    changed = bytearray(SIGNED.signature)
    changed[bit // 8] ^= 1 << bit % 8
    assert not SIGNED.author.signed(bytes(changed), SHA256, NAME)


def test_a_signature_for_another_purpose_does_not_hold() -> None:
    plain = KEY.sign(f"{SHA256}{NAME}".encode())
    assert not SIGNED.author.signed(plain, SHA256, NAME)
    assert not SIGNED.author.signed(KEY.sign(DOMAIN + b"ab" * 32), SHA256, NAME)


@pytest.mark.parametrize(
    ("stated", "what"),
    [
        (BundleSignature(SIGNED.author, "cd" * 32, NAME, SIGNED.signature), "another bundle"),
        (BundleSignature(SIGNED.author, SHA256, "us/app 1", SIGNED.signature), "for the name"),
        (BundleSignature(public_key(OTHER, ""), SHA256, NAME, SIGNED.signature), "not by the key"),
        (BundleSignature(SIGNED.author, SHA256, NAME, bytes(64)), "not by the key"),
    ],
)
def test_what_a_file_states_is_checked(stated: BundleSignature, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        stated.check(SHA256, NAME)


def test_a_key_is_taken_as_openssh_or_as_raw_bytes() -> None:
    author = SIGNED.author
    for text in (f"{author.text} A. Meyer, Fedvitals", f"  {author.text}  A. Meyer, Fedvitals\n"):
        key = parse_author_key(text)
        assert (key.raw, key.name) == (author.raw, "A. Meyer, Fedvitals")
    raw = parse_author_key(base64.b64encode(author.raw).decode())
    assert (raw.raw, raw.name, raw.fingerprint) == (author.raw, "", author.fingerprint)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AAAA",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ecdsa-sha2-nistp384 AAAA name",
        f"ssh-rsa {SIGNED.author.text.split()[1]}",
        f"{SIGNED.author.text[:-4]} cut",
        f"{SIGNED.author.text} \x1b[2K",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "é" * 44,
    ],
)
def test_what_is_no_key_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no Ed25519 public key|PRIVATE key") as refused:
        parse_author_key(text)
    assert str(refused.value).isprintable()


@given(text=st.text(max_size=100))
def test_no_text_breaks_the_reading_of_keys_and_signatures(text: str) -> None:
    for parse in (parse_author_key, parse_signature):
        with pytest.raises(UsageError):
            parse(text)


GOOD = {
    "author": SIGNED.author.text,
    "bundle": SHA256,
    "name": NAME,
    "signature": base64.b64encode(SIGNED.signature).decode(),
}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"[" * 9999,
        json.dumps({**GOOD, "more": ""}).encode(),
        json.dumps({**GOOD, "bundle": 1}).encode(),
        json.dumps({**GOOD, "signature": "AAAA"}).encode(),
        json.dumps({**GOOD, "signature": "not base64"}).encode(),
        json.dumps({**GOOD, "author": "ssh-rsa AAAA"}).encode(),
        json.dumps(GOOD).encode() + b" " * 20000,
    ],
)
def test_what_is_no_signature_file_is_refused_in_a_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "app.fab.sig"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"app\.fab\.sig"):
        read_signature(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_signature(tmp_path / "absent.sig")


def test_texts_that_cannot_be_encoded_are_another_bundles(tmp_path: Path) -> None:
    path = tmp_path / "app.fab.sig"
    path.write_text(json.dumps({**GOOD, "name": "\ud800"}))
    with pytest.raises(UsageError, match="for the name"):
        read_signature(path).check(SHA256, NAME)


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize(
    "y",
    [
        *(0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18),
        int.from_bytes(
            bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
            "little",
        ),
        int.from_bytes(
            bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
            "little",
        ),
    ],
)
def test_a_key_that_anybody_can_sign_for_is_refused(y: int, negative: bool) -> None:
    """Such keys verify signatures that were made without any key."""
    raw = (y | negative << 255).to_bytes(32, "little")
    with pytest.raises(UsageError, match="anyone can sign"):
        parse_author_key(base64.b64encode(raw).decode())


def test_the_point_of_order_one_takes_any_signature() -> None:
    """The reason for the refusal: a site that trusted such a key would accept this signature."""
    neutral = (1).to_bytes(32, "little")
    assert AuthorKey(neutral).signed(neutral + bytes(32), "ab" * 32, "whatever")
