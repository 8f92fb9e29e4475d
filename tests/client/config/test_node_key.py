from __future__ import annotations

from pathlib import Path

import pytest

from client.config.node_key import read_node_key, read_public_key
from common.errors import AuditError, NodeError
from tests.integration.setup.gate_setting import make_node_key


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
