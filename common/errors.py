"""Exceptions that end a command with one line instead of a traceback.

Each class is one kind of mistake, with the exit code that a script or a service manager sees. The
message is a single line: what is wrong, what was given and what to do.
"""

from __future__ import annotations


class FedvitalsError(Exception):
    """Base of all errors that the user or the environment can fix.

    Args:
        message: what is wrong, what was given, what to do. Line breaks become blanks, so that a
            log has one error per line.
    """

    exit_code: int = 1

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class UsageError(FedvitalsError):
    """A command was given arguments that do not fit together."""

    exit_code = 2


class SourceError(FedvitalsError):
    """A data source lacks a table or a column, or one of its files is damaged."""

    exit_code = 3


class CohortError(FedvitalsError):
    """A cohort is empty, or its folder cannot be read, written or replaced."""

    exit_code = 4


class SiteTableError(FedvitalsError):
    """A site table violates the schema; the message names the column or the row."""

    exit_code = 5


class BackboneError(FedvitalsError):
    """A foundation model is unknown, absent, damaged or of another family."""

    exit_code = 6


class AdapterError(FedvitalsError):
    """An adapter is damaged, incomplete, or made for another backbone or other LoRA settings."""

    exit_code = 7


class ForecastError(FedvitalsError):
    """Forecasts cannot be scored: not finite, crossing quantiles, or of a wrong shape."""

    exit_code = 8


class TrainingError(FedvitalsError):
    """A site cannot train: no device, no usable window, or a loss that is not finite."""

    exit_code = 9


class FederationError(FedvitalsError):
    """A run cannot continue: too few sites, no usable reply, or its folder cannot be written."""

    exit_code = 10


class PrivacyError(FedvitalsError):
    """Training would violate the privacy guarantee, or the privacy ledger cannot be kept."""

    exit_code = 11


class PolicyError(FedvitalsError):
    """A site's policy is missing, cannot be read, or has an unknown key or value."""

    exit_code = 20


class AuditError(FedvitalsError):
    """A site's audit log was changed or cannot be written; nothing leaves the site without it."""

    exit_code = 21


class NodeError(FedvitalsError):
    """A site's node cannot start, or the coordinator does not accept it."""

    exit_code = 22
