from __future__ import annotations

from pathlib import Path

import pytest

from common.config.toml import MAX_TOML_BYTES, read_toml
from common.errors import PolicyError


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[section", "is not TOML: "),
        (b"a = 1\na = 2\n", "is not TOML: Cannot overwrite a value"),
        (b"\xff = 1", "is not TOML: 'utf-8' codec"),
        (b"a = " + b"9" * 5000, "is not TOML: Exceeds the limit"),
        (b"a = " + b"[" * 50_000, "is not TOML: its arrays are nested too deeply"),
        (b"#" * (MAX_TOML_BYTES + 1), "is larger than 1048576 bytes; is it the right file?"),
    ],
)
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(data)
    with pytest.raises(PolicyError) as error:
        read_toml(path, PolicyError)
    assert str(error.value).startswith(f"{path} {message}")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"absent\.toml cannot be read: No such file"):
        read_toml(tmp_path / "absent.toml", PolicyError)
