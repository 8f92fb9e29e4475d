from __future__ import annotations

import io
import logging

import pytest
from flwr.common.logger import ConsoleHandler

from common.flower.log_colours import plain_flower_log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        """Return True, as a terminal does."""
        return True


@pytest.mark.parametrize(
    ("stream", "variables", "coloured"),
    [
        (io.StringIO(), {}, False),
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
    ],
)
def test_codes_are_written_to_terminals_only(
    stream: io.StringIO,
    variables: dict[str, str],
    coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    logger = logging.getLogger("flwr")
    monkeypatch.setattr(logger, "handlers", [ConsoleHandler(stream=stream)])
    plain_flower_log()
    logger.warning("a line")
    assert ("\x1b[" in stream.getvalue()) == coloured


def test_a_closed_stream_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = Terminal()
    closed.close()
    handler = ConsoleHandler(stream=closed)
    monkeypatch.setattr(logging.getLogger("flwr"), "handlers", [handler])
    plain_flower_log()
    assert not handler.colored
