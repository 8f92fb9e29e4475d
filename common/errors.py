"""The exceptions that end a command with one line instead of a traceback.

Each class stands for one kind of mistake and carries the exit code that a script or a service
manager sees. The message is a single line that says what is wrong, what was given and what to do.
"""

from __future__ import annotations


class FedvitalsError(Exception):
    """Base of all errors that are the user's or the environment's to mend.

    Args:
        message: one line: what is wrong, what was given, what to do. Line breaks are folded so
            that a log keeps one error on one line.
    """

    exit_code: int = 1

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class UsageError(FedvitalsError):
    """A command was given arguments that do not fit together."""

    exit_code = 2


class SourceError(FedvitalsError):
    """A source of data is missing a table or a column, or a file of it is damaged."""

    exit_code = 3


class CohortError(FedvitalsError):
    """A cohort is empty, or its folder holds something else."""

    exit_code = 4


class SiteTableError(FedvitalsError):
    """A site table breaks the schema: the message names the column or the row."""

    exit_code = 5


class BackboneError(FedvitalsError):
    """A foundation model is unknown, absent, damaged or of another family."""

    exit_code = 6


class AdapterError(FedvitalsError):
    """An adapter is damaged, incomplete, or made for another backbone or other LoRA settings."""

    exit_code = 7


class ForecastError(FedvitalsError):
    """A model gave forecasts that cannot be scored: not finite, crossing, or of a wrong shape."""

    exit_code = 8


class TrainingError(FedvitalsError):
    """A site cannot train: no device, no usable window, or a loss that is not finite."""

    exit_code = 9


class FederationError(FedvitalsError):
    """A run cannot go on: too few sites, no usable reply, or its folder cannot be written."""

    exit_code = 10


class PrivacyError(FedvitalsError):
    """Training would break what is promised to patients, or the ledger of it cannot be kept."""

    exit_code = 11


class PolicyError(FedvitalsError):
    """A site's policy is missing, cannot be read, or holds what is not known."""

    exit_code = 20


class AuditError(FedvitalsError):
    """A site's audit log has been changed, or cannot be written: nothing may leave without it."""

    exit_code = 21


class NodeError(FedvitalsError):
    """A site's node cannot be started, or the coordinator does not accept it."""

    exit_code = 22
