"""Operators: accounts that may call the control API, each with a credential.

STATE/operators.json   SHA-256 of each operator's credential, and the time when it was added
HOME/operator          a user's own credential, unless --operator or FEDVITALS_OPERATOR names
                       another file

A credential is the operator's name and 32 random bytes. Its hash is enough to verify it and reveals
nothing of it: someone who reads the state folder, or a backup of it, cannot call the API.
"""

from __future__ import annotations

import getpass
import hashlib
import hmac
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.errors import UsageError
from common.files.atomic_io import write_private
from common.files.paths import home
from common.names import NAME_PATTERN, check_name

OPERATORS_FILE = "operators.json"
OPERATOR_VARIABLE = "FEDVITALS_OPERATOR"
SERVICES = "services"
"""Name of the services themselves in the log: they register the sites' keys at their start."""
SERVICES_VARIABLE = "FEDVITALS_SERVICES_SHA256"
"""Environment variable with the hash of their credential, for the SuperLink."""
STANDARD_INPUT = Path("-")

_NAME = re.compile(NAME_PATTERN)
_CREDENTIAL = re.compile(rf"({NAME_PATTERN})\.[A-Za-z0-9_-]{{43}}")
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Operators:
    """The operators of a coordinator.

    Attributes:
        state: the folder of the services' state.
        services: SHA-256 of the credential that the services use among themselves, which changes
            at each start; empty = none.
    """

    state: Path
    services: str = ""

    @property
    def file(self) -> Path:
        """The file of the hashes."""
        return self.state / OPERATORS_FILE

    def since(self) -> dict[str, str]:
        """Return the time when each operator was added, by name.

        Raises:
            UsageError: the file is damaged.
        """
        return {name: entry["since"] for name, entry in sorted(self._read().items())}

    def add(self, name: str, file: Path | None = None) -> str:
        """Add an operator, with a new credential, of which only the hash is stored here.

        Args:
            name: the operator's.
            file: new file for the credential. It is written first: an operator whose credential is
                nowhere could only be removed.

        Returns:
            The credential.

        Raises:
            UsageError: the name is invalid or taken, or the file exists or cannot be written.
        """
        if not _NAME.fullmatch(name) or name == SERVICES:
            raise UsageError(
                f"an operator's name is 1 to 64 of A-Z a-z 0-9 . _ - and not {SERVICES!r}, "
                f"got {name!r}"
            )
        self._check_free(name)
        credential = f"{name}.{secrets.token_urlsafe(32)}"
        if file is not None:
            write_credential(file, credential)
        try:
            self.register(credential)
        except BaseException:
            if file is not None:
                file.unlink(missing_ok=True)
            raise
        return credential

    def register(self, credential: str) -> str:
        """Add an operator with an existing credential; return the operator's name."""
        name = operator_of(credential)
        entries = self._check_free(name)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        entries[name] = {"sha256": hashed(credential), "since": now}
        self._write(entries)
        return name

    def _check_free(self, name: str) -> dict[str, dict[str, str]]:
        """Return all entries; raise `UsageError` if the name is among them."""
        entries = self._read()
        if name in entries:
            raise UsageError(
                f"operator {name} exists already; remove that one first, which revokes the old "
                "credential"
            )
        return entries

    def remove(self, name: str) -> None:
        """Revoke an operator's credential at once, also while the services are running."""
        entries = self._read()
        check_name("operator", name, sorted(entries))
        del entries[name]
        self._write(entries)

    def identify(self, credential: str) -> str | None:
        """Return the operator of a credential, or None.

        The file is read for each call: a removal takes effect at once. If it cannot be read, no
        operator is accepted.
        """
        try:
            entries = self._read()
        except UsageError:
            entries = {}
        if self.services:
            entries[SERVICES] = {"sha256": self.services, "since": ""}
        given = hashed(credential)
        found = None
        for name, entry in entries.items():  # all of them: constant time
            if hmac.compare_digest(entry["sha256"], given):
                found = name
        return found

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            text = self.file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{self.file} cannot be read ({error})") from error
        try:
            entries = json.loads(text)
            return {
                str(name): {"sha256": str(entry["sha256"]), "since": str(entry["since"])}
                for name, entry in entries.items()
            }
        except (ValueError, AttributeError, KeyError, TypeError):
            raise UsageError(
                f"{self.file} is damaged, and no operator is accepted; restore it, or delete it "
                "and restart the services, which adds a first operator"
            ) from None

    def _write(self, entries: dict[str, dict[str, str]]) -> None:
        write_private(self.file, json.dumps(entries, indent=1, sort_keys=True) + "\n")


def hashed(credential: str) -> str:
    """Return the SHA-256 of a credential.

    A slow hash, as for passwords, would add nothing: 2^256 credentials cannot be searched.
    """
    return hashlib.sha256(credential.encode()).hexdigest()


def operator_of(credential: str) -> str:
    """Return the name in a credential, unverified; `Operators.identify` verifies it.

    Raises:
        UsageError: the format is wrong. The message does not repeat the text: it may be a secret.
    """
    match = _CREDENTIAL.fullmatch(credential)
    if match is None:
        raise UsageError("this is no operator's credential, which has the form NAME.SECRET")
    return match[1]


def credential_file(given: Path | None) -> Path:
    """Return the file of a user's credential: as given, FEDVITALS_OPERATOR, or HOME/operator."""
    if given is not None:
        return given
    named = os.environ.get(OPERATOR_VARIABLE)
    return Path(named).expanduser() if named else home() / "operator"


def read_credential(given: Path | None = None) -> str:
    """Read a user's credential.

    Args:
        given: its file; ``-`` is standard input, None the default of `credential_file`.

    Raises:
        UsageError: the file is missing, readable by others, or holds something else.
    """
    file = credential_file(given)
    if file == STANDARD_INPUT:
        text = sys.stdin.read(_MAX_BYTES)
    else:
        try:
            if file.stat().st_mode & 0o077:
                raise UsageError(f"{file} is open to other users of this machine; chmod 600 it")
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "no text"
            raise UsageError(
                f"no operator's credential at {file} ({reason}); name its file with --operator or "
                f"{OPERATOR_VARIABLE}, or have one made: `python -m server operators add NAME`"
            ) from error
    credential = text.strip()
    try:
        operator_of(credential)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None
    return credential


def write_credential(file: Path, credential: str) -> None:
    """Write a credential to a new file that only its owner can read.

    Raises:
        UsageError: the file exists or cannot be written.
    """
    if file.exists():
        raise UsageError(f"{file} exists; name another file with --out")
    try:
        write_private(file, credential + "\n")
    except OSError as error:
        raise UsageError(f"{file} cannot be written ({error.strerror or error})") from error


def add_first_operator(state: Path, report: Callable[[str], None]) -> None:
    """Add the user who starts the services for the first time as an operator.

    A credential that the user has already, for another coordinator on this machine, is added to
    this one too.

    Args:
        state: the folder of the services' state.
        report: called with a line if an operator is added.
    """
    operators = Operators(state)
    if operators.file.exists():
        return
    file = home() / "operator"
    if file.exists():
        name = operators.register(read_credential(file))
    else:
        name = _user()
        operators.add(name, file)
    report(f"{name} may operate this coordinator, with the credential in {file}")


def _user() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "operator"
    return name if _NAME.fullmatch(name) and name != SERVICES else "operator"
