from __future__ import annotations

import base64
from pathlib import Path
from typing import cast

import pytest

from common.errors import UsageError
from server.deployment.flwr_subprocess import Flower
from server.deployment.site_keys import GONE, SiteKeys, read_key
from tests.integration.setup.gate_setting import make_node_key


class SuperLink:
    """Replacement for `Flower`, with the nodes of a SuperLink."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.names: list[str] = []

    def nodes(self) -> dict[str, str]:
        return dict(self.known)

    def register(self, _key: Path, name: str) -> str:
        node = str(100 + len(self.names))
        self.names.append(name)
        self.known[node] = "registered"
        return node

    def unregister(self, node: str) -> None:
        self.known[node] = GONE


@pytest.fixture
def superlink() -> SuperLink:
    return SuperLink()


@pytest.fixture
def keys(tmp_path: Path, superlink: SuperLink) -> SiteKeys:
    return SiteKeys(tmp_path / "state", cast(Flower, superlink))


def make_key(folder: Path, name: str = "node") -> Path:
    make_node_key(folder / name)
    return folder / f"{name}.pub"


def test_a_site_is_added_listed_and_removed(
    keys: SiteKeys, superlink: SuperLink, tmp_path: Path
) -> None:
    added = keys.add("ccu", make_key(tmp_path))
    assert keys.statuses() == {"ccu": "registered"}
    assert keys.remove("ccu") == added
    assert keys.names() == []
    assert superlink.known == {"100": GONE}


def test_a_removed_key_is_never_taken_again(keys: SiteKeys, tmp_path: Path) -> None:
    key = make_key(tmp_path)
    keys.add("ccu", key)
    keys.remove("ccu")
    for name in ("ccu", "micu"):
        with pytest.raises(UsageError, match="was revoked"):
            keys.add(name, key)


def test_a_key_stands_for_one_site(keys: SiteKeys, tmp_path: Path) -> None:
    key = make_key(tmp_path)
    keys.add("ccu", key)
    with pytest.raises(UsageError, match="already the key of ccu"):
        keys.add("micu", key)


def test_a_new_key_replaces_the_old_one_only_where_asked(
    keys: SiteKeys, superlink: SuperLink, tmp_path: Path
) -> None:
    old, new = make_key(tmp_path, "old"), make_key(tmp_path, "new")
    keys.add("ccu", old)
    with pytest.raises(UsageError, match="give --replace"):
        keys.add("ccu", new)
    keys.add("ccu", new, replace=True)
    assert superlink.known == {"100": GONE, "101": "registered"}
    with pytest.raises(UsageError, match="was revoked"):
        keys.add("micu", old)


def test_a_lost_database_learns_the_keys_again(
    keys: SiteKeys, superlink: SuperLink, tmp_path: Path
) -> None:
    keys.add("ccu", make_key(tmp_path))
    superlink.known.clear()
    said: list[str] = []
    keys.sync(said.append)
    assert [line.split()[:2] for line in said] == [["registered", "ccu"]]
    keys.sync(said.append)
    assert len(said) == 1, "nothing is left to do"


def test_what_is_changed_without_services_takes_effect_at_their_start(
    keys: SiteKeys, superlink: SuperLink, tmp_path: Path
) -> None:
    stopped = SiteKeys(tmp_path / "state", None)
    keys.add("ccu", make_key(tmp_path, "a"))
    stopped.remove("ccu")
    stopped.add("micu", make_key(tmp_path, "b"))
    keys.sync()
    assert superlink.names == ["ccu", "micu"]
    assert superlink.known == {"100": GONE, "101": "registered"}


def test_a_private_key_is_recognised(tmp_path: Path) -> None:
    make_key(tmp_path)
    with pytest.raises(UsageError, match="PRIVATE key, which must never leave"):
        read_key(tmp_path / "node")


@pytest.mark.parametrize("text", ["", "hello", "ssh-rsa AAAA me", "ecdsa-sha2-nistp384 A=A x"])
def test_what_is_no_key_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "node.pub"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"public key"):
        read_key(file)
    with pytest.raises(UsageError, match="cannot be read as a key"):
        read_key(tmp_path / "absent.pub")


def test_a_name_that_no_site_can_have(keys: SiteKeys, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a site's name has"):
        keys.add("../ccu", make_key(tmp_path))
    with pytest.raises(UsageError, match=r"unknown|no site"):
        keys.remove("ccu")


def test_one_key_has_one_spelling(tmp_path: Path) -> None:
    """A key that was revoked must not come back under another fingerprint."""
    kind, encoded, *_ = make_key(tmp_path).read_text().split()
    blob = base64.b64decode(encoded)
    point = blob[-97:]
    compressed = bytes([2 + point[-1] % 2]) + point[1:49]
    others = (blob + b"\0\0\0\0", blob[:-101] + b"\0\0\0\x31" + compressed, blob[:-1])
    for number, other in enumerate(others):
        file = tmp_path / f"{number}.pub"
        file.write_text(f"{kind} {base64.b64encode(other).decode()}\n")
        with pytest.raises(UsageError, match="damaged public key"):
            read_key(file)
