from __future__ import annotations

import socket
from pathlib import Path

import pytest

from client.config.node_section import Address
from client.config.site_config import ServerSection
from client.preflight.check_result import CheckResult
from client.preflight.network import check_network
from tests.client.preflight.coordinator import coordinator
from tests.integration.setup.gate_setting import make_certificates
from tests.samples.ports import free_port


def levels(server: ServerSection) -> list[tuple[str, str]]:
    return [(finding.code, finding.level) for finding in check_network(server)]


def last(server: ServerSection) -> CheckResult:
    """The last finding; what fails is the last, and what is not well has a remedy."""
    finding = list(check_network(server))[-1]
    assert finding.remedy
    return finding


def test_a_way_that_is_well(tmp_path: Path) -> None:
    with coordinator(tmp_path) as server:
        assert levels(server) == [
            ("dns", "OK"),
            ("tcp", "OK"),
            ("tls", "OK"),
            ("certificate", "OK"),
            ("clock", "OK"),
        ]


def test_a_name_without_an_address_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    server = ServerSection(address=Address("coordinator.invalid", 443), ca=tmp_path / "ca.crt")
    assert levels(server) == [("dns", "FAIL")]
    assert "coordinator.invalid has no address" in last(server).what


def test_a_port_where_nobody_listens(tmp_path: Path) -> None:
    server = ServerSection(address=Address("127.0.0.1", free_port()), ca=tmp_path / "ca.crt")
    assert levels(server) == [("dns", "OK"), ("tcp", "FAIL")]


def test_a_ca_that_is_not_there_or_none(tmp_path: Path) -> None:
    with coordinator(tmp_path / "theirs") as server:
        missing = last(server.replace(ca=tmp_path / "absent.crt"))
        assert (missing.code, missing.level) == ("tls", "FAIL")
        assert "absent.crt" in missing.what
        (tmp_path / "text.crt").write_text("no certificate")
        assert last(server.replace(ca=tmp_path / "text.crt")).level == "FAIL"


@pytest.mark.parametrize(("days", "remedy"), [(-1, "has expired"), (90, "not signed by server.ca")])
def test_a_certificate_that_is_refused(tmp_path: Path, days: int, remedy: str) -> None:
    make_certificates(tmp_path / "other")
    with coordinator(tmp_path / "theirs", days=days) as server:
        ca = server.ca if days < 0 else tmp_path / "other" / "ca.crt"
        finding = last(server.replace(ca=ca))
    assert (finding.code, finding.level) == ("tls", "FAIL")
    assert remedy in finding.remedy


def test_a_server_without_tls(tmp_path: Path) -> None:
    with coordinator(tmp_path, tls=False) as server:
        finding = last(server)
    assert (finding.code, finding.level) == ("tls", "FAIL")


def test_a_certificate_that_expires_soon_is_worth_a_word(tmp_path: Path) -> None:
    with coordinator(tmp_path, days=5) as server:
        assert ("certificate", "WARN") in levels(server)


@pytest.mark.parametrize(
    ("off", "level", "words"),
    [
        (3600.0, "FAIL", "behind"),
        (-3600.0, "FAIL", "ahead of"),
        (120.0, "WARN", "behind"),
        (None, "WARN", "sends no time"),
    ],
)
def test_a_clock_that_differs(tmp_path: Path, off: float | None, level: str, words: str) -> None:
    with coordinator(tmp_path, clock_off_s=off) as server:
        finding = last(server)
    assert (finding.code, finding.level) == ("clock", level)
    assert words in finding.what


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "this site's certificate is not accepted"),
        (502, "the gateway does not reach the coordinator"),
        (504, "does not answer the gateway"),
    ],
)
def test_a_door_that_is_closed(tmp_path: Path, status: int, words: str) -> None:
    """Else the gateway's own clock would be taken for the coordinator's, and all be well."""
    with coordinator(tmp_path, status=status) as server:
        finding = last(server)
    assert (finding.code, finding.level) == ("door", "FAIL")
    assert words in finding.what


def test_the_coordinators_own_refusal_is_an_open_door(tmp_path: Path) -> None:
    with coordinator(tmp_path, status=403) as server:
        assert levels(server)[-1] == ("clock", "OK")
