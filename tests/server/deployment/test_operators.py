from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from common.errors import UsageError
from server.deployment.operators import (
    OPERATOR_VARIABLE,
    SERVICES,
    Operators,
    add_first_operator,
    credential_file,
    hashed,
    read_credential,
    write_credential,
)
from tests.test_endings import failing


@pytest.fixture
def operators(tmp_path: Path) -> Operators:
    return Operators(tmp_path / "state")


def test_an_operator_is_known_by_the_credential_alone(operators: Operators) -> None:
    one, other = operators.add("a.meyer"), operators.add("b.novak")
    assert operators.identify(one) == "a.meyer"
    assert operators.identify(other) == "b.novak"
    assert operators.identify("a.meyer." + other.rpartition(".")[2]) is None
    assert operators.identify("") is None
    operators.remove("a.meyer")
    assert operators.identify(one) is None
    assert list(operators.since()) == ["b.novak"]


def test_the_file_holds_hashes_and_is_its_owners_alone(operators: Operators) -> None:
    credential = operators.add("a.meyer")
    assert operators.file.stat().st_mode & 0o777 == 0o600
    assert credential.rpartition(".")[2] not in operators.file.read_text()
    assert json.loads(operators.file.read_text())["a.meyer"]["sha256"] == hashed(credential)


def test_the_same_name_has_another_credential_after_it_was_removed(operators: Operators) -> None:
    old = operators.add("a.meyer")
    with pytest.raises(UsageError, match="exists already; remove that one first"):
        operators.add("a.meyer")
    operators.remove("a.meyer")
    new = operators.add("a.meyer")
    assert operators.identify(old) is None
    assert operators.identify(new) == "a.meyer"


@pytest.mark.parametrize("name", ["", "a b", ".a", "a/b", "x" * 65, SERVICES, "a\n"])
def test_names_that_would_not_do(operators: Operators, name: str) -> None:
    with pytest.raises(UsageError, match="an operator's name is"):
        operators.add(name)
    with pytest.raises(UsageError, match="unknown operator"):
        operators.remove(name)


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"sha256": "0"}}', "\x00"])
def test_a_damaged_file_lets_nobody_in_and_says_so(operators: Operators, text: str) -> None:
    credential = operators.add("a.meyer")
    operators.file.write_text(text)
    assert operators.identify(credential) is None
    with pytest.raises(UsageError, match="is damaged"):
        operators.since()


def test_the_services_are_known_by_what_they_drew(tmp_path: Path) -> None:
    credential = f"{SERVICES}.{'x' * 43}"
    assert Operators(tmp_path, hashed(credential)).identify(credential) == SERVICES
    assert Operators(tmp_path).identify(credential) is None


def test_where_a_credential_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDVITALS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(OPERATOR_VARIABLE, raising=False)
    assert credential_file(None) == tmp_path / "home" / "operator"
    monkeypatch.setenv(OPERATOR_VARIABLE, str(tmp_path / "mine"))
    assert credential_file(None) == tmp_path / "mine"
    assert credential_file(tmp_path / "given") == tmp_path / "given"


def test_a_credential_is_written_once_and_read_back(
    operators: Operators, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = operators.add("a.meyer")
    file = tmp_path / "a.meyer.operator"
    write_credential(file, credential)
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_credential(file) == credential
    with pytest.raises(UsageError, match="exists; name another file"):
        write_credential(file, credential)
    monkeypatch.setattr("sys.stdin", io.StringIO(credential + "\n"))
    assert read_credential(Path("-")) == credential
    file.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        read_credential(file)


def test_what_is_no_credential_is_refused_and_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("hunter2")
    file.chmod(0o600)
    with pytest.raises(UsageError, match=r"no operator's credential, which has") as told:
        read_credential(file)
    assert "hunter2" not in str(told.value)


def test_the_first_start_makes_one_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDVITALS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("getpass.getuser", lambda: "anna")
    said: list[str] = []
    add_first_operator(tmp_path / "one", said.append)
    add_first_operator(tmp_path / "one", said.append)
    assert len(said) == 1
    mine = read_credential(tmp_path / "home" / "operator")
    assert Operators(tmp_path / "one").identify(mine) == "anna"
    # Another coordinator of the same user accepts the same file.
    add_first_operator(tmp_path / "two", said.append)
    assert Operators(tmp_path / "two").identify(mine) == "anna"
    # After the removal of the last operator, none is added.
    Operators(tmp_path / "one").remove("anna")
    add_first_operator(tmp_path / "one", said.append)
    assert not Operators(tmp_path / "one").since()


def test_a_user_without_a_usable_name_is_called_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDVITALS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("getpass.getuser", lambda: "A Name")
    add_first_operator(tmp_path / "state", lambda _: None)
    assert list(Operators(tmp_path / "state").since()) == ["operator"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("writes", [0, 1])
def test_an_operator_is_added_whole_or_not_at_all(
    operators: Operators, tmp_path: Path, error: type[BaseException], writes: int
) -> None:
    """Before: a full disk left an operator whose credential was nowhere."""
    file = tmp_path / "a.operator"
    raised = error(28, "No space left on device")
    with (
        failing("common.files.atomic_io._flush", raised, writes),
        pytest.raises((OSError, UsageError, KeyboardInterrupt)) as caught,
    ):
        operators.add("a.meyer", file)
    if error is OSError:
        assert str(tmp_path) in str(caught.value), "the path is named"
    assert not file.exists()
    assert operators.since() == {}
    assert operators.identify(operators.add("a.meyer", file)) == "a.meyer"
    assert read_credential(file).startswith("a.meyer.")
