"""The operators: who may call the control API, each by a credential of their own.

STATE/operators.json   for each operator the SHA-256 of their credential, and since when it holds
HOME/operator          a user's own credential, where neither --operator nor FEDVITALS_OPERATOR
                       names another file

A credential is 32 random bytes behind the operator's name. Its hash is enough to check it by and
tells nothing of it: who reads the state folder, or a backup of it, can call nothing.
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

from common.atomic_io import atomic_file
from common.errors import UsageError
from common.names import NAME_PATTERN, check_name
from common.paths import home

OPERATORS_FILE = "operators.json"
VARIABLE = "FEDVITALS_OPERATOR"
SERVICES = "services"
"""The services' own name in the log: they register the sites' keys when they start."""
SERVICES_VARIABLE = "FEDVITALS_SERVICES_SHA256"
"""Tells the SuperLink the hash of their credential."""
STANDARD_INPUT = Path("-")

_NAME = re.compile(NAME_PATTERN)
_CREDENTIAL = re.compile(rf"({NAME_PATTERN})\.[A-Za-z0-9_-]{{43}}")
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Operators:
    """The operators of a coordinator.

    Attributes:
        state: the folder of the services' state.
        services: SHA-256 of the credential that the services use among themselves, which is drawn
            anew whenever they start; empty = none.
    """

    state: Path
    services: str = ""

    @property
    def file(self) -> Path:
        """Where the hashes lie."""
        return self.state / OPERATORS_FILE

    def since(self) -> dict[str, str]:
        """Return when each operator was added, by name.

        Raises:
            UsageError: where the file is damaged.
        """
        return {name: entry["since"] for name, entry in sorted(self._read().items())}

    def add(self, name: str) -> str:
        """Let somebody call the control API from now on.

        Returns:
            Their credential, which is kept nowhere.

        Raises:
            UsageError: where the name will not do or is taken.
        """
        if not _NAME.fullmatch(name) or name == SERVICES:
            raise UsageError(
                f"an operator's name is 1 to 64 of A-Z a-z 0-9 . _ - and not {SERVICES!r}, "
                f"got {name!r}"
            )
        credential = f"{name}.{secrets.token_urlsafe(32)}"
        self.take(credential)
        return credential

    def take(self, credential: str) -> str:
        """Take a credential that exists already; return its operator's name."""
        entries = self._read()
        name = operator_of(credential)
        if name in entries:
            raise UsageError(
                f"there is an operator {name} already; remove that one first, which makes the old "
                "credential void"
            )
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        entries[name] = {"sha256": hashed(credential), "since": now}
        self._write(entries)
        return name

    def remove(self, name: str) -> None:
        """Refuse an operator's credential from now on, also while the services run."""
        entries = self._read()
        check_name("operator", name, sorted(entries))
        del entries[name]
        self._write(entries)

    def identify(self, credential: str) -> str | None:
        """Return whose credential this is, None where it is nobody's.

        Read anew for each call, so that a removal takes effect at once. Where the hashes cannot be
        read nobody is let in.
        """
        try:
            entries = self._read()
        except UsageError:
            entries = {}
        if self.services:
            entries[SERVICES] = {"sha256": self.services, "since": ""}
        given = hashed(credential)
        found = None
        for name, entry in entries.items():  # all of them: when it ends tells nothing
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
                f"{self.file} is damaged: nobody is let in; restore it, or delete it and start the "
                "services anew, which makes a first operator"
            ) from None

    def _write(self, entries: dict[str, dict[str, str]]) -> None:
        write_private(self.file, json.dumps(entries, indent=1, sort_keys=True) + "\n")


def hashed(credential: str) -> str:
    """Return the SHA-256 by which a credential is known.

    A slow hash, as for passwords, would add nothing: nobody tries 2^256 credentials.
    """
    return hashlib.sha256(credential.encode()).hexdigest()


def operator_of(credential: str) -> str:
    """Return the name that stands in a credential; only `Operators.identify` proves it.

    Raises:
        UsageError: where it is none. What was given is not repeated: it may be a secret.
    """
    match = _CREDENTIAL.fullmatch(credential)
    if match is None:
        raise UsageError("this is no operator's credential, which has the form NAME.SECRET")
    return match[1]


def credential_file(given: Path | None) -> Path:
    """Return where a user's credential lies: as given, as FEDVITALS_OPERATOR says, or by itself."""
    if given is not None:
        return given
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser() if named else home() / "operator"


def read_credential(given: Path | None = None) -> str:
    """Read a user's credential.

    Args:
        given: its file; ``-`` is the standard input, None as `credential_file` says.

    Raises:
        UsageError: where there is none, others can read it, or it holds something else.
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
                f"{VARIABLE}, or let the coordinator make one: `python -m server operators add`"
            ) from error
    credential = text.strip()
    try:
        operator_of(credential)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None
    return credential


def write_credential(file: Path, credential: str) -> None:
    """Write a credential into a new file that nobody else reads.

    Raises:
        UsageError: where the file is there already or cannot be written.
    """
    if file.exists():
        raise UsageError(f"{file} is there already; name another file with --out")
    try:
        write_private(file, credential + "\n")
    except OSError as error:
        raise UsageError(f"{file} cannot be written ({error.strerror or error})") from error


def first_operator(state: Path, say: Callable[[str], None]) -> None:
    """Make the user who starts the services for the first time their operator.

    Where that user has a credential already, from another coordinator on this machine, it holds for
    this one too.

    Args:
        state: the folder of the services' state.
        say: called with a line where one is made.
    """
    operators = Operators(state)
    if operators.file.exists():
        return
    file = home() / "operator"
    if file.exists():
        name = operators.take(read_credential(file))
    else:
        name = _user()
        credential = operators.add(name)
        try:
            write_credential(file, credential)
        except UsageError:
            operators.file.unlink()
            raise
    say(f"{name} may operate this coordinator, with the credential in {file}")


def write_private(file: Path, text: str) -> None:
    """Write a file whole or not at all, readable for its owner alone from its first byte on."""
    with atomic_file(file) as partial:
        partial.touch(mode=0o600)
        partial.write_text(text, encoding="utf-8")


def _user() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "operator"
    return name if _NAME.fullmatch(name) and name != SERVICES else "operator"
