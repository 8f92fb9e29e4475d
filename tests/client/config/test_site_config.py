from __future__ import annotations

from pathlib import Path

import pytest

from client.app.node_config import NodeSettings
from client.config.node_section import Address, ClientApiTls
from client.config.site_config import load_site_config
from common.config.error_line import fields_by_key
from common.errors import UsageError

LEAST = """
[site]
id = "hosp1"
table = "/data/site.parquet"
state = "state"
policy = "policy.toml"
[server]
address = "coordinator.example.org:443"
ca = "ca.crt"
[node]
key = "node.key"
"""


TLS = """client-api-certificate = "api.crt"
client-api-key = "api.key"
client-api-ca = "/etc/ca.crt"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "site.toml"
    path.write_text(text)
    return path


def test_what_is_left_out_has_a_safe_default(tmp_path: Path) -> None:
    config = load_site_config(write(tmp_path, LEAST))
    assert config.site.id == "hosp1"
    assert config.site.table == Path("/data/site.parquet")
    assert config.site.policy == tmp_path / "policy.toml"
    assert config.server.address == Address("coordinator.example.org", 443)
    assert config.node.isolation == "process"
    assert config.node.client_api.on_loopback
    assert str(config.node.health) == "127.0.0.1:9095"
    assert (config.log.file, config.log.level) == (None, "info")
    assert config.audit_log == tmp_path / "state" / "audit.jsonl"


@pytest.mark.parametrize("level", ["debug", "INFO", "Warning"])
def test_the_level_of_the_log_is_read_in_either_case(tmp_path: Path, level: str) -> None:
    text = LEAST.replace("[node]", f'[log]\nlevel = "{level}"\n[node]')
    assert load_site_config(write(tmp_path, text)).log.level == level.lower()


def test_the_node_configuration_is_one_that_the_app_reads(tmp_path: Path) -> None:
    limit = "epsilon-limit = 8\nepsilon-limit-delta = 1e-6\n"
    optional = f'lora-rank = 4\n{limit}allow = ["a", "b"]\n'
    text = LEAST.replace("[server]", f"{optional}[server]")
    node = load_site_config(write(tmp_path, text)).node_config()
    assert set(node) <= set(fields_by_key(NodeSettings))
    assert node == {
        "data-path": "/data/site.parquet",
        "site-id": "hosp1",
        "state-path": str(tmp_path / "state"),
        "lora-rank": 4,
        "epsilon-limit": 8.0,
        "epsilon-limit-delta": 1e-6,
        "allow": "a,b",
    }


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("id =", "ids =", r"site\.ids is unknown; did you mean 'id'\?"),
        ("[node]", "[nodes]", r"nodes is unknown; did you mean 'node'\?"),
        ('id = "hosp1"', "", r"site\.id is missing"),
        ('id = "hosp1"', 'id = "../x"', r"site\.id must be 1 to 64 of"),
        ('id = "hosp1"', "id = 3", r"site\.id must be a text"),
        ("[server]", "lora-rank = true\n[server]", r"lora-rank must be a whole number"),
        ("[server]", "epsilon-limit = -1\n[server]", r"epsilon-limit must be at least 0, got -1"),
        ("[server]", "epsilon-limit-delta = 1.5\n[server]", r"between 0 and 1"),
        ("[server]", 'allow = "loss"\n[server]', r"allow must be a list of texts"),
        (":443", "", r"address must be host:port"),
        (":443", ":70000", r"address must be host:port"),
        (
            "[node]",
            '[node]\nisolation = "none"',
            r"unknown node\.isolation 'none'; known are: process, subprocess",
        ),
        ("[node]", '[node]\nclient-api = "0.0.0.0:9094"', r"set node\.secret"),
        (
            "[node]",
            '[log]\nlevel = "loud"\n[node]',
            r"unknown log\.level 'loud'; known are: debug, info",
        ),
        ("[site]", "[site", r"is not TOML"),
        ("[server]", "epsilon-limit = true\n[server]", r"epsilon-limit must be a number, got True"),
        ("[server]", "epsilon-limit = nan\n[server]", r"epsilon-limit must be a number, got nan"),
        ("[server]", 'patients = "812"\n[server]', r"patients must be a whole number, got '812'"),
        ("[server]", "patients = 8.0\n[server]", r"patients must be a whole number, got 8\.0"),
        ("[server]", "lora_rank = 8\n[server]", r"lora_rank is unknown; did you mean 'lora-rank'"),
        ("[server]", 'allow = ["a", "a"]\n[server]', r"site\.allow names one thing twice"),
        ("[server]", "step-minutes = 1441\n[server]", r"step-minutes must be from 0 to 1,440"),
        ("[server]", 'rule = "a\\nb"\n[server]', r"site\.rule must be printable"),
        ("[server]", '[backbones]\nx = "2e0f"\n[server]', r"backbones\.x must be a digest"),
        ("[server]", "[audit]\nanchor-every = 0\n[server]", r"anchor-every must be at least 1"),
        ("[site]", "site = 3\n[other]", r"other is unknown"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        load_site_config(write(tmp_path, LEAST.replace(old, new)))
    assert "site.toml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"site\.toml cannot be read: No such file"):
        load_site_config(tmp_path / "site.toml")


def test_others_may_reach_the_app_interface_only_with_a_secret(tmp_path: Path) -> None:
    text = LEAST + 'client-api = "0.0.0.0:9094"\nsecret = "app.secret"\n' + TLS
    assert load_site_config(write(tmp_path, text)).node.secret == tmp_path / "app.secret"
    with pytest.raises(UsageError, match=r"set node\.secret"):
        load_site_config(write(tmp_path, text + 'isolation = "subprocess"\n'))


def test_the_app_interface_has_tls_where_it_is_named(tmp_path: Path) -> None:
    assert load_site_config(write(tmp_path, LEAST)).node.client_api_tls is None
    tls = load_site_config(write(tmp_path, LEAST + TLS)).node.client_api_tls
    assert tls == ClientApiTls(tmp_path / "api.crt", tmp_path / "api.key", Path("/etc/ca.crt"))


@pytest.mark.parametrize("left_out", TLS.splitlines())
def test_a_part_of_tls_is_no_tls(tmp_path: Path, left_out: str) -> None:
    key = left_out.partition(" ")[0]
    with pytest.raises(UsageError, match=f"node.{key} is missing; .* are set together"):
        load_site_config(write(tmp_path, LEAST + TLS.replace(left_out, "")))


def test_a_node_that_starts_the_app_itself_has_no_tls(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='is for isolation = "process"'):
        load_site_config(write(tmp_path, LEAST + TLS + 'isolation = "subprocess"\n'))
