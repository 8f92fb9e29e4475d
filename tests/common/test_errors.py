from __future__ import annotations

import inspect

from common import errors
from common.errors import FedvitalsError


def test_message_is_one_line() -> None:
    assert str(FedvitalsError("first\n  second\tthird ")) == "first second third"


def test_every_error_has_an_exit_code_of_its_own() -> None:
    classes = [
        member
        for _, member in inspect.getmembers(errors, inspect.isclass)
        if issubclass(member, FedvitalsError)
    ]
    codes = [member.exit_code for member in classes]
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 126 for code in codes)  # 126 and above belong to the shell
