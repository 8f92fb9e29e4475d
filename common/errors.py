"""Exceptions that end a command with one line instead of a traceback.

Each class is one kind of error, with the exit code that a script or a service manager sees. The
message is a single line: what is wrong, what was given and what to do.
"""

from __future__ import annotations


class FedvitalsError(Exception):
    """Base of all errors that the user can fix, in the command or in its environment.

    Args:
        message: one line: what is wrong, what was given, what to do. Line breaks become spaces, so
            that a log has one line per error.
    """

    exit_code: int = 1

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class UsageError(FedvitalsError):
    """A command was given arguments that do not fit together."""

    exit_code = 2


class SourceError(FedvitalsError):
    """A source of data lacks a table or a column, or has a damaged file."""

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
    """A forecast cannot be scored: it is not finite, its quantiles cross, or its shape is wrong."""

    exit_code = 8


class TrainingError(FedvitalsError):
    """A site cannot train: no device, no usable window, or a loss that is not finite."""

    exit_code = 9


class FederationError(FedvitalsError):
    """A run cannot continue: too few sites, no usable reply, or its folder cannot be written."""

    exit_code = 10


class PrivacyError(FedvitalsError):
    """Training would exceed the privacy guarantee, or the ledger cannot be written."""

    exit_code = 11


class StatisticsError(FedvitalsError):
    """Statistics of a site are not valid, or no site has sent any."""

    exit_code = 12


class PolicyError(FedvitalsError):
    """A site's policy is missing, invalid, or does not allow what is requested."""

    exit_code = 20


class AuditError(FedvitalsError):
    """A site's audit log has been changed, or cannot be written; without it nothing is sent."""

    exit_code = 21


class NodeError(FedvitalsError):
    """A site's node cannot start, or the coordinator rejects it."""

    exit_code = 22
