from __future__ import annotations

from pathlib import Path

import pytest

from client.config.node_section import Address, ClientApiTls
from client.config.site_config import SiteConfig, load_site_config
from client.preflight.check_result import CheckResult
from client.preflight.local_api import check_interface
from tests.integration.setup.deployed import REPOSITORY, script


@pytest.fixture
def config(tmp_path: Path) -> SiteConfig:
    """site.toml of deploy/site, with the pair that request.sh makes."""
    script("local-api.sh", tmp_path / "private")
    text = (REPOSITORY / "deploy" / "site" / "site.toml").read_text()
    (tmp_path / "site.toml").write_text(text)
    return load_site_config(tmp_path / "site.toml")


def with_tls(config: SiteConfig, **changed: Path) -> SiteConfig:
    assert config.node.client_api_tls is not None
    return config.replace(
        node=config.node.replace(**{f"client_api_{key}": path for key, path in changed.items()})
    )


def at(config: SiteConfig, host: str) -> SiteConfig:
    return config.replace(node=config.node.replace(client_api=Address(host, 9094)))


def found(config: SiteConfig) -> CheckResult:
    """The finding; what is not well has a remedy."""
    (finding,) = check_interface(config)
    assert finding.code == "interface"
    assert bool(finding.remedy) == (finding.level != "OK")
    return finding


@pytest.mark.parametrize("host", ["client-api", "127.0.0.2", "localhost", "0.0.0.0", "::"])
def test_a_pair_that_the_app_trusts(config: SiteConfig, host: str) -> None:
    assert found(at(config, host)).level == "OK"


def test_an_interface_in_the_clear_has_nothing_to_check(config: SiteConfig) -> None:
    paths = dict.fromkeys(("client_api_certificate", "client_api_key", "client_api_ca"))
    loopback = Address("127.0.0.1", 9094)
    plain = config.replace(node=config.node.replace(client_api=loopback, **paths))
    assert list(check_interface(plain)) == []


@pytest.mark.parametrize("host", ["node.hospital", "10.0.0.7"])
def test_another_name_than_the_certificates(config: SiteConfig, host: str) -> None:
    finding = found(at(config, host))
    assert finding.level == "FAIL"
    assert "mismatch" in finding.what


def test_a_ca_that_did_not_sign_it(config: SiteConfig, tmp_path: Path) -> None:
    script("local-api.sh", tmp_path / "other")
    finding = found(with_tls(config, ca=tmp_path / "other" / "client-api.crt"))
    assert finding.level == "FAIL"
    assert "the app would not trust" in finding.what
    assert found(with_tls(config, ca=tmp_path / "absent.crt")).level == "FAIL"


def test_a_key_that_is_anothers_or_not_there_or_everybodys(
    config: SiteConfig, tmp_path: Path
) -> None:
    script("local-api.sh", tmp_path / "other")
    other = tmp_path / "other" / "client-api.key"
    assert "mismatch" in found(with_tls(config, key=other)).what
    assert "No such file" in found(with_tls(config, key=tmp_path / "absent.key")).what
    assert isinstance(config.node.client_api_tls, ClientApiTls)
    config.node.client_api_tls.key.chmod(0o604)
    assert found(config).level == "FAIL"


def test_a_certificate_that_runs_out(config: SiteConfig, tmp_path: Path) -> None:
    script("local-api.sh", tmp_path / "short", "--days", "5")
    short = tmp_path / "short"
    files = {"certificate": short / "client-api.crt", "ca": short / "client-api.crt"}
    finding = found(with_tls(config, key=short / "client-api.key", **files))
    assert finding.level == "WARN"
    assert "days" in finding.what
